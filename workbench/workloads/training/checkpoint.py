"""A checkpoint: a folder of plain arrays and one JSON file that says what they are. Nothing is ever unpickled.

    step-00000200/
      checkpoint.json       step, settings of the model, running loss, and size, CRC-32 and place of every array
      rank-<r>/<n>.npy      pieces of tables: rows and columns of weights and optimizer states; rank 0's MLPs

It is written beside its place and moved there when all of it is on disk, so a checkpoint is whole or not there. Pieces
say which rows and columns they hold, so that any plan on any number of ranks can be loaded from them. Rows are as they
are stored: bf16 as its bits in int16, int8 with its scales. Random rounding and Adam go on from `step`, the number of
updates.
"""

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from workbench.errors import InputError

MANIFEST = "checkpoint.json"
SCHEMA_VERSION = 2
_SCHEMA_1_SETTINGS = {"row_dtype": "fp32"}  # the only rows that it had, so it did not say
KEPT = 2  # the newest, and the one before
_NAME = re.compile(r"step-\d{8,}")
_CHUNK_BYTES = 1 << 22


class Array(msgspec.Struct, kw_only=True):
    """One file: `what` of `owner`, a table (with its rows and columns [begin, end)) or a parameter of the MLPs."""

    file: str
    owner: str
    what: str
    shape: tuple[int, ...]
    dtype: str
    file_bytes: int
    crc32: int
    rows: tuple[int, int] = (0, 0)
    columns: tuple[int, int] = (0, 0)


class Manifest(msgspec.Struct, kw_only=True):
    """`checkpoint.json`. `settings` are those that make the model and its data; `running` are sums of the loss."""

    schema: int
    step: int
    ranks: int
    settings: dict
    tables: dict[str, tuple[int, int]]
    running: tuple[float, float, float]
    arrays: list[Array]


