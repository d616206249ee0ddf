"""Quantities of a long run over time, each in few points without losing a spike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mdxai.frame import Bools, Floats, Ints
from mdxai.record import Run

BUCKETS = 750  # of time; a curve keeps the lowest and highest value of each, 1,500 points
TINY = 1e-300  # in place of a sum of 0
BY_ORDER, RESIDUAL = "by_body_order_eV", "residual_eV"
ValuesOf = Callable[[pa.Table, Sequence[str]], tuple[Floats, Bools]]


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over time.

    times: (n,) fs, ascending. values: (n,) finite; of each bucket of time the lowest and the
    highest. not_finite: (m,) fs, where it was NaN or infinite, the first of each bucket.
    n_measured: number of frames in which it was measured.
    """

    times: Floats
    values: Floats
    not_finite: Floats
    n_measured: int

    @property
    def largest(self) -> float:
        """The largest finite value; NaN where there is none."""
        return float(self.values.max()) if len(self.values) else np.nan


@dataclass(frozen=True, slots=True)
class Series:
    """The recorded frames of a run: their number, the first and last time (fs), their curves."""

    n_frames: int = 0
    start_fs: float = np.nan
    end_fs: float = np.nan
    last_step: int = -1
    curves: dict[str, Curve] = field(default_factory=dict)


class Envelope:
    """The extremes of several columns in each bucket of steps, updated row by row.

    Memory holds the buckets, however many rows come. Up to `n_buckets` steps, every row is kept.

    Args:
        n_columns: number of quantities.
        first: the first step.
        last: the last step.
        n_buckets: number of buckets, equally wide in steps.
    """

    def __init__(self, n_columns: int, first: int, last: int, n_buckets: int = BUCKETS) -> None:
        shape = (n_buckets, n_columns)
        self._first, self._span, self._n = first, last - first + 1, n_buckets
        self._low, self._high = np.full(shape, np.inf), np.full(shape, -np.inf)
        self._low_at, self._high_at = np.full(shape, np.nan), np.full(shape, np.nan)
        self._wrong_at = np.full(shape, np.nan)
        self._measured: Ints = np.zeros(n_columns, dtype=np.int64)

    def update(self, steps: Ints, times: Floats, values: Floats, measured: Bools) -> None:
        """Add rows.

        Args:
            steps: (n,), ascending.
            times: (n,), fs.
            values: (n, n_columns); NaN and infinities are counted apart.
            measured: (n, n_columns), whether there is a value at all.
        """
        bucket = (steps - self._first) * self._n // self._span
        starts = np.flatnonzero(np.diff(bucket, prepend=-1))
        finite = np.isfinite(values) & measured
        wrong = measured & ~finite
        low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
        for begin, end in zip(starts, [*starts[1:], len(steps)], strict=True):
            row, at = bucket[begin], times[begin:end]
            _keep(self._low[row], self._low_at[row], low[begin:end], at, -1)
            _keep(self._high[row], self._high_at[row], high[begin:end], at, 1)
        if wrong.any():
            self._note_wrong(bucket, times, wrong)
        self._measured += measured.sum(0)

    def _note_wrong(self, bucket: Ints, times: Floats, wrong: Bools) -> None:
        for column in np.flatnonzero(wrong.any(0)):
            rows, first = np.unique(bucket[wrong[:, column]], return_index=True)
            known = ~np.isnan(self._wrong_at[rows, column])
            self._wrong_at[rows[~known], column] = times[wrong[:, column]][first[~known]]

    def curve(self, column: int) -> Curve:
        """Return one quantity."""
        low, low_at = self._low[:, column], self._low_at[:, column]
        high, high_at = self._high[:, column], self._high_at[:, column]
        filled = np.isfinite(low)
        two = filled & (high_at != low_at)  # otherwise both are the same frame
        times = np.concatenate([low_at[filled], high_at[two]])
        order = np.argsort(times, kind="stable")
        values = np.concatenate([low[filled], high[two]])[order]
        wrong = self._wrong_at[:, column]
        wrong = wrong[~np.isnan(wrong)]
        return Curve(times[order], values, wrong, int(self._measured[column]))


