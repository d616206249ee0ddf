"""Frames judged together, and probes on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.md.bussi import Bussi
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet

import mdxai
from mdxai.monitoring.monitor import Monitor, UnseenRunWarning
from mdxai.stability.outcomes import Stability
from mdxai.stability.thresholds import PROBE_THRESHOLDS, THRESHOLDS, Threshold
from mdxai.testing import FaultyCalculator, NanForces

from .conftest import copper, ethanol_dynamics, heated, langevin

BATHS = {
    "Langevin": None,
    "Bussi": lambda atoms, dt: Bussi(
        atoms, dt, temperature_K=1500, taut=20 * units.fs, rng=np.random.default_rng(3)
    ),
    "NoseHooverChainNVT": lambda atoms, dt: NoseHooverChainNVT(
        atoms, dt, temperature_K=1500, tdamp=20 * units.fs
    ),
}


@pytest.mark.parametrize(
    "bath", [pytest.param(b, marks=() if b == "Bussi" else pytest.mark.slow) for b in BATHS]
)
def test_frames_judged_together_and_one_by_one_leave_the_same_record(bath, tmp_path):
    """Limits so strict that the run breaks them; a thermostat that changes at every step."""
    strict = [replace(t, warn=t.warn / 4, unstable=t.unstable / 4) for t in THRESHOLDS]

    def run(name, **choices):
        dynamics = ethanol_dynamics("schnet-ethanol-weak", temperature=1500, seed=2)
        atoms = dynamics.atoms
        if BATHS[bath] is not None:
            dynamics = BATHS[bath](atoms, 0.5 * units.fs)
        monitor = Monitor(
            dynamics, tmp_path / name, attribute_every=4, blackbox=7, thresholds=strict, **choices
        )
        if bath == "Langevin":
            dynamics.attach(lambda: dynamics.set_temperature(temperature_K=300 + dynamics.nsteps))
        dynamics.attach(monitor, interval=1)
        with monitor:
            dynamics.run(157)
        return mdxai.open_run(tmp_path / name), monitor

    (together, first), (at_once, second) = (
        run("together", on_unstable="ignore"),
        run("at-once", on_unstable=lambda verdict: None),
    )
    assert first.verdict == second.verdict
    assert first.verdict.stability == "unstable"
    for table in ("frames_table", "trajectory_table", "pairs_table", "events_table"):
        mine, theirs = (getattr(run, table)() for run in (together, at_once))
        assert mine.to_pandas().equals(theirs.to_pandas())
    boxes = [sorted(run.path.glob("blackbox-*")) for run in (together, at_once)]
    assert len(boxes[0]) == 2
    assert [b.read_bytes() for b in boxes[0]] == [b.read_bytes() for b in boxes[1]]


def test_the_verdict_covers_every_frame_so_far():
    dynamics = ethanol_dynamics()
    monitor = Monitor(dynamics, None, attribute_every=0)
    dynamics.attach(monitor, interval=1)
    for steps in (0, 3, 9, 4):
        dynamics.run(steps)
        assert monitor.verdict.n_frames == dynamics.nsteps + 1


def test_sparse_monitoring_says_that_energy_was_not_checked():
    dynamics = ethanol_dynamics()
    monitor = Monitor(dynamics, None, attribute_every=0)
    dynamics.attach(monitor, interval=5)
    dynamics.run(20)
    said = monitor.verdict.unavailable["energy"]
    assert said.startswith("could not be measured after 0 fs: every step is needed, and frames are")


def test_probes_on_the_way_use_a_twin_and_disturb_nothing():
    def positions(probe_every):
        atoms = Atoms("Ar3", [[0, 0, 0], [0, 0, 3.9], [0, 3.7, 0.2]])
        atoms.calc = LennardJones(sigma=3.4, epsilon=0.0103, rc=8.0, ro=7.0, smooth=True)
        dynamics = VelocityVerlet(atoms, 2 * units.fs)
        monitor = Monitor(dynamics, None, probe_every=probe_every, on_unstable="ignore")
        dynamics.attach(monitor, interval=1)
        dynamics.run(4)
        return atoms.positions, monitor

    bare, _ = positions(0)
    probed, monitor = positions(4)
    np.testing.assert_array_equal(probed, bare)
    unavailable = monitor.verdict.unavailable
    assert not {"gradient", "rotation", "squeeze"} & set(unavailable)
    assert "precision" in unavailable  # a foreign calculator has one precision
    with pytest.raises(
        ValueError, match="probe_every must be 0 or a positive whole number, got -1"
    ):
        positions(-1)


class BreaksUnderSqueeze(EMT):
    """Raises where atoms come close, as electronic structure does that finds no solution."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        if self.atoms.get_all_distances(mic=True)[np.triu_indices(len(self.atoms), 1)].min() < 1.9:
            raise RuntimeError("SCF not converged")


