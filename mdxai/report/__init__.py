"""A record and its verdict, shown."""

from mdxai.report.figures import run_figure

__all__ = ["run_figure"]
