"""The choice of a method to explain a network of mdxai."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase import Atoms

from mdxai.attribution.attribution import Attribution, AttributionError, Attributor, as_frame
from mdxai.attribution.lrp_rule import Rule
from mdxai.attribution.network_attributors import FlowAttributor, WalkAttributor
from mdxai.attribution.opened import Openable
from mdxai.attribution.opened_attributors import OpenedFlowAttributor, OpenedSetAttributor
from mdxai.calculators.network_calculator import NetworkCalculator
from mdxai.calculators.network_property import NetworkProperty
from mdxai.calculators.pooling import SUM, DipoleMagnitude, OneAtom, Pooling
from mdxai.calculators.potential import NetworkPotential
from mdxai.frame import Frame

WALKS_LIMIT = 200  # atoms up to which "auto" takes exact walks


class AutomaticAttributor:
    """Exact walks for up to 200 atoms, flow beyond; the attribution names the method used.

    Args:
        walks, flow: the attributors to choose from.
    """

    method = "auto"

    def __init__(
        self,
        walks: WalkAttributor | OpenedSetAttributor,
        flow: FlowAttributor | OpenedFlowAttributor,
    ) -> None:
        self._walks, self._flow = walks, flow
        self.cutoff = walks.cutoff

    def attribute(self, frame: Frame | Atoms) -> Attribution:
        """Explain one frame. Raises what the chosen method raises."""
        frame = as_frame(frame)
        chosen = self._walks if frame.n_atoms <= WALKS_LIMIT else self._flow
        return chosen.attribute(frame)

    def attribute_many(self, frames: Sequence[Frame | Atoms]) -> list[Attribution]:
        """Explain frames, in one batch where all are small enough for exact walks."""
        checked = [as_frame(frame) for frame in frames]
        if all(frame.n_atoms <= WALKS_LIMIT for frame in checked):
            return self._walks.attribute_many(checked)
        return [self.attribute(frame) for frame in checked]

    def will_explain_next(self, explained: bool) -> None:
        """State whether the next frame will be explained; both methods read the same force call."""
        self._walks.will_explain_next(explained)

    def state(self) -> dict[str, Any]:
        """Return, for a checkpoint, what the rounding of the next explanation depends on."""
        return {"walks": self._walks.state(), "flow": self._flow.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` with the same bits as the attributor that returned it."""
        self._walks.restore(state["walks"])
        self._flow.restore(state["flow"])


def network_attributor(
    explained: NetworkCalculator | NetworkProperty,
    method: str,
    rule: Rule,
    *,
    body_order: int,
    dtype: str | None,
    atom: int | None,
) -> Attributor:
    """Return an attributor; method: "walks", "flow" or "auto". The rest as `attributor` says."""
    potential, pooling = _potential_of(explained, dtype), _pooling_of(explained, atom)
    unit = explained.unit if isinstance(explained, NetworkProperty) else "eV"
    walks = WalkAttributor(potential, rule, pooling=pooling, unit=unit, body_order=body_order)
    if method == "walks":
        return walks
    flow = FlowAttributor(potential, rule, pooling=pooling, unit=unit)
    return flow if method == "flow" else AutomaticAttributor(walks, flow)


def opened_attributor(
    network: Openable, method: str, rule: Rule, *, body_order: int, atom: int | None
) -> Attributor:
    """Return an attributor of a network that can be opened; the rest as `network_attributor`."""
    sets = OpenedSetAttributor(network, rule, atom=atom, body_order=body_order)
    if method == "walks":
        return sets
    flow = OpenedFlowAttributor(network, rule, atom=atom)
    return flow if method == "flow" else AutomaticAttributor(sets, flow)


def twin_calculator(calculator: NetworkCalculator, dtype: str | None) -> NetworkCalculator:
    """Return an independent calculator of the same network, in `dtype` if one is given."""
    return NetworkCalculator(calculator.potential.twin(getattr(torch, dtype) if dtype else None))


def _pooling_of(explained: NetworkCalculator | NetworkProperty, atom: int | None) -> Pooling:
    pooling: Pooling = explained.pooling if isinstance(explained, NetworkProperty) else SUM
    if atom is None:
        return pooling
    if isinstance(pooling, DipoleMagnitude):
        raise AttributionError("a dipole is not a sum of contributions of atoms; omit `atom`")
    return OneAtom(atom)


def _potential_of(
    explained: NetworkCalculator | NetworkProperty, dtype: str | None
) -> NetworkPotential:
    wanted = None if dtype is None else getattr(torch, dtype)
    if isinstance(explained, NetworkProperty):
        return explained.potential if wanted is None else explained.potential.twin(wanted)
    return explained.share_activations(wanted)
