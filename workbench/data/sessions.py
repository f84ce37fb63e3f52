"""A seeded click log: skewed rows, lognormal pooling, sessions that repeat user features, labels from a teacher.

Every value is a hash of (seed, step, feature, sample, position), so the global batch of a step is the same for any
number of ranks and a rank draws only its slice. Sessions follow RecD (Zhao et al., MLSys 2023): consecutive samples,
their number geometric; a user feature keeps its value from sample to sample with its `session_repeat`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import numpy as np
from scipy.special import expit, ndtri

from workbench.data.batch import Batch
from workbench.data.features import Feature
from workbench.data.hashing import derive, uniform

POOLING_SIGMA = 0.5  # of the lognormal number of ids in one feature's bags
# The teacher's logit ~ N(TEACHER_MEAN, TEACHER_STD^2): about one label in four is 1, and the teacher's own normalized
# entropy, the floor that no model can beat, is about two thirds.
TEACHER_MEAN, TEACHER_STD = -1.7, 2.0
_TRAIN, _HELD_OUT, _CALIBRATION = range(3)
# What a step's key, a feature's key in it, and a bag's key are derived for; the last ones count on (features, ids).
_SESSION, _DENSE, _LABEL, _FEATURES = range(4)
_REDRAWN, _BAGS = range(2)
_PRESENT, _POOLING, _ROUNDING, _IDS = range(4)


@dataclass(frozen=True)
class Sessions:
    """A click log in global batches of `batch_size` samples; `session_samples` is the mean number a session."""

    features: tuple[Feature, ...]
    dense_features: int
    batch_size: int
    session_samples: float
    seed: int

    def batches(self, rank: int = 0, ranks: int = 1, first: int = 0) -> Iterator[Batch]:
        """This rank's slice of step `first`, `first` + 1, ... without end."""
        return (self._batch(_TRAIN, step, rank, ranks) for step in count(first))

    def held_out(self, rank: int, ranks: int, batches: int) -> Iterator[Batch]:
        """This rank's slices of `batches` batches that training never sees."""
        return (self._batch(_HELD_OUT, index, rank, ranks) for index in range(batches))

    def _batch(self, split: int, step: int, rank: int, ranks: int) -> Batch:
        key = derive(derive(self.seed, split), step)
        size = self.batch_size // ranks
        samples = np.arange(rank * size, (rank + 1) * size)
        dense, lengths, indices, score = self._features(key, samples)
        centre, spread = self._calibration
        probability = expit(TEACHER_MEAN + TEACHER_STD * (score - centre) / spread)
        labels = uniform(derive(derive(key, _LABEL), samples)) < probability
        return Batch(dense, lengths, indices, labels.astype(np.float32), probability.astype(np.float32))

    @cached_property
    def _calibration(self) -> tuple[float, float]:
        """Mean and standard deviation of the teacher's score, from a batch of its own."""
        key = derive(derive(self.seed, _CALIBRATION), 0)
        score = self._features(key, np.arange(self.batch_size))[-1]
        return float(score.mean()), float(score.std())

    def _features(self, key: np.uint64, samples: np.ndarray) -> tuple[np.ndarray, ...]:
        """dense [B, dense_features], lengths [features, B], indices, and the teacher's score [B] of `samples`."""
        dense_bits = derive(derive(derive(key, _DENSE), samples)[:, None], np.arange(self.dense_features))
        dense = ndtri(uniform(dense_bits))
        score = dense @ self._dense_weights
        lengths, indices = [], []
        sessions = self._session_starts(key)
        for number, feature in enumerate(self.features):
            feature_key = derive(key, _FEATURES + number)
            values = _value_samples(feature, feature_key, sessions)[samples]
            bag_lengths, ids = draw_bags(feature, derive(derive(feature_key, _BAGS), values))
            # An id's effect is uniform with variance 1, by a hash of the id: the teacher stores no tables.
            effects = np.sqrt(12) * (uniform(derive(self._effect_keys[number], ids)) - 0.5)
            score += _bag_sums(effects, bag_lengths) / np.sqrt(len(self.features) * feature.pooling_factor)
            lengths.append(bag_lengths)
            indices.append(ids)
        return dense.astype(np.float32), np.stack(lengths), np.concatenate(indices), score

    @cached_property
    def _dense_weights(self) -> np.ndarray:
        weights = ndtri(uniform(derive(derive(self.seed, _DENSE), np.arange(self.dense_features))))
        return weights / np.linalg.norm(weights)

    @cached_property
    def _effect_keys(self) -> np.ndarray:
        return derive(derive(self.seed, _FEATURES), np.arange(len(self.features)))

    def _session_starts(self, key: np.uint64) -> np.ndarray:
        """Whether each sample of the global batch [batch_size] begins a session."""
        starts = uniform(derive(derive(key, _SESSION), np.arange(self.batch_size))) < 1 / self.session_samples
        starts[0] = True
        return starts


