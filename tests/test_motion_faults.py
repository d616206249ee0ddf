"""Faults of the motion."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.calculators.emt import EMT
from ase.md.velocitydistribution import thermalize_momenta

from mdxai.testing import (
    FaultError,
    SeparateBath,
)
from tests.conftest import ethanol_dynamics


def parts_of(atoms):
    """Return kinetic energies, eV: of the centre of mass, of rotation about it, and of the rest."""
    masses, whole = atoms.get_masses(), atoms.get_kinetic_energy()
    momentum = atoms.get_momenta().sum(axis=0)
    translation = momentum @ momentum / (2 * masses.sum())
    spin = atoms.get_angular_momentum()
    arms = atoms.positions - atoms.get_center_of_mass()
    inertia = sum(
        m * (a @ a * np.eye(3) - np.outer(a, a)) for m, a in zip(masses, arms, strict=True)
    )
    rotation = 0.5 * spin @ np.linalg.solve(inertia, spin)
    return np.array([translation, rotation, whole - translation - rotation])


@pytest.mark.parametrize("part", ["translation", "rotation"])
def test_a_separate_bath_heats_one_motion_and_leaves_the_others(part):
    dynamics = ethanol_dynamics(EMT(), 300)
    thermalize_momenta(dynamics.atoms, temperature_K=300, rng=np.random.default_rng(5))
    before = parts_of(dynamics.atoms)
    index = ["translation", "rotation"].index(part)
    target = 1.5 * units.kB * 400.0
    bath = SeparateBath(dynamics, part, 400.0, relaxation=dynamics.dt / units.fs)
    for _ in range(10):  # λ² is limited, so one call need not be enough
        bath()
    expected = before.copy()
    expected[index] = target
    np.testing.assert_allclose(parts_of(dynamics.atoms), expected, rtol=1e-9)


def test_a_separate_bath_of_an_element_approaches_its_temperature_slowly():
    dynamics = ethanol_dynamics(EMT(), 300)
    atoms = dynamics.atoms
    hydrogen = atoms.numbers == 1
    before = atoms.get_velocities()
    ratio = 1.5 * hydrogen.sum() * units.kB * 900.0 / atoms[hydrogen].get_kinetic_energy()
    relaxation = 20 * dynamics.dt / units.fs
    SeparateBath(dynamics, "H", 900.0, relaxation)()
    scale = np.sqrt(1 + (ratio - 1) / 20)
    expected = np.where(hydrogen[:, None], scale * before, before)
    np.testing.assert_allclose(atoms.get_velocities(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("part", "temperature", "relaxation", "message"),
    [
        ("N", 300.0, 10.0, "part must be one of translation, rotation, C, H, O, got 'N'"),
        ("H", -1.0, 10.0, "expected a temperature above 0 K.*got -1.0 K"),
        ("H", 300.0, 0.01, "relaxation of at least the timestep.*0.01 fs"),
        ("H", 300.0, np.nan, "relaxation of at least the timestep.*nan fs"),
    ],
)
def test_separate_baths_refuse_what_makes_no_sense(part, temperature, relaxation, message):
    with pytest.raises(FaultError, match=message):
        SeparateBath(ethanol_dynamics(EMT(), 300), part, temperature, relaxation)
