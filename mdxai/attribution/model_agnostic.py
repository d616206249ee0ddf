"""Attribution of any calculator, from its energies or forces alone.

hessian    ‖∂²E/∂r_i∂r_j‖ of atom pairs, by central differences of forces; it stays inside the
           training domain, but measures stiffness, not energy
expansion  n-body expansion of the energy by inclusion–exclusion over fragments; fragments lie
           outside the training domain of a learned potential
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from mdxai.attribution.attribution import (
    Attribution,
    AttributionError,
    AttributionUnavailable,
    as_frame,
)
from mdxai.calculators.fragments import inputs_of_atoms_in
from mdxai.frame import Floats, Frame, Ints, Pairs

if TYPE_CHECKING:
    from torch import Tensor

MAX_FRAGMENTS = 20_000


class HessianAttributor:
    """Frobenius norms of the Hessian's 3×3 blocks, eV/Å², by 6 force calls per atom.

    Args:
        calculator: an ASE calculator, other than the one that drives a simulation.
        step: displacement of the central differences, Å.
    """

    method = "hessian"

    def __init__(self, calculator: Any, *, step: float = 1e-3) -> None:
        if not step > 0:
            raise AttributionError(f"step must be positive, got {step}")
        self._calculator, self._step = calculator, step

    def attribute(self, frame: Frame | Atoms) -> Attribution:
        """Explain one frame; `atoms` and `by_body_order` are NaN, as norms are not shares."""
        blocks = self.hessian(frame)
        frame = as_frame(frame)
        norms = np.sqrt((blocks**2).sum((2, 3)))
        i, j = np.triu_indices(frame.n_atoms, k=1)
        return _for_pairs(frame, self.method, i, j, norms[i, j], np.diag(norms).copy())

    def hessian(self, frame: Frame | Atoms) -> Floats:
        """Return (n_atoms, n_atoms, 3, 3) ∂²E/∂r_i∂r_j, eV/Å², symmetrised."""
        atoms = _free_atoms(frame)
        atoms.calc = self._calculator
        n, at_rest = len(atoms), atoms.positions.copy()
        rows = np.empty((n, 3, n, 3))
        for atom in range(n):
            for axis in range(3):
                rows[atom, axis] = (
                    self._forces(atoms, at_rest, atom, axis, -1)
                    - self._forces(atoms, at_rest, atom, axis, 1)
                ) / (2 * self._step)
        flat = rows.reshape(3 * n, 3 * n)
        symmetric: Floats = ((flat + flat.T) / 2).reshape(n, 3, n, 3).transpose(0, 2, 1, 3)
        return symmetric

    def _forces(self, atoms: Atoms, at_rest: Floats, atom: int, axis: int, sign: int) -> Floats:
        atoms.positions = at_rest
        atoms.positions[atom, axis] += sign * self._step
        forces: Floats = atoms.get_forces()
        return forces


class ExpansionAttributor:
    """n-body expansion E = Σ E⁽¹⁾ + Σ E⁽²⁾ + …, each term by inclusion–exclusion over fragments.

    Exact for potentials that are sums of n-body terms. Fragments of a molecule lie outside the
    training domain of a learned potential; interpret its results accordingly. A total charge and a
    spin in `atoms.info` are those of the whole: a fragment is neutral, in its lowest spin.

    Args:
        calculator: an ASE calculator, other than the one that drives a simulation.
        body_order: highest order, 2 or 3.
        offset_per_atom: constant per atom in the calculator's energy, left out, eV.
        atom_energies: the same by element.
    """

    method = "expansion"

    def __init__(
        self,
        calculator: Any,
        *,
        body_order: int = 2,
        offset_per_atom: float = 0.0,
        atom_energies: Mapping[str, float] | None = None,
    ) -> None:
        if isinstance(body_order, float) or body_order not in (2, 3):
            raise AttributionError(
                f'method "expansion" resolves body_order 2 or 3, got {body_order!r}'
            )
        self._calculator, self._body_order = calculator, body_order
        self._offset, self._atom_energies = offset_per_atom, dict(atom_energies or {})

    def attribute(self, frame: Frame | Atoms) -> Attribution:
        """Explain one frame. Pair and triple terms are shared out evenly in `atoms`.

        Raises:
            AttributionUnavailable: for a periodic frame, too many fragments, or one on which the
                calculator fails.
        """
        whole, frame = _free_atoms(frame), as_frame(frame)
        n = frame.n_atoms
        n_fragments = sum(comb(n, k) for k in range(1, self._body_order + 1))
        if frame.pbc.any():
            raise AttributionUnavailable(
                'fragments of a periodic system are not defined; use method="hessian"'
            )
        if n_fragments > MAX_FRAGMENTS:
            raise AttributionUnavailable(
                f"{n} atoms make {n_fragments:,} fragments, more than {MAX_FRAGMENTS:,}; lower "
                'the body order, or use method="hessian"'
            )
        output = self._energy(whole, frame, range(n))
        one = np.array([self._energy(whole, frame, [a]) for a in range(n)])
        i, j = np.triu_indices(n, k=1)
        couples = zip(i.tolist(), j.tolist(), strict=True)
        two = np.array([self._energy(whole, frame, pair) for pair in couples]) - one[i] - one[j]
        triples = np.array(list(combinations(range(n), 3)), dtype=np.int64).reshape(-1, 3)
        triples = triples if self._body_order == 3 else triples[:0]
        three = self._three_body(whole, frame, triples, one, two)
        orders = [one.sum(), two.sum(), three.sum()][: self._body_order]
        atoms = one.copy()
        for members, values in ((np.stack([i, j], 1), two / 2), (triples, three / 3)):
            np.add.at(atoms, members, values[:, None])
        atoms += (output - atoms.sum()) / n
        return _for_pairs(
            frame, self.method, i, j, two, one, output=output, atoms=atoms,
            by_body_order=np.array([*orders, output - sum(orders)]),
            triples=triples, three_body=three,
        )  # fmt: skip

    def _three_body(
        self, molecule: Atoms, frame: Frame, triples: Any, one: Floats, two: Floats
    ) -> Floats:
        n = len(molecule)
        square = np.zeros((n, n))
        square[np.triu_indices(n, k=1)] = two
        whole = np.array([self._energy(molecule, frame, trio) for trio in triples.tolist()])
        a, b, c = triples.T
        lower: Floats = one[triples].sum(1) + square[a, b] + square[a, c] + square[b, c]
        return whole - lower if len(triples) else np.empty(0)

    def _energy(self, molecule: Atoms, frame: Frame, members: Any) -> float:
        fragment = molecule[list(members)]
        inputs = inputs_of_atoms_in(frame, list(members))
        fragment.info.update(inputs.info)
        fragment.calc = self._calculator
        own = sum(self._atom_energies.get(symbol, 0.0) for symbol in fragment.symbols)
        try:
            energy = float(fragment.get_potential_energy())
        except Exception as error:  # calculators raise any exception of their backends
            names = "–".join(f"{s}{a}" for s, a in zip(fragment.symbols, members, strict=True))
            raise AttributionUnavailable(
                f"{type(self._calculator).__name__} fails on {names}, cut out of the molecule: "
                f'{type(error).__name__}: {error}; method="hessian" cuts nothing'
            ) from error
        return energy - self._offset * len(fragment) - own


def odd_fragments(numbers: Ints, body_order: int) -> tuple[int, int]:
    """Return how many fragments of an expansion have an odd number of electrons, and how many
    there are.

    Cutting a bond leaves radicals, neutral and in their lowest spin. Models that assume closed
    shells, or saw only whole molecules, give their energies poorly, and the terms inherit that.

    Args:
        numbers: (n_atoms,) atomic numbers of a molecule.
        body_order: highest order of the expansion.
    """
    odd = int(np.count_nonzero(numbers % 2))
    even = len(numbers) - odd
    open_shells = sum(
        comb(odd, k) * comb(even, order - k)
        for order in range(1, body_order + 1)
        for k in range(1, order + 1, 2)
    )
    return open_shells, sum(comb(len(numbers), order) for order in range(1, body_order + 1))


def partial_forces(
    atom_energies: Callable[[Tensor], Tensor], positions: Floats, atom: int | None = None
) -> Floats:
    """Return F_ij = −∂E_i/∂r_j, eV/Å, of a differentiable model with per-atom energies.

    Their sum over i is the force on j. A pairwise, central potential has F_ij = −F_ji ∥ r_ij.

    Args:
        atom_energies: positions (n_atoms, 3) as a tensor → energies (n_atoms,), eV.
        positions: (n_atoms, 3) Å.
        atom: only this i.

    Returns:
        (n_atoms, n_atoms, 3), or (n_atoms, 3) for one atom.
    """
    import torch

    x = torch.tensor(positions, dtype=torch.float64, requires_grad=True)
    energies = atom_energies(x)
    chosen = range(len(positions)) if atom is None else [atom]
    rows = [torch.autograd.grad(energies[i], x, retain_graph=True)[0] for i in chosen]
    forces: Floats = -torch.stack(rows).numpy()
    return forces if atom is None else forces[0]


def _free_atoms(frame: Frame | Atoms) -> Atoms:
    """Return ASE atoms without constraints, with all that a calculator may read.

    A constraint would suppress displacements and forces of the potential.
    """
    checked = as_frame(frame)
    if isinstance(frame, Atoms):
        atoms = frame.copy()
        atoms.set_constraint()
        return atoms
    return checked.to_atoms(results=False)


def _for_pairs(
    frame: Frame, method: str, i: Any, j: Any, strengths: Floats, one: Floats, **known: Any
) -> Attribution:
    vectors = frame.positions[j] - frame.positions[i]
    if frame.pbc.any():
        vectors = find_mic(vectors, frame.cell, frame.pbc)[0]
    undefined: dict[str, Any] = {
        "output": np.nan,
        "atoms": np.full(frame.n_atoms, np.nan),
        "by_body_order": np.full(1, np.nan),
    }
    return Attribution(
        method=method,
        gamma=np.nan,
        numbers=frame.numbers,
        one_body=one,
        pairs=Pairs(i, j, vectors, np.linalg.norm(vectors, axis=1)),
        strengths=strengths,
        **(undefined | known),
    )
