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
from mdxai.early_warning.detectors import (
    PLAIN,
    PROFILES,
    CalibrationMismatch,
    EarlyWarning,
    EarlyWarningIssued,
    EarlyWarnings,
)
from mdxai.early_warning.profiles import ProfileChange, ProfileSettings

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
