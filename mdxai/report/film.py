"""The frames and explanations that the page plays: few of a long run, all shortly before the onset.

The frames are an even choice of the trajectory, those at which findings begin, and the black box.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import ase.io
import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ase.data import covalent_radii
from ase.geometry import find_mic

from mdxai.frame import Bools, Floats, Frame, Ints, find_pairs
from mdxai.principles import bonds_of
from mdxai.principles.motion.bond_changes import BROKEN, FORMED
from mdxai.principles.motion.networks import METALS, covalent_network_of
from mdxai.record.explanations import measure_of
from mdxai.report.interactions import PairMeans
from mdxai.report.run_summary import RunSummary
from mdxai.stability.verdict import recorded_thresholds

MOST_POSITIONS = 60_000  # atoms times evenly chosen frames; each takes 8 bytes of the page
EVEN, FEWEST = 160, 10  # evenly chosen frames
MOST_ATOMS = MOST_POSITIONS // FEWEST
FINDINGS = 10  # whose frames are shown
EXPLAINED = 160  # evenly chosen explanations
STRONGEST = 8  # pairs of an explanation, and as many of the most changed
MOST_CLOSE = 60  # pairs that are drawn as new contacts
BLACK_BOX, BLACK_BOX_PAIRS = "blackbox-*.extxyz", "blackbox-*-pairs.parquet"
PairList = tuple[tuple[int, int], ...]
Valued = tuple[tuple[int, int, float], ...]


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame to show. time: fs. positions: (n_atoms, 3) Å; a molecule is turned so that it moves
    as little as possible, in a cell it is whole. cell: (3, 3) Å. in_box: whether it is of the black
    box. broken, stretched: bonds of the first frame. formed: other pairs within bonding distance.
    """

    step: int
    time: float
    positions: Floats
    cell: Floats
    in_box: bool
    broken: PairList
    stretched: PairList
    formed: PairList


@dataclass(frozen=True, slots=True)
class Relevances:
    """The pairs of one explained frame. time: fs. strongest: atoms and relevance, eV. changed:
    those that differ most from their mean, and by how much, eV; empty without means.
    """

    time: float
    strongest: Valued
    changed: Valued


@dataclass(frozen=True, slots=True)
class Film:
    """What can be played. bonds: of the first frame, but those between metals. n_recorded: frames
    in the trajectory. n_in_box: shots of the black box.
    """

    shots: tuple[Shot, ...]
    relevances: tuple[Relevances, ...]
    bonds: PairList
    n_recorded: int
    n_in_box: int


@dataclass(frozen=True, slots=True)
class _Still:
    """One frame as it was recorded."""

    step: int
    time: float
    positions: Floats
    cell: Floats
    in_box: bool = False


def read_film(summary: RunSummary) -> Film | None:
    """Return what the page plays; None where no frame is recorded or there are too many atoms.

    Memory holds the chosen frames, and a row group at a time.

    Raises:
        RecordError: when a part is damaged.
    """
    first = summary.first
    if first is None or len(summary.symbols) > MOST_ATOMS:
        return None
    stills = _stills(summary)
    if not stills:
        return None
    watch = _BondWatch(first, summary)
    whole = _WholeMolecules(first, watch.pairs)
    placed = _held_still([whole.of(still.positions, still.cell) for still in stills], first)
    shots = tuple(
        Shot(s.step, s.time, p, s.cell, s.in_box, *watch.states(s.positions, s.cell))
        for s, p in zip(stills, placed, strict=True)
    )
    n_in_box = sum(s.in_box for s in stills)
    return Film(shots, _relevances(summary), watch.pairs, summary.run.n_frames, n_in_box)


