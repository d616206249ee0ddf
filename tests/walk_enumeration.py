"""Brute force: one masked backward pass of schnetpack's own modules per walk, as published.

Written from the equations alone; it shares no code with mdxai.attribution.
"""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from schnetpack import properties
from schnetpack.interfaces.ase_interface import AtomsConverter
from schnetpack.nn import so3
from schnetpack.transform import ASENeighborList
from torch import nn


class PublishedGammaLayer(nn.Module):
    """The generalised γ rule in its published form, with clamped weights and inputs."""

    def __init__(self, layer: nn.Module, gamma: float) -> None:
        super().__init__()
        self.layer, self.gamma = layer, gamma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w, b, g = self.layer.weight, self.layer.bias, self.gamma
        up, down = w + g * w.clamp(min=0), w + g * w.clamp(max=0)
        x_up, x_down = x.clamp(min=0), x.clamp(max=0)
        p = x_up @ up.t() + x_down @ down.t() + b + g * b.clamp(min=0)
        m = x_up @ down.t() + x_down @ up.t() + b + g * b.clamp(max=0)
        y = self.layer(x)
        out = torch.where(y > 1e-6, p, torch.where(y < -1e-6, m, torch.zeros_like(y)))
        return out * torch.nan_to_num(y / out).detach()


def with_rules(network: nn.Module, gamma: float) -> nn.Module:
    """Return a copy of a schnetpack potential with the published layers in place."""
    network = copy.deepcopy(network).requires_grad_(False)
    rep = network.representation
    for block in getattr(rep, "interactions", []):
        net = block.f2out if hasattr(block, "f2out") else block.interatomic_context_net
        if not isinstance(net[0], PublishedGammaLayer):  # shared blocks are visited repeatedly
            net[0] = PublishedGammaLayer(net[0], gamma)
    for mixing in getattr(rep, "mixing", []):
        if not isinstance(mixing.intraatomic_context_net[0], PublishedGammaLayer):
            mixing.intraatomic_context_net[0] = PublishedGammaLayer(
                mixing.intraatomic_context_net[0], gamma
            )
    outnet = network.output_modules[0].outnet
    for k in range(len(outnet) - 1):
        outnet[k] = PublishedGammaLayer(outnet[k], gamma)
    return network


def masked_output(network, inputs, walk, **options):
    """Return the summed output with relevance confined to one walk, and the embedding h⁰."""
    rep = network.representation
    x0 = rep.embedding(inputs[properties.Z]).detach().requires_grad_()
    r_ij = inputs[properties.Rij]
    d = r_ij.norm(dim=1)
    forward = {"SchNet": _schnet, "PaiNN": _painn, "SO3net": _so3net}[type(rep).__name__]
    features = forward(rep, x0, d, r_ij, inputs, walk, **options)
    return _pooled(network.output_modules[0], features, inputs), x0


def _pooled(module, features, inputs):
    """Return what schnetpack's own output module makes of the features, one number to explain."""
    if not hasattr(module, "predict_magnitude"):
        return module(inputs | {"scalar_representation": features})[module.output_key].sum()
    module.predict_magnitude = False
    moment = module(inputs | {"scalar_representation": features})[module.dipole_key]
    return (moment * (moment / moment.norm()).detach()).sum()


def _mask(x, atom):
    keep = torch.zeros(len(x), 1, dtype=x.dtype)
    keep[atom] = 1
    return x * keep + (1 - keep) * x.detach()


def _schnet(rep, x, d, r_ij, inputs, walk):
    basis, envelope = rep.radial_basis(d), rep.cutoff_fn(d)
    i, j = inputs[properties.idx_i], inputs[properties.idx_j]
    x = _mask(x, walk[0])
    for step, block in enumerate(rep.interactions):
        x = _mask(x + block(x, basis, i, j, envelope), walk[step + 1])
    return x


def _so3net(rep, x, d, r_ij, inputs, walk, scalars_only=False):
    """Gates are constants; of the product each factor has half of the gradient."""
    d = d[:, None]
    harmonics, basis, envelope = rep.sphharm(r_ij / d), rep.radial_basis(d), rep.cutoff_fn(d)
    i, j = inputs[properties.idx_i], inputs[properties.idx_j]
    constant = _scalars if scalars_only else lambda x: x
    x = so3.scalar2rsh(_mask(x, walk[0])[:, None], int(rep.lmax))
    for step, conv in enumerate(rep.so3convs):
        y = constant(conv(constant(x), basis, harmonics, envelope[..., None], i, j))
        mixed = constant(rep.mixings1[step](y))
        product = rep.so3product(y, mixed.detach()) + rep.so3product(y.detach(), mixed)
        p = rep.mixings2[step](constant(y + 0.5 * product))
        scaling = rep.gatings[step].scaling(p[:, 0]).detach().view(len(p), rep.lmax + 1, -1)
        gates = torch.sigmoid(scaling)[:, rep.gatings[step].lidx]
        x = x + rep.mixings3[step](constant(p * gates))
        x = _mask(x.flatten(1), walk[step + 1]).view_as(x)
    return x[:, 0]


