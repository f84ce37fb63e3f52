"""Criteo click logs: a label, 13 counts, 26 categories a row, as the Kaggle and terabyte files and their samples come.

Tab- or comma-separated, with or without a header, counts as integers or floats, fields may be empty, plain or gzip:
all told from the file itself. Rows stream through a few MiB; the file starts again at its end. Every rank reads the
whole file and keeps its slice of each batch. About one row in ten, by a hash of its number, is held out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import chain, islice, repeat
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from workbench.data.batch import Batch
from workbench.data.features import Feature
from workbench.data.hashing import derive, uniform
from workbench.errors import InputError

DENSE = tuple(f"I{number}" for number in range(1, 14))
CATEGORIES = tuple(f"C{number}" for number in range(1, 27))
COLUMNS = ("label", *DENSE, *CATEGORIES)
HELD_OUT_SHARE = 0.1
BLOCK_BYTES = 4 << 20
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Rows:
    """Rows of the file: `dense` [n, 13] float32, `categories` [n, 26] int64 ids (-1 absent), `labels` [n]."""

    dense: np.ndarray
    categories: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | np.ndarray) -> "Rows":
        return Rows(self.dense[rows], self.categories[rows], self.labels[rows])

    def batch(self) -> Batch:
        """As a batch: a category is a bag of one lookup, an empty field a bag of none."""
        categories = self.categories.T
        present = categories >= 0
        return Batch(self.dense, present.astype(np.int32), categories[present], self.labels)


@dataclass(frozen=True)
class Criteo:
    """The click log at `path` in global batches of `batch_size`; category k is `features[k]`.

    A value's id is its keyed SipHash modulo the feature's rows (the hashing trick: values may share an id). Counts
    become log(1 + max(count, 0)), an empty one 0. InputError where the file is not such a log.
    """

    path: Path
    features: tuple[Feature, ...]
    batch_size: int
    seed: int

    def batches(self, rank: int = 0, ranks: int = 1, first: int = 0) -> Iterator[Batch]:
        """This rank's slice of every batch from number `first` on, epoch after epoch without end; a batch may span two
        epochs. The file is read from its start."""
        epochs = chain.from_iterable(self._blocks(held_out=False) for _ in repeat(None))
        groups = islice(_regroup(epochs, self.batch_size), first, None)
        return (_rank_slice(rows, rank, ranks).batch() for rows in groups)

    def held_out(self, rank: int, ranks: int, batches: int) -> Iterator[Batch]:
        """This rank's slices of the first `batches` batches of held-out rows; the last may be smaller."""
        groups = _regroup(self._blocks(held_out=True), self.batch_size)
        return (_rank_slice(rows, rank, ranks).batch() for rows in islice(groups, batches) if len(rows) >= ranks)

    def check(self) -> None:
        """InputError when the file is missing, empty, or lacks a column."""
        _layout(self.path)

    def _blocks(self, held_out: bool) -> Iterator[Rows]:
        """The wanted split of the file, a block at a time; InputError when that leaves nothing to train on."""
        split_key, number, found = derive(self.seed, 0), 0, 0
        for block in _read(self.path):
            numbers = np.arange(number, number + len(block))
            wanted = (uniform(derive(split_key, numbers)) < HELD_OUT_SHARE) == held_out
            rows = self._rows(block, number)[wanted]
            number, found = number + len(block), found + len(rows)
            yield rows
        if found == 0 and not held_out:
            raise InputError(f"{self.path} has {number} rows, none of them to train on: give a larger file")

    def _rows(self, block: pa.RecordBatch, first_row: int) -> Rows:
        labels = _floats(block, "label")
        if (wrong := ~np.isin(labels, (0, 1))).any():
            row = int(wrong.argmax())
            raise InputError(f"{self.path}, row {first_row + row + 1}: label {labels[row]:g} is neither 0 nor 1")
        counts = np.nan_to_num(np.stack([_floats(block, name) for name in DENSE], axis=1))
        categories = [
            _hash_ids(block.column(name), feature.rows, self.seed)
            for name, feature in zip(CATEGORIES, self.features, strict=True)
        ]
        dense = np.log1p(np.maximum(counts, 0)).astype(np.float32)
        return Rows(dense, np.stack(categories, axis=1), labels.astype(np.float32))


