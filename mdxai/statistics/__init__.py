"""Running statistics of pair quantities against distance, and detectors of change."""

from mdxai.statistics.bins import StatisticsError
from mdxai.statistics.change_detection import (
    Baseline,
    Cusum,
    Detector,
    Ewma,
    PageHinkley,
    Shewhart,
    make_detector,
    robust_baseline,
)
from mdxai.statistics.channels import (
    BondClassChannels,
    ElementPairChannels,
    element_pair_channels,
)
from mdxai.statistics.correlation import Autocorrelation, autocorrelation
from mdxai.statistics.moments import BinnedMoments
from mdxai.statistics.profile import ProfileBins, RelevanceProfile, profile_moments
from mdxai.statistics.window_profiles import BinChange, BlockProfile, Change, Window, z_scores

__all__ = [
    "Autocorrelation",
    "Baseline",
    "BinChange",
    "BinnedMoments",
    "BlockProfile",
    "BondClassChannels",
    "Change",
    "Cusum",
    "Detector",
    "ElementPairChannels",
    "Ewma",
    "PageHinkley",
    "ProfileBins",
    "RelevanceProfile",
    "Shewhart",
    "StatisticsError",
    "Window",
    "autocorrelation",
    "element_pair_channels",
    "make_detector",
    "profile_moments",
    "robust_baseline",
    "z_scores",
]
