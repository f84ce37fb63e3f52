"""A thinned series keeps its ends and every extreme."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workbench.analyses.core.extremes import extreme_rows


@given(st.integers(1, 400), st.integers(10, 60), st.integers(0, 2**32 - 1))
def test_extremes_survive(length, most, seed):
    chance = np.random.default_rng(seed)
    series = [chance.integers(0, 50, length).astype(float) for _ in range(2)]
    rows = extreme_rows(series, most)
    assert (np.diff(rows) > 0).all() and len(rows) <= most
    assert rows[0] == 0 and rows[-1] == length - 1
    for values in series:
        assert values[rows].max() == values.max() and values[rows].min() == values.min()


def test_short_series_stay_whole():
    assert extreme_rows([np.arange(7.0)], 10).tolist() == list(range(7))


def test_a_series_that_nobody_recorded():
    spike = np.zeros(1000)
    spike[613] = 5
    rows = extreme_rows([spike, np.full(1000, np.nan)], 50)
    assert 613 in rows and len(rows) <= 50
