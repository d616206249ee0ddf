"""Calculators that hold what MD needs in every way that people have written them, and then some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator, Calculator, all_changes
from ase.constraints import FixAtoms, Hookean
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet
from hypothesis import strategies as st

CELL = 6.0  # Å


class Refused(Exception):
    """A failure of a foreign backend."""


KINDS = ("plain", "cached base", "always required", "never required", "proxy", "old", "asks",
         "scaled getter", "growing getter", "raising protocol")  # fmt: skip
FILLS = ("both", "asked", "replaced", "forces", "no energy")
ENERGIES = {
    "float": lambda e: e,
    "0-d": np.array,
    "(1,)": lambda e: np.array([e]),
    "(1, 1)": lambda e: np.array([[e]]),
    "float32": np.float32,
    "tensor": lambda e: torch.tensor(e, dtype=torch.float64),
    "tensor (1,) with gradient": lambda e: torch.tensor([e], dtype=torch.float64,
                                                        requires_grad=True),
    "list": lambda e: [e],
    "masked": lambda e: np.ma.array([e], mask=[False]),
    "(2,)": lambda e: np.array([e, e]),
    "text": str,
}  # fmt: skip
FORCES = {
    "float64": lambda f: f,
    "float32": lambda f: f.astype(np.float32),
    "fortran": np.asfortranarray,
    "view": lambda f: np.repeat(f, 2, axis=0)[::2],
    "masked": lambda f: np.ma.array(f, mask=np.zeros(f.shape, dtype=bool)),
    "tensor": torch.tensor,
    "list": lambda f: f.tolist(),
    "(1, 3)": lambda f: f[:1],
    "flat": lambda f: f.ravel(),
}
UNFIT = {"(2,)", "text", "(1, 3)", "flat"}  # what mdxai refuses by name


@dataclass(frozen=True)
class Hostility:
    """How a calculator behaves, and what else is in the run."""

    kind: str
    fills: str
    energy: str
    forces: str
    raises_at: int | None  # evaluation
    nan_at: int | None
    noisy: bool  # a state of its own: noise that depends on the number of evaluations
    one_buffer: bool  # forces lie in the same memory at every step
    not_copied: bool
    periodic: bool
    restraint: str
    bath: bool
    asks_energy: int  # an observer before the monitor asks every so many steps; 0 never
    wraps: str  # "", "before" or "after" the monitor
    interval: int
    in_thread: bool
    seed: int

    @property
    def unfit(self) -> bool:
        """Whether what the calculator holds is no energy or no forces."""
        return bool({self.energy, self.forces} & UNFIT)


def hostilities() -> st.SearchStrategy[Hostility]:
    """Draw calculators and runs."""
    late = st.none() | st.integers(0, 12)
    return st.builds(
        Hostility, kind=st.sampled_from(KINDS), fills=st.sampled_from(FILLS),
        energy=st.sampled_from(list(ENERGIES)), forces=st.sampled_from(list(FORCES)),
        raises_at=late, nan_at=late, noisy=st.booleans(), one_buffer=st.booleans(),
        not_copied=st.booleans(), periodic=st.booleans(),
        restraint=st.sampled_from(["", "fixed", "pair", "point"]), bath=st.booleans(),
        asks_energy=st.sampled_from([0, 0, 1, 3]),
        wraps=st.sampled_from(["", "", "before", "after"]),
        interval=st.sampled_from([1, 1, 3]), in_thread=st.booleans(), seed=st.integers(0, 99),
    )  # fmt: skip


class Springs:
    """The physics: every pair of atoms on a spring, with what is noted of each evaluation.

    Attributes:
        log: positions, energy and forces of each evaluation, as MD is given them.
    """

    def __init__(self, how: Hostility, log: list[Any]) -> None:
        self.how, self.log, self.n = how, log, 0
        self.buffer: Any = None

    def evaluate(self, atoms: Atoms) -> tuple[Any, Any]:
        """Return energy and forces in the containers asked for."""
        how, number = self.how, self.n
        self.n += 1
        if number == how.raises_at:
            raise Refused("out of memory on device 7")
        vectors = atoms.positions[None] - atoms.positions[:, None]
        if how.periodic:
            vectors -= CELL * np.round(vectors / CELL)
        lengths = np.linalg.norm(vectors, axis=-1) + np.eye(len(atoms))
        off = (lengths - 2.0) * (1 - np.eye(len(atoms)))
        energy = 0.25 * float((off**2).sum()) + 0.01 * number * how.noisy
        forces = ((off / lengths)[:, :, None] * vectors).sum(axis=1)
        if number == how.nan_at:
            energy, forces = np.nan, np.full_like(forces, np.nan)
        held = ENERGIES[how.energy](energy), FORCES[how.forces](self._kept(forces))
        self.log.append((atoms.positions.copy(), energy, forces.copy()))
        return held

    def _kept(self, forces: Any) -> Any:
        if not self.how.one_buffer:
            return forces
        if self.buffer is None:
            self.buffer = forces.copy()
        self.buffer[:] = forces
        return self.buffer

    def __deepcopy__(self, memo: Any) -> Any:
        if self.how.not_copied:
            raise TypeError("cannot pickle a handle of a device")
        twin = Springs(self.how, [])
        twin.n = self.n
        return twin


class Plain(Calculator):
    implemented_properties = ("energy", "forces")

    def __init__(self, how: Hostility, log: list[Any]) -> None:
        super().__init__()
        self.how, self.springs = how, Springs(how, log)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        fill(self, atoms, properties)


def fill(calculator: Any, atoms: Atoms, properties: Any) -> None:
    """Put into results what this calculator puts there."""
    energy, forces = calculator.springs.evaluate(atoms)
    found = {"energy": energy, "forces": forces}
    fills = calculator.how.fills
    if fills == "asked":
        calculator.results |= {name: found[name] for name in properties}
    elif fills == "replaced":
        calculator.results = {name: found[name] for name in properties}
    elif fills == "forces" and "energy" not in properties:
        calculator.results = {"forces": forces}
    else:
        absent = {"energy": None} if fills == "no energy" and "energy" not in properties else {}
        calculator.results = found | absent


class CachedBase(BaseCalculator):
    """Derives from ASE's smallest class, which keeps its atoms itself."""

    implemented_properties = ("energy", "forces")

    def __init__(self, how: Hostility, log: list[Any]) -> None:
        super().__init__()
        self.how, self.springs = how, Springs(how, log)

    def calculate(self, atoms, properties, system_changes):
        fill(self, atoms, properties)


