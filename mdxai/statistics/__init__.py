"""Statistics of pair quantities against distance."""

from mdxai.statistics.moments import BinnedMoments, ElementPairChannels

__all__ = ["BinnedMoments", "ElementPairChannels"]
