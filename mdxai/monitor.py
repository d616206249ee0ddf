"""Monitor: an observer of molecular dynamics that explains, checks, records and judges."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from ase.md.md import MolecularDynamics

from mdxai.attribution import Attribution, AttributionUnavailable, Attributor, attributor
from mdxai.calculators import CalculatorError, twin_of
from mdxai.engines import AseEngine, Engine
from mdxai.frame import Frame
from mdxai.principles import (
    LEARNED,
    Deviation,
    Principle,
    PrincipleUnavailable,
    learned_principles,
    principles_for,
    probes,
)
from mdxai.record import RecordSettings, RunWriter, refuse_other_run
from mdxai.statistics import BinnedMoments, ElementPairChannels
from mdxai.thresholds import PROBE_THRESHOLDS, THRESHOLDS, Threshold, require_known
from mdxai.verdict import Court, Verdict

Reaction = Literal["ignore", "warn", "halt"] | Callable[[Verdict], None]


class InstabilityWarning(UserWarning):
    """A monitored trajectory became unstable."""


@dataclass(slots=True)
class Cost:
    """Wall time since the first frame, s: all of it, the monitor's own, and of that attribution.

    n_attributions counts explained frames.
    """

    total: float = 0.0
    monitor: float = 0.0
    attribution: float = 0.0
    n_attributions: int = 0

    @property
    def share(self) -> float:
        """The monitor's share of the wall time."""
        return self.monitor / self.total if self.total > 0 else 0.0


