"""Commands that work in batches do not have the system clear the same pages again and again."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
from mdxai.cli.freed_memory import keep_freed_memory
if len(sys.argv) > 1 and not keep_freed_memory():
    print(-1)
    sys.exit()
np.ones(4_000_000).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(4_000_000).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", COUNT, *arguments], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="what glibc does")
def test_pages_of_temporaries_are_not_asked_for_again():
    kept = faults("keep")
    if kept < 0:
        pytest.skip("this C library has no mallopt")
    assert kept < 0.5 * faults()
