"""Lead time against the rate of false alarms: which detector warns earliest at the same price?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mdxai.report.figures import ELEMENT_PAIR_COLOURS, INK, tidy
from mdxai.study.lead_time.lead_times import AS_CHOSEN, EVERYTHING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def lead_time_figure(table: pd.DataFrame, title: str = "") -> Figure:
    """Draw a table of `lead_time.summarise`.

    Left: each detector on all series together (where there is one series, on that). Right: the best
    of each group of series, chosen on other models. Dashed: alarms at random times.

    Args:
        table: a row per rate and candidate.
        title: heading.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    chosen = table["detector"] == AS_CHOSEN
    broad = table["series"] == f"any {EVERYTHING}"
    if not broad.any():
        broad = ~chosen & (table["series"] == table.loc[~chosen, "series"].iloc[0])
    _plot(left, table[broad], "detector")
    left.set_title("Detectors, on all series", fontsize=10, loc="left", color=INK)
    _plot(right, table[chosen], "series")
    right.set_title("Series, with the detector chosen", fontsize=10, loc="left", color=INK)
    left.set_ylim(bottom=0)  # of both, when both are drawn
    left.set_ylabel("mean lead time / fs (0 where missed)", color=INK)
    figure.suptitle(title, color=INK)
    return figure


def _plot(ax: Axes, table: pd.DataFrame, by: str) -> None:
    for k, (name, part) in enumerate(table.groupby(by, sort=True)):
        part = part.sort_values("alarms_per_ns")  # noqa: PLW2901 (the same rows)
        mean = part["mean_lead_fs"].to_numpy()
        low, high = (np.nan_to_num(part[f"mean_lead_fs_{e}"].to_numpy(), nan=0.0)
                     for e in ("low", "high"))  # fmt: skip
        known = high > 0
        bars = np.where(known, [np.maximum(mean - low, 0), np.maximum(high - mean, 0)], 0.0)
        colour = ELEMENT_PAIR_COLOURS[k % len(ELEMENT_PAIR_COLOURS)]
        aside = part["alarms_per_ns"] * 1.03 ** (k - 1.5)  # so that equal points stay visible
        ax.errorbar(
            aside, mean, bars, color=colour, marker="o", ms=4, lw=1.3, capsize=2,
            label=str(name).replace("_", " "),
        )  # fmt: skip
        ax.plot(part["alarms_per_ns"], part["chance_mean_lead_fs"], color=colour, ls="--", lw=0.8)
    rates = sorted(set(table["alarms_per_ns"]))
    ax.set_xscale("log")
    ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
    ax.minorticks_off()
    ax.set_xlabel("false alarms per ns (calibrated)", color=INK)
    if not table.empty:
        ax.legend(frameon=False, fontsize=8)
    tidy(ax)