class AlwaysRequired(Plain):
    def calculation_required(self, atoms, properties):
        return True

    def check_state(self, atoms, tol=1e-15):
        return list(all_changes)


class NeverRequired(Plain):
    def calculation_required(self, atoms, properties):
        return super().calculation_required(atoms, ["forces"])


class RaisingProtocol(Plain):
    def calculation_required(self, atoms):  # of another signature
        return False


class ScaledGetter(Plain):
    def get_forces(self, atoms=None):
        return 0.5 * super().get_forces(atoms)


class GrowingGetter(Plain):
    hills = 0.0

    def get_forces(self, atoms=None):
        self.hills += 0.01
        return super().get_forces(atoms) + self.hills


class Proxy:
    """Hands everything on to another calculator."""

    def __init__(self, how: Hostility, log: list[Any]) -> None:
        self.inner = Plain(how, log)

    def __getattr__(self, name):
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


class Old:
    """Getters and nothing else."""

    def __init__(self, how: Hostility, log: list[Any]) -> None:
        self.springs = Springs(how, log)

    def get_potential_energy(self, atoms=None, force_consistent=False):
        return self.springs.evaluate(atoms)[0]

    def get_forces(self, atoms=None):
        return self.springs.evaluate(atoms)[1]

    def get_stress(self, atoms=None):
        raise NotImplementedError


class Asks(Old):
    def calculation_required(self, atoms, quantities):
        return True


CLASSES = {
    "plain": Plain, "cached base": CachedBase, "always required": AlwaysRequired,
    "never required": NeverRequired, "proxy": Proxy, "old": Old, "asks": Asks,
    "scaled getter": ScaledGetter, "growing getter": GrowingGetter,
    "raising protocol": RaisingProtocol,
}  # fmt: skip


def system(how: Hostility, log: list[Any]) -> MolecularDynamics:
    """Return dynamics of four atoms with such a calculator."""
    rng = np.random.default_rng(how.seed)
    corners = 2.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    atoms = Atoms("CO2H", corners + rng.normal(scale=0.1, size=(4, 3)))
    if how.periodic:
        atoms.set_cell(CELL * np.eye(3))
        atoms.pbc = True
    atoms.set_momenta(rng.normal(scale=1.0, size=(4, 3)))
    held = {"fixed": FixAtoms([0]), "pair": Hookean(0, 1, k=3.0, rt=1.5),
            "point": Hookean(0, (1.0, 0.0, 0.0), k=3.0, rt=0.1)}  # fmt: skip
    if how.restraint:
        atoms.set_constraint(held[how.restraint])
    atoms.calc = CLASSES[how.kind](how, log)
    if not how.bath:
        return VelocityVerlet(atoms, 0.5 * units.fs)
    return Langevin(
        atoms, 0.5 * units.fs, temperature_K=300, friction=0.01 / units.fs, fixcm=False, rng=rng
    )
