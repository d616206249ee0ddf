"""Check before any simulation whether a calculator obeys physical principles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ase import Atoms

from mdxai.calculators import CalculatorError, Card, twin_of
from mdxai.calculators.reference_data import ReferenceData
from mdxai.errors import MdxaiError
from mdxai.forecast.weakest_barrier import WeakestBarrier
from mdxai.frame import Frame
from mdxai.principles import Deviation, Principle, PrincipleUnavailable, principles_for
from mdxai.principles.probes.probe_registry import probe_principles
from mdxai.principles.probes.repulsion import Dimers
from mdxai.serialization import as_json
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS, Threshold

RATTLE = 0.03  # Å, so that symmetry does not hide a fault
# Molecules of ASE's G2 set by the words that calculator names and cards use.
MOLECULES = {
    "ethanol": "CH3CH2OH", "methanol": "CH3OH", "benzene": "C6H6", "water": "H2O",
    "methane": "CH4", "ethane": "C2H6", "ammonia": "NH3", "acetaldehyde": "CH3CHO",
}  # fmt: skip
OF_TRAINING = ("contact", "beyond_training", "unlike_training", "force_beyond_training")
Progress = Callable[[str, int, int], None]  # name of the principle, number done, total


class CheckError(MdxaiError, ValueError):
    """A check that cannot be done as requested."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one probe.

    Attributes:
        name: of the principle.
        value: its deviation, in `unit`; NaN if there is none.
        allowed: the limit of a warning, in `unit`; NaN if there is none.
        unit: of both.
        verdict: "pass", "warn" (above `allowed`), "fail" (above the limit `unstable`, or NaN),
            "error" (the calculator failed during the probe) or "not checked".
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
        """Return plain data for JSON; numbers that are not finite become None."""
        plain: dict[str, Any] = as_json(asdict(self))
        return plain


def check(  # noqa: PLR0913 (one argument per choice)
    calculator: Any,
    atoms: Atoms,
    *,
    seed: int = 1,
    cutoff: float = math.nan,
    thresholds: Sequence[Threshold] = PROBE_THRESHOLDS,
    progress: Progress | None = None,
    reference: ReferenceData | None = None,
    search: bool = False,
) -> list[CheckResult]:
    """Probe a twin of a calculator near a structure, slightly rattled, and judge each principle.

    Args:
        calculator: any ASE calculator, which is copied and not evaluated itself, or a function that
            makes one.
        atoms: a relaxed or otherwise reasonable structure; it is not changed.
        seed: of the rattling.
        cutoff: of a calculator other than mdxai's, Å, if known.
        thresholds: one per principle.
        progress: called before each probe with the principle, the number done and the total.
        reference: what the model was trained on: the structure's distances and the largest force on
            its atoms are compared with it too.
        search: whether to search for weak spots in every case. Otherwise they are taken from the
            calculator's card, or searched for where that takes seconds (`WeakestBarrier`).

    Raises:
        CalculatorError: for a calculator that cannot be copied, or that fails on the structure.
        CheckError: for a structure without atoms.
    """
    if not len(atoms):
        raise CheckError("the structure has no atoms")
    twin = twin_of(calculator, cutoff=cutoff)
    shaken = atoms.copy()
    shaken.rattle(RATTLE, seed=seed)
    frame = Frame.from_atoms(shaken)
    results = twin.evaluate(frame)  # an error here concerns the structure, not a principle
    compared = [] if reference is None else _compared(frame.with_results(*results), reference)
    principles, unavailable = probe_principles(twin, frame)
    principles = [WeakestBarrier(calculator, twin, search), *principles]
    limits = {t.principle: t for t in thresholds}
    return [
        *compared,
        *_results(principles, frame, limits, progress),
        *_not_checked(unavailable, unavailable),
    ]


def _compared(frame: Frame, reference: ReferenceData) -> list[CheckResult]:
    """Judge the structure itself by what the model was trained on."""
    principles, unavailable = principles_for(frame, training=reference)
    limits = {t.principle: t for t in THRESHOLDS}
    judged = [_judged(p, frame, limits[p.name]) for p in principles if p.name in OF_TRAINING]
    return judged + _not_checked(unavailable, OF_TRAINING)


def _not_checked(unavailable: Mapping[str, str], names: Iterable[str]) -> list[CheckResult]:
    return [
        CheckResult(name, math.nan, math.nan, "", "not checked", remedy=unavailable[name])
        for name in names
        if name in unavailable
    ]


def worst_verdict(results: Sequence[CheckResult]) -> str:
    """Return the worst verdict of all principles checked: "fail", "error", "warn" or "pass"."""
    found = {result.verdict for result in results}
    return next((verdict for verdict in ("fail", "error", "warn") if verdict in found), "pass")


def _results(
    principles: Sequence[Principle],
    frame: Frame,
    thresholds: Mapping[str, Threshold],
    progress: Progress | None,
) -> Iterator[CheckResult]:
    for done, principle in enumerate(principles):
        if progress is not None:
            progress(principle.name, done, len(principles))
        yield _judged(principle, frame, thresholds.get(principle.name))


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
    if isinstance(principle, WeakestBarrier) and notes:
        notes.insert(0, principle.note)
    if isinstance(principle, Dimers):
        notes += _on_pairs(principle)
    return CheckResult(
        name, deviation.value, threshold.warn, unit, verdict, deviation.atoms, "; ".join(notes)
    )


def _on_pairs(dimers: Dimers) -> list[str]:
    """Return which pairs were refused, and how pairs were isolated."""
    causes: dict[str, list[str]] = {}
    for pair, cause in dimers.refused.items():
        causes.setdefault(cause, []).append(pair)
    notes = [f"without {', '.join(pairs)} ({cause})" for cause, pairs in causes.items()]
    return notes + ([dimers.note] if dimers.note else [])


def verdict_of(deviation: Deviation, threshold: Threshold) -> str:
    """Return "pass", "warn" or "fail"; NaN fails."""
    if deviation.value <= threshold.warn:
        return "pass"
    return "warn" if deviation.value <= threshold.unstable else "fail"


def default_structure(card: Card | None) -> str:
    """Return the G2 molecule that a calculator was trained on, from the words of its card.

    Raises:
        CheckError: when there is no card, or it names none of the known molecules.
    """
    if card is not None:
        words = f"{card.name} {card.provenance.get('data', '')}".lower()
        for word, molecule in MOLECULES.items():
            if word in words:
                return molecule
    raise CheckError(
        "the calculator does not say which structure it is for; give a file that ASE can read, or "
        "a molecule of ASE's G2 set such as CH3CH2OH"
    )