def _value_samples(feature: Feature, feature_key: np.uint64, session_starts: np.ndarray) -> np.ndarray:
    """For each sample of the global batch, the sample whose value it has: itself, or an earlier one of its session."""
    samples = np.arange(len(session_starts))
    if feature.session_repeat == 0:
        return samples
    redrawn = uniform(derive(derive(feature_key, _REDRAWN), samples)) >= feature.session_repeat
    return np.maximum.accumulate(np.where(session_starts | redrawn, samples, 0))


def draw_bags(feature: Feature, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One bag a key: lengths [bags] int32 with mean `pooling_factor`, and ids [sum of lengths] int64.

    A bag that is present has 1 + lognormal ids, rounded up or down at random so that the mean is exact.
    """
    present = uniform(derive(keys, _PRESENT)) < feature.coverage
    mean_beyond_first = max(feature.pooling_factor / feature.coverage - 1, 0.0)
    normal = ndtri(uniform(derive(keys, _POOLING)))
    beyond_first = mean_beyond_first * np.exp(POOLING_SIGMA * normal - POOLING_SIGMA**2 / 2)
    lengths = np.where(present, 1 + np.floor(beyond_first + uniform(derive(keys, _ROUNDING))), 0).astype(np.int32)
    positions = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    bits = derive(np.repeat(keys, lengths), _IDS + positions)
    return lengths, zipf_ids(uniform(bits), feature.rows, feature.zipf_exponent)


def zipf_ids(quantiles: np.ndarray, rows: int, exponent: float) -> np.ndarray:
    """Ids [n] int64 below `rows` with Zipf's skew: rank k = 1, 2, ... of popularity has probability ~ k^-exponent.

    Inverts the distribution of the density x^-exponent on [1/2, rows + 1/2] and rounds to whole k: at exponent
    0.9 that differs from Zipf's law by 8 % at k = 1 and by 2 % or less from k = 2 on, and it needs no table of
    probabilities. Popular ids lie scattered over the range, as hashing leaves them.
    """
    power = 1 - exponent or 1e-9  # the limit at exponent 1 is a logarithm, which this reaches to rounding
    span = np.expm1(power * np.log(2 * rows + 1))
    popularity = np.rint(0.5 * np.exp(np.log1p(quantiles * span) / power)).astype(np.int64) - 1
    return popularity.clip(0, rows - 1) * scatter_stride(rows) % rows


def scatter_stride(rows: int) -> int:
    """A stride coprime to `rows`, near its golden section: k -> k * stride % rows visits every id once."""
    stride = max(int(rows * 0.618), 1)
    while np.gcd(stride, rows) != 1:
        stride += 1
    return stride


def _bag_sums(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Sum of each bag's values [bags]; 0 for an empty bag, which `np.add.reduceat` would get wrong."""
    running = np.concatenate(([0.0], np.cumsum(values)))
    ends = np.cumsum(lengths)
    return running[ends] - running[ends - lengths]
