"""What `mdxai bench` measures, section by section.

python3 -m uv run pytest -m benchmark -n 0 -s tests/benchmarks/test_bench.py
"""

from __future__ import annotations

import pytest

from mdxai.testing.speed_cases import sections

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("section", sections())
def test_section(section):
    print()
    for found in sections()[section]():
        print(f"{section} | {found.what}: {found.value:.3g} {found.unit}")
