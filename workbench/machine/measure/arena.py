"""Memory to measure in: page-aligned, zeroed, with the pages that an ordinary allocation gets."""

import mmap

import numpy as np


def arena(size_bytes: int, dtype: type = np.int64) -> np.ndarray:
    """An array [size_bytes / 8] whose pages are all there. NumPy would ask for huge pages, which the tables of a
    framework do not get unless the system gives them to everybody."""
    words = np.frombuffer(mmap.mmap(-1, size_bytes), dtype=dtype)
    words[:: mmap.PAGESIZE // words.itemsize] = 0  # a page is there once it was written
    return words
