"""Charge and spin of parts and copies of a system."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

import mdxai
from mdxai.calculators.fragments import (
    inputs_of_atoms_in,
    inputs_of_copies,
    inputs_of_elements,
    inputs_with_atom,
)
from mdxai.frame import NO_INPUTS, Frame
from mdxai.monitoring.check import check


def frame_of(symbols, charge, spin, key="spin"):
    n = len(Atoms(symbols))
    atoms = Atoms(symbols, 1.1 * np.eye(max(n, 3))[:n, :3] * np.arange(1, n + 1)[:, None])
    atoms.info |= {"charge": charge, key: spin, "label": "x"}
    atoms.set_initial_charges(np.linspace(-1.0, 1.0, n))
    return Frame.from_atoms(atoms)


@pytest.mark.parametrize(
    ("spin", "oxygen", "pair"), [(1, 1, 2), (0, 0, 1)], ids=["multiplicity", "unpaired electrons"]
)
def test_a_part_is_neutral_and_in_its_lowest_spin(spin, oxygen, pair):
    frame = frame_of("OH", -1, spin)  # ten electrons
    alone, whole = inputs_of_atoms_in(frame, [0]), inputs_of_atoms_in(frame, [0, 1])
    assert alone.info == {"charge": 0, "spin": oxygen, "label": "x"}
    assert alone.charges.tolist() == [-1.0]
    assert whole is frame.inputs
    elements = inputs_of_elements(frame, np.array([8, 1]))
    assert (elements.info["charge"], elements.info["spin"]) == (0, pair)
    assert elements.charges.tolist() == [-1.0, 1.0]


def test_copies_add_up_and_a_distant_atom_adds_its_electron():
    frame = frame_of("OH", 0, 2)  # a doublet
    two = inputs_of_copies(frame)
    assert (two.info["charge"], two.info["spin"]) == (0, 3)
    assert len(two.charges) == 4
    anion = inputs_of_copies(frame_of("OH", -1, 0))
    assert (anion.info["charge"], anion.info["spin"]) == (-2, 0)
    assert inputs_with_atom(frame, 10).info["spin"] == 2
    assert inputs_with_atom(frame, 1).info["spin"] == 3
    assert inputs_with_atom(frame, 10).charges.tolist() == [-1.0, 1.0, 0.0]


def test_nothing_comes_from_nothing():
    frame = Frame.from_atoms(Atoms("OH", [[0, 0, 0], [0, 0, 1]]))
    for inputs in (inputs_of_atoms_in(frame, [0]), inputs_of_copies(frame)):
        assert inputs is NO_INPUTS


class Strict(Calculator):
    """Refuses structures without charge and spin, or with a spin that their electrons forbid."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if not {"charge", "spin"} <= atoms.info.keys():
            raise ValueError("atoms.info must contain both 'charge' and 'spin'")
        if (atoms.numbers.sum() - atoms.info["charge"] - atoms.info["spin"] + 1) % 2:
            raise ValueError("no such spin")
        distances = atoms.get_all_distances(vector=True)
        lengths = np.linalg.norm(distances, axis=-1) + 1e3 * np.eye(len(atoms))
        slope = -2.0 * (lengths < 100) * lengths**-3
        energy = 0.5 * (lengths[lengths < 100] ** -2).sum() + 0.3 * atoms.info["charge"]
        forces = (slope / lengths)[:, :, None] * distances
        self.results = {"energy": float(energy), "forces": forces.sum(axis=1)}


def test_every_probe_takes_a_calculator_that_insists_on_charge_and_spin():
    atoms = Atoms("OH2", [[0, 0, 0], [0.95, 0, 0], [-0.2, 0.93, 0]])
    atoms.info |= {"charge": 0, "spin": 1}
    results = check(Strict(), atoms)
    failed = {r.name: r.remedy for r in results if "ValueError" in r.remedy}
    assert not failed
    assert {r.name for r in results if r.verdict == "pass"} >= {"gradient", "permutation"}
    found = mdxai.attributor(Strict(), method="expansion").attribute(atoms)
    assert np.isfinite(found.strengths).all()
