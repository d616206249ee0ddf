"""MACE opened: all that touches the classes of mace-torch 0.3.

With A the sum of an atom's messages, mixed and normalised, B the symmetric contraction, e the
atom's element and U, V linear maps,

    h_i ← U_e B_e(A_i) + V_e h_i,      A_i = Σ_j W(r_ij) ⊗ Y(r_ij) ⊗ h_j.

Messages are linear in h_j: radial weights W and harmonics Y are constants, and so are the densities
by which some interactions normalise. B is a polynomial, of the degree that mace calls correlation.
Readouts are linear, but for the last one's activations, which follow the γ rule. Energies of single
atoms and the shift are constants of the output; ZBL is a pair term.

MACE's own modules are run as they are, those of a copy: modules that TorchScript compiles remember
who has called them, and might then round differently in the simulation.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdxai.attribution.attribution import AttributionError, AttributionUnavailable
from mdxai.attribution.lrp_rule import Rule
from mdxai.attribution.opened import Index, Layer, Opened, Update
from mdxai.attribution.rules import RuledLayers, per_atom_place
from mdxai.calculators.forward import DenseState
from mdxai.frame import Floats, Frame

MODELS = ("MACE", "ScaleShiftMACE")
# Whether the element-wise map acts on the message; on the atom's own features otherwise.
INTERACTIONS = {
    "RealAgnosticInteractionBlock": True,
    "RealAgnosticResidualInteractionBlock": False,
    "RealAgnosticDensityInteractionBlock": True,
    "RealAgnosticDensityResidualInteractionBlock": False,
}
READOUTS = ("LinearReadoutBlock", "NonLinearReadoutBlock", "NonLinearBiasReadoutBlock")
INSTEAD = 'method="hessian" needs only forces, method="expansion" only energies'


class OpenedMACE:
    """The network of mace's own `MACECalculator`, which is not changed.

    Args:
        calculator: of one model of energies.
        dtype: in which it is explained; default: the calculator's.

    Raises:
        AttributionUnavailable: for a model of another kind, several models, or one that is compiled
            or accelerated.
    """

    def __init__(self, calculator: Any, dtype: str | None = None) -> None:
        _check(calculator)
        self._running = calculator.models[0]
        self._own = copy.deepcopy(calculator)
        self._own.reset()
        self._own.pad_num_atoms = self._own.pad_num_edges = 0
        if dtype is not None:
            self._own.default_dtype = dtype
            self._own.models = [self._own.models[0].to(getattr(torch, dtype))]
        self._versions = self._weights()
        self.cutoff = float(calculator.r_max * calculator.length_units_to_A)
        self.n_layers = len(self._running.interactions)

    @property
    def _model(self) -> Any:
        return self._own.models[0]

    def _weights(self) -> list[int]:
        return [parameter._version for parameter in self._running.parameters()]

    def opened_at(self, frame: Frame, rule: Rule) -> Opened:
        """Return the network at a frame.

        Raises:
            AttributionUnavailable: for elements that the model does not know.
            AttributionError: for the rule `scalars_only`.
        """
        if rule.scalars_only:
            raise AttributionError("scalars_only is a rule for SO3net, not for MACE")
        with torch.no_grad():
            data = self._data(frame)
            graph = _Graph.of(self._model, data)
            layers = _layers(self._model, graph, rule)
            features = self._model.node_embedding(graph.elements)
        return self._opened(frame, data, graph, layers, features)

    def partial_forces(self, frame: Frame, atom: int | None = None) -> Floats:
        """Return F_ij = −∂E_i/∂r_j, eV/Å: (n_atoms, n_atoms, 3), or (n_atoms, 3) for i = `atom`."""
        data = self._data(frame)
        out = self._model(data, compute_force=False)
        unit = self._own.energy_units_to_eV / self._own.length_units_to_A
        rows = []
        for i in range(frame.n_atoms) if atom is None else [atom]:
            (slope,) = torch.autograd.grad(
                out["node_energy"][i], data["positions"], retain_graph=True
            )
            rows.append(-slope.cpu().numpy().astype(np.float64) * unit)
        return np.stack(rows) if atom is None else rows[0]

    def _data(self, frame: Frame) -> dict[str, Any]:
        self._follow()
        unknown = set(frame.numbers.tolist()) - set(self._own.z_table.zs)
        if unknown:
            raise AttributionUnavailable(
                f"the MACE model knows the atomic numbers {sorted(self._own.z_table.zs)}, but the "
                f"structure holds {sorted(unknown)}"
            )
        batch = self._own._atoms_to_batch(frame.to_atoms(results=False)).to_dict()
        dtype = next(self._model.parameters()).dtype
        return {
            key: x.to(dtype) if torch.is_tensor(x) and x.is_floating_point() else x
            for key, x in batch.items()
        }

    def _follow(self) -> None:
        """Take over weights that were changed in place."""
        versions = self._weights()
        if versions != self._versions:
            self._model.load_state_dict(self._running.state_dict())
            self._versions = versions

    def _opened(
        self,
        frame: Frame,
        data: dict[str, Any],
        graph: _Graph,
        layers: Sequence[Layer],
        features: Tensor,
    ) -> Opened:
        senders, receivers = data["edge_index"]
        shifts = data["unit_shifts"].cpu().numpy().round().astype(np.int64)
        first, second = senders.cpu().numpy(), receivers.cpu().numpy()
        # Again in float64: the model may have been given float32.
        vectors = frame.positions[second] - frame.positions[first] + shifts @ frame.cell
        return Opened(
            layers, features, senders, receivers, shifts, vectors,
            self._own.energy_units_to_eV, _repulsion(self._model, graph),
        )  # fmt: skip


def _layers(model: Any, graph: _Graph, rule: Rule) -> list[Layer]:
    # Of a model with one readout, that is the last layer's.
    without = len(model.interactions) - len(model.readouts)
    reads = [None] * without + [
        _READS[type(readout).__name__](readout, graph.heads, rule) for readout in model.readouts
    ]
    scale = _scale(model, int(graph.heads[0]))
    parts = zip(model.interactions, model.products, reads, strict=True)
    return [_MACELayer(mixing, product, graph, read, scale) for mixing, product, read in parts]


def _check(calculator: Any) -> None:
    """Refuse what this file does not know, with the reason."""
    models = calculator.models
    reason = ""
    if len(models) != 1:
        reason = f"a committee of {len(models)} models is not explained: give one of them"
    elif calculator.use_compile or calculator._uses_accelerated_backend:
        reason = "compiled and accelerated models are not explained: load the model without"
    else:
        model = models[0]
        parts: list[tuple[Any, tuple[str, ...]]] = [(model, MODELS)]
        if type(model).__name__ in MODELS:
            parts += [(each, tuple(INTERACTIONS)) for each in model.interactions]
            parts += [(each, READOUTS) for each in model.readouts]
        for part, known in parts:
            if type(part).__name__ not in known:
                reason = f"{type(part).__name__} is none of {', '.join(known)}"
        if hasattr(model, "joint_embedding"):
            reason = "it embeds further inputs of the system"
    if reason:
        raise AttributionUnavailable(f"this MACE cannot be opened: {reason}; {INSTEAD}")


@dataclass(frozen=True, slots=True)
class _Graph:
    """Constants of a configuration.

    elements: (n_atoms, n_elements) one-hot. heads: (n_atoms,) of the readouts. harmonics: (n_edges,
    (l_max + 1)²). radial: (n_edges, n_radial). envelope: (n_edges, 1), None where it is in `radial`
    already. edges: (2, n_edges). lengths: (n_edges, 1).
    """

    elements: Tensor
    heads: Tensor
    harmonics: Tensor
    radial: Tensor
    envelope: Tensor | None
    edges: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, model: Any, data: dict[str, Any]) -> _Graph:
        edges, elements = data["edge_index"], data["node_attrs"]
        positions = data["positions"]
        vectors = positions[edges[1]] - positions[edges[0]] + data["shifts"]
        lengths = vectors.norm(dim=1, keepdim=True)
        radial, envelope = model.radial_embedding(lengths, elements, edges, model.atomic_numbers)
        heads = data["head"][data["batch"]]
        harmonics = model.spherical_harmonics(vectors)
        return cls(elements, heads, harmonics, radial, envelope, edges, lengths)


class _MACELayer:
    """An interaction with its product and readout; see `opened.Layer`."""

    def __init__(self, mixing: Any, product: Any, graph: _Graph, read: Any, scale: Tensor) -> None:
        self._mixing, self._product, self._graph = mixing, product, graph
        self._read, self._scale = read, scale
        contractions = product.symmetric_contractions.contractions
        self.degree = max(contraction.correlation for contraction in contractions)
        weights = mixing.conv_tp_weights(graph.radial)
        self._weights = weights if graph.envelope is None else weights * graph.envelope
        self._norm = self._normaliser()

    def _normaliser(self) -> Tensor:
        """Return (n_atoms, 1) by which received sums are divided."""
        graph, n = self._graph, len(self._graph.elements)
        if not hasattr(self._mixing, "density_fn"):
            return graph.radial.new_full((n, 1), float(self._mixing.avg_num_neighbors))
        density = torch.tanh(self._mixing.density_fn(graph.radial) ** 2)
        if graph.envelope is not None:
            density = density * graph.envelope
        return 1 + density.new_zeros(n, 1).index_add_(0, graph.edges[1], density)

    def send(self, features: Tensor, senders: Index, edges: Index) -> Tensor:
        raised = self._mixing.linear_up(features)
        sent: Tensor = self._mixing.conv_tp(
            raised[senders], self._graph.harmonics[edges], self._weights[edges]
        )
        return sent

    def fixed(self, own: Tensor, received: Tensor) -> Update:
        """Return the update itself, which holds no gates."""
        return self._update

    def _update(self, own: Tensor, received: Tensor, atoms: Index) -> Tensor:
        elements, mixing = self._graph.elements[atoms], self._mixing
        message = mixing.linear(received) / self._norm[atoms]
        if INTERACTIONS[type(mixing).__name__]:
            message, kept = mixing.skip_tp(message, elements), None
        else:
            kept = mixing.skip_tp(own, elements)
        after: Tensor = self._product(mixing.reshape(message), kept, elements)
        return after

    def read(self, features: Tensor) -> tuple[Tensor, Tensor] | None:
        if self._read is None:
            return None
        outputs, slopes = self._read(features)
        return outputs * self._scale, slopes * self._scale


class _LinearRead:
    """A linear readout: outputs and slopes."""

    def __init__(self, readout: Any, heads: Tensor, rule: Rule) -> None:
        self._readout, self._head = readout, int(heads[0])

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self._readout(features)[:, self._head]
        return outputs, matrix_of(self._readout, features)[self._head].expand_as(features)


class _RuledRead:
    """A readout with activations under the γ rule; its last layer keeps its plain gradient."""

    def __init__(self, readout: Any, heads: Tensor, rule: Rule) -> None:
        self._readout, self._heads, self._rule = readout, heads, rule
        middle = getattr(readout, "linear_mid", None)
        self._layers = [readout.linear_1] if middle is None else [readout.linear_1, middle]

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        gate = self._head_gate(features)
        x, states = features, []
        for layer in self._layers:
            z = layer(x)
            y = self._readout.non_linearity(z)
            states.append(DenseState(x, z, y))
            x = y * gate
        head = int(self._heads[0])
        outputs = self._readout.linear_2(x)[:, head]
        dense = [_Dense.of(layer, s.x) for layer, s in zip(self._layers, states, strict=True)]
        fixed = RuledLayers(dense, self._rule).at(states)
        c = matrix_of(self._readout.linear_2, x)[head].repeat(len(x), 1)
        for layer in reversed(fixed):
            c = layer.pull(c * gate, per_atom_place)
        return outputs, c

    def _head_gate(self, features: Tensor) -> Tensor:
        """Return 1 where hidden features belong to the head, 0 elsewhere."""
        ones = torch.ones_like(self._layers[0](features))
        n_heads = getattr(self._readout, "num_heads", 1)
        if n_heads == 1:
            return ones
        from mace.modules.irreps_tools import mask_head

        masked: Tensor = mask_head(ones, self._heads, n_heads)
        return masked


_READS: dict[str, Any] = {
    "LinearReadoutBlock": _LinearRead,
    "NonLinearReadoutBlock": _RuledRead,
    "NonLinearBiasReadoutBlock": _RuledRead,
}


@dataclass(frozen=True, slots=True)
class _Dense:
    """A linear layer of e3nn between scalars, as `RuledLayers` reads layers."""

    weight: Tensor
    bias: Tensor
    in_features: int
    out_features: int

    @classmethod
    def of(cls, layer: Any, x: Tensor) -> _Dense:
        weight = matrix_of(layer, x)
        bias = layer(x.new_zeros(1, x.shape[1]))[0]
        return cls(weight, bias, weight.shape[1], weight.shape[0])


def matrix_of(layer: Any, x: Tensor) -> Tensor:
    """Return (n_out, n_in) of an affine module that takes features such as x (…, n_in)."""
    n = x.shape[-1]
    probes = torch.cat([torch.eye(n, dtype=x.dtype, device=x.device), x.new_zeros(1, n)])
    images: Tensor = layer(probes)
    return (images[:n] - images[n:]).t().contiguous()


def _scale(model: Any, head: int) -> Tensor:
    if type(model).__name__ != "ScaleShiftMACE":
        return torch.ones((), dtype=model.r_max.dtype, device=model.r_max.device)
    scale: Tensor = model.scale_shift.scale.reshape(-1)[head]
    return scale


def _repulsion(model: Any, graph: _Graph) -> Tensor | None:
    """Return half of the pair repulsion on each directed edge; None without one.

    mace sums it by receiver, so each edge is given a receiver of its own.
    """
    if not hasattr(model, "pair_repulsion_fn"):
        return None
    n = graph.edges.shape[1]
    ends = graph.elements[graph.edges.flatten()]
    apart = torch.arange(2 * n, device=graph.edges.device).view(2, n)
    with torch.no_grad():
        both: Tensor = model.pair_repulsion_fn(graph.lengths, ends, apart, model.atomic_numbers)
        halves = both.reshape(-1)[n:]
    return halves * _scale(model, int(graph.heads[0]))
