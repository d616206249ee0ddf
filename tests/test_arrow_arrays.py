"""Arrow arrays made without pandas equal those that pyarrow makes with it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from mdxai.record.arrow_arrays import arrow_array, arrow_texts, integers_in

KINDS = ("float16", "float32", "float64", "int32", "int64", "bool")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 8, 1001])
def test_numbers_are_those_of_pyarrow(kind, n):
    rng = np.random.default_rng(n)
    values = rng.integers(-9, 9, size=(n, 2)).astype(kind)
    missing = rng.random(n) < 0.3
    for column in (values[:, 0], np.ascontiguousarray(values[:, 1]), values[::-1, 0]):
        for mask in (None, missing, np.zeros(n, dtype=bool), np.ones(n, dtype=bool)):
            made = arrow_array(column, mask)
            made.validate(full=True)
            assert made.equals(pa.array(np.ascontiguousarray(column), mask=mask))


@pytest.mark.parametrize(
    "texts", [[], ["a"], [None], ["ä", None, "", "µ" * 300], [None] * 9, ["x"] * 17]
)
def test_texts_are_those_of_pyarrow(texts):
    made = arrow_texts(texts)
    made.validate(full=True)
    assert made.equals(pa.array(texts, pa.string()))


def test_integers_come_back_from_any_piece_of_a_column():
    numbers = np.arange(1000) - 3
    whole = pa.chunked_array([arrow_array(numbers[:700]), arrow_array(numbers[700:])])
    for first, last in ((0, 1000), (5, 6), (3, 650), (650, 720), (720, 990), (4, 4)):
        assert np.array_equal(integers_in(whole.slice(first, last - first)), numbers[first:last])
