"""Evaluations kept in a file as they are made, so that a killed search goes on where it was."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from mdxai.errors import MdxaiError
from mdxai.forecast.evaluations import Evaluations, in_parts
from mdxai.frame import Floats, Frame
from mdxai.record.durable_files import make_folder

KEPT = "weak-spot-search.sqlite"  # the file in its directory


class KeptSearchError(MdxaiError, ValueError):
    """A directory that holds another search, or one that cannot be read."""


def another_held(folder: Path, what: str, held: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Return the error of a directory that holds something made of other inputs."""
    changed = sorted(k for k in {*held, *asked} if held.get(k) != asked.get(k))
    return (
        f"{folder} holds another {what}, which differs in {', '.join(changed)}; repeat that one, "
        "or choose another directory"
    )


def structure_sha256(start: Frame) -> str:
    """Return a hash of what a structure is, hexadecimal."""
    parts = (start.numbers, start.positions, start.masses, start.cell, start.pbc)
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()


class EvaluationStore:
    """A file of evaluations by what was evaluated, which survives a kill at any moment.

    A search is determined by its evaluations. Repeated with those that were kept, it is soon where
    it was killed, and finds the same bit by bit.

    Args:
        folder: directory; it is made.
        identity: plain data that a search must share with the kept one to continue it.

    Raises:
        KeptSearchError: for a directory with another search, or a file that cannot be read.
        RecordError: where the directory cannot be written.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        make_folder(folder)
        self._file = folder / KEPT
        mine = json.dumps(identity, sort_keys=True)
        with self._reading():
            # One transaction per statement. What is lost when the power fails is made anew.
            self._rows = sqlite3.connect(self._file, isolation_level=None)
            self._rows.execute("PRAGMA synchronous = OFF")
            self._rows.execute("CREATE TABLE IF NOT EXISTS search (one UNIQUE, identity TEXT)")
            self._rows.execute("CREATE TABLE IF NOT EXISTS kept (key PRIMARY KEY, results BLOB)")
            self._rows.execute("INSERT OR IGNORE INTO search VALUES (1, ?)", (mine,))
            theirs = self._rows.execute("SELECT identity FROM search").fetchone()[0]
        if theirs != mine:
            what = "search for weak spots"
            raise KeptSearchError(another_held(folder, what, json.loads(theirs), identity))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def get(self, key: bytes) -> bytes | None:
        """Return what was kept under a key."""
        with self._reading():
            row = self._rows.execute("SELECT results FROM kept WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, key: bytes, results: bytes) -> None:
        """Keep results under a key."""
        with self._reading():
            self._rows.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (key, results))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise KeptSearchError(
                f"{self._file} cannot be used: {error}; end what else uses it, make room, or "
                "delete it to search anew"
            ) from error


class KeptEvaluations:
    """Evaluations of which a store keeps each.

    Args:
        evaluate: of the system.
        store: shared by all that one search evaluates.
        who: tells its calculators apart.
    """

    def __init__(self, evaluate: Evaluations, store: EvaluationStore, who: str) -> None:
        self.frame, self.at_once = evaluate.frame, evaluate.at_once
        self._evaluate, self._store, self._who = evaluate, store, who.encode()

    def __call__(self, positions: Floats) -> tuple[Floats, Floats]:
        """Return energies and forces as `Evaluations` do."""
        return in_parts(self._together, positions, self.at_once)

    def _together(self, positions: Floats) -> tuple[Floats, Floats]:
        content = np.ascontiguousarray(positions).tobytes()
        key = hashlib.blake2b(content, key=self._who[:64], digest_size=16).digest()
        held = self._store.get(key)
        if held is None:
            results = np.concatenate([r.ravel() for r in self._evaluate(positions)])
            self._store.put(key, results.astype(np.float64).tobytes())
        else:
            results = np.frombuffer(held).copy()
        n = len(positions)
        return results[:n], results[n:].reshape(positions.shape)
