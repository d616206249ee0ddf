"""Compare many runs: which deviations go with instability, and what they add."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mdxai.study.run_outcome import AssociationError, Outcome, read_outcomes
from mdxai.study.survival.covariates import features
from mdxai.study.survival.estimators import hazard_ratios, kaplan_meier, log_rank
from mdxai.study.survival.incremental_value import added_value
from mdxai.study.survival.lags import lag_table
from mdxai.study.survival.ranks import Landmark, landmark_of, landmark_table
from mdxai.study.survival.survival_settings import (
    FEW_MODELS,
    AssociationSettings,
    lifelines_module,
    require_comparable,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLES = ("runs", "kaplan_meier", "log_rank", "hazard_ratios", "landmark", "lags", "added")


@dataclass(frozen=True, slots=True)
class Association:
    """What many runs say about deviations and instability.

    Attributes:
        settings: how the runs were compared; `landmark` and `horizon` as they were used.
        outcomes: the runs.
        runs: a row per run: model, temperature, end, traits, means over the landmark window.
        kaplan_meier, log_rank, hazard_ratios: see `mdxai.study.survival.estimators`.
        landmark: see `mdxai.study.survival.ranks.landmark_table`; empty with a note if there is none.
        lags: see `mdxai.study.survival.lags.lag_table`.
        added: see `mdxai.study.survival.incremental_value.added_value`.
        left_out: runs that could not be used, with reasons.
        notes: what limits the numbers.
    """

    settings: AssociationSettings
    outcomes: tuple[Outcome, ...]
    runs: pd.DataFrame
    kaplan_meier: pd.DataFrame
    log_rank: pd.DataFrame
    hazard_ratios: pd.DataFrame
    landmark: pd.DataFrame
    lags: pd.DataFrame
    added: pd.DataFrame
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> pd.DataFrame:
        """The main table: hazard ratio, landmark concordance and added value per predictor."""
        table = self.hazard_ratios[
            ["predictor", "kind", "hazard_ratio", "lower", "upper", "p", "q",
             "events", "runs", "models", "models_with_event", "problem"]
        ]  # fmt: skip
        for other, columns in (
            (self.landmark, ["concordance", "concordance_lower", "concordance_upper", "auroc"]),
            (self.added, ["gain", "gain_lower", "gain_upper", "adds"]),
        ):
            if len(other):
                table = table.merge(other[["predictor", *columns]], on="predictor", how="left")
        return table.sort_values(["q", "p", "predictor"], ignore_index=True)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON: settings, notes, and every table as a list of rows, NaN as null."""
        tables = {name: _plain_rows(getattr(self, name)) for name in ("summary", *TABLES)}
        return {
            "settings": asdict(self.settings), "notes": list(self.notes),
            "left_out": dict(self.left_out), **tables,
        }  # fmt: skip

    def figures(self) -> dict[str, Figure]:
        """Return the figures by file name."""
        from mdxai.study.survival.survival_figures import association_figures

        return association_figures(self)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write every table as CSV, the figures as PNG and a page, README.md; return the page.

        Raises:
            AssociationError: when the folder cannot be written.
        """
        from mdxai.study.survival.survival_page import page_of

        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name in TABLES:
                getattr(self, name).to_csv(target / f"{name}.csv", index=False)
            figures = self.figures()
            for name, figure in figures.items():
                figure.savefig(target / f"{name}.png", dpi=120)
            page = target / "README.md"
            page.write_text(page_of(self, list(figures)), encoding="utf-8")
        except OSError as error:
            raise AssociationError(f"cannot write to {target}: {error}") from error
        return page


def associate(
    runs: str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Outcome], **settings: Any
) -> Association:
    """Measure how deviations go with instability over many runs.

    Args:
        runs: run directories, folders that hold such at any depth, or outcomes.
        **settings: of `mdxai.study.survival.AssociationSettings`, such as lag=200.

    Raises:
        AssociationError: for fewer than three runs, none unstable, settings that make no sense, or
            without lifelines.
    """
    unknown = sorted(settings.keys() - AssociationSettings.__dataclass_fields__.keys())
    if unknown:
        raise AssociationError(
            f"there is no setting {unknown[0]!r}; expected "
            f"{', '.join(AssociationSettings.__dataclass_fields__)}"
        )
    chosen = AssociationSettings(**settings)
    lifelines_module()
    outcomes, left_out = _outcomes(runs, chosen)
    require_comparable(outcomes)
    return _compare(outcomes, left_out, chosen)


def _outcomes(runs: Any, chosen: AssociationSettings) -> tuple[list[Outcome], dict[str, str]]:
    given = [runs] if isinstance(runs, str | os.PathLike) else list(runs)
    made = [r for r in given if isinstance(r, Outcome)]
    paths = [r for r in given if not isinstance(r, Outcome)]
    if not paths:
        return made, {}
    read, left_out = read_outcomes(paths, onset=chosen.onset, bin_width=chosen.bin_width)
    return [*made, *read], left_out


def _compare(
    outcomes: Sequence[Outcome], left_out: dict[str, str], chosen: AssociationSettings
) -> Association:
    outcomes = sorted(outcomes, key=lambda o: (o.molecule, o.temperature, o.model, o.run))
    chosen = AssociationSettings(
        **asdict(chosen)
        | {"landmark": chosen.landmark_of(outcomes), "horizon": chosen.horizon_of(outcomes)}
    )
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
        runs=_runs_table(outcomes, chosen),
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
            "models are left empty, and nothing here says how it is with other models."
        )
    if len(broken) < FEW_MODELS:
        notes.append(
            f"Only {len(broken)} of {len(models)} models have an unstable run: numbers are given, "
            "no claim is made."
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
        f"{int(landmark.unstable.sum())} of them break later; left out are "
        f"{landmark.broken_before} that broke before and {landmark.ended_before} that ended before."
    ]


def _runs_table(outcomes: Sequence[Outcome], chosen: AssociationSettings) -> pd.DataFrame:
    from mdxai.study.survival.covariates import landmark_means

    assert chosen.landmark is not None
    columns: dict[str, Any] = {
        name: [getattr(o, name) for o in outcomes]
        for name in ("run", "model", "molecule", "temperature", "end", "unstable")
    }
    columns = {("end_fs" if key == "end" else key): v for key, v in columns.items()}
    kinds = features(outcomes)
    for name in (n for n, kind in kinds.items() if kind != "relevance"):
        columns[name] = landmark_means(outcomes, name, chosen.landmark)
    return pd.DataFrame(columns)


def _plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_dict(orient="records")
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    finite = not isinstance(value, float) or abs(value) < float("inf")
    return value if finite else None
