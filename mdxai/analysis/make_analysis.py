"""The analysis of models over a data set: block by block, resumable, on one or many processors."""

from __future__ import annotations

import errno
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from io import BytesIO
from itertools import batched, islice
from pathlib import Path
from typing import Any

import numpy as np

from mdxai.analysis.analysis_files import TOML
from mdxai.analysis.analysis_result import Analysis, LeftOut
from mdxai.analysis.close_look import CloseLook, has_xtb
from mdxai.analysis.data_entries import AnalyseError, DataSet, Entry, Place, entries_in
from mdxai.analysis.explained_model import ExplainedModel, batches
from mdxai.analysis.molecule_tally import MoleculeTally
from mdxai.analysis.progress_bar import Progress, progress_bar
from mdxai.errors import one_line
from mdxai.frame import Frame
from mdxai.record.durable_files import make_folder, write_file
from mdxai.record.layout import HEADER

SUMS = "sums.npz"  # in the folder of an analysis: what it has summed so far
REPORT = "report.html"  # of any page of mdxai
SCHEMA = "analysis 2"
STRIDE = 10  # of molecules looked at closely where the data do not say how many there are


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """How a data set is analysed.

    Attributes:
        gamma: γ of the rule.
        closely: molecules, spread over the data, of which also three and four bodies, walks through
            other atoms and copies far apart are looked at.
        most: entries that are read, spread over the data where their number is known; None for
            all.
        block: entries between two savings.
        device: a torch device.
    """

    gamma: float = 0.1
    closely: int = 100
    most: int | None = None
    block: int = 500
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not (self.block > 0 and self.closely >= 0 and (self.most is None or self.most > 0)):
            raise AnalyseError(
                "expected block > 0, closely >= 0 and most > 0, got "
                f"block={self.block}, closely={self.closely}, most={self.most}"
            )


