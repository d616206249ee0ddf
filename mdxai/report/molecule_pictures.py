"""Pictures of explanations: the molecule, strength against distance, shares of body orders.

Each function draws into the axes it is given, or into a new figure, and returns the axes. So they
work in a notebook and inside a larger figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors

from mdxai.attribution import Attribution, AttributionError
from mdxai.frame import Floats, Frame, Ints
from mdxai.principles import Curve
from mdxai.report.figures import ALARM, ELEMENT_PAIR_COLOURS, INK, tidy
from mdxai.statistics import ElementPairChannels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HOLDS, OPPOSES = "#1b6ca8", "#c1121f"  # lowers the energy, raises it
LABELLED = 60  # atoms; more names would hide the picture
Projection = Callable[[Floats], Floats]
ORDERS = ("one-body", "two-body", "three-body")


def draw_molecule(
    frame: Frame | Atoms,
    attribution: Attribution | None,
    *,
    strongest: int = 12,
    bonds: Iterable[tuple[int, int]] = (),
    marked: Sequence[int] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw a molecule with its strongest pairs: colour is the sign, width the strength.

    Args:
        frame: the configuration that was explained.
        attribution: of that frame; None draws no pairs.
        strongest: number of pairs to draw.
        bonds: atoms to join by thin lines.
        marked: atoms to put a ring around.
        ax: where to draw.
    """
    ax = ax or _new_axes((5.6, 4.6))
    positions = np.asarray(frame.positions, dtype=np.float64)
    project = _best_plane(positions)
    flat = project(positions)
    for i, j in bonds:
        ax.plot(*flat[[i, j]].T, color="#9aa0a6", lw=1.2, zorder=0.5)
    if attribution is not None:
        order = np.argsort(-np.abs(attribution.strengths))[:strongest]
        _draw_pairs(ax, attribution, order, positions, project)
        largest = np.abs(attribution.strengths[order]).max(initial=0.0)
        title = f"Strongest {len(order)} pairs, up to {largest:.2g} {_unit(attribution)}"
        ax.set_title(title if len(order) else "No pairs within reach", color=INK)
    _draw_atoms(ax, np.asarray(frame.numbers), flat)
    rings = flat[list(marked)]
    ax.scatter(
        rings[:, 0], rings[:, 1], s=1100, facecolors="none", edgecolors=ALARM, lw=2.2, zorder=3
    )
    ax.set_aspect("equal")
    ax.margins(0.12)
    ax.set_axis_off()
    return ax


def _draw_pairs(
    ax: Axes, attribution: Attribution, order: Ints, positions: Floats, project: Projection
) -> None:
    signed, pairs = attribution.method != "hessian", attribution.pairs
    largest = np.abs(attribution.strengths[order]).max(initial=1e-300)
    for k in order[::-1]:
        value, start = attribution.strengths[k], positions[pairs.i[k]]
        share = abs(value) / largest
        ends = project(np.stack([start, start + pairs.vectors[k]]))  # to the right image
        ax.plot(
            *ends.T, color=OPPOSES if signed and value > 0 else HOLDS, lw=1 + 9 * share,
            alpha=0.35 + 0.5 * share, solid_capstyle="round", zorder=1,
        )  # fmt: skip
    if signed:
        what = "energy" if attribution.unit == "eV" else "output"
        for sign, colour in ((f"lowers the {what}", HOLDS), ("raises it", OPPOSES)):
            ax.plot([], [], color=colour, lw=4, label=sign)
        ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.01), ncols=2)


def _draw_atoms(ax: Axes, numbers: Ints, flat: Floats) -> None:
    named = len(numbers) <= LABELLED
    sizes = (900 if named else 60) * covalent_radii[numbers]
    x, y = flat.T
    edge = 1.0 if named else 0.3
    ax.scatter(x, y, s=sizes, color=jmol_colors[numbers], edgecolors=INK, lw=edge, zorder=2)
    for index, (z, place) in enumerate(zip(numbers, flat, strict=True)):
        if named:
            label = f"{chemical_symbols[z]}{index}"
            ax.annotate(label, place, ha="center", va="center", fontsize=8)


def draw_decay(
    frame: Frame | Atoms, attributions: Iterable[Attribution], *, ax: Axes | None = None
) -> Axes:
    """Plot the strength of every pair against its distance, one colour per element pair.

    Args:
        frame: any configuration of the molecule.
        attributions: of one frame or more.
        ax: where to draw.
    """
    ax = ax or _new_axes((6, 4.4))
    channels = ElementPairChannels(np.asarray(frame.numbers, dtype=np.int64))
    every = [a for a in attributions if len(a.pairs)]
    if not every:
        raise AttributionError("no pair to draw: no attribution has a pair within the cutoff")
    which = np.concatenate([channels.of(a.pairs.i, a.pairs.j) for a in every])
    distances = np.concatenate([a.pairs.distances for a in every])
    strengths = np.abs(np.concatenate([a.strengths for a in every]))
    for k, name in enumerate(channels.names):
        here = (which == k) & (strengths > 0)
        colour = ELEMENT_PAIR_COLOURS[k % len(ELEMENT_PAIR_COLOURS)]
        ax.scatter(distances[here], strengths[here], s=16, color=colour, alpha=0.7, lw=0,
                   label=name.replace("-", "–"))  # fmt: skip
    ax.set_yscale("log")
    ax.set_xlabel("distance / Å", color=INK)
    ax.set_ylabel(f"strength of the pair, |{_measure(every[0])}| / {_unit(every[0])}", color=INK)
    ax.legend(frameon=False, fontsize=8, title="element pair")
    tidy(ax)
    return ax


