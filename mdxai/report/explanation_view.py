"""What the page says of the model's explanations: figures, the picture, the strongest pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from mdxai import principles
from mdxai.report.figures import why_not_explained
from mdxai.report.interactions import MOST_ATOMS, Interactions, PairMeans, strongest_pairs
from mdxai.report.page_figures import (
    body_order_plot,
    molecule_picture,
    relevance_plot,
    residual_plot,
)
from mdxai.report.run_summary import DRAWN_ATOMS, RunSummary
from mdxai.statistics import BondClassChannels

STRONGEST, CHANGED = 12, 6
MEASURES = {"two_body": "two-body relevance", "flow": "flow of relevance"}


@dataclass(frozen=True, slots=True)
class Picture:
    """The molecule. time, explained_at: fs. ringed: atoms of the cause, such as "C1–O2", or empty.
    explained_at: None where no pairs are drawn.
    """

    svg: Markup
    time: float
    is_onset: bool
    ringed: str
    explained_at: float | None


@dataclass(frozen=True, slots=True)
class PairRow:
    """A pair of atoms. bond: "bonded", "1–3" and so on, or empty. distance: Å. mean, spread, late:
    eV. bar: length of the bar, 0 to 100. spread, late: NaN for a single frame.
    """

    atoms: str
    bond: str
    distance: float
    mean: float
    spread: float
    late: float
    bar: float

    @property
    def change(self) -> float:
        """By how much the late mean exceeds the one before, eV."""
        return self.late - self.mean


@dataclass(frozen=True, slots=True)
class PairTables:
    """The strongest pairs and those that changed most before the onset.

    n_frames, n_late: frames that the columns are means of. late_fs: how long before the onset
    counts as late. single_frame_at: fs, where the rows are those of one frame; else None.
    """

    strongest: tuple[PairRow, ...]
    changed: tuple[PairRow, ...] = ()
    n_frames: int = 1
    n_late: int = 0
    late_fs: float = 0.0
    single_frame_at: float | None = None
    most_atoms: int = MOST_ATOMS


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the model's energy comes from.

    why_not: why no frame was explained; empty otherwise. measure: in words. decay: mean strength
    against distance. body_orders, residual: over time; None where the method resolves no orders.
    picture: None where the molecule cannot be drawn; `no_picture` says why. pairs: None where no
    pair is within reach.
    """

    why_not: str
    measure: str
    decay: Markup | None
    body_orders: Markup | None
    residual: Markup | None
    picture: Picture | None
    no_picture: str
    pairs: PairTables | None
    has_onset: bool


def explanation_view(summary: RunSummary) -> Explanation:
    """Return what the page says of the explanations of a run."""
    found = summary.interactions
    picture, has_onset = _picture(summary, found), summary.time_axis.onset is not None
    no_picture = _why_no_picture(summary) if picture is None else ""
    if found is None:
        why_not = why_not_explained(summary.run)
        return Explanation(why_not, "", None, None, None, picture, no_picture, None, has_onset)
    measure = MEASURES[found.measure]
    decay = relevance_plot(found.profile, measure) if found.profile.num_rows else None
    orders, residual = _over_time(summary)
    pairs = _pairs(summary, found)
    return Explanation(
        "", measure, decay, orders, residual, picture, no_picture, pairs, has_onset
    )  # fmt: skip


def _over_time(summary: RunSummary) -> tuple[Markup | None, Markup | None]:
    """Return the figures of body orders and residual; None without finite values."""
    series = summary.body_orders
    if not any(len(curve.times) for curve in series.curves.values()):
        return None, None
    axis = summary.time_axis
    return body_order_plot(series, axis), residual_plot(series, axis)


def _picture(summary: RunSummary, found: Interactions | None) -> Picture | None:
    if summary.scene is None or summary.first is None:
        return None
    explained, verdict = None if found is None else found.frame, summary.verdict
    broken = verdict is not None and verdict.onset_fs is not None
    cause = verdict.cause if verdict is not None and broken else None
    marked = [] if cause is None else [a for a in cause.atoms if a < len(summary.symbols)]
    svg = molecule_picture(summary.scene, explained, summary.first, marked)
    explained_at = explained.time if explained is not None and len(explained.i) else None
    return Picture(svg, summary.scene.time, cause is not None, summary.label(*marked), explained_at)


def _why_no_picture(summary: RunSummary) -> str:
    n_atoms = len(summary.symbols)
    if summary.periodic or n_atoms > DRAWN_ATOMS:
        kind = "a periodic system" if summary.periodic else "a molecule"
        return (
            f"this is {kind} of {n_atoms:,} atoms; only molecules of up to {DRAWN_ATOMS} atoms are "
            "drawn"
        )
    return "no positions are recorded that could be drawn"


def _pairs(summary: RunSummary, found: Interactions) -> PairTables | None:
    if found.means is None:
        return _pairs_of_one_frame(summary, found)
    means, late_fs = found.means, summary.late_fs
    strongest = _rows(summary, means.first(STRONGEST))
    changed = _rows(summary, means.most_changed(CHANGED)) if means.n_late else ()
    return PairTables(strongest, changed, means.n_frames, means.n_late, late_fs)


def _rows(summary: RunSummary, means: PairMeans) -> tuple[PairRow, ...]:
    bonds, largest = _bond_classes(summary, means), np.abs(means.mean).max(initial=0.0)
    bars = 100 * np.abs(means.mean) / (largest or 1.0)
    return tuple(
        PairRow(
            summary.label(int(means.i[k]), int(means.j[k])), bonds[k], float(means.distance[k]),
            float(means.mean[k]), float(means.spread[k]), float(means.late[k]), float(bars[k]),
        )
        for k in range(len(means.i))
    )  # fmt: skip


def _bond_classes(summary: RunSummary, means: PairMeans) -> list[str]:
    """Return "bonded", "1–3" and so on, by the bonds of the first frame."""
    if summary.first is None:
        return [""] * len(means.i)
    classes = BondClassChannels(len(summary.symbols), *principles.bonds_of(summary.first))
    return [classes.names[k].replace("-", "–") for k in classes.of(means.i, means.j)]


def _pairs_of_one_frame(summary: RunSummary, found: Interactions) -> PairTables | None:
    if found.frame is None or not len(found.frame.i):
        return None
    rows = tuple(
        PairRow(summary.label(i, j), "", distance, strength, np.nan, np.nan, 0.0)
        for i, j, distance, strength in strongest_pairs(found.frame, STRONGEST)
    )
    return PairTables(rows, single_frame_at=found.frame.time)
