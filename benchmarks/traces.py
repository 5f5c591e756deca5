"""The traces that studies run on: where the real ones are, and the overrides that read them."""

import os
from pathlib import Path

LTE = Path(os.environ.get("SLICEOFF_DATA", Path(__file__).parents[2] / "shared" / "data")) / "lte"


def _cell(name: str) -> list[str]:
    return ["data=wide_csv", f"data.path='{LTE / name}.csv'", "data.columns=[rnti_count]", "data.resample_s=600"]


TRACES = {
    "synthetic": ["data=synthetic"],
    # One base station each, 28 days; the system's training sees 20 of them.
    "PobleSec": _cell("PobleSec"),
    "LesCorts": _cell("LesCorts"),
    # Four cell-weeks, by ten minutes; short: training sees five days.
    "week_users": ["data=wide_csv", f"data.path='{LTE}/week_users.csv'"],
}
