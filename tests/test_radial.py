"""Inverse-power filters: what they are, how they fall, and that everything holds for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.test import gradient_test

import mdxai
from mdxai.attribution import FlowAttributor, Rule, WalkAttributor, attributor
from mdxai.calculators import CalculatorError, NetworkCalculator
from mdxai.calculators.batch import BatchPotential, Systems
from mdxai.calculators.card import Card, sha256
from mdxai.calculators.network import build_network
from mdxai.calculators.potential import NetworkPotential
from mdxai.calculators.radial import CORE, InversePowers, PowerLawCutoff
from mdxai.calculators.zbl import zbl_of

from .conftest import KINDS, random_network, random_positions, random_potential, shaken
from .walk_enumeration import assert_equals_enumeration, schnetpack_inputs

POWERS, ZBL = {"radial": "inverse-power"}, {"repulsion": "ZBL"}
BUILDS = (POWERS, ZBL, POWERS | ZBL)
FREE = (np.zeros((3, 3)), np.zeros(3, dtype=bool))


def slope(values, distances):
    """Return the exponent n of |values| ∝ r⁻ⁿ between the last two distances."""
    return -math.log(abs(values[-1] / values[-2])) / math.log(distances[-1] / distances[-2])


def predicted(potential, atoms):
    return potential.predict(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


def test_the_basis_is_that_of_the_formula():
    n, r = 7, 1.9
    x = 1 / math.sqrt(1 + (r / CORE) ** 2)
    expected = [
        (n * x / k) ** k * ((1 - x) / (1 - k / n)) ** (n - k) if k < n else x**n
        for k in range(1, n + 1)
    ]
    found = InversePowers(n).double()(torch.tensor([r], dtype=torch.float64))
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    near = InversePowers(n)(torch.tensor([0.0, 1e-3, 0.1], requires_grad=True))
    assert torch.isfinite(near).all()
    assert near[0].tolist() == [0] * (n - 1) + [1]
    near.sum().backward()  # no slope that is not a number at r = 0


def test_each_function_falls_as_its_own_power():
    distances = [1e3, 2e3]
    values = InversePowers(5).double()(torch.tensor(distances, dtype=torch.float64))
    for k in range(5):
        assert slope(values[:, k], distances) == pytest.approx(k + 1, abs=0.02)


@pytest.mark.parametrize("decay", [1.0, 3.0, 6.0])
def test_the_envelope_falls_as_the_power_that_is_asked_for(decay):
    distances = [100.0, 200.0]
    envelope = PowerLawCutoff(1e6, decay).double()
    far = envelope(torch.tensor(distances, dtype=torch.float64))
    assert slope(far, distances) == pytest.approx(decay, rel=0.01)
    assert float(envelope(torch.tensor([CORE]).double())) == pytest.approx(1, rel=1e-6)
    assert PowerLawCutoff(5.0, decay)(torch.tensor([5.0, 7.0])).tolist() == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_relevance_of_two_distant_atoms_falls_as_the_stated_power(kind):
    """A filter's bias alone keeps it from falling: Gaussians with the same weights do not."""
    exponents = {}
    for radial in ("inverse-power", "gaussian"):
        potential = random_potential(kind, 3, radial=radial, decay=2.0, cutoff=2e4)
        distances, found = [200.0, 400.0], []
        for distance in distances:
            pair = Atoms("CO", [[0, 0, 0], [distance, 0, 0]])
            found.append(WalkAttributor(potential, Rule(0.0)).attribute(pair).two_body[0])
        exponents[radial] = slope(found, distances)
    assert exponents["inverse-power"] == pytest.approx(2.0, abs=0.1)
    assert exponents["gaussian"] < 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", BUILDS, ids=str)
