"""Explanations ↔ rows of three kinds of parts.

    explanations   a row per explained frame: output, residual, relevance by body order and by atom
    pairs          a row per pair and explained frame: distance, vector and relevance
    triples        a row per triple and explained frame: relevance

Appending delays the MD step, so it only keeps references; the writer thread makes the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mdxai.attribution import Attribution
from mdxai.frame import Floats, Frame, Ints, Pairs
from mdxai.record.arrow_arrays import arrow_array, arrow_texts
from mdxai.record.durable_files import RecordError
from mdxai.record.record_settings import RecordSettings
from mdxai.record.step_rows import StepRows, TableSource

MEASURES = ("two_body", "flow")


class Explained(NamedTuple):
    """An explained frame that waits to be written."""

    step: int
    time: float  # fs
    attribution: Attribution
    kept: Ints | None  # indices of the pairs that are kept, ascending; None keeps all

    @classmethod
    def of(cls, frame: Frame, attribution: Attribution, top_pairs: int | None) -> Explained:
        """Return the row of a frame. top_pairs: number of strongest pairs to keep."""
        strengths, kept = attribution.strengths, None
        if top_pairs is not None and len(strengths) > top_pairs:
            kept = np.sort(np.argsort(-np.abs(strengths), kind="stable")[:top_pairs])
        return cls(frame.step, frame.time, attribution, kept)

    @property
    def n_bytes(self) -> int:
        """Approximate memory of the attribution, bytes."""
        it = self.attribution
        layers = 0 if it.by_layer is None else it.by_layer.nbytes
        return 2000 + 56 * len(it.pairs) + 16 * len(it.atoms) + 32 * len(it.triples) + layers


class ExplanationColumns:
    """Rows of one kind of `EXPLAINED`.

    Args:
        kind: one of `EXPLAINED`.
        settings: what is kept, in which precision.
    """

    def __init__(self, kind: str, settings: RecordSettings) -> None:
        self._kind, self._settings = kind, settings
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self._rows: list[Explained] = []
        self.n_bytes = 0

    @property
    def n_rows(self) -> int:
        """Number of explained frames that have rows of this kind."""
        return len(self._rows)

    def append(self, row: Explained) -> None:
        """Add one explained frame. Its arrays are read later and must not change."""
        if self._has_rows(row.attribution):
            self._rows.append(row)
        if self._kind == "explanations":  # the other kinds refer to the same attribution
            self.n_bytes += row.n_bytes

    def _has_rows(self, attribution: Attribution) -> bool:
        if self._kind == "triples":
            return self._settings.keep_triples and len(attribution.triples) > 0
        return self._kind == "explanations" or len(attribution.pairs) > 0

    def table(self) -> pa.Table:
        """Return the rows as a table."""
        return _TABLES[self._kind](self._rows, self._settings)


def stored(values: Floats, dtype: str) -> np.ndarray[Any, Any]:
    """Return values in the stored precision; those that exceed its range become infinite."""
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False)


def _explanation_table(rows: Sequence[Explained], settings: RecordSettings) -> pa.Table:
    dtype, every = settings.relevance_dtype, [row.attribution for row in rows]
    columns = {
        "step": arrow_array(np.array([row.step for row in rows], dtype=np.int64)),
        "time_fs": arrow_array(np.array([row.time for row in rows])),
        "method": arrow_texts([a.method for a in every]),
        "unit": arrow_texts([a.unit for a in every]),
        "gamma": arrow_array(np.array([a.gamma for a in every], dtype=np.float64)),
        "max_bias": arrow_array(np.array([bool(a.max_bias) for a in every])),
        "output_eV": arrow_array(np.array([a.output for a in every], dtype=np.float64)),
        "residual_eV": arrow_array(np.array([a.residual for a in every], dtype=np.float64)),
        "n_pairs": arrow_array(_n_pairs(rows)),
        "n_triples": arrow_array(
            np.array([len(a.triples) * settings.keep_triples for a in every], dtype=np.int32)
        ),
        "by_body_order_eV": _lists([a.by_body_order for a in every], dtype),
    }
    if settings.keep_atoms:
        columns["per_atom_eV"] = _lists([a.atoms for a in every], dtype)
        columns["one_body_eV"] = _lists([a.one_body for a in every], dtype)
    return pa.table(columns)


def _pair_table(rows: Sequence[Explained], settings: RecordSettings) -> pa.Table:
    dtype, first = settings.relevance_dtype, rows[0].attribution

    def column(values: Callable[[Attribution], Any]) -> np.ndarray[Any, Any]:
        found = [(values(row.attribution), row.kept) for row in rows]
        return np.concatenate([v if kept is None else v[kept] for v, kept in found])

    columns = _instants(rows, _n_pairs(rows)) | {
        "i": arrow_array(column(lambda a: a.pairs.i).astype(np.int32)),
        "j": arrow_array(column(lambda a: a.pairs.j).astype(np.int32)),
        "distance_ang": arrow_array(stored(column(lambda a: a.pairs.distances), dtype)),
        f"{first.measure}_eV": arrow_array(stored(column(lambda a: a.strengths), dtype)),
    }
    if settings.keep_vectors:
        columns["vector_ang"] = _fixed_lists(stored(column(lambda a: a.pairs.vectors), dtype), 3)
    known = column(lambda a: np.full(len(a.pairs), a.several_images is not None))
    several = column(_several_images)
    columns["several_images"] = arrow_array(several, ~known)
    if first.by_layer is not None:
        layers = stored(column(lambda a: a.by_layer.T), dtype)  # type: ignore[union-attr]
        columns["by_layer_eV"] = _fixed_lists(layers, layers.shape[1])
    return pa.table(columns)


def _triple_table(rows: Sequence[Explained], settings: RecordSettings) -> pa.Table:
    atoms = np.concatenate([row.attribution.triples for row in rows]).astype(np.int32)
    relevance = np.concatenate([row.attribution.three_body for row in rows])
    counts = np.array([len(row.attribution.triples) for row in rows])
    return pa.table(
        _instants(rows, counts)
        | {name: arrow_array(atoms[:, k]) for k, name in enumerate("ijk")}
        | {"three_body_eV": arrow_array(stored(relevance, settings.relevance_dtype))}
    )


_TABLES = {
    "explanations": _explanation_table,
    "pairs": _pair_table,
    "triples": _triple_table,
}


def _n_pairs(rows: Sequence[Explained]) -> np.ndarray[Any, Any]:
    counts = [len(row.attribution.pairs if row.kept is None else row.kept) for row in rows]
    return np.array(counts, dtype=np.int32)


def _instants(rows: Sequence[Explained], counts: np.ndarray[Any, Any]) -> dict[str, pa.Array]:
    """Return step and time of each row; counts: number of rows of each explained frame."""
    steps = np.array([row.step for row in rows], dtype=np.int64)
    times = np.array([row.time for row in rows])
    return {
        "step": arrow_array(np.repeat(steps, counts)),
        "time_fs": arrow_array(np.repeat(times, counts)),
    }


def _several_images(attribution: Attribution) -> np.ndarray[Any, Any]:
    several = attribution.several_images
    return np.zeros(len(attribution.pairs), dtype=bool) if several is None else several


def _lists(arrays: Sequence[Floats], dtype: str) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])])
    return pa.ListArray.from_arrays(
        arrow_array(offsets.astype(np.int32)), arrow_array(stored(np.concatenate(arrays), dtype))
    )


def _fixed_lists(values: np.ndarray[Any, Any], size: int) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(arrow_array(values.reshape(-1)), size)


class ExplanationReader:
    """Makes explanations from their rows, with one row group of each kind in memory.

    Args:
        source: the run.
        numbers: (n_atoms,) atomic numbers.
    """

    def __init__(self, source: TableSource, numbers: Ints) -> None:
        self._numbers = numbers
        self._explained, self._pairs, self._triples = (
            StepRows(source, kind) for kind in ("explanations", "pairs", "triples")
        )

    def at(self, step: int) -> Attribution | None:
        """Return the explanation of a step; None where it was not explained.

        Raises:
            RecordError: when its pairs or triples are missing, or a part is damaged.
        """
        found = self._explained.at(step)
        return None if found is None else self.attribution(found, 0)

    def residual(self, step: int) -> float:
        """Return the residual of a step as it was recorded, eV; NaN where it was not explained."""
        found = self._explained.at(step)
        return np.nan if found is None else float(found["residual_eV"][0].as_py())

    def all_of(self, tables: Iterator[pa.Table]) -> Iterator[tuple[int, Attribution]]:
        """Yield step and explanation of each row of the kind "explanations".

        Raises:
            RecordError: as `at`.
        """
        for table in tables:
            for row, step in enumerate(table["step"].to_pylist()):
                yield step, self.attribution(table, row)

    def attribution(self, table: pa.Table, row: int) -> Attribution:
        """Return the explanation whose row of the kind "explanations" is given."""
        try:
            one = table.slice(row, 1).to_pylist()[0]
            pairs = self._rows_of(self._pairs, one["step"], one["n_pairs"])
            triples = self._rows_of(self._triples, one["step"], one["n_triples"])
            unknown = np.full(len(self._numbers), np.nan)
            return Attribution(
                method=one["method"],
                gamma=one["gamma"],
                output=one["output_eV"],
                atoms=np.array(one.get("per_atom_eV", unknown), dtype=np.float64),
                one_body=np.array(one.get("one_body_eV", unknown), dtype=np.float64),
                by_body_order=np.array(one["by_body_order_eV"], dtype=np.float64),
                unit=one["unit"],
                max_bias=one["max_bias"],
                numbers=self._numbers,
                **(_pairs_from(pairs) | _triples_from(triples)),
            )
        except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"an explanation of the record is damaged: {error}") from error

    @staticmethod
    def _rows_of(rows: StepRows, step: int, number: int) -> pa.Table | None:
        found = rows.at(step) if number else None
        if number and (found is None or found.num_rows != number):
            there = 0 if found is None else found.num_rows
            raise RecordError(
                f"step {step} was recorded with {number} {rows.kind}, of which {there} are left; "
                "`mdxai repair` lists the missing file"
            )
        return found


def measure_of(names: Sequence[str]) -> str:
    """Return the measure, "two_body" or "flow", of a table of pairs with these columns.

    Raises:
        RecordError: when there is a column of neither.
    """
    for measure in MEASURES:
        if f"{measure}_eV" in names:
            return measure
    raise RecordError(f"expected a column two_body_eV or flow_eV, got {', '.join(names)}")


def _numbers_of(table: pa.Table, name: str) -> Floats:
    values: Floats = table[name].to_numpy().astype(np.float64)
    return values


def _lists_of(table: pa.Table, name: str) -> Floats:
    flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values: Floats = flat.astype(np.float64).reshape(table.num_rows, -1)
    return values


def _pairs_from(table: pa.Table | None) -> dict[str, Any]:
    if table is None:
        nothing = np.empty(0)
        none = np.empty(0, dtype=np.int64)
        return {"pairs": Pairs(none, none, np.empty((0, 3)), nothing), "strengths": nothing}
    names, n = table.column_names, table.num_rows
    vectors = _lists_of(table, "vector_ang") if "vector_ang" in names else np.full((n, 3), np.nan)
    i, j = (table[name].to_numpy().astype(np.int64) for name in "ij")
    several = table["several_images"]
    return {
        "pairs": Pairs(i, j, vectors, _numbers_of(table, "distance_ang")),
        "strengths": _numbers_of(table, f"{measure_of(names)}_eV"),
        "several_images": None if several.null_count else several.to_numpy().astype(np.bool_),
        "by_layer": _lists_of(table, "by_layer_eV").T.copy() if "by_layer_eV" in names else None,
    }


def _triples_from(table: pa.Table | None) -> dict[str, Any]:
    if table is None:
        return {}
    atoms = [table[name].to_numpy().astype(np.int64) for name in "ijk"]
    return {"triples": np.stack(atoms, axis=1), "three_body": _numbers_of(table, "three_body_eV")}
