"""Threads that compute, beside the event loop that receives; and how a failure leaves a group of tasks."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from workbench.workloads.inference.tracing import Lane


class Workers:
    """A pool of `count` threads, each with `threads_per_operator` for what it computes."""

    def __init__(self, count: int, threads_per_operator: int = 1) -> None:
        # Said on every thread: OpenMP's setting is a thread's own, and idle helpers would burn a core by spinning.
        self._pool = ThreadPoolExecutor(
            count, "worker", initializer=torch.set_num_threads, initargs=(threads_per_operator,)
        )

    async def run(self, lane: Lane, function: Callable, *arguments: Any) -> Any:
        """function(*arguments) on a thread, without gradients, its CPU time counted for the lane."""
        return await lane.run_on(self._pool, torch.inference_mode()(function), *arguments)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


@contextmanager
def first_failure() -> Iterator[None]:
    """What failed in a task group as itself, not as a group: the first of them, since it had the others cancelled."""
    try:
        yield
    except BaseExceptionGroup as group:
        failure: BaseException = group
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        raise failure from None
