"""`mdxai attribute`, `check` and `calculators`: one structure or one calculator, no simulation."""

from __future__ import annotations

from dataclasses import asdict
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mdxai.cli.arguments import (
    AnyNetwork,
    AsJson,
    Calculator,
    Explanation,
    Probing,
    Rule,
    Shown,
    Structure,
)
from mdxai.cli.console import (
    ExitCode,
    complain,
    escape,
    loading,
    print_json,
    print_table,
    say,
    spinner,
)

if TYPE_CHECKING:
    from ase import Atoms

    from mdxai.attribution import Attribution
    from mdxai.calculators import Card
    from mdxai.monitoring.check import CheckResult

CheckedStructure = Annotated[
    str | None,
    typer.Argument(
        help="File that ASE reads (its last frame), or a G2 molecule's name. Default: the "
        "molecule that a network of mdxai was trained on, where the G2 set has it."
    ),
]
LONG = 40  # characters of a remedy that is not repeated
COLOURS = {
    "pass": "green", "warn": "yellow", "fail": "bold red", "error": "bold red",
    "not checked": "dim",
}  # fmt: skip


def attribute(
    calculator: Calculator,
    structure: Structure,
    rule: Rule,
    network: AnyNetwork,
    explanation: Explanation,
) -> None:
    """Explain one structure: which interactions the model's energy comes from."""
    with loading(explanation.json_out is not None):
        from mdxai.attribution import attributor
        from mdxai.monitoring.run import read_structure

    atoms = read_structure(structure)
    potential = network.factory(calculator)()
    attribution = attributor(potential, **asdict(rule)).attribute(atoms)
    _write_explanation(explanation, atoms, attribution)
    if explanation.json_out is None:
        _print_attribution(attribution, atoms.get_chemical_symbols(), explanation.top)
    elif str(explanation.json_out) == "-":
        print_json(attribution.as_dict())


