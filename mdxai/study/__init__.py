"""Studies: many models, many runs, and what goes with instability. `mdxai study RECIPE.toml`."""

from mdxai.study.models import Places
from mdxai.study.page import analyse
from mdxai.study.recipe import StudyError, StudyRecipe
from mdxai.study.work import Progress, run_study

__all__ = ["Places", "Progress", "StudyError", "StudyRecipe", "analyse", "run_study"]