def draw_body_orders(attribution: Attribution, *, ax: Axes | None = None) -> Axes:
    """Draw what each body order contributes, and the residual that the biases absorb."""
    if not np.isfinite(attribution.by_body_order).all():
        raise AttributionError(f"method {attribution.method!r} has no body orders to draw")
    ax = ax or _new_axes((5, 3.2))
    values = np.append(attribution.by_body_order, attribution.residual)
    known = len(attribution.by_body_order) - 1
    names = [*order_names(known), "residual"]
    shares = np.abs(values[:-1]) / np.abs(values[:-1]).sum()
    colours = [HOLDS if value < 0 else OPPOSES for value in values[:-1]] + ["#9aa0a6"]
    bars, unit = ax.barh(names, values, color=colours), attribution.unit
    labels = [f" {v:.2f} {unit} ({s:.0%}) " for v, s in zip(values, shares, strict=False)]
    ax.bar_label(bars, [*labels, f" {values[-1]:.2f} {unit} "], fontsize=8, color=INK)
    ax.invert_yaxis()
    ax.axvline(0, color=INK, lw=0.8)
    ax.margins(x=0.5)
    ax.set_xlabel(f"relevance / {unit}   (shares of the sum of absolute values)", color=INK)
    tidy(ax)
    return ax


def order_names(known: int) -> list[str]:
    """Return names of body orders: one for each known order, and one for all higher orders."""
    return [*ORDERS[:known], "all higher" if known else "all orders"]


def draw_dimers(
    curves: Mapping[str, Mapping[str, Curve]],
    reference: Mapping[str, Curve] | None = None,
    *,
    axes: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """Plot the energy of isolated pairs of atoms: a panel per element pair, a line per potential.

    The zero of each curve is its energy at the longest distance. The axis is linear up to 1 eV and
    logarithmic beyond.

    Args:
        curves: by the potential's label, then by element pair, as `mdxai.principles.dimer_curves`
            gives them.
        reference: curves to compare with, by element pair such as "C-H"; forces are not read.
        axes: where to draw, one per element pair in alphabetical order.
    """
    names = sorted({name for of_one in curves.values() for name in of_one} | set(reference or {}))
    axes = axes if axes is not None else _grid(len(names))
    for ax, name in zip(axes, names, strict=False):
        for k, (label, of_one) in enumerate(curves.items()):
            if name in of_one:
                colour = ELEMENT_PAIR_COLOURS[k % len(ELEMENT_PAIR_COLOURS)]
                ax.plot(*_from_far(of_one[name]), color=colour, lw=1.4, label=label)
        if reference and name in reference:
            ax.plot(*_from_far(reference[name]), color=INK, lw=0, marker=".", ms=3,
                    label="reference")  # fmt: skip
        ax.set_yscale("symlog", linthresh=1.0)
        ax.axhline(0, color=INK, lw=0.5)
        ax.set_title(name.replace("-", "–"), fontsize=10, color=INK)
        ax.set_xlabel("distance / Å", fontsize=8, color=INK)
        ax.set_ylabel("energy / eV", fontsize=8, color=INK)
        tidy(ax)
    axes[0].legend(frameon=False, fontsize=7)
    return axes


def _from_far(curve: Curve) -> tuple[Floats, Floats]:
    far = np.argmax(curve.distances)
    return curve.distances, curve.energies - curve.energies[far]


def _grid(n: int) -> list[Axes]:
    from matplotlib.figure import Figure

    rows = -(-n // 3)
    figure = Figure(figsize=(10, 3.1 * rows), layout="constrained")
    return [figure.add_subplot(rows, min(n, 3), k + 1) for k in range(n)]


def _measure(attribution: Attribution) -> str:
    names = {"flow": "flow", "hessian": "Hessian block"}
    return names.get(attribution.method, "two-body relevance")


def _unit(attribution: Attribution) -> str:
    return "eV/Å²" if attribution.method == "hessian" else attribution.unit


def _new_axes(size: tuple[float, float]) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained").add_subplot()


def _best_plane(positions: Floats) -> Projection:
    """Return the projection onto the two directions along which the atoms spread most, tilted a
    little, so that atoms mirrored in that plane do not hide each other.
    """
    origin = positions.mean(0)
    directions = np.linalg.eigh(np.cov((positions - origin).T, bias=True))[1].T[::-1]

    def project(points: Floats) -> Floats:
        centred = points - origin
        flat: Floats = centred @ directions[:2].T + np.outer(centred @ directions[2], (0.3, 0.2))
        return flat

    return project
