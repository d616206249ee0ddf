"""The figures of an analysis: on its page, and as files fit for a paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mdxai.analysis import Analysis, ModelFindings
from mdxai.analysis.analysis_result import COMMON, SURE, centres, is_bond
from mdxai.analysis.close_look import ANGLES, COPIED
from mdxai.analysis.close_look import WIDTH as CLOSE_WIDTH
from mdxai.analysis.clustered_means import ClusteredMeans
from mdxai.analysis.decay_laws import Law
from mdxai.analysis.molecule_tally import ORDERS, WIDTH
from mdxai.frame import Floats
from mdxai.report.figures import ALARM, ELEMENT_PAIR_COLOURS, INK, tidy
from mdxai.report.inline_svg import STYLE, axes_within

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE, TALL = (4.5, 2.8), (4.5, 4.2)  # inches
KINDS_SHOWN, PAIRS_SHOWN, ATOMS_SHOWN = 16, 6, 12
DPI = 300
ABREAST, LINE = 2, 0.16  # names of models above axes: in a row; height of a row, inches
NAMED = 0.12  # share of a bar that is wide enough for a name
MARKERS = "osD^vP"
SHORT = {"beyond three": "higher"}


@dataclass(frozen=True, slots=True)
class AnalysisFigure:
    """A figure. name: of its files. draw: draws into axes."""

    name: str
    caption: str
    draw: Callable[[Axes], None]
    size: tuple[float, float] = SIZE


def analysis_figures(found: Analysis) -> dict[str, list[AnalysisFigure]]:
    """Return the figures of each section of the page."""
    models = found.models
    bands = "Bands and bars: 95 % intervals over molecules."
    decays = [
        AnalysisFigure(
            f"decay_{pair}",
            f"{pair}: mean strength against distance; dashed: the law that fits best. Red: cutoff. "
            + bands,
            partial(_draw_decay, models=models, pair=pair),
        )
        for pair in _pairs(models)
    ]
    return {
        "bonds": [
            AnalysisFigure("bonds", f"The strongest kinds of pairs, and walks that stay on an atom "
                           f"(self). {bands}", partial(_draw_bonds, models=models), TALL),
            AnalysisFigure("enthalpies", "Mean strength of bonds against mean bond enthalpies. "
                           + bands, partial(_draw_enthalpies, models=models)),
        ],
        "decay": decays,
        "beyond": [
            AnalysisFigure("beyond", "Solid: all walks that visit both atoms; dotted: exactly "
                           "two-body. Red: cutoff, and receptive field (dashed), of the first "
                           "model.", partial(_draw_beyond, models=models)),
        ] if any(len(m.close.beyond.names) for m in models) else [],
        "orders": [
            AnalysisFigure("body_orders", "Shares of relevance by body order, means over the "
                           "molecules looked at closely.", partial(_draw_orders, models=models)),
            AnalysisFigure("three_body_perimeter", f"Three-body strength against the perimeter of "
                           f"the triangle. {bands}", partial(_draw_perimeters, models=models)),
            AnalysisFigure("three_body_angle", f"Three-body strength of two bonds at one atom, "
                           f"against their angle. {bands}", partial(_draw_angles, models=models)),
        ] if any(m.close.orders.names for m in models) else [],
        "growth": [] if not any(_has_sizes(m) for m in models) else [
            AnalysisFigure("growth", "Sum of the strengths of all atoms against the number of "
                           f"atoms. {bands}", partial(_draw_sizes, models=models, name="atoms")),
            AnalysisFigure("participation", "How many atoms take part: (Σ|R|)²/ΣR². Grey: all do "
                           "alike.", partial(_draw_participation, models=models)),
        ],
        "atoms": [
            AnalysisFigure("atoms", "Mean strength of an atom by its kind and number of "
                           f"neighbours. {bands}", partial(_draw_atoms, models=models), TALL),
        ],
        "groups": [
            AnalysisFigure("groups", "Share of the relevance of a molecule's atoms, Σ|R|, in its "
                           "functional groups, where it has some; marks: their share of its "
                           f"atoms. {bands}", partial(_draw_groups, models=models), TALL),
        ],
        "principles": [
            AnalysisFigure(f"principle_{name.replace(' ', '_')}", f"{name[0].upper()}{name[1:]}: "
                           "share of molecules by their deviation.",
                           partial(_draw_principle, models=models, name=name))
            for name in models[0].tally.principles.counts
        ],
    }  # fmt: skip


def _has_sizes(model: ModelFindings) -> bool:
    """Whether there are molecules of several sizes."""
    return bool((model.tally.sizes.molecules >= SURE).any(axis=0).sum() > 1)


def save_figures(figures: dict[str, list[AnalysisFigure]], folder: Path) -> None:
    """Write every figure as PNG (300 dpi) and SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        for figure in (one for some in figures.values() for one in some):
            canvas = Figure(figsize=figure.size)
            figure.draw(canvas.add_axes(axes_within(figure.size)))
            for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                canvas.savefig(folder / f"{figure.name}.{suffix}", dpi=DPI, metadata=metadata)


