"""Networks as potentials and ASE calculators: against schnetpack and finite differences."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
import torch._inductor
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from schnetpack.interfaces import SpkCalculator
from schnetpack.transform import ASENeighborList
from torch._dynamo.utils import counters

import mdxai
from mdxai.calculators import CalculatorError, NetworkCalculator
from mdxai.calculators.potential import TRACE_AFTER
from mdxai.frame import Frame

from .conftest import (
    KINDS,
    SOUND,
    ethanol_with,
    random_positions,
    random_potential,
    shaken,
)


def schnetpack_twin(calculator, dtype):
    card = calculator.card
    return SpkCalculator(
        copy.deepcopy(calculator.model),
        ASENeighborList(card.cutoff),
        energy_unit=card.energy_unit,
        position_unit="Ang",
        dtype=dtype,
    )


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-9)])
def test_forces_and_energy_equal_schnetpack(name, dtype, tolerance):
    atoms = shaken(amplitude=0.1, seed=3)
    calculator = mdxai.load_calculator(name, dtype=dtype)
    reference = schnetpack_twin(calculator, getattr(torch, dtype))
    twin = atoms.copy()
    atoms.calc, twin.calc = calculator, reference
    np.testing.assert_allclose(atoms.get_forces(), twin.get_forces(), atol=tolerance, rtol=0)
    offset = len(atoms) * calculator.card.offset_per_atom
    energy = atoms.get_potential_energy() - offset
    assert energy == pytest.approx(twin.get_potential_energy(), abs=10 * tolerance)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [False, True])
def test_periodic_cell_equals_schnetpack_with_stress(kind, shared):
    changes = {"shared_interactions": shared}
    if kind == "PaiNN":
        changes["shared_filters"] = shared
    potential = random_potential(kind, 5, **changes)
    # The cell is smaller than twice the cutoff: pairs have several images, atoms see themselves.
    atoms = Atoms(
        "H2O4", random_positions(6, 2), cell=[[5, 0, 0], [1, 5.5, 0], [0, 0.5, 6]], pbc=True
    )
    calculator = mdxai.calculators.NetworkCalculator(potential)
    reference = atoms.copy()
    reference.calc = schnetpack_twin(calculator, torch.float64)
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_forces(), reference.get_forces(), atol=1e-9)
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), numerical, atol=1e-7)


def test_forces_are_the_gradient():
    potential = random_potential("PaiNN", 1)
    atoms = Atoms("COH2", random_positions(4, 9))
    atoms.calc = mdxai.calculators.NetworkCalculator(potential)
    numerical = calculate_numerical_forces(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=1e-7)


def test_offset_survives_float32(ethanol):
    """The energy is near −4209 eV, where float32 has steps of half a meV."""
    energies = []
    for shift in (0.0, 1e-4):
        ethanol.positions[0, 0] += shift
        energies.append(ethanol.get_potential_energy())
    slope = -(energies[1] - energies[0]) / 1e-4
    assert energies[0] < -4000
    assert slope == pytest.approx(ethanol.get_forces()[0, 0], abs=0.02)


def test_far_away_molecule_keeps_its_precision(ethanol):
    here = ethanol.get_forces()
    ethanol.positions += 1e4
    np.testing.assert_allclose(ethanol.get_forces(), here, atol=1e-5)


def test_compiled_forces_equal_eager(ethanol):
    compiled = ethanol.copy()
    compiled.calc = mdxai.load_calculator("schnet-ethanol", compile=True)
    counters.clear()
    np.testing.assert_allclose(compiled.get_forces(), ethanol.get_forces(), atol=1e-5)
    assert compiled.calc.running_potential.runs_recorded
    cache = {name for name in counters["inductor"] if name.startswith("fxgraph_cache")}
    assert cache in ({"fxgraph_cache_hit"}, {"fxgraph_cache_miss"})  # not bypassed


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_operations_give_the_same_bits(kind, ethanol):
    """After some evaluations of a molecule a recorded graph replaces the operations."""
    atoms = ethanol.copy()
    atoms.calc = NetworkCalculator(random_potential(kind, 0, cutoff=6.0))
    before = atoms.get_forces()
    for _ in range(TRACE_AFTER + 1):
        atoms.positions += 1e-3
        atoms.get_forces()
    assert atoms.calc.running_potential.runs_recorded
    atoms.positions[:] = ethanol.positions
    np.testing.assert_array_equal(atoms.get_forces(), before)
    with torch.no_grad():
        for parameter in atoms.calc.model.parameters():
            parameter.mul_(1.1)
    atoms.calc.reset()
    changed = atoms.get_forces()
    np.testing.assert_array_equal(
        changed, atoms.calc.potential.evaluate(Frame.from_atoms(atoms))[1]
    )
    assert not np.allclose(changed, before)


def test_without_a_compiler_it_warns_and_runs(ethanol, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("InvalidCxxCompiler: no working C++ compiler found")

    monkeypatch.setattr(torch._inductor, "standalone_compile", broken)
    atoms = ethanol.copy()
    atoms.calc = mdxai.load_calculator("schnet-ethanol", compile=True)
    with pytest.warns(RuntimeWarning, match=r"runs uncompiled.*no working C\+\+ compiler"):
        forces = atoms.get_forces()
    np.testing.assert_allclose(forces, ethanol.get_forces(), atol=1e-6)


def test_potential_is_independent_of_the_running_calculator(ethanol):
    before = ethanol.get_forces().copy()
    twin = ethanol.calc.potential
    moved = ethanol.copy()
    moved.positions *= 1.1
    twin.evaluate(Frame.from_atoms(moved))
    for parameter in twin.network.parameters():
        parameter.zero_()
    assert not ethanol.calc.calculation_required(ethanol, ["forces"])
    ethanol.calc.reset()
    np.testing.assert_array_equal(ethanol.get_forces(), before)


def test_calculators_can_be_copied_and_pickled(ethanol):
    forces = ethanol.get_forces()
    for twin in (copy.deepcopy(ethanol.calc), pickle.loads(pickle.dumps(ethanol.calc))):
        other = ethanol.copy()
        other.calc = twin
        np.testing.assert_array_equal(other.get_forces(), forces)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.positions.__setitem__(0, np.nan), "positions that are not finite"),
        (lambda a: a.set_pbc(True), "its cell has no volume"),
    ],
)
def test_structures_without_finite_positions_or_a_volume_are_refused(change, message):
    atoms = ethanol_with("schnet-ethanol")
    change(atoms)
    with pytest.raises(CalculatorError, match=message):
        atoms.get_forces()


def test_unseen_elements_and_overlapping_atoms_are_refused():
    calculator = mdxai.load_calculator("schnet-ethanol")
    methanethiol = molecule("CH3SH")
    methanethiol.calc = calculator
    with pytest.raises(CalculatorError, match="trained on C, H, O and has never seen S"):
        methanethiol.get_potential_energy()
    atoms = ethanol_with(calculator)
    atoms.positions[5] = atoms.positions[3]
    with pytest.raises(CalculatorError, match=r"atoms 3 \(H\) and 5 \(H\) are 0.000 Å apart"):
        atoms.get_forces()


def test_stress_needs_a_periodic_cell(ethanol):
    with pytest.raises(PropertyNotImplementedError, match="periodic in all directions"):
        ethanol.get_stress()


def test_non_finite_positions_give_nan(ethanol):
    ethanol.get_forces()
    ethanol.positions[2, 1] = np.nan
    assert np.isnan(ethanol.get_potential_energy())
    assert np.isnan(ethanol.get_forces()).all()
