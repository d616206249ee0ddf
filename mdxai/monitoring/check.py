"""Probe a calculator for what physics demands of it, before any simulation."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ase import Atoms

from mdxai.calculators import CalculatorError, Card, Potential, load_calculator, twin_of
from mdxai.errors import MdxaiError
from mdxai.frame import Frame
from mdxai.principles import Deviation, Principle, PrincipleUnavailable
from mdxai.principles.probes.probe_registry import probe_principles
from mdxai.principles.probes.repulsion import Dimers
from mdxai.serialization import as_json
from mdxai.stability.thresholds import PROBE_THRESHOLDS, Threshold

RATTLE = 0.03  # Å, so that symmetry hides nothing
BUILT_IN = {"emt": "ase.calculators.emt:EMT", "lj": "ase.calculators.lj:LennardJones"}
# Molecules of ASE's G2 set by the words in names and cards of calculators.
MOLECULES = {
    "ethanol": "CH3CH2OH", "methanol": "CH3OH", "benzene": "C6H6", "water": "H2O",
    "methane": "CH4", "ethane": "C2H6", "ammonia": "NH3", "acetaldehyde": "CH3CHO",
}  # fmt: skip
Progress = Callable[[str, int, int], None]  # name of the principle, how many done, of how many


class CheckError(MdxaiError, ValueError):
    """A check that cannot be made as asked."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One principle, probed.

    Attributes:
        name: of the principle.
        value: its deviation, in `unit`; NaN where there is none.
        allowed: the deviation from which on it counts, in `unit`; NaN where there is none.
        unit: of both.
        verdict: "pass", "warn" (above `allowed`), "fail" (far above it, or NaN), "error" (the
            calculator fails when probed) or "not checked".
        atoms: those that break the principle.
        remedy: what to do, or why the principle was not checked.
    """

    name: str
    value: float
    allowed: float
    unit: str
    verdict: str
    atoms: tuple[int, ...] = ()
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; numbers that are not finite are None."""
        plain: dict[str, Any] = as_json(asdict(self))
        return plain


def check(
    calculator: Any,
    atoms: Atoms,
    *,
    seed: int = 1,
    cutoff: float = math.nan,
    thresholds: Sequence[Threshold] = PROBE_THRESHOLDS,
    progress: Progress | None = None,
) -> list[CheckResult]:
    """Probe a twin of a calculator around a structure, slightly rattled, and judge each principle.

    Args:
        calculator: any ASE calculator, which is copied and never evaluated, or a function that
            makes one.
        atoms: a relaxed or otherwise sensible structure; it is only read.
        seed: of the rattling.
        cutoff: of a calculator other than mdxai's, Å, where known.
        thresholds: one per principle.
        progress: called before each principle is probed: its name, how many are done, of how many.

    Raises:
        CalculatorError: for a calculator that cannot be copied, or that fails on the structure.
        CheckError: for a structure without atoms.
    """
    if not len(atoms):
        raise CheckError("the structure holds no atoms")
    twin = twin_of(calculator, cutoff=cutoff)
    shaken = atoms.copy()
    shaken.rattle(RATTLE, seed=seed)
    frame = Frame.from_atoms(shaken)
    twin.evaluate(frame)  # an error here is about the structure, not about a principle
    return list(_results(twin, frame, {t.principle: t for t in thresholds}, progress))


def worst_verdict(results: Sequence[CheckResult]) -> str:
    """Return "fail", "error", "warn" or "pass", the worst of all that were checked."""
    found = {result.verdict for result in results}
    return next((verdict for verdict in ("fail", "error", "warn") if verdict in found), "pass")


def _results(
    twin: Potential,
    frame: Frame,
    thresholds: Mapping[str, Threshold],
    progress: Progress | None,
) -> Iterator[CheckResult]:
    principles, unavailable = probe_principles(twin, frame)
    for done, principle in enumerate(principles):
        if progress is not None:
            progress(principle.name, done, len(principles))
        yield _judged(principle, frame, thresholds.get(principle.name))
    for name, reason in unavailable.items():
        yield CheckResult(name, math.nan, math.nan, "", "not checked", remedy=reason)