def _rank_slice(rows: Rows, rank: int, ranks: int) -> Rows:
    size = len(rows) // ranks
    return rows[rank * size : (rank + 1) * size]


def _regroup(blocks: Iterator[Rows], size: int) -> Iterator[Rows]:
    """Blocks of any length as groups of `size` rows, in order; the last is what is left."""
    waiting: list[Rows] = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) < size:
            continue
        rows = _join(waiting)
        full = len(rows) // size * size
        yield from (rows[start : start + size] for start in range(0, full, size))
        waiting = [rows[full:]]
    if sum(map(len, waiting)):
        yield _join(waiting)


def _join(parts: list[Rows]) -> Rows:
    return Rows(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Rows)))


def _hash_ids(values: pa.Array, rows: int, seed: int) -> np.ndarray:
    """Id of every value [n] int64, -1 where there is none. A block's distinct values are hashed once."""
    encoded = values.dictionary_encode()
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
    hashes = pd.util.hash_array(distinct, hash_key=f"{seed:016x}", categorize=False) % np.uint64(rows)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.append(hashes.astype(np.int64), -1)[codes]


def _floats(block: pa.RecordBatch, name: str) -> np.ndarray:
    """A column as float64 [n], NaN where the field is empty."""
    return block.column(name).to_numpy(zero_copy_only=False)


def _read(path: Path) -> Iterator[pa.RecordBatch]:
    names, delimiter, has_header = _layout(path)
    read = csv.ReadOptions(column_names=names, skip_rows=int(has_header), block_size=BLOCK_BYTES, use_threads=False)
    parse = csv.ParseOptions(delimiter=delimiter, quote_char=False)
    types = {name: pa.string() if name in CATEGORIES else pa.float64() for name in COLUMNS}
    convert = csv.ConvertOptions(
        column_types=types, include_columns=COLUMNS, null_values=[""], strings_can_be_null=True
    )
    try:
        with _open(path) as file, csv.open_csv(file, read, parse, convert) as blocks:
            yield from blocks
    except (pa.ArrowInvalid, OSError) as error:
        # A damaged field may be megabytes long: its beginning says enough.
        raise InputError(f"{path} is not a Criteo log: {str(error).splitlines()[0][:200]}") from None


def _layout(path: Path) -> tuple[list[str], str, bool]:
    """Column names, delimiter, and whether the first line is a header."""
    try:
        with _open(path) as file:
            start = file.read(1 << 16)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; give a Criteo log with data=PATH") from None
    line = start.split(b"\n", 1)[0].decode(errors="replace").rstrip("\r")
    if not line.strip():
        raise InputError(f"{path} is empty or starts with an empty line: expected a Criteo log")
    delimiter = "\t" if "\t" in line else ","
    first = [field.strip() for field in line.split(delimiter)]
    has_header = bool(set(first) & set(COLUMNS))
    names = first if has_header else list(COLUMNS[: len(first)])
    if missing := [name for name in COLUMNS if name not in names]:
        raise InputError(f"{path} lacks column {missing[0]}: a Criteo log has label, I1 to I13 and C1 to C26")
    if not has_header and len(first) > len(COLUMNS):
        raise InputError(f"{path} has {len(first)} columns: a Criteo log has {len(COLUMNS)}")
    return names, delimiter, has_header


def _open(path: Path) -> pa.NativeFile:
    """The file's text, decompressed where it is gzip by its first bytes."""
    with open(path, "rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
    return pa.input_stream(str(path), compression="gzip" if compressed else None)
