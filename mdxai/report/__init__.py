"""Pages, figures and pictures of runs and explanations."""

from mdxai.report.analysis_page import write_analysis_page
from mdxai.report.figures import run_figure
from mdxai.report.forecast_page import write_forecast_page
from mdxai.report.molecule_pictures import draw_body_orders, draw_decay, draw_dimers, draw_molecule
from mdxai.report.page import attempt_report, write_report
from mdxai.report.teaching_page import write_teaching_page
from mdxai.report.weak_spot_pictures import draw_weak_spot

__all__ = [
    "attempt_report",
    "draw_body_orders",
    "draw_decay",
    "draw_dimers",
    "draw_molecule",
    "draw_weak_spot",
    "run_figure",
    "write_analysis_page",
    "write_forecast_page",
    "write_report",
    "write_teaching_page",
]
