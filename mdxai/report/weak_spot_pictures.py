"""Pictures of weak spots: the energy along the way in, and the molecule at the top."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mdxai.forecast import PathExplanation, WeakSpot, WeakSpotError, WeakSpots
from mdxai.frame import Floats
from mdxai.principles.motion.structure import bonds_of
from mdxai.principles.probes.configurations import moved
from mdxai.report.figures import ALARM, CAUTION, INK, PHYSICAL, tidy
from mdxai.report.molecule_pictures import draw_molecule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = {  # colour and style of what a barrier is made of
    "pair": (ALARM, "-"), "other_pairs": (PHYSICAL, "-"), "three_body": (CAUTION, "-"),
    "higher": (CAUTION, ":"), "one_body": (INK, "-"), "residual": (INK, ":"),
}  # fmt: skip
REACHED = 1.5  # times the highest energy of the model: more of the reference would dwarf the model


def draw_weak_spot(found: WeakSpots, spot: WeakSpot | None = None) -> Figure:
    """Return a figure of one weak spot: the energy along its path, and the molecule at its top.

    Args:
        found: by `mdxai.weak_spots`.
        spot: which one; by default that with the highest rate.

    Raises:
        WeakSpotError: when there is none.
    """
    from matplotlib.figure import Figure

    shown = spot or found.worst
    if shown is None:
        raise WeakSpotError("there is no weak spot to draw; `len(found)` tells")
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    draw_path(left, shown, found.reference)
    draw_top(right, found, shown)
    right.margins(0.25)  # room for the rings
    right.set_title("at the top", fontsize=10, color=INK)
    rate = shown.rate_per_ps(found.temperature)
    figure.suptitle(
        f"{shown.label} ({shown.kind}): {shown.barrier:.2f} eV, {rate:.1e} per ps at "
        f"{found.temperature:g} K", color=INK,
    )  # fmt: skip
    return figure


def draw_top(ax: Axes, found: WeakSpots, spot: WeakSpot) -> None:
    """Draw the molecule at the top of the barrier, with the bonds of the minimum.

    Rings are around the two atoms, or around the first of two molecules.
    """
    frame = moved(found.minimum, spot.path.positions[spot.path.top])
    i, j = bonds_of(found.minimum)
    bonds = list(zip(i.tolist(), j.tolist(), strict=True))
    one, other = spot.groups
    marked = one if spot.kind == "encounter" else one + other
    draw_molecule(frame, None, bonds=bonds, marked=marked, ax=ax)


def draw_path(ax: Axes, spot: WeakSpot, reference: str) -> None:
    """Draw the energy along the way into a weak spot, and the reference's where there is one."""
    path, x = spot.path, _abscissa(spot)
    ax.plot(x, path.energies, color=ALARM, marker=".", lw=1.6, label="model")
    ax.plot(x[path.top], path.energies[path.top], color=ALARM, marker="o", ms=8)
    if len(path.reference):
        ax.plot(x, path.reference, color=PHYSICAL, marker=".", ls="--", lw=1.2, label=reference)
        ax.legend(frameon=False, fontsize=8)
        low = min(0.0, float(np.nanmin(path.energies)))
        ax.set_ylim(low - 0.1, max(REACHED * spot.barrier, spot.barrier + 1.0))
    ax.set_ylabel("energy above the minimum / eV", color=INK)
    _along(ax, spot)


def draw_explanation(ax: Axes, spot: WeakSpot, explanation: PathExplanation) -> None:
    """Draw what the model's energy is made of along the way into a weak spot."""
    x = _abscissa(spot)
    for part, (colour, style) in LINES.items():
        ax.plot(x, getattr(explanation, part), color=colour, ls=style, lw=1.4,
                label=explanation.in_words[part])  # fmt: skip
    ax.axvline(x[spot.path.top], color=INK, lw=0.6, ls="--")
    ax.legend(frameon=False, fontsize=7, ncols=2, handlelength=1.4, columnspacing=1.0)
    ax.set_ylabel("relevance less that\nat the minimum / eV", color=INK)
    _along(ax, spot)


def _runs_one_way(spot: WeakSpot) -> bool:
    """Return whether the distance only grows or only shrinks; at a saddle it may turn."""
    steps = np.diff(spot.path.lengths)
    return bool((steps > 0).all() or (steps < 0).all())


def _abscissa(spot: WeakSpot) -> Floats:
    """Return what a path is drawn against, (n,) Å: the distance, or the way where that turns."""
    return spot.path.lengths if _runs_one_way(spot) else spot.path.way


def _along(ax: Axes, spot: WeakSpot) -> None:
    """Lay out an axis of the distance that was scanned, or of the way, the minimum on the left."""
    ax.axhline(0, color=INK, lw=0.5)
    tidy(ax)
    if not _runs_one_way(spot):
        ax.set_xlabel("way of all atoms along the path / Å", color=INK)
        return
    if spot.kind != "stretch":
        ax.invert_xaxis()
    of_centres = " of the centres" if spot.kind == "encounter" else ""
    ax.set_xlabel(f"distance{of_centres} / Å", color=INK)
