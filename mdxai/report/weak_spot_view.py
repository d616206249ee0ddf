"""What the page says of the weak spots that a run followed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from mdxai.report.page_figures import heights_plot, progress_plot
from mdxai.report.run_summary import RunSummary

PROGRESS = "weak_spot"


@dataclass(frozen=True, slots=True)
class WeakSpotRow:
    """A followed path as a row. equal: distances by which it can be taken. barrier: eV. foretold:
    per ps. highest: share of the path to the top, at time_fs. hazard: as this run tells it, per ps:
    value, low, high.
    """

    label: str
    kind: str
    equal: int
    barrier: float
    foretold: float
    highest: float
    time_fs: float
    closest: str
    hazard: Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class WeakSpotSection:
    """The weak spots that a run followed: in a sentence, over time, one by one.

    heights: of the path with the highest hazard, whose name is likeliest. All but progress: empty
    until the run has ended.
    """

    sentence: str
    progress: Markup
    likeliest: str
    heights: Markup
    rows: tuple[WeakSpotRow, ...]


def weak_spot_view(summary: RunSummary) -> WeakSpotSection | None:
    """Return what the page says of weak spots; None where none were followed."""
    curve = summary.series.curves.get(PROGRESS)
    if curve is None or not curve.n_measured:
        return None
    seen = summary.ended.get("weak_spots", {})
    paths, likeliest, heights = seen.get("paths", ()), "", Markup()
    if paths:
        path = max(paths, key=lambda p: ((p["hazard_per_ps"] or {}).get("value", 0), p["highest"]))
        likeliest, time = path["label"], max(seen["watched_fs"] / 1000, 1e-3)
        counts = np.array(path["energy_counts"], dtype=float)
        heights = heights_plot(likeliest, counts, path["height_eV"], time, path["hazard_per_ps"])
    return WeakSpotSection(
        summary.ended.get("closest", ""), progress_plot(curve, summary.time_axis), likeliest,
        heights, tuple(_row(summary, path) for path in paths),
    )  # fmt: skip


def _row(summary: RunSummary, path: dict[str, Any]) -> WeakSpotRow:
    return WeakSpotRow(
        path["label"], path["kind"], path["equal"], path["barrier_eV"], path["foretold_per_ps"],
        path["highest"], path["time_fs"], summary.label(*path["atoms"]), path["hazard_per_ps"],
    )  # fmt: skip
