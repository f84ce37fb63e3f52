"""One batch of samples: dense features, jagged categorical features, labels."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Batch:
    """`dense` [B, dense_features] float32; `lengths` [features, B] int32 and `indices` [sum of lengths] int64,
    feature-major; `labels` [B] float32, 0 or 1; `probability` [B] float32 of label 1, where a teacher drew the labels.
    """

    dense: np.ndarray
    lengths: np.ndarray
    indices: np.ndarray
    labels: np.ndarray
    probability: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)
