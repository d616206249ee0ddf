"""What an analysis keeps of each molecule: sums in bins, which do not grow with the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mdxai.analysis.bond_kinds import (
    AROMATIC,
    BONDED,
    DOUBLE,
    KINDS,
    SELF,
    SINGLE,
    TRIPLE,
    pair_kinds,
)
from mdxai.analysis.clustered_means import ClusteredMeans, State
from mdxai.analysis.data_entries import LARGEST, Entry, formula
from mdxai.analysis.functional_groups import GROUPS, Groups, functional_groups
from mdxai.analysis.histograms import Histograms, Offender, WorstMolecules
from mdxai.attribution import Together
from mdxai.calculators.guard_term import GuardAction
from mdxai.frame import Floats, Frame, Ints
from mdxai.principles.bond_enthalpies import bond_enthalpy
from mdxai.principles.explanation.ranking import TIE, WEAK, discordance

WIDTH = 0.1  # Å, of the bins of distances
STRENGTHS = np.linspace(-6, 2, 81)  # log10 of strengths
GUARD_BINS = 60  # of 0.1 Å, up to which a guard's pairs are told apart by distance
SHARES = np.linspace(0, 1, 51)
ORDERS = ("one-body", "two-body", "higher")
HEAVIEST = "heaviest fragment"
APART = 1.1  # enthalpies that differ by less are not compared, as in SpeciesRanking
_CLASS = np.zeros(len(KINDS))
_CLASS[[SINGLE, AROMATIC, DOUBLE, TRIPLE]] = (1.0, 1.5, 2.0, 3.0)


class MoleculeTally:
    """Sums over the molecules of a data set, as one model explains them.

    Attributes:
        decay: strength of pairs per element pair in bins of 0.1 Å.
        bonds: strength per element pair and bond class ("C-C aromatic"), and of walks that stay on
            an atom per element ("C self").
        strengths: log10 of the same strengths, counted.
        atoms: relevance of atoms by element and number of neighbours ("C, 4 neighbours").
        group_relevance, group_atoms: per molecule, the share of Σ|R_a|, and of the atoms, in each
            functional group that it has, and in its heaviest fragment.
        group_heaviest: 1 where the heaviest fragment of a molecule is one of this group, else 0.
        guard: energies (eV) of a guard's pairs where it acts, per element pair in bins of 0.1 Å;
            they are no relevance of the network, and are in nothing else.
        guarded: per molecule, "energy" of the guard (eV), and "acts", 1 where it does, else 0.
        orders: per molecule, relevance by body order and its shares.
        sizes: per molecule, in bins of the number of atoms: the output, the sum of the strengths of
            atoms, of pairs, the atoms that take part, and pairs per atom.
        principles, worst: deviations from explanation principles, and which molecules deviate most.
    """

    def __init__(self, reach: float) -> None:
        self.decay = ClusteredMeans(max(int(np.ceil(reach / WIDTH)), 1))
        self.bonds, self.atoms, self.orders = (ClusteredMeans(1) for _ in range(3))
        self.group_relevance, self.group_atoms = ClusteredMeans(1), ClusteredMeans(1)
        self.group_heaviest = ClusteredMeans(1)
        self.guard, self.guarded = ClusteredMeans(GUARD_BINS), ClusteredMeans(1)
        self.sizes = ClusteredMeans(LARGEST + 1)
        self.strengths, self.principles = Histograms(STRENGTHS), Histograms(SHARES)
        self.worst = WorstMolecules()

    def add(self, together: Together, entries: Sequence[Entry]) -> None:
        """Take in molecules that were explained together."""
        whole, frames = together.whole, [entry.frame for entry in entries if entry.frame]
        pairs, numbers = whole.pairs, whole.numbers
        positions = np.concatenate([frame.positions for frame in frames])
        kinds, _ = pair_kinds(numbers, positions, pairs.i, pairs.j, pairs.distances)
        molecules = together.molecule_of(pairs.i)
        names, elements = _element_pairs(numbers, pairs.i, pairs.j)
        bins = (pairs.distances / WIDTH).astype(np.int64)
        self.decay.add(names, elements, bins, whole.strengths, molecules)
        self._add_bonds(together, names, elements, kinds)
        self._add_atoms(together, kinds)
        self._add_groups(together, functional_groups(numbers, pairs.i, pairs.j, kinds))
        self._add_molecules(together)
        self._judge(together, entries, _Kinds(names, elements, kinds, molecules))

    def add_guard(self, actions: Sequence[GuardAction | None], frames: Sequence[Frame]) -> None:
        """Take in what a guard adds to the energies of molecules; None where it does nothing."""
        one = np.zeros(len(actions), dtype=np.int64)
        acts = np.array([float(action is not None) for action in actions])
        energies = np.array([0.0 if action is None else action.energy for action in actions])
        for name, values in (("acts", acts), ("energy", energies)):
            self.guarded.add([name], one, one, values, np.arange(len(actions)))
        for action, frame in zip(actions, frames, strict=True):
            if action is not None:
                names, pair = _element_pairs(frame.numbers, action.i, action.j)
                bins = (np.linalg.norm(action.vectors, axis=1) / WIDTH).astype(np.int64)
                self.guard.add(names, pair, bins, action.energies, np.zeros_like(bins))

    def _add_bonds(self, together: Together, names: list[str], elements: Ints, kinds: Ints) -> None:
        whole = together.whole
        pairs, none = whole.pairs, np.zeros(len(elements), dtype=np.int64)
        keys, channel = np.unique(elements * len(KINDS) + kinds, return_inverse=True)
        classes = [f"{names[key // len(KINDS)]} {KINDS[key % len(KINDS)]}" for key in keys]
        molecules = together.molecule_of(pairs.i)
        self.bonds.add(classes, channel, none, whole.strengths, molecules)
        present, element = np.unique(whole.numbers, return_inverse=True)
        selves = [f"{chemical_symbols[z]} {SELF}" for z in present]
        of_atoms = together.molecule_of(np.arange(len(whole.numbers)))
        self.bonds.add(selves, element, np.zeros(len(element), int), whole.one_body, of_atoms)
        for labels, which, values in (
            (classes, channel, whole.strengths), (selves, element, whole.one_body)
        ):  # fmt: skip
            with np.errstate(divide="ignore"):
                logs = np.maximum(np.log10(np.abs(values)), STRENGTHS[0])
            for k, label in enumerate(labels):
                self.strengths.add(label, logs[which == k])

    def _add_atoms(self, together: Together, kinds: Ints) -> None:
        whole = together.whole
        bonds = np.flatnonzero(np.isin(kinds, BONDED))
        ends = np.concatenate([whole.pairs.i[bonds], whole.pairs.j[bonds]])
        neighbours = np.bincount(ends, minlength=len(whole.numbers))
        keys, channel = np.unique(whole.numbers * 100 + neighbours, return_inverse=True)
        labels = [_kind_of_atom(int(k)) for k in keys]
        molecules = together.molecule_of(np.arange(len(channel)))
        self.atoms.add(labels, channel, np.zeros(len(channel), int), whole.atoms, molecules)

    def _add_groups(self, together: Together, groups: Groups) -> None:
        whose = together.molecule_of(np.arange(len(groups.kinds)))
        shares = np.stack([
            np.abs(together.whole.atoms) / per_molecule(together)["atoms"][whose],
            1 / np.diff(together.starts)[whose],
        ])  # fmt: skip
        some, place = np.unique(whose * len(GROUPS) + groups.kinds, return_inverse=True)
        by_group = [np.bincount(place, share) for share in shares]
        molecule, kind = np.divmod(some, len(GROUPS))
        present, channel = np.unique(kind, return_inverse=True)
        names = [GROUPS[k] for k in present]
        heaviest = _heaviest(groups.fragments, shares[0], whose)
        by_fragment = [np.bincount(groups.fragments, share)[heaviest] for share in shares]
        n, none = len(heaviest), np.zeros(len(some), dtype=np.int64)
        for means, of_groups, of_heaviest in zip(
            (self.group_relevance, self.group_atoms), by_group, by_fragment, strict=True
        ):
            means.add(names, channel, none, of_groups, molecule)
            means.add([HEAVIEST], none[:n], none[:n], of_heaviest, np.arange(n))
        first = np.unique(groups.fragments, return_index=True)[1]
        won = kind == groups.kinds[first[heaviest]][molecule]
        self.group_heaviest.add(names, channel, none, won.astype(np.float64), molecule)

    def _add_molecules(self, together: Together) -> None:
        rows = per_molecule(together)
        n = len(together.outputs)
        order = np.arange(n)
        sizes = np.diff(together.starts)
        one = np.concatenate([rows[name] for name in ORDERS])
        total = sum(np.abs(rows[name]) for name in ORDERS)
        shares = np.concatenate([np.abs(rows[name]) / total for name in ORDERS])
        channel, none = np.repeat(np.arange(len(ORDERS)), n), np.zeros(3 * n, dtype=np.int64)
        self.orders.add(ORDERS, channel, none, one, np.tile(order, 3))
        names = [f"share {name}" for name in ORDERS]
        self.orders.add(names, channel, none, shares, np.tile(order, 3))
        for name in ("output", "atoms", "pairs", "atoms that take part", "pair strength per atom"):
            self.sizes.add([name], np.zeros(n, dtype=np.int64), sizes, rows[name], order)

    def _judge(self, together: Together, entries: Sequence[Entry], kinds: _Kinds) -> None:
        """Count each molecule's deviations from the principles, shares from 0 to 1."""
        rows = per_molecule(together)
        total = sum(np.abs(rows[name]) for name in ORDERS)
        scale, each = np.maximum(total, WEAK), range(len(entries))
        found = {
            "bond order": np.array([kinds.misordered(k, together) for k in each]),
            "species ranking": np.array([kinds.misranked(k, together) for k in each]),
            "body orders": np.maximum(np.abs(rows["higher"]) - np.abs(rows["two-body"]), 0) / scale,
            "residual": np.abs(together.outputs - rows["relevance"]) / scale,
        }
        for name, values in found.items():
            self.principles.add(name, values)
            for k, value in enumerate(values.tolist()):
                if self.worst.wanted(name, value):
                    self.worst.add(name, _offender(value, entries[k]))

    def merge(self, other: MoleculeTally) -> None:
        """Add the sums over other molecules."""
        for name in _PARTS:
            getattr(self, name).merge(getattr(other, name))

    def state(self) -> State:
        """Return arrays from which `from_state` continues."""
        return {
            f"{name}.{key}": array
            for name in _PARTS
            for key, array in getattr(self, name).state().items()
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Self:
        """Return the tally whose `state` this is."""
        self = cls(WIDTH)
        for name, kind in _PARTS.items():
            mine = {k.split(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{name}.")}
            setattr(self, name, kind.from_state(mine))
        return self


_PARTS: dict[str, Any] = {
    "decay": ClusteredMeans, "bonds": ClusteredMeans, "atoms": ClusteredMeans,
    "group_relevance": ClusteredMeans, "group_atoms": ClusteredMeans,
    "group_heaviest": ClusteredMeans, "guard": ClusteredMeans, "guarded": ClusteredMeans,
    "orders": ClusteredMeans, "sizes": ClusteredMeans,
    "strengths": Histograms, "principles": Histograms, "worst": WorstMolecules,
}  # fmt: skip


def _heaviest(fragments: Ints, shares: Floats, whose: Ints) -> Ints:
    """Return the fragment with the largest share, of each molecule, (n_molecules,)."""
    total = np.bincount(fragments, shares)
    first = np.unique(fragments, return_index=True)[1]
    order = np.lexsort((total, whose[first]))  # the last of each molecule has most
    molecules = whose[first][order]
    found: Ints = order[np.flatnonzero(np.diff(molecules, append=molecules[-1] + 1))]
    return found


def per_molecule(together: Together) -> dict[str, Floats]:
    """Return sums of each molecule, (n_molecules,): relevance by body order and in all, strengths.

    "atoms" is Σ|R_a|, "pairs" Σ|R_ij|, "atoms that take part" (Σ|R_a|)²/Σ R_a², the participation
    ratio as a number of atoms (Bell and Dean 1970).
    """
    whole, starts = together.whole, together.starts
    n = len(starts) - 1
    of_pairs = together.molecule_of(whole.pairs.i)
    two, pairs = (np.bincount(of_pairs, v, n) for v in (whole.strengths, np.abs(whole.strengths)))
    one, total, size, squares = (
        np.add.reduceat(v, starts[:-1])
        for v in (whole.one_body, whole.atoms, np.abs(whole.atoms), whole.atoms**2)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        part = size**2 / squares
    return {
        "one-body": one, "two-body": two, "higher": total - one - two, "relevance": total,
        "output": together.outputs, "atoms": size, "pairs": pairs, "atoms that take part": part,
        "pair strength per atom": pairs / np.diff(starts),
    }  # fmt: skip


class _Kinds:
    """Classes of the pairs of molecules side by side, asked molecule by molecule."""

    def __init__(self, names: list[str], elements: Ints, kinds: Ints, molecules: Ints) -> None:
        self._names, self._elements, self._kinds = names, elements, kinds
        self._starts = np.searchsorted(molecules, np.arange(molecules.max(initial=-1) + 2))

    def _rows(self, k: int) -> slice:
        if k + 1 >= len(self._starts):
            return slice(0, 0)
        return slice(int(self._starts[k]), int(self._starts[k + 1]))

    def misordered(self, k: int, together: Together) -> float:
        """Return the share of comparisons in which the weaker bond of the same elements has more
        strength; NaN without comparisons.
        """
        rows = self._rows(k)
        strengths = np.abs(together.whole.strengths[rows])
        classes, elements = _CLASS[self._kinds[rows]], self._elements[rows]
        wrong = total = 0
        for element in np.unique(elements[classes > 0]):
            same = elements == element
            a, b = discordance(strengths[same], classes[same], TIE)
            wrong, total = wrong + a, total + b
        return wrong / total if total else np.nan

    def misranked(self, k: int, together: Together) -> float:
        """Return the share of comparisons in which the single bonds of lower enthalpy have more
        strength; NaN without comparisons.
        """
        rows = self._rows(k)
        single = self._kinds[rows] == SINGLE
        elements = self._elements[rows][single]
        strengths = np.abs(together.whole.strengths[rows][single])
        known = []
        for element in np.unique(elements):
            enthalpy = bond_enthalpy(self._names[element])
            if enthalpy is not None:
                known.append((enthalpy, float(strengths[elements == element].mean())))
        compared = [a[1] > b[1] for a in known for b in known if b[0] > APART * a[0]]
        return sum(compared) / len(compared) if compared else np.nan


def _element_pairs(numbers: Ints, i: Ints, j: Ints) -> tuple[list[str], Ints]:
    """Return names of element pairs, and each pair's index into them."""
    low, high = np.minimum(numbers[i], numbers[j]), np.maximum(numbers[i], numbers[j])
    keys, channel = np.unique(low * 1000 + high, return_inverse=True)
    return [pair_name(int(key) // 1000, int(key) % 1000) for key in keys], channel


def _kind_of_atom(key: int) -> str:
    number, neighbours = divmod(key, 100)
    return f"{chemical_symbols[number]}, {neighbours} neighbour{'' if neighbours == 1 else 's'}"


def pair_name(a: int, b: int) -> str:
    """Return the name of an element pair, symbols in alphabetical order."""
    return "-".join(sorted((chemical_symbols[a], chemical_symbols[b])))


def _offender(value: float, entry: Entry) -> Offender:
    frame: Frame | None = entry.frame
    assert frame is not None  # it was explained
    positions = tuple(tuple(point) for point in frame.positions.round(4).tolist())
    return Offender(value, entry.index, formula(frame), tuple(frame.numbers.tolist()), positions)
