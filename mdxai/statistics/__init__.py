"""Statistics of pair quantities against distance."""

from mdxai.statistics.bins import StatisticsError
from mdxai.statistics.change_detection import (
    Baseline,
    Cusum,
    Detector,
    Ewma,
    PageHinkley,
    Shewhart,
    change_points,
    make_detector,
    robust_baseline,
)
from mdxai.statistics.channels import (
    AtomPairChannels,
    BondClassChannels,
    Channels,
    ElementPairChannels,
)
from mdxai.statistics.correlation import Autocorrelation, BinnedCovariance, autocorrelation
from mdxai.statistics.histograms import (
    BinnedCounts,
    RadialDistribution,
    angles_of_bonds,
    bond_angles,
    bond_lengths,
    half_pairs,
)
from mdxai.statistics.moments import BinnedMoments, update_in_threads
from mdxai.statistics.quantiles import BinnedQuantiles
from mdxai.statistics.window_profiles import BinChange, Change, Profile, Window, z_scores

__all__ = [
    "AtomPairChannels",
    "Autocorrelation",
    "Baseline",
    "BinChange",
    "BinnedCounts",
    "BinnedCovariance",
    "BinnedMoments",
    "BinnedQuantiles",
    "BondClassChannels",
    "Change",
    "Channels",
    "Cusum",
    "Detector",
    "ElementPairChannels",
    "Ewma",
    "PageHinkley",
    "Profile",
    "RadialDistribution",
    "Shewhart",
    "StatisticsError",
    "Window",
    "angles_of_bonds",
    "autocorrelation",
    "bond_angles",
    "bond_lengths",
    "change_points",
    "half_pairs",
    "make_detector",
    "robust_baseline",
    "update_in_threads",
    "z_scores",
]
