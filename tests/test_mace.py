"""MACE explained: mace's own passes, masked and scaled, against flow and relevance of sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms

import mdxai
from mdxai.attribution import AttributionError, AttributionUnavailable
from mdxai.attribution.mace_layers import OpenedMACE
from mdxai.attribution.message_terms import radau_nodes
from mdxai.frame import Frame
from mdxai.principles.probes.partial_forces import PartialForces

from .conftest import heated, langevin, shaken

pytestmark = pytest.mark.filterwarnings("ignore")  # of what mace and e3nn import and compile
mace = pytest.importorskip("mace", reason="the extra `mace` is not installed")

from .mace_models import VARIANTS, batch_of, constant_energy, mace_calculator, random_mace  # noqa: E402

# A model takes seconds to set up, so that most are slow tests.
SOME = [
    pytest.param(name, marks=() if name in ("standard", "density") else pytest.mark.slow)
    for name in VARIANTS
]
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def formaldehyde(calculator):
    """Return four atoms that are all within reach of each other."""
    atoms = shaken("H2CO", amplitude=0.1, seed=9)
    atoms.calc = calculator
    return atoms


def readout_slopes(model, features, gamma):
    """Return ∂E/∂features (n_atoms, F) of each layer's readout, by the published γ rule."""
    scale = float(model.scale_shift.scale) if hasattr(model, "scale_shift") else 1.0
    slopes = []
    for readout, x in zip(model.readouts, features, strict=True):
        x = x.detach().requires_grad_()  # noqa: PLW2901 (its gradient is wanted)
        if hasattr(readout, "linear_1"):
            n_out = readout.linear_1.weight.numel() // x.shape[1]
            W = (readout.linear_1.weight.view(-1, n_out) / x.shape[1] ** 0.5).T.detach()
            y = readout.non_linearity(readout.linear_1(x)).detach()
            up, down = x.clamp(min=0), x.clamp(max=0)
            plus, minus = gamma * W.clamp(min=0), gamma * W.clamp(max=0)
            p = up @ (W + plus).T + down @ (W + minus).T
            m = up @ (W + minus).T + down @ (W + plus).T
            yo = torch.where(y > 1e-6, p, torch.where(y < -1e-6, m, torch.zeros_like(y)))
            energy = readout.linear_2(yo * torch.nan_to_num(y / yo).detach())
        else:
            energy = readout(x)
        slopes.append(torch.autograd.grad(energy.sum() * scale, x)[0])
    return slopes


def masked_layers(calculator, atoms):
    """Return mace's interactions and products, whose messages are weighed by masks (n_edges, 1)."""
    model = calculator.models[0]
    data = batch_of(calculator, atoms)
    edges, elements = data["edge_index"], data["node_attrs"]
    r = data["positions"][edges[1]] - data["positions"][edges[0]] + data["shifts"]
    radial, envelope = model.radial_embedding(
        r.norm(dim=1, keepdim=True), elements, edges, model.atomic_numbers
    )
    harmonics = model.spherical_harmonics(r)

    def layer(k, mask, h):
        mixing = model.interactions[k]
        handle = mixing.conv_tp_weights.register_forward_hook(lambda *args: args[2] * mask)
        try:
            return mixing(elements, h, harmonics, radial, edges, envelope)
        finally:
            handle.remove()

    def product(k, t, a, skip):
        return model.products[k](t * a, None if skip is None else t * skip, elements)

    return model, edges, model.node_embedding(elements).detach(), layer, product


def by_masks(calculator, atoms, gamma=0.1):
    """Return R_S of every set: mace's layers, all messages but those inside the set masked."""
    model, edges, h, layer, product = masked_layers(calculator, atoms)
    everything = torch.ones(edges.shape[1], 1, dtype=h.dtype)

    def features(mask):
        x, found = h, []
        for k in range(len(model.interactions)):
            x = product(k, 1.0, *layer(k, mask, x)).detach()
            found.append(x)
        return found

    slopes, result = readout_slopes(model, features(everything), gamma), {}
    for k in range(1, len(atoms) + 1):
        for chosen in itertools.combinations(range(len(atoms)), k):
            inside = torch.isin(edges, torch.tensor(chosen)).all(0)
            pairs = zip(features(inside[:, None].double()), slopes, strict=True)
            result[chosen] = float(sum((x * c)[list(chosen)].sum() for x, c in pairs))
    return result


