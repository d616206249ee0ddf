"""Warnings before a run breaks, at a stated rate of false alarms."""

from mdxai.early_warning.calibration import (
    Calibration,
    CalibrationError,
    History,
    Level,
    Rate,
    Watch,
    load_calibration,
)
from mdxai.early_warning.profiles import ProfileChange, ProfileSettings
from mdxai.early_warning.watching import (
    PLAIN,
    PROFILES,
    CalibrationMismatch,
    EarlyWarning,
    EarlyWarningIssued,
    EarlyWarnings,
)

__all__ = [
    "PLAIN",
    "PROFILES",
    "Calibration",
    "CalibrationError",
    "CalibrationMismatch",
    "EarlyWarning",
    "EarlyWarningIssued",
    "EarlyWarnings",
    "History",
    "Level",
    "ProfileChange",
    "ProfileSettings",
    "Rate",
    "Watch",
    "load_calibration",
]
