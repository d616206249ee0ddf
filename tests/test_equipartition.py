"""Temperature and equipartition against the canonical ensemble."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mdxai.frame import AMU_ANG2_PER_FS2, BOLTZMANN, Frame, Thermostat
from mdxai.principles import (
    Deviation,
    ElementTemperature,
    FlyingIceCube,
    KineticSpread,
    ModeTemperature,
    PrincipleUnavailable,
    Temperature,
)
from mdxai.principles.motion.bond_changes import BondChanges

from .test_bond_changes import on_copper


@pytest.fixture
def frame(ethanol_frame):
    return ethanol_frame


def at(frame, k, timestep=1.0, **changes):
    return replace(frame, step=k, time=k * timestep, **changes)


def thermal(frame, rng, temperature=300.0):
    scale = np.sqrt(BOLTZMANN * temperature / frame.masses / AMU_ANG2_PER_FS2)[:, None]
    return rng.normal(size=(frame.n_atoms, 3)) * scale


def test_a_thermostat_that_rings_is_no_fault():
    rng = np.random.default_rng(3)
    principle = Temperature(crystal(500, rng))
    for k in range(100):
        kelvin = 300.0 * (1 + 0.9 * np.sin(k / 5))
        assert principle.deviate(at(crystal(500, rng, kelvin), k)).value < 4


def test_temperature_counts_standard_deviations_of_the_bath(frame):
    """Kinetic energies drawn from the canonical ensemble have unit standard deviation in σ."""
    rng = np.random.default_rng(1)
    frame = replace(frame, thermostat=Thermostat(300.0))
    principle = Temperature(frame)
    excess = []
    for _ in range(4000):
        scale = np.sqrt(BOLTZMANN * 300.0 / frame.masses / 103.6426957)[:, None]
        velocities = rng.normal(size=(9, 3)) * scale
        excess.append(principle.deviate(replace(frame, velocities=velocities)).value)
    chi = (rng.chisquare(27, size=100_000) / 27 - 1) / np.sqrt(2 / 27)
    assert np.mean(excess) == pytest.approx(chi.clip(0).mean(), abs=0.03)
    assert np.quantile(excess, 0.99) == pytest.approx(np.quantile(chi, 0.99), rel=0.1)
    hot = frame.velocities.copy()
    hot[6] *= 30
    deviation = principle.deviate(replace(frame, velocities=hot))
    assert deviation.value > 12
    assert deviation.atoms == (6,)


def test_the_heat_of_a_reaction_is_no_fault_of_the_bath_and_heat_from_nothing_is():
    """N₂ dissociates on copper, and its atoms hold the 3 eV that this released."""
    heat, first = 3.0, Frame.from_atoms(on_copper(1.1))
    still = np.zeros_like(first.positions)
    first = replace(
        first, energy=0.0, velocities=still, thermostat=Thermostat(300.0), n_constrained=48,
        absent=frozenset({"forces"}),
    )  # fmt: skip
    hot = still.copy()
    hot[-2:, 0] = np.sqrt(heat / first.masses[-2:] / AMU_ANG2_PER_FS2)
    changes = BondChanges(first)
    watching, blind = Temperature(first, changes), Temperature(first)
    for principle in (watching, blind):
        assert principle.deviate(first).value == 0
    for length in (1.4, 2.55):
        apart = at(first, 10 * length, positions=on_copper(length).positions, velocities=hot)
        changes.look(apart)
        assert blind.deviate(replace(apart, energy=-heat)).value > 8
        assert watching.deviate(replace(apart, energy=-heat)).value < 4
        assert watching.deviate(replace(apart, energy=0.0)).value > 8


def test_temperature_follows_the_bath_and_needs_one(frame):
    at_400 = replace(frame, thermostat=Thermostat(400.0))
    principle = Temperature(at_400)
    assert principle.deviate(at_400).value == 0
    hot = replace(at_400, velocities=3 * frame.velocities)
    hotter_bath = replace(hot, thermostat=Thermostat(4000.0))  # set anew during the run
    assert principle.deviate(hotter_bath).value < principle.deviate(hot).value
    # What a strained start releases is no fault of a cold thermostat.
    assert principle.deviate(replace(frame, thermostat=Thermostat(1.0))).value < 3
    with pytest.raises(PrincipleUnavailable, match="no thermostat sets a temperature"):
        Temperature(frame)
    with pytest.raises(PrincipleUnavailable, match="no atom is free"):
        Temperature(replace(at_400, n_constrained=27))


def test_temperature_is_as_rarely_far_off_with_few_degrees_of_freedom(frame):
    """χ² has the longer tail the fewer degrees of freedom there are; 8 σ is equally rare."""
    rare = stats.chi2.sf(27 * (1 + 8 * np.sqrt(2 / 27)), 27)
    for n_atoms in (1, 2, 5, 9):
        few = replace(
            frame, numbers=frame.numbers[:n_atoms], masses=frame.masses[:n_atoms],
            positions=frame.positions[:n_atoms], velocities=frame.velocities[:n_atoms],
            forces=frame.forces[:n_atoms], thermostat=Thermostat(300.0),
        )  # fmt: skip
        principle, freedom = Temperature(few), 3 * n_atoms
        principle.deviate(replace(few, velocities=0 * few.velocities))
        kelvin = 300.0 * stats.chi2.isf(rare, freedom) / freedom
        hot = replace(few, velocities=few.velocities * np.sqrt(kelvin / few.temperature))
        assert principle.deviate(hot).value == pytest.approx(8, rel=1e-3)


def crystal(n_atoms, rng, kelvin=300.0):
    """Return a frame of many copper atoms at a temperature."""
    masses = np.full(n_atoms, 63.546)
    scale = np.sqrt(BOLTZMANN * kelvin / masses / AMU_ANG2_PER_FS2)[:, None]
    return Frame(
        0, 0.0, np.full(n_atoms, 29), masses, rng.normal(size=(n_atoms, 3)),
        rng.normal(size=(n_atoms, 3)) * scale, np.zeros((n_atoms, 3)), 0.0, 50 * np.eye(3),
        np.ones(3, dtype=bool), thermostat=Thermostat(300.0),
    )  # fmt: skip


def test_a_start_hotter_than_its_bath_is_no_fault_but_heating_is():
    rng = np.random.default_rng(6)
    principle = Temperature(crystal(1000, rng, 600.0))
    for k, kelvin in enumerate((600.0, 450.0, 520.0, 400.0, 310.0, 300.0)):
        assert principle.deviate(at(crystal(1000, rng, kelvin), k, 500.0)).value < 2
    assert principle.deviate(at(crystal(1000, rng, 300.0), 6, 5000.0)).value < 1
    assert principle.deviate(at(crystal(1000, rng, 1000.0), 60, 5001.0)).value > 8
    assert Temperature(crystal(8, rng)).deviate(crystal(8, rng, 30_000.0)).value > 12


def test_even_heat_of_a_strained_start_is_no_fault_but_a_hole_is():
    rng = np.random.default_rng(8)
    cold = crystal(100, rng)
    hot = at(crystal(100, rng, 1600.0), 1)
    heat = hot.kinetic_energy - cold.kinetic_energy
    principle = Temperature(cold)
    principle.deviate(cold)
    assert principle.deviate(replace(hot, energy=-heat)).value < 1
    assert principle.deviate(hot).value > 12  # from nowhere
    velocities = cold.velocities.copy()
    velocities[7] *= np.sqrt(heat / 0.5 / AMU_ANG2_PER_FS2 / 63.546) / np.linalg.norm(velocities[7])
    fallen = at(replace(cold, velocities=velocities, energy=-heat), 2)
    found = principle.deviate(fallen)
    assert found.value > 12
    assert found.atoms == (7,)


def test_flying_ice_cube_is_normal_in_the_canonical_ensemble(frame):
    frame = replace(frame, thermostat=Thermostat(300.0))
    principle = FlyingIceCube(frame)
    rng = np.random.default_rng(1)
    values = [
        principle.deviate(at(frame, k, 10.0, velocities=thermal(frame, rng))).value
        for k in range(3000)
    ]
    above = np.sort(values)[1600:]
    expected = stats.norm.ppf((np.arange(1600, 3000) + 0.5) / 3000)
    np.testing.assert_allclose(above[:-20], expected[:-20], atol=0.12)
    fly = thermal(frame, rng) * 0.1 + (0.01, 0.01, 0.01)
    assert principle.deviate(at(frame, 4000, 10.0, velocities=fly)).value > 6
    assert principle.deviate(at(frame, 4001, 10.0, velocities=0 * fly)).value == 0
    assert np.isnan(principle.deviate(at(frame, 4002, 10.0, velocities=np.nan * fly)).value)


def averages(principle, frame, velocities, n=1600):
    found = None
    for k in range(n):
        found = principle.deviate(at(frame, k, 10.0, velocities=velocities()))
    return found


def test_canonical_velocities_have_the_right_averages_and_others_have_not(frame):
    rng = np.random.default_rng(2)
    frame = replace(frame, thermostat=Thermostat(300.0))
    principles = {
        "spread": lambda: KineticSpread(frame),
        "mode": lambda: ModeTemperature(frame, random_bath=True),
        "element": lambda: ElementTemperature(frame, random_bath=True),
    }
    for make in principles.values():
        assert averages(make(), frame, lambda: thermal(frame, rng)).value == 0

    def rescaled():  # as Berendsen's thermostat at its strongest: no fluctuation at all
        v = thermal(frame, rng)
        return v * np.sqrt(300.0 / replace(frame, velocities=v).temperature)

    assert averages(principles["spread"](), frame, rescaled).value == pytest.approx(1, abs=0.05)

    def closed():  # half the canonical variance, as in a crystal without a bath
        v = thermal(frame, rng)
        u = replace(frame, velocities=v).temperature / 300.0
        return v * np.sqrt((1 + (u - 1) * np.sqrt(0.5)) / u)

    assert averages(principles["spread"](), frame, closed).value == 0

    def hot_hydrogens():
        v = thermal(frame, rng)
        v[frame.numbers == 1] *= 2
        return v

    found = averages(principles["element"](), frame, hot_hydrogens)
    assert found.value > 0.3
    assert set(frame.numbers[list(found.atoms)]) <= {6, 8}  # too cold: further off, relatively

    def flying():
        return thermal(frame, rng) + np.array([0.01, 0, 0])

    assert averages(principles["mode"](), frame, flying).value > 0.5


def test_a_centre_of_mass_at_rest_is_no_fault(frame):
    rng = np.random.default_rng(3)
    frame = replace(frame, thermostat=Thermostat(300.0))

    def at_rest():
        v = thermal(frame, rng)
        return v - frame.masses @ v / frame.masses.sum()

    for principle in (
        KineticSpread(frame),
        ModeTemperature(frame, random_bath=True),
        ElementTemperature(frame, random_bath=True),
    ):
        assert averages(principle, frame, at_rest).value < 0.02


def drifting(principle, frame, kelvin, rng, *, n=3000, still=None):
    """Return the largest deviation of a run whose temperature follows kelvin(time in fs)."""
    worst = 0.0
    for k in range(n):
        scale = np.sqrt(kelvin(10.0 * k) / 300.0)
        now = at(frame, k, 10.0, velocities=scale * thermal(frame, rng))
        worst = max(worst, (principle.deviate(now) or Deviation("", "", 0.0)).value)
    return worst


@pytest.mark.parametrize("tau", [250.0, 1000.0, 5000.0])
@pytest.mark.parametrize("start", [0.0, 600.0, 1200.0])
def test_a_run_that_approaches_its_bath_is_on_its_way(tau, start):
    """A weak thermostat takes its time, and a large system shows every step of the way."""
    rng = np.random.default_rng(5)
    frame = crystal(60, rng)
    way = drifting(
        KineticSpread(frame), frame, lambda t: 300 + (start - 300) * np.exp(-t / tau), rng
    )
    assert way < 0.5
    if tau == 1000.0:
        assert drifting(KineticSpread(frame), frame, lambda t: 600.0, rng) > 0.8


def test_a_bath_that_only_damps_the_centre_of_mass_is_no_fault(frame):
    """ASE's Langevin with fixcm takes the drift away and puts none back."""
    rng = np.random.default_rng(9)
    frame = replace(frame, thermostat=Thermostat(300.0))
    for holds in (True, False):
        principle = ModeTemperature(frame, random_bath=True, holds_centre=holds)
        drift, worst = 0.01, 0.0
        for k in range(3000):
            v = thermal(frame, rng)
            v += drift * np.exp(-k / 50) - frame.masses @ v / frame.masses.sum()
            found = principle.deviate(at(frame, k, 10.0, velocities=v))
            worst = max(worst, found.value if found else 0.0)
        assert worst < 0.5 if holds else worst > 0.5
    with pytest.raises(PrincipleUnavailable, match="leaves the motion of the whole alone"):
        ModeTemperature(crystal(8, rng), random_bath=True, holds_centre=True)