@pytest.mark.parametrize("name", SOME)
def test_sets_equal_maces_own_masked_passes(name):
    calculator = mace_calculator(**VARIANTS[name])
    atoms = formaldehyde(calculator)
    explain = mdxai.attributor(calculator, method="walks", body_order=3)
    expected = by_masks(calculator, atoms)
    for k in range(1, 5):
        sets = list(itertools.combinations(range(4), k))
        np.testing.assert_allclose(
            explain.relevance_of_sets(atoms, sets), [expected[s] for s in sets], **TIGHT
        )
    a = explain.attribute(atoms)
    triple = dict(zip(map(tuple, a.triples.tolist()), a.three_body, strict=True))
    for trio, value in triple.items():
        signs = [(-1) ** (3 - k) for k in (1, 2, 3)]
        parts = [sum(expected[s] for s in itertools.combinations(trio, k)) for k in (1, 2, 3)]
        assert value == pytest.approx(np.dot(signs, parts), abs=1e-10)
    assert len(triple) == 4
    assert sum(a.by_body_order) == pytest.approx(a.relevance_total, abs=1e-10)


def test_sets_equal_maces_own_pass_over_their_atoms_alone():
    calculator = mace_calculator()
    atoms, model = formaldehyde(calculator), calculator.models[0]

    def features(some):
        out = model(batch_of(calculator, some), compute_force=False)["node_feats"].detach()
        widths = [product.linear.irreps_out.dim for product in model.products]
        return torch.split(out, widths, dim=1)

    slopes = readout_slopes(model, features(atoms), 0.1)
    for chosen in ([0, 1], [1, 3], [0, 1, 2]):
        pairs = zip(features(atoms[chosen]), slopes, strict=True)
        expected = float(sum((x * c[chosen]).sum() for x, c in pairs))
        found = mdxai.attributor(calculator, method="walks").relevance_of_sets(atoms, [chosen])
        np.testing.assert_allclose(found, expected, **TIGHT)


def flow_by_separated_terms(calculator, atoms, gamma=0.1):
    """Return flow on directed edges (n_layers, n_edges) and relevance of atoms.

    Each degree ν of the products is separated by evaluations at several scales, and its gradient
    divided by ν.
    """
    model, edges, h, layer, product = masked_layers(calculator, atoms)
    n_layers, mask = len(model.interactions), torch.ones(edges.shape[1], 1, dtype=h.dtype)
    inputs = [h]
    for k in range(n_layers):
        inputs.append(product(k, 1.0, *layer(k, mask, inputs[-1])).detach())
    slopes = readout_slopes(model, inputs[1:], gamma)
    flows, c = [], torch.zeros_like(slopes[-1])
    for k in reversed(range(n_layers)):
        c = c + slopes[k]
        h, w = inputs[k].clone().requires_grad_(), mask.clone().requires_grad_()
        t = np.arange(1, 6)  # five scales tell degrees 1 to 5 apart
        shares = np.linalg.solve((t[:, None] ** t).T.astype(float), 1 / t)
        values = [(c * product(k, float(x), *layer(k, w, h))).sum() for x in t]
        total = sum(share * value for share, value in zip(shares, values, strict=True))
        c, flow = torch.autograd.grad(total, (h, w))
        flows.append(flow[:, 0].numpy())
    return np.stack(flows[::-1]), (c * inputs[0]).sum(1).numpy(), edges.numpy()


