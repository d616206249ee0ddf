"""How early do detectors warn of a break, at the same rate of false alarms, held out?

Candidates are every series under every detector, "any GROUP" (an alarm of any series of a group)
and "best GROUP" (the candidate of a group that is best on the training folds). Each is judged on
models or molecules that neither its threshold nor its choice has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mdxai.early_warning import CalibrationError
from mdxai.frame import Bools, Floats
from mdxai.study.lead_time.alarms import (
    AnyAlarm,
    FirstAlarms,
    Streams,
    Watching,
    threshold_for,
    with_profiles,
)
from mdxai.study.run_outcome import Outcome
from mdxai.study.run_series import kind_of_series

if TYPE_CHECKING:
    import pandas as pd

Split = Literal["model", "molecule"]
Candidate = tuple[str, str]  # series or group, detector
EVERYTHING = "everything"  # all groups together
PLAIN_OR_MOTION = "plain or motion"
AS_CHOSEN = "as chosen"  # detector of the best of a group
RATES = (5.0, 10.0, 20.0, 50.0)  # false alarms per ns


def group_of(series: str) -> str:
    """Return the group of series among which the best detector is chosen: the kind of the series.

    Motion principles and plain predictors form one group: a motion principle beyond its limit is
    what the onset is, so neither needs an explanation.
    """
    kind = kind_of_series(series)
    return PLAIN_OR_MOTION if kind in ("plain", "motion") else kind


@dataclass(frozen=True, slots=True)
class _Pool:
    """The runs of a comparison, as arrays."""

    outcomes: Sequence[Outcome]
    ends: Floats
    unstable: Bools

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> _Pool:
        ends = np.array([outcome.end for outcome in outcomes])
        return cls(outcomes, ends, np.array([outcome.unstable for outcome in outcomes]))

    def leads(self, first: Floats) -> Floats:
        """Time from the first alarm to the end of each run; 0 where it did not come before."""
        leads: Floats = np.where(first < self.ends, self.ends - first, 0.0)
        return leads

    def merit(self, first: Floats, rows: Bools) -> tuple[float, float, float]:
        """Median lead time of the unstable runs, 0 where missed; share not missed; mean."""
        leads = self.leads(first)[rows & self.unstable]
        if not len(leads):
            return 0.0, 0.0, 0.0
        return float(np.median(leads)), float(np.mean(leads > 0)), float(leads.mean())


class Detectors:
    """All series of some runs under all detectors.

    Args:
        outcomes: labelled runs; those that have profiles' bins must have passed `with_profiles`.
        watching: how series are watched.
        groups: group of a series by its name.
    """

    def __init__(
        self,
        outcomes: Sequence[Outcome],
        watching: Watching,
        groups: Callable[[str], str] = group_of,
    ) -> None:
        names = sorted({name for outcome in outcomes for name in outcome.series})
        streams = {name: Streams(outcomes, name, watching) for name in names}
        self.streams = {name: s for name, s in streams.items() if s.every > 0}
        self.watching = watching
        self.pool = _Pool.of(outcomes)
        self.groups: dict[str, list[str]] = {}
        for name in self.streams:
            self.groups.setdefault(groups(name), []).append(name)
        if len(self.groups) > 1:
            self.groups[EVERYTHING] = list(self.streams)
        self._own: dict[Candidate, FirstAlarms] = {}

    def pooled(self, series: str) -> bool:
        """Whether its level comes from stable runs together, not from each run itself."""
        return self.watching.pooled or self.streams[series].silent

    def singles(self, training: Bools) -> dict[Candidate, FirstAlarms]:
        """Return the first alarms of every series under every detector.

        Args:
            training: (n_runs,) runs whose stable ones may teach levels.
        """
        found: dict[Candidate, FirstAlarms] = {}
        stable = training & ~self.pool.unstable
        for series, streams in self.streams.items():
            level = streams.level(stable) if self.pooled(series) else None
            for label in self.watching.detectors:
                key = (series, label)
                if level is not None:
                    found[key] = streams.alarms(label, level)
                else:
                    if key not in self._own:
                        self._own[key] = streams.alarms(label)
                    found[key] = self._own[key]
        return {key: alarms for key, alarms in found.items() if np.isfinite(alarms.start).any()}

    def unions(
        self, singles: Mapping[Candidate, FirstAlarms], thresholds: Mapping[Candidate, float]
    ) -> dict[Candidate, FirstAlarms]:
        """Return "any GROUP" for each group and detector, of series that have a threshold."""
        found: dict[Candidate, FirstAlarms] = {}
        for group, members in self.groups.items():
            for label in self.watching.detectors:
                keys = [(name, label) for name in members if (name, label) in thresholds]
                if len(keys) > 1:
                    parts = [singles[key] for key in keys]
                    found[f"any {group}", label] = AnyAlarm(parts, [thresholds[k] for k in keys])
        return found

    def kind_of(self, candidate: Candidate) -> str:
        """Return the kind of a candidate's series; for several series the name of their group."""
        name = candidate[0]
        if name in self.streams:
            group = next(g for g, members in self.groups.items() if name in members)
            return kind_of_series(name) if group == PLAIN_OR_MOTION else group
        return name.removeprefix("any ").removeprefix("best ")

    def in_group(self, candidate: Candidate, group: str) -> bool:
        """Whether a candidate draws on nothing but a group."""
        name = candidate[0]
        if name.startswith("any "):
            return group in (EVERYTHING, name.removeprefix("any "))
        return name in self.groups[group]