def test_energies_and_forces_are_schnetpacks(kind, build):
    network, description = random_network(kind, 5, **build)
    atoms = shaken()
    found = predicted(NetworkPotential(network, Card("x", description), dtype=torch.float64), atoms)
    theirs = network(schnetpack_inputs(atoms, 4.0))
    assert found.energy == pytest.approx(float(theirs["energy"].detach()), abs=1e-10)
    np.testing.assert_allclose(found.forces, theirs["forces"].detach(), atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_forces_and_partial_forces_are_gradients(kind):
    potential = random_potential(kind, 7, **POWERS, **ZBL)
    atoms = shaken()
    atoms.calc = NetworkCalculator(potential)
    numerical, analytical = gradient_test(atoms, range(3))
    np.testing.assert_allclose(numerical, analytical, atol=1e-5)
    partial = potential.partial_forces(mdxai.Frame.from_atoms(atoms))
    np.testing.assert_allclose(partial.sum(0), atoms.get_forces(), atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_recorded_graphs_and_small_cells_agree(kind):
    potential = random_potential(kind, 9, cutoff=5.0, **POWERS, **ZBL)
    atoms, n = shaken(), 2
    alone = predicted(potential, atoms)
    crowd = Systems(
        np.tile(atoms.numbers, n), len(atoms) * np.arange(n + 1), np.tile(atoms.positions, (n, 1)),
        np.zeros((n, 3, 3)), np.zeros((n, 3), dtype=bool),
    )  # fmt: skip
    energies, forces = BatchPotential(potential).predict(crowd)
    np.testing.assert_allclose(energies, alone.energy, atol=1e-10)
    np.testing.assert_allclose(forces[: len(atoms)], alone.forces, atol=1e-10)
    for _ in range(60):
        recorded = predicted(potential, atoms)
    assert potential.runs_recorded
    np.testing.assert_allclose(recorded.forces, alone.forces, atol=1e-12)
    atoms.set_cell([30, 30, 30])
    atoms.pbc = True
    np.testing.assert_allclose(predicted(potential, atoms).forces, alone.forces, atol=1e-10)


@pytest.mark.slow  # compiles
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_networks_and_explanations_agree(kind):
    network, description = random_network(kind, 9, **POWERS, **ZBL)
    results = []
    for compiled in (False, True):
        potential = NetworkPotential(
            network, Card("x", description), dtype=torch.float64, compile=compiled
        )
        atoms = shaken()
        atoms.calc = NetworkCalculator(potential)
        explain = attributor(atoms.calc, method="walks")
        atoms.get_forces()
        results.append((atoms.get_forces(), explain.attribute(atoms)))
    np.testing.assert_allclose(results[1][0], results[0][0], atol=1e-9)
    np.testing.assert_allclose(results[1][1].two_body, results[0][1].two_body, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_relevance_of_inverse_powers_equals_enumeration(kind, gamma):
    potential = random_potential(kind, 11, n_interactions=2, **POWERS)
    atoms = Atoms("COH2", random_positions(4, 12))
    attribution = WalkAttributor(potential, Rule(gamma)).attribute(atoms)
    assert_equals_enumeration(attribution, potential, atoms, gamma, 1e-10)


def without_repulsion(potential):
    """Return the weights of a network with ZBL for the same one without."""
    weights = potential.network.state_dict()
    return {name: w for name, w in weights.items() if not name.startswith("output_modules.1")}


def zbl_pairs(potential, atoms, pairs):
    """Return the repulsion of each pair from schnetpack's own module on two atoms alone, eV."""
    module = zbl_of(potential.network)
    found = []
    for i, j in zip(pairs.i, pairs.j, strict=True):
        two = schnetpack_inputs(atoms[[i, j]], potential.cutoff)
        found.append(float(module(two)[module.output_key].detach().sum()))
    return np.array(found)


@pytest.mark.parametrize("kind", KINDS)
def test_repulsion_is_given_to_its_pairs_and_the_network_its_walks(kind):
    repelling, plain = random_potential(kind, 13, **ZBL), random_potential(kind, 13)
    plain.network.load_state_dict(without_repulsion(repelling))
    atoms = shaken("H2CO")
    one, two = (
        WalkAttributor(potential, Rule(0.1), body_order=3).attribute(atoms)
        for potential in (plain, repelling)
    )
    energies = zbl_pairs(repelling, atoms, one.pairs)
    assert energies.max() > 0.01
    np.testing.assert_allclose(two.two_body - one.two_body, energies, atol=1e-10)
    np.testing.assert_allclose(two.one_body, one.one_body, atol=1e-12)
    np.testing.assert_allclose(two.three_body, one.three_body, atol=1e-12)
    assert two.output - one.output == pytest.approx(energies.sum(), abs=1e-10)
    assert two.residual == pytest.approx(one.residual, abs=1e-10)  # repulsion leaves no rest
    assert two.by_body_order.sum() == pytest.approx(two.atoms.sum(), abs=1e-10)
    flows = [FlowAttributor(p, Rule(0.1)).attribute(atoms) for p in (plain, repelling)]
    np.testing.assert_allclose(flows[1].strengths - flows[0].strengths, energies, atol=1e-10)
    np.testing.assert_allclose(flows[1].atoms - flows[0].atoms, two.atoms - one.atoms, atol=1e-10)


def test_repulsion_is_explained_alike_one_by_one_and_in_batches():
    potential = random_potential("PaiNN", 15, **POWERS, **ZBL)
    explain = WalkAttributor(potential, Rule(0.1))
    molecules = [shaken(), shaken("H2O"), shaken("CH4", seed=2)]
    for alone, together in zip(
        map(explain.attribute, molecules), explain.attribute_many(molecules), strict=True
    ):
        np.testing.assert_allclose(together.two_body, alone.two_body, atol=1e-10)
        np.testing.assert_allclose(together.by_body_order, alone.by_body_order, atol=1e-10)
        assert together.output == pytest.approx(alone.output, abs=1e-10)


def test_the_energy_of_one_atom_has_half_of_its_repulsion():
    atoms, found = shaken(), []
    calculator = NetworkCalculator(random_potential("SchNet", 17, **ZBL))
    whole = attributor(calculator, method="walks").attribute(atoms)
    parts = [attributor(calculator, method="walks", atom=k).attribute(atoms) for k in range(9)]
    found = sum(part.two_body for part in parts)
    np.testing.assert_allclose(found, whole.two_body, atol=1e-9)
    assert sum(part.output for part in parts) == pytest.approx(whole.output, abs=1e-9)


def test_small_periodic_cells_keep_the_repulsion_of_images():
    repelling, plain = (random_potential("SchNet", 19, n_interactions=2, **b) for b in (ZBL, {}))
    plain.network.load_state_dict(without_repulsion(repelling))
    atoms = Atoms("CO", [[0, 0, 0], [1.2, 0.3, 0]], cell=[3.1, 3.3, 3.5], pbc=True)
    explained, bare = (WalkAttributor(p, Rule(0.1)).attribute(atoms) for p in (repelling, plain))
    module = zbl_of(repelling.network)
    total = float(module(schnetpack_inputs(atoms, 4.0))[module.output_key].detach().sum())
    assert explained.output - bare.output == pytest.approx(total, abs=1e-9)
    assert explained.atoms.sum() - bare.atoms.sum() == pytest.approx(total, abs=1e-9)
    assert (explained.one_body - bare.one_body).min() > 0  # atoms and their own images


def test_nuclei_are_kept_apart_where_the_network_knows_nothing():
    potential = random_potential("PaiNN", 21, **ZBL)
    close = [predicted(potential, Atoms("CO", [[0, 0, 0], [r, 0, 0]])).energy for r in (0.3, 0.2)]
    assert close[0] > 100
    assert close[1] > 1.5 * close[0]


def test_folders_keep_the_basis_and_the_repulsion(tmp_path):
    network, description = random_network("SchNet", 23, decay=2.0, **POWERS, **ZBL)
    torch.save(network.float().state_dict(), tmp_path / "weights.pt")
    card = Card("x", description, weights_sha256=sha256(tmp_path / "weights.pt"))
    card.dump(tmp_path / "card.toml")
    again = mdxai.load_calculator(tmp_path, dtype="float64")
    atoms = shaken()
    written = NetworkPotential(network, card, dtype=torch.float64)
    assert predicted(again.potential, atoms).energy == predicted(written, atoms).energy
    assert float(again.model.representation.cutoff_fn.decay) == 2.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radial": "bessel"}, "radial must be one of"),
        ({"repulsion": "zbl"}, "repulsion must be one of"),
        ({"repulsion": "ZBL", "output": {"property": "gap", "pooling": "mean"}}, "leave it out"),
        ({"radial": "inverse-power", "n_rbf": 500}, "got n_rbf = 500"),
        ({"radial": "inverse-power", "decay": -1.0}, "decay = -1"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    description = {
        "type": "SchNet",
        "n_atom_basis": 8,
        "n_interactions": 1,
        "n_rbf": 8,
        "cutoff": 4,
    }
    with pytest.raises(CalculatorError, match=message):
        build_network(description | changes)
