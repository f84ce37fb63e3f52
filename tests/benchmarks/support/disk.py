"""Requests a second that a disk serves: reads and writes of one size at random places, so many under way at a time."""

import mmap
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from workbench.embeddings.file_rows import read_rows, write_rows

_FILLED_BYTES = 1 << 20
_THREAD_REQUESTS = 1000  # a sample, of each thread


class RandomRequests:
    """A file of `records` records, each a request of `record_bytes`, that is read and written past the page cache by
    `threads` threads. It has no name: it is gone when the process ends. OSError where O_DIRECT is refused."""

    def __init__(self, folder: Path, records: int, record_bytes: int, threads: int) -> None:
        self._records, self.record_bytes, self._threads = records, record_bytes, threads
        self._descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT, 0o600)
        block = mmap.mmap(-1, _FILLED_BYTES)
        block.write(os.urandom(_FILLED_BYTES))  # nothing that a disk could compress
        for start in range(0, records * record_bytes, _FILLED_BYTES):  # a hole would be read without the disk
            os.pwrite(self._descriptor, block, start)
        self._pool = ThreadPoolExecutor(threads)
        self._places = np.random.default_rng(0)

    def seconds(self) -> float:
        """Time of one sample: `requests` of them, half reads, half writes, both under way all the time."""
        rows = self._places.choice(self._records // 2, (self._threads, _THREAD_REQUESTS), replace=False) * 2
        memory = mmap.mmap(-1, rows.size * self.record_bytes)
        buffers = np.frombuffer(memory, np.uint8).reshape(*rows.shape, self.record_bytes)
        turns = ((read_rows, write_rows), (write_rows, read_rows))
        half = _THREAD_REQUESTS // 2

        def work(thread: int) -> int:
            own, buffer = np.sort(rows[thread].reshape(2, half), axis=1), buffers[thread].reshape(2, half, -1)
            return sum(turns[thread % 2][part](self._descriptor, own[part], buffer[part]) for part in (0, 1))

        started = time.perf_counter()
        served = sum(self._pool.map(work, range(self._threads)))
        elapsed = time.perf_counter() - started
        if served != rows.size:
            raise OSError("the disk's file could not be read or written")
        return elapsed

    @property
    def requests(self) -> int:
        """Of one sample."""
        return self._threads * _THREAD_REQUESTS
