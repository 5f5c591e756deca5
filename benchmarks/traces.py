"""The traces of the studies: paths of the real ones, and the overrides that read them."""

import os
from pathlib import Path

LTE = Path(os.environ.get("SLICEOFF_DATA", Path(__file__).parents[2] / "shared" / "data")) / "lte"


def _cell(name: str) -> list[str]:
    return ["data=wide_csv", f"data.path='{LTE / name}.csv'", "data.columns=[rnti_count]", "data.resample_s=600"]


TRACES = {
    "synthetic": ["data=synthetic"],
    # One base station each, 28 days, of which 20 are the training part in the system study.
    "PobleSec": _cell("PobleSec"),
    "LesCorts": _cell("LesCorts"),
    # Four weeks of these cells, side by side as four regions, in ten-minute steps; the training part has five days.
    "week_users": ["data=wide_csv", f"data.path='{LTE}/week_users.csv'"],
}
