"""One instant of a simulation, complete, and its pairs of atoms.

Inside the package everything is in Å, eV, eV/Å, amu, fs and K. ASE's unit of time, Å·√(amu/eV),
never leaves this file: `Frame.from_atoms` and `Frame.to_atoms` are the only conversions between
frames and ASE atoms.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mdxai.held_results import FrameError as FrameError  # noqa: PLC0414 (raised here too)
from mdxai.held_results import held_results
from mdxai.neighbour_search import cell_list
from mdxai.outside import Outside, with_restraints

if TYPE_CHECKING:
    from ase import Atoms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BOLTZMANN = 8.617330337217213e-05  # eV/K, CODATA 2014, as in ase.units
AMU_ANG2_PER_FS2 = 103.6426957  # eV in one amu·Å²/fs², CODATA 2014; checked against ase.units
ASE_TIME_PER_FS = 0.09822694788464063  # of ASE's unit of time in a fs; the same as ase.units.fs
DENSE_LIMIT = 64  # atoms up to which all pairs are formed at once


@dataclass(frozen=True, slots=True)
class Pairs:
    """Unordered pairs of atoms, each once, at their shortest image.

    i, j: (n_pairs,), i < j. vectors: (n_pairs, 3) from i to j, Å. distances: (n_pairs,), Å.
    """

    i: Ints
    j: Ints
    vectors: Floats
    distances: Floats

    def __len__(self) -> int:
        return len(self.i)

    def select(self, keep: NDArray[Any]) -> Pairs:
        """Return the pairs that a mask or an index array picks."""
        return Pairs(self.i[keep], self.j[keep], self.vectors[keep], self.distances[keep])


@dataclass(frozen=True, slots=True)
class Thermostat:
    """A thermostat at one instant.

    Attributes:
        temperature: what it aims at, K.
        energy: energy that it holds, less that at the start of the run, eV: E_pot + E_kin + this is
            conserved. None where it does not count the heat that it gives.
    """

    temperature: float
    energy: float | None = None


@dataclass(frozen=True, slots=True)
class CalculatorInputs:
    """What a calculator may read from atoms besides geometry and motion.

    Attributes:
        info: entries of `atoms.info` that are plain data, such as the total charge or spin.
        charges: (n_atoms,) initial charges, e; None where not set.
        magnetic_moments: (n_atoms,) or (n_atoms, 3) initial magnetic moments, μ_B; None where not
            set.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    charges: Floats | None = None
    magnetic_moments: Floats | None = None


NO_INPUTS = CalculatorInputs()
QUANTITIES = ("velocities", "forces", "energy")  # that an instant may lack


