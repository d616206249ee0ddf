"""Faults of potentials, each of which breaks one principle, and the calculator that adds them.

A fault turns the energy and forces of a sound calculator into those of a faulty one. Its default
strength occurs in potentials that are in use; docs/testing.md says what each does to a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_numbers

from mdxai.calculators import Card
from mdxai.errors import MdxaiError
from mdxai.frame import AMU_ANG2_PER_FS2, Floats, Frame, Pairs

Fault = Callable[[Frame], tuple[float, Floats]]  # energy (eV) and forces (eV/Å) instead of its own


class FaultError(MdxaiError, ValueError):
    """A fault that cannot be injected as asked."""


class FaultyCalculator(Calculator):  # type: ignore[misc]
    """A sound ASE calculator with a fault in its energy and forces.

    Stress, energies per atom and all other results stay as they are, and so does the card except
    for its name. It can be copied and pickled whenever the sound one can.

    Args:
        sound: any ASE calculator.
        fault: called once per evaluation with a frame that holds the sound energy and forces; its
            `step` counts evaluations from 0.
    """

    def __init__(self, sound: Any, fault: Fault) -> None:
        super().__init__()
        self.sound = sound
        self.fault = fault
        self.n_evaluations = 0
        self.implemented_properties = list(sound.implemented_properties)

    @property
    def name(self) -> str:
        """The sound calculator's name and the fault's."""
        return f"{self.sound.name} with {self.fault}"

    @property
    def card(self) -> Card:
        """The sound calculator's card under this one's name; AttributeError where it has none."""
        card: Card = self.sound.card
        return replace(card, name=self.name)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate the sound calculator, then the fault; errors are those of either."""
        super().calculate(atoms, properties, system_changes)
        system = self.atoms if atoms is None else atoms
        # Forces first: calculators that skip what is not asked for give the energy with them.
        wanted = dict.fromkeys(["forces", "energy", *(properties or [])])
        sound = {name: self.sound.get_property(name, system) for name in wanted}
        frame = replace(
            Frame.from_atoms(system, step=self.n_evaluations),
            energy=float(sound["energy"]), forces=np.array(sound["forces"], dtype=np.float64),
        )  # fmt: skip
        energy, forces = self.fault(frame)
        self.n_evaluations += 1
        self.results = dict(self.sound.results)
        self.results |= {"energy": energy, "free_energy": energy, "forces": np.array(forces)}


@dataclass(frozen=True, slots=True)
class NanForces:
    """Forces are NaN from the evaluation `at` on, counted from 0. Breaks: forces are numbers."""

    at: int = 100

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        return frame.energy, frame.forces * (np.nan if frame.step >= self.at else 1.0)


@dataclass(frozen=True, slots=True)
class Spike:
    """One atom feels an extra force (eV/Å) in the evaluation `at`, counted from 0, and never again.

    Breaks: forces are a smooth function of the positions, as after a bit flip or a lost neighbour.
    """

    at: int = 200
    atom: int = 0
    force: tuple[float, float, float] = (40.0, 0.0, 0.0)

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        if not 0 <= self.atom < frame.n_atoms:
            raise FaultError(f"the system has atoms 0 to {frame.n_atoms - 1}, got {self.atom}")
        extra = np.zeros((frame.n_atoms, 3))
        extra[self.atom] = self.force if frame.step == self.at else 0.0
        return frame.energy, frame.forces + extra


@dataclass(frozen=True, slots=True)
class ScaledForces:
    """F = −factor ∂E/∂x, as after a mistaken unit. Breaks: forces are minus the energy's slope.

    A force field of its own, with the energy factor · E: structure and motion stay sensible.
    """

    factor: float = 2.0

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        return frame.energy, self.factor * frame.forces


@dataclass(frozen=True, slots=True)
class EnergyDrift:
    """The energy creeps by `rate` (eV) each evaluation. Breaks: energy is a function of positions.

    The forces, and so the trajectory, stay as they are.
    """

    rate: float = 1e-3

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        return frame.energy + self.rate * frame.step, frame.forces


@dataclass(frozen=True, slots=True)
class Heating:
    """F += rate · m v, friction with the wrong sign; rate in 1/fs, negative for true friction.

    Breaks: forces depend on positions alone. Kinetic energy grows by e^(2 · rate · t) on its own.
    Atoms at rest feel nothing.
    """

    rate: float = 1e-3

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        momenta = AMU_ANG2_PER_FS2 * frame.masses[:, None] * frame.velocities
        return frame.energy, frame.forces + self.rate * momenta


