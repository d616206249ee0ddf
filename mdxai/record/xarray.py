"""A run as an xarray dataset: vectors and relevance are read when they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray
from xarray.core import indexing

from mdxai.frame import Ints
from mdxai.record.columns import SCALARS, VECTORS

if TYPE_CHECKING:
    from mdxai.record.reader import Run

UNITS = {
    "positions": "Å", "velocities": "Å/fs", "forces": "eV/Å", "distance": "Å", "relevance": "eV",
    "time_fs": "fs", "potential_energy_eV": "eV", "kinetic_energy_eV": "eV", "temperature_K": "K",
}  # fmt: skip
Read = Callable[[Ints], NDArray[Any]]


class _OnDemand(BackendArray):  # type: ignore[misc]
    """An array of which `read` fetches whole rows, given their ascending numbers."""

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
        for axis in range(len(self.shape) - 1, 0, -1):  # from the last, so that axes may vanish
            found = found[(slice(None),) * axis + (key[axis],)]
        return found[place.reshape(np.shape(wanted))]


def dataset(run: Run) -> xr.Dataset:
    """Return a dataset with dimensions frame, atom and xyz, and explained × pair.

    Scalars and deviations are read now. Positions, velocities, forces, and relevance and distance
    of pairs are read part by part when their values are used, only the rows that are asked for.
    Frames of which no vectors were recorded, and pairs that a frame does not hold, are NaN. Where
    several images of a pair were explained their relevance is summed; the distance is the shortest.

    Raises:
        RecordError: when no frame was recorded, or a part is damaged.
    """
    table = run.frames_table(["step", *SCALARS, *run.deviations])
    frames = table["step"].to_numpy()
    places = run.trajectory_table(["step"]) if run.parts("trajectory") else None
    snapshots = np.empty(0, dtype=np.int64) if places is None else places["step"].to_numpy()
    steps = np.union1d(frames, snapshots)
    at = np.searchsorted(steps, frames)
    variables: dict[str, Any] = {}
    for name in [*SCALARS, *run.deviations]:
        values = np.full(len(steps), np.nan)
        values[at] = table[name].to_numpy(zero_copy_only=False)
        unit = UNITS.get(name, run.deviations.get(name, ""))
        variables[name] = ("frame", values, {"unit": unit})
    if len(snapshots):
        variables |= _vectors(run, steps, snapshots)
    variables |= _pairs(run)
    coordinates = {"step": ("frame", steps), "number": ("atom", run.header["system"]["numbers"])}
    return xr.Dataset(variables, coordinates | {"xyz": ["x", "y", "z"]})


def _vectors(run: Run, steps: Ints, snapshots: Ints) -> dict[str, Any]:
    n_atoms = len(run.header["system"]["numbers"])

    def reader(name: str) -> Read:
        def read(rows: Ints) -> NDArray[Any]:
            found = np.full((len(rows), n_atoms, 3), np.nan)
            wanted = steps[rows]
            if len(wanted):
                _fill(run, name, wanted, found)
            return found

        return read

    shape = (len(steps), n_atoms, 3)
    return {
        name: _lazy(("frame", "atom", "xyz"), _OnDemand(shape, np.dtype(float), reader(name)), name)
        for name in VECTORS
    }


def _fill(run: Run, name: str, wanted: Ints, found: NDArray[Any]) -> None:
    for table in run.tables("trajectory", ["step", name], after=int(wanted[0]) - 1):
        steps = table["step"].to_numpy()
        if steps[0] > wanted[-1]:
            return
        _, rows, places = np.intersect1d(steps, wanted, return_indices=True)
        if len(rows):
            flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            found[places] = flat.reshape(len(steps), -1, 3)[rows]


def _pairs(run: Run) -> dict[str, Any]:
    pairs = np.empty((0, 2), dtype=np.int64)
    explained: list[NDArray[Any]] = []
    for table in run.tables("pairs", ["step", "i", "j"]):
        here = np.stack([table["i"].to_numpy(), table["j"].to_numpy()], axis=1)
        pairs = np.unique(np.concatenate([pairs, np.unique(here, axis=0)]), axis=0)
        explained.append(np.unique(table["step"].to_numpy()))
    if not explained:
        return {}
    steps = np.concatenate(explained)
    first = next(run.tables("pairs"))
    measure = next(name for name in first.column_names if name in ("two_body_eV", "flow_eV"))
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
        "explained_step": ("explained", steps),
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
