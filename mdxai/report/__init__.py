"""A record and its verdict, and explanations, shown."""

from mdxai.report.figures import run_figure
from mdxai.report.lead_times import lead_time_figure
from mdxai.report.page import attempt_report, write_report
from mdxai.report.pictures import draw_body_orders, draw_decay, draw_dimers, draw_molecule
from mdxai.report.stability import stability_figure

__all__ = [
    "attempt_report",
    "draw_body_orders",
    "draw_decay",
    "draw_dimers",
    "draw_molecule",
    "lead_time_figure",
    "run_figure",
    "stability_figure",
    "write_report",
]
