"""Hessian, n-body expansion and partial forces, against closed forms."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import mdxai
from mdxai.attribution import (
    AttributionError,
    AttributionUnavailable,
    ExpansionAttributor,
    HessianAttributor,
    partial_forces,
)
from mdxai.attribution.model_agnostic import odd_fragments
from mdxai.frame import Frame

from .conftest import (
    SOUND,
    random_positions,
    shaken,
)

LJ_CUTOFF = 1000.0


def lennard_jones(positions):
    """Return 4ε[(σ/r)¹² − (σ/r)⁶] of all pairs as a matrix, ε = 1 eV, σ = 1 Å."""
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    np.fill_diagonal(distances, np.inf)
    return 4 * (distances**-12 - distances**-6)


def test_expansion_of_a_pair_potential_is_that_potential():
    atoms = Atoms("Ar4", random_positions(4, 3))
    calculator = LennardJones(sigma=1.0, epsilon=1.0, rc=LJ_CUTOFF)
    attribution = ExpansionAttributor(calculator, body_order=3).attribute(atoms)
    truth = lennard_jones(atoms.positions)[attribution.pairs.i, attribution.pairs.j]
    np.testing.assert_allclose(attribution.two_body, truth, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(attribution.three_body, 0, atol=1e-9)
    np.testing.assert_allclose(attribution.one_body, 0, atol=1e-12)
    assert attribution.by_body_order.sum() == pytest.approx(attribution.output)
    assert attribution.relevance_total == pytest.approx(attribution.output)


class Springs(Calculator):
    """Harmonic springs between all atoms: E = Σ ½ k r² with k_ij = i + j + 1."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (as ASE has it)

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        index = np.arange(len(atoms))
        k = (index[:, None] + index + 1) * (1 - np.eye(len(atoms)))
        apart = atoms.positions[:, None] - atoms.positions
        self.results["energy"] = 0.25 * (k * (apart**2).sum(-1)).sum()
        self.results["forces"] = -(k[:, :, None] * apart).sum(1)


def test_hessian_blocks_of_springs():
    atoms = Atoms("Ar4", random_positions(4, 3))
    attribution = HessianAttributor(Springs()).attribute(atoms)
    expected = (attribution.pairs.i + attribution.pairs.j + 1) * np.sqrt(3)
    np.testing.assert_allclose(attribution.strengths, expected, rtol=1e-7)


def test_partial_forces_of_coulomb_obey_newton():
    charges = torch.tensor([1.0, -0.5, 0.7, -1.2], dtype=torch.float64)
    positions = random_positions(4, 4)

    def atom_energies(x):
        distances = (x[:, None] - x + 10 * torch.eye(4)[:, :, None]).norm(dim=-1)
        inverse = (1 - torch.eye(4)) / distances
        return 0.5 * (charges[:, None] * charges * inverse).sum(1)

    forces = partial_forces(atom_energies, positions)
    i, j = np.triu_indices(4, 1)
    np.testing.assert_allclose(forces[i, j], -forces[j, i], atol=1e-12)
    apart = positions[j] - positions[i]
    expected = 0.5 * (charges[i] * charges[j]).numpy() / np.linalg.norm(apart, axis=1) ** 3
    np.testing.assert_allclose(forces[i, j], expected[:, None] * apart, rtol=1e-9)
    np.testing.assert_array_equal(partial_forces(atom_energies, positions, atom=2), forces[2])


def test_hessian_and_expansion_take_any_calculator(ethanol):
    copper = bulk("Cu", cubic=True)
    hessian = mdxai.attributor(EMT(), method="hessian").attribute(copper)
    assert hessian.pairs.distances.max() < 2.6  # the minimum image
    assert np.ptp(hessian.strengths) < 1e-3 * hessian.strengths.max()  # fcc: all six are alike
    with pytest.raises(AttributionUnavailable, match="periodic"):
        mdxai.attributor(EMT(), method="expansion").attribute(copper)
    before = ethanol.get_forces().copy()
    mdxai.attributor(ethanol.calc, method="hessian").attribute(ethanol)
    assert not ethanol.calc.calculation_required(ethanol, ["forces"])
    np.testing.assert_array_equal(ethanol.get_forces(), before)


