"""Studies: many models, many runs, and what goes with instability. `mdxai study RECIPE.toml`."""

from mdxai.study.models import Places
from mdxai.study.recipe import StudyError, StudyRecipe

__all__ = ["Places", "StudyError", "StudyRecipe"]