def _scalars(x):
    """Features of l > 0 as constants."""
    return torch.cat([x[:, :1], x[:, 1:].detach()], dim=1)


def _painn(rep, q, d, r_ij, inputs, walk):
    d = d[:, None]
    i, j = inputs[properties.idx_i], inputs[properties.idx_j]
    filters = rep.filter_net(rep.radial_basis(d)) * rep.cutoff_fn(d)[..., None]
    width = 3 * rep.n_atom_basis
    parts = (
        [filters] * rep.n_interactions if rep.share_filters else torch.split(filters, width, dim=-1)
    )
    q = _mask(q, walk[0])[:, None]
    mu = torch.zeros(len(q), 3, rep.n_atom_basis, dtype=q.dtype)
    for step, (interaction, mixing) in enumerate(zip(rep.interactions, rep.mixing, strict=True)):
        q, mu = interaction(q, mu.detach(), parts[step], r_ij / d, i, j, len(q))
        q, mu = _constant_norms(mixing, q, mu.detach())
        q = _mask(q[:, 0], walk[step + 1])[:, None]
    return q[:, 0]


def _constant_norms(mixing, q, mu):
    """PaiNN's mixing; its vector side is already detached, so norms and products are constant."""
    q, mu = mixing(q, mu)
    return q, mu.detach()


def walk_relevance(network, inputs, gamma, atoms, **options):
    """Return {walk: R_w} for every sequence of `atoms`; impossible walks get 0."""
    network = with_rules(network, gamma)
    net = network.representation
    length = len(net.so3convs if hasattr(net, "so3convs") else net.interactions) + 1
    relevance = {}
    for walk in itertools.product(atoms, repeat=length):
        output, x0 = masked_output(network, inputs, walk, **options)
        (gradient,) = torch.autograd.grad(output, x0)
        relevance[walk] = float((x0.detach() * gradient).sum())
    return relevance


def by_set(relevance):
    """Return {frozenset of atoms: sum of the relevance of the walks that touch exactly these}."""
    sets = defaultdict(float)
    for walk, value in relevance.items():
        sets[frozenset(walk)] += value
    return sets


def schnetpack_inputs(atoms, cutoff):
    """Return atoms as schnetpack's own batch of one, in float64."""
    inputs = AtomsConverter(ASENeighborList(cutoff), dtype=torch.float64)(atoms)
    i, j = inputs[properties.idx_i], inputs[properties.idx_j]
    positions = inputs[properties.R]
    inputs[properties.Rij] = positions[j] - positions[i] + inputs[properties.offsets]
    return inputs


def assert_equals_enumeration(attribution, potential, atoms, gamma, rtol):
    """Compare all relevance of `atoms` with that of enumerated walks; rtol of the largest set."""
    inputs = schnetpack_inputs(atoms, potential.cutoff)
    relevance = walk_relevance(potential.network.double(), inputs, gamma, range(len(atoms)))
    sets = by_set(relevance)
    scale = max(abs(value) for value in sets.values())
    pairs = attribution.pairs
    two = [sets[frozenset(p)] for p in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)]
    one = [sets[frozenset([a])] for a in range(len(atoms))]
    np.testing.assert_allclose(attribution.two_body, two, atol=rtol * scale, rtol=0)
    np.testing.assert_allclose(attribution.one_body, one, atol=rtol * scale, rtol=0)
    arriving = np.zeros(len(atoms))
    for walk, value in relevance.items():
        arriving[walk[0]] += value
    np.testing.assert_allclose(attribution.atoms, arriving, atol=10 * rtol * scale, rtol=0)
    higher = sum(value for atoms_of, value in sets.items() if len(atoms_of) > 2)
    assert attribution.by_body_order[-1] == pytest.approx(higher, abs=10 * rtol * scale)
    beyond = {frozenset(p) for p in zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)}
    missed = [v for s, v in sets.items() if len(s) == 2 and s not in beyond]
    assert all(value == 0 for value in missed)  # pairs out of reach have no walk
