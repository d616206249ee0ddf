"""Analyses of what networks have learned over whole data sets of molecules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdxai.first_use import names_at_first_use

if TYPE_CHECKING:
    from mdxai.analysis.analysis_result import Analysis, ModelFindings
    from mdxai.analysis.data_entries import AnalyseError, DataSet, Entry, entries_of
    from mdxai.analysis.make_analysis import AnalysisOptions, analyse

_HOME = {
    "AnalyseError": "mdxai.analysis.data_entries",
    "Analysis": "mdxai.analysis.analysis_result",
    "AnalysisOptions": "mdxai.analysis.make_analysis",
    "DataSet": "mdxai.analysis.data_entries",
    "Entry": "mdxai.analysis.data_entries",
    "ModelFindings": "mdxai.analysis.analysis_result",
    "analyse": "mdxai.analysis.make_analysis",
    "entries_of": "mdxai.analysis.data_entries",
}

__all__ = [
    "AnalyseError",
    "Analysis",
    "AnalysisOptions",
    "DataSet",
    "Entry",
    "ModelFindings",
    "analyse",
    "entries_of",
]

__getattr__, __dir__ = names_at_first_use(__name__, _HOME)
