"""Bond classes of pairs of atoms, from the geometry alone, for many molecules side by side.

Which atoms are bonded: `mdxai.principles.bonds_of`, but heavier atoms only up to 1.2 times the sum
of their covalent radii: opposite carbons of small cages are 1.9 Å apart. The order of a bond is
Pauling's, 10^((r₁ − r)/0.71 Å), taken to the nearest of 1, 2 and 3; a bond is aromatic in a planar
ring of five or six atoms without a fourth neighbour whose mean order is at least 1.3. A hydrogen
bond D–H···A has D and A of N, O and F, H···A below 2.5 Å and an angle at H above 120° (Baker and
Hubbard, Prog. Biophys. Mol. Biol. 44, 97 (1984)).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from ase.data import covalent_radii
from scipy.sparse import csr_array

from mdxai.frame import Bools, Floats, Ints
from mdxai.principles.explanation.ranking import PAULING
from mdxai.principles.motion.structure import are_bonds

SELF = "self"
KINDS = ("single", "aromatic", "double", "triple", "hydrogen bond", "1-3", "1-4", "farther")
SINGLE, AROMATIC, DOUBLE, TRIPLE, HYDROGEN, ANGLE, DIHEDRAL, FARTHER = range(len(KINDS))
BONDED = (SINGLE, AROMATIC, DOUBLE, TRIPLE)
LONGEST = 1.2  # times the sum of covalent radii
RINGS = (5, 6)
RING_ORDER = 1.3  # mean order of an aromatic ring, at least
FLAT = 0.15  # Å, farthest from the plane of a ring
ACCEPTORS = (7, 8, 9)
CONTACT, BENT = 2.5, 120.0  # Å, °


def pair_kinds(
    numbers: Ints, positions: Floats, i: Ints, j: Ints, distances: Floats
) -> tuple[Ints, Floats]:
    """Return the class of each pair, an index into `KINDS`, and Pauling orders; both (n_pairs,).

    Args:
        numbers: (n_atoms,) of all molecules, one after the other.
        positions: (n_atoms, 3) Å.
        i: (n_pairs,) first atoms.
        j: (n_pairs,) second atoms.
        distances: (n_pairs,) Å.
    """
    bonded = np.flatnonzero(are_bonds(numbers, i, j, distances, LONGEST))
    orders = 10 ** ((covalent_radii[numbers[i]] + covalent_radii[numbers[j]] - distances) / PAULING)
    kinds = np.full(len(i), FARTHER)
    links = _links(len(numbers), i[bonded], j[bonded])
    two = links @ links
    kinds[_joined(two @ links, i, j)] = DIHEDRAL
    angle = _joined(two, i, j)
    kinds[angle] = ANGLE
    contact = _hydrogen_bonds(numbers, positions, (i, j, distances), bonded)
    kinds[contact & ~angle] = HYDROGEN
    nearest = np.abs(orders[bonded, None] - np.array([1.0, 2.0, 3.0])).argmin(axis=1)
    kinds[bonded] = np.array([SINGLE, DOUBLE, TRIPLE])[nearest]
    ringed = _aromatic(numbers, positions, i[bonded], j[bonded], orders[bonded])
    kinds[bonded[ringed]] = AROMATIC
    return kinds, orders


def _links(n_atoms: int, i: Ints, j: Ints) -> csr_array:
    rows, columns = np.concatenate([i, j]), np.concatenate([j, i])
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(n_atoms, n_atoms))


def _joined(paths: csr_array, i: Ints, j: Ints) -> Bools:
    n = paths.shape[0]
    rows, columns = paths.nonzero()
    return np.isin(i * n + j, rows.astype(np.int64) * n + columns)


def _hydrogen_bonds(
    numbers: Ints, positions: Floats, pairs: tuple[Ints, Ints, Floats], bonded: Ints
) -> Bools:
    i, j, distances = pairs
    partner = np.full(len(numbers), -1)  # of each hydrogen
    for a, b in ((i[bonded], j[bonded]), (j[bonded], i[bonded])):
        light = numbers[a] == 1
        partner[a[light]] = b[light]
    polar = np.isin(numbers, ACCEPTORS)
    donated = (numbers == 1) & (partner >= 0) & polar[partner]
    found = np.zeros(len(i), dtype=bool)
    near = distances < CONTACT
    for a, b in ((i, j), (j, i)):
        rows = np.flatnonzero(near & donated[a] & polar[b] & (partner[a] != b))
        hydrogen, acceptor = a[rows], b[rows]
        to_donor = positions[partner[hydrogen]] - positions[hydrogen]
        to_acceptor = positions[acceptor] - positions[hydrogen]
        lengths = np.linalg.norm(to_donor, axis=1) * np.linalg.norm(to_acceptor, axis=1)
        cosine = np.einsum("ij,ij->i", to_donor, to_acceptor) / lengths
        found[rows[cosine < np.cos(np.radians(BENT))]] = True
    return found


def _aromatic(numbers: Ints, positions: Floats, i: Ints, j: Ints, orders: Floats) -> Bools:
    """Return which bonds belong to an aromatic ring, (n_bonds,)."""
    import networkx as nx

    neighbours = np.bincount(np.concatenate([i, j]), minlength=len(numbers))
    flat = (numbers > 1) & (neighbours <= 3) & (neighbours > 1)
    rows = np.flatnonzero(flat[i] & flat[j])
    graph = nx.Graph()
    graph.add_edges_from(
        (a, b, {"row": row}) for a, b, row in zip(i[rows].tolist(), j[rows].tolist(), rows.tolist(),
                                                  strict=True)
    )  # fmt: skip
    found = np.zeros(len(i), dtype=bool)
    core = nx.k_core(graph, 2)
    for ring in nx.simple_cycles(core, length_bound=max(RINGS)) if len(core) else ():
        bonds = [core.edges[a, b]["row"] for a, b in pairwise([*ring, ring[0]])]
        if len(ring) in RINGS and orders[bonds].mean() >= RING_ORDER and _planar(positions[ring]):
            found[bonds] = True
    return found


def _planar(points: Floats) -> bool:
    centred = points - points.mean(axis=0)
    normal = np.linalg.svd(centred)[2][2]
    return bool(np.abs(centred @ normal).max() < FLAT)
