"""Life tests: hot replicas until they break, for the hazard at the temperature that counts."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mdxai.calculators import Potential, twin_of
from mdxai.calculators.model_name import made_name
from mdxai.calculators.own_networks import network_potential
from mdxai.forecast.allocation import Allocation, ladder_of
from mdxai.forecast.bond_strengths import Ceiling, ceiling_of
from mdxai.forecast.evaluations import evaluated
from mdxai.forecast.hot_replicas import LifeTestError, Replica
from mdxai.forecast.kept_evaluations import another_held, structure_sha256
from mdxai.forecast.life_test_result import PS, LifeTest, LifeTestOptions, lifetimes_of
from mdxai.forecast.shared_replicas import ReplicaFactory, SharedReplicas
from mdxai.forecast.survival_model import totals
from mdxai.frame import Frame
from mdxai.record.durable_files import make_folder, write_file
from mdxai.serialization import StateError, as_json, decode, encode

FILE = "life-test.json"
ROUND = 250.0  # fs between two looks at what the next replicas should be
BATCH, ONE_BY_ONE = 16, 4  # replicas at a time
# Rounds after which the test may end: ever rarer, as of many intervals one is narrow by chance.
LOOKS = frozenset({base << k for base in (1, 3) for k in range(40)})

Progress = Callable[[LifeTest], None]


def life_test(  # noqa: PLR0913 (one argument per choice)
    calculator: Any,
    structure: Atoms,
    *,
    temperature: float,
    duration: float,
    options: LifeTestOptions | None = None,
    path: Path | str | None = None,
    client: Any = None,
    progress: Progress | None = None,
) -> LifeTest:
    """Foretell how long a run lasts: watch hot replicas until they break, and extrapolate.

    Replicas are judged as a monitor judges a run, but for what heat alone changes; those that
    react are no onsets. All replicas of a network of mdxai are moved in one batch, those of other
    calculators one after another. A twin of the calculator is evaluated. The temperatures are those
    at which the next replicas narrow the interval at the target most, never so high that real bonds
    would break.

    Args:
        calculator: any ASE calculator, or a function that makes one.
        structure: from which replicas start; relaxed, or otherwise sensible. It is not changed.
        temperature: of the run that is foretold, K.
        duration: of that run, ps.
        options: how the test is made.
        path: directory to keep the test in; one that is there is continued. None keeps nothing.
        client: `distributed.Client` whose workers move the replicas, which then must be made by
            something that can be pickled; None moves them in this process.
        progress: called after each round with what is known so far.

    Raises:
        LifeTestError: for a question or structure that cannot be tested, or a directory with
            another test.
        CalculatorError: for a calculator that cannot be copied or does not take the structure.
        RecordError: where the directory cannot be written.
    """
    options = options or LifeTestOptions()
    refuse_question(temperature, duration, options)
    twin, start = twin_of(calculator), start_of(structure)
    start = evaluated(twin, start)
    test = _Running(calculator, twin, start, temperature, duration, options)
    if client is not None:
        test.share(client)
    if path is not None:
        test.keep(Path(path))
    return test.to_its_end(progress)


def refuse_question(temperature: float, duration: float, options: LifeTestOptions) -> None:
    """Raise LifeTestError unless temperature and duration are positive and finite, and replicas
    may be as hot as that.
    """
    for name, value in (("temperature", temperature), ("duration", duration)):
        if not 0 < value < np.inf:
            raise LifeTestError(f"the {name} must be positive and finite, got {value!r}")
    if options.hottest is not None and options.hottest < temperature:
        raise LifeTestError(
            f"hottest must be at least the temperature of the run, {temperature:g} K, got "
            f"{options.hottest:g} K"
        )


def start_of(structure: Atoms) -> Frame:
    """Return a structure at rest, without results.

    Raises:
        LifeTestError: for no atoms, or constraints.
    """
    if not len(structure):
        raise LifeTestError("the structure has no atoms")
    if structure.constraints:
        raise LifeTestError(
            "replicas move all their atoms, and the structure has constraints: "
            f"{', '.join(type(c).__name__ for c in structure.constraints)}; remove them"
        )
    bare = structure.copy()
    bare.calc = None
    bare.set_momenta(np.zeros((len(bare), 3)))
    return Frame.from_atoms(bare)


class _Running:
    """A life test under way."""

    def __init__(
        self,
        calculator: Any,
        twin: Potential,
        start: Frame,
        temperature: float,
        duration: float,
        options: LifeTestOptions,
    ) -> None:
        self._temperature, self._duration, self._options = temperature, duration, options
        self._model = made_name(calculator, twin)
        batched = network_potential(twin) is not None
        n_slots = options.replicas or (BATCH if batched else ONE_BY_ONE)
        self._make = ReplicaFactory(calculator, start, options)
        self._replicas = self._make()
        self._shared: SharedReplicas | None = None
        hot = options.hottest
        self._ceiling = ceiling_of(start, temperature) if hot is None else Ceiling(hot, "as asked")
        self._allocation = Allocation(
            ladder_of(self._ceiling.temperature, temperature), n_slots, options.motion.warm_up / PS
        )
        self._identity = _identity(start, temperature, self._model, options, n_slots)
        self._round, self._seconds = 0, 0.0
        self._folder: Path | None = None

    def share(self, client: Any) -> None:
        """Let the workers of a Dask client move the replicas."""
        self._shared = SharedReplicas(client, self._make)

    def keep(self, folder: Path) -> None:
        """Keep the test in a directory, and go on from what is there."""
        self._folder = folder
        make_folder(folder)
        if not (folder / FILE).exists():
            return
        try:
            held = json.loads((folder / FILE).read_text(encoding="utf-8"))
            state = decode((folder / held["state"]).read_bytes())
        except (OSError, ValueError, KeyError, TypeError, StateError) as error:
            raise LifeTestError(f"{folder} holds no life test to continue: {error}") from error
        if held["identity"] != self._identity:
            raise LifeTestError(another_held(folder, "life test", held["identity"], self._identity))
        self._replicas.restore(state)
        self._replicas.ended = [Replica(**r | {"atoms": tuple(r["atoms"])}) for r in held["ended"]]
        self._round, self._seconds = held["round"], held["seconds"]

    def _save(self) -> None:
        folder = self._folder
        if folder is None:
            return
        state = folder / f"state-{self._round:06d}.npz"
        write_file(state, encode(self._replicas.state()))
        held = {
            "schema": 1, "identity": self._identity, "round": self._round,
            "seconds": self._seconds, "state": state.name,
            "ended": [asdict(r) for r in self._replicas.ended],
            "running": [asdict(r) for r in self._replicas.running()],
        }  # fmt: skip
        write_file(folder / FILE, json.dumps(held, indent=1).encode())
        for old in folder.glob("state-*.npz"):
            if old != state:
                old.unlink(missing_ok=True)

    def to_its_end(self, progress: Progress | None) -> LifeTest:
        """Go on until the interval is narrow enough, or nothing is left to spend."""
        begun, before = time.perf_counter(), self._seconds
        limit = self._options.seconds or np.inf
        result = self._result()
        while not result.stopped:
            if self._round and time.perf_counter() - begun > limit:
                return replace(result, stopped="time is up")
            self._move()
            self._seconds = before + time.perf_counter() - begun
            self._save()
            result = self._result()
            if progress is not None:
                progress(result)
        return result

    def _move(self) -> None:
        if not self._round:
            self._replicas.assign(self._allocation.first())
        else:
            lived = totals(lifetimes_of(self._all(), self._options.motion.warm_up))
            now = self._replicas.temperatures
            self._replicas.assign(self._allocation.following(lived, now))
        n_steps = round(ROUND / self._options.motion.timestep)
        if self._shared is None:
            self._replicas.run(n_steps)
        else:
            self._shared.run(self._replicas, n_steps)
        self._round += 1

    def _all(self) -> tuple[Replica, ...]:
        return (*self._replicas.ended, *self._replicas.running())

    def _result(self) -> LifeTest:
        result = LifeTest(
            self._temperature, self._duration, self._all(), self._ceiling, self._options, "",
            self._seconds, self._model,
        )  # fmt: skip
        return replace(result, stopped=self._reason(result))

    def _reason(self, result: LifeTest) -> str:
        """Return why the test is over; "" while it is not."""
        options = self._options
        spent = self._round * self._allocation.n_slots * ROUND / PS
        if self._round in LOOKS and result.is_settled:
            if result.is_narrow:
                return "narrow enough"
            survival, asked = result.survival, options.at_least
            if asked is not None and not survival.low < asked <= survival.high:
                return "decided"
        return "budget used up" if spent >= options.most else ""


def _identity(
    start: Frame, temperature: float, model: str, options: LifeTestOptions, n_slots: int
) -> Mapping[str, Any]:
    """Return what two tests must share for one to continue the other."""
    identity: Mapping[str, Any] = as_json({
        "model": model, "energy": start.energy, "structure": structure_sha256(start),
        "temperature": temperature, "seed": options.seed, "replicas": n_slots,
        "hottest": options.hottest, "motion": asdict(options.motion),
        "thresholds": hashlib.sha256(repr(tuple(options.thresholds)).encode()).hexdigest(),
    })  # fmt: skip
    return identity
