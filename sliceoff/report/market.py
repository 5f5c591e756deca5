"""The report of cleared markets: four panels, and how much more the centralised mechanism earns than each other one."""

import re
from collections.abc import Sequence

import numpy as np
import polars
from matplotlib.figure import Figure

from sliceoff.report.figures import COLOURS, PALE, stacked, tidy
from sliceoff.report.intervals import bootstrap_interval
from sliceoff.report.page import Section, page

PANELS = {
    "revenue": "platform revenue [money/s]",
    "tasks_per_s": "offloaded tasks [1/s]",
    "server_payments": "servers' revenue [money/s]",
    "utilisation": "utilisation of capacity",
}
SHOWN = PANELS | {"server_profit": "servers' profit [money/s]"}
OURS = "centralised"
YARDSTICKS = ("optimum", "known_supply")
# Margins of its mechanism that the source paper reports, in percent, without its parameters; used for variants with
# another pay rule, such as `greedy_share_90`, as well.
REPORTED = {"auction": 33.0, "max_transaction": 81.0, "greedy": 131.0}
_PAY_RULE = re.compile(r"_(share|theta)_\d+$")


def means(table: polars.DataFrame) -> dict[str, float]:
    """Every mechanism's mean of the quantities in the report, and half the width of its 95 % interval over markets.

    Also the relative error of promised response times [%], in the worst market (mean over its queues) and the worst
    queue.
    """
    result = {}
    for (name,), rows in table.group_by("mechanism", maintain_order=True):
        for quantity in SHOWN:
            mean, half = _interval(rows[quantity].to_numpy())
            result[f"{name}/{quantity}"] = mean
            result[f"{name}/{quantity}_half_width"] = half
        for column in _response_errors(rows):
            result[f"{name}/{column}_percent"] = 100 * float(np.abs(rows[column].to_numpy()).max())
    return result


def margins(table: polars.DataFrame) -> dict[str, float]:
    """How much more the centralised mechanism earns than each other one [%]: the median over markets."""
    return {f"margin_over_{name}_percent": float(np.median(values)) for name, values in _margins(table).items()}


def market_figures(table: polars.DataFrame) -> list[Section]:
    """All figures of cleared markets, in the order of the report."""
    sections: list[Section] = [
        (
            "The four panels",
            "Means over the markets; lines are 95 % intervals (bootstrap over markets). The dark part of the servers' "
            "revenue is what their costs leave of it.",
            panels(table),
        )
    ]
    if _margins(table):
        sections.append(
            (
                "Margins of the centralised mechanism",
                "Market by market; a box holds half of them, whiskers nine tenths. Dashed: what the source paper "
                "reports without its parameters. The margins over max-transaction and greedy depend on their pay rules "
                "(theta: the platform's share of the surplus; share: the servers' of the prepayment), so agreement "
                "with the paper would be chance.",
                margin_boxes(table),
            )
        )
    return sections


def market_page(table: polars.DataFrame, sections: Sequence[Section], about: str) -> str:
    """The report as an HTML page: a headline, a table of mechanisms, and the figures in `sections`."""
    count, names = table["scenario"].n_unique(), table["mechanism"].unique(maintain_order=True).to_list()
    rivals = table.filter(~polars.col("mechanism").is_in(YARDSTICKS))
    earned = (rivals if len(rivals) else table).group_by("mechanism").agg(polars.col("revenue").mean())
    best = str(earned.sort("revenue")["mechanism"][-1])
    rows = []
    for name in names:
        mine = table.filter(polars.col("mechanism") == name)
        row: dict[str, object] = {"mechanism": name}
        for quantity, title in SHOWN.items():
            mean, half = _interval(mine[quantity].to_numpy())
            row[title] = f"{mean:.3g}" + (f" ± {half:.2g}" if np.isfinite(half) else "")
        row["hired"] = f"{mine['hired'].to_numpy().mean():.2f}"
        if found := _response_errors(mine):
            worst = [f"{np.abs(mine[column].to_numpy()).max():.1%}" for column in found]
            row["response off promise, worst market / queue"] = " / ".join(worst)
        row["seconds"] = f"{mine['seconds'].to_numpy().mean():.2g}"
        rows.append(row)
    return page(
        title="SliceOff: the market",
        about=about,
        headline=f"{count} market{'s' if count > 1 else ''}, {len(names)} mechanisms; {best} leaves the platform most.",
        rows=rows,
        sections=sections,
    )


def panels(table: polars.DataFrame) -> Figure:
    """Figure 3: one panel per quantity, one bar per mechanism."""
    names = table["mechanism"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(10, 1.2 + 0.5 * len(names)), layout="constrained")
    for axis, (panel, title) in zip(figure.subplots(2, 2, sharey=True).flat, PANELS.items(), strict=True):
        for place, name in enumerate(names):
            rows = table.filter(polars.col("mechanism") == name)
            mean, half = _interval(rows[panel].to_numpy())
            axis.barh(place, mean, color=COLOURS[0] if name == OURS else PALE, height=0.7)
            if panel == "server_payments":
                axis.barh(place, rows["server_profit"].to_numpy().mean(), color="#4d4d4d", height=0.35)
            if np.isfinite(half):
                axis.errorbar(mean, place, xerr=half, color="#333333", lw=1.4, capsize=3)
        axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axis.set_title(title, fontsize=9, loc="left")
        tidy(axis, across="x")
    axis.invert_yaxis()  # the axis is shared: inverts all
    return figure


def margin_boxes(table: polars.DataFrame) -> Figure:
    """The distribution of each margin, beside the paper's number."""
    found = _margins(table)
    figure, (axis,) = stacked(1, height=0.9 + 0.6 * len(found), across="x")
    axis.boxplot(
        list(found.values()),
        orientation="horizontal",
        whis=(5, 95),
        showfliers=False,
        widths=0.5,
        medianprops={"color": "black", "lw": 2},
    )
    for place, name in enumerate(found, 1):
        axis.plot([_reported(name)] * 2, [place - 0.4, place + 0.4], color=COLOURS[5], lw=1.6, ls="--")
    axis.set_yticks(range(1, len(found) + 1), [f"over {name.replace('_', ' ')}" for name in found])
    axis.invert_yaxis()
    axis.set_xlabel("more revenue for the platform [%]")
    axis.axvline(0, color="#999999", lw=0.8)
    return figure


def _response_errors(table: polars.DataFrame) -> list[str]:
    return [name for name in ("response_error", "worst_response_error") if name in table.columns]


def _margins(table: polars.DataFrame) -> dict[str, np.ndarray]:
    """Additional revenue over every mechanism but the yardsticks [%], in the markets where that one earns anything."""
    by_market = table.pivot("mechanism", index="scenario", values="revenue")
    if OURS not in by_market.columns:
        return {}
    found = {}
    for name in sorted(by_market.columns):
        if name not in (OURS, "scenario", *YARDSTICKS):
            earning = by_market.filter(polars.col(name) > 0)
            if len(earning):
                found[name] = (100 * (earning[OURS] / earning[name] - 1)).to_numpy()
    return found


def _reported(name: str) -> float:
    """The paper's margin over the mechanism, for any pay rule; NaN, which is not drawn, if it reports none."""
    return REPORTED.get(_PAY_RULE.sub("", name), float("nan"))


def _interval(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval; NaN for a single market."""
    low, high = bootstrap_interval(values) or (float("nan"), float("nan"))
    return float(values.mean()), (high - low) / len(values) / 2
