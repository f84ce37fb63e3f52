"""Where the rows are that a cache does not hold: in host memory, or in a file that is read past the page cache.

A row is a few *columns*: its weights and its optimizer's states, tensors [rows, ...] whose dtypes and widths a
`Layout` gives. A store reads and writes the columns of many rows at a time, and counts the bytes that it moves.
"""

import math
import mmap
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise, zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from workbench.embeddings.file_rows import read_rows, write_rows
from workbench.errors import InputError

BLOCK_BYTES = (512, 4096)  # what O_DIRECT may ask offsets, sizes and buffers to be multiples of
_THREADS = 16  # requests under way at a time
_NO_ROWS = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Layout:
    """The columns of one row: dtype, and shape without the leading dimension."""

    columns: tuple[tuple[torch.dtype, tuple[int, ...]], ...]

    @classmethod
    def of(cls, columns: Sequence[Tensor]) -> "Layout":
        """The layout of tensors [rows, ...]."""
        return cls(tuple((column.dtype, tuple(column.shape[1:])) for column in columns))

    @property
    def widths_bytes(self) -> tuple[int, ...]:
        """Bytes of each column in one row."""
        return tuple(dtype.itemsize * math.prod(shape) for dtype, shape in self.columns)

    @property
    def row_bytes(self) -> int:
        """Bytes of all columns of one row."""
        return sum(self.widths_bytes)

    def zeros(self, rows: int, device: torch.device | str = "cpu") -> list[Tensor]:
        """New columns."""
        return [torch.zeros(rows, *shape, dtype=dtype, device=device) for dtype, shape in self.columns]


class Store(Protocol):
    """Rows 0 to n - 1 behind a cache. `tier` is the memory that they lie in, `moved_row_bytes` what one of them moves
    there; `read_bytes` and `write_bytes` count what was moved, `cpu_ns` the CPU time of the store's own threads."""

    tier: str
    moved_row_bytes: int
    read_bytes: int
    write_bytes: int
    cpu_ns: int = 0

    def read(self, rows: np.ndarray) -> list[Tensor]:
        """The columns of `rows` [n], which are distinct."""

    def write(self, rows: np.ndarray, columns: Sequence[Tensor]) -> None:
        """Replace the columns of `rows` [n], which are distinct."""

    def exchange(self, written: np.ndarray, columns: Sequence[Tensor], read: np.ndarray) -> list[Tensor]:
        """Write the `columns` of some rows and return those of others, of which none is among the written."""
        self.write(written, columns)
        return self.read(read)

    def flush(self) -> None:
        """Have the last store of a chain hold everything."""


class MemoryStore(Store):
    """Rows in host memory."""

    tier = "dram"

    def __init__(self, rows: int, layout: Layout) -> None:
        self.columns = layout.zeros(rows)
        self.moved_row_bytes = layout.row_bytes
        self.read_bytes = self.write_bytes = 0

    def read(self, rows: np.ndarray) -> list[Tensor]:
        self.read_bytes += len(rows) * self.moved_row_bytes
        return take_rows(self.columns, torch.from_numpy(rows))

    def write(self, rows: np.ndarray, columns: Sequence[Tensor]) -> None:
        self.write_bytes += len(rows) * self.moved_row_bytes
        put_rows(self.columns, torch.from_numpy(rows), columns)

    def flush(self) -> None:
        pass


