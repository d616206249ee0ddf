"""Rows of a run by MD step, read part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa


class TableSource(Protocol):
    """Yields the rows of one kind in order of their steps, as a run does."""

    def tables(
        self, kind: str, columns: Sequence[str] | None = None, after: int = -1
    ) -> Iterator[pa.Table]: ...


class StepRows:
    """Rows of one kind by step. Steps in ascending order are found in one pass; one row group is
    in memory.
    """

    def __init__(
        self, source: TableSource, kind: str, columns: Sequence[str] | None = None
    ) -> None:
        self.kind = kind
        self._source, self._columns = source, columns
        self._first, self._last = 0, -1  # steps that the group answers for
        self._group: pa.Table | None = None
        self._following: Iterator[pa.Table] = iter(())

    def at(self, step: int) -> pa.Table | None:
        """Return the rows of a step; None without any.

        Raises:
            RecordError: when a part is damaged.
        """
        if not self._first <= step <= self._last:
            self._seek(step)
        if self._group is None:
            return None
        steps = self._group["step"].to_numpy()
        first, last = np.searchsorted(steps, [step, step + 1])
        return self._group.slice(first, last - first) if last > first else None

    def _seek(self, step: int) -> None:
        """Load the first row group that ends at the step or later."""
        if step > self._last:
            for table in self._following:
                self._hold(table, self._last + 1)
                if step <= self._last:
                    return
        # The step lies before the group, or was recorded after this pass had begun.
        self._following = self._source.tables(self.kind, self._columns, after=step - 1)
        self._group, self._first, self._last = None, 0, -1
        for table in self._following:
            self._hold(table, step)
            return

    def _hold(self, table: pa.Table, first: int) -> None:
        self._group, self._first, self._last = table, first, int(table["step"][-1].as_py())
