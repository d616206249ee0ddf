"""What will break, and when: weak spots of a model, life tests, and forecasts from both."""

from mdxai.forecast.card_forecast import CardForecast
from mdxai.forecast.combined_law import CombinedLaw, Prior
from mdxai.forecast.conformers import FlatPotentialError, WeakSpotError
from mdxai.forecast.find_weak_spots import weak_spots
from mdxai.forecast.forecast_result import Forecast, ForecastError
from mdxai.forecast.hot_replicas import LifeTestError
from mdxai.forecast.kept_evaluations import KeptSearchError
from mdxai.forecast.life_test_result import LifeTest, LifeTestOptions
from mdxai.forecast.make_forecast import ForecastOptions, foretell
from mdxai.forecast.path_explanation import PairChange, PathExplanation, explain_weak_spots
from mdxai.forecast.run_life_test import life_test
from mdxai.forecast.scans import ScanOptions
from mdxai.forecast.weak_spot import WeakPath, WeakSpot, WeakSpots

__all__ = [
    "CardForecast",
    "CombinedLaw",
    "FlatPotentialError",
    "Forecast",
    "ForecastError",
    "ForecastOptions",
    "KeptSearchError",
    "LifeTest",
    "LifeTestError",
    "LifeTestOptions",
    "PairChange",
    "PathExplanation",
    "Prior",
    "ScanOptions",
    "WeakPath",
    "WeakSpot",
    "WeakSpotError",
    "WeakSpots",
    "explain_weak_spots",
    "foretell",
    "life_test",
    "weak_spots",
]