class FileStore(Store):
    """Rows in a file of their own, each a record of whole blocks, so that writing one needs no reading.

    O_DIRECT where the file system takes it; else through the page cache, and `how` says so. Requests run on _THREADS
    threads, adjacent rows in one request. The file has no name: it is gone when the process ends, however it ends.
    """

    tier = "ssd"

    def __init__(self, rows: int, layout: Layout, folder: Path) -> None:
        self._layout = layout
        try:
            self._descriptor, block_bytes, self.how = _open(folder)
            self.moved_row_bytes = -(-layout.row_bytes // block_bytes) * block_bytes
            os.posix_fallocate(self._descriptor, 0, max(rows, 1) * self.moved_row_bytes)
        except OSError as error:
            needed = f"{rows * layout.row_bytes:,} bytes of embedding rows"
            raise InputError(f"cannot keep {needed} in a file in {folder}: {error.strerror}") from None
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="file-rows")
        self.read_bytes = self.write_bytes = 0

    def read(self, rows: np.ndarray) -> list[Tensor]:
        return self.exchange(_NO_ROWS, self._layout.zeros(0), rows)

    def write(self, rows: np.ndarray, columns: Sequence[Tensor]) -> None:
        self.exchange(rows, columns, _NO_ROWS)

    def exchange(self, written: np.ndarray, columns: Sequence[Tensor], read: np.ndarray) -> list[Tensor]:
        """Reads do not wait for writes: requests of both kinds are under way together."""
        order = np.argsort(written)
        outgoing, incoming = self._records(len(written)), self._records(len(read))
        for column, (start, end) in zip(columns, self._bounds(), strict=True):
            outgoing[:, start:end] = _bytes_of(column)[torch.from_numpy(order)].numpy()
        writes = self._parts(write_rows, written[order], outgoing)
        order = np.argsort(read)
        self._move(writes, self._parts(read_rows, read[order], incoming))
        self.write_bytes += outgoing.nbytes
        self.read_bytes += incoming.nbytes
        found = self._layout.zeros(len(read))
        for column, (start, end) in zip(found, self._bounds(), strict=True):
            _bytes_of(column)[torch.from_numpy(order)] = torch.from_numpy(incoming[:, start:end])
        return found

    def flush(self) -> None:
        pass

    def _parts(self, request: Callable, rows: np.ndarray, records: np.ndarray) -> list[Callable[[], int]]:
        """`request` for `rows` (rising) from or into `records`, in as many parts as there are threads; each returns how
        many rows it left."""
        bounds = np.linspace(0, len(rows), min(_THREADS, len(rows)) + 1).astype(int)
        return [
            lambda part=slice(*ends): len(rows[part]) - request(self._descriptor, rows[part], records[part])
            for ends in pairwise(bounds)
        ]

    def _move(self, *parts: list[Callable[[], int]]) -> None:
        """Have the threads do the parts of all kinds, by turns."""
        by_turns = [part for turn in zip_longest(*parts) for part in turn if part]
        left, cpu_ns = np.array([(0, 0), *self._pool.map(_on_the_cpu, by_turns)]).sum(axis=0)
        self.cpu_ns += int(cpu_ns)
        if left:
            raise OSError("a file of embedding rows could not be read or written")

    def _records(self, rows: int) -> np.ndarray:
        """[rows, moved_row_bytes] uint8, aligned to pages."""
        memory = mmap.mmap(-1, max(rows, 1) * self.moved_row_bytes)
        return np.frombuffer(memory, dtype=np.uint8)[: rows * self.moved_row_bytes].reshape(rows, self.moved_row_bytes)

    def _bounds(self) -> list[tuple[int, int]]:
        return list(pairwise(accumulate(self._layout.widths_bytes, initial=0)))


def take_rows(columns: Sequence[Tensor], rows: Tensor) -> list[Tensor]:
    """Copies of `rows` [n] of every column."""
    return [column.index_select(0, rows.to(column.device)) for column in columns]


def put_rows(columns: Sequence[Tensor], rows: Tensor, values: Sequence[Tensor]) -> None:
    """Replace `rows` [n], which are distinct, of every column."""
    for column, value in zip(columns, values, strict=True):
        column.index_copy_(0, rows.to(column.device), value.to(column.device))


def _on_the_cpu(work: Callable[[], int]) -> tuple[int, int]:
    """What `work` returns, and the CPU time that it took this thread, ns."""
    before_ns = time.thread_time_ns()
    return work(), time.thread_time_ns() - before_ns


def _bytes_of(column: Tensor) -> Tensor:
    """The same memory as uint8 [rows, bytes of a row]."""
    return column.reshape(len(column), math.prod(column.shape[1:])).view(torch.uint8)


def _open(folder: Path) -> tuple[int, int, str]:
    """A descriptor of a new file without a name, its block size, and in words how it gets past the page cache."""
    with suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT, 0o600)
        for block_bytes in BLOCK_BYTES:
            with suppress(OSError):
                # From the second block on, since a first one is aligned to anything.
                os.pwrite(descriptor, memoryview(mmap.mmap(-1, 2 * block_bytes))[block_bytes:], block_bytes)
                return descriptor, block_bytes, "O_DIRECT"
        os.close(descriptor)
    return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600), BLOCK_BYTES[0], "through the page cache"