@pytest.mark.parametrize("name", SOME)
def test_flow_equals_terms_that_scaling_separates(name):
    calculator = mace_calculator(**VARIANTS[name])
    atoms = formaldehyde(calculator)
    flows, per_atom, edges = flow_by_separated_terms(calculator, atoms)
    a = mdxai.attributor(calculator, method="flow").attribute(atoms)
    expected = np.zeros((len(flows), 4, 4))
    np.add.at(expected, (slice(None), *np.sort(edges, axis=0)), flows)
    np.testing.assert_allclose(a.by_layer, expected[:, a.pairs.i, a.pairs.j], rtol=1e-9, atol=1e-12)
    repulsion = a.strengths - a.by_layer.sum(0)
    if not VARIANTS[name].get("zbl"):
        np.testing.assert_allclose(a.atoms, per_atom, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(repulsion, 0, atol=1e-14)
    assert a.atoms.sum() == pytest.approx(per_atom.sum() + repulsion.sum(), abs=1e-10)


def test_radau_nodes_conserve_every_degree_that_they_claim():
    for degree in range(1, 9):
        nodes, weights = radau_nodes(degree)
        assert nodes[-1] == 1
        powers = np.arange(degree)
        integrals = (weights[:, None] * nodes[:, None] ** powers).sum(0)
        np.testing.assert_allclose(integrals, 1 / (powers + 1), rtol=1e-12)


@pytest.mark.parametrize("name", SOME)
def test_energy_is_single_atoms_output_and_repulsion(name):
    calculator = mace_calculator(**VARIANTS[name])
    atoms = formaldehyde(calculator)
    constant = constant_energy(atoms, calculator)
    for method in ("walks", "flow"):
        a = mdxai.attributor(calculator, method=method).attribute(atoms)
        assert a.output + constant == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        assert abs(a.residual) < 1e-5  # no biases; outputs below 1e-6 pass no relevance


@pytest.mark.slow
def test_repulsion_is_a_pair_term():
    """A second model without ZBL differs by the pairs' energies alone."""
    with_zbl, without = (mace_calculator(L=0, correlation=2, zbl=zbl) for zbl in (True, False))
    atoms, plain = formaldehyde(with_zbl), formaldehyde(without)
    for method in ("walks", "flow"):
        a, b = (
            mdxai.attributor(c, method=method).attribute(x)
            for c, x in ((with_zbl, atoms), (without, plain))
        )
        extra = a.strengths - b.strengths
        assert (extra > -1e-12).all()
        difference = atoms.get_potential_energy() - plain.get_potential_energy()
        assert extra.sum() == pytest.approx(difference, rel=1e-10)
        assert a.atoms.sum() - b.atoms.sum() == pytest.approx(difference, rel=1e-10)
    dimer = Atoms("CO", [[0, 0, 0], [0, 0, 0.9]], calculator=with_zbl)
    a = mdxai.attributor(with_zbl, method="walks").attribute(dimer)
    dimer.calc = without
    b = mdxai.attributor(without, method="walks").attribute(dimer)
    assert a.two_body - b.two_body == pytest.approx(a.output - b.output, rel=1e-10)


def test_float32_agrees_with_float64():
    """For a float32 model and its float64 twin, and for a dtype that is asked for."""
    low = mace_calculator(dtype=torch.float32)
    atoms = formaldehyde(low)
    for method in ("walks", "flow"):
        a, b = (
            mdxai.attributor(low, method=method, dtype=dtype).attribute(atoms)
            for dtype in (None, "float64")
        )
        assert np.abs(a.strengths - b.strengths).max() < 1e-4 * np.abs(b.strengths).max()


def test_explaining_leaves_the_calculator_as_it_was():
    calculator = mace_calculator(dtype=torch.float32)
    atoms = formaldehyde(calculator)
    forces = atoms.get_forces().copy()
    results = calculator.results
    dtype = next(calculator.models[0].parameters()).dtype
    mdxai.attributor(calculator, dtype="float64").attribute(atoms)
    assert calculator.results is results
    assert next(calculator.models[0].parameters()).dtype is dtype
    calculator.reset()
    assert np.array_equal(atoms.get_forces(), forces)


def test_weights_changed_in_place_are_followed():
    calculator = mace_calculator(fresh=True)
    atoms = formaldehyde(calculator)
    explain = mdxai.attributor(calculator, method="walks")
    before = explain.attribute(atoms).output
    with torch.no_grad():
        calculator.models[0].readouts[0].linear.weight.mul_(2)
    after = explain.attribute(atoms).output
    assert after != before
    assert after + constant_energy(atoms, calculator) == pytest.approx(
        atoms.get_potential_energy(), abs=1e-10
    )


def test_partial_forces_sum_to_forces():
    calculator = mace_calculator(**VARIANTS["density"])
    atoms = formaldehyde(calculator)
    partial = OpenedMACE(calculator).partial_forces(Frame.from_atoms(atoms))
    np.testing.assert_allclose(partial.sum(0), atoms.get_forces(), atol=1e-10)
    np.testing.assert_allclose(partial.sum((0, 1)), 0, atol=1e-10)
    one = OpenedMACE(calculator).partial_forces(Frame.from_atoms(atoms), atom=2)
    np.testing.assert_array_equal(one, partial[2])


def test_partial_forces_are_probed():
    calculator = mace_calculator(**VARIANTS["density"])
    frame = Frame.from_atoms(formaldehyde(calculator))
    partial = OpenedMACE(calculator).partial_forces(frame)
    probe = PartialForces(mdxai.calculators.twin_of(calculator), "reciprocity", frame)
    i, j = np.triu_indices(4, k=1)
    norms = [np.linalg.norm(x, axis=1).sum() for x in (partial[i, j], partial[j, i])]
    broken = np.linalg.norm(partial[i, j] + partial[j, i], axis=1).sum()
    assert probe.deviate(frame).value == pytest.approx(broken / sum(norms), rel=1e-9)


def test_one_atoms_energy_is_explained():
    calculator = mace_calculator(**VARIANTS["density"])
    atoms = formaldehyde(calculator)
    parts = [mdxai.attributor(calculator, atom=i).attribute(atoms) for i in range(4)]
    whole = mdxai.attributor(calculator).attribute(atoms)
    np.testing.assert_allclose(sum(p.strengths for p in parts), whole.strengths, **TIGHT)
    energies = atoms.calc.results["node_energy"] if atoms.get_potential_energy() else None
    np.testing.assert_allclose([p.output for p in parts], energies - 0.3, atol=1e-10)


def test_a_trajectory_is_bit_identical_when_it_is_monitored(tmp_path):
    def run(monitored):
        calculator = mace_calculator(fresh=True, dtype=torch.float32)
        atoms = heated(formaldehyde(calculator), 100)
        dynamics = langevin(atoms, 100)
        if not monitored:
            dynamics.run(20)
            return atoms.positions
        with mdxai.Monitor(dynamics, tmp_path / "run", attribute_every=2) as monitor:
            dynamics.attach(monitor, interval=1)
            dynamics.run(20)
        return atoms.positions

    np.testing.assert_array_equal(run(True), run(False))
    record = mdxai.open_run(tmp_path / "run")
    attribution = record.attribution(20)
    assert attribution.method == "walks"
    assert len(attribution.two_body) == 6


def test_what_cannot_be_opened_says_why():
    models = [random_mace(), random_mace()]
    from mace.calculators import MACECalculator

    committee = MACECalculator(models=models, device="cpu", default_dtype="float64")
    with pytest.raises(AttributionUnavailable, match=r"a committee of 2 models.*hessian"):
        mdxai.attributor(committee)
    cubic = mace_calculator(fresh=True)
    cubic.models[0].readouts[1].__class__ = type("CubicReadout", (torch.nn.Module,), {})
    with pytest.raises(AttributionUnavailable, match=r"CubicReadout is none of.*expansion"):
        mdxai.attributor(cubic)
    fluorine = Atoms("HF", [[0, 0, 0], [0, 0, 1]])
    with pytest.raises(AttributionUnavailable, match=r"holds \[9\]"):
        mdxai.attributor(mace_calculator()).attribute(fluorine)
    with pytest.raises(AttributionError, match="scalars_only is a rule for SO3net"):
        mdxai.attributor(mace_calculator(), scalars_only=True).attribute(shaken("H2CO"))
