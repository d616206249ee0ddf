"""Figures of an association: survival, hazard ratios, relevance per element pair and distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mdxai.study.run_series import bin_of
from mdxai.study.survival.association import Association

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1b6ca8", "#e09f3e", "#c1121f", "#3a7d44", "#8e5ea2", "#4a4e69", "#00a6a6", "#7f5539")
KIND_COLOURS = {
    "explanation": "#1b6ca8", "motion": "#8e5ea2", "probe": "#e09f3e", "relevance": "#3a7d44",
    "plain": "#6c757d", "trait": "#6c757d", "other": "#6c757d",
}  # fmt: skip
INK = "#222831"
SHOWN = 24  # predictors in a forest plot
WIDEST = 1e3  # hazard ratios beyond it are drawn at the edge


def association_figures(association: Association) -> dict[str, Figure]:
    """Return the figures by file name; a figure with nothing to show is left out."""
    found = {"kaplan_meier": survival_figure(association.kaplan_meier)}
    if association.hazard_ratios["hazard_ratio"].notna().any():
        found["hazard_ratios"] = forest_figure(association.hazard_ratios)
    source = association.landmark if len(association.landmark) else association.hazard_ratios
    if (source["kind"] == "relevance").any():
        found["relevance"] = relevance_figure(association)
    return found


def survival_figure(table: pd.DataFrame) -> Figure:
    """Return Kaplan–Meier curves with intervals, and the number of runs at risk below.

    Args:
        table: of `mdxai.study.survival.estimators.kaplan_meier`.
    """
    from matplotlib.figure import Figure

    groups = list(table["group"].unique())
    figure = Figure(figsize=(8, 4.2 + 0.5 * len(groups)), layout="constrained")
    top, below = figure.subplots(
        2, 1, sharex=True, height_ratios=(1, 0.05 + 0.06 * len(groups))
    )  # fmt: skip
    end = table["time_fs"].max() / 1000
    for k, group in enumerate(groups):
        line = "-" if k < len(COLOURS) else "--"
        _draw_survival(top, table[table["group"] == group], COLOURS[k % len(COLOURS)], line, end)
    top.set_ylabel("share of runs still stable", color=INK)
    top.set_ylim(0, 1.03)
    figure.legend(frameon=False, fontsize=8, loc="outside upper left")
    top.set_title("Time to instability (Kaplan–Meier, 95 % intervals)", fontsize=10, loc="left")
    _draw_at_risk(below, table, groups, end)
    for ax in (top, below):
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(colors=INK, labelsize=8)
    return figure


def _draw_survival(ax: Axes, rows: pd.DataFrame, colour: str, line: str, end: float) -> None:
    first = rows.iloc[0]
    time = np.append(rows["time_fs"] / 1000, min(end, rows["time_fs"].max() / 1000))
    share = np.append(rows["stable_share"], rows["stable_share"].iloc[-1])
    over_models = rows["model_lower"].notna().all()
    names = ("model_lower", "model_upper") if over_models else ("lower", "upper")
    low, high = (np.append(rows[n], rows[n].iloc[-1]) for n in names)
    of = "models" if over_models else "runs of one model"
    label = (
        f"{first['group']}: {first['unstable']} of {first['runs']} runs unstable, "
        f"{first['models']} model{'s' if first['models'] > 1 else ''} (interval over {of})"
    )
    ax.step(time, share, where="post", color=colour, ls=line, lw=1.6, label=label)
    ax.fill_between(time, low, high, step="post", color=colour, alpha=0.15, lw=0)


def _draw_at_risk(ax: Axes, table: pd.DataFrame, groups: list[str], end: float) -> None:
    instants = np.linspace(0, end, 6)
    for k, group in enumerate(groups):
        rows = table[table["group"] == group]
        times = rows["time_fs"].to_numpy() / 1000
        for t in instants:
            place = np.searchsorted(times, t - 1e-9)
            n = int(rows["at_risk"].iloc[place]) if place < len(rows) else 0
            ax.text(t, -k, str(n), ha="center", va="center", fontsize=8,
                    color=COLOURS[k % len(COLOURS)])  # fmt: skip
    ax.set_ylim(-len(groups) + 0.4, 0.7)
    ax.set_yticks([])
    ax.set_ylabel("at risk", fontsize=8, rotation=0, ha="right", va="center", color=INK)
    ax.set_xlabel("time / ps", color=INK)
    ax.spines["left"].set_visible(False)


def forest_figure(table: pd.DataFrame) -> Figure:
    """Return hazard ratios with their intervals, predictors by kind, the surest first.

    Args:
        table: of `mdxai.study.survival.estimators.hazard_ratios`.
    """
    from matplotlib.figure import Figure

    usable = table[table["hazard_ratio"].notna() & (table["problem"] == "")]
    relevance = usable[usable["kind"] == "relevance"].sort_values("p").head(SHOWN // 3)
    others = usable[usable["kind"] != "relevance"].sort_values("p").head(SHOWN)
    shown = pd.concat([others, relevance]).sort_values(
        ["kind", "hazard_ratio"], ascending=[False, True]
    )
    figure = Figure(figsize=(8.5, 1.3 + 0.24 * max(len(shown), 1)), layout="constrained")
    ax = figure.subplots()
    widest = _widest(shown["hazard_ratio"])
    for k, row in enumerate(shown.itertuples()):
        colour = KIND_COLOURS[row.kind]
        ends = np.array([row.lower, row.upper])
        low, high = np.clip(ends, 1 / widest, widest)
        if np.isfinite(ends).all():
            ax.plot([low, high], [k, k], color=colour, lw=1.4)
            for end, shape in ((low, "<"), (high, ">")):
                if end not in ends:  # cut at the edge of the figure
                    ax.plot(end, k, shape, color=colour, ms=4)
        ax.plot(np.clip(row.hazard_ratio, 1 / widest, widest), k, "o", color=colour, ms=5)
        ax.text(1.01, k, f"{row.events} / {row.models_with_event}", fontsize=7, va="center",
                transform=ax.get_yaxis_transform(), color=INK)  # fmt: skip
    labels = [f"{row.predictor.replace('_', ' ')} ({row.kind})" for row in shown.itertuples()]
    ax.set_yticks(range(len(shown)), labels, fontsize=8)
    ax.set_ylim(-0.7, len(shown) - 0.3)
    ax.axvline(1, color=INK, lw=0.8, ls=":")
    ax.set_xscale("log")
    ticks = [t for t in (0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100) if 1 / widest <= t <= widest]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.set_xlabel("hazard ratio per standard deviation (95 %, bootstrap over models)", color=INK)
    ax.set_title("right: onsets / models with an onset", fontsize=8, loc="right", color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(colors=INK, labelsize=8)
    return figure


def _widest(ratios: pd.Series) -> float:
    """Return how far from 1 the axis goes: twice as far as the ratios, at least to 4."""
    known = ratios[np.isfinite(ratios) & (ratios > 0)]
    far = float(np.exp(np.abs(np.log(known)).max())) if len(known) else 1.0
    return float(np.clip(2 * far, 4.0, WIDEST))


def relevance_figure(association: Association) -> Figure:
    """Return how relevance of each element pair at each distance goes with instability.

    Colour: landmark AUROC (0.5: none; above: more relevance goes with instability); without a
    landmark the logarithm of the hazard ratio. Dots: q < 0.1.
    """
    from matplotlib.figure import Figure

    table, column, middle, label = association.landmark, "auroc", 0.5, "landmark AUROC"
    if not len(table) or table[column].isna().all():
        table = association.hazard_ratios.assign(
            log_ratio=lambda t: np.log(t["hazard_ratio"].clip(1 / WIDEST, WIDEST))
        )
        column, middle, label = "log_ratio", 0.0, "log hazard ratio per standard deviation"
    rows = table[table["kind"] == "relevance"]
    cells = [bin_of(name) or ("", 0.0) for name in rows["predictor"]]
    pairs = sorted({pair for pair, _ in cells})
    half = association.settings.bin_width / 2
    n_bins = 1 + max(round((centre - half) / (2 * half)) for _, centre in cells)
    image = np.full((len(pairs), n_bins), np.nan)
    figure = Figure(figsize=(9, 1.6 + 0.42 * len(pairs)), layout="constrained")
    ax = figure.subplots()
    for (pair, centre), value, q in zip(cells, rows[column], rows["q"], strict=True):
        k = pairs.index(pair)
        image[k, round((centre - half) / (2 * half))] = value
        if q < 0.1:
            ax.plot(centre, k, ".", color=INK, ms=4)
    reach = 0.5 if column == "auroc" else max(float(np.nanmax(np.abs(image), initial=0.1)), 0.1)
    drawn = ax.imshow(
        image, aspect="auto", cmap="RdBu_r", vmin=middle - reach, vmax=middle + reach,
        extent=(0, 2 * half * n_bins, len(pairs) - 0.5, -0.5), interpolation="nearest",
    )  # fmt: skip
    ax.set_yticks(range(len(pairs)), [pair.replace("-", "–") for pair in pairs])
    ax.set_xlabel("distance / Å", color=INK)
    ax.set_title(
        "Relevance of pairs and instability (grey: in too few runs; dots: q < 0.1)",
        fontsize=9, loc="left",
    )  # fmt: skip
    ax.set_facecolor("#eeeeee")
    figure.colorbar(drawn, ax=ax, label=label)
    return figure
