"""|Relevance| against distance per element pair, computed once per explained frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdxai.frame import Floats, Ints
from mdxai.statistics import _kernels as kernels
from mdxai.statistics.bins import StatisticsError
from mdxai.statistics.channels import element_pair_channels
from mdxai.statistics.moments import BinnedMoments


@dataclass(frozen=True, slots=True)
class ProfileBins:
    """Sums of strengths in distance bins that start at multiples of `width`.

    Attributes:
        names: element pairs, (n_channels,).
        width: of a bin, Å.
        count: (n_frames, n_channels, n_bins), number of pairs.
        total: (n_frames, n_channels, n_bins), sum of their strengths, eV.
    """

    names: tuple[str, ...]
    width: float
    count: Ints
    total: Floats

    @property
    def mean(self) -> Floats:
        """Mean strength, (n_frames, n_channels, n_bins), eV; NaN where a bin is empty."""
        mean: Floats = np.full(self.total.shape, np.nan)
        return np.divide(self.total, self.count, out=mean, where=self.count > 0)

    def occupied(self) -> tuple[Ints, Floats, Floats]:
        """Return channel, centre (Å) and mean strength (eV) of each bin with pairs, (n,)."""
        count, n_bins = self.count.ravel(), self.count.shape[2]
        at = count.nonzero()[0]
        channel, place = np.divmod(at, n_bins)
        means: Floats = self.total.ravel()[at] / count[at]
        return channel % len(self.names), place * self.width + self.width / 2, means


class RelevanceProfile:
    """Strengths of the pairs of one explanation, by element pair and distance.

    `Attribution.profile` makes it once per explained frame. The moments of a run, the decay
    principles and early warnings read it; report and studies make it from recorded pairs. Each
    consumer bins the same `samples` on its own grid: a run's moments use 240 bins up to the
    cutoff, decay divides the cutoff into equal bins of at most 0.25 Å, and early warnings and
    studies use multiples of a given width. No common grid fits all three.

    Args:
        numbers: (n_atoms,) atomic numbers.
        i: (n_pairs,) first atom of each pair.
        j: (n_pairs,) second atom.
        distances: (n_pairs,), Å.
        relevance: (n_pairs,), eV, signed.

    Attributes:
        names: element pairs, as in `ElementPairChannels`.
        channels: (n_pairs,) index of each pair's element pair.
        distances: (n_pairs,), Å.
        strengths: (n_pairs,), eV, absolute values of relevance.

    Raises:
        StatisticsError: for pairs of atoms that do not exist.
    """

    __slots__ = ("_bins", "channels", "distances", "names", "strengths")

    def __init__(
        self, numbers: Ints, i: Ints, j: Ints, distances: Floats, relevance: Floats
    ) -> None:
        table = element_pair_channels(numbers)
        self.names = table.names
        try:
            self.channels = table.of(i, j)
        except IndexError as error:
            raise StatisticsError(
                f"expected pairs of atoms 0…{len(numbers) - 1}, got atoms up to "
                f"{max(np.max(i), np.max(j))}"
            ) from error
        self.distances = distances
        self.strengths: Floats = np.abs(relevance)
        self._bins: dict[float, ProfileBins] = {}

    @property
    def samples(self) -> tuple[Ints, Floats, Floats]:
        """Channels, distances and strengths, (n_pairs,) each, as `BinnedMoments` takes them."""
        return self.channels, self.distances, self.strengths

    def bins(self, width: float) -> ProfileBins:
        """Return the strengths in bins of this width (Å), n_frames = 1; cached per width.

        Pairs whose strength or distance is not finite are left out.

        Raises:
            StatisticsError: for a width that is not > 0.
        """
        found = self._bins.get(width)
        if found is None:
            frames = np.zeros(len(self.channels), dtype=np.int64)
            found = self._bins[width] = self.bins_by_frame(frames, 1, width)
        return found

    def bins_by_frame(self, frames: Ints, n_frames: int, width: float) -> ProfileBins:
        """Return the binned strengths of several frames of one system.

        Args:
            frames: (n_pairs,) index of each pair's frame; pairs outside 0…n_frames − 1 are left
                out.
            n_frames: number of frames.
            width: of a bin, Å.

        Raises:
            StatisticsError: for a width that is not > 0.
        """
        if not 0 < width < np.inf:
            raise StatisticsError(f"expected a width of bins > 0 Å, got {width}")
        farthest = self.distances.max(initial=0.0)
        if not np.isfinite(farthest):
            farthest = self.distances[np.isfinite(self.distances)].max(initial=0.0)
        shape = (n_frames, len(self.names), int(farthest / width) + 1)
        count, total = np.zeros(shape, dtype=np.int64), np.zeros(shape)
        kernels.sum_strengths(frames, *self.samples, width, count, total)
        return ProfileBins(self.names, width, count, total)


def profile_moments(numbers: Ints, cutoff: float) -> BinnedMoments | None:
    """Return empty moments for a run's profile; None for a system without pairs.

    Args:
        numbers: (n_atoms,) atomic numbers.
        cutoff: of the calculator, Å: upper edge of the 240 bins.
    """
    names = element_pair_channels(numbers).names
    return BinnedMoments(names, cutoff) if names else None