@pytest.mark.parametrize("name", SOUND)
def test_partial_forces_of_networks_sum_to_the_forces_and_equal_differences(name):
    potential = mdxai.load_calculator(name, dtype="float64").potential
    atoms = shaken(amplitude=0.05, seed=1)
    frame = Frame.from_atoms(atoms)
    partial = potential.partial_forces(frame)
    np.testing.assert_allclose(partial.sum(0), potential.evaluate(frame)[1], atol=1e-10)
    np.testing.assert_array_equal(potential.partial_forces(frame, atom=4), partial[4])
    moved = atoms.copy()
    step = 1e-4
    energies = []
    for sign in (1, -1):
        moved.positions[:] = atoms.positions
        moved.positions[2, 1] += sign * step
        energies.append(
            potential.predict(moved.numbers, moved.positions, frame.cell, frame.pbc).energies
        )
    numerical = -(energies[0] - energies[1]) / (2 * step)
    np.testing.assert_allclose(partial[:, 2, 1], numerical, atol=1e-6)


class InitialCharges(Calculator):
    """q_i q_j/r of the charges that the atoms carry."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        charges, energy = atoms.get_initial_charges(), 0.0
        for i in range(len(atoms)):
            for j in range(i):
                energy += charges[i] * charges[j] / atoms.get_distance(i, j)
        self.results = {"energy": energy, "forces": np.zeros((len(atoms), 3))}


def test_hessian_and_expansion_see_charges_and_leave_the_running_calculator_alone():
    ions = Atoms("NaCl", [[0, 0, 0], [0, 0, 2.0]])
    ions.set_initial_charges([1, -1])
    ions.calc = InitialCharges()
    ions.get_potential_energy()
    attribution = mdxai.attributor(ions.calc, method="expansion").attribute(ions)
    assert attribution.two_body.item() == pytest.approx(-0.5)
    mdxai.attributor(ions.calc, method="hessian").attribute(ions)
    np.testing.assert_array_equal(ions.calc.atoms.positions, ions.positions)
    with pytest.raises(AttributionError, match="expected an ASE calculator, got None"):
        mdxai.attributor(None, method="hessian")


def test_expansion_leaves_constant_offsets_out():
    calculator = mdxai.load_calculator("painn-ethanol", dtype="float64")
    atoms = molecule("H2O")
    expansion = mdxai.attributor(calculator, method="expansion", body_order=3).attribute(atoms)
    walks = mdxai.attributor(calculator).attribute(atoms)
    assert expansion.output == pytest.approx(walks.output, abs=1e-8)
    assert np.abs(expansion.one_body).max() < 50


class NoAtoms(EMT):
    """Fails on atoms of oxygen, as a calculation that does not converge."""

    def calculate(self, atoms=None, *args, **kwargs):
        if str(atoms.symbols) == "O":
            raise RuntimeError("no convergence")
        super().calculate(atoms, *args, **kwargs)


def test_a_fragment_that_fails_is_named():
    message = r"NoAtoms fails on O0, cut out of the molecule: RuntimeError: no convergence"
    with pytest.raises(AttributionUnavailable, match=message):
        ExpansionAttributor(NoAtoms()).attribute(molecule("H2O"))


@pytest.mark.parametrize("body_order", [2, 3])
def test_radicals_are_counted_as_one_counts_them(body_order):
    numbers = molecule("CH3NO2").numbers
    electrons = [
        sum(numbers[list(members)])
        for order in range(1, body_order + 1)
        for members in combinations(range(len(numbers)), order)
    ]
    odd = sum(n % 2 for n in electrons)
    assert odd_fragments(numbers, body_order) == (odd, len(electrons))
