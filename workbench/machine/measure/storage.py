"""The disk under the runs: sequential write and read in 1 MiB blocks, random 4 KiB reads alone and 16 at a time.

Past the page cache: O_DIRECT where the file system takes it, else the file is dropped from the cache before each sample
(posix_fadvise). A virtual machine's host may still cache. The file is removed whatever happens.
"""

import itertools
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, Unavailable, interleaved

BLOCK_BYTES, RANDOM_BYTES = 1 << 20, 4 << 10
_SAMPLE_BLOCKS = 8
_RANDOM_READS = 64  # a sample, of each reader
_READERS = 16


def measure(plan: Plan) -> Found:
    """Rows tier ssd: kind bandwidth (write, read, random_read by 1 and 16 readers) and kind latency (random_read)."""
    found = Found()
    size = (plan.repeats + 1) * _SAMPLE_BLOCKS * BLOCK_BYTES
    if shutil.disk_usage(plan.directory).free < 4 * size:
        raise Unavailable(f"less than {4 * size >> 20} MiB free under {plan.directory}")
    try:
        with tempfile.NamedTemporaryFile(prefix=".workbench-storage-", dir=plan.directory) as scratch:
            descriptor, how = _open(scratch.name)
            try:
                _measure_file(found, File(descriptor, size, how), plan.repeats)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise Unavailable(f"{plan.directory}: {error.strerror}") from None
    return found


def _open(path: str) -> tuple[int, str]:
    """A descriptor, and in words how it gets past the page cache: O_DIRECT where the file system takes it."""
    if hasattr(os, "O_DIRECT"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
            try:
                os.pwrite(descriptor, mmap.mmap(-1, RANDOM_BYTES), 0)
                return descriptor, "O_DIRECT"
            except OSError:
                os.close(descriptor)
    return os.open(path, os.O_RDWR), "page cache dropped by posix_fadvise"


@dataclass(frozen=True)
class File:
    """An open file that holds `size` bytes once it is written; `how` is said by `_open`."""

    descriptor: int
    size: int
    how: str

    def forget(self) -> None:
        """Have the page cache hold nothing of this file; nothing to do under O_DIRECT."""
        if self.how != "O_DIRECT":
            os.fdatasync(self.descriptor)
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _measure_file(found: Found, file: File, repeats: int) -> None:
    same = {"tier": "ssd", "unit": "B/s"}
    # Writing first: what is read has then been written, every block of it.
    written = interleaved({"write": _sequential(file, _write_block)}, repeats)["write"]
    found.rate(written, f"1 MiB blocks, then fdatasync, {file.how}", kind="bandwidth", name="write", active=1,
               row_bytes=BLOCK_BYTES, **same)  # fmt: skip
    with ThreadPoolExecutor(_READERS) as pool:
        trials = {
            "read": _sequential(file, _read_block),
            1: _random(file, pool, 1),
            _READERS: _random(file, pool, _READERS),
        }
        samples = interleaved(trials, repeats)
    found.rate(samples["read"], f"1 MiB blocks in order, {file.how}", kind="bandwidth", name="read", active=1,
               row_bytes=BLOCK_BYTES, **same)  # fmt: skip
    for readers in (1, _READERS):
        found.rate(samples[readers], f"4 KiB blocks at random, {readers} at a time, {file.how}", kind="bandwidth",
                   name="random_read", active=readers, row_bytes=RANDOM_BYTES, **same)  # fmt: skip
    alone_ns = [RANDOM_BYTES / rate * 1e9 for rate in samples[1]]
    found.time(alone_ns, f"one 4 KiB block at random, {file.how}", kind="latency", name="random_read", tier="ssd",
               active=1, row_bytes=RANDOM_BYTES)  # fmt: skip


def _sequential(file: File, one_block: Callable) -> Callable[[], float]:
    """Bytes/s of the next blocks of the file, from its start again at the end."""
    buffer = mmap.mmap(-1, BLOCK_BYTES)  # page-aligned, as O_DIRECT wants it
    buffer.write(os.urandom(BLOCK_BYTES))  # nothing that a disk could compress
    offsets = itertools.cycle(range(0, file.size, BLOCK_BYTES))

    def sample() -> float:
        file.forget()
        start_ns = time.perf_counter_ns()
        for offset in itertools.islice(offsets, _SAMPLE_BLOCKS):
            one_block(file.descriptor, buffer, offset)
        os.fdatasync(file.descriptor)
        return _SAMPLE_BLOCKS * BLOCK_BYTES / (time.perf_counter_ns() - start_ns) * 1e9

    return sample


def _write_block(descriptor: int, buffer: mmap.mmap, offset: int) -> None:
    os.pwrite(descriptor, buffer, offset)


def _read_block(descriptor: int, buffer: mmap.mmap, offset: int) -> None:
    os.preadv(descriptor, [buffer], offset)


def _random(file: File, pool: ThreadPoolExecutor, readers: int) -> Callable[[], float]:
    """Bytes/s of one of `readers` threads that each read blocks anywhere in the file, one after another."""
    places = np.random.default_rng(readers)
    buffers = [mmap.mmap(-1, RANDOM_BYTES) for _ in range(readers)]

    def read(buffer: mmap.mmap, offsets: list[int]) -> None:
        for offset in offsets:
            os.preadv(file.descriptor, [buffer], offset)

    def sample() -> float:
        file.forget()
        offsets = places.integers(0, file.size // RANDOM_BYTES, (readers, _RANDOM_READS)) * RANDOM_BYTES
        start_ns = time.perf_counter_ns()
        list(pool.map(read, buffers, offsets.tolist()))
        return _RANDOM_READS * RANDOM_BYTES / (time.perf_counter_ns() - start_ns) * 1e9

    return sample
