"""What an ASE calculator holds for given atoms: asked through ASE's protocol, never computed.

A calculator says by `calculation_required(atoms, [quantity])` whether its result is that of these
atoms; what it then returns is in `results`, unless its class has getters of its own. Calculators
that never say so are believed where the atoms that they keep are these atoms. Atoms that were only
wrapped into their cell count as the same: neither energy nor forces change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import lru_cache
from inspect import isfunction
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from ase import Atoms
from ase.calculators.calculator import compare_atoms
from ase.geometry import complete_cell
from numpy.typing import NDArray

from mdxai.errors import MdxaiError

Floats = NDArray[np.float64]
GETTERS = ("get_forces", "get_potential_energy", "get_property")
RESTRAIN = ("adjust_forces", "adjust_potential_energy")  # what a constraint is asked
SAME_PLACE = 1e-8  # Å: rounding of positions that were moved by lattice vectors
DEEPEST = 6  # levels of attributes in which a calculator's state is looked for


class FrameError(MdxaiError, ValueError):
    """Quantities of a frame that do not fit together."""


def held_results(atoms: Atoms) -> tuple[float | None, Floats | None]:
    """Return the energy (eV) and the forces (n_atoms, 3) (eV/Å) that atoms' calculator holds.

    Each is None where it holds none for exactly these atoms. Constraints are not applied.

    Raises:
        FrameError: for an energy or forces of another shape or kind.
    """
    calculator = atoms.calc
    if calculator is None:
        return None, None
    found = _found(calculator, atoms)
    energy, forces = found.get("energy"), found.get("forces")
    return (
        None if energy is None else _as_energy(calculator, energy),
        None if forces is None else _as_forces(calculator, forces, len(atoms)),
    )


def staleness(atoms: Atoms) -> str | None:
    """Return why atoms' calculator holds results of other atoms; None where it does not, or where
    nobody can tell.
    """
    calculator = atoms.calc
    if calculator is None:
        return "the atoms have no calculator"
    if _found(calculator, atoms):
        return None
    last = getattr(calculator, "atoms", None)
    if isinstance(last, Atoms) and last is not atoms:
        changes = _changes(last, atoms)
        return f"since the last evaluation {changes} changed" if changes else None
    own = getattr(calculator, "__dict__", {})
    never = "results" in own and not own["results"] and own.get("atoms") is None
    return "the calculator was not evaluated yet" if never else None


def _found(calculator: Any, atoms: Atoms) -> Mapping[str, Any]:
    """Return what the calculator holds of energy and forces for these atoms."""
    kind: Any = type(calculator)
    if not (_reads_results(kind) and _own_getters(calculator)):
        return _asked(calculator, atoms)
    results = calculator.results
    if not isinstance(results, Mapping):
        return {}
    name = "forces" if "forces" in results else "energy"
    if name not in results:
        return {}
    current = not _required(calculator, atoms, name) or _is_same(calculator.atoms, atoms)
    return results if current else {}


@lru_cache(maxsize=64)
def _reads_results(kind: type) -> bool:
    """Whether the getters of a class are ASE's, which return what is in `results`."""
    modules = [getattr(getattr(kind, name, None), "__module__", "") or "" for name in GETTERS]
    return all(module.startswith("ase.") for module in modules)


def _own_getters(calculator: Any) -> bool:
    """Whether the getters are those of the class, and `results` and `atoms` plain attributes."""
    own = calculator.__dict__
    return "results" in own and "atoms" in own and not any(name in own for name in GETTERS)


def _required(calculator: Any, atoms: Atoms, name: str) -> bool:
    """Whether a calculation is required, as far as the calculator says."""
    try:
        return bool(calculator.calculation_required(atoms, [name]))
    except Exception:  # missing, or with other arguments: foreign code raises any exception
        return True


def _asked(calculator: Any, atoms: Atoms) -> Mapping[str, Any]:
    """Return what the getters of another class return without a calculation."""
    names = {"forces": "get_forces", "energy": "get_potential_energy"}
    ready = {k: getter for k, getter in names.items() if not _required(calculator, atoms, k)}

    def ask(twin: Any, same: Atoms) -> None:
        for getter in ready.values():
            getattr(twin, getter)(same)

    if not ready or changes_when_asked(calculator, atoms, ask, " ".join(ready)):
        return {}
    found = {}
    for name, getter in ready.items():
        try:
            found[name] = getattr(calculator, getter)(atoms)
        except Exception:  # foreign code raises any exception; then it holds nothing
            continue
    return found


_changing: WeakKeyDictionary[Any, dict[str, bool]] = WeakKeyDictionary()


