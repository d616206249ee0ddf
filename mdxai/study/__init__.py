"""Studies: many models, many runs, and what goes with instability. `mdxai study RECIPE.toml`."""
