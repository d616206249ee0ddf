"""A run as an xarray dataset. Vectors and relevance are read when they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from mdxai.frame import Ints
from mdxai.record.columns import SCALARS, VECTORS, vectors_in
from mdxai.record.explanations import measure_of
from mdxai.record.step_rows import TableSource

UNITS = {
    "positions": "Å", "velocities": "Å/fs", "forces": "eV/Å", "distance": "Å", "relevance": "eV",
    "relevance_per_atom": "eV", "relevance_one_body": "eV",
    "time_fs": "fs", "potential_energy_eV": "eV", "kinetic_energy_eV": "eV", "temperature_K": "K",
}  # fmt: skip
ORDERS = "by_body_order_eV"
EXPLAINED_SCALARS = {"explained_output": "output_eV", "explained_residual": "residual_eV"}
PER_ATOM = {"relevance_per_atom": "per_atom_eV", "relevance_one_body": "one_body_eV"}
Read = Callable[[Ints], NDArray[Any]]


class RecordedRun(TableSource, Protocol):
    """The parts of a run that a dataset reads."""

    header: dict[str, Any]

    @property
    def deviations(self) -> dict[str, str]: ...

    def column_names(self, kind: str) -> list[str]: ...

    def frames_table(self, columns: Sequence[str]) -> pa.Table: ...


class _OnDemand(BackendArray):  # type: ignore[misc]
    """An array that fetches whole rows with `read`, given their ascending indices."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], read: Read) -> None:
        self.shape, self.dtype, self._read = shape, dtype, read

    def __getitem__(self, key: Any) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._fetch
        )

    def _fetch(self, key: tuple[Any, ...]) -> NDArray[Any]:
        wanted = np.arange(self.shape[0])[key[0]]
        rows, place = np.unique(wanted, return_inverse=True)
        found = self._read(rows)
        for axis in range(len(self.shape) - 1, 0, -1):  # backwards: an integer removes its axis
            found = found[(slice(None),) * axis + (key[axis],)]
        return found[place.reshape(np.shape(wanted))]


def dataset(run: RecordedRun) -> xr.Dataset:
    """Return a dataset over frame × atom × xyz, and explained × pair, atom and body order.

    Scalars, deviations and relevance by body order are read now. Positions, velocities, forces and
    the relevance of atoms and pairs are read when they are used, and only the rows asked for. NaN
    stands for vectors that were not recorded and for pairs that a frame does not have. Relevance
    of several images of a pair is summed; the distance is the shortest.

    Raises:
        RecordError: when no frame was recorded, or a part is damaged.
    """
    table = run.frames_table(["step", *SCALARS, *run.deviations])
    frames, snapshots = table["step"].to_numpy(), _steps_of(run, "trajectory")
    steps = np.union1d(frames, snapshots)
    at = np.searchsorted(steps, frames)
    variables: dict[str, Any] = {}
    for name in [*SCALARS, *run.deviations]:
        values = np.full(len(steps), np.nan)
        values[at] = table[name].to_numpy(zero_copy_only=False)
        unit = UNITS.get(name, run.deviations.get(name, ""))
        variables[name] = ("frame", values, {"unit": unit})
    if len(snapshots):
        for name in VECTORS:
            variables[name] = _per_atom(run, "trajectory", name, ("frame", steps, "xyz"), name)
    variables |= _explained(run)
    coordinates = {"step": ("frame", steps), "number": ("atom", run.header["system"]["numbers"])}
    return xr.Dataset(variables, coordinates | {"xyz": ["x", "y", "z"]})


def _steps_of(run: RecordedRun, kind: str) -> Ints:
    parts = [table["step"].to_numpy() for table in run.tables(kind, ["step"])]
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _per_atom(
    run: RecordedRun, kind: str, column: str, rows: tuple[str, Ints, str | None], name: str
) -> xr.Variable:
    """Return a column of lists as an array over steps, atoms and, for vectors, xyz."""
    dimension, steps, last = rows
    more = (3,) if last else ()
    shape = (len(steps), len(run.header["system"]["numbers"]), *more)

    def read(wanted: Ints) -> NDArray[Any]:
        found = np.full((len(wanted), *shape[1:]), np.nan)
        if len(wanted):
            _fill(run, (kind, column), steps[wanted], found)
        return found

    dims = (dimension, "atom", *((last,) if last else ()))
    return _lazy(dims, _OnDemand(shape, np.dtype(float), read), name)


