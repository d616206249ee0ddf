"""Work: the change of the energy against that of the forces, over the steps of a run."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.md.andersen import Andersen
from ase.md.nptberendsen import NPTBerendsen
from ase.md.verlet import VelocityVerlet

from mdxai import Monitor, open_run
from mdxai.principles.motion.energy import StepDefect
from mdxai.principles.motion.work import MEMORY, Work, WorkBalance, WorkScatter, WorkSlope
from mdxai.principles.principle import Deviation
from mdxai.serialization import restore, snapshot
from mdxai.stability import Stability, judge
from mdxai.testing import Curl, FaultyCalculator, ScaledForces

from .conftest import ethanol_with, frames_of, heated, langevin
from .crystal_baths import BATHS, hot_crystal

STEPS = 120


def faulty_copper(fault, temperature=600.0):
    atoms = hot_crystal(temperature)
    atoms.calc = FaultyCalculator(EMT(), fault)
    return atoms


def fits_of(frames):
    balance = WorkBalance(StepDefect(frames[0]))
    return [balance.of(frame) for frame in frames]


def deviations(frames, principle=Work):
    judged = principle(WorkBalance(StepDefect(frames[0])))
    found = [judged.deviate(frame) for frame in frames]
    return [d.value for d in found if d is not None]


def by_hand(frames):
    """Return slope and White's standard error of ΔE on W by weighted least squares."""
    energies = np.array([f.energy for f in frames])
    pairs = list(pairwise(frames))
    work = np.array(
        [-0.5 * np.sum((a.forces + b.forces) * (b.positions - a.positions)) for a, b in pairs]
    )
    weights = (1 - 1 / MEMORY) ** np.arange(len(work))[::-1]
    change = np.diff(energies)
    square = np.sum(weights * work**2)
    slope = np.sum(weights * work * change) / square
    # The sums of products fade as they are, once.
    error = np.sqrt(np.sum(weights * work**2 * (change - slope * work) ** 2)) / square
    return slope, error


@pytest.mark.parametrize("bath", BATHS)
def test_the_slope_of_a_sound_run_is_one(bath):
    frames = frames_of(BATHS[bath](hot_crystal()), STEPS)
    fits = fits_of(frames)
    assert all(fit is None for fit in fits[:30])
    slope, error = by_hand(frames)
    assert fits[-1].slope == pytest.approx(slope, abs=1e-9)
    assert 5 * error <= fits[-1].interval < 5.5 * error + 0.02
    assert max(deviations(frames)) == 0
    assert max(deviations(frames, WorkScatter)) == 0


@pytest.mark.parametrize("bath", BATHS)
@pytest.mark.parametrize("factor", [2.0016, 0.5])
def test_scaled_forces_show_their_factor_within_tens_of_steps(bath, factor):
    frames = frames_of(BATHS[bath](faulty_copper(ScaledForces(factor))), 40)
    fit = fits_of(frames)[-1]
    assert fit.slope == pytest.approx(1 / factor, abs=2e-3)
    assert deviations(frames)[-1] > 0.4
    assert deviations(frames, WorkSlope)[-1] == fit.slope


@pytest.mark.parametrize("bath", ["nve", "langevin"])
def test_forces_that_are_no_gradient_scatter(bath):
    """No factor explains the work of a curl: a round trip would gain energy."""
    atoms = heated(ethanol_with(FaultyCalculator(EMT(), Curl())))
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs) if bath == "nve" else langevin(atoms)
    assert deviations(frames_of(dynamics, STEPS), WorkScatter)[-1] > 0.2


@pytest.fixture(scope="module")
def at_constant_energy():
    return frames_of(BATHS["nve"](hot_crystal(600.0)), 400)


@pytest.fixture(scope="module")
def in_a_bath():
    return frames_of(BATHS["langevin"](hot_crystal(600.0)), 800)


def with_noise(frames, noise, factor=1.0):
    """Return frames whose energies are noisy (eV) and whose forces are scaled."""
    rng = np.random.default_rng(0)
    return [
        replace(f, energy=f.energy + noise * rng.normal(), forces=factor * f.forces) for f in frames
    ]


@pytest.mark.parametrize("digit", [1e-4, 1e-2, 0.1, 1.0, 1e3])
def test_rounded_energies_are_no_finding(digit, at_constant_energy):
    """A usual step does 0.04 eV of work; energies that never change say nothing about forces."""
    frames = [replace(f, energy=digit * round(f.energy / digit)) for f in at_constant_energy]
    assert max(deviations(frames), default=0.0) == 0
    assert max(deviations(frames, WorkScatter), default=0.0) == 0
    assert bool(deviations(frames)) is (digit < 0.02)


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.1])
def test_noise_of_the_energy_is_no_finding(noise, in_a_bath):
    """Sums in single precision over thousands of atoms: as large as the work of a step."""
    frames = with_noise(in_a_bath, noise)
    assert max(deviations(frames)) < 0.05
    assert max(deviations(frames, WorkScatter)) < 0.1


def test_noise_hides_no_factor_for_long(in_a_bath):
    assert deviations(with_noise(in_a_bath[:600], 0.01, 2.0016))[-1] > 0.2