def colour(k: int) -> str:
    """Return the colour of model k."""
    return ELEMENT_PAIR_COLOURS[k % len(ELEMENT_PAIR_COLOURS)]


def _pairs(models: tuple[ModelFindings, ...]) -> list[str]:
    names: dict[str, None] = {}
    for model in models:
        names |= dict.fromkeys(decay.pair for decay in model.decays)
    return list(names)[:PAIRS_SHOWN]


def _legend(ax: Axes, models: tuple[ModelFindings, ...], **where: Any) -> None:
    """Name the models; of more than two above the axes, where no data are hidden."""
    if len(models) > 2:
        _name_above(ax)
        _make_room(ax, models)
    elif len(models) > 1:
        ax.legend(frameon=False, fontsize=7, **where)


def _name_above(ax: Axes) -> None:
    ax.legend(frameon=False, fontsize=7, ncols=ABREAST, loc="lower left",
              bbox_to_anchor=(0, 1.0), borderaxespad=0.1, columnspacing=1.2)  # fmt: skip


def _make_room(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    """Lower the upper end of axes by the rows of names above them."""
    if len(models) > 2:
        rows, box = -(-len(models) // ABREAST), ax.get_position()
        taken = LINE * rows / float(ax.figure.get_window_extent().height / ax.figure.dpi)
        ax.set_position((box.x0, box.y0, box.width, box.height - taken))


def _row(means: ClusteredMeans, name: str) -> tuple[Floats, Floats, Any]:
    """Return means, half widths of 95 % intervals, and where there are enough molecules."""
    k = means.row(name)
    if k is None:
        nothing = np.full(means.n_bins, np.nan)
        return nothing, nothing, np.zeros(means.n_bins, dtype=bool)
    return means.mean[k], 1.96 * means.error[k], means.molecules[k] >= SURE


def _line(ax: Axes, x: Floats, row: tuple[Floats, Floats, Any], shade: str, label: str) -> None:
    mean, half, sure = row
    with np.errstate(invalid="ignore"):
        y, lo, hi = (np.where(sure, v, np.nan) for v in (mean, mean - half, mean + half))
        ax.fill_between(x, np.maximum(lo, 1e-9), hi, color=shade, alpha=0.2, lw=0)
    ax.plot(x, y, color=shade, lw=1.3, label=label)


def draw_bonds(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    """Draw the mean strengths of the strongest kinds of pairs, as the first model ranks them."""
    names = [b.name for b in models[0].common_bonds][:KINDS_SHOWN]
    step = 0.7 / len(models)
    for k, model in enumerate(models):
        known = {b.name: b for b in model.bonds}
        for row, name in enumerate(names):
            if name in known:
                b, y = known[name], row + (k - (len(models) - 1) / 2) * step
                ax.plot([b.mean - 1.96 * b.error, b.mean + 1.96 * b.error], [y, y],
                        color=colour(k), lw=1.2)  # fmt: skip
                ax.plot(b.mean, y, "o", ms=3.5, color=colour(k),
                        label=model.name if row == 0 else None)  # fmt: skip
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    _log_scale(ax, "x")
    ax.set_xlabel(f"mean strength / {unit_of(models)}", color=INK, labelpad=1)
    ax.grid(axis="y", color="#e3e6ea", lw=0.6)
    if len(models) > 2:
        _name_above(ax)
    elif len(models) > 1:
        ax.legend(frameon=False, fontsize=7, loc="lower right")
    _finish(ax)


def _draw_bonds(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    draw_bonds(ax, models)
    _make_room(ax, models)
    _inside(ax, 0.3)


def _inside(ax: Axes, left: float) -> None:
    """Leave room for long labels."""
    box = ax.get_position()
    ax.set_position((left, box.y0, box.x1 - left, box.height))


def _draw_enthalpies(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    for k, model in enumerate(models):
        known = [b for b in model.common_bonds if b.reference is not None and is_bond(b.name)]
        x = np.array([b.reference for b in known], dtype=np.float64)
        y = np.array([b.mean for b in known])
        half = np.minimum([1.96 * b.error for b in known], 0.9 * y)  # the axis is logarithmic
        ax.errorbar(x, y, np.nan_to_num(half), fmt=MARKERS[k % len(MARKERS)], ms=4, lw=0.9,
                    color=colour(k), label=model.name)  # fmt: skip
        if k == 0:
            for b in known:
                short = b.name.replace(" single", "").replace("-", "–")
                ax.annotate(short, (b.reference, b.mean), xytext=(3, 3), fontsize=6, color=INK,
                            textcoords="offset points")  # fmt: skip
    ax.set_xlabel("mean bond enthalpy / eV", color=INK, labelpad=1)
    ax.set_ylabel(f"strength / {unit_of(models)}", color=INK)
    _log_scale(ax, "y")
    ax.margins(x=0.12)
    _legend(ax, models)
    _finish(ax)


def _draw_decay(ax: Axes, models: tuple[ModelFindings, ...], pair: str) -> None:
    for k, model in enumerate(models):
        means = model.tally.decay
        x = centres(means, WIDTH)
        _line(ax, x, _row(means, pair), colour(k), model.name)
        decay = next((d for d in model.decays if d.pair == pair), None)
        if decay is not None:
            r = np.linspace(*decay.fitted, 60)
            ax.plot(r, law_curve(decay.laws[0], r, model.cutoff), color=colour(k), lw=0.9, ls="--")
        ax.axvline(model.cutoff, color=ALARM, lw=0.8)
    _log_scale(ax, "y")
    ax.set_xlim(0.7, max(model.cutoff for model in models) * 1.02)
    _log_limits(ax, [v for m in models for v in _row(m.tally.decay, pair)[0]])
    ax.set_xlabel("distance / Å", color=INK, labelpad=1)
    ax.set_ylabel(f"strength / {unit_of(models)}", color=INK)
    _legend(ax, models)
    _finish(ax)


def law_curve(law: Law, r: Floats, cutoff: float) -> Floats:
    """Return the strength that a law states at distances r (n,), Å."""
    if law.kind == "power":
        return law.prefactor * r**-law.value
    if law.kind == "exponential":
        return law.prefactor * np.exp(-r / law.value)
    return law.prefactor * (0.5 * (1 + np.cos(np.pi * r / cutoff))) ** law.value


def _log_scale(ax: Axes, which: str) -> None:
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")


def _finish(ax: Axes) -> None:
    """Give logarithmic axes plain numbers, more of them where they span little, and tidy up."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        if axis.get_scale() == "log":
            subs = (1.0, 2.0, 5.0) if high < 60 * low else (1.0,)
            axis.set_major_locator(LogLocator(subs=subs, numticks=6))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    tidy(ax)


def unit_of(models: tuple[ModelFindings, ...]) -> str:
    """Return the unit of all models, or that each has its own."""
    units = {model.unit for model in models}
    return units.pop() if len(units) == 1 else "own unit"


def _log_limits(ax: Axes, values: list[float]) -> None:
    known = np.array([v for v in values if np.isfinite(v) and v > 0])
    if len(known):
        ax.set_ylim(max(known.min(), 1e-5 * known.max()) / 2, known.max() * 2)


def _draw_beyond(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    for k, model in enumerate(models):
        means = model.close.beyond
        x = centres(means, CLOSE_WIDTH)
        _line(ax, x, _row(means, "all walks"), colour(k), model.name)
        two = _row(means, "two-body")
        ax.plot(x, np.where(two[2] & (two[0] > 0), two[0], np.nan), color=colour(k), lw=1, ls=":")
    ax.axvline(models[0].cutoff, color=ALARM, lw=0.8)
    ax.axvline(models[0].reach, color=ALARM, lw=0.8, ls="--")
    _log_scale(ax, "y")
    _log_limits(ax, [v for m in models for v in _row(m.close.beyond, "all walks")[0]])
    far = max((_far(m) for m in models), default=10.0)
    ax.set_xlim(0.7, max(far, models[0].cutoff + 0.5))
    ax.set_xlabel("distance / Å", color=INK, labelpad=1)
    ax.set_ylabel(f"strength / {unit_of(models)}", color=INK)
    _legend(ax, models)
    _finish(ax)


def _far(model: ModelFindings) -> float:
    sure = _row(model.close.beyond, "all walks")[2]
    return CLOSE_WIDTH * (1 + int(np.flatnonzero(sure)[-1])) if sure.any() else 0.0


def _draw_orders(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    wanted = ("one-body", "two-body", "three-body", "four-body", "higher", "beyond three")
    for k, model in enumerate(models):
        orders, left = model.close.orders, 0.0
        rows = [(name, orders.row(f"share {name}")) for name in wanted]
        shares = {name: orders.mean[row, 0] for name, row in rows if row is not None}
        if "four-body" in shares and "beyond three" in shares:
            del shares["four-body"], shares["higher"]  # of the small molecules only
        for name, share in shares.items():
            width = share / sum(shares.values())
            c = wanted.index(name if name != "beyond three" else "higher")
            ax.barh(k, width, left=left, color=ELEMENT_PAIR_COLOURS[c], height=0.6)
            if width > NAMED:
                ax.text(left + width / 2, k, f"{SHORT.get(name, name)}\n{width:.0%}", fontsize=6,
                        ha="center", va="center", color="#ffffff")  # fmt: skip
            left += width
    ax.set_yticks(range(len(models)), [model.name for model in models])
    ax.set_ylim(len(models) - 0.4, -0.6)
    ax.set_xlim(0, 1)
    ax.set_xlabel("share of Σ|relevance|", color=INK, labelpad=1)
    _finish(ax)
    _inside(ax, 0.25)


def _draw_perimeters(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    for k, model in enumerate(models):
        means = model.close.perimeters
        _line(ax, centres(means, CLOSE_WIDTH), _row(means, "three-body"), colour(k), model.name)
    _log_scale(ax, "y")
    _log_limits(ax, [v for m in models for v in _row(m.close.perimeters, "three-body")[0]])
    ax.set_xlabel("perimeter / Å", color=INK, labelpad=1)
    ax.set_ylabel(f"strength / {unit_of(models)}", color=INK)
    _legend(ax, models)
    _finish(ax)


def _draw_angles(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    for k, model in enumerate(models):
        means = model.close.angles
        _line(ax, centres(means, 180 / ANGLES), _row(means, "three-body"), colour(k), model.name)
    ax.set_xlim(45, 180)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("angle / °", color=INK, labelpad=1)
    ax.set_ylabel(f"strength / {unit_of(models)}", color=INK)
    _legend(ax, models)
    _finish(ax)


def _draw_sizes(ax: Axes, models: tuple[ModelFindings, ...], name: str) -> None:
    for k, model in enumerate(models):
        sizes = model.tally.sizes
        mean, half, sure = _row(sizes, name)
        n = np.flatnonzero(sure)
        ax.errorbar(n, mean[n], np.nan_to_num(half[n]), fmt=MARKERS[k % len(MARKERS)], ms=3,
                    lw=0.9, color=colour(k), label=model.name)  # fmt: skip
    for name_of_axis in "xy":
        _log_scale(ax, name_of_axis)
    ax.set_xlabel("number of atoms", color=INK, labelpad=1)
    ax.set_ylabel(f"Σ|R| / {unit_of(models)}", color=INK)
    _legend(ax, models)
    _finish(ax)


def _draw_participation(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    most = 2
    for k, model in enumerate(models):
        sizes = model.tally.sizes
        mean, half, sure = _row(sizes, "atoms that take part")
        n = np.flatnonzero(sure)
        most = max([most, *n.tolist()])
        ax.errorbar(n, mean[n], np.nan_to_num(half[n]), fmt=MARKERS[k % len(MARKERS)], ms=3,
                    lw=0.9, color=colour(k), label=model.name)  # fmt: skip
    ax.plot([0, most], [0, most], color="#9aa0a6", lw=0.8, zorder=0)
    ax.set_xlim(0, most * 1.05)
    ax.set_ylim(0, most * 1.05)
    ax.set_xlabel("number of atoms", color=INK, labelpad=1)
    ax.set_ylabel("atoms that take part", color=INK)
    _legend(ax, models)
    _finish(ax)


def _draw_atoms(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    first = models[0].tally.atoms
    often = first.molecules[:, 0] >= COMMON * first.molecules.max()
    order = np.argsort(-first.count[:, 0], kind="stable")[:ATOMS_SHOWN]
    names = sorted(first.names[k] for k in order if often[k])
    step = 0.8 / len(models)
    for k, model in enumerate(models):
        for row, name in enumerate(names):
            mean, half, _ = _row(model.tally.atoms, name)
            y = row + (k - (len(models) - 1) / 2) * step
            ax.barh(y, mean[0], height=step * 0.9, xerr=np.nan_to_num(half[0]), color=colour(k),
                    error_kw={"lw": 0.8, "ecolor": INK},
                    label=model.name if row == 0 else None)  # fmt: skip
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel(f"mean strength of an atom / {unit_of(models)}", color=INK, labelpad=1)
    _legend(ax, models)
    _finish(ax)
    _inside(ax, 0.3)


def _draw_groups(ax: Axes, models: tuple[ModelFindings, ...]) -> None:
    most = models[0].groups[0].molecules
    names = [g.name for g in models[0].groups if g.molecules >= COMMON * most][:ATOMS_SHOWN]
    step = 0.8 / len(models)
    for k, model in enumerate(models):
        known = {group.name: group for group in model.groups}
        for row, one in ((row, known[name]) for row, name in enumerate(names) if name in known):
            y = row + (k - (len(models) - 1) / 2) * step
            ax.barh(y, one.relevance, height=step * 0.9, xerr=np.nan_to_num(1.96 * one.error),
                    color=colour(k), error_kw={"lw": 0.8, "ecolor": INK},
                    label=model.name if row == 0 else None)  # fmt: skip
    for row, name in enumerate(names):
        atoms = next(group.atoms for group in models[0].groups if group.name == name)
        ax.plot([atoms, atoms], [row - 0.44, row + 0.44], color=INK, lw=1.4)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel("share of Σ|R|", color=INK, labelpad=1)
    _legend(ax, models)
    _finish(ax)
    _inside(ax, 0.3)


def _draw_principle(ax: Axes, models: tuple[ModelFindings, ...], name: str) -> None:
    for k, model in enumerate(models):
        histograms = model.tally.principles
        counts = histograms.counts.get(name)
        if counts is not None and counts.sum():
            ax.stairs(counts / counts.sum(), histograms.edges, color=colour(k), lw=1.3,
                      label=model.name)  # fmt: skip
    ax.set_xlim(0, 1)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(f"deviation of {name}", color=INK, labelpad=1)
    ax.set_ylabel("share of molecules", color=INK)
    _legend(ax, models)
    _finish(ax)


def copied(model: ModelFindings, name: str) -> str:
    """Return the ratio of two copies to one as text; COPIED names the quantities."""
    means = model.close.copies
    k = means.row(name)
    return "–" if k is None else f"{means.signed[k, 0]:.3f}"


def shares_text(model: ModelFindings) -> list[str]:
    """Return the mean shares of one-body, two-body and higher orders over all molecules."""
    means = model.tally.orders
    rows = [means.row(f"share {name}") for name in ORDERS]
    return ["–" if k is None else f"{means.mean[k, 0]:.1%}" for k in rows]


__all__ = [
    "COPIED",
    "AnalysisFigure",
    "analysis_figures",
    "colour",
    "copied",
    "draw_bonds",
    "law_curve",
    "save_figures",
    "shares_text",
]
