"""Warnings before a run breaks, at a stated rate of false alarms."""

from mdxai.early_warning.calibration import (
    Calibration,
    CalibrationError,
    History,
    Level,
    Rate,
    Watch,
)
from mdxai.early_warning.profiles import ProfileChange, ProfileSettings

__all__ = [
    "Calibration",
    "CalibrationError",
    "History",
    "Level",
    "ProfileChange",
    "ProfileSettings",
    "Rate",
    "Watch",
]
