"""Compares the relevance profile of the last few hundred fs with that of the run's beginning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mdxai.frame import Floats, Ints
from mdxai.statistics import (
    BinChange,
    BlockProfile,
    Change,
    RelevanceProfile,
    StatisticsError,
    Window,
    z_scores,
)


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """How profiles are compared.

    Attributes:
        reference_fs: length of the beginning of the run, whose profile is the reference.
        window_fs: length of the window that is compared with it.
        n_blocks: of the window; errors come from the scatter of blocks of window_fs/n_blocks.
        bin_ang: width of the distance bins, Å.

    Raises:
        StatisticsError: for lengths or a width that are not > 0, or a reference shorter than the
            window.
    """

    reference_fs: float = 500.0
    window_fs: float = 200.0
    n_blocks: int = 5
    bin_ang: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.window_fs <= self.reference_fs < math.inf and 0 < self.bin_ang < 10):
            raise StatisticsError(
                "expected 0 < window_fs ≤ reference_fs and a width of bins in Å, got "
                f"{self.window_fs}, {self.reference_fs} and {self.bin_ang}"
            )


class ProfileChange:
    """Watches how far the profile of strength against distance has moved since the beginning.

    The sample of a bin is the mean |strength| of its pairs in one frame. `rms` is √⟨z²⟩ over the
    bins, `peak` the largest |z|; z is that of `statistics.Change`. Bins that are empty in half of
    the window's blocks, in either profile, are left out. Memory does not grow with the run.

    Args:
        channels: names, such as those of element pairs.
        reach: largest distance, Å.
        settings: how profiles are compared.

    Attributes:
        rms, peak: NaN until the reference and a window after it are full.
    """

    def __init__(
        self, channels: Sequence[str], reach: float, settings: ProfileSettings | None = None
    ) -> None:
        self._settings = chosen = settings or ProfileSettings()
        n_bins = math.ceil(reach / chosen.bin_ang - 1e-9) + 1
        bins = (tuple(channels), n_bins * chosen.bin_ang)
        self._reference = BlockProfile(*bins, n_bins)
        self._window = Window(
            *bins, chosen.window_fs, n_bins=n_bins, n_blocks=chosen.n_blocks,
            reference=self._reference,
        )  # fmt: skip
        self._start: float | None = None
        self.rms = self.peak = math.nan

    def add(self, time: float, profile: RelevanceProfile) -> bool:
        """Add one explained frame at `time` (fs); return whether `rms` and `peak` are new."""
        return self.add_means(time, *profile.bins(self._settings.bin_ang).occupied())

    def add_means(self, time: float, channels: Ints, centers: Floats, means: Floats) -> bool:
        """Add the bin means of one frame at `time` (fs); return whether `rms` and `peak` are new.

        Args:
            time: fs.
            channels: (n,) of each occupied bin.
            centers: (n,) distances within the bins, Å.
            means: (n,) mean strengths.
        """
        self._start = time if self._start is None else self._start
        since, settings = time - self._start, self._settings
        ended = self._window.update(since, channels, centers, np.abs(means))
        if since >= settings.reference_fs - 1e-6:
            self._window.reference = None
        if not ended or since < settings.reference_fs + settings.window_fs - 1e-6:
            return False
        z = self._known(self._window.profile)
        self.rms = float(np.sqrt(np.mean(z**2))) if len(z) else math.nan
        self.peak = float(np.max(np.abs(z), initial=-math.inf)) if len(z) else math.nan
        return True

    def _known(self, profile: BlockProfile) -> Floats:
        fewest = max(2, self._settings.n_blocks // 2 + 1)
        known = (profile.n_blocks >= fewest) & (self._reference.n_blocks >= fewest)
        z = z_scores(profile, self._reference)[known]
        return z[~np.isnan(z)]

    def largest(self, n: int = 3) -> tuple[BinChange, ...]:
        """Return the n bins that carry most of the current change."""
        return tuple(Change.between(self._window.profile, self._reference).largest(n))
