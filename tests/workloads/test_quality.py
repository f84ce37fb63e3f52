"""Normalized entropy at its known values."""

import math

import numpy as np
import pytest

from workbench.data.batch import Batch
from workbench.workloads.training.quality import LossSums, teacher_sums


def scored(labels: list[int], probability: float | list[float]) -> LossSums:
    """What predicting `probability` scores on `labels`, by the batch's own teacher."""
    predicted = np.broadcast_to(np.array(probability, np.float32), len(labels))
    empty = np.zeros((0, len(labels)), np.int32)
    return teacher_sums(Batch(empty.T, empty, np.zeros(0, np.int64), np.array(labels, np.float32), predicted))


def test_predicting_the_base_rate_gives_one():
    assert scored([1, 0, 0, 0], 0.25).normalized_entropy == pytest.approx(1.0, abs=1e-7)


def test_another_constant_gives_more_and_a_better_model_less():
    labels = [1, 0, 0, 0]
    assert scored(labels, 0.3).normalized_entropy > 1.001
    assert scored(labels, 0.2).normalized_entropy > 1.001
    assert scored(labels, [0.9, 0.1, 0.1, 0.1]).normalized_entropy < 0.2


def test_by_hand():
    # Log losses ln 2 each; base rate 1/4 has entropy 2 ln 2 - 3/4 ln 3.
    expected = math.log(2) / (2 * math.log(2) - 0.75 * math.log(3))
    assert scored([0, 1, 0, 0], 0.5).normalized_entropy == pytest.approx(expected)


def test_equal_labels_have_no_entropy():
    assert math.isnan(scored([0, 0, 0], 0.1).normalized_entropy)
    assert math.isnan(LossSums().normalized_entropy)


def test_parts_add_up_and_old_steps_fade():
    parts = scored([1, 0], 0.4) + scored([0, 0], 0.4)
    assert parts.normalized_entropy == pytest.approx(scored([1, 0, 0, 0], 0.4).normalized_entropy)
    bad, base = scored([1, 0, 0, 0], 0.9), scored([1, 0, 0, 0], 0.25)
    running = LossSums()
    for step in range(200):
        running = running.decayed(bad if step < 100 else base)
    assert running.normalized_entropy == pytest.approx(1 + 0.95**100 * (bad.normalized_entropy - 1), rel=1e-3)
