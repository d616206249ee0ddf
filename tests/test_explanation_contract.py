"""What every explained architecture must fulfil: ours, mace's, and those of others.

To test an implementation of `mdxai.attribution.Openable`, add what makes its calculator to MAKERS.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

import mdxai
from mdxai.attribution import Rule
from mdxai.attribution.choice import opened
from mdxai.calculators import NetworkCalculator
from mdxai.frame import Frame

from .conftest import KINDS, random_network, random_potential, shaken
from .opened_so3net import OpenedSO3net

pytestmark = pytest.mark.filterwarnings("ignore")  # of what mace and e3nn import and compile
METHODS = ("walks", "flow")


def mace(name: str) -> Any:
    pytest.importorskip("mace", reason="the extra `mace` is not installed")
    from .mace_models import VARIANTS, mace_calculator

    return mace_calculator(**VARIANTS[name])


# Each makes a calculator in float64 with a cutoff of 4 Å for H, C and O.
MAKERS: dict[str, Callable[[], Any]] = {
    **{
        kind: lambda kind=kind: NetworkCalculator(random_potential(kind, 3, n_interactions=2))
        for kind in KINDS
    },
    "SO3net, opened": lambda: OpenedSO3net(random_network("SO3net", 3, n_interactions=2)[0]),
    **{f"MACE, {name}": lambda name=name: mace(name) for name in ("standard", "density")},
}
OPENED = [name for name in MAKERS if name not in KINDS]
CLOSE = {"rtol": 1e-6, "atol": 1e-8}  # SO3net's coefficients are rounded to float32


def formic_acid() -> Atoms:
    return shaken("HCOOH", amplitude=0.1, seed=3)


def explained(name: str, method: str, atoms: Atoms, **options: Any):
    return mdxai.attributor(MAKERS[name](), method=method, **options).attribute(atoms)


def by_pair(attribution) -> np.ndarray:
    """Return (n_atoms, n_atoms) strengths, images added."""
    n = len(attribution.atoms)
    square = np.zeros((n, n))
    np.add.at(square, (attribution.pairs.i, attribution.pairs.j), attribution.strengths)
    return square + square.T


every_method = pytest.mark.parametrize("method", METHODS)
everyone = pytest.mark.parametrize("name", MAKERS)


@everyone
@every_method
def test_shapes_and_sums(name, method):
    atoms = formic_acid()
    a = explained(name, method, atoms)
    n, m = len(atoms), len(a.pairs)
    assert a.atoms.shape == a.one_body.shape == a.numbers.shape == (n,)
    assert a.strengths.shape == (m,)
    assert m == 10  # all are within reach
    assert (a.pairs.i < a.pairs.j).all()
    expected = atoms.positions[a.pairs.j] - atoms.positions[a.pairs.i]
    np.testing.assert_allclose(a.pairs.vectors, expected, atol=1e-12)
    assert sum(a.by_body_order) == pytest.approx(a.relevance_total, rel=1e-9, abs=1e-9)
    assert a.by_layer is None or a.by_layer.shape[1] == m


@everyone
@every_method
def test_motions_reflections_and_the_order_of_atoms_change_nothing(name, method):
    atoms = formic_acid()
    a = explained(name, method, atoms)
    moved = atoms.copy()
    turn = Rotation.random(random_state=1).as_matrix() * np.array([1, 1, -1])
    moved.positions = atoms.positions @ turn.T + [1.0, -2.0, 3.0]
    order = np.random.default_rng(2).permutation(len(atoms))
    b = explained(name, method, moved[order])
    np.testing.assert_allclose(b.atoms, a.atoms[order], **CLOSE)
    np.testing.assert_allclose(by_pair(b), by_pair(a)[np.ix_(order, order)], **CLOSE)
    np.testing.assert_allclose(b.by_body_order, a.by_body_order, **CLOSE)


@everyone
@every_method
def test_distant_copies_add_up(name, method):
    atoms = formic_acid()
    far = atoms.copy()
    far.translate([30, 0, 0])
    one, both = (explained(name, method, x) for x in (atoms, atoms + far))
    square = by_pair(both)
    np.testing.assert_allclose(square[:5, :5], by_pair(one), **CLOSE)
    np.testing.assert_allclose(square[5:, 5:], by_pair(one), **CLOSE)
    assert not square[:5, 5:].any()
    assert both.output == pytest.approx(2 * one.output, rel=1e-9)
    np.testing.assert_allclose(both.by_body_order, 2 * one.by_body_order, **CLOSE)


@everyone
@every_method
def test_periodic_images_count_as_neighbours(name, method):
    """A molecule across the faces of a large cell is the molecule; a supercell repeats its cell,
    of which some pairs have several images, and atoms see their own."""
    atoms = formic_acid()
    a = explained(name, method, atoms)
    boxed = atoms.copy()
    boxed.set_cell([12, 11, 13])
    boxed.set_pbc(True)
    boxed.wrap()
    b = explained(name, method, boxed)
    np.testing.assert_allclose(by_pair(b), by_pair(a), **CLOSE)
    if method == "walks":  # images of a pair are one pair
        return
    cell = atoms.copy()
    cell.set_cell([3.6, 3.9, 4.5])
    cell.set_pbc(True)
    small, large = (explained(name, "flow", x) for x in (cell, cell * (2, 1, 1)))
    assert (small.pairs.i == small.pairs.j).any()
    assert len(large.pairs) == 2 * len(small.pairs)
    np.testing.assert_allclose(
        np.sort(large.strengths), np.sort(np.repeat(small.strengths, 2)), **CLOSE
    )
    np.testing.assert_allclose(large.atoms, np.tile(small.atoms, 2), **CLOSE)


@everyone
def test_orders_follow_from_sets_by_inclusion_and_exclusion(name):
    atoms = formic_acid()
    explain = mdxai.attributor(MAKERS[name](), method="walks", body_order=3)
    a = explain.attribute(atoms)
    inside = {
        s: v
        for k in (1, 2, 3, 5)
        for s, v in zip(
            combinations(range(5), k),
            explain.relevance_of_sets(atoms, list(combinations(range(5), k))),
            strict=True,
        )
    }
    pair_terms = explained(name, "flow", atoms)
    repulsion = pair_terms.strengths - pair_terms.by_layer.sum(0)
    np.testing.assert_allclose(a.one_body, [inside[(i,)] for i in range(5)], **CLOSE)
    for i, j, value, extra in zip(a.pairs.i, a.pairs.j, a.two_body, repulsion, strict=True):
        expected = inside[(i, j)] - inside[(i,)] - inside[(j,)]
        assert value - extra == pytest.approx(expected, rel=1e-9, abs=1e-9)
    for trio, value in zip(a.triples.tolist(), a.three_body, strict=True):
        expected = inside[tuple(trio)]
        expected -= sum(inside[s] for s in combinations(trio, 2))
        expected += sum(inside[(i,)] for i in trio)
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert inside[tuple(range(5))] + repulsion.sum() == pytest.approx(a.relevance_total, rel=1e-9)


@pytest.mark.parametrize("name", OPENED)
def test_layers_are_what_they_declare(name):
    """Messages are linear in features; updates row by row, without a constant, of their degree."""
    frame = Frame.from_atoms(formic_acid())
    network = opened(MAKERS[name]()).opened_at(frame, Rule())
    x, everything = network.features, slice(None)
    with torch.no_grad():
        for layer in network.layers:
            y = x.flip(0) + 0.1
            parts = [layer.send(z, network.senders, everything) for z in (x, y, 2 * x - 3 * y)]
            torch.testing.assert_close(parts[2], 2 * parts[0] - 3 * parts[1], rtol=1e-9, atol=1e-11)
            some = torch.tensor([3, 1])
            torch.testing.assert_close(
                layer.send(x, network.senders[some], some), parts[0][some], rtol=1e-9, atol=1e-11
            )
            arrived = x.new_zeros(len(x), parts[0].shape[1])
            arrived.index_add_(0, network.receivers, parts[0])
            update = layer.fixed(x, arrived)
            after = update(x, arrived, everything)
            torch.testing.assert_close(
                update(x[some], arrived[some], some), after[some], rtol=1e-9, atol=1e-11
            )
            assert not update(0 * x, 0 * arrived, everything).any()
            n = layer.degree + 1
            differences = sum(
                (-1) ** k * comb(n, k) * update(k * x, k * arrived, everything)
                for k in range(n + 1)
            )
            scale = update(n * x, n * arrived, everything).abs().max()
            assert differences.abs().max() < 1e-10 * scale
            x = after


@pytest.mark.parametrize("name", OPENED)
def test_flow_is_the_derivative_where_every_product_has_one_factor(name):
    """Flow on an edge, against autograd in the limit of one message: a dimer's receiver has one
    neighbour, so the top layer's shares are the derivative integrated by fine steps."""
    frame = Frame.from_atoms(Atoms("CO", [[0, 0, 0], [0.1, 0.2, 1.2]]))
    network = opened(MAKERS[name]()).opened_at(frame, Rule())
    x, everything = network.features, slice(None)
    with torch.no_grad():
        for layer in network.layers:
            own, sent = x, layer.send(x, network.senders, everything)
            arrived = torch.zeros_like(sent).index_add_(0, network.receivers, sent)
            update = layer.fixed(own, arrived)
            x = update(own, arrived, everything)
            read = layer.read(x)
    mask = torch.ones(2, 1, dtype=x.dtype, requires_grad=True)
    shares = torch.zeros_like(mask)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    for t, w in zip((nodes + 1) / 2, weights / 2, strict=True):
        parts = (sent * mask)[[1, 0]] if network.receivers[0] == 1 else sent * mask
        energy = (update(t * own, t * parts, everything) * read[1]).sum()
        shares += torch.autograd.grad(energy, mask)[0] * w / t
    found = explained(name, "flow", frame.to_atoms()).by_layer[-1] / network.unit
    assert found.sum() == pytest.approx(float(shares.sum()), rel=1e-9)


def test_flow_of_an_opened_network_equals_that_of_our_own_rules():
    """SO3net declared twice: by its modules and degree, and as linear maps."""
    atoms = formic_acid()
    ours, theirs = (explained(name, "flow", atoms) for name in ("SO3net", "SO3net, opened"))
    np.testing.assert_allclose(theirs.by_layer, ours.by_layer, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(theirs.atoms, ours.atoms, rtol=1e-6, atol=1e-8)
    assert theirs.output == pytest.approx(ours.output, rel=1e-7)
    assert theirs.residual == pytest.approx(ours.residual, rel=1e-6)
