"""The click log against what it is asked to be: reproducible, the same for any number of ranks, skewed, pooled,
repeating within sessions, and learnable down to a known floor."""

from itertools import chain

import numpy as np
import pytest

from workbench.data.features import Feature
from workbench.data.hashing import derive, uniform
from workbench.data.sessions import Sessions, draw_bags, scatter_stride, zipf_ids
from workbench.workloads.training.quality import LossSums, teacher_sums

FEATURES = (
    Feature(name="wide", rows=5_000, pooling_factor=6.0, zipf_exponent=0.8, coverage=0.7),
    Feature(name="user", rows=300, pooling_factor=2.5, zipf_exponent=1.0, session_repeat=0.9),
    Feature(name="rare", rows=1, pooling_factor=0.3, coverage=0.3),
)


def sessions(batch_size=96, session_samples=4.0, seed=3) -> Sessions:
    return Sessions(FEATURES, 5, batch_size, session_samples, seed)


def bags(batch) -> list[list[list[int]]]:
    """[feature][sample] -> ids."""
    ends = np.cumsum(batch.lengths)
    pieces = np.split(batch.indices, ends[:-1])
    size = len(batch)
    return [[list(piece) for piece in pieces[f * size : (f + 1) * size]] for f in range(len(batch.lengths))]


def test_splitmix64_reference_values():
    # The published stream of seed 1234567 (the generator's own test vector).
    assert [int(derive(1234567, n)) for n in range(3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip
    quantiles = uniform(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert 0 < quantiles[0] < quantiles[1] < 1


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_the_global_batch_is_the_same_for_any_number_of_ranks(ranks):
    whole = next(sessions().batches())
    parts = [next(sessions().batches(rank, ranks)) for rank in range(ranks)]
    assert bags(whole) == [list(chain(*per_rank)) for per_rank in zip(*map(bags, parts), strict=True)]
    for name in ("dense", "labels", "probability"):
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(part, name) for part in parts]))


def test_steps_seeds_and_splits_differ_and_repeat():
    stream, again = sessions().batches(), sessions().batches()
    first, second = next(stream), next(stream)
    np.testing.assert_array_equal(first.indices, next(again).indices)
    others = (second, next(sessions(seed=4).batches()), next(sessions().held_out(0, 1, 1)))
    assert all(not np.array_equal(first.dense, other.dense) for other in others)
    assert len(list(sessions().held_out(0, 1, 3))) == 3


def test_shapes_types_and_ranges():
    batch = next(sessions().batches())
    assert batch.dense.shape == (96, 5) and batch.dense.dtype == np.float32
    assert batch.lengths.shape == (3, 96) and batch.lengths.dtype == np.int32
    assert batch.indices.dtype == np.int64 and len(batch.indices) == batch.lengths.sum()
    assert set(np.unique(batch.labels)) == {0.0, 1.0}
    for feature, ids in zip(FEATURES, bags(batch), strict=True):
        flat = np.concatenate([bag for bag in ids if bag])
        assert flat.min() >= 0 and flat.max() < feature.rows


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_pooling_and_coverage_are_as_asked(feature):
    lengths, _ = draw_bags(feature, derive(9, np.arange(20_000)))
    assert lengths.mean() == pytest.approx(feature.pooling_factor, abs=4 * lengths.std() / 20_000**0.5)
    assert (lengths > 0).mean() == pytest.approx(feature.coverage, abs=0.015)


@pytest.mark.parametrize("exponent", [0.5, 0.9, 1.0, 1.2])
def test_skew_follows_zipf(exponent):
    rows, draws = 1_000, 200_000
    ids = zipf_ids(uniform(derive(5, np.arange(draws))), rows, exponent)
    order = np.arange(rows) * scatter_stride(rows) % rows  # id of popularity rank 1, 2, ...
    counts = np.bincount(ids, minlength=rows)[order]
    expected = np.arange(1, rows + 1.0) ** -exponent
    expected *= draws / expected.sum()
    # Rank 1 is known to be off by the midpoint rule; everything else within sampling error and 4 %.
    assert counts[0] == pytest.approx(expected[0], rel=0.2)
    for first, last in ((1, 10), (10, 100), (100, 1000)):
        wanted = expected[first:last].sum()
        assert counts[first:last].sum() == pytest.approx(wanted, rel=0.04, abs=4 * wanted**0.5)


def test_popular_ids_are_scattered_over_every_row():
    for rows in (1, 2, 7, 100, 4_096):
        assert sorted(np.arange(rows) * scatter_stride(rows) % rows) == list(range(rows))


@pytest.mark.parametrize(("session_samples", "repeat"), [(8.0, 0.9), (4.0, 0.5), (1.0, 0.9)])
def test_sessions_repeat_user_features_as_recd_predicts(session_samples, repeat):
    """Unique rows of a batch of B: B (1 - d (S - 1) / S), the model of RecD section 3."""
    size = 8_192
    feature = Feature(name="user", rows=10**9, pooling_factor=8.0, zipf_exponent=0.3, session_repeat=repeat)
    batch = next(Sessions((feature,), 1, size, session_samples, 1).batches())
    unique = len({tuple(bag) for bag in bags(batch)[0]})
    expected = size * (1 - repeat * (session_samples - 1) / session_samples)
    assert unique == pytest.approx(expected, rel=0.05)


def test_the_floor_is_known_and_low_enough_to_show_learning():
    generator = sessions(batch_size=20_000)
    batch = next(generator.held_out(0, 1, 1))
    floor = teacher_sums(batch).normalized_entropy
    assert 0.5 < floor < 0.85
    assert batch.labels.mean() == pytest.approx(batch.probability.mean(), abs=0.015)
    # What the teacher scores is its own entropy, up to the luck of the labels.
    p = batch.probability.astype(float)
    entropy = LossSums(-(p * np.log(p) + (1 - p) * np.log1p(-p)).sum(), batch.labels.sum(), len(batch))
    assert floor == pytest.approx(entropy.normalized_entropy, abs=0.02)
