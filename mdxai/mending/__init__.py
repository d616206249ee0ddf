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

_HOME = {
    "GuardRound": "mdxai.mending.strengthen_guard",
    "StrongGuard": "mdxai.mending.strengthen_guard",
    "guard": "mdxai.mending.make_guard",
    "strengthen": "mdxai.mending.strengthen_guard",
    "write_guarded": "mdxai.mending.guard_on_disk",
}

__all__ = ["GuardRound", "StrongGuard", "guard", "strengthen", "write_guarded"]

__getattr__, __dir__ = names_at_first_use(__name__, _HOME)
