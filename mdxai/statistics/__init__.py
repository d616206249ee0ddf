"""Statistics of pair quantities against distance."""

from mdxai.statistics.bins import StatisticsError
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
from mdxai.statistics.windows import BinChange, Change, Profile, Window

__all__ = [
    "AtomPairChannels",
    "Autocorrelation",
    "BinChange",
    "BinnedCounts",
    "BinnedCovariance",
    "BinnedMoments",
    "BinnedQuantiles",
    "BondClassChannels",
    "Change",
    "Channels",
    "ElementPairChannels",
    "Profile",
    "RadialDistribution",
    "StatisticsError",
    "Window",
    "angles_of_bonds",
    "autocorrelation",
    "bond_angles",
    "bond_lengths",
    "half_pairs",
    "update_in_threads",
]
