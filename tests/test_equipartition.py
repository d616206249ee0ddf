"""Temperature and equipartition against the canonical ensemble."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mdxai.frame import AMU_ANG2_PER_FS2, BOLTZMANN, Thermostat
from mdxai.principles import (
    ElementTemperature,
    FlyingIceCube,
    KineticSpread,
    ModeTemperature,
    PrincipleUnavailable,
    Temperature,
)


@pytest.fixture
def frame(ethanol_frame):
    return ethanol_frame


def at(frame, k, timestep=1.0, **changes):
    return replace(frame, step=k, time=k * timestep, **changes)


def thermal(frame, rng, temperature=300.0):
    scale = np.sqrt(BOLTZMANN * temperature / frame.masses / AMU_ANG2_PER_FS2)[:, None]
    return rng.normal(size=(frame.n_atoms, 3)) * scale


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


def test_temperature_follows_the_bath_and_needs_one(frame):
    at_400 = replace(frame, thermostat=Thermostat(400.0))
    principle = Temperature(at_400)
    hot = replace(at_400, velocities=3 * frame.velocities)
    hotter_bath = replace(hot, thermostat=Thermostat(4000.0))  # set anew during the run
    assert principle.deviate(hotter_bath).value < principle.deviate(hot).value
    # What a strained start releases is no fault of a cold thermostat.
    assert principle.deviate(replace(frame, thermostat=Thermostat(1.0))).value < 3
    with pytest.raises(PrincipleUnavailable, match="no thermostat sets a temperature"):
        Temperature(frame)
    with pytest.raises(PrincipleUnavailable, match="no atom is free"):
        Temperature(replace(at_400, n_constrained=27))


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
