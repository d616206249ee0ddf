"""Explanations as an analysis of MDAnalysis."""

from mdxai.analysis.attribution_analysis import AnalysisError, AttributionAnalysis

__all__ = ["AnalysisError", "AttributionAnalysis"]
