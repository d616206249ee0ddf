"""schnetpack's SO3net by its own modules, as somebody else would declare it: an `Openable`.

With y what an atom receives, B the Clebsch–Gordan product and σ its gates, features x become
x + M₃ σ ∘ M₂ (y + B(y, M₁ y)): of degree 2 in y.
"""

from __future__ import annotations

import torch
from ase.neighborlist import neighbor_list
from schnetpack.nn import so3

from mdxai.attribution import Opened
from mdxai.attribution.rules import RuledLayers, per_atom_place
from mdxai.calculators.forward import DenseState


class OpenedSO3net:
    """A potential of schnetpack with an SO3net, whose unit is eV."""

    def __init__(self, network):
        self._network, self._net = network, network.representation
        self.cutoff, self.n_layers = float(self._net.cutoff), len(self._net.so3convs)

    def opened_at(self, frame, rule):
        atoms = frame.to_atoms(results=False)
        i, j, shifts, vectors = neighbor_list("ijSD", atoms, self.cutoff)
        senders, receivers = torch.from_numpy(i), torch.from_numpy(j)
        with torch.no_grad():
            from_receiver = -torch.from_numpy(vectors)
            d = from_receiver.norm(dim=1, keepdim=True)
            edges = (
                self._net.radial_basis(d),
                self._net.sphharm(from_receiver / d),
                self._net.cutoff_fn(d)[..., None],
            )
            x = self._net.embedding(torch.from_numpy(frame.numbers))[:, None]
            x = so3.scalar2rsh(x, int(self._net.lmax)).flatten(1)
        last = self.n_layers - 1
        layers = [
            _Layer(self._net, k, edges, self._network if k == last else None, rule)
            for k in range(self.n_layers)
        ]
        return Opened(layers, x, senders, receivers, shifts, vectors)


class _Layer:
    degree = 2

    def __init__(self, net, step, edges, network, rule):
        self._net, self._step, self._edges = net, step, edges
        self._network, self._rule = network, rule

    def _rows(self, x):
        return x.reshape(len(x), (int(self._net.lmax) + 1) ** 2, -1)

    def send(self, features, senders, edges):
        basis, harmonics, envelope = (x[edges] for x in self._edges)
        # Each edge is its own receiver, so that messages are not summed.
        own = torch.arange(len(senders))
        missing = max(len(senders) - len(features), 0)
        x = torch.nn.functional.pad(features, (0, 0, 0, missing))
        conv = self._net.so3convs[self._step]
        return conv(self._rows(x), basis, harmonics, envelope, own, senders)[: len(own)].flatten(1)

    def _mixed(self, received):
        y = self._rows(received)
        product = self._net.so3product(y, self._net.mixings1[self._step](y))
        return self._net.mixings2[self._step](y + product)

    def fixed(self, own, received):
        gating = self._net.gatings[self._step]
        p = self._mixed(received)
        raw = gating.scaling(p[:, 0]).view(len(p), int(self._net.lmax) + 1, -1)
        gates = torch.sigmoid(raw)[:, gating.lidx].detach()

        def update(own, received, atoms):
            after = self._net.mixings3[self._step](self._mixed(received) * gates[atoms])
            return own + after.flatten(1)

        return update

    def read(self, features):
        if self._network is None:
            return None
        *ruled, last = self._network.output_modules[0].outnet
        x, states = self._rows(features)[:, 0], []
        for layer in ruled:
            states.append(DenseState(x, torch.nn.functional.linear(x, layer.weight, layer.bias),
                                     layer(x)))  # fmt: skip
            x = states[-1].y
        c = last.weight.sum(0).repeat(len(x), 1)
        for layer in reversed(RuledLayers(ruled, self._rule).at(states)):
            c = layer.pull(c, per_atom_place)
        slopes = torch.zeros_like(features)
        slopes[:, : c.shape[1]] = c
        return last(x)[:, 0], slopes
