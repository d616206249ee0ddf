"""What will break, and when: weak spots of a model."""

from mdxai.forecast.find_weak_spots import WeakSpotError, weak_spots
from mdxai.forecast.scans import ScanOptions
from mdxai.forecast.weak_spot import WeakPath, WeakSpot, WeakSpots

__all__ = ["ScanOptions", "WeakPath", "WeakSpot", "WeakSpotError", "WeakSpots", "weak_spots"]
