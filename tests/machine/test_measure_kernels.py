"""Each compiled loop does what it declares, beside NumPy, on tiny arrays."""

import numpy as np
import pytest

from workbench.machine.measure import kernels
from workbench.machine.measure.arena import arena


def test_read_sums_every_pass():
    source = np.arange(40, dtype=np.int64)
    assert kernels.read(source, 3) == sum(int((source ^ number).sum()) for number in range(3))


def test_write_stores_the_last_pass():
    target = np.full(40, -1.0)
    kernels.write(target, 5)
    assert (target == 4).all()


def test_copy_adds_the_last_pass():
    source, target = np.arange(40.0), np.zeros(40)
    kernels.copy(target, source, 4)
    np.testing.assert_array_equal(target, source + 3)


def test_triad_is_streams():
    first, second = np.random.default_rng(0).random((2, 40))
    target = np.zeros(40)
    kernels.triad(target, first, second, 4)
    np.testing.assert_allclose(target, first + 3.0 * second, rtol=1e-15)


@pytest.mark.parametrize("row_words", [2, 8, 32])
@pytest.mark.parametrize("prefetch", [False, True])
def test_gather_touches_every_line_of_the_drawn_rows(prefetch, row_words):
    rows, lookups = 16, 50
    random = np.random.default_rng(row_words)
    table = random.integers(0, 10**6, rows * row_words)
    draws = random.integers(0, 2**32, lookups + kernels.PREFETCH_DISTANCE, dtype=np.uint32)
    drawn = draws[:lookups].astype(np.int64) % rows
    firsts = table.reshape(rows, row_words)[:, :: kernels.LINE_WORDS]  # the first word of each line
    expected = sum(int((firsts[drawn] ^ number).sum()) for number in range(2))
    assert kernels.gather(row_words, prefetch)(table, draws, rows, 2) == expected


@pytest.mark.parametrize("lines", [1, 2, 3, 100])
def test_the_chase_visits_the_whole_cycle(lines):
    chain = np.zeros(lines * kernels.LINE_WORDS, dtype=np.uint64)
    kernels.link_cycle(chain, 0)
    visited, position = set(), np.uint64(0)
    for _ in range(lines):
        position = np.uint64(kernels.chase(chain, position, 1))
        visited.add(int(position))
    assert visited == set(range(0, lines * kernels.LINE_WORDS, kernels.LINE_WORDS))
    assert position == 0  # back at the start after all of them, not before
    assert kernels.chase(chain, np.uint64(0), lines) == 0


def test_cycles_differ_by_seed():
    chains = np.zeros((2, 64 * kernels.LINE_WORDS), dtype=np.uint64)
    for seed, chain in enumerate(chains):
        kernels.link_cycle(chain, seed)
    assert (chains[0] != chains[1]).any()


def test_an_arena_is_page_aligned():
    words = arena(3 * 4096)
    assert len(words) == 3 * 512 and words.ctypes.data % 4096 == 0