def lead_times(
    outcomes: Sequence[Outcome],
    rates: Sequence[float] = RATES,
    *,
    split: Split = "model",
    watching: Watching | None = None,
    groups: Callable[[str], str] = group_of,
) -> pd.DataFrame:
    """Return when each candidate first alarms in each run, held out.

    For every model (or molecule) in turn, thresholds are set on the others to each rate of false
    alarms, and the best candidate of each group is chosen: that with the longest median lead time
    over unstable training runs, 0 where missed (where equal, with the most runs warned of). All are
    then applied to the runs left out.

    Args:
        outcomes: labelled runs.
        rates: false alarms per ns; a rate that some fold's stable runs do not support is left out.
        split: what is held out together.
        watching: how series are watched.
        groups: group of a series by its name.

    Returns:
        A row per run, rate and candidate: run, model, molecule, temperature, unstable, end_fs,
        start_fs (of watching), alarms_per_ns, series, kind (of the series, or the group of
        several), detector, threshold, alarm_fs, lead_fs. NaN where there was none; lead_fs is 0
        where a break was missed.

    Raises:
        CalibrationError: without two models (molecules), unstable runs, or a rate that is
            supported.
    """
    import pandas as pd

    watching = watching or Watching()
    detectors = Detectors(with_profiles(outcomes, watching.profile), watching, groups)
    folds = _folds(outcomes, split)
    supported = [rate for rate in rates if not _refusals(detectors, folds, rate)]
    if not supported:
        raise CalibrationError(_refusals(detectors, folds, max(rates))[0])
    tables = []
    for _, held_out in folds:
        singles = detectors.singles(~held_out)
        for rate in supported:
            for candidate, threshold, alarms in _judged(detectors, singles, ~held_out, rate):
                tables.append(
                    _rows(detectors.pool, held_out, alarms, threshold).assign(
                        alarms_per_ns=rate,
                        series=candidate[0],
                        detector=candidate[1],
                        kind=detectors.kind_of(candidate),
                    )
                )
    return pd.concat(tables, ignore_index=True)


def _folds(outcomes: Sequence[Outcome], split: Split) -> list[tuple[str, Bools]]:
    groups = np.array([getattr(outcome, split) for outcome in outcomes])
    if len(set(groups)) < 2 or not any(outcome.unstable for outcome in outcomes):
        raise CalibrationError(
            f"lead times held out by {split} need runs of at least two, some of them unstable; "
            f"got {len(outcomes)} runs of {', '.join(sorted(set(groups))) or 'none'}"
        )
    return [(group, groups == group) for group in sorted(set(groups))]


