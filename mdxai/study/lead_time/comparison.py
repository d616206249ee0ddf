"""The whole comparison of detectors: tables by model and by molecule, and a calibration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mdxai.early_warning import Calibration, CalibrationError
from mdxai.study.lead_time.alarms import Watching, with_profiles
from mdxai.study.lead_time.calibrate import calibrate
from mdxai.study.lead_time.lead_summary import summarise
from mdxai.study.lead_time.lead_times import RATES, Split, lead_times
from mdxai.study.run_outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Comparison:
    """How early detectors warn, held out, and thresholds from all runs together.

    Attributes:
        rows: by what was held out together ("model" or "molecule"), as `lead_times` returns them.
        tables: likewise, as `summarise` returns them.
        left_out: what could not be held out, with the reason.
        calibration: of the candidate with the longest median lead time at the main rate.
    """

    rows: dict[str, pd.DataFrame]
    tables: dict[str, pd.DataFrame]
    calibration: Calibration
    left_out: dict[str, str] = field(default_factory=dict)

    def write(self, out: str | os.PathLike[str]) -> list[Path]:
        """Write tables (CSV), rows (Parquet) and calibration.toml; return the files.

        Raises:
            CalibrationError: where the folder cannot be written to.
        """
        folder = Path(out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            written = [folder / "calibration.toml"]
            self.calibration.save(written[0])
            for split, table in self.tables.items():
                written += [folder / f"by_{split}.csv", folder / f"by_{split}_runs.parquet"]
                table.to_csv(written[-2], index=False, float_format="%.6g")
                self.rows[split].to_parquet(written[-1], index=False)
        except OSError as error:
            raise CalibrationError(f"cannot write to {folder}: {error}") from error
        return written


def compare_detectors(
    outcomes: Sequence[Outcome],
    rates: Sequence[float] = RATES,
    watching: Watching | None = None,
    *,
    main_rate: float | None = None,
) -> Comparison:
    """Judge all detectors held out, by model and by molecule, and calibrate the best.

    Args:
        outcomes: labelled runs.
        rates: false alarms per ns; those that the runs do not support are left out.
        watching: how series are watched.
        main_rate: at which the best is chosen for the calibration; by default, and where the runs
            do not support it, the middle one.

    Raises:
        CalibrationError: without two models, unstable runs, or a rate that is supported.
    """
    watching = watching or Watching()
    outcomes = with_profiles(outcomes, watching.profile)
    rows: dict[str, pd.DataFrame] = {}
    left_out: dict[str, str] = {}
    for split in get_args(Split):
        try:
            rows[split] = lead_times(outcomes, rates, split=split, watching=watching)
        except CalibrationError as error:
            if split == "model":
                raise
            left_out[split] = str(error)
    supported = sorted(rows["model"]["alarms_per_ns"].unique().tolist())
    tables = {split: summarise(found) for split, found in rows.items()}
    chosen_at = main_rate if main_rate in supported else None
    calibration = calibrate(outcomes, supported, chosen_at=chosen_at, watching=watching)
    return Comparison(rows, tables, calibration, left_out)
