"""Threads pinned to one core each that start their work together: what one core gets alone, and among all."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager


class Team(AbstractContextManager):
    """Member i runs on `cores[i]`. Its work must release the GIL, as compiled kernels do, or members wait in turn."""

    def __init__(self, cores: Sequence[int]) -> None:
        self.size = len(cores)
        self._members = [ThreadPoolExecutor(1, initializer=_pin, initargs=(core,)) for core in cores]

    def run(self, work: Callable[[int], object], members: int) -> float:
        """ns from the first start to the last end of `work(member)` on the first `members` cores at once."""
        together = threading.Barrier(members)

        def timed(member: int) -> tuple[int, int]:
            together.wait()
            start_ns = time.perf_counter_ns()
            work(member)
            return start_ns, time.perf_counter_ns()

        spans = self._on_each(timed, members)
        return max(end for _, end in spans) - min(start for start, _ in spans)

    def on_each(self, work: Callable[[int], object]) -> list:
        """`work(member)` of every member, run on its own core: memory that it touches first lies near that core."""
        return self._on_each(work, self.size)

    def _on_each(self, work: Callable[[int], object], members: int) -> list:
        futures = [pool.submit(work, member) for member, pool in enumerate(self._members[:members])]
        wait(futures)
        return [future.result() for future in futures]

    def __exit__(self, *_) -> None:
        for pool in self._members:
            pool.shutdown()


def _pin(core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})  # 0 is the calling thread