@pytest.mark.parametrize("memory", [0.0, 500.0])
def test_canonical_runs_alarm_as_rarely_as_stated(frame, memory):
    """Twenty runs of 6 ps whose velocities forget after `memory` fs: none is suspect."""
    rng = np.random.default_rng(10)
    frame = replace(frame, thermostat=Thermostat(300.0))
    a = np.exp(-10.0 / memory) if memory else 0.0
    for _ in range(20):
        principles = (
            KineticSpread(frame),
            ModeTemperature(frame, random_bath=True),
            ElementTemperature(frame, random_bath=True),
        )
        v = thermal(frame, rng)
        for k in range(600):
            v = a * v + np.sqrt(1 - a * a) * thermal(frame, rng)
            now = at(frame, k, 10.0, velocities=v)
            assert all(not p.deviate(now) or p.deviate(now).value < 0.5 for p in principles)


def test_annealing_is_never_compared_with_one_temperature(frame):
    kelvin = np.linspace(300, 900, 1600)
    principle = KineticSpread(replace(frame, thermostat=Thermostat(300.0)))
    rng = np.random.default_rng(4)
    found = None
    for k, temperature in enumerate(kelvin):
        heated = replace(frame, thermostat=Thermostat(temperature))
        found = principle.deviate(at(heated, k, 10.0, velocities=thermal(frame, rng)))
    assert found is None


@pytest.mark.parametrize(
    ("principle", "match"),
    [
        (KineticSpread, "no thermostat"),
        (FlyingIceCube, "momentum is conserved"),
        (lambda f: ModeTemperature(f, random_bath=False), "keeps its initial energy"),
        (lambda f: ElementTemperature(f, random_bath=False), "keep their energy"),
        (lambda f: ModeTemperature(replace(f, n_constrained=3), random_bath=True), "constraints"),
        (lambda f: ElementTemperature(replace(f, numbers=0 * f.numbers + 6), random_bath=True),
         "all atoms are C"),
    ],
)  # fmt: skip
def test_what_equipartition_cannot_say(frame, principle, match):
    with pytest.raises(PrincipleUnavailable, match=match):
        principle(frame)
