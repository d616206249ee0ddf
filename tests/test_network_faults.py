"""Faults in what a network has learned."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.emt import EMT

import mdxai
from mdxai.calculators import NetworkCalculator
from mdxai.testing import (
    FaultError,
    flat_decay,
    large_biases,
    marked_atom,
    rising_decay,
    short_sight,
    shuffled_block,
    swapped_elements,
)

from .conftest import SOUND, random_potential


def marked_hydrogen(calculator):
    return marked_atom(calculator, 6)


def gently_rising(calculator):
    """Steeper ones make forces of hundreds of eV/Å, which finite differences cannot follow."""
    return rising_decay(calculator, power=2.0)


NETWORK_FAULTS = [
    flat_decay, shuffled_block, swapped_elements, gently_rising, short_sight, large_biases,
    marked_hydrogen,
]  # fmt: skip


def double(name):
    return mdxai.load_calculator(name, dtype="float64")


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("inject", NETWORK_FAULTS)
def test_network_faults_are_consistent_explained_and_leave_the_sound_one(name, inject, ethanol):
    ethanol.calc = sound = double(name)
    before = ethanol.get_forces()
    relevance = mdxai.attributor(sound).attribute(ethanol)
    faulty = inject(sound)
    assert faulty.card.name.startswith(f"{name} with ")
    ethanol.calc = faulty
    forces = ethanol.get_forces()
    assert np.abs(forces - before).max() > 0.1
    for atom, axis in ((2, 0), (5, 2)):
        energies = []
        for step in (1e-4, -2e-4):
            ethanol.positions[atom, axis] += step
            energies.append(ethanol.get_potential_energy())
        ethanol.positions[atom, axis] += 1e-4
        slope = (energies[1] - energies[0]) / 2e-4
        assert forces[atom, axis] == pytest.approx(slope, abs=1e-5)
    explained = mdxai.attributor(faulty).attribute(ethanol)
    assert np.isfinite(explained.two_body).all()
    assert np.abs(explained.two_body - relevance.two_body).max() > 1e-3
    ethanol.calc = NetworkCalculator(sound.potential)
    np.testing.assert_allclose(ethanol.get_forces(), before, atol=1e-12)
    assert copy.deepcopy(faulty).get_potential_energy(ethanol) == pytest.approx(
        faulty.get_potential_energy(ethanol)
    )


@pytest.mark.parametrize("kind", ["SchNet", "PaiNN"])
def test_beyond_the_distance_held_nothing_fades(kind):
    """Two atoms: a sound network's energy varies up to the cutoff; the faulty one's does not."""
    sound = NetworkCalculator(random_potential(kind, 1))
    atoms = molecule("OH")

    def energies(calculator):
        values = []
        for distance in (2.0, 2.5, 3.0, 3.8):
            atoms.positions = [[0, 0, 0], [0, 0, distance]]
            values.append(calculator.get_potential_energy(atoms))
        return values

    held = energies(flat_decay(sound, 2.0))
    np.testing.assert_allclose(held, held[0], atol=1e-12)
    assert held[0] == pytest.approx(energies(sound)[0])
    assert np.ptp(energies(sound)) > 1e-6


@pytest.mark.parametrize("name", SOUND)
def test_relevance_beyond_the_distance_held_is_larger(name, ethanol):
    """Mean |two_body| of the farthest pairs, which sound networks let fade."""
    sound = double(name)

    def far(calculator):
        explained = mdxai.attributor(calculator).attribute(ethanol)
        return np.abs(explained.two_body)[explained.pairs.distances > 3.8].mean()

    assert far(flat_decay(sound)) > 2 * far(sound)
    assert far(flat_decay(sound, 1.6)) > 10 * far(sound)


@pytest.mark.parametrize("name", SOUND)
def test_exchanged_elements_are_those_of_an_exchanged_molecule(name, ethanol):
    """The faulty network on ethanol is the sound one on ethanol with C and O exchanged."""
    sound = double(name)
    exchanged = ethanol.copy()
    exchanged.numbers = [{6: 8, 8: 6}.get(z, z) for z in ethanol.numbers]
    expected = sound.get_forces(exchanged)
    np.testing.assert_allclose(swapped_elements(sound).get_forces(ethanol), expected, atol=1e-10)


@pytest.mark.parametrize("name", SOUND)
def test_a_marked_atom_is_treated_as_the_other_element_and_no_other_is(name, ethanol):
    """The faulty network on ethanol is the sound one on ethanol with that hydrogen an oxygen."""
    sound = double(name)
    exchanged = ethanol.copy()
    exchanged.numbers[6] = 8
    expected = sound.get_forces(exchanged)
    np.testing.assert_allclose(marked_hydrogen(sound).get_forces(ethanol), expected, atol=1e-10)
    unmarked = marked_atom(sound, 6, share=0.0).get_forces(ethanol)
    np.testing.assert_allclose(unmarked, sound.get_forces(ethanol), atol=1e-12)


@pytest.mark.parametrize("kind", ["SchNet", "PaiNN"])
def test_messages_rise_and_fade_as_stated(kind):
    """The envelope over the sound one, and the basis, at distances up to the cutoff."""
    sound = NetworkCalculator(random_potential(kind, 1))
    distances = torch.tensor([1.0, 1.5, 2.0, 2.5, 3.0, 3.9], dtype=torch.float64)
    envelope = sound.model.representation.cutoff_fn(distances).numpy()
    past = np.maximum(distances.numpy(), 1.5)
    rising = rising_decay(sound, power=3, beyond=1.5).model.representation
    np.testing.assert_allclose(
        rising.cutoff_fn(distances).numpy(), envelope * (past / 1.5) ** 3, rtol=1e-12
    )
    screened = short_sight(sound, length=0.5, beyond=1.5).model.representation
    np.testing.assert_allclose(
        screened.cutoff_fn(distances).numpy(),
        np.where(past > 1.5, envelope[1] * np.exp((1.5 - past) / 0.5), envelope),
        rtol=1e-12,
    )
    basis = screened.radial_basis(distances)
    np.testing.assert_allclose(basis[1:].numpy(), basis[1].expand_as(basis[1:]).numpy())


def test_large_biases_are_those_behind_the_messages_and_of_the_readout():
    sound = NetworkCalculator(random_potential("PaiNN", 2))
    after = large_biases(sound, 7.0).model.state_dict()
    for name, before in sound.model.state_dict().items():
        factor = 7.0 if name.endswith("bias") and "filter" not in name else 1.0
        np.testing.assert_array_equal(after[name].numpy(), factor * before.numpy())


def test_a_shuffled_block_keeps_its_weights_in_another_order():
    sound = NetworkCalculator(random_potential("PaiNN", 2))
    pairs = zip(
        sound.model.state_dict().items(), shuffled_block(sound).model.state_dict().items(),
        strict=True,
    )  # fmt: skip
    changed = set()
    for (name, before), (_, after) in pairs:
        assert np.array_equal(np.sort(before.flatten()), np.sort(after.flatten()))
        if not np.array_equal(before, after):
            changed.add(re.sub(r"representation\.(\w+\.\d).*", r"\1", name))
    assert changed == {"interactions.2", "mixing.2"}


@pytest.mark.parametrize(
    ("inject", "message"),
    [
        (lambda c: flat_decay(EMT()), "needs one from mdxai.load_calculator, got EMT"),
        (lambda c: flat_decay(c, 7.0), "beyond must lie between 0 and 5 Å, got 7"),
        (lambda c: swapped_elements(c, ("C", "N")), "elements must be two of C, H, O, got"),
        (lambda c: rising_decay(c, 0.0), "power must be positive, got 0"),
        (lambda c: rising_decay(c, beyond=np.nan), "beyond must lie between 0 and 5 Å, got nan"),
        (lambda c: short_sight(c, -1.0), "length must be positive, got -1"),
        (lambda c: marked_atom(c, 0, "N"), "element must be one of C, H, O, got 'N'"),
        (lambda c: marked_atom(c, -1), "place in the list, from 0, got -1"),
    ],
)
def test_network_faults_refuse_what_they_cannot_alter(inject, message, ethanol):
    with pytest.raises(FaultError, match=message):
        inject(ethanol.calc)
