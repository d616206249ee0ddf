"""Pages, figures and pictures of runs and explanations.

Names are imported when first used: who watches runs needs neither torch nor matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdxai.first_use import names_at_first_use

if TYPE_CHECKING:
    from mdxai.report.analysis_page import write_analysis_page
    from mdxai.report.figures import run_figure
    from mdxai.report.forecast_page import write_forecast_page
    from mdxai.report.molecule_pictures import (
        draw_body_orders,
        draw_decay,
        draw_dimers,
        draw_molecule,
    )
    from mdxai.report.page import attempt_report, write_report
    from mdxai.report.teaching_page import write_teaching_page
    from mdxai.report.weak_spot_pictures import draw_weak_spot

_PICTURES = "mdxai.report.molecule_pictures"
_HOME = {
    "attempt_report": "mdxai.report.page",
    "draw_body_orders": _PICTURES,
    "draw_decay": _PICTURES,
    "draw_dimers": _PICTURES,
    "draw_molecule": _PICTURES,
    "draw_weak_spot": "mdxai.report.weak_spot_pictures",
    "run_figure": "mdxai.report.figures",
    "write_analysis_page": "mdxai.report.analysis_page",
    "write_forecast_page": "mdxai.report.forecast_page",
    "write_report": "mdxai.report.page",
    "write_teaching_page": "mdxai.report.teaching_page",
}

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


__getattr__, __dir__ = names_at_first_use(__name__, _HOME)
