"""Intervals of percentiles of autocorrelated values, by block bootstrap.

Under load a slow request makes the next ones slow. A bootstrap that draws single values would take them for
independent and promise far too narrow an interval, so whole blocks are drawn (Künsch, Annals of Statistics 1989;
circular: Politis and Romano, 1992), longer ones where values hang together longer.
"""

from collections.abc import Sequence

import numpy as np

DRAWS = 1000
_VALUES_AT_ONCE = 1 << 20  # that are drawn before their percentiles are taken
_INDEPENDENT_BELOW = 0.05  # an autocorrelation that small ends the sum over lags


def percentile_draws(values: np.ndarray, percentiles: Sequence[float], seed: int, draws: int = DRAWS) -> np.ndarray:
    """Percentiles [draws, percentiles] of values [n] drawn again in blocks; `values` are in order of time."""
    random, count = np.random.default_rng(seed), len(values)
    length = block_length(values)
    blocks = -(-count // length)
    around = np.concatenate([values, values[: length - 1]])
    windows = np.lib.stride_tricks.sliding_window_view(around, length)
    starts = random.integers(0, count, (draws, blocks))
    found = []
    for some in np.array_split(starts, -(-starts.size * length // _VALUES_AT_ONCE)):
        drawn = windows[some].reshape(len(some), -1)[:, :count]
        found.append(np.percentile(drawn, percentiles, axis=1, overwrite_input=True).T)
    return np.concatenate(found)


def interval_95(draws: np.ndarray) -> np.ndarray:
    """Low and high ends [2, ...] of the 95 % interval of draws [draws, ...]."""
    return np.percentile(draws, [2.5, 97.5], axis=0)


def block_length(values: np.ndarray) -> int:
    """Values a block: n^(1/3) tau^(2/3) with the integrated autocorrelation time tau, which is the optimal order for a
    first-order process (Carlstein, Annals of Statistics 1986); at most a quarter of the values."""
    count = len(values)
    length = round(count ** (1 / 3) * _autocorrelation_time(values) ** (2 / 3))
    return int(np.clip(length, 1, max(count // 4, 1)))


def _autocorrelation_time(values: np.ndarray) -> float:
    """1 + 2 sum of autocorrelations over lags, up to the first that is next to nothing; 1 for independent values."""
    centred = values - values.mean()
    variance = float(centred @ centred)
    total = 1.0
    for lag in range(1, len(values) // 4):
        correlation = float(centred[:-lag] @ centred[lag:]) / variance if variance else 0.0
        if correlation < _INDEPENDENT_BELOW:
            break
        total += 2 * correlation
    return total