@pytest.mark.parametrize("fault", [None, NanForces(15)])
def test_probes_that_fail_do_not_end_the_run(fault):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.02, seed=1)
    atoms.calc = FaultyCalculator(EMT(), fault) if fault else BreaksUnderSqueeze()
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    monitor = mdxai.Monitor(dynamics, probe_every=10, attribute_every=0, on_unstable="ignore")
    with monitor:
        dynamics.attach(monitor)
        dynamics.run(30)
    verdict = monitor.verdict
    if fault:
        assert verdict.stability == "unstable"
    else:
        assert "could not be measured" in verdict.unavailable["squeeze"]


def test_thresholds_of_probes_can_be_changed():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.02, seed=1)
    atoms.calc = EMT()
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    strict = [Threshold(t.principle, 0, 0, 0, "mine") for t in PROBE_THRESHOLDS]
    monitor = mdxai.Monitor(
        dynamics, probe_every=10, thresholds=[*THRESHOLDS, *strict], on_unstable="ignore"
    )
    dynamics.attach(monitor)
    dynamics.run(10)
    assert "rotation" in {finding.principle for finding in monitor.verdict.findings}


class EnergyNowAndThen(EMT):
    """Keeps back the energy at every third evaluation, and gives the forces always."""

    n_calls = 0

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.n_calls += 1
        if self.n_calls % 3 == 0:
            for name in ("energy", "free_energy", "energies"):
                self.results.pop(name, None)


@pytest.mark.parametrize("path", [None, "run"])
def test_an_energy_that_is_absent_now_and_then_is_no_nan(tmp_path, path):
    atoms = copper()
    atoms.rattle(0.05, seed=0)
    atoms.calc = EnergyNowAndThen()
    dynamics = VelocityVerlet(atoms, 2 * units.fs)
    folder = path and tmp_path / path
    with Monitor(dynamics, folder, on_unstable="raise") as monitor:
        dynamics.attach(monitor)
        dynamics.run(20)
    assert monitor.verdict.stability != Stability.UNSTABLE
    assert monitor.verdict.n_frames == 21
    assert "non_finite" not in {finding.principle for finding in monitor.verdict.findings}
    if folder:
        recorded = mdxai.open_run(folder)
        rows = recorded.to_dataframe()
        assert 5 < rows.potential_energy_eV.isna().sum() < 10
        assert (rows.non_finite == 0).all()
        assert mdxai.judge(recorded) == monitor.verdict


class BreaksAt(EMT):
    """EMT that gives NaN forces from one evaluation on."""

    def __init__(self, when):
        super().__init__()
        self.left = when

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.left -= 1
        if self.left < 0:
            self.results["forces"] = np.full_like(self.results["forces"], np.nan)


def test_numbers_that_are_not_finite_are_one_finding(tmp_path):
    atoms = copper()
    atoms.calc = BreaksAt(130)
    dynamics = langevin(heated(atoms))
    with Monitor(dynamics, tmp_path / "run", attribute_every=0, on_unstable="ignore") as monitor:
        dynamics.attach(monitor)
        dynamics.run(200)
    verdict = monitor.verdict
    late = [f.principle for f in verdict.findings if f.time_fs >= verdict.onset_fs]
    assert verdict.cause.principle == "non_finite"
    assert late == ["non_finite"]
    assert not [why for why in verdict.unavailable.values() if "could not be measured" in why]
    assert str(mdxai.judge(mdxai.open_run(tmp_path / "run"))) == str(verdict)


def test_what_waits_says_for_what():
    dynamics = ethanol_dynamics()
    monitor = Monitor(dynamics, None, attribute_every=0)
    dynamics.attach(monitor)
    dynamics.run(20)
    why = monitor.verdict.unavailable
    assert why["mode_temperature"] == "needs 3.2 ps of motion; the run has 0.01 ps"
    assert why["distance_drift"] == "needs 4.5 ps of motion; the run has 0.01 ps"
    assert why["force_spike"] == "needs more than 100 frames; the run has 21 frames"


def test_a_monitor_that_was_not_attached_says_so():
    dynamics = ethanol_dynamics()
    with (
        pytest.warns(UnseenRunWarning, match=r"saw none of 3 steps.*dyn\.attach") as caught,
        Monitor(dynamics, None) as monitor,
    ):
        dynamics.run(3)
    (said,) = (w for w in caught if w.category is UnseenRunWarning)
    assert said.filename == __file__
    assert monitor.verdict.stability == "inconclusive"
    assert "saw none of 3 steps" in monitor.verdict.unavailable["all"]