def _refusals(detectors: Detectors, folds: Sequence[tuple[str, Bools]], rate: float) -> list[str]:
    """Return why a rate is not supported, by the fold that has the least stable time."""
    pool = detectors.pool
    watched = np.maximum(pool.ends - detectors.watching.baseline_fs, 0.0) * ~pool.unstable
    name, held_out = min(folds, key=lambda fold: float(watched[~fold[1]].sum()))
    time = float(watched[~held_out].sum()) / 1e6
    if rate * time >= 1:
        return []
    least = f"they support rates from {1 / time:.3g} on" if time > 0 else "they support none"
    return [
        f"without {name} there are {time:.3g} ns of stable runs, which do not support {rate:g} "
        f"false alarms per ns; {least}. Add stable runs, or ask for more alarms"
    ]


def _judged(
    detectors: Detectors,
    singles: Mapping[Candidate, FirstAlarms],
    training: Bools,
    rate: float,
) -> Iterator[tuple[Candidate, float, FirstAlarms]]:
    """Yield every candidate with its threshold, then the best of each group."""
    chosen = candidates(detectors, singles, training, rate)
    for candidate, (threshold, alarms) in chosen.items():
        yield candidate, threshold, alarms
    for group in detectors.groups:
        best = best_of(detectors, chosen, training, group)
        if best is not None:
            yield (f"best {group}", AS_CHOSEN), *chosen[best]


def candidates(
    detectors: Detectors,
    singles: Mapping[Candidate, FirstAlarms],
    training: Bools,
    rate: float,
) -> dict[Candidate, tuple[float, FirstAlarms]]:
    """Return threshold and first alarms of every candidate whose rate the training supports."""
    stable = training & ~detectors.pool.unstable
    found: dict[Candidate, tuple[float, FirstAlarms]] = {}
    for key, alarms in singles.items():
        _try(found, key, alarms, (detectors.pool.ends, stable, rate))
    thresholds = {key: threshold for key, (threshold, _) in found.items()}
    for key, alarms in detectors.unions(singles, thresholds).items():
        _try(found, key, alarms, (detectors.pool.ends, stable, rate))
    return found


def _try(
    found: dict[Candidate, tuple[float, FirstAlarms]],
    key: Candidate,
    alarms: FirstAlarms,
    given: tuple[Floats, Bools, float],
) -> None:
    try:
        found[key] = (threshold_for(alarms, *given)[0], alarms)
    except CalibrationError:  # measured in too few of the stable runs
        return


def best_of(
    detectors: Detectors,
    chosen: Mapping[Candidate, tuple[float, FirstAlarms]],
    training: Bools,
    group: str = EVERYTHING,
) -> Candidate | None:
    """Return the candidate of a group with the longest median lead time in training."""
    group = group if group in detectors.groups else next(iter(detectors.groups))
    merits = {
        key: detectors.pool.merit(alarms.at(threshold), training)
        for key, (threshold, alarms) in chosen.items()
        if detectors.in_group(key, group)
    }
    return max(merits, key=lambda key: merits[key], default=None)


def _rows(pool: _Pool, rows: Bools, alarms: FirstAlarms, threshold: float) -> pd.DataFrame:
    import pandas as pd

    first = alarms.at(threshold)
    here = [outcome for outcome, row in zip(pool.outcomes, rows, strict=True) if row]
    content: dict[str, Any] = {
        name: [getattr(outcome, name) for outcome in here]
        for name in ("run", "model", "molecule", "temperature", "unstable")
    }
    start = alarms.start[rows]
    content |= {
        "end_fs": pool.ends[rows],
        "start_fs": np.where(np.isfinite(start), start, np.nan),
        "threshold": threshold,
        "alarm_fs": np.where(np.isfinite(first[rows]), first[rows], np.nan),
        "lead_fs": np.where(pool.unstable[rows], pool.leads(first)[rows], np.nan),
    }
    return pd.DataFrame(content)
