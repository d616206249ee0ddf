"""What happens when a run becomes unstable or is warned of."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import ase

from mdxai.early_warning import EarlyWarning, EarlyWarningIssued
from mdxai.engines import Engine
from mdxai.monitoring.options import MonitorOptions
from mdxai.stability.verdict import Verdict

# Warnings point at the line of the user's script, not into the packages between it and here.
OURS = (str(Path(__file__).parents[1]), str(Path(ase.__file__).parent))


class InstabilityWarning(UserWarning):
    """A monitored trajectory became unstable."""


class UnstableTrajectory(RuntimeError):
    """A monitored trajectory became unstable, and `on_unstable="raise"` was asked for.

    Attributes:
        verdict: the judgement at that moment.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


class Reactions:
    """Does what the options ask for, once for an instability and for every early warning.

    Args:
        options: `on_unstable` and `on_warning` of these.
        engine: stopped by "halt" and "raise".

    Attributes:
        has_reacted: whether the run has become unstable.
        halted_by: the reason for which the run was halted, where it was.
    """

    def __init__(self, options: MonitorOptions, engine: Engine) -> None:
        self._on_unstable, self._on_warning = options.on_unstable, options.on_warning
        self._engine = engine
        self.has_reacted = False
        self.halted_by: str | None = None

    @property
    def keeps_halting(self) -> bool:
        """Whether every further frame ends the run again."""
        return self.halted_by is not None and self._on_unstable == "halt"

    def to_instability(self, verdict: Verdict) -> None:
        """React to a verdict that has just become unstable.

        Raises:
            UnstableTrajectory: with on_unstable="raise".
        """
        if callable(self._on_unstable):
            self._on_unstable(verdict)
        elif self._on_unstable in ("halt", "raise"):
            self.halted_by = verdict.reason
            self._engine.stop()
        elif self._on_unstable == "warn":
            warnings.warn(str(verdict), InstabilityWarning, skip_file_prefixes=OURS)
        if self._on_unstable == "raise":
            raise UnstableTrajectory(verdict)

    def to_warnings(self, issued: Sequence[EarlyWarning]) -> None:
        """React to early warnings."""
        for warning in issued:
            if callable(self._on_warning):
                self._on_warning(warning)
            elif self._on_warning == "warn":
                warnings.warn(str(warning), EarlyWarningIssued, skip_file_prefixes=OURS)
