"""Stores return what was last written, whatever the columns' types; files are really read past the page cache."""

import numpy as np
import pytest
import torch

from workbench.embeddings.backing import FileStore, Layout, MemoryStore
from workbench.errors import InputError

COLUMNS = [torch.empty(1, 5), torch.empty(1), torch.empty(1, 3, dtype=torch.float16), torch.empty(1, 7).to(torch.int8)]
LAYOUT = Layout.of(COLUMNS)
ROWS = 500


def read_from_disk() -> int:
    """Bytes that this process has had the kernel fetch from storage."""
    with open("/proc/self/io") as file:
        return int(next(line for line in file if line.startswith("read_bytes")).split()[1])


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    return MemoryStore(ROWS, LAYOUT) if request.param == "memory" else FileStore(ROWS, LAYOUT, tmp_path)


def some_columns(rows: int, generator: torch.Generator) -> list[torch.Tensor]:
    return [(100 * torch.rand(rows, *shape, generator=generator)).to(dtype) for dtype, shape in LAYOUT.columns]


def test_layout():
    assert LAYOUT.widths_bytes == (20, 4, 6, 7) and LAYOUT.row_bytes == 37


def test_rows_are_what_was_last_written(store):
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    expected = LAYOUT.zeros(ROWS)
    for count in (0, 1, 40, 400):
        rows, values = random.permutation(ROWS)[:count], some_columns(count, generator)
        store.write(rows, values)
        for column, value in zip(expected, values, strict=True):
            column[torch.from_numpy(rows)] = value
        rows = random.permutation(ROWS)[:count]
        for column, found in zip(expected, store.read(rows), strict=True):
            torch.testing.assert_close(found, column[torch.from_numpy(rows)], rtol=0, atol=0)
    moved = 441 * (37 if store.tier == "dram" else store.moved_row_bytes)
    assert store.read_bytes == store.write_bytes == moved


def test_rows_are_written_while_others_are_read(store):
    random, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    before = some_columns(ROWS, generator)
    store.write(np.arange(ROWS), before)
    written, read = np.split(random.permutation(ROWS)[:300], [100])
    values = some_columns(len(written), generator)
    for column, found in zip(before, store.exchange(written, values, read), strict=True):
        torch.testing.assert_close(found, column[torch.from_numpy(read)], rtol=0, atol=0)
    for value, found in zip(values, store.read(written), strict=True):
        torch.testing.assert_close(found, value, rtol=0, atol=0)
    assert (store.cpu_ns > 0) == (store.tier == "ssd")


def test_files_are_read_from_the_disk_or_say_that_they_are_not(tmp_path):
    store = FileStore(ROWS, LAYOUT, tmp_path)
    rows = np.arange(ROWS)
    store.write(rows, LAYOUT.zeros(ROWS))
    before = read_from_disk()
    store.read(rows[::2].copy())
    assert (store.how == "O_DIRECT") == (read_from_disk() - before >= ROWS // 2 * store.moved_row_bytes)
    assert store.moved_row_bytes in (512, 4096) and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_hold_the_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"cannot keep .* bytes of embedding rows in a file in .*: No such file"):
        FileStore(ROWS, LAYOUT, tmp_path / "none")
