"""Loading calculators by name and from files; what is refused."""

from __future__ import annotations

import copy
import pickle
import shutil
import sys
import types

import numpy as np
import pytest
import schnetpack as spk
import torch
import torch._inductor
from ase import Atoms
from ase.build import molecule
from schnetpack import transform as trn
from schnetpack.interfaces import SpkCalculator
from schnetpack.transform import AddOffsets

import mdxai
from mdxai.calculators import CalculatorError
from mdxai.calculators.batch import BatchPotential, Systems
from mdxai.calculators.card import Card
from mdxai.calculators.library import find_calculator
from mdxai.calculators.loading import card_of_network
from mdxai.calculators.potential import NetworkPotential
from mdxai.frame import Frame

from .conftest import (
    KINDS,
    random_network,
    random_positions,
)


def test_published_models_load_and_are_accurate(shared_data):
    data = np.load(shared_data / "rmd17" / "rmd17_ethanol.npz")
    calculator = mdxai.load_calculator(shared_data / "models" / "painn_rmd17_ethanol_1.pt")
    errors = []
    for row in data["test_01"][:20]:
        atoms = Atoms(data["z"], data["R"][row].astype(float))
        atoms.calc = calculator
        errors.append(np.abs(atoms.get_forces() - data["F"][row]).mean())
        assert atoms.get_potential_energy() == pytest.approx(data["E"][row], abs=0.05)
    assert np.mean(errors) < 0.010  # eV/Å; published: 7.2 to 8.1 meV/Å


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(CalculatorError, match=r"did you mean 'painn-ethanol'.*schnet-ethanol"):
        mdxai.load_calculator("pain-ethanol")


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(CalculatorError, match="there is no calculator"):
        mdxai.load_calculator(tmp_path / "nothing.pt")


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(find_calculator("schnet-ethanol"), tmp_path / "copy")


def test_damaged_weights_are_refused_by_their_hash(copied):
    weights = copied / "weights.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(CalculatorError, match=r"SHA-256 .* damaged or was replaced"):
        mdxai.load_calculator(copied)


def test_truncated_weights_are_refused(tmp_path):
    path = tmp_path / "cut.pt"
    path.write_bytes((find_calculator("schnet-ethanol") / "weights.pt").read_bytes()[:5000])
    with pytest.raises(CalculatorError, match="cannot be read as a file of weights"):
        mdxai.load_calculator(path)


def test_pickles_run_only_when_trusted(tmp_path):
    """Without trust_pickle its code never runs."""
    path, trap = tmp_path / "best_model", tmp_path / "executed"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    with path.open("wb") as file:
        pickle.dump(Trap(), file)
    with pytest.raises(CalculatorError, match="trust_pickle=True"):
        mdxai.load_calculator(path)
    torch.save(Trap(), path)
    with pytest.raises(CalculatorError, match="trust_pickle=True"):
        mdxai.load_calculator(path)
    assert not trap.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_trusted_pickle_needs_its_units(tmp_path, kind):
    network, description = random_network(kind, 3)
    path = tmp_path / "best_model"
    torch.save(network, path)
    with pytest.raises(CalculatorError, match="does not state its units"):
        mdxai.load_calculator(path, trust_pickle=True)
    with pytest.raises(CalculatorError, match="energy unit 'furlong' is not known"):
        mdxai.load_calculator(path, trust_pickle=True, energy_unit="furlong", length_unit="Ang")
    loaded = mdxai.load_calculator(
        path, dtype="float64", trust_pickle=True, energy_unit="kcal/mol", length_unit="nm"
    )
    frame = Frame.from_atoms(Atoms("COH2", 10 * random_positions(4, 1)))
    plain = NetworkPotential(network, Card("plain", description), dtype=torch.float64)
    energy, forces = loaded.potential.evaluate(frame)
    small = Frame.from_atoms(Atoms("COH2", random_positions(4, 1)))
    reference, reference_forces = plain.evaluate(small)
    unit = mdxai.calculators.loading.ENERGY_UNITS["kcal/mol"]
    assert energy == pytest.approx(reference * unit)
    np.testing.assert_allclose(forces, reference_forces * unit / 10, rtol=1e-9)
    assert loaded.card.cutoff == pytest.approx(40.0)


def break_average(network):
    network.output_modules[0].aggregation_mode = "avg"


def break_offset(network):
    offsets = AddOffsets("energy", add_mean=True, is_extensive=False)
    network.postprocessors = torch.nn.ModuleList([offsets])


def break_heads(network):
    network.output_modules.insert(1, copy.deepcopy(network.output_modules[0]))


@pytest.mark.parametrize("change", [break_average, break_offset, break_heads])
def test_pickles_that_compute_something_else_are_refused(tmp_path, change):
    network, _ = random_network("SchNet", 3)
    change(network)
    torch.save(network, tmp_path / "best_model")
    with pytest.raises(
        CalculatorError, match="is not a potential of schnetpack that mdxai can open"
    ):
        mdxai.load_calculator(
            tmp_path / "best_model", trust_pickle=True, energy_unit="eV", length_unit="Ang"
        )


