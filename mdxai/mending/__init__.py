"""Mending a potential: guards that close its weak spots, and frames whose labels improve it.

Names are imported when first used: to choose frames takes no search for weak spots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdxai.first_use import names_at_first_use

if TYPE_CHECKING:
    from mdxai.mending.guard_on_disk import write_guarded
    from mdxai.mending.make_guard import guard
    from mdxai.mending.strengthen_guard import GuardRound, StrongGuard, strengthen
    from mdxai.mending.teach_options import LabelSource, TeachError, TeachOptions
    from mdxai.mending.teaching import teach
    from mdxai.mending.teaching_result import Teaching, TeachingRound

_HOME = {
    "GuardRound": "mdxai.mending.strengthen_guard",
    "LabelSource": "mdxai.mending.teach_options",
    "StrongGuard": "mdxai.mending.strengthen_guard",
    "TeachError": "mdxai.mending.teach_options",
    "TeachOptions": "mdxai.mending.teach_options",
    "Teaching": "mdxai.mending.teaching_result",
    "TeachingRound": "mdxai.mending.teaching_result",
    "guard": "mdxai.mending.make_guard",
    "strengthen": "mdxai.mending.strengthen_guard",
    "teach": "mdxai.mending.teaching",
    "write_guarded": "mdxai.mending.guard_on_disk",
}

__all__ = [
    "GuardRound",
    "LabelSource",
    "StrongGuard",
    "TeachError",
    "TeachOptions",
    "Teaching",
    "TeachingRound",
    "guard",
    "strengthen",
    "teach",
    "write_guarded",
]

__getattr__, __dir__ = names_at_first_use(__name__, _HOME)