def _keep(best: Floats, best_at: Floats, values: Floats, times: Floats, sign: int) -> None:
    """Replace the extremes, and their times, that the values exceed."""
    rows = (sign * values).argmax(0)
    found = np.take_along_axis(values, rows[None], 0)[0]
    better = sign * found > sign * best
    best[better], best_at[better] = found[better], times[rows[better]]


def read_series(run: Run, names: Sequence[str]) -> Series:
    """Return the curves of some columns of the frames, with a row group in memory at a time.

    A run that is going on is read up to its present last part.

    Args:
        run: a run.
        names: columns, such as "temperature_K" or a principle.

    Raises:
        RecordError: when a part is damaged.
    """
    return _read(run, "frames", names, names, _columns)


def read_body_orders(run: Run) -> Series:
    """Return what each body order contributes in the explained frames, and their residual.

    The curves are shares of the sum of absolute values over body orders, as in the principles
    `body_orders` and `residual`: those of "order 1", "order 2", …, not negative, the last of all
    higher orders; and the signed "residual", output − total relevance. Read as `read_series` does.

    Raises:
        RecordError: when a part is damaged.
    """
    first = next(run.tables("explanations", [BY_ORDER]), None)
    if first is None:
        return Series()
    orders = [f"order {n}" for n in range(1, 1 + len(first[BY_ORDER][0]))]
    return _read(run, "explanations", (BY_ORDER, RESIDUAL), [*orders, "residual"], _shares)


def _read(
    run: Run, kind: str, columns: Sequence[str], names: Sequence[str], values_of: ValuesOf
) -> Series:
    """Return curves by name; `values_of` gives values and where there are any, (n, n_names)."""
    parts = run.parts(kind)
    if not parts:
        return Series()
    last, n_frames, start, end = parts[-1].last, 0, np.nan, np.nan
    envelope = Envelope(len(names), parts[0].first, last)
    for table in run.tables(kind, ["step", "time_fs", *columns]):
        steps, times = table["step"].to_numpy(), table["time_fs"].to_numpy()
        n = int(np.searchsorted(steps, last, side="right"))
        if not n:
            break
        envelope.update(steps[:n], times[:n], *values_of(table.slice(0, n), names))
        start, end = (times[0] if not n_frames else start), times[n - 1]
        n_frames += n
    curves = {name: envelope.curve(k) for k, name in enumerate(names)}
    return Series(n_frames, float(start), float(end), last, curves)


def _columns(table: pa.Table, names: Sequence[str]) -> tuple[Floats, Bools]:
    values = np.empty((table.num_rows, len(names)))
    measured = np.ones(values.shape, dtype=np.bool_)
    for k, name in enumerate(names):
        values[:, k] = table[name].to_numpy(zero_copy_only=False)
        if table[name].null_count:
            measured[:, k] = ~table[name].is_null().to_numpy()
    return values, measured


def _shares(table: pa.Table, names: Sequence[str]) -> tuple[Floats, Bools]:
    lists = table[BY_ORDER].combine_chunks()
    rows = pc.list_value_length(lists).to_numpy() == len(names) - 1  # resolved to the same order
    orders = np.zeros((table.num_rows, len(names) - 1))
    orders[rows] = lists.filter(pa.array(rows)).flatten().to_numpy().reshape(-1, len(names) - 1)
    values = np.column_stack([np.abs(orders), table[RESIDUAL].to_numpy()])
    scale = np.abs(orders).sum(1, keepdims=True)
    with np.errstate(over="ignore"):
        shares = values / np.maximum(scale, TINY)
    return shares, np.repeat(rows[:, None], len(names), axis=1)