class Writer:
    """One rank's part of the checkpoint of `step` in `folder`. `add` arrays, then `close`; rank 0 has called
    `prepare` before, and calls `commit` when all ranks have closed."""

    def __init__(self, folder: Path, step: int, rank: int) -> None:
        self.folder, self.step, self.rank = folder, step, rank
        self._part = folder / f".step-{step:08d}.part"
        self._arrays: list[Array] = []

    def prepare(self) -> None:
        """An empty folder for all ranks; InputError where there can be none."""
        try:
            for stale in self.folder.glob(".step-*.part"):
                shutil.rmtree(stale)
            self._part.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"cannot write checkpoints into {self.folder}: {error.strerror}") from None

    def add(self, owner: str, what: str, shape: tuple[int, ...], dtype: np.dtype, chunks: Iterable[np.ndarray],
            rows: tuple[int, int] = (0, 0), columns: tuple[int, int] = (0, 0)) -> None:  # fmt: skip
        """One array of `shape`, given in chunks along its first dimension."""
        name = f"rank-{self.rank}/{len(self._arrays)}.npy"
        (self._part / f"rank-{self.rank}").mkdir(exist_ok=True)
        crc32 = 0
        with open(self._part / name, "wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in chunks:
                content = np.ascontiguousarray(chunk, dtype=dtype).data.cast("B") if chunk.size else b""
                crc32 = zlib.crc32(content, crc32)
                file.write(content)
            _to_disk(file)
            file_bytes = file.tell()
        self._arrays.append(
            Array(
                file=name, owner=owner, what=what, shape=shape, dtype=dtype.str, file_bytes=file_bytes, crc32=crc32,
                rows=rows, columns=columns,
            )
        )  # fmt: skip

    def close(self) -> None:
        """This rank's arrays are on disk."""
        (self._part / f"rank-{self.rank}").mkdir(exist_ok=True)
        with open(self._part / f"rank-{self.rank}" / "arrays.json", "wb") as file:
            file.write(msgspec.json.encode(self._arrays))
            _to_disk(file)

    def commit(self, ranks: int, settings: dict, tables: dict[str, tuple[int, int]], running: tuple) -> Path:
        """All ranks have closed: the checkpoint takes its place, and all but the newest KEPT go."""
        arrays = []
        for rank in range(ranks):
            path = self._part / f"rank-{rank}" / "arrays.json"
            if not path.is_file():
                raise InputError(
                    f"rank {rank} does not see {self.folder}: checkpoints need a disk that all ranks share"
                )
            arrays += msgspec.json.decode(path.read_bytes(), type=list[Array])
        manifest = Manifest(schema=SCHEMA_VERSION, step=self.step, ranks=ranks, settings=settings, tables=tables,
                            running=running, arrays=arrays)  # fmt: skip
        with open(self._part / MANIFEST, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
            _to_disk(file)
        target = self.folder / f"step-{self.step:08d}"
        shutil.rmtree(target, ignore_errors=True)  # of an earlier attempt at the same step
        self._part.rename(target)
        for old in checkpoints_in(self.folder)[:-KEPT]:
            shutil.rmtree(old)
        return target


class Checkpoint:
    """A checkpoint, opened. InputError where it is none, was cut short or damaged: arrays are verified when read."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            found = msgspec.json.decode((self.path / MANIFEST).read_bytes(), type=Manifest)
        except OSError as error:
            raise InputError(f"{path} is no checkpoint: {MANIFEST}: {error.strerror}") from None
        except msgspec.DecodeError as error:
            raise InputError(f"{self.path / MANIFEST} is no checkpoint's manifest: {error}") from None
        if found.schema > SCHEMA_VERSION:
            raise InputError(f"{path} has schema {found.schema}; this workbench reads up to {SCHEMA_VERSION}")
        self.step, self.tables, self.running = found.step, found.tables, found.running
        self.settings = _SCHEMA_1_SETTINGS | found.settings
        self._arrays = found.arrays
        self._opened: dict[str, np.ndarray] = {}
        for array in self._arrays:
            self._check_size(array)
        for table, (rows, dim) in self.tables.items():
            pieces = self.pieces(table, "weight")
            if sum(np.ptp(piece.rows) * np.ptp(piece.columns) for piece in pieces) != rows * dim:
                raise InputError(f"checkpoint {path} is cut short: table {table} is not whole")

    def check_model(self, settings: dict) -> None:
        """InputError unless it is a checkpoint of a model with these settings."""
        wanted = json.loads(json.dumps(settings))
        for name, value in wanted.items():
            if self.settings.get(name) != value:
                there = self.settings.get(name)
                raise InputError(f"checkpoint {self.path} is of another model: {name} is {there} there, {value} here")

    def pieces(self, table: str, what: str) -> list[Array]:
        """The arrays that hold `what` (weight, state, scale, least) of a table."""
        return [array for array in self._arrays if array.owner == table and array.what == what and np.ptp(array.rows)]

    def parameters(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """(name, what, values) of the MLPs: what is weight, or a state of the optimizer."""
        for array in self._arrays:
            if not np.ptp(array.rows):
                yield array.owner, array.what, self.read(array)

    def table(self, name: str, what: str = "weight") -> np.ndarray:
        """All rows of a table, as stored: weight [rows, dim], optimizer state, or int8 rows' scale or least value."""
        rows, dim = self.tables[name]
        found = self.fill(name, what, (0, rows), (0, dim), None)
        assert found is not None  # every table has rows
        return found

    def fill(self, table: str, what: str, rows: tuple[int, int], columns: tuple[int, int],
             into: np.ndarray | None) -> np.ndarray | None:  # fmt: skip
        """Rows and columns [begin, end) of a table, from all pieces that hold some: into `into`, or a new array.

        States of one number a row are the same in all pieces of the row.
        """
        for piece in self.pieces(table, what):
            begin, end = max(rows[0], piece.rows[0]), min(rows[1], piece.rows[1])
            left, right = max(columns[0], piece.columns[0]), min(columns[1], piece.columns[1])
            if begin >= end or left >= right:
                continue
            source, wide = self.read(piece), len(piece.shape) > 1
            if into is None:
                shape = (*piece.shape[1:-1], columns[1] - columns[0]) if wide else ()
                into = np.empty((rows[1] - rows[0], *shape), dtype=piece.dtype)
            target = into[begin - rows[0] : end - rows[0]]
            source = source[begin - piece.rows[0] : end - piece.rows[0]]
            if wide:
                target = target[..., left - columns[0] : right - columns[0]]
                source = source[..., left - piece.columns[0] : right - piece.columns[0]]
            target[...] = source
        return into

    def read(self, array: Array) -> np.ndarray:
        """One array, mapped into memory; verified when it is first read."""
        if array.file not in self._opened:
            path = self.path / array.file
            try:
                values = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise InputError(f"{path} is no array: {error}") from None
            if values.shape != array.shape or values.dtype.str != array.dtype:
                raise InputError(f"{path} holds {values.dtype} {values.shape}, not {array.dtype} {array.shape}")
            if _crc32(values) != array.crc32:
                raise InputError(f"{path} is damaged: its CRC-32 is not the one in {MANIFEST}")
            self._opened[array.file] = values
        return self._opened[array.file]

    def _check_size(self, array: Array) -> None:
        path = self.path / array.file
        size = path.stat().st_size if path.is_file() else 0
        if size != array.file_bytes:
            raise InputError(
                f"checkpoint {self.path} is cut short: {array.file} has {size:,} of {array.file_bytes:,} bytes"
            )


def checkpoints_in(folder: Path) -> list[Path]:
    """The complete checkpoints directly in `folder`, oldest first."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and (path / MANIFEST).is_file()]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def newest_checkpoint(path: Path) -> Path:
    """`path` itself, or the newest checkpoint of a folder or a run directory; InputError if there is none."""
    if (path / MANIFEST).is_file() or _NAME.fullmatch(path.name):
        return path
    found = checkpoints_in(path) or checkpoints_in(path / "checkpoints")
    if not found:
        raise InputError(f"{path} holds no checkpoint: give a checkpoint, a folder of them, or a run directory")
    return found[-1]


def _crc32(values: np.ndarray) -> int:
    flat, crc32 = values.reshape(-1).view(np.uint8), 0
    for start in range(0, len(flat), _CHUNK_BYTES):
        crc32 = zlib.crc32(flat[start : start + _CHUNK_BYTES], crc32)
    return crc32


def _to_disk(file) -> None:
    file.flush()
    os.fsync(file.fileno())
