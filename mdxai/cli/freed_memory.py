"""What the C library does with freed memory, for commands that work in large batches."""

from __future__ import annotations

import ctypes

# Of glibc's mallopt: from which size on a block is a mapping of its own, and how much freed memory
# at the top of the heap is too much to keep.
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
_LARGE = 2**30


def keep_freed_memory() -> bool:
    """Let the process keep what it frees instead of returning it; return whether that is so.

    Every batch allocates and frees temporaries of tens of MB. Where each is a mapping of its own,
    the system clears its pages every time, which takes longer than computing with them. It works
    with glibc; other C libraries stay as they are.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
        return all(set_option(option, _LARGE) for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
    except (AttributeError, OSError, TypeError):
        return False
