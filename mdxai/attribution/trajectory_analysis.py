"""Explains the frames of a trajectory as an MDAnalysis analysis, serial or in parallel."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np
from MDAnalysis.analysis.base import AnalysisBase
from MDAnalysis.analysis.results import ResultsGroup

from mdxai.attribution import Attribution, attributor
from mdxai.calculators import load_calculator
from mdxai.engines.mdanalysis_frames import FrameMaker
from mdxai.errors import MdxaiError
from mdxai.frame import Floats
from mdxai.statistics import BinnedMoments, profile_moments


class AnalysisError(MdxaiError, ValueError):
    """An analysis that has no frames to work on."""


class AttributionAnalysis(AnalysisBase):  # type: ignore[misc]
    """Explains frames of a trajectory: serial, or with backend="multiprocessing" or "dask".

        analysis = AttributionAnalysis(universe, "painn-ethanol").run(step=10)
        analysis.results.pairs, analysis.results.two_body  # (n_pairs, 2), (n_frames, n_pairs) eV

    Args:
        atoms: an MDAnalysis universe, or the group of its atoms that the calculator is for.
        calculator: name or path for `load_calculator`, loaded by each worker, or an object that can
            be pickled.
        gamma: γ of the rule.
        body_order: highest order resolved, 1 to 3.
        method: "auto", "walks" or "flow".
        load: keyword arguments of `load_calculator`.
        verbose: show MDAnalysis' progress bar.

    Attributes:
        results: after `run`. pairs: (n_pairs, 2), every pair of atoms that was explained in at
            least one frame, i < j. two_body: (n_frames, n_pairs), eV, exactly-two-body relevance,
            or flow beyond 200 atoms; 0 if a pair was beyond the cutoff. distances: (n_frames,
            n_pairs), Å, NaN if so. by_body_order: (n_frames, n_orders + 1), eV. residual:
            (n_frames,), eV. times: (n_frames,), ps. profile: `BinnedMoments` of |two_body| per
            element pair. method: "walks" or "flow".

    Raises:
        CalculatorError, AttributionError: for a calculator that cannot be loaded or explained.
        TrajectoryError: when the elements of the atoms are not known.
        AnalysisError: by `run`, when no frame is selected.
    """

    _analysis_algorithm_is_parallelizable = True

    @classmethod
    def get_supported_backends(cls) -> tuple[str, ...]:
        """Return the names of the backends, all of which are supported."""
        return ("serial", "multiprocessing", "dask")

    def __init__(  # noqa: PLR0913 (one argument per choice)
        self,
        atoms: Any,
        calculator: Any,
        *,
        gamma: float = 0.1,
        body_order: int = 2,
        method: str = "auto",
        load: dict[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        group = getattr(atoms, "atoms", atoms)
        super().__init__(group.universe.trajectory, verbose=verbose)
        self._maker = FrameMaker(group)
        by_name = isinstance(calculator, str | os.PathLike)
        self._calculator = os.fspath(calculator) if by_name else calculator
        self._load = tuple(sorted((load or {}).items()))
        self._options = (("gamma", gamma), ("body_order", body_order), ("method", method))
        self._explainer()  # an unsuitable calculator raises here rather than in a worker

    def _explainer(self) -> Any:
        choices = dict(self._options)
        if isinstance(self._calculator, str):
            return _loaded(self._calculator, self._load, self._options)
        if "_own" not in self.__dict__:
            self._own = attributor(self._calculator, **choices)  # type: ignore[arg-type]
        return self._own

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_own"}

    def _prepare(self) -> None:
        self.results.explained = []
        self.results.when = []

    def _single_frame(self) -> None:
        frame = self._maker.frame(self._ts)
        self.results.explained.append(self._explainer().attribute(frame))
        self.results.when.append(float(self._ts.time))

    def _get_aggregator(self) -> ResultsGroup:
        flatten = ResultsGroup.flatten_sequence
        return ResultsGroup(lookup={"explained": flatten, "when": flatten})

    def _conclude(self) -> None:
        found: list[Attribution] = self.results.explained
        if not found:
            raise AnalysisError("no frame was selected, so there is nothing to explain")
        pairs, two_body, distances = _aligned(found, len(self._maker.numbers))
        self.results.times = np.array(self.results.when)
        del self.results.explained, self.results.when
        self.results.pairs, self.results.two_body = pairs, two_body
        self.results.distances = distances
        self.results.by_body_order = np.array([a.by_body_order for a in found])
        self.results.residual = np.array([a.residual for a in found])
        self.results.method = found[0].method
        self.results.profile = self._profile(found)

    def _profile(self, found: list[Attribution]) -> BinnedMoments | None:
        longest = max((float(a.pairs.distances.max(initial=0.0)) for a in found), default=0.0)
        cutoff = getattr(getattr(self._calculator, "card", None), "cutoff", None)
        if cutoff is None and isinstance(self._calculator, str):
            cutoff = _cutoff(self._calculator, self._load)
        moments = profile_moments(self._maker.numbers, cutoff or longest)
        if moments is not None:
            for attribution in found:
                moments.update(*attribution.profile.samples)
        return moments


@lru_cache(maxsize=4)
def _calculator(name: str, load: tuple[tuple[str, Any], ...]) -> Any:
    return load_calculator(name, **dict(load))


@lru_cache(maxsize=4)  # a worker process explains many frames
def _loaded(name: str, load: Any, choices: Any) -> Any:
    return attributor(_calculator(name, load), **dict(choices))


def _cutoff(name: str, load: tuple[tuple[str, Any], ...]) -> float:
    """Return the cutoff (Å) of a calculator by name."""
    return float(_calculator(name, load).card.cutoff)


def _aligned(found: list[Attribution], n_atoms: int) -> tuple[Any, Floats, Floats]:
    """Return pairs (n_pairs, 2) and, per frame, their relevance and shortest distance."""
    keys = [a.pairs.i * n_atoms + a.pairs.j for a in found]
    every = np.unique(np.concatenate(keys))
    strengths = np.zeros((len(found), len(every)))
    distances = np.full((len(found), len(every)), np.inf)
    for row, (a, key) in enumerate(zip(found, keys, strict=True)):
        column = np.searchsorted(every, key)
        np.add.at(strengths[row], column, a.strengths)  # a flow may have several images
        np.minimum.at(distances[row], column, a.pairs.distances)
    pairs = np.stack([every // n_atoms, every % n_atoms], axis=1)
    return pairs, strengths, np.where(np.isfinite(distances), distances, np.nan)
