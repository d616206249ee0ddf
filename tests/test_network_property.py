"""Networks of other properties: predicted as schnetpack does, and explained exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from schnetpack.atomistic import Atomwise, DipoleMoment, PairwiseDistances
from schnetpack.model import NeuralNetworkPotential
from schnetpack.transform import AddOffsets

import mdxai
from mdxai.attribution import AttributionError
from mdxai.calculators import CalculatorError

from .conftest import ethanol_with, random_network
from .walk_enumeration import assert_equals_enumeration, schnetpack_inputs

MODELS = Path(__file__).parent / "models"
INTENSIVE, DIPOLE, EXTENSIVE = "schnet-gap", "painn-dipole", "painn-u0"


def load(name, **options):
    return mdxai.load_property(MODELS / f"{name}.pt", dtype="float64", **options)


def far_copies(atoms):
    other = atoms.copy()
    other.translate((100, 0, 0))
    return atoms + other


@pytest.mark.parametrize("name", [INTENSIVE, DIPOLE, EXTENSIVE])
def test_predicts_what_schnetpack_predicts(name):
    explained = load(name)
    atoms = molecule("CH3CONH2")
    inputs = schnetpack_inputs(atoms, explained.potential.cutoff)
    raw = explained.potential.network.output_modules[0](
        explained.potential.network.representation(inputs)
    )
    offsets = explained.predict(atoms) - explained.atoms(mdxai.Frame.from_atoms(atoms)).sum()
    assert explained.predict(atoms) - offsets == pytest.approx(raw[explained.output].item())


def test_trained_networks_know_their_chemistry():
    """B3LYP: benzene's gap is below ethane's, methane has no dipole, U0 of ethanol is −4,218 eV."""
    gap, dipole, energy = load(INTENSIVE), load(DIPOLE), load(EXTENSIVE)
    assert gap.predict(molecule("C6H6")) < gap.predict(molecule("C2H6"))
    assert dipole.predict(molecule("CH4")) < 0.3
    assert dipole.predict(molecule("H2O")) > 1.0
    assert energy.predict(ethanol_with(None)) == pytest.approx(-4218, abs=5)


@pytest.mark.parametrize("name", [INTENSIVE, DIPOLE, EXTENSIVE])
@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_trained_networks_equal_enumeration(name, gamma):
    explained = load(name)
    atoms = molecule("H2O")
    atoms.rattle(0.1, seed=3)
    attribution = mdxai.attributor(explained, gamma=gamma).attribute(atoms)
    assert_equals_enumeration(attribution, explained.potential, atoms, gamma, 1e-10)
    assert attribution.unit == explained.unit


@pytest.mark.parametrize("name", [INTENSIVE, DIPOLE, EXTENSIVE])
def test_one_batch_gives_what_single_frames_give(name):
    explain = mdxai.attributor(load(name), method="walks", body_order=3)
    frames = [molecule("H2O"), ethanol_with(None), molecule("NH3")]
    for alone, together in zip(map(explain.attribute, frames), explain.attribute_many(frames),
                               strict=True):  # fmt: skip
        np.testing.assert_allclose(together.two_body, alone.two_body, atol=1e-12)
        np.testing.assert_allclose(together.by_body_order, alone.by_body_order, atol=1e-11)
        assert together.output == pytest.approx(alone.output)


@pytest.mark.parametrize("method", ["walks", "flow"])
def test_two_copies_double_extensive_and_keep_intensive_outputs(method):
    one = ethanol_with(None)
    for name, factor in ((EXTENSIVE, 2), (INTENSIVE, 1)):
        explained = load(name)
        explain = mdxai.attributor(explained, method=method)
        single, double = explain.attribute(one), explain.attribute(far_copies(one))
        assert double.output == pytest.approx(factor * single.output)
        assert double.relevance_total == pytest.approx(factor * single.relevance_total)
        np.testing.assert_allclose(double.by_body_order, factor * single.by_body_order, atol=1e-10)
        np.testing.assert_allclose(double.atoms[:9], factor / 2 * single.atoms, atol=1e-10)


def test_the_energies_of_single_atoms_add_up_to_the_whole():
    calculator = mdxai.load_calculator("painn-ethanol", dtype="float64")
    atoms = ethanol_with(None)
    whole = mdxai.attributor(calculator).attribute(atoms)
    parts = [mdxai.attributor(calculator, atom=a).attribute(atoms) for a in range(len(atoms))]
    np.testing.assert_allclose(sum(p.two_body for p in parts), whole.two_body, atol=1e-10)
    atoms.calc = calculator
    energies = atoms.get_potential_energies() - calculator.card.offset_per_atom
    np.testing.assert_allclose([part.output for part in parts], energies, atol=1e-8)
    with pytest.raises(CalculatorError, match="no atom 9: the structure has atoms 0 to 8"):
        mdxai.attributor(calculator, atom=9).attribute(atoms)
    with pytest.raises(AttributionError, match="explains the whole energy"):
        mdxai.attributor(calculator, method="hessian", atom=0)
    with pytest.raises(AttributionError, match="omit `atom`"):
        mdxai.attributor(load(DIPOLE), atom=0)


def test_pickled_networks_predict_what_schnetpack_predicts(tmp_path):
    """As from schnetpack's training: several outputs, offsets, single-atom references."""
    torch.manual_seed(1)
    representation = random_network("SchNet", 1)[0].representation.float()
    atomrefs = torch.zeros(100)
    atomrefs[1], atomrefs[8] = -13.0, -2000.0
    network = NeuralNetworkPotential(
        representation,
        input_modules=[PairwiseDistances()],
        output_modules=[
            Atomwise(12, output_key="homo", aggregation_mode="avg"),
            Atomwise(12, output_key="U0"),
            DipoleMoment(12, predict_magnitude=True),
            Atomwise(12, n_out=2, output_key="both"),
        ],
        postprocessors=[
            AddOffsets("homo", add_mean=True, is_extensive=False, property_mean=torch.tensor(-6.5)),
            AddOffsets("U0", add_atomrefs=True, add_mean=True, atomrefs=atomrefs,
                       property_mean=torch.tensor(0.25)),
        ],
    )  # fmt: skip
    path = tmp_path / "best_model"
    torch.save(network, path)
    atoms = molecule("H2O")
    units = {"trust_pickle": True, "unit": "eV", "length_unit": "Ang"}
    homo = mdxai.load_property(path, "homo", **units)
    inputs = schnetpack_inputs(atoms, 4.0)
    inputs = {k: v.float() if v.dtype == torch.float64 else v for k, v in inputs.items()}
    network.do_postprocessing = True
    truth = network.eval()(inputs)
    assert homo.predict(atoms) == pytest.approx(truth["homo"].item(), rel=1e-5)
    energy = mdxai.load_property(path, "U0", **units)
    assert energy.predict(atoms) == pytest.approx(truth["U0"].item(), rel=1e-6)
    with pytest.raises(CalculatorError, match="no output None; it has homo, U0, dipole_moment"):
        mdxai.load_property(path, **units)
    with pytest.raises(CalculatorError, match="one number per atom, the output has 2"):
        mdxai.load_property(path, "both", **units)
    with pytest.raises(CalculatorError, match="pass trust_pickle=True"):
        mdxai.load_property(path, "homo")


def test_wrong_files_and_structures_are_refused_with_a_remedy():
    with pytest.raises(CalculatorError, match=r"load it with mdxai\.load_property"):
        mdxai.load_calculator(MODELS / f"{INTENSIVE}.pt")
    with pytest.raises(CalculatorError, match="is not a file; expected a network"):
        mdxai.load_property("nowhere.pt")
    periodic = bulk("C", cubic=True)
    with pytest.raises(CalculatorError, match="depends on the choice of cell"):
        load(DIPOLE).predict(periodic)
    with pytest.raises(CalculatorError, match="depends on the choice of cell"):
        mdxai.attributor(load(DIPOLE)).attribute(periodic)
    with pytest.raises(AttributionError, match="dtype must be"):
        mdxai.attributor(load(DIPOLE), dtype="float16")
