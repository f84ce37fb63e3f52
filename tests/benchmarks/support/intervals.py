"""What interleaved pairs say."""

from collections.abc import Sequence

import numpy as np


def median_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval, by bootstrap over pairs."""
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    return float(np.median(ratios)), *map(float, np.percentile(np.median(draws, axis=1), [2.5, 97.5]))