class Monitor:
    """Watches an ASE run. Attach it like any observer; leave the `with` block to finish the record.

        with mdxai.Monitor(dyn, "runs/ethanol", attribute_every=10) as monitor:
            dyn.attach(monitor, interval=1)
            dyn.run(20_000)
        print(monitor.verdict)

    It reads what the calculator has computed anyway and explains on a twin of the model, so the
    trajectory is bit-identical to the unmonitored one.

    Args:
        dynamics: an ASE MolecularDynamics object, or another Engine.
        path: run directory to write; None keeps no record.
        attribute_every: explain frames whose MD step is a multiple of this; 0 never.
        probe_every: probe a twin of the calculator, as `mdxai check` does, at frames whose MD step
            is a multiple of this; 0 never. One round takes as long as thousands of steps.
        gamma: γ of the attribution rule.
        thresholds: what deviations count; `mdxai.load_thresholds` reads a file of changes.
        expected: reactions that are wanted: bonds that may break and form, such as "C1-O2" (atoms
            numbered from 0) or "O-H" (elements).
        on_unstable: "warn" (default), "ignore", "halt" (end the run after this step), or a
            function that is given the verdict. Called once.
        record: what is kept, in which precision, and how often it is written.
        context: entries for run.toml, such as seeds and the command line.

    Raises:
        RecordError: when `path` already holds a run.
        TypeError, ValueError: for unusable arguments.
    """

    def __init__(  # noqa: PLR0913 (every choice of a user's one line)
        self,
        dynamics: MolecularDynamics | Engine,
        path: str | os.PathLike[str] | None = None,
        *,
        attribute_every: int = 10,
        probe_every: int = 0,
        gamma: float = 0.1,
        thresholds: Sequence[Threshold] = THRESHOLDS,
        expected: Sequence[str] = (),
        on_unstable: Reaction = "warn",
        record: RecordSettings | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        for name, steps in (("attribute_every", attribute_every), ("probe_every", probe_every)):
            if not (steps >= 0 and steps == int(steps)):
                raise ValueError(f"{name} must be 0 or a positive whole number, got {steps}")
        if not (callable(on_unstable) or on_unstable in ("ignore", "warn", "halt")):
            raise ValueError(
                f"on_unstable must be 'ignore', 'warn', 'halt' or a function, got {on_unstable!r}"
            )
        self._engine = dynamics if isinstance(dynamics, Engine) else AseEngine(dynamics)
        self._writer: RunWriter | None = None
        if path is not None:
            self._writer = RunWriter(path, record)
            refuse_other_run(self._writer.path)
        self._attribute_every, self._probe_every = attribute_every, probe_every
        self._gamma = gamma
        self._thresholds = require_known(thresholds)
        self._expected = (expected,) if isinstance(expected, str) else tuple(expected)
        self._finished = False
        self._on_unstable = on_unstable
        self._context = dict(context or {})
        self._court = Court()
        self._principles: list[Principle] | None = None
        self._attributor: Attributor | None = None
        self.last_step: int | None = None
        self._reacted = False
        self._started = 0.0
        self.cost = Cost()
        self.profile: BinnedMoments | None = None
        self.last_attribution: Attribution | None = None

    @property
    def verdict(self) -> Verdict:
        """The judgement of what has been seen so far."""
        return self._court.verdict()

    def __call__(self) -> None:
        """Take in the present instant; ASE calls this."""
        if self._finished:
            warnings.warn("the monitor is finished and sees no more frames", stacklevel=2)
            return
        begin = time.perf_counter()
        self._take(self._engine.frame(), begin)

    def take(
        self, frame: Frame, attribution: Attribution | None = None, *, explain: bool = True
    ) -> None:
        """Take in one frame, with its explanation where the caller has made it already.

        For engines that hand out frames in batches; ASE's call the monitor itself.

        Args:
            frame: the present instant.
            attribution: its explanation.
            explain: whether the monitor explains a frame itself that comes without, when it is due.
        """
        self._take(frame, time.perf_counter(), attribution, explain=explain)

    def _take(
        self,
        frame: Frame,
        begin: float,
        attribution: Attribution | None = None,
        *,
        explain: bool = True,
    ) -> None:
        if frame.step == self.last_step:  # attached twice, or called by hand
            return
        self.last_step = frame.step
        if self._principles is None:
            self._start(frame, begin)
        self._observe(frame, attribution, explain)
        end = time.perf_counter()
        self.cost.monitor += end - begin
        self.cost.total = end - self._started

    def _start(self, first: Frame, begin: float) -> None:
        self._started = begin
        engine = self._engine.describe()
        calculator = self._engine.calculator
        card = getattr(calculator, "card", None)
        self._principles, unavailable = principles_for(
            first,
            card,
            bath=self._engine.temperature,
            conserves_energy=engine.conserves_energy,
            bath_energy=self._engine.bath_energy,
            random_bath=engine.random_bath,
            expected=self._expected,
            missing=engine.missing,
        )
        unavailable |= self._prepare_attribution(first)
        if self._attributor is not None:
            learned, reasons = learned_principles(first, calculator.card.cutoff)
            self._principles += learned
            unavailable |= reasons
        else:
            unavailable |= dict.fromkeys(LEARNED, unavailable["attribution"])
        if self._probe_every:
            probing, reasons = probes(twin_of(calculator), first)
            self._principles += probing
            given = {t.principle for t in self._thresholds}
            self._thresholds += tuple(t for t in PROBE_THRESHOLDS if t.principle not in given)
            unavailable |= reasons
        unavailable |= _not_judged(self._principles, self._thresholds)
        self._court = Court(self._thresholds, unavailable)
        if self._writer is None:
            return
        header = {
            "calculator": _describe_calculator(calculator),
            "engine": asdict(engine),
            "system": {"numbers": first.numbers.tolist(), "masses_amu": first.masses.tolist(),
                       "cell_ang": first.cell.tolist(), "pbc": first.pbc.tolist(),
                       "n_constrained": first.n_constrained},
            "parameters": {"attribute_every": self._attribute_every, "gamma": self._gamma,
                           "probe_every": self._probe_every,
                           "expected": list(self._expected)},
            "thresholds": {t.principle: asdict(t) for t in self._thresholds},
            "unavailable": unavailable,
            "context": self._context,
        }  # fmt: skip
        self._writer.start(header, self._principles)

    def _prepare_attribution(self, first: Frame) -> dict[str, str]:
        """Set up the explanation of frames; return why not, where that is so."""
        if self._attribute_every == 0:
            return {"attribution": "switched off (attribute_every=0)"}
        try:
            explain = attributor(self._engine.calculator, gamma=self._gamma)
            explain.attribute(first)  # a trial: what fails now is not tried again and again
        except AttributionUnavailable as reason:
            return {"attribution": str(reason)}
        self._attributor = explain
        self._channels = ElementPairChannels(first.numbers)
        if self._channels.names:
            self.profile = BinnedMoments(self._channels.names, self._engine.calculator.card.cutoff)
        return {}

    def _observe(self, frame: Frame, given: Attribution | None, explain: bool) -> None:
        assert self._principles is not None
        if given is None:
            attribution = self._explain(frame) if explain else None
        else:
            attribution = self._keep(given)
        due = {
            "free": True,
            "attribution": attribution is not None,
            "probe": self._probe_every > 0 and frame.step % self._probe_every == 0,
        }
        deviations = {
            p.name: _measured(p, frame, attribution) if due[p.cost] else None
            for p in self._principles
        }
        self._court.hear(frame.time, deviations)
        if self._writer is not None:
            self._writer.add_frame(frame, deviations)
            if attribution is not None:
                self._writer.add_attribution(frame, attribution)
            if self._writer.due(frame.step):
                self._writer.commit(frame.step)
        if self._court.unstable and not self._reacted:
            self._reacted = True
            self._react()

    def _explain(self, frame: Frame) -> Attribution | None:
        due = self._attributor is not None and frame.step % self._attribute_every == 0
        if not due or not np.isfinite(frame.positions).all():
            return None
        begin = time.perf_counter()
        assert self._attributor is not None
        try:
            attribution = self._keep(self._attributor.attribute(frame))
        except CalculatorError:  # such as atoms on top of each other: other laws speak of that
            return None
        self.cost.attribution += time.perf_counter() - begin
        return attribution

    def _keep(self, attribution: Attribution) -> Attribution:
        """Add an explanation to the statistics and return it."""
        if self.profile is not None:
            pairs = attribution.pairs
            channels = self._channels.of(pairs.i, pairs.j)
            self.profile.update(channels, pairs.distances, np.abs(attribution.strengths))
        self.last_attribution = attribution
        self.cost.n_attributions += 1
        return attribution

    def _react(self) -> None:
        verdict = self.verdict
        if callable(self._on_unstable):
            self._on_unstable(verdict)
        elif self._on_unstable == "halt":
            self._engine.stop()
        elif self._on_unstable == "warn":
            warnings.warn(str(verdict), InstabilityWarning, stacklevel=3)

    def finish(self, interrupted_by: str | None = None) -> None:
        """Write what is left and the verdict. Leaving the `with` block calls this.

        Args:
            interrupted_by: what ended the run before its time; noted beside the verdict.
        """
        if self._writer is not None and self._writer.open:
            content = self.verdict.as_dict() | {
                "interrupted_by": interrupted_by,
                "cost": asdict(self.cost) | {"share": self.cost.share},
            }
            self._writer.finish(content, self.profile)
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish(None if kind is None else f"{kind.__name__}: {error}".rstrip(": "))


def _measured(
    principle: Principle, frame: Frame, attribution: Attribution | None
) -> Deviation | None:
    """Return the deviation, or None where a probe's twin fails, as it may in a run that breaks."""
    if principle.cost != "probe":
        return principle.deviate(frame, attribution)
    if not np.isfinite(frame.positions).all():
        return None
    try:
        return principle.deviate(frame, attribution)
    except (CalculatorError, PrincipleUnavailable):
        return None


def _not_judged(principles: Sequence[Principle], thresholds: Sequence[Threshold]) -> dict[str, str]:
    """Return the principles that are measured although the user gave no threshold for them."""
    shipped = {t.principle for t in THRESHOLDS} - {t.principle for t in thresholds}
    reason = "measured, not judged: no threshold was given"
    return {p.name: reason for p in principles if p.name in shipped}


def _describe_calculator(calculator: Any) -> dict[str, Any]:
    card = getattr(calculator, "card", None)
    if card is None:
        return {"name": str(getattr(calculator, "name", type(calculator).__name__))}
    return {
        "name": card.name,
        "weights_sha256": card.weights_sha256,
        "network": dict(card.network),
        "distances": {pair: list(span) for pair, span in card.distances.items()},
    }