@pytest.mark.parametrize("height", [0.1, 10.0])
def test_a_jump_of_the_energy_is_no_finding(height):
    jumping = faulty_copper(lambda f: (f.energy + height * (f.step > 60), f.forces))
    assert max(deviations(frames_of(BATHS["nve"](jumping), STEPS))) == 0


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "timestep", [pytest.param(10.0, marks=SLOW), pytest.param(40.0, marks=SLOW), 80.0]
)
def test_a_timestep_that_is_too_long_is_no_fault_of_the_forces(timestep):
    """Up to where the trajectory explodes, the forces remain the gradient."""
    frames = frames_of(langevin(hot_crystal(900.0), 900, timestep=timestep), 200)
    assert max(deviations(frames), default=0.0) < 0.05
    assert max(deviations(frames, WorkScatter), default=0.0) < 0.1


def argon(**options):
    atoms = heated(bulk("Ar", "fcc", 5.4, cubic=True).repeat(2), 90.0)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0103, **options)
    return atoms


def dimer():
    atoms = Atoms("Ar2", [[0, 0, 0], [3.9, 0, 0]], velocities=[[0.001, 0, 0], [-0.001, 0, 0]])
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0103)
    return atoms


SOUND = {
    "plain cutoff": lambda: VelocityVerlet(argon(rc=6.0), 5 * units.fs),
    "smooth cutoff": lambda: VelocityVerlet(argon(rc=8.0, ro=7.0, smooth=True), 5 * units.fs),
    "dimer": lambda: VelocityVerlet(dimer(), 5 * units.fs),
    "Andersen": lambda: Andersen(
        argon(rc=8.0), 5 * units.fs, temperature_K=90, andersen_prob=0.05,
        rng=np.random.default_rng(0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("system", SOUND)
def test_sound_systems_raise_no_alarm(system):
    frames = frames_of(SOUND[system](), 300)
    assert max(deviations(frames)) == 0
    assert max(deviations(frames, WorkScatter)) == 0


@pytest.mark.slow
def test_a_cutoff_without_a_shift_is_no_finding():
    """The energy of a pair that leaves is lost at once: a jump that no force shows."""
    atoms = argon(rc=6.0)
    inside = 4 * 0.0103 * ((3.4 / 6) ** 12 - (3.4 / 6) ** 6)

    def unshifted(frame):
        return frame.energy + inside * len(frame.pairs(6.0)), frame.forces

    atoms.calc = FaultyCalculator(atoms.calc, unshifted)
    frames = frames_of(VelocityVerlet(heated(atoms, 140.0), 5 * units.fs), 600)
    assert max(deviations(frames)) < 0.05


def test_a_barostat_is_not_measured():
    """The cell does work that no force of an atom shows."""
    barostat = NPTBerendsen(
        hot_crystal(), 2 * units.fs, temperature_K=300, pressure_au=0.0,
        compressibility_au=4e-6 / units.bar,
    )  # fmt: skip
    assert deviations(frames_of(barostat, 60)) == []


def test_atoms_at_rest_and_free_atoms_are_not_measured():
    still = bulk("Cu", cubic=True)
    still.calc = EMT()
    assert deviations(frames_of(VelocityVerlet(still, units.fs), 60)) == []
    alone = Atoms("Ar", velocities=[[0.01, 0, 0]])
    alone.calc = LennardJones()
    assert deviations(frames_of(VelocityVerlet(alone, units.fs), 60)) == []


def test_wrapped_atoms_and_gaps_do_not_count():
    frames = frames_of(BATHS["nve"](faulty_copper(ScaledForces(2.0016))), 80)
    wrapped = [
        replace(frame, positions=frame.positions + 3 * (k % 3) * frame.cell[0])
        for k, frame in enumerate(frames)
    ]
    np.testing.assert_allclose(fits_of(frames)[-1], fits_of(wrapped)[-1], rtol=1e-6)
    gap = frames[:50] + frames[55:]
    assert fits_of(gap)[50] is None
    assert fits_of(gap)[-1].slope == pytest.approx(0.4996, abs=1e-3)
    assert deviations(frames[::2]) == []


def test_nan_is_not_measured():
    frames = frames_of(BATHS["nve"](hot_crystal()), 60)
    frames[45] = replace(frames[45], energy=np.nan)
    frames[50] = replace(frames[50], forces=np.full((32, 3), np.nan))
    fits = fits_of(frames)
    assert [k for k in range(31, 61) if fits[k] is None] == [45, 46, 50, 51]
    assert fits[-1].slope == pytest.approx(1, abs=1e-3)


def test_a_restart_goes_on_with_the_same_numbers():
    frames = frames_of(BATHS["langevin"](faulty_copper(Curl(0.1))), 80)
    whole, first, second = (Work(WorkBalance(StepDefect(frames[0]))) for _ in range(3))
    expected = [whole.deviate(frame) for frame in frames]
    for frame in frames[:50]:
        first.deviate(frame)
    second = restore(second, snapshot(first))
    assert [second.deviate(frame) for frame in frames[50:]] == expected[50:]
    assert isinstance(expected[-1], Deviation)


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_a_verdict_calls_the_model_broken_and_states_the_slope(ensemble, tmp_path):
    dynamics = BATHS[ensemble](faulty_copper(ScaledForces(2.0016), 300.0))
    with Monitor(dynamics, tmp_path / "run", on_unstable="ignore") as monitor:
        dynamics.attach(monitor)
        dynamics.run(60)
    found = {f.principle: f for f in monitor.verdict.findings}
    assert monitor.verdict.stability is Stability.BROKEN
    assert found["work"].severity == "broken"
    assert "not the gradient" in found["work"].advice
    shown = float(found["work"].what.removeprefix("work_slope "))
    assert shown == pytest.approx(0.4996, abs=5e-4)
    assert judge(open_run(tmp_path / "run")) == monitor.verdict
