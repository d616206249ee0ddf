"""Flow: how much relevance passes between two atoms, for all pairs at once.

One tangent pass x̃ forwards and one pass v of coefficients backwards give, for every edge and block,

    flow_l(j → i) = (C x̃_l)[j] · ( W_ijᵀ message(v_{l+1})[i] ),

the sum of R_w over all walks that go from j to i at step l. Cost and memory grow as the number of
edges, so flow suits large systems.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mdxai.attribution.blocks import LinearBlock
from mdxai.attribution.rules import per_atom_place
from mdxai.calculators.edges import Edges


def pair_flow(
    blocks: list[LinearBlock], edges: Edges, top: Tensor, features: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the flow on half edges by block (n_blocks, n_half), and atoms' relevance (n_atoms,).

    Args:
        blocks: first to last.
        edges: the edges that the blocks' filters belong to.
        top: (n_atoms, F) coefficients of the readout.
        features: (n_atoms, F) embedding output h⁰.
    """
    raised = _tangents(blocks, edges, features)
    flows = []
    c = top
    for block, x in zip(reversed(blocks), reversed(raised), strict=True):
        kept, message = block.keep_and_message(c, per_atom_place)
        sent = edges.send_back(block.filters.rows, message, block.filters.back)
        flows.append(edges.both_ways(edges.weigh(sent, x).sum(-1)))
        c = block.lower(kept, edges.collect_back(sent), per_atom_place)
    return torch.stack(flows[::-1]), (c * features).sum(-1)


def _tangents(blocks: list[LinearBlock], edges: Edges, features: Tensor) -> list[Tensor]:
    """Return each block's C x̃_l, (n_atoms, F)."""
    raised = []
    x = features
    for block in blocks:
        raised.append(block.raise_(x, per_atom_place))
        if block is not blocks[-1]:
            filters = block.filters
            received = edges.collect(edges.weigh(filters.rows, raised[-1], filters.forth))
            x = block.absorb(x, received, per_atom_place)
    return raised