def _write_explanation(to: Explanation, atoms: Atoms, attribution: Attribution) -> None:
    import json

    from mdxai.monitoring.run import SettingsError

    try:
        if to.picture is not None:
            from mdxai.report import draw_molecule

            draw_molecule(atoms, attribution).figure.savefig(to.picture, dpi=150)  # type: ignore[union-attr]
        if to.json_out is not None and str(to.json_out) != "-":
            text = json.dumps(attribution.as_dict(), allow_nan=False)
            to.json_out.write_text(text + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:  # matplotlib refuses unknown formats by ValueError
        raise SettingsError(f"the explanation cannot be written: {error}") from error


def _print_attribution(attribution: Attribution, symbols: list[str], top: int) -> None:
    from rich.table import Table

    hessian = attribution.method == "hessian"
    unit = "eV/Å²" if hessian else "eV"
    measure = {"flow": "flow", "hessian": "norm"}.get(attribution.method, "two-body")
    order = sorted(range(len(attribution.pairs)), key=lambda k: -abs(attribution.strengths[k]))
    table = Table(title=f"Strongest {min(top, len(order))} of {len(order)} pairs")
    for heading in ("pair", "distance / Å", f"{measure} / {unit}"):
        table.add_column(heading, justify="left" if heading == "pair" else "right")
    for k in order[:top]:
        i, j = int(attribution.pairs.i[k]), int(attribution.pairs.j[k])
        table.add_row(
            f"{symbols[i]}{i}–{symbols[j]}{j}", f"{attribution.pairs.distances[k]:.3f}",
            f"{attribution.strengths[k]:{'' if hessian else '+'}.4f}",
        )  # fmt: skip
    print_table(table)
    if not hessian:
        say(_sums(attribution))


def _sums(attribution: Attribution) -> str:
    from mdxai.attribution.model_agnostic import odd_fragments

    names = ["one-body", "two-body", "three-body"][: len(attribution.by_body_order) - 1]
    names.append("all higher" if names else "all orders")
    orders = zip(names, attribution.by_body_order, strict=True)
    shares = ", ".join(f"{name} {value:+.3f}" for name, value in orders) + " eV\n"
    if attribution.method == "expansion":
        odd, of = odd_fragments(attribution.numbers, len(attribution.by_body_order) - 1)
        return (
            f"{shares}energy {attribution.output:.3f} eV; method expansion\n"
            f"{odd} of {of} fragments are radicals (an odd number of electrons), taken as neutral "
            "and in their lowest spin: read their terms with care"
        )
    return (
        f"{shares}output {attribution.output:.3f} eV = relevance "
        f"{attribution.relevance_total:.3f} + residual {attribution.residual:.3f} (absorbed by "
        f"biases); method {attribution.method}"
    )


def check(
    calculator: Calculator,
    structure: CheckedStructure = None,
    *,
    probing: Probing,
    network: AnyNetwork,
    shown: Shown,
) -> None:
    """Probe a calculator for what physics demands: before any simulation."""
    with loading(shown.silent):
        from mdxai.calculators import card_of
        from mdxai.calculators.model_name import model_name
        from mdxai.calculators.reference_data import ReferenceData
        from mdxai.monitoring.check import check as probe
        from mdxai.monitoring.check import default_structure, worst_verdict
        from mdxai.monitoring.run import read_structure
        from mdxai.stability.thresholds import PROBE_THRESHOLDS, load_thresholds

    make = network.factory(calculator)
    made = make()
    structure = structure or default_structure(card_of(made))
    atoms = read_structure(structure)
    limits = load_thresholds(probing.thresholds) if probing.thresholds else PROBE_THRESHOLDS
    with spinner(shown.silent, "probing") as status:
        results = probe(
            make, atoms, seed=probing.seed, cutoff=probing.cutoff, thresholds=limits,
            search=probing.weak_spots,
            reference=None if probing.reference_data is None
            else ReferenceData.load(probing.reference_data),
            progress=None if status is None
            else lambda name, done, of: status.update(f"probing {name} ({done + 1} of {of})"),
        )  # fmt: skip
    verdict = worst_verdict(results)
    if shown.as_json:
        print_json({
            "calculator": calculator, "model": model_name(made), "structure": structure,
            "verdict": verdict,
            "results": [result.as_dict() for result in results],
        })  # fmt: skip
    elif not shown.quiet:
        title = f"{model_name(made)}, {structure}: {verdict}"
        _print_check(results, title, atoms.get_chemical_symbols())
    raise typer.Exit(ExitCode.UNSTABLE if verdict in ("fail", "error") else ExitCode.DONE)


def _print_check(results: list[CheckResult], title: str, symbols: list[str]) -> None:
    from rich.table import Table

    table = Table(title=title)
    for heading in ("principle", "value", "allowed", "unit", "verdict", "atoms", "remedy"):
        right = heading in ("value", "allowed")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "remedy")
    said: set[str] = set()
    for r in results:
        again = len(r.remedy) > LONG and r.remedy in said  # one cause is told once
        said.add(r.remedy)
        value, allowed = ("" if isnan(x) else f"{x:.2g}" for x in (r.value, r.allowed))
        if r.verdict == "fail" and isnan(r.value):
            value = "NaN"
        table.add_row(
            r.name, value, allowed, r.unit, f"[{COLOURS[r.verdict]}]{r.verdict}[/]",
            "–".join(f"{symbols[a]}{a}" for a in r.atoms),
            "as above" if again else escape(r.remedy),
        )  # fmt: skip
    print_table(table)


def calculators(as_json: AsJson = False) -> None:
    """List the calculators that can be used by name."""
    from mdxai.calculators.card import CalculatorError, Card
    from mdxai.calculators.library import list_calculators

    cards = {}
    for name, path in list_calculators().items():
        try:
            cards[name] = Card.load(path / "card.toml")
        except CalculatorError as damaged:
            complain(f"left out: {damaged}")
    if as_json:
        print_json({name: _card_summary(card) for name, card in cards.items()})
    else:
        _print_cards(cards)


def _print_cards(cards: dict[str, Card]) -> None:
    from rich.table import Table

    table = Table(title="Calculators (MAE: of forces on the test split, meV/Å; frames: trained on)")
    for heading in ("name", "network", "elements", "cutoff / Å", "MAE", "frames"):
        table.add_column(heading, no_wrap=True)
    for name, card in cards.items():
        row = _card_summary(card)
        error = row["force_mae_mev_per_ang"]
        table.add_row(
            name, row["network"], " ".join(card.elements), f"{card.cutoff:g}",
            "" if error is None else f"{error:.1f}",
            str(row["data"] or "").partition(": ")[2].partition(" ")[0],
        )  # fmt: skip
    print_table(table)


def _card_summary(card: Card) -> dict[str, Any]:
    network = card.network
    shape = f"{network['n_atom_basis']}×{network['n_interactions']}"
    return {
        "network": f"{network['type']} {shape}",
        "elements": list(card.elements),
        "cutoff_ang": card.cutoff,
        "force_mae_mev_per_ang": card.errors.get("force_mae_mev_per_ang"),
        "data": card.provenance.get("rows"),
    }