@dataclass(frozen=True, slots=True)
class Frame:
    """One instant, complete and read-only.

    Energy and forces are those that moved the atoms: of the calculator and, where ASE adds them, of
    restraints, which `outside` holds. Positions are unwrapped. What is `absent` is filled with NaN;
    a NaN of a quantity that is not absent is what the dynamics saw.
    """

    step: int
    time: float  # fs
    numbers: Ints  # (n_atoms,)
    masses: Floats  # (n_atoms,) amu
    positions: Floats  # (n_atoms, 3) Å
    velocities: Floats  # (n_atoms, 3) Å/fs
    forces: Floats  # (n_atoms, 3) eV/Å
    energy: float  # potential energy, eV
    cell: Floats  # (3, 3) rows, Å
    pbc: Bools  # (3,)
    n_constrained: int = 0  # degrees of freedom that constraints remove
    thermostat: Thermostat | None = None  # None without one, or where nothing tells
    inputs: CalculatorInputs = NO_INPUTS
    absent: frozenset[str] = frozenset()  # of "velocities", "forces" and "energy"
    outside: Outside | None = None  # None where only the calculator acts on the atoms

    def __post_init__(self) -> None:
        for array in _ARRAYS(self):
            array.setflags(write=False)

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms,
        *,
        step: int = 0,
        time: float = 0.0,
        thermostat: Thermostat | None = None,
    ) -> Frame:
        """Copy one instant out of ASE atoms.

        Energy and forces are those that the calculator holds for exactly these positions, with
        restraints as ASE's dynamics add them (`atoms.get_forces(md=True)`); where it holds none
        they are absent. No evaluation is ever started. Atoms without momenta are at rest, as in
        ASE.

        Args:
            atoms: structure, with or without a calculator.
            step: MD step of this instant.
            time: fs.
            thermostat: at this instant.

        Raises:
            FrameError: when the calculator holds an energy or forces of another shape or kind.
        """
        energy, forces = held_results(atoms)
        arrays = atoms.arrays  # read as they are: ASE's methods copy them again
        numbers, positions = arrays["numbers"], arrays["positions"]
        masses = atoms.get_masses() if "masses" not in arrays else arrays["masses"].copy()
        momenta = arrays.get("momenta")
        if momenta is None:
            velocities = np.zeros(positions.shape)
        else:
            velocities = momenta / masses[:, None] * ASE_TIME_PER_FS
        held = atoms.constraints
        removed, outside = 0, None
        if held:
            removed = sum(_removed(constraint, atoms) for constraint in held)
            energy, forces, outside = with_restraints(atoms, energy, forces)
        return cls(
            step, time, numbers.astype(np.int64), masses, positions.copy(), velocities,
            np.full(positions.shape, np.nan) if forces is None else forces,
            np.nan if energy is None else energy,
            atoms.cell.array.copy(), atoms.pbc.copy(), removed, thermostat,
            inputs_of_atoms(atoms), _ABSENT[forces is None, energy is None], outside,
        )  # fmt: skip

    def to_atoms(self, *, results: bool = True) -> Atoms:
        """Return the instant as ASE atoms, with all that a calculator may read.

        Args:
            results: also give them a calculator that holds energy and forces, where they are
                there, and `info` entries "step" and "time_fs".
        """
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator

        inputs = self.inputs
        atoms = Atoms(
            self.numbers, self.positions, cell=self.cell, pbc=self.pbc, masses=self.masses,
            charges=inputs.charges, magmoms=inputs.magnetic_moments, info=dict(inputs.info),
        )  # fmt: skip
        if self.has_velocities:
            atoms.set_velocities(self.velocities / ASE_TIME_PER_FS)
        if results:
            atoms.info |= {"step": self.step, "time_fs": self.time}
            held: dict[str, Any] = {"energy": self.energy, "forces": self.forces}
            present = {name: held[name] for name in held if name not in self.absent}
            atoms.calc = SinglePointCalculator(atoms, **present)
        return atoms

    def without(self, *quantities: str) -> Frame:
        """Return this instant without its "velocities", "forces" or "energy".

        Raises:
            FrameError: for other quantities.
        """
        if not quantities:
            return self
        if not set(quantities) <= set(QUANTITIES):
            raise FrameError(
                f"a frame can lack {', '.join(QUANTITIES)}, got {', '.join(quantities)}"
            )
        nothing = np.full(self.positions.shape, np.nan)
        empty: dict[str, Any] = {"velocities": nothing, "forces": nothing, "energy": np.nan}
        changes = {name: empty[name] for name in quantities}
        return replace(self, absent=self.absent | set(quantities), **changes)

    def with_results(self, energy: float, forces: Floats) -> Frame:
        """Return this instant with another energy (eV) and forces (n_atoms, 3) (eV/Å) of a
        calculator; what acts from outside is added.
        """
        absent = self.absent - {"energy", "forces"}
        if self.outside is not None:
            energy, forces = energy + self.outside.energy, forces + self.outside.forces
        return replace(self, energy=energy, forces=forces, absent=absent)

    @property
    def model_energy(self) -> float:
        """The calculator's part of the energy, eV."""
        return self.energy if self.outside is None else self.energy - self.outside.energy

    @property
    def model_forces(self) -> Floats:
        """(n_atoms, 3) the calculator's part of the forces, eV/Å."""
        return self.forces if self.outside is None else self.forces - self.outside.forces

    def has(self, *quantities: str) -> bool:
        """Whether all of these are known, of "velocities", "forces" and "energy"."""
        return self.absent.isdisjoint(quantities)

    @property
    def has_energy(self) -> bool:
        """Whether the dynamics saw a potential energy."""
        return "energy" not in self.absent

    @property
    def has_forces(self) -> bool:
        """Whether the dynamics saw forces."""
        return "forces" not in self.absent

    @property
    def has_velocities(self) -> bool:
        """Whether velocities are known."""
        return "velocities" not in self.absent

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbols, one per atom."""
        from ase.data import chemical_symbols

        return [chemical_symbols[z] for z in self.numbers]

    @property
    def kinetic_energy(self) -> float:
        """Σ ½ m v², eV."""
        return float(0.5 * AMU_ANG2_PER_FS2 * np.sum(self.masses[:, None] * self.velocities**2))

    @property
    def temperature(self) -> float:
        """2 E_kin / (f k_B), K, with f the degrees of freedom; 0 where there are none."""
        return temperature_of(self.kinetic_energy, self.degrees_of_freedom)

    @property
    def degrees_of_freedom(self) -> int:
        """3N less what constraints remove, as ASE counts them."""
        return 3 * self.n_atoms - self.n_constrained

    def pairs(self, cutoff: float) -> Pairs:
        """Return all pairs closer than `cutoff` (Å), sorted by i, then j."""
        return find_pairs(self.positions, self.cell, self.pbc, cutoff)


def _removed(constraint: Any, atoms: Atoms) -> int:
    """Return the degrees of freedom that a constraint of ASE's takes; 0 for one that cannot say."""
    try:
        return int(constraint.get_removed_dof(atoms))
    except NotImplementedError:  # such as MirrorForce, which turns forces and holds nothing
        return 0


