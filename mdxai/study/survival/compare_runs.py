"""Compare many runs: which deviations go with instability, and what they add."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from mdxai.study.run_outcome import AssociationError, Outcome, read_outcomes
from mdxai.study.survival.association import FEW_MODELS, Association, AssociationSettings
from mdxai.study.survival.covariates import features, landmark_means
from mdxai.study.survival.estimators import (
    hazard_ratios,
    kaplan_meier,
    log_rank,
    require_lifelines,
)
from mdxai.study.survival.incremental_value import added_value
from mdxai.study.survival.lags import lag_table
from mdxai.study.survival.ranks import Landmark, landmark_of, landmark_table


def associate(
    runs: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Outcome], **settings: Any
) -> Association:
    """Measure how deviations go with instability over many runs.

    Args:
        runs: run directories, folders that hold run directories at any depth, or outcomes.
        **settings: of `mdxai.study.survival.AssociationSettings`, such as lag=200.

    Raises:
        AssociationError: for fewer than three runs, none of them unstable, settings that make no
            sense, or where lifelines is not installed.
    """
    unknown = sorted(settings.keys() - AssociationSettings.__dataclass_fields__.keys())
    if unknown:
        raise AssociationError(
            f"there is no setting {unknown[0]!r}; expected "
            f"{', '.join(AssociationSettings.__dataclass_fields__)}"
        )
    chosen = AssociationSettings(**settings)
    require_lifelines()
    outcomes, left_out = _outcomes(runs, chosen)
    _require_comparable(outcomes)
    return _compare(outcomes, left_out, chosen)


def _outcomes(runs: Any, chosen: AssociationSettings) -> tuple[list[Outcome], dict[str, str]]:
    given = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    made = [r for r in given if isinstance(r, Outcome)]
    paths = [r for r in given if not isinstance(r, Outcome)]
    if not paths:
        return made, {}
    read, left_out = read_outcomes(paths, onset=chosen.onset, bin_width=chosen.bin_width)
    return [*made, *read], left_out


def _require_comparable(outcomes: Sequence[Outcome]) -> None:
    """Refuse runs from which nothing can be learned.

    Raises:
        AssociationError: for fewer than three runs, two of the same name, or none unstable.
    """
    if len(outcomes) < 3:
        raise AssociationError(
            f"a comparison needs at least 3 runs, got {len(outcomes)}; give more run directories"
        )
    names = [o.run for o in outcomes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AssociationError(f"runs must have different names; {twice[0]!r} is used twice")
    if not any(o.unstable for o in outcomes):
        raise AssociationError(
            f"none of {len(outcomes)} runs is unstable, so nothing can be associated with "
            "instability; run longer, hotter, or weaker models"
        )


def _compare(
    outcomes: Sequence[Outcome], left_out: dict[str, str], chosen: AssociationSettings
) -> Association:
    outcomes = sorted(outcomes, key=lambda o: (o.molecule, o.temperature, o.model, o.run))
    window = chosen.landmark_of(outcomes)
    chosen = replace(chosen, landmark=window, horizon=chosen.horizon_of(outcomes))
    notes = _limits(outcomes, left_out)
    landmark_rows, added_rows = pd.DataFrame(), pd.DataFrame()
    try:
        landmark = landmark_of(outcomes, chosen)
    except AssociationError as error:
        notes.append(f"No landmark analysis: {error}.")
    else:
        notes += _limits_of_landmark(landmark)
        landmark_rows = landmark_table(landmark, chosen)
        added_rows = added_value(landmark, chosen)
    several = len({o.network for o in outcomes}) > 1
    groups = [
        f"{o.molecule}, {o.temperature:g} K" + (f", {o.network}" if several else "")
        for o in outcomes
    ]
    return Association(
        settings=chosen,
        outcomes=tuple(outcomes),
        runs=_runs_table(outcomes, window),
        kaplan_meier=kaplan_meier(outcomes, groups, chosen),
        log_rank=log_rank(outcomes, chosen),
        hazard_ratios=hazard_ratios(outcomes, chosen),
        landmark=landmark_rows,
        lags=lag_table(outcomes, chosen),
        added=added_rows,
        left_out=left_out,
        notes=tuple(notes),
    )


def _limits(outcomes: Sequence[Outcome], left_out: dict[str, str]) -> list[str]:
    models = {(o.molecule, o.model) for o in outcomes}
    broken = {(o.molecule, o.model) for o in outcomes if o.unstable}
    notes = []
    if len(models) == 1:
        notes.append(
            "All runs are of one model: models cannot be resampled, so intervals and p-values over "
            "models are left empty, and nothing here carries over to other models."
        )
    if len(broken) < FEW_MODELS:
        notes.append(
            f"Only {len(broken)} of {len(models)} models have an unstable run: numbers are given, "
            "but no claim."
        )
    if len({o.temperature for o in outcomes}) == len(outcomes):
        notes.append("No two runs have the same temperature: nothing can be compared within one.")
    if left_out:
        notes.append(f"{len(left_out)} runs are left out: " + "; ".join(
            f"{run} ({why})" for run, why in left_out.items()) + ".")  # fmt: skip
    return notes


def _limits_of_landmark(landmark: Landmark) -> list[str]:
    return [
        f"Landmark: {len(landmark.outcomes)} runs outlast {landmark.window:g} fs, "
        f"{int(landmark.unstable.sum())} of them break later. Left out: "
        f"{landmark.broken_before} that broke before it and {landmark.ended_before} that ended "
        "before it."
    ]


def _runs_table(outcomes: Sequence[Outcome], window: float) -> pd.DataFrame:
    columns: dict[str, Any] = {
        name: [getattr(o, name) for o in outcomes]
        for name in ("run", "model", "molecule", "temperature", "end", "unstable")
    }
    columns = {("end_fs" if key == "end" else key): v for key, v in columns.items()}
    for name in (n for n, kind in features(outcomes).items() if kind != "relevance"):
        columns[name] = landmark_means(outcomes, name, window)
    return pd.DataFrame(columns)
