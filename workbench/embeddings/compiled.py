"""Loops over memory, compiled: for what plain torch would send through memory several times."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import numba
import numpy as np
import torch
from torch import Tensor

# Sums may be reordered and products fused, as in any matrix product; NaN and infinity stay what they are.
compiled = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})


def on_threads(count: int, least: int, kernel: Callable, *arrays: object) -> None:
    """kernel(begin, end, *arrays) for parts of range(count), on as many threads as torch has, each worth `least`.

    Parts must not depend on each other: which thread has one then changes no bit.
    """
    threads = min(torch.get_num_threads(), -(-count // least))
    if threads <= 1:
        kernel(0, count, *arrays)
        return
    bounds = np.linspace(0, count, threads + 1).astype(int).tolist()
    tasks = [_pool(threads).submit(kernel, *part, *arrays) for part in pairwise(bounds)]
    for task in tasks:
        task.result()


def as_array(tensor: Tensor) -> np.ndarray:
    """The tensor's memory, or a contiguous copy's."""
    return tensor.detach().contiguous().numpy()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="compiled")