def _stills(summary: RunSummary) -> list[_Still]:
    """Return the chosen frames with finite positions, in order of their steps."""
    run = summary.run
    even = max(FEWEST, min(EVEN, MOST_POSITIONS // len(summary.symbols)))
    chosen = list(run.frames(0, None, max(1, -(-run.n_frames // even))))
    findings = summary.verdict.findings if summary.verdict is not None else ()
    times = [finding.time_fs for finding in findings[:FINDINGS]]
    chosen += [f for f in (run.last_frame(time) for time in [*times, np.inf]) if f is not None]
    found = {f.step: _Still(f.step, f.time, f.positions, f.cell) for f in chosen}
    found |= {still.step: still for still in _black_box(summary)}
    return [found[s] for s in sorted(found) if np.isfinite(found[s].positions).all()]


def _black_box(summary: RunSummary) -> list[_Still]:
    """Return the frames of the first black box; none where it cannot be read."""
    for path in summary.files(BLACK_BOX)[:1]:
        with suppress(OSError, ValueError, KeyError, IndexError):
            frames = ase.io.read(path, index=":", format="extxyz")
            return [
                _Still(int(a.info["step"]), float(a.info["time_fs"]), a.positions,
                       np.array(a.cell), in_box=True)
                for a in frames if len(a) == len(summary.symbols)
            ]  # fmt: skip
    return []


def _held_still(positions: Sequence[Floats], first: Frame) -> list[Floats]:
    """Return a molecule's positions without its motion as a whole, its plane facing the viewer.

    Each frame is superposed on the one before (Kabsch, Acta Cryst. A 32, 922, 1976), weighted by
    masses. Positions in a cell stay as they are.
    """
    if first.pbc.any():
        return list(positions)
    weights = first.masses[:, None] / first.masses.sum()
    start = positions[0] - positions[0].mean(0)
    axes = np.linalg.svd(start, full_matrices=True)[2]
    axes[2] *= np.linalg.det(axes)  # a rotation, no mirror image
    placed = [start @ axes.T]
    for now in positions[1:]:
        before, centred = placed[-1], now - (weights * now).sum(0)
        target = before - (weights * before).sum(0)
        u, _, v = np.linalg.svd((weights * centred).T @ target)
        u[:, 2] *= np.linalg.det(u @ v)
        placed.append(centred @ u @ v)
    return placed


class _WholeMolecules:
    """Moves the atoms of molecules that the cell's border cuts to their neighbours' side.

    Networks, which have no ends, stay as they are. Atoms follow their neighbour in a spanning tree
    of the bonds, all of one depth at a time.
    """

    def __init__(self, first: Frame, bonds: PairList) -> None:
        self._pbc = first.pbc
        self._layers: list[tuple[Ints, Ints]] = []  # atoms, and whom each follows
        if not first.pbc.any():
            return
        network = covalent_network_of(first)
        graph = nx.Graph((i, j) for i, j in bonds if not (network[i] and network[j]))
        roots = [min(part) for part in nx.connected_components(graph)]
        parents = {child: parent for root in roots for parent, child in nx.bfs_edges(graph, root)}
        for layer in list(nx.bfs_layers(graph, roots))[1:] if roots else ():
            self._layers.append((np.array(layer), np.array([parents[atom] for atom in layer])))

    def of(self, positions: Floats, cell: Floats) -> Floats:
        """Return the positions with whole molecules."""
        placed = np.array(positions)
        for atoms, parents in self._layers:
            steps = find_mic(placed[atoms] - placed[parents], cell, self._pbc)[0]
            placed[atoms] = placed[parents] + steps
        return placed


class _BondWatch:
    """Says of every frame which bonds of the first are broken or stretched, and which are new."""

    def __init__(self, first: Frame, summary: RunSummary) -> None:
        self._pbc, self._numbers = first.pbc, first.numbers
        self._metal: Bools = np.isin(first.numbers, list(METALS))
        self._radii = covalent_radii[first.numbers]
        i, j = bonds_of(first)
        keep = ~(self._metal[i] & self._metal[j])
        self._i, self._j = i[keep], j[keep]
        self._usual = self._lengths(first.positions, first.cell)
        limits = [t.warn for t in recorded_thresholds(summary.run) if t.principle == "bond"]
        self._limit = limits[0] if limits else np.inf
        self.pairs = _listed(self._i, self._j)

    def states(self, positions: Floats, cell: Floats) -> tuple[PairList, PairList, PairList]:
        """Return the broken, the stretched (or shortened) and the new bonds."""
        lengths, i, j = self._lengths(positions, cell), self._i, self._j
        broken = lengths > BROKEN * (self._radii[i] + self._radii[j])
        stretched = ~broken & (np.abs(lengths - self._usual) > self._limit)
        return (
            _listed(i[broken], j[broken]), _listed(i[stretched], j[stretched]),
            self._formed(positions, cell),
        )  # fmt: skip

    def _formed(self, positions: Floats, cell: Floats) -> PairList:
        pairs = find_pairs(positions, cell, self._pbc, 2 * FORMED * float(self._radii.max()))
        sums = self._radii[pairs.i] + self._radii[pairs.j]
        close = (pairs.distances < FORMED * sums) & (pairs.i != pairs.j)
        close &= ~(self._metal[pairs.i] | self._metal[pairs.j])
        found = set(_listed(pairs.i[close], pairs.j[close])) - set(self.pairs)
        return tuple(sorted(found)[:MOST_CLOSE])

    def _lengths(self, positions: Floats, cell: Floats) -> Floats:
        vectors = positions[self._j] - positions[self._i]
        if self._pbc.any() and len(vectors):
            vectors = find_mic(vectors, cell, self._pbc)[0]
        lengths: Floats = np.linalg.norm(vectors, axis=1)
        return lengths


def _listed(i: Ints, j: Ints) -> PairList:
    return tuple((min(a, b), max(a, b)) for a, b in zip(i.tolist(), j.tolist(), strict=True))


def _relevances(summary: RunSummary) -> tuple[Relevances, ...]:
    """Return the chosen explanations in order, those of the black box among them."""
    found = summary.interactions
    if found is None:
        return ()
    known = {} if found.means is None else _mean_of(found.means)
    steps = _explained_steps(summary)
    shown = {}
    for table in _pair_tables(summary, measure_of(summary.run.column_names("pairs")), steps):
        for rows in _by_step(table):
            shown[int(rows["step"][0].as_py())] = _relevances_of(rows, known)
    return tuple(shown[step] for step in sorted(shown))


def _explained_steps(summary: RunSummary) -> Ints:
    """Return an even choice of the explained steps, with those just before findings begin."""
    columns = list(summary.run.tables("explanations", ["step", "time_fs"]))
    if not columns:
        return np.empty(0, dtype=np.int64)
    table = pa.concat_tables(columns)
    steps, times = table["step"].to_numpy(), table["time_fs"].to_numpy()
    chosen = np.linspace(0, len(steps) - 1, min(EXPLAINED, len(steps))).round().astype(np.int64)
    findings = summary.verdict.findings if summary.verdict is not None else ()
    begin = np.array([finding.time_fs for finding in findings[:FINDINGS]])
    before = np.searchsorted(times, begin, side="right") - 1
    kept: Ints = np.unique(steps[np.concatenate([chosen, before[before >= 0]])])
    return kept


def _pair_tables(summary: RunSummary, measure: str, steps: Ints) -> Iterator[pa.Table]:
    """Yield the pairs of some steps, then those of the black box."""
    columns = ["step", "time_fs", "i", "j", f"{measure}_eV"]
    wanted = pa.array(steps)
    for table in summary.run.tables("pairs", columns):
        rows = pc.is_in(table["step"], value_set=wanted)
        yield table.filter(rows).rename_columns([*columns[:-1], "eV"])
    for path in summary.files(BLACK_BOX_PAIRS)[:1]:
        with suppress(OSError, ValueError, KeyError):  # it has no hash; the page does without
            yield pq.read_table(path, columns=columns).rename_columns([*columns[:-1], "eV"])


def _by_step(table: pa.Table) -> Iterator[pa.Table]:
    """Yield the rows of each step; these lie together."""
    steps = table["step"].to_numpy()
    starts = np.flatnonzero(np.diff(steps, prepend=-1))
    for begin, end in zip(starts, [*starts[1:], len(steps)], strict=True):
        yield table.slice(int(begin), int(end - begin))


def _mean_of(means: PairMeans) -> dict[tuple[int, int], float]:
    pairs = zip(means.i.tolist(), means.j.tolist(), strict=True)
    return dict(zip(pairs, means.mean.tolist(), strict=True))


def _relevances_of(rows: pa.Table, known: dict[tuple[int, int], float]) -> Relevances:
    i, j = rows["i"].to_numpy(), rows["j"].to_numpy()
    values = rows["eV"].to_numpy().astype(np.float64)
    usual = [known.get(pair, np.nan) for pair in zip(i.tolist(), j.tolist(), strict=True)]
    change = values - np.array(usual)
    return Relevances(
        float(rows["time_fs"][0].as_py()), _largest(i, j, values), _largest(i, j, change)
    )


def _largest(i: Ints, j: Ints, values: Floats) -> Valued:
    """Return the pairs with the largest absolute values; of several images, the largest."""
    found: dict[tuple[int, int], float] = {}
    for k in np.argsort(-np.nan_to_num(np.abs(values), nan=-1.0, posinf=-1.0), kind="stable"):
        if len(found) == STRONGEST or not np.isfinite(values[k]):
            break
        if i[k] != j[k]:
            found.setdefault((int(i[k]), int(j[k])), float(values[k]))
    return tuple((*pair, value) for pair, value in found.items())
