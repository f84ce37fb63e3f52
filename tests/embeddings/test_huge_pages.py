"""Huge pages change where a table lies, and no value of it."""

import platform
import re
from pathlib import Path

import pytest
import torch

from workbench.embeddings.huge_pages import use_huge_pages

_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_ON_REQUEST = _SETTING.is_file() and "[madvise]" in _SETTING.read_text()
_KERNEL = tuple(int(part) for part in re.match(r"(\d+)\.(\d+)", platform.release()).groups())


def huge_bytes() -> int:
    """Of this process, by the kernel's account."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages:"))


@pytest.mark.parametrize("rows", [0, 10, 300_000])  # nothing, too little, 38 MB
def test_no_value_changes(rows):
    table = torch.arange(rows * 32, dtype=torch.float32).view(rows, 32)
    before = table.clone()
    use_huge_pages(table)
    torch.testing.assert_close(table, before, rtol=0, atol=0)


@pytest.mark.skipif(not _ON_REQUEST or _KERNEL < (6, 1), reason="this kernel gives none on request")
def test_a_large_table_lies_in_huge_pages():
    table = torch.ones(1_000_000, 32)  # 128 MB: some of its pages may find no room
    before = huge_bytes()
    use_huge_pages(table)
    assert huge_bytes() - before > 32e6
