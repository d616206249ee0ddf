"""Calculators against schnetpack's own, and against bad input."""

from __future__ import annotations

import copy
import pickle
import shutil

import numpy as np
import pytest
import torch
import torch._inductor
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from schnetpack.interfaces import SpkCalculator
from schnetpack.transform import AddOffsets, ASENeighborList
from torch._dynamo.utils import counters

import mdxai
from mdxai.calculators import CalculatorError, NetworkCalculator
from mdxai.calculators.card import Card, sha256
from mdxai.calculators.edges import AllPairs, VerletList
from mdxai.calculators.loading import card_of_network, find_calculator
from mdxai.calculators.potential import TRACE_AFTER, NetworkPotential
from mdxai.frame import Frame

from .conftest import SOUND, random_network, random_positions, random_potential

KINDS = ("SchNet", "PaiNN")


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
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=3)
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


@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_and_neighbour_list_agree(kind):
    potential = random_potential(kind, 7)
    positions = random_positions(8, 4, spread=2.5)
    frame = Frame.from_atoms(Atoms("C8", positions))
    dense = potential.evaluate(frame)
    potential._all_pairs = None
    sparse = potential.evaluate(frame)
    assert dense[0] == pytest.approx(sparse[0], abs=1e-12)
    np.testing.assert_allclose(dense[1], sparse[1], atol=1e-12)


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


def test_verlet_list_is_exact_while_atoms_move():
    rng = np.random.default_rng(0)
    cell, pbc = 9.0 * np.eye(3), np.ones(3, dtype=bool)
    positions = rng.uniform(0, 9, size=(60, 3))
    moving = VerletList(4.0)
    for _ in range(30):
        positions += rng.normal(scale=0.05, size=positions.shape)
        _, vectors = moving.find(positions, cell, pbc, torch.device("cpu"))
        _, fresh = VerletList(4.0, skin=0.0).find(positions, cell, pbc, torch.device("cpu"))
        within = np.sort(np.linalg.norm(vectors, axis=1))
        expected = np.sort(np.linalg.norm(fresh, axis=1))
        np.testing.assert_allclose(within[within < 4.0], expected[expected < 4.0], atol=1e-9)


def test_compiled_forces_equal_eager(ethanol):
    compiled = ethanol.copy()
    compiled.calc = mdxai.load_calculator("schnet-ethanol", compile=True)
    counters.clear()
    np.testing.assert_allclose(compiled.get_forces(), ethanol.get_forces(), atol=1e-5)
    assert compiled.calc._engine._prepared
    cache = {name for name in counters["inductor"] if name.startswith("fxgraph_cache")}
    assert cache in ({"fxgraph_cache_hit"}, {"fxgraph_cache_miss"})  # not bypassed


@pytest.mark.parametrize("kind", ["SchNet", "PaiNN"])
def test_recorded_operations_give_the_same_bits(kind, ethanol):
    """After some evaluations of a molecule the operations are run from a record of them."""
    atoms = ethanol.copy()
    atoms.calc = NetworkCalculator(random_potential(kind, 0, cutoff=6.0))
    before = atoms.get_forces()
    for _ in range(TRACE_AFTER + 1):
        atoms.positions += 1e-3
        atoms.get_forces()
    assert atoms.calc._engine._prepared
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


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name.endswith("-ethanol") else pytest.mark.slow)
        for name in sorted(mdxai.list_calculators())
    ],
)
def test_card_states_what_was_measured(name, shared_data):
    """A card's test error is remeasured on a part of its test split."""
    calculator = mdxai.load_calculator(name)
    card = calculator.card
    molecule_name = name.split("-")[1]
    data = np.load(shared_data / "rmd17" / f"rmd17_{molecule_name}.npz")
    errors = []
    for row in data["test_01"][:100]:
        atoms = Atoms(data["z"], data["R"][row].astype(float))
        atoms.calc = calculator
        errors.append(np.abs(atoms.get_forces() - data["F"][row]).mean())
    assert 1e3 * np.mean(errors) == pytest.approx(card.errors["force_mae_mev_per_ang"], rel=0.15)
    rows = data["train_01"][: 50 if name.endswith("weak") else 950].astype(int)
    bond = np.linalg.norm(data["R"][rows, 0] - data["R"][rows, 1], axis=1)
    assert card.distances["C-C"][0] <= bond.min() + 1e-3
    assert (find_calculator(name) / "weights.pt").stat().st_size <= 1e6


# Bad input ----------------------------------------------------------------------------------------


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(CalculatorError, match=r"did you mean 'painn-ethanol'.*schnet-ethanol"):
        mdxai.load_calculator("pain-ethanol")


def test_missing_file(tmp_path):
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


def test_truncated_file_of_weights(tmp_path):
    path = tmp_path / "cut.pt"
    path.write_bytes((find_calculator("schnet-ethanol") / "weights.pt").read_bytes()[:5000])
    with pytest.raises(CalculatorError, match="cannot be read as a file of weights"):
        mdxai.load_calculator(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("schema = 1", "schema = 99"), "schema 99; this version of mdxai reads schema 1"),
        (("schema = 1", "schema = = 1"), "not a valid card"),
        (('type = "SchNet"', 'type = "GemNet"'), "'GemNet' is not known"),
        (("n_atom_basis = 128", "n_atom_basis = 64"), "does not fit its description"),
        (("n_rbf = 20\n", ""), "lacks n_rbf"),
        (("cutoff = 5.0", "cutoff = 4.0"), r"stated cutoff 4.0, trained with 5.0"),
        (("cutoff = 5.0", "cutoff = -5.0"), "must be positive"),
        (("offset_per_atom = ", 'offset_per_atom = "x" #'), "not a complete card"),
    ],
)
def test_unusable_cards(copied, change, message):
    card = copied / "card.toml"
    card.write_text(card.read_text().replace(*change))
    with pytest.raises(CalculatorError, match=message):
        mdxai.load_calculator(copied)


def test_pickles_run_only_when_trusted(tmp_path):
    """A pickle is refused unasked, and never executed."""
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
def test_trusted_pickle_with_units(tmp_path, kind):
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
    with pytest.raises(CalculatorError, match="is not a schnetpack SchNet or PaiNN potential"):
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
def test_structures_without_meaning(change, message):
    atoms = molecule("CH3CH2OH")
    change(atoms)
    atoms.calc = mdxai.load_calculator("schnet-ethanol")
    with pytest.raises(CalculatorError, match=message):
        atoms.get_forces()


def test_unseen_element_and_overlapping_atoms():
    calculator = mdxai.load_calculator("schnet-ethanol")
    methanethiol = molecule("CH3SH")
    methanethiol.calc = calculator
    with pytest.raises(CalculatorError, match="trained on C, H, O and has never seen S"):
        methanethiol.get_potential_energy()
    atoms = molecule("CH3CH2OH")
    atoms.positions[5] = atoms.positions[3]
    atoms.calc = calculator
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


def test_environment_variable_adds_calculators(copied, monkeypatch):
    monkeypatch.setenv("MDXAI_CALCULATORS", str(copied.parent))
    assert mdxai.load_calculator("copy").card.name == "schnet-ethanol"


def test_card_of_network_describes_it():
    network, description = random_network("PaiNN", 2)
    card = card_of_network(network, "x")
    assert card.network == description


def test_all_pairs_spread_has_the_right_gradient():
    edges = AllPairs(5, torch.device("cpu"))
    half = torch.randn(10, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(edges.spread, half)


def test_sha256_is_that_of_the_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x").startswith("ba7816bf")
