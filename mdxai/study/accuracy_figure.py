"""How long models ran, against how accurate they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdxai.report.figures import ALARM, ELEMENT_PAIR_COLOURS, INK, tidy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v")


def stability_figure(runs: pd.DataFrame) -> Figure:
    """Return time followed against test force error: a panel per temperature, a point per run.

    Open points are runs that ended stable; filled ones broke. Colours and markers are molecules.

    Args:
        runs: a row per run: molecule, temperature_K, unstable, followed_fs, and
            force_mae_mev_per_ang where it is known.
    """
    from matplotlib.figure import Figure

    temperatures = sorted(runs["temperature_K"].unique())
    figure = Figure(figsize=(3.6 * len(temperatures) + 0.8, 3.8), layout="constrained")
    axes = figure.subplots(1, len(temperatures), sharex=True, sharey=True, squeeze=False)[0]
    for ax, temperature in zip(axes, temperatures, strict=True):
        _plot(ax, runs[runs["temperature_K"] == temperature])
        ax.set_title(f"{temperature:g} K", fontsize=10, loc="left", color=INK)
        ax.set_xlabel("test force MAE / meV/Å", color=INK)
        tidy(ax)
    axes[0].set_ylabel("time followed / ps", color=INK)
    handles = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    axes[0].legend(handles.values(), handles.keys(), fontsize=8, frameon=False)
    return figure


def _plot(ax: Axes, runs: pd.DataFrame) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for number, (molecule, mine) in enumerate(runs.groupby("molecule")):
        colour, marker = ELEMENT_PAIR_COLOURS[number], MARKERS[number % len(MARKERS)]
        for unstable, some in mine.groupby("unstable"):
            ax.scatter(
                some["force_mae_mev_per_ang"], some["followed_fs"] / 1e3, s=26, marker=marker,
                facecolors=colour if unstable else "none", edgecolors=ALARM if unstable else colour,
                linewidths=0.9, label=f"{molecule}, {'broke' if unstable else 'stable'}",
            )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_ylim(bottom=0)