@dataclass(frozen=True, slots=True)
class Push:
    """A force (eV/Å) on the whole system, shared evenly. Breaks: action equals reaction."""

    force: tuple[float, float, float] = (0.05, 0.0, 0.0)

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        return frame.energy, frame.forces + np.array(self.force) / frame.n_atoms


@dataclass(frozen=True, slots=True)
class Swirl:
    """F_i += strength · axis × (x_i − x̄), eV/Å² times Å: a whirl about an axis fixed in space.

    Breaks: forces derive from an energy; turning a molecule about the axis gains energy each round.
    The net force is zero, the torque is not. For molecules, as x̄ has no meaning in a periodic cell.
    """

    strength: float = 0.02
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        _require_molecule(self, frame)
        arms = frame.positions - frame.positions.mean(axis=0)
        return frame.energy, frame.forces + self.strength * np.cross(self.axis, arms)


@dataclass(frozen=True, slots=True)
class Curl:
    """F_i −= strength · Σ_j φ(r_ij) (n_i + n_j) r̂_ij, with n_i = Σ_j φ(r_ij), φ = exp(−(r/2 Å)²).

    r̂_ij points from i to j. Breaks: forces derive from an energy, and nothing else: they act along
    pairs, so net force and torque are zero, and no orientation or order of atoms counts. The
    embedding energy Σ n_i² would have φ' in the place of the first φ; as it stands ∂f_p/∂r_q and
    ∂f_q/∂r_p differ for two pairs that share an atom, so there is no energy. strength: eV/Å.
    """

    strength: float = 0.05
    WIDTH = 2.0  # Å
    REACH = 10.0  # Å, where φ is 1e-11

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        pairs = frame.pairs(self.REACH)
        phi = np.exp(-((pairs.distances / self.WIDTH) ** 2))
        crowd = np.bincount(pairs.i, phi, frame.n_atoms) + np.bincount(pairs.j, phi, frame.n_atoms)
        slope = -self.strength * phi * (crowd[pairs.i] + crowd[pairs.j])
        return frame.energy, frame.forces + _central_forces(frame, pairs, slope)


@dataclass(frozen=True, slots=True)
class PreferredDirection:
    """E += ½ strength Σ (x_i · axis − mean)², strength in eV/Å², axis of unit length.

    Breaks: energy does not change when the system turns as a whole; angular momentum is lost.
    Energy and forces agree and the net force is zero. For molecules, not for periodic cells.
    """

    strength: float = 0.02
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        if not abs(np.linalg.norm(self.axis) - 1) < 1e-6:
            raise FaultError(f"axis must have unit length, got {self.axis!r}")

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        _require_molecule(self, frame)
        heights = frame.positions @ np.array(self.axis)
        heights = heights - heights.mean()
        energy = 0.5 * self.strength * float(heights @ heights)
        return frame.energy + energy, frame.forces - self.strength * np.outer(heights, self.axis)


def _require_molecule(fault: object, frame: Frame) -> None:
    if frame.pbc.any():
        raise FaultError(
            f"{type(fault).__name__} has no meaning in a periodic cell; inject it into a molecule"
        )


@dataclass(frozen=True, slots=True)
class Hole:
    """E −= depth · exp(−½ ((r − r₀)/width)²) for each pair of two elements.

    Breaks: atoms repel at short range. A well outside the training data, as networks invent them.
    Energy and forces agree, so the structure shows it first, and the energy once the steps are too
    long for the walls of the well. depth: eV; r₀ = `distance`, width: Å.
    """

    elements: tuple[str, str] = ("H", "H")
    depth: float = 6.0
    distance: float = 0.9
    width: float = 0.25

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        pairs = _pairs_of(frame, self.elements, self.distance + 8 * self.width)
        offset = (pairs.distances - self.distance) / self.width
        well = -self.depth * np.exp(-0.5 * offset**2)
        return _with_pair_term(frame, pairs, well, -well * offset / self.width)