def test_units_of_a_model_that_states_them_are_refused(tmp_path):
    network, description = random_network("SchNet", 3)
    path = tmp_path / "model.pt"
    torch.save({"config": description, "state_dict": network.float().state_dict()}, path)
    assert mdxai.load_calculator(path, trust_pickle=True).card.elements == ()
    with pytest.raises(CalculatorError, match="states its own units"):
        mdxai.load_calculator(path, energy_unit="eV")


def test_environment_variable_adds_calculators(copied, monkeypatch):
    monkeypatch.setenv("MDXAI_CALCULATORS", str(copied.parent))
    assert mdxai.load_calculator("copy").card.name == "schnet-ethanol"


def test_a_network_is_described_by_what_builds_it():
    network, description = random_network("PaiNN", 2)
    card = card_of_network(network, "x")
    assert card.network == description


def schnetpack_model(*, references=None, stress=False):
    """A PaiNN as schnetpack's own configurations make it."""
    steps = [trn.CastTo64()]
    steps.append(
        AddOffsets(
            "energy", add_mean=True, property_mean=torch.tensor([0.5]), atomrefs=references,
            add_atomrefs=references is not None,
        )
    )  # fmt: skip
    basis, cutoff = spk.nn.GaussianRBF(n_rbf=10, cutoff=5.0), spk.nn.CosineCutoff(5.0)
    return spk.model.NeuralNetworkPotential(
        representation=spk.representation.PaiNN(16, 2, radial_basis=basis, cutoff_fn=cutoff),
        input_modules=[spk.atomistic.Strain()] * stress + [spk.atomistic.PairwiseDistances()],
        output_modules=[
            spk.atomistic.Atomwise(n_in=16, output_key="energy"),
            spk.atomistic.Forces(calc_stress=stress),
        ],
        postprocessors=steps,
    )


@pytest.mark.parametrize("stress", [False, True])
@pytest.mark.parametrize("with_references", [False, True])
def test_a_best_model_gives_what_schnetpack_gives(tmp_path, stress, with_references):
    references = torch.zeros(100, dtype=torch.float64)
    references[[1, 6, 8]] = torch.tensor([-13.6, -1030.3, -2040.7], dtype=torch.float64)
    torch.manual_seed(1)
    made = schnetpack_model(references=references if with_references else None, stress=stress)
    torch.save(made, tmp_path / "best_model")
    atoms = molecule("CH3CH2OH")
    atoms.calc = SpkCalculator(
        model=str(tmp_path / "best_model"), neighbor_list=trn.ASENeighborList(cutoff=5.0),
        energy_key="energy", force_key="forces", energy_unit="eV", position_unit="Ang",
        device="cpu",
    )  # fmt: skip
    ours = mdxai.load_calculator(
        tmp_path / "best_model", trust_pickle=True, energy_unit="eV", length_unit="Ang"
    )
    frame = Frame.from_atoms(atoms)
    energy, forces = ours.potential.evaluate(frame)
    # schnetpack adds references in single precision: to 0.0005 of 4,000 eV.
    rounding = 1e-3 if with_references else 1e-4
    assert energy == pytest.approx(float(atoms.get_potential_energy()), abs=rounding)
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-5)
    assert (energy < -4000) == with_references
    twice = Systems(
        np.tile(frame.numbers, 2), np.array([0, 9, 18]), np.tile(frame.positions, (2, 1)),
        np.zeros((2, 3, 3)), np.zeros((2, 3), dtype=bool),
    )  # fmt: skip
    both = BatchPotential(ours.potential).predict(twice)
    np.testing.assert_allclose(both[0], energy, atol=1e-4)
    # What single atoms are given is no interaction.
    explained = mdxai.attributor(ours, method="expansion").attribute(frame)
    assert abs(explained.output) < 1000


def test_a_card_keeps_the_energies_of_atoms(tmp_path):
    card = Card(
        "c", {"cutoff": 5.0, "n_interactions": 1}, atom_energies={"H": -13.6}, offset_per_atom=1.0
    )
    card.dump(tmp_path / "card.toml")
    again = Card.load(tmp_path / "card.toml")
    np.testing.assert_allclose(again.offsets(np.array([1, 6])), [-12.6, 1.0])


def test_a_model_of_schnetpack_1_is_one_line_with_a_way_out(tmp_path, monkeypatch):
    for name in ("schnetpack.atomistic.model", "absent_package"):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)

        class Old(torch.nn.Module):
            pass

        Old.__module__, Old.__qualname__, module.Old = name, "Old", Old
        torch.save(Old(), tmp_path / name)
        monkeypatch.delitem(sys.modules, name)
    how = {"trust_pickle": True, "energy_unit": "eV", "length_unit": "Ang"}
    with pytest.raises(CalculatorError, match=r"saved by schnetpack 1 .*save model.state_dict()"):
        mdxai.load_calculator(tmp_path / "schnetpack.atomistic.model", **how)
    with pytest.raises(CalculatorError, match="needs the Python package 'absent_package'"):
        mdxai.load_calculator(tmp_path / "absent_package", **how)
