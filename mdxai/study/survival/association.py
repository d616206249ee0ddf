"""What a comparison of many runs is asked, and what it finds: settings and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mdxai.study.run_outcome import BIN_WIDTH, AssociationError, Outcome

LANDMARK = 500.0  # fs
FEW_MODELS = 5  # models with an onset, below which a number is given without a claim
TABLES = ("runs", "kaplan_meier", "log_rank", "hazard_ratios", "landmark", "lags", "added")


@dataclass(frozen=True, slots=True)
class AssociationSettings:
    """How runs are compared.

    Attributes:
        onset: "verdict", or the one principle whose `unstable` threshold counts.
        lag: fs before the onset at which Cox regressions read the deviations, so that a symptom of
            the onset is not mistaken for its cause.
        lags: fs, at which the time-dependent AUROC is given.
        landmark: fs from the start over which deviations are averaged to predict what comes after;
            by default 500 fs, or a tenth of the horizon where that is shorter.
        horizon: fs at which an AUROC asks whether a run is still stable; by default the longest
            time that nine of ten censored runs were followed for.
        bin_width: of distance bins of relevance, Å.
        resamples: number of bootstrap samples, and of permutations.
        seed: of both.
    """

    onset: str = "verdict"
    lag: float = 100.0
    lags: tuple[float, ...] = (20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
    landmark: float | None = None
    horizon: float | None = None
    bin_width: float = BIN_WIDTH
    resamples: int = 1000
    seed: int = 1

    def __post_init__(self) -> None:
        """Check every number.

        Raises:
            AssociationError: naming the setting, what was given and what was expected.
        """
        for name in ("landmark", "horizon"):
            value = getattr(self, name)
            if value is not None and not (0 < value < np.inf):
                raise AssociationError(f"{name} must be positive and finite, in fs; got {value}")
        for value in (self.lag, *self.lags):
            if not (0 < value < np.inf):
                raise AssociationError(f"lags must be positive and finite, in fs; got {value}")
        if self.resamples < 100:
            raise AssociationError(f"resamples must be at least 100, got {self.resamples}")

    def horizon_of(self, outcomes: Sequence[Outcome]) -> float:
        """Return the horizon that was given, or that of these runs, fs."""
        if self.horizon is not None:
            return self.horizon
        censored = [o.end for o in outcomes if not o.unstable]
        if censored:
            return float(np.quantile(censored, 0.1, method="lower"))
        return float(np.median([o.end for o in outcomes]))

    def landmark_of(self, outcomes: Sequence[Outcome]) -> float:
        """Return the landmark that was given, or that of these runs, fs."""
        if self.landmark is not None:
            return self.landmark
        return min(LANDMARK, 0.1 * self.horizon_of(outcomes))


@dataclass(frozen=True, slots=True)
class Association:
    """What many runs say about deviations and instability.

    `mdxai.study.survival.write_association` writes it: tables, figures and a page. The column
    `kind` of a table is `mdxai.study.run_series.kind_of_series` of the predictor, or "trait".

    Attributes:
        settings: how the runs were compared; `landmark` and `horizon` as they were used.
        outcomes: the runs.
        runs: a row per run: model, temperature, end, traits, means over the landmark window.
        kaplan_meier, log_rank, hazard_ratios: see `mdxai.study.survival.estimators`.
        landmark: see `mdxai.study.survival.ranks.landmark_table`; empty, with a note, where it is
            not possible.
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


def _plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_dict(orient="records")
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    finite = not isinstance(value, float) or abs(value) < float("inf")
    return value if finite else None
