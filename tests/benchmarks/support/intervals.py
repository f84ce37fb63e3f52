"""What interleaved pairs say."""

from collections.abc import Sequence

import numpy as np


def median_interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The median and its 95 % interval, by bootstrap over pairs."""
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    return float(np.median(ratios)), *map(float, np.percentile(np.median(draws, axis=1), [2.5, 97.5]))


def percentile_ratio_interval(ours: np.ndarray, base: np.ndarray, percentile: float) -> tuple[float, float, float]:
    """Ratio of a percentile of ours [groups, requests] to base's, and its 95 % interval, which draws whole groups
    again: rounds, deployments."""
    groups = len(ours)
    draws = np.random.default_rng(0).integers(0, groups, (2000, groups))
    ratios = [np.percentile(ours[draw], percentile) / np.percentile(base[draw], percentile) for draw in draws]
    whole = np.percentile(ours, percentile) / np.percentile(base, percentile)
    return float(whole), *map(float, np.percentile(ratios, [2.5, 97.5]))
