"""What an association looks at, and errors of one that makes no sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mdxai.study.run_outcome import BIN_WIDTH, AssociationError, Outcome

LANDMARK = 500.0  # fs
FEW_MODELS = 5  # models with an onset, below which a number is given without a claim


@dataclass(frozen=True, slots=True)
class AssociationSettings:
    """How runs are compared.

    Attributes:
        onset: "verdict", or a principle whose `unstable` threshold alone counts.
        lag: fs by which deviations enter Cox regressions before the onset, so that what happens at
            the onset itself is not taken for its cause.
        lags: fs, at which the time-dependent AUROC is given.
        landmark: fs from the start, over which deviations are averaged to predict what comes after;
            by default 500 fs, or a tenth of the horizon where that is shorter.
        horizon: fs, up to which a run counts as stable or not in an AUROC; by default the longest
            time that nine of ten censored runs were followed for.
        bin_width: of distance bins of relevance, Å.
        resamples: bootstrap samples and permutations.
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


def require_comparable(outcomes: Sequence[Outcome]) -> None:
    """Refuse runs that nothing can be learned from.

    Raises:
        AssociationError: for fewer than three runs, two of the same name, or none unstable.
    """
    if len(outcomes) < 3:
        raise AssociationError(
            f"an association needs at least 3 runs, got {len(outcomes)}; give more run directories"
        )
    names = [o.run for o in outcomes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AssociationError(f"runs must have different names; {twice[0]!r} stands there twice")
    if not any(o.unstable for o in outcomes):
        raise AssociationError(
            f"none of {len(outcomes)} runs is unstable, so nothing can be associated with "
            "instability; run longer, hotter, or weaker models"
        )


def lifelines_module() -> object:
    """Import lifelines.

    Raises:
        AssociationError: where it is not installed.
    """
    try:
        import lifelines
    except ImportError as error:
        raise AssociationError(
            'associating runs needs lifelines: pip install "mdxai[study]"'
        ) from error
    return lifelines