def _judged(principle: Principle, frame: Frame, threshold: Threshold | None) -> CheckResult:
    name, unit = principle.name, principle.unit
    try:
        deviation = principle.deviate(frame, None)
    except PrincipleUnavailable as reason:
        return CheckResult(name, math.nan, math.nan, unit, "not checked", remedy=str(reason))
    except CalculatorError as error:
        return CheckResult(name, math.nan, math.nan, unit, "error", remedy=str(error))
    if deviation is None:
        why = "nothing to measure in this structure"
        return CheckResult(name, math.nan, math.nan, unit, "not checked", remedy=why)
    if threshold is None:
        return CheckResult(
            name, deviation.value, math.nan, unit, "not checked", deviation.atoms,
            "measured, not judged: no limit follows from physics",
        )  # fmt: skip
    verdict = verdict_of(deviation, threshold)
    notes = [] if verdict == "pass" else [threshold.advice]
    refused = principle.refused if isinstance(principle, Dimers) else {}
    if refused:
        notes.append(f"without {', '.join(refused)} ({next(iter(refused.values()))})")
    return CheckResult(
        name, deviation.value, threshold.warn, unit, verdict, deviation.atoms, "; ".join(notes)
    )


def verdict_of(deviation: Deviation, threshold: Threshold) -> str:
    """Return "pass", "warn" or "fail"; NaN fails."""
    if deviation.value <= threshold.warn:
        return "pass"
    return "warn" if deviation.value <= threshold.unstable else "fail"


def calculator_factory(
    source: str, arguments: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> Callable[[], Any]:
    """Return a function that makes the calculator that a user named.

    Args:
        source: name, folder or file of a network; "emt" or "lj" of ASE; or "package.module:name"
            of a class or function, which is imported and called.
        arguments: "key=value" of an imported calculator; a value is a Python literal or else text.
        options: keyword arguments of `load_calculator`, for a network.

    Raises:
        CheckError: for something that cannot be imported or called like this, or a bad argument.
        CalculatorError: for a network that cannot be loaded.
    """
    target = BUILT_IN.get(source, source)
    if Path(source).exists() or ":" not in target:
        if arguments:
            raise CheckError(f"--arg is for calculators that are imported; {source} is not one")
        network = load_calculator(source, **(options or {}))
        return lambda: network
    make, keywords = _imported(target), dict(_keyword(argument) for argument in arguments)

    def factory() -> Any:
        try:
            return make(**keywords)
        except Exception as error:  # constructors raise whatever they like
            raise CheckError(
                f"{target} cannot be called: {type(error).__name__}: {error}"
            ) from error

    return factory


def _imported(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    try:
        made = getattr(import_module(module), name)
    except Exception as error:  # importing runs any code
        raise CheckError(
            f"{target!r} cannot be imported ({type(error).__name__}: {error}); expected "
            "package.module:name of a class or function that makes an ASE calculator"
        ) from error
    if not callable(made):
        raise CheckError(f"expected {target!r} to be a class or function, got {made!r}")
    return made  # type: ignore[no-any-return]


def _keyword(argument: str) -> tuple[str, Any]:
    key, equals, text = argument.partition("=")
    if not (equals and key.isidentifier()):
        raise CheckError(f"expected key=value after --arg, got {argument!r}")
    try:
        return key, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return key, text


def default_structure(card: Card | None) -> str:
    """Return the G2 molecule that a calculator was trained on, by the words of its card.

    Raises:
        CheckError: when the card names none of MOLECULES, or there is no card.
    """
    if card is not None:
        words = f"{card.name} {card.provenance.get('data', '')}".lower()
        for word, molecule in MOLECULES.items():
            if word in words:
                return molecule
    raise CheckError(
        "nothing says which structure this calculator is for; give a file that ASE reads, or a "
        "molecule of ASE's G2 set such as CH3CH2OH"
    )