def changes_when_asked(
    asked: Any, atoms: Atoms, ask: Callable[[Any, Atoms], None], what: str
) -> bool:
    """Return whether an object changes when it is asked, such as a bias that grows on each call.

    Tried once, on a copy. Of what cannot be copied, only compiled classes are believed to change
    nothing.

    Args:
        asked: a calculator or a constraint.
        atoms: what it is asked about.
        ask: given copies of both.
        what: is asked; tried once for each.
    """
    try:
        tried = _changing.setdefault(asked, {})
        if what not in tried:
            tried[what] = _copy_changes(asked, atoms, ask)
        return tried[what]
    except TypeError:  # without a hash or weak references
        return _copy_changes(asked, atoms, ask)


def _copy_changes(asked: Any, atoms: Atoms, ask: Callable[[Any, Atoms], None]) -> bool:
    try:
        twin, same = copy.deepcopy(asked), atoms.copy()
        before = _state(twin)
        ask(twin, same)
        return bool(_state(twin) != before)
    except Exception:  # foreign code raises any exception
        return any(isfunction(getattr(type(asked), name, None)) for name in GETTERS + RESTRAIN)


def _state(value: Any, depth: int = DEEPEST) -> Any:
    """Return what equals another state where nothing has changed."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.shape, value.tobytes()
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return value
    parts = _parts(value) if depth else None
    return id(value) if parts is None else [_state(part, depth - 1) for part in parts]


def _parts(value: Any) -> list[Any] | None:
    """Return what makes up a value; None where that is not known."""
    if isinstance(value, np.random.Generator):
        return [value.bit_generator.state]
    if isinstance(value, Mapping):
        return [*map(str, value), *value.values()]
    if isinstance(value, list | tuple):
        return list(value)
    own = getattr(value, "__dict__", None)
    known = isinstance(own, dict) and own and not isinstance(value, type) and not callable(value)
    return [*own, *own.values()] if known and own else None


def _is_same(last: Any, atoms: Atoms) -> bool:
    """Whether atoms that a calculator keeps are these, up to lattice vectors."""
    return isinstance(last, Atoms) and last is not atoms and not _changes(last, atoms)


def _changes(last: Atoms, atoms: Atoms) -> str:
    """Return what differs, in words; empty where nothing does but for lattice vectors."""
    if len(last) != len(atoms):
        return "the number of atoms"
    others = [name for name in compare_atoms(last, atoms, tol=0.0) if name != "positions"]
    if _comparable(last.info, atoms.info) and last.info != atoms.info:
        others.append("info")
    if others:
        return ", ".join(sorted(others))
    off = np.linalg.norm(off_lattice(atoms.positions - last.positions, atoms), axis=1)
    far = ~(off <= SAME_PLACE)
    if not far.any():
        return ""
    return f"the positions of {np.count_nonzero(far)} atoms (by up to {off.max():.3g} Å)"


def _comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether `==` of two mappings is a single truth value, as it is not for arrays."""
    return not any(
        isinstance(value, np.ndarray) for info in (one, other) for value in info.values()
    )


def off_lattice(moved: Floats, atoms: Atoms) -> Floats:
    """Return displacements (n_atoms, 3) less the nearest lattice vectors of atoms' cell, Å."""
    if not moved.any() or not atoms.pbc.any():
        return moved
    cell = complete_cell(atoms.cell.array)
    images = np.round(moved @ np.linalg.inv(cell)) * atoms.pbc
    rest: Floats = moved - images @ cell
    return rest


def _numbers(calculator: Any, key: str, value: Any) -> Floats:
    """Return a result as a new array of float64; masked values become NaN."""
    if type(value) is np.ndarray and value.dtype == np.float64:  # the usual case
        return value.copy()
    try:
        if hasattr(value, "detach"):  # a tensor of torch, of any precision, on any device
            value = value.detach().double().cpu().numpy()
        if np.iscomplexobj(value):
            raise TypeError("complex numbers")
        return np.array(np.ma.filled(np.ma.asarray(value).astype(np.float64), np.nan))
    except (TypeError, ValueError, RuntimeError) as error:
        raise FrameError(
            f"the calculator {type(calculator).__name__} holds {key} that are not numbers "
            f"({error}); expected real numbers in {key!r} of its results"
        ) from error


def _as_energy(calculator: Any, value: Any) -> float:
    if type(value) is float:  # the usual case
        return value
    given = _numbers(calculator, "energy", value)
    if given.size != 1:
        raise FrameError(
            f"the calculator {type(calculator).__name__} holds an energy of shape {given.shape}; "
            "expected one number in 'energy' of its results"
        )
    return float(given.reshape(()))


def _as_forces(calculator: Any, value: Any, n_atoms: int) -> Floats:
    given = _numbers(calculator, "forces", value)
    if given.shape != (n_atoms, 3):
        raise FrameError(
            f"the calculator {type(calculator).__name__} holds forces of shape {given.shape} for "
            f"{n_atoms} atoms; expected ({n_atoms}, 3) in 'forces' of its results"
        )
    return given