@dataclass(frozen=True, slots=True)
class CutoffJump:
    """E += Σ strength · r_c/r over all pairs closer than r_c = `cutoff` (Å), without a shift.

    Breaks: energy is continuous. Where a pair crosses r_c the energy jumps by `strength` (eV), and
    no force shows it; anywhere else energy and forces agree.
    """

    strength: float = 0.05
    cutoff: float = 3.0

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        pairs = frame.pairs(self.cutoff)
        term = self.strength * self.cutoff / pairs.distances
        return _with_pair_term(frame, pairs, term, -term / pairs.distances)


@dataclass(frozen=True, slots=True)
class SlowDecay:
    """E −= strength · (1 Å/r)^power for each pair of two elements: an attraction that hardly fades.

    Breaks: interactions decay with distance; power 0.5 fades slower than a bare charge does. Energy
    and forces agree. strength: eV. reach: Å, to be set where the cell is periodic.
    """

    elements: tuple[str, str] = ("H", "O")
    strength: float = 0.5
    power: float = 0.5
    reach: float = np.inf

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        pairs = _pairs_of(frame, self.elements, self.reach)
        term = -self.strength * pairs.distances**-self.power
        return _with_pair_term(frame, pairs, term, -self.power * term / pairs.distances)


@dataclass(frozen=True, slots=True)
class OrderDependence:
    """E += strength · Σ η_ij exp(−(r_ij/2 Å)²), η_ij from −1 to 1 drawn for each place in the list.

    Breaks: equal atoms are interchangeable. Energy and forces agree, so a run looks sound; the same
    molecule with its atoms listed otherwise has another energy. strength: eV.
    """

    strength: float = 0.05
    seed: int = 0
    WIDTH = 2.0  # Å
    REACH = 10.0  # Å

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        pairs = frame.pairs(self.REACH)
        rng = np.random.default_rng(self.seed)
        eta = rng.uniform(-1, 1, (frame.n_atoms, frame.n_atoms))[pairs.i, pairs.j]
        term = self.strength * eta * np.exp(-((pairs.distances / self.WIDTH) ** 2))
        return _with_pair_term(frame, pairs, term, -2 * term * pairs.distances / self.WIDTH**2)


@dataclass(frozen=True, slots=True)
class HalfPrecision:
    """Energy and forces rounded to float16. Breaks: energy and forces are smooth in the positions.

    offset: eV per atom, taken off before rounding and added after, as codes do that keep what is
    constant in float64; without it an energy of 4000 eV is rounded to multiples of 2 eV.
    """

    offset: float = 0.0

    def __call__(self, frame: Frame) -> tuple[float, Floats]:
        constant = self.offset * frame.n_atoms
        with np.errstate(over="ignore"):  # beyond 65504 float16 is infinite, and so is the fault
            energy = float(np.float16(frame.energy - constant)) + constant
            return energy, frame.forces.astype(np.float16).astype(np.float64)


def _pairs_of(frame: Frame, elements: tuple[str, str], reach: float) -> Pairs:
    """Return the pairs of two elements closer than `reach` (Å)."""
    if not set(elements) <= set(atomic_numbers):
        raise FaultError(f"elements must be two chemical symbols, got {elements!r}")
    a, b = (atomic_numbers[symbol] for symbol in elements)
    counts = [np.count_nonzero(frame.numbers == z) for z in (a, b)]
    if min(counts) < (2 if a == b else 1):
        raise FaultError(
            f"the system has no pair {elements[0]}–{elements[1]}, so the fault would do nothing; "
            f"choose two of {', '.join(sorted(set(frame.symbols)))}"
        )
    pairs = frame.pairs(reach)
    first, second = frame.numbers[pairs.i], frame.numbers[pairs.j]
    return pairs.select(((first == a) & (second == b)) | ((first == b) & (second == a)))


def _with_pair_term(
    frame: Frame, pairs: Pairs, term: Floats, slope: Floats
) -> tuple[float, Floats]:
    """Add Σ u(r) and its forces: `term` is u (n_pairs,), eV, and `slope` is du/dr, eV/Å."""
    return frame.energy + float(term.sum()), frame.forces + _central_forces(frame, pairs, slope)


def _central_forces(frame: Frame, pairs: Pairs, slope: Floats) -> Floats:
    pull = (slope / pairs.distances)[:, None] * pairs.vectors
    forces = np.zeros((frame.n_atoms, 3))
    np.add.at(forces, pairs.i, pull)
    np.subtract.at(forces, pairs.j, pull)
    return forces
