"""An analysis as one HTML file: what networks have learned over a data set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from markupsafe import Markup

from mdxai.analysis import Analysis, ModelFindings
from mdxai.analysis.analysis_result import Estimate, centres
from mdxai.analysis.decay_laws import Law
from mdxai.analysis.histograms import Offender
from mdxai.analysis.molecule_tally import WIDTH
from mdxai.frame import Frame
from mdxai.principles import bonds_of
from mdxai.report.analysis_figures import (
    COPIED,
    AnalysisFigure,
    analysis_figures,
    copied,
    save_figures,
    shares_text,
)
from mdxai.report.inline_svg import inline_svg
from mdxai.report.molecule_pictures import draw_molecule
from mdxai.report.page import now_text, write_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS = 6  # element pairs of a model in the table of the decay principles
LISTED = 24  # kinds of pairs in the table
PICTURE = (2.6, 1.9)  # inches
FIGURES = "figures"
LAW_WORDS = {"power": "r⁻ⁿ, n =", "exponential": "exp(−r/λ), λ / Å =", "cutoff": "f(r)ᵖ, p ="}

GROWTH_WORDS = {
    "output": "|output|", "atoms": "Σ|R atoms|", "pairs": "Σ|R pairs|",
    "atoms that take part": "atoms that take part",
}  # fmt: skip

Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure on the page, with its caption."""

    picture: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first `words` columns are words, the others numbers."""

    headings: tuple[str, ...]
    rows: Rows
    words: int = 1


@dataclass(frozen=True, slots=True)
class WorstView:
    """The molecules that break one principle most."""

    principle: str
    pictures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class AnalysisView:
    """All that the page says; the template lays it out. `figures` and `tables` by section."""

    formula: tuple[str, ...]
    names: str
    path: str
    mark: str
    word: str
    lead: str
    facts: tuple[tuple[str, str], ...]
    figures: dict[str, tuple[Figure, ...]]
    tables: dict[str, Table]
    worst: tuple[WorstView, ...]
    notes: tuple[str, ...]
    written: str


def write_analysis_page(found: Analysis, folder: str | os.PathLike[str]) -> Path:
    """Write the page of an analysis into its folder, `report.html`, and the figures as PNG and SVG
    into `figures/`; return the page's path.

    Raises:
        RecordError: where it cannot be written.
    """
    figures = analysis_figures(found)
    save_figures(figures, Path(folder) / FIGURES)
    return write_view("analysis.html", analysis_view(found, figures, Path(folder)), folder)


def analysis_view(
    found: Analysis, figures: dict[str, list[AnalysisFigure]], folder: Path
) -> AnalysisView:
    """Return what the page says; `folder` is where it lies."""
    models = found.models
    return AnalysisView(
        (Path(found.data).name,), _names(models), str(folder), "plain",
        f"{found.n_used:,} structure{'' if found.n_used == 1 else 's'}".replace(",", " "),
        f"explained as {_names(models)} "
        f"{'sees' if len(models) == 1 else 'see'} them",
        tuple(_facts(found)),
        {name: tuple(map(_shown, some)) for name, some in figures.items()},
        {
            "models": _models_table(models), "bonds": _bonds_table(models),
            "laws": _laws_table(models), "growth": _growth_table(models),
            "groups": _groups_table(models), "guard": _guard_table(models),
            "principles": _principles_table(models),
            "decay_principles": _decay_principles_table(models), "left_out": _left_out_table(found),
        },
        tuple(_worst(models[0])), tuple(_notes(found)),
        f"Analysed by mdxai {version('mdxai')}, written {now_text()}.",
    )  # fmt: skip


def _names(models: tuple[ModelFindings, ...]) -> str:
    names = [model.name for model in models]
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _shown(figure: AnalysisFigure) -> Figure:
    return Figure(inline_svg(figure.draw, figure.size, figure.caption), figure.caption)


def _facts(found: Analysis) -> list[tuple[str, str]]:
    first = found.models[0]
    facts = []
    strongest = next((b for b in first.common_bonds if not b.name.endswith("self")), None)
    if strongest is not None:
        facts.append(("Strongest kind of pair", f"{strongest.name}, {strongest.mean:.3g} "
                      f"{first.unit}"))  # fmt: skip
    if first.against_enthalpies.is_known:
        facts.append(("Rank correlation with bond enthalpies", estimate(first.against_enthalpies)))
    if first.against_wiberg.is_known:
        facts.append(("Rank correlation with Wiberg orders", estimate(first.against_wiberg)))
    kinds = [decay.laws[0].kind for decay in first.decays]
    if kinds:
        best = max(set(kinds), key=kinds.count)
        facts.append(("Decay that fits most element pairs", f"{best} ({kinds.count(best)} of "
                      f"{len(kinds)})"))  # fmt: skip
    one, two, higher = shares_text(first)
    facts.append(("One-body, two-body, higher", f"{one}, {two}, {higher}"))
    growth = first.growth["atoms"]
    if growth.is_known:
        facts.append(("Σ|R| grows with the number of atoms to the power", estimate(growth)))
    return facts


def estimate(found: Estimate) -> str:
    """Return a number with its 95 % interval as text."""
    if not found.is_known:
        return "–"
    return f"{_number(found.value)} ({_number(found.low)} to {_number(found.high)})"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−").replace("inf", "∞")


def _ranked(found: Estimate, what: str) -> str:
    return f"{estimate(found)[:-1]}; {found.n} {what})" if found.is_known else "–"


def _models_table(models: tuple[ModelFindings, ...]) -> Table:
    rows = tuple(
        (m.name, str(m.model["kind"]), f"{m.model['output']} ({m.model['pooling']})",
         f"{m.cutoff:g}", str(m.model["n_layers"]), _ranked(m.against_enthalpies, "kinds"),
         _ranked(m.against_wiberg, "bonds"), *shares_text(m))
        for m in models
    )  # fmt: skip
    headings = ("model", "network", "output (pooling)", "cutoff / Å", "blocks", "ρ with enthalpies",
                "ρ with Wiberg orders", "one-body", "two-body", "higher")  # fmt: skip
    return Table(headings, rows, 3)


def _bonds_table(models: tuple[ModelFindings, ...]) -> Table:
    names = [b.name for b in models[0].common_bonds][:LISTED]
    known = [{b.name: b for b in model.bonds} for model in models]
    rows = []
    for name in names:
        first = known[0][name]
        reference = "" if first.reference is None else f"{first.reference:.2f}"
        strengths = [
            f"{some[name].mean:.3g} ± {1.96 * some[name].error:.1g}" if name in some else "–"
            for some in known
        ]
        rows.append((name, f"{first.count}", f"{first.molecules}", reference, *strengths))
    headings = ("kind of pair", "pairs", "molecules", "enthalpy / eV",
                *(f"{m.name} / {m.unit}" for m in models))  # fmt: skip
    return Table(headings, tuple(rows))


def _laws_table(models: tuple[ModelFindings, ...]) -> Table:
    rows = []
    for model in models:
        for decay in model.decays[:10]:
            best, power = decay.laws[0], decay.law("power")
            holds = "nowhere" if np.isnan(best.holds[0]) else _range(best.holds)
            rows.append((
                decay.pair, model.name,
                _law_text(best), f"{decay.preference:.1f}", holds,
                "–" if power is None else _interval(power),
                _range(decay.fitted),
            ))  # fmt: skip
    headings = ("pair", "model", "best law", "½ΔAIC", "holds within 10 % / Å", "n of r⁻ⁿ",
                "fitted / Å")  # fmt: skip
    return Table(headings, tuple(rows), 3)


def _law_text(law: Law) -> str:
    if law.kind == "exponential" and not law.low <= law.value <= law.high:
        return "exp(−r/λ) that does not fall"
    return f"{LAW_WORDS[law.kind]} {_interval(law)}"


def _interval(law: Law) -> str:
    return f"{_number(law.value)} ({_number(law.low)} to {_number(law.high)})"


def _range(span: tuple[float, float]) -> str:
    return f"{span[0]:.2f} to {span[1]:.2f}"


def _growth_table(models: tuple[ModelFindings, ...]) -> Table:
    names = [n for n in GROWTH_WORDS if any(m.growth[n].is_known for m in models)]
    rows = tuple(
        (m.name, *(estimate(m.growth[name]) for name in names),
         *(copied(m, name) for name in COPIED))
        for m in models
    )  # fmt: skip
    headings = ("model", *(GROWTH_WORDS[name] for name in names), "two copies: output",
                "two copies: Σ|R|")  # fmt: skip
    return Table(headings, rows)


def _groups_table(models: tuple[ModelFindings, ...]) -> Table:
    rows = []
    for name in [group.name for group in models[0].groups]:
        for model in models:
            one = next((group for group in model.groups if group.name == name), None)
            if one is not None:
                share = plus_minus(one.relevance, 1.96 * one.error)
                rows.append((
                    name, model.name, str(one.molecules), share,
                    f"{one.atoms:.1%}", f"{one.relevance / one.atoms:.2f}",
                    "" if np.isnan(one.heaviest) else f"{one.heaviest:.0%}",
                ))  # fmt: skip
    headings = ("group", "model", "molecules", "share of Σ|R|", "share of atoms", "ratio",
                "heaviest in")  # fmt: skip
    return Table(headings, tuple(rows), 2)


def plus_minus(share: float, half: float) -> str:
    """Return a share with half its interval as text, in per cent."""
    known = f" ± {100 * half:.1f}" if np.isfinite(half) else ""
    return f"{100 * share:.1f}{known} %"


def _guard_table(models: tuple[ModelFindings, ...]) -> Table:
    rows = []
    for model in models:
        guard = model.tally.guard
        middles = centres(guard, WIDTH)
        for k, pair in enumerate(guard.names):
            held = np.flatnonzero(guard.count[k])
            count = guard.count[k][held]
            mean = float((guard.mean[k][held] * count).sum() / count.sum())
            span = middles[held[0]] - WIDTH / 2, middles[held[-1]] + WIDTH / 2
            rows.append((pair, model.name, str(count.sum()), _range(span), f"{mean:.3g}"))
    return Table(("pair", "model", "pairs", "at / Å", "mean energy / eV"), tuple(rows), 2)


def _guard_notes(models: tuple[ModelFindings, ...]) -> list[str]:
    notes = []
    for model in models:
        means = model.tally.guarded
        acts, energy = means.row("acts"), means.row("energy")
        if acts is not None and energy is not None:
            notes.append(
                f"The guard of {model.name} acts in {means.mean[acts, 0]:.1%} of the molecules and "
                f"adds {means.signed[energy, 0]:.3g} eV to each on the mean. Its energies are kept "
                "apart: every strength on this page is the network's own."
            )
    return notes


def _principles_table(models: tuple[ModelFindings, ...]) -> Table:
    rows = []
    for model in models:
        histograms = model.tally.principles
        for name, counts in histograms.counts.items():
            low, mid, high = (f"{histograms.quantile(name, q):.2f}" for q in (0.05, 0.5, 0.95))
            rows.append((name, model.name, str(int(counts.sum())), low, mid, high))
    headings = ("principle", "model", "molecules", "5 %", "median", "95 %")
    return Table(headings, tuple(rows), 2)


def _decay_principles_table(models: tuple[ModelFindings, ...]) -> Table:
    rows = []
    for model in models:
        worst = sorted(model.decay_principles.items(), key=lambda item: -item[1].rise)
        for pair, decay in worst[:PAIRS]:
            rows.append((
                pair, model.name, f"{decay.rise:.2f}", f"{decay.worst:.2f}",
                f"{max(0.0, 1 - decay.high):.2f}", f"{max(0.0, decay.prefers_exponential):.2f}",
                "–" if np.isnan(decay.tail) else f"{decay.tail:.3f}",
            ))  # fmt: skip
    headings = ("pair", "model", "decay_rise", "worst at / Å", "decay_exponent", "decay_form",
                "decay_tail")  # fmt: skip
    return Table(headings, tuple(rows), 2)


def _left_out_table(found: Analysis) -> Table:
    rows = tuple(
        (one.reason, str(one.count), ", ".join(map(str, one.first))) for one in found.left_out
    )
    return Table(("reason", "entries", "first"), rows)


def _worst(model: ModelFindings) -> list[WorstView]:
    return [
        WorstView(f"{principle} most, as {model.name} sees them", tuple(map(_picture, worst)))
        for principle, worst in model.tally.worst.found.items()
        if worst
    ]


def _picture(one: Offender) -> Figure:
    frame = Frame.from_atoms(Atoms(list(one.numbers), np.array(one.positions)))
    caption = f"entry {one.index}, {one.formula}: {one.value:.2f}"
    return Figure(inline_svg(partial(_draw, frame), PICTURE, caption, white=True), caption)


def _draw(frame: Frame, ax: Axes) -> None:
    i, j = bonds_of(frame)
    draw_molecule(frame, None, bonds=zip(i.tolist(), j.tolist(), strict=True), ax=ax)
    ax.margins(0.25)  # room for the atoms
    ax.set_position((0.02, 0.02, 0.96, 0.96))


def _notes(found: Analysis) -> list[str]:
    notes = [
        "Strength is the absolute value of exactly two-body relevance. Relevance says where the "
        "network's output comes from under one rule; it is no energy.",
        "A molecule is one observation: standard errors are over molecules. Frames of one "
        "molecule count as molecules; then the intervals say nothing about other molecules.",
        "Kinds of bonds are read from the geometry alone.",
        f"{found.n_read - found.n_used} of {found.n_read} entries were left out.",
        *_guard_notes(found.models),
    ]
    precise = found.models[0].close.precision
    if precise.names:
        notes.append(
            "The largest change of a pair's relevance in float64 is, of the largest relevance, "
            f"{precise.mean[0, 0]:.1e} on the mean ({found.models[0].name})."
        )
    closely = int(sum(model.close.copies.count.max(initial=0) for model in found.models[:1]))
    if closely:
        notes.append(f"{closely} molecules, spread over the data, were looked at closely.")
    return notes
