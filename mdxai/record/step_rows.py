"""Rows of a run by MD step, read a part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa


class TableSource(Protocol):
    """Anything that yields the rows of one kind in order of their steps, such as a run."""

    def tables(
        self, kind: str, columns: Sequence[str] | None = None, after: int = -1
    ) -> Iterator[pa.Table]: ...


class StepRows:
    """Rows of one kind by step, with one row group in memory.

    Asking for steps in ascending order takes one pass over the parts.
    """

    def __init__(
        self, source: TableSource, kind: str, columns: Sequence[str] | None = None
    ) -> None:
        self.kind = kind
        self._source, self._columns = source, columns
        self._first, self._last = 0, -1  # steps that the loaded row group covers
        self._group: pa.Table | None = None
        self._following: Iterator[pa.Table] = iter(())

    def at(self, step: int) -> pa.Table | None:
        """Return the rows of a step; None when it has none.

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
        # The step lies before the group, or was recorded after this pass began.
        self._following = self._source.tables(self.kind, self._columns, after=step - 1)
        self._group, self._first, self._last = None, 0, -1
        for table in self._following:
            self._hold(table, step)
            return

    def _hold(self, table: pa.Table, first: int) -> None:
        self._group, self._first, self._last = table, first, int(table["step"][-1].as_py())