def temperature_of(kinetic_energy: float, degrees_of_freedom: int) -> float:
    """Return 2 E_kin / (f k_B), K; 0 where f is 0.

    Args:
        kinetic_energy: eV.
        degrees_of_freedom: f.
    """
    if degrees_of_freedom <= 0:
        return 0.0
    return 2.0 * kinetic_energy / (degrees_of_freedom * BOLTZMANN)


_SCALARS = {
    "step", "time", "energy", "n_constrained", "thermostat", "inputs", "absent", "outside",
}  # fmt: skip
_ARRAYS = attrgetter(*(f.name for f in fields(Frame) if f.name not in _SCALARS))
_ABSENT = {  # made once: a frame is made at every step
    (False, False): frozenset[str](),
    (True, False): frozenset({"forces"}),
    (False, True): frozenset({"energy"}),
    (True, True): frozenset({"forces", "energy"}),
}
_PLAIN = (bool, int, float, str, np.generic)


def inputs_of_atoms(atoms: Atoms) -> CalculatorInputs:
    """Return what a calculator may read from ASE atoms besides geometry and motion."""
    info, arrays = atoms.info, atoms.arrays
    charges, moments = arrays.get("initial_charges"), arrays.get("initial_magmoms")
    if not info and charges is None and moments is None:
        return NO_INPUTS
    return CalculatorInputs(
        {name: _copied(value) for name, value in info.items() if _is_plain(value)},
        None if charges is None else charges.copy(),
        None if moments is None else moments.copy(),
    )


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, _PLAIN):
        return True
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    return isinstance(value, list | tuple) and all(map(_is_plain, value))


def _copied(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value)) if type(value) in (list, tuple) else list(value)
    if isinstance(value, np.generic):
        return value.item()
    return value.copy() if isinstance(value, np.ndarray) else value