def _fill(run: RecordedRun, place: tuple[str, str], wanted: Ints, found: NDArray[Any]) -> None:
    kind, column = place
    for table in run.tables(kind, ["step", column], after=int(wanted[0]) - 1):
        steps = table["step"].to_numpy()
        if steps[0] > wanted[-1]:
            return
        _, rows, places = np.intersect1d(steps, wanted, return_indices=True)
        if len(rows):
            found[places] = _rows_of(table, column, found.shape[1:])[rows]


def _rows_of(table: Any, column: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if shape[1:] == (3,):
        return vectors_in(table, column)
    flat = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    rows: NDArray[Any] = flat.reshape(table.num_rows, *shape)
    return rows


def _explained(run: RecordedRun) -> dict[str, Any]:
    tables = list(run.tables("explanations", ["step", *EXPLAINED_SCALARS.values(), ORDERS]))
    if not tables:
        return {}
    table = pa.concat_tables(tables)
    steps = table["step"].to_numpy()
    orders = table[ORDERS].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found: dict[str, Any] = {
        name: ("explained", table[column].to_numpy(), {"unit": "eV"})
        for name, column in EXPLAINED_SCALARS.items()
    }
    found["relevance_by_body_order"] = (
        ("explained", "body_order"),
        orders.reshape(len(steps), -1).astype(np.float64),
        {"unit": "eV", "last": "all higher orders"},
    )
    if "per_atom_eV" in run.column_names("explanations"):
        for name, column in PER_ATOM.items():
            found[name] = _per_atom(run, "explanations", column, ("explained", steps, None), name)
    return found | {"explained_step": ("explained", steps)} | _pairs(run, steps)


def _pairs(run: RecordedRun, steps: Ints) -> dict[str, Any]:
    pairs = np.empty((0, 2), dtype=np.int64)
    for table in run.tables("pairs", ["step", "i", "j"]):
        here = np.stack([table["i"].to_numpy(), table["j"].to_numpy()], axis=1)
        pairs = np.unique(np.concatenate([pairs, np.unique(here, axis=0)]), axis=0)
    if not len(pairs):
        return {}
    measure = f"{measure_of(run.column_names('pairs'))}_eV"
    shape = (len(steps), len(pairs))
    size = int(pairs.max()) + 1
    codes = pairs[:, 0] * size + pairs[:, 1]

    def reader(column: str, join: np.ufunc) -> Read:
        def read(rows: Ints) -> NDArray[Any]:
            found = np.full((len(rows), len(pairs)), np.nan)
            if not len(rows):
                return found
            wanted = steps[rows]
            for table in run.tables("pairs", ["step", "i", "j", column], after=int(wanted[0]) - 1):
                _join(table, column, (wanted, codes, size), join, found)
                if table["step"][-1].as_py() >= wanted[-1]:
                    break
            return found

        return read

    strengths = _OnDemand(shape, np.dtype(float), reader(measure, np.add))
    distances = _OnDemand(shape, np.dtype(float), reader("distance_ang", np.minimum))
    return {
        "relevance": _lazy(("explained", "pair"), strengths, "relevance"),
        "distance": _lazy(("explained", "pair"), distances, "distance"),
        "pair_i": ("pair", pairs[:, 0]),
        "pair_j": ("pair", pairs[:, 1]),
    }


def _join(
    table: Any, column: str, key: tuple[Ints, Ints, int], join: np.ufunc, found: NDArray[Any]
) -> None:
    wanted, codes, size = key
    steps = table["step"].to_numpy()
    rows = np.searchsorted(wanted, steps)
    here = (rows < len(wanted)) & (wanted[np.minimum(rows, len(wanted) - 1)] == steps)
    code = table["i"].to_numpy()[here].astype(np.int64) * size + table["j"].to_numpy()[here]
    cell = (rows[here], np.searchsorted(codes, code))
    found[cell] = 0.0 if join is np.add else np.inf
    join.at(found, cell, table[column].to_numpy()[here].astype(np.float64))


def _lazy(dims: tuple[str, ...], array: _OnDemand, name: str) -> xr.Variable:
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), {"unit": UNITS[name]})
