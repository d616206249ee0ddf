"""The figures of a run's page, each small enough for a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame, Pairs
from mdxai.principles import bonds_of
from mdxai.report.envelopes import Curve, Series
from mdxai.report.figures import (
    ALARM,
    ELEMENT_PAIR_COLOURS,
    INK,
    SURE,
    decays,
    mark_thresholds,
    tidy,
)
from mdxai.report.inline_svg import inline_svg
from mdxai.report.interactions import ExplainedFrame
from mdxai.report.molecule_pictures import draw_molecule, order_names
from mdxai.report.number_text import rounded
from mdxai.report.run_summary import TimeAxis
from mdxai.stability.thresholds import Threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL, LARGE, SQUARE = (4.5, 1.75), (4.5, 3.5), (4.5, 4.0)  # inches
CHANNELS = 8  # element pairs that can be told apart
CUT = 4.0  # times the threshold: larger values would flatten all that came before
FEW = 40  # points; that many are drawn as dots on the line


def deviation_plot(
    name: str, unit: str, curve: Curve, threshold: Threshold | None, time_axis: TimeAxis
) -> Markup:
    """Return a deviation over time, with what is allowed."""

    def draw(ax: Axes) -> None:
        _plot(ax, time_axis, curve)
        if threshold is not None:
            limits = [x for x in (threshold.unstable, threshold.warn) if 0 < x < np.inf]
            largest = np.nan_to_num(curve.largest)
            top = min(largest, CUT * limits[0]) if limits else largest
            mark_thresholds(ax, threshold, top)
            _say_if_cut(ax, curve.values)
        ax.set_ylabel("value" if unit == "1" else unit, color=INK)
        _finish_time_axis(ax, time_axis, curve)

    return inline_svg(draw, SMALL, f"{name} over time")


def curve_plot(label: str, curve: Curve, time_axis: TimeAxis) -> Markup:
    """Return a quantity over time; values far beyond the usual are cut off, and it says so."""

    def draw(ax: Axes) -> None:
        _plot(ax, time_axis, curve, ELEMENT_PAIR_COLOURS[0])
        ax.set_ylim(*usual_range(curve.values))
        _say_if_cut(ax, curve.values)
        ax.set_ylabel(label, color=INK)
        _finish_time_axis(ax, time_axis, curve)

    return inline_svg(draw, SMALL, f"{label} over time")


def progress_plot(curve: Curve, time_axis: TimeAxis) -> Markup:
    """Return how far along the path to a weak spot a run came over time, with the top."""

    def draw(ax: Axes) -> None:
        _plot(ax, time_axis, curve, ELEMENT_PAIR_COLOURS[0])
        ax.axhline(1.0, color=ALARM, lw=0.8)
        ax.text(0.01, 1.0, "top", transform=ax.get_yaxis_transform(), va="bottom", fontsize=7,
                color=ALARM)  # fmt: skip
        ax.set_ylim(0, max(1.15, 1.05 * np.nan_to_num(curve.largest)))
        ax.set_ylabel("share of the path", color=INK)
        _finish_time_axis(ax, time_axis, curve)

    return inline_svg(draw, SMALL, "progress to the nearest weak spot over time")


def heights_plot(
    label: str, counts: Floats, height: float, time: float, hazard: Mapping[str, float] | None
) -> Markup:
    """Return how often a run came how high on a path, and the hazard that follows at its top.

    Args:
        label: of the path.
        counts: highest points in equal bins of the energy up to the top; the last, those beyond.
        height: energy of the top, eV.
        time: in which they were counted, ps.
        hazard: value, low, high, per ps.
    """

    def draw(ax: Axes) -> None:
        above = np.cumsum(counts[::-1])[::-1] / time
        seen = above > 0
        ax.step(np.linspace(0, height, len(counts))[seen], above[seen], where="mid",
                color=ELEMENT_PAIR_COLOURS[0], lw=1.2)  # fmt: skip
        ax.axvline(height, color=ALARM, lw=0.8)
        ax.text(height, 0.99, "top ", transform=ax.get_xaxis_transform(), va="top", ha="right",
                fontsize=7, color=ALARM)  # fmt: skip
        if hazard is not None:
            value, low, high = (hazard[k] for k in ("value", "low", "high"))
            ax.errorbar([height], [value], [[value - low], [high - value]], fmt="o", ms=3.5,
                        color=INK, lw=1.2)  # fmt: skip
        if seen.any() or hazard is not None:
            _log_scale(ax)
        ax.set_xlabel("energy on the path / eV", color=INK, labelpad=1)
        ax.set_ylabel("per ps", color=INK)
        tidy(ax)

    return inline_svg(draw, SMALL, f"how often points on the path to {label} were higher")


def body_order_plot(series: Series, time_axis: TimeAxis) -> Markup:
    """Return the shares of the body orders over time, a line per order."""
    orders = [curve for name, curve in series.curves.items() if name != "residual"]

    def draw(ax: Axes) -> None:
        names = order_names(len(orders) - 1)
        for name, curve, colour in zip(names, orders, ELEMENT_PAIR_COLOURS, strict=False):
            _plot(ax, time_axis, curve, colour, label=name)
        ax.set_ylim(0, 1)
        ax.set_ylabel("share of relevance", color=INK)
        ax.legend(frameon=False, fontsize=7, ncols=len(names), loc="upper right", borderpad=0)
        _finish_time_axis(ax, time_axis, orders[0])

    return inline_svg(draw, SMALL, "shares of body orders over time")


def residual_plot(series: Series, time_axis: TimeAxis) -> Markup:
    """Return the signed residual over time, as a share of the relevance."""
    curve = series.curves["residual"]

    def draw(ax: Axes) -> None:
        _plot(ax, time_axis, curve)
        ax.axhline(0, color=INK, lw=0.5)
        low, high = usual_range(np.append(curve.values, 0.0))
        ax.set_ylim(low, high)
        _say_if_cut(ax, curve.values)
        ax.set_ylabel("share of relevance", color=INK)
        _finish_time_axis(ax, time_axis, curve)

    return inline_svg(draw, SMALL, "residual of the explanations over time")


def _plot(ax: Axes, time_axis: TimeAxis, curve: Curve, colour: str = INK, label: str = "") -> None:
    (line,) = ax.plot(curve.times / time_axis.unit[1], curve.values, color=colour, lw=0.8)
    line.set_label(label)
    if len(curve.times) <= FEW:
        line.set(marker=".", markersize=4)


def _finish_time_axis(ax: Axes, time_axis: TimeAxis, curve: Curve) -> None:
    """Draw the time axis, the onset, and where the curve is not finite."""
    name, size = time_axis.unit
    ax.set_xlabel(f"time / {name}", color=INK, labelpad=1)
    beside = 0.5 * (time_axis.start == time_axis.end)  # fs, to either side of a single frame
    ax.set_xlim((time_axis.start - beside) / size, (time_axis.end + beside) / size)
    if time_axis.onset is not None:
        ax.axvline(time_axis.onset / size, color=ALARM, lw=1.1)
    if len(curve.not_finite):
        at, top = curve.not_finite / size, ax.get_xaxis_transform()
        x, y = np.repeat(at, 3), np.tile([0.0, 1.0, np.nan], len(at))  # one path: a third in size
        ax.plot(x, y, color=ALARM, lw=0.6, alpha=0.5, transform=top)
        ax.text(0.01, 0.97, "red: not finite", transform=ax.transAxes, va="top", fontsize=7,
                color=ALARM)  # fmt: skip
    ax.locator_params(nbins=5)
    tidy(ax)


def usual_range(values: Floats) -> tuple[float, float]:
    """Return limits that show all values, unless a few lie very far from the others."""
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, (0.05, 0.95))
    room = 10 * max(high - low, 1e-12 * max(abs(high), 1.0))
    least, most = max(values.min(), low - room), min(values.max(), high + room)
    pad = 0.06 * (most - least) or 0.5 * max(abs(most), 1e-3)
    return float(least - pad), float(most + pad)


def _say_if_cut(ax: Axes, values: Floats) -> None:
    low, high = ax.get_ylim()
    beyond = [rounded(float(edge)) for edge, out in (
        (values.min(initial=np.inf), values.min(initial=np.inf) < low),
        (values.max(initial=-np.inf), values.max(initial=-np.inf) > high),
    ) if out]  # fmt: skip
    if beyond:
        ax.text(0.99, 0.97, f"reaches {' and '.join(beyond)}", transform=ax.transAxes, ha="right",
                va="top", fontsize=7, color=INK)  # fmt: skip


def relevance_plot(profile: pa.Table, measure: str) -> Markup:
    """Return the mean strength of pairs against their distance, per element pair."""

    def draw(ax: Axes) -> None:
        for one, colour in decays(profile, CHANNELS):
            x, y = one.line()
            rare = one.count < SURE
            ax.plot(x, y, color=colour, lw=1.4, label=one.name)
            ax.plot(one.centre[rare], one.mean[rare], ".", color=colour, ms=2.5, alpha=0.6)
        _log_scale(ax)
        ax.set_xlabel("distance / Å", color=INK, labelpad=1)
        ax.set_ylabel(f"mean |{measure}| / eV", color=INK)
        ax.legend(frameon=False, fontsize=8, ncols=2)
        tidy(ax)

    return inline_svg(draw, LARGE, "relevance against distance per element pair")


def _log_scale(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def molecule_picture(
    frame: Frame, explained: ExplainedFrame | None, first: Frame, marked: Sequence[int]
) -> Markup:
    """Return the molecule with its strongest pairs and rings around some atoms.

    Args:
        frame: gives the positions.
        explained: the explanation nearest to it; None draws no pairs.
        first: the frame whose bonds are drawn as thin lines.
        marked: the atoms to ring.
    """

    def draw(ax: Axes) -> None:
        bonds = zip(*bonds_of(first), strict=True)
        attribution = None if explained is None else _attribution(frame, explained)
        draw_molecule(frame, attribution, strongest=8, bonds=bonds, marked=marked, ax=ax)
        ax.set_title("")
        ax.set_position((0.02, 0.1, 0.96, 0.9))

    label = "the molecule with its strongest interactions"
    return inline_svg(draw, SQUARE, label, white=True)  # element colours are made for white


def _attribution(frame: Frame, explained: ExplainedFrame) -> Attribution:
    """Return the pairs of an explanation between the positions of the picture's frame."""
    keep = np.isfinite(explained.strengths)
    i, j = explained.i[keep], explained.j[keep]
    pairs = Pairs(i, j, frame.positions[j] - frame.positions[i], explained.distances[keep])
    nothing = np.empty(0)
    return Attribution(
        "walks", np.nan, np.nan, nothing, nothing, pairs, explained.strengths[keep], nothing
    )