def find_pairs(positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, cutoff: float) -> Pairs:
    """Return all unordered pairs closer than `cutoff`, each at its shortest image.

    Args:
        positions: (n_atoms, 3) Å.
        cell: (3, 3) rows, Å.
        pbc: (3,) whether periodic along each row of the cell.
        cutoff: Å; may be infinite where nothing is periodic.

    Raises:
        FrameError: for an infinite cutoff in a periodic cell.
    """
    points = np.asarray(positions, dtype=np.float64)
    periodic = np.asarray(pbc, dtype=bool)
    if periodic.any() and not np.isfinite(cutoff):
        raise FrameError("pairs in a periodic cell need a finite cutoff, got an infinite one")
    if not periodic.any() and (len(points) <= DENSE_LIMIT or not np.isfinite(cutoff)):
        return _all_pairs(points, cutoff)
    return _shortest_images(points, np.asarray(cell, dtype=np.float64), periodic, cutoff)


def _all_pairs(points: Floats, cutoff: float) -> Pairs:
    i, j = upper_triangle(len(points))
    vectors = points[j] - points[i]
    distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    pairs = Pairs(i, j, vectors, distances)
    return pairs if np.isinf(cutoff) else pairs.select(distances < cutoff)


_triangles: dict[int, tuple[Ints, Ints]] = {}  # of small systems, and of one large one


def upper_triangle(n: int) -> tuple[Ints, Ints]:
    """Return all pairs i < j of n atoms, sorted; the same arrays as long as n stays."""
    found = _triangles.get(n)
    if found is None:
        i, j = np.triu_indices(n, k=1)
        found = i.astype(np.int64), j.astype(np.int64)
        if n > DENSE_LIMIT:
            for large in [size for size in tuple(_triangles) if size > DENSE_LIMIT]:
                _triangles.pop(large, None)  # memory stays bounded
        found = _triangles.setdefault(n, found)  # another thread may have been faster
    return found


def _shortest_images(points: Floats, cell: Floats, pbc: Bools, cutoff: float) -> Pairs:
    if not np.isfinite(points).all():
        empty = np.empty(0, dtype=np.int64)
        return Pairs(empty, empty, np.empty((0, 3)), np.empty(0))
    search = cell_list()(cutoff=cutoff, full_list=False)
    i, j, vectors = search.compute(points, cell, pbc, "ijD")
    return merge_images(i.astype(np.int64), j.astype(np.int64), vectors)[0]


def merge_images(i: Ints, j: Ints, vectors: Floats) -> tuple[Pairs, Bools]:
    """Return each pair of atoms once, at its shortest image, and whether it has several.

    Args:
        i: (n,) first atoms of half edges.
        j: (n,) second atoms; an atom and its own image are no pair.
        vectors: (n, 3) from i to j, Å.
    """
    flip = i > j
    i, j = np.where(flip, j, i), np.where(flip, i, j)
    vectors = np.where(flip[:, None], -vectors, vectors)
    distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    order = np.lexsort((distances, j, i))
    order = order[i[order] != j[order]]
    starts = np.flatnonzero(np.diff(i[order], prepend=-1) | np.diff(j[order], prepend=-1))
    keep = order[starts]
    several = np.diff(starts, append=len(order)) > 1
    return Pairs(i[keep], j[keep], vectors[keep], distances[keep]), several


def named_atoms(symbols: Sequence[str], atoms: Iterable[int]) -> str:
    """Return atoms with their element symbols, such as "H6–C1–H8"."""
    return "–".join(f"{symbols[a]}{a}" for a in atoms)


def formula_in_order(numbers: Iterable[int]) -> str:
    """Return a formula that keeps the order of the atoms, such as "C2OH6"."""
    from ase.data import chemical_symbols
    from ase.formula import Formula

    found: str = Formula.from_list([chemical_symbols[z] for z in numbers]).format("reduce")
    return found


def iter_element_pairs(numbers: Ints) -> Iterator[tuple[int, int]]:
    """Yield each pair of elements that occurs (z_low, z_high), in ascending order."""
    kinds, counts = np.unique(numbers, return_counts=True)
    for a, z in enumerate(kinds):
        for b in range(a, len(kinds)):
            if a != b or counts[a] > 1:
                yield int(z), int(kinds[b])
