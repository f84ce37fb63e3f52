"""Random numbers by counting: each is a hash of what it stands for, so any rank can draw just its own.

SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): number n of the stream that starts at `key` is the finaliser of
`key + n * GOLDEN`. Whole arrays at a time, no state, the same values on every machine.
"""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def derive(key: np.ndarray | int, numbers: np.ndarray | int) -> np.ndarray:
    """64 random bits for every (key, number): uint64, broadcast. Keys may be results of `derive` themselves."""
    with np.errstate(over="ignore"):  # wrapping at 2^64 is the arithmetic that SplitMix64 means
        bits = np.asarray(key).astype(np.uint64) + (np.asarray(numbers).astype(np.uint64) + np.uint64(1)) * GOLDEN
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def uniform(bits: np.ndarray) -> np.ndarray:
    """Random bits as float64 in (0, 1): 52 bits, never an end point, so logarithms and quantiles stay finite."""
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
