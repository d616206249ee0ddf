"""A study of two shipped models that takes seconds."""

from __future__ import annotations

from mdxai.study.recipe import StudyRecipe

RECIPE = """
[simulation]
temperatures = [300.0, 900.0]
replicas = 2
duration_ps = 0.02
compile = false

[molecules.ethanol]
structure = "CH3CH2OH"

[[load]]
molecule = "ethanol"
committee = "weak"
calculators = ["schnet-ethanol-weak", "painn-ethanol-weak"]
"""


def recipe_from(text, tmp_path, name="tiny"):
    """Write a recipe and return it as read."""
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    return StudyRecipe.load(path)
