"""Batches without a teacher, for measuring speed: every bag has the same number of ids, log-uniform as rows ** U(0, 1).

Labels are fair coins, so nothing can be learned: the loss stays near log 2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from workbench.data.batch import Batch
from workbench.data.features import Feature

_TRAIN, _HELD_OUT = range(2)


@dataclass(frozen=True)
class LogUniform:
    """Global batches of `batch_size` samples; feature k's bags have `features[k].pooling_factor` ids, rounded."""

    features: tuple[Feature, ...]
    dense_features: int
    batch_size: int
    seed: int

    def batches(self, rank: int = 0, ranks: int = 1, first: int = 0) -> Iterator[Batch]:
        """This rank's slice of step `first`, `first` + 1, ... without end; each rank draws its own."""
        return (self._batch(_TRAIN, step, rank, ranks) for step in count(first))

    def held_out(self, rank: int, ranks: int, batches: int) -> Iterator[Batch]:
        """This rank's slices of `batches` batches that training never sees."""
        return islice((self._batch(_HELD_OUT, index, rank, ranks) for index in count()), batches)

    def _batch(self, split: int, step: int, rank: int, ranks: int) -> Batch:
        random, samples = np.random.default_rng((self.seed, split, step, rank)), self.batch_size // ranks
        lengths = np.array([max(round(feature.pooling_factor), 1) for feature in self.features], dtype=np.int32)
        rows = np.repeat([float(feature.rows) for feature in self.features], lengths * samples)
        indices = (rows ** random.random(len(rows))).astype(np.int64)
        dense = random.standard_normal((samples, self.dense_features), dtype=np.float32)
        labels = random.integers(0, 2, samples).astype(np.float32)
        return Batch(dense, np.repeat(lengths, samples).reshape(-1, samples), indices, labels)
