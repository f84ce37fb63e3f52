"""Normalized entropy: how much better than the base rate a model predicts clicks.

Mean log loss over the entropy of the base rate of the same examples (He et al., ADKDD 2014): predicting the base rate
gives exactly 1, a perfect model 0. Sums are kept, so parts of a data set add up.
"""

import math
from dataclasses import dataclass

import numpy as np

from workbench.data.batch import Batch

_WINDOW_STEPS = 20


@dataclass(frozen=True)
class LossSums:
    """Sums over examples: log losses in nats, labels, and the number of examples."""

    log_loss: float = 0.0
    labels: float = 0.0
    samples: float = 0.0

    def __add__(self, other: "LossSums") -> "LossSums":
        return LossSums(self.log_loss + other.log_loss, self.labels + other.labels, self.samples + other.samples)

    def __mul__(self, factor: float) -> "LossSums":
        return LossSums(self.log_loss * factor, self.labels * factor, self.samples * factor)

    @property
    def normalized_entropy(self) -> float:
        """Mean log loss / entropy of the base rate; NaN where all labels are equal, since the entropy is then 0."""
        if not 0 < self.labels < self.samples:
            return math.nan
        base_rate = self.labels / self.samples
        entropy = -(base_rate * math.log(base_rate) + (1 - base_rate) * math.log1p(-base_rate))
        return self.log_loss / self.samples / entropy

    def decayed(self, newer: "LossSums") -> "LossSums":
        """A running sum with `newer` added, in which steps fade over about _WINDOW_STEPS."""
        return self * (1 - 1 / _WINDOW_STEPS) + newer


def teacher_sums(batch: Batch) -> LossSums:
    """What the teacher that drew the labels scores on `batch` itself: the floor that no model can beat."""
    likelihood = np.where(batch.labels == 1, batch.probability, 1 - batch.probability.astype(np.float64))
    return LossSums(float(-np.log(likelihood).sum()), float(batch.labels.sum()), len(batch))