def analyse(
    calculators: Any,
    data: Place | DataSet,
    *,
    path: Place | None = None,
    options: AnalysisOptions | None = None,
    progress: Progress | bool = False,
    client: Any = None,
) -> Analysis:
    """Analyse what networks have learned, over all molecules of a data set.

    How strong interactions are per species and bond, how they fall with distance, how many bodies
    they involve, how they grow with the molecule, and whether they obey the explanation principles.

    Args:
        calculators: one or several SchNets, PaiNNs or SO3nets: names, folders or files that
            `load_calculator` or `load_property` take, or what these return.
        data: a file of molecules, or a run directory; see `mdxai.analysis.entries_of`. A trajectory
            that needs a topology: `mdxai.analysis.DataSet.of("md.xtc", "top.pdb")`.
        path: folder for the sums, saved block by block: an analysis that was stopped goes on from
            there. None keeps nothing.
        options: how; the defaults suit most sets.
        progress: True shows a bar, in a notebook too; or what is called with the number of entries
            done, and of all where known.
        client: a `dask.distributed.Client` whose workers explain the blocks; models must then be
            given by name or file.

    Raises:
        AnalyseError: for data or models that cannot be analysed, or a folder that holds an analysis
            of others.
        CalculatorError: for a calculator that cannot be loaded.
    """
    options = options or AnalysisOptions()
    given = [calculators] if not isinstance(calculators, list | tuple) else list(calculators)
    if not given:
        raise AnalyseError("there is no model to analyse")
    source = data if isinstance(data, DataSet) else DataSet.of(data)
    models = [_model(one, options) for one in given]
    count = source.count()
    step = 1
    if options.most is not None:
        step = max(1, (count or 0) // options.most)
        count = options.most if count is None else min(count, options.most)
    work = _Work(given, models, source, options, count, step)
    sums = _Sums.start(work, path)
    entries = (entry for entry in entries_in(source) if entry.index % step == 0)
    wanted = islice(entries, sums.n_read, options.most)
    with _shown(progress) as show:
        for block, found in _explained(work, batched(wanted, options.block), client):
            sums.take(block, found)
            sums.save()
            show(sums.n_read, count)
    return sums.result()


def _shown(progress: Progress | bool) -> AbstractContextManager[Progress]:
    if progress is True:
        return progress_bar()
    return nullcontext(progress or (lambda done, count: None))


@dataclass(frozen=True)
class _Work:
    """What is analysed. given: models as the user named them. count: entries, None if unknown.
    step: between entries that are read.
    """

    given: list[Any]
    models: list[ExplainedModel]
    data: DataSet
    options: AnalysisOptions
    count: int | None
    step: int

    @property
    def stride(self) -> int:
        """Every how manyth entry is looked at closely; 0 for none."""
        if not self.options.closely:
            return 0
        some = (self.count or STRIDE * self.options.closely) // self.options.closely
        return self.step * max(1, some)

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for sums to be continued."""
        options = {k: v for k, v in asdict(self.options).items() if k not in ("block", "device")}
        return {
            "schema": SCHEMA, "models": [model.as_dict() for model in self.models],
            **self.data.identity(), "options": options, "wiberg": has_xtb(),
        }  # fmt: skip


Tallies = list[tuple[MoleculeTally, CloseLook]]
Block = tuple[list[Entry], list[Entry]]  # to be explained, and left out


def _model(given: Any, options: AnalysisOptions) -> ExplainedModel:
    if isinstance(given, str | os.PathLike):
        return _named_model(os.fspath(given), options.gamma, options.device)
    return ExplainedModel(given, options.gamma, options.device)


@lru_cache(maxsize=8)  # a worker explains many blocks
def _named_model(name: str, gamma: float, device: str) -> ExplainedModel:
    return ExplainedModel(name, gamma, device)


def _explained(
    work: _Work, blocks: Iterator[tuple[Entry, ...]], client: Any
) -> Iterator[tuple[Block, Tallies]]:
    """Yield the blocks in their order, each with its sums."""
    sorted_blocks = (_sorted(work, block) for block in blocks)
    if client is None:
        for block in sorted_blocks:
            yield block, [_tally(model, block[0], work.stride) for model in work.models]
        return
    if not all(isinstance(one, str | os.PathLike) for one in work.given):
        raise AnalyseError("workers load models themselves, so name them or give their files")
    waiting: deque[tuple[Block, Any]] = deque()
    limit = 2 * max(len(client.scheduler_info()["workers"]), 1)
    for block in sorted_blocks:
        futures = [
            client.submit(_tally_of_named, os.fspath(one), work.options, block[0], work.stride,
                          pure=False)
            for one in work.given
        ]  # fmt: skip
        waiting.append((block, futures))
        if len(waiting) >= limit:
            done, found = waiting.popleft()
            yield done, client.gather(found)
    for done, found in waiting:
        yield done, client.gather(found)


def _sorted(work: _Work, block: Sequence[Entry]) -> Block:
    used: list[Entry] = []
    left_out: list[Entry] = []
    for entry in block:
        if entry.frame is not None:
            frame = entry.frame
            reason = next(filter(None, (model.refuses(frame) for model in work.models)), "")
            entry = replace(entry, frame=None, reason=reason) if reason else entry  # noqa: PLW2901
        (left_out if entry.frame is None else used).append(entry)
    return used, left_out


def _tally_of_named(
    name: str, options: AnalysisOptions, entries: list[Entry], stride: int
) -> tuple[MoleculeTally, CloseLook]:
    return _tally(_model(name, options), entries, stride)


def _tally(
    model: ExplainedModel, entries: list[Entry], stride: int
) -> tuple[MoleculeTally, CloseLook]:
    """Return the sums over a block of entries."""
    tally, close = MoleculeTally(model.cutoff), CloseLook(model.reach)
    # Molecules of like size together; the order within a block does not change sums in bins.
    entries = sorted(entries, key=_size)
    frames = [entry.frame for entry in entries if entry.frame is not None]
    for part in batches(frames):
        tally.add(model.explain(frames[part]), entries[part])
        if model.guard is not None:
            tally.add_guard([model.guard_action(frame) for frame in frames[part]], frames[part])
    wiberg = has_xtb()
    for entry in entries:
        if stride and entry.index % stride == 0 and entry.frame is not None:
            close.add(model, entry.frame, entry.index, wiberg)
    return tally, close


def _size(entry: Entry) -> int:
    frame: Frame | None = entry.frame
    return 0 if frame is None else frame.n_atoms


def _make(folder: Path) -> None:
    """Make the folder of an analysis; AnalyseError where it cannot be, or holds something else."""
    page, ours = folder / REPORT, (folder / SUMS, folder / TOML)
    if (folder / HEADER).is_file() or (page.is_file() and not any(f.is_file() for f in ours)):
        raise AnalyseError(
            f"{folder} holds the page of something else, which that of the analysis would replace; "
            "choose another folder"
        )
    try:
        make_folder(folder)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise AnalyseError(
            f"{folder} cannot be written to as a folder: {error.strerror}; choose another one"
        ) from error


class _Sums:
    """What an analysis has summed so far, in memory and in its folder."""

    def __init__(self, work: _Work, folder: Path | None) -> None:
        self._work, self._folder = work, folder
        self._identity = work.identity()
        self.n_read = self._n_used = 0
        self._left_out: dict[str, LeftOut] = {}
        self._tallies: Tallies = [
            (MoleculeTally(model.cutoff), CloseLook(model.reach)) for model in work.models
        ]

    @classmethod
    def start(cls, work: _Work, path: str | os.PathLike[str] | None) -> _Sums:
        """Return empty sums, or those that a folder holds."""
        if path is None:
            return cls(work, None)
        folder = Path(path).expanduser()
        _make(folder)
        self = cls(work, folder)
        if (folder / SUMS).is_file():
            self._restore()
        return self

    def take(self, block: Block, found: Tallies) -> None:
        """Add the sums over a block."""
        used, left_out = block
        for (tally, close), (more, closer) in zip(self._tallies, found, strict=True):
            tally.merge(more)
            close.merge(closer)
        for entry in left_out:
            held = self._left_out.get(entry.reason, LeftOut(entry.reason, 0, ()))
            self._left_out[entry.reason] = held.and_entry(entry.index)
        self.n_read += len(used) + len(left_out)
        self._n_used += len(used)

    def save(self) -> None:
        """Write the sums into the folder, completely or not at all."""
        if self._folder is None:
            return
        meta = self._identity | {
            "n_read": self.n_read, "n_used": self._n_used,
            "left_out": [asdict(one) for one in self._left_out.values()],
        }  # fmt: skip
        arrays = {"meta": np.array(json.dumps(meta))}
        for k, (tally, close) in enumerate(self._tallies):
            arrays |= {f"tally{k}/{key}": a for key, a in tally.state().items()}
            arrays |= {f"close{k}/{key}": a for key, a in close.state().items()}
        content = BytesIO()
        np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
        write_file(self._folder / SUMS, content.getvalue())

    def _restore(self) -> None:
        assert self._folder is not None
        file = self._folder / SUMS
        try:
            with np.load(file, allow_pickle=False) as held:
                arrays = dict(held)
            meta = json.loads(str(arrays["meta"]))
        except Exception as error:  # a file that is no npz can raise any
            raise AnalyseError(
                f"{file} is damaged, or is no sums of an analysis: {one_line(error)}; remove it to "
                "begin anew"
            ) from error
        changed = [key for key, value in self._identity.items() if meta.get(key) != value]
        if changed:
            raise AnalyseError(
                f"{file} holds an analysis with other {', '.join(changed)}; choose another folder, "
                "or remove it"
            )
        self.n_read, self._n_used = meta["n_read"], meta["n_used"]
        for one in meta["left_out"]:
            self._left_out[one["reason"]] = LeftOut(
                one["reason"], one["count"], tuple(one["first"])
            )

        def part(prefix: str) -> dict[str, Any]:
            return {k.split("/", 1)[1]: v for k, v in arrays.items() if k.startswith(prefix)}

        self._tallies = [
            (MoleculeTally.from_state(part(f"tally{k}/")), CloseLook.from_state(part(f"close{k}/")))
            for k in range(len(self._work.models))
        ]

    def result(self) -> Analysis:
        """Return the analysis."""
        if not self._n_used:
            reasons = "; ".join(f"{o.count} {o.reason}" for o in self._left_out.values())
            raise AnalyseError(
                f"{self._work.data.path} holds no molecule that can be analysed: "
                f"{reasons or 'no entry'}"
            )
        return Analysis(
            self._identity, self.n_read, self._n_used, tuple(self._left_out.values()),
            tuple(self._tallies),
        )  # fmt: skip
