"""The figures of a run's page, each small enough to be read on a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame, Pairs
from mdxai.principles import bonds_of
from mdxai.report.envelopes import Curve
from mdxai.report.figures import ALARM, ELEMENT_PAIR_COLOURS, INK, decays, mark_thresholds, tidy
from mdxai.report.html import Html, rounded, svg
from mdxai.report.interactions import ExplainedFrame
from mdxai.report.molecule_pictures import draw_molecule
from mdxai.stability.thresholds import Threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL, LARGE, SQUARE = (4.5, 1.75), (4.5, 3.5), (4.5, 4.0)  # inches
DRAWN = 60  # atoms of a molecule whose picture can be read
CHANNELS = 8  # element pairs that can be told apart
CUT = 4.0  # times the threshold: larger values would flatten all that came before


@dataclass(frozen=True, slots=True)
class Clock:
    """The time axis of a run. start, end, onset: fs; onset may be None."""

    start: float
    end: float
    onset: float | None

    @property
    def unit(self) -> tuple[str, float]:
        """The unit in which a run of this length reads well, and its length in fs."""
        length = self.end - self.start
        units = (("fs", 1.0, 2e3), ("ps", 1e3, 2e6), ("ns", 1e6, np.inf))
        return next((name, size) for name, size, until in units if not length > until)

    def mark(self, ax: Axes, curve: Curve) -> None:
        """Draw the axis, the onset, and where the curve is not finite."""
        name, size = self.unit
        ax.set_xlabel(f"time / {name}", color=INK, labelpad=1)
        only = 0.5 * (self.start == self.end)  # fs beside a single frame
        ax.set_xlim((self.start - only) / size, (self.end + only) / size)
        if self.onset is not None:
            ax.axvline(self.onset / size, color=ALARM, lw=1.1)
        if len(curve.not_finite):
            at, top = curve.not_finite / size, ax.get_xaxis_transform()
            gap = np.full(len(at), np.nan)
            x, y = np.stack([at, at, gap], 1), np.tile([0.0, 1.0, np.nan], len(at))
            ax.plot(x.ravel(), y, color=ALARM, lw=0.6, alpha=0.5, transform=top)
            ax.text(0.01, 0.97, "red: not finite", transform=ax.transAxes, va="top", fontsize=7,
                    color=ALARM)  # fmt: skip
        ax.locator_params(nbins=5)
        tidy(ax)

    def plot(self, ax: Axes, curve: Curve, colour: str = INK) -> None:
        """Draw the curve; few points are shown as such."""
        few = {"marker": ".", "markersize": 4} if len(curve.times) <= 40 else {}
        ax.plot(curve.times / self.unit[1], curve.values, color=colour, lw=0.8, **few)  # type: ignore[arg-type]


def deviation_plot(
    name: str, unit: str, curve: Curve, threshold: Threshold | None, clock: Clock
) -> Html:
    """Return a deviation over time, with what is allowed."""

    def draw(ax: Axes) -> None:
        clock.plot(ax, curve)
        if threshold is not None:
            limits = [x for x in (threshold.unstable, threshold.warn) if 0 < x < np.inf]
            largest = np.nan_to_num(curve.largest)
            top = min(largest, CUT * limits[0]) if limits else largest
            mark_thresholds(ax, threshold, top)
            _say_if_cut(ax, curve.values)
        ax.set_ylabel("value" if unit == "1" else unit, color=INK)
        clock.mark(ax, curve)

    return svg(draw, SMALL, f"{name} over time")


def curve_plot(label: str, curve: Curve, clock: Clock) -> Html:
    """Return a quantity over time; what goes far beyond the usual is cut off, and said so."""

    def draw(ax: Axes) -> None:
        clock.plot(ax, curve, ELEMENT_PAIR_COLOURS[0])
        ax.set_ylim(*_usual_range(curve.values))
        _say_if_cut(ax, curve.values)
        ax.set_ylabel(label, color=INK)
        clock.mark(ax, curve)

    return svg(draw, SMALL, f"{label} over time")


def _usual_range(values: Floats) -> tuple[float, float]:
    """Return limits that show all, unless a few values lie very far from all the others."""
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


def relevance_plot(profile: pa.Table, measure: str) -> Html:
    """Return the mean strength of pairs against their distance, per element pair."""

    def draw(ax: Axes) -> None:
        from matplotlib.ticker import FuncFormatter, NullLocator

        for one, colour in decays(profile, CHANNELS):
            x, y = one.line()
            rare = one.count < 5
            ax.plot(x, y, color=colour, lw=1.4, label=one.name)
            ax.plot(one.centre[rare], one.mean[rare], ".", color=colour, ms=2.5, alpha=0.6)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("distance / Å", color=INK, labelpad=1)
        ax.set_ylabel(f"mean |{measure}| / eV", color=INK)
        ax.legend(frameon=False, fontsize=8, ncols=2)
        tidy(ax)

    return svg(draw, LARGE, "relevance against distance per element pair")


def molecule_picture(
    frame: Frame, explained: ExplainedFrame | None, first: Frame, marked: Sequence[int]
) -> Html:
    """Return the molecule with its strongest pairs, and a ring around some atoms.

    Args:
        frame: where the atoms are.
        explained: the explanation nearest to it.
        first: the frame whose bonds are drawn as thin lines.
        marked: the atoms.
    """

    def draw(ax: Axes) -> None:
        bonds = zip(*bonds_of(first), strict=True)
        attribution = None if explained is None else _attribution(frame, explained)
        draw_molecule(frame, attribution, strongest=8, bonds=bonds, marked=marked, ax=ax)
        ax.set_title("")
        ax.set_position((0.02, 0.1, 0.96, 0.9))

    label = "the molecule with its strongest interactions"
    return svg(draw, SQUARE, label, white=True)  # the colours of elements are made for it


def _attribution(frame: Frame, explained: ExplainedFrame) -> Attribution:
    """Return what is drawn of an explanation: pairs, from where the atoms are in the picture."""
    keep = np.isfinite(explained.strengths)
    i, j = explained.i[keep], explained.j[keep]
    pairs = Pairs(i, j, frame.positions[j] - frame.positions[i], explained.distances[keep])
    nothing = np.empty(0)
    return Attribution(
        "walks", np.nan, np.nan, nothing, nothing, pairs, explained.strengths[keep], nothing
    )
