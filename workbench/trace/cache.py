"""Parts as columns on disk, so that a trace is decoded once: an Arrow file a table, mapped into memory on open.

An entry is a folder named by the file's name and content and by the code that read it, so a changed file or reader
never meets an old entry. A cache can only save time: one that is damaged, full or read-only is gone around.
"""

import contextlib
import hashlib
import inspect
import os
import secrets
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
import pandas as pd
import platformdirs
import pyarrow as pa

from workbench.costs import call, collectives
from workbench.trace import memory_table, nesting, readers, schema
from workbench.trace.part import TABLES, Part
from workbench.trace.readers.execution_collectives import Collective
from workbench.trace.readers.execution_trace import Execution, empty_tensors

# For users' traces, in their cache folder; a run's own `.derived/` is as large as its traces are.
LIMIT_BYTES = 20 << 30

_ABOUT = "part.json"
# What an execution trace has beside a Part's tables: see `execution_trace.Execution`.
_EXECUTION, _TENSORS = "execution", "tensors"


def cached_part(path: Path, read: Callable[[Path], Part], folder: Path | None = None) -> Part:
    """`read(path)`, from the cache in `folder` (None: the user's cache folder) if it is there, else put there.

    What comes back may be changed freely. Raises what `read` raises.
    """
    path = Path(path)
    try:
        entry = _entry(path, read, folder)
    except OSError:
        return read(path)  # which says what is wrong with the file
    part = _load(entry)
    if part is None:
        part = read(path)
        _store(part, entry)
        if folder is None:
            _evict(keep=entry)
    part.info["file"] = str(path)
    return part


def is_cached(path: Path, read: Callable[[Path], Part], folder: Path | None = None) -> bool:
    """Whether `cached_part` would find an entry (which may still turn out to be damaged)."""
    try:
        return (_entry(Path(path), read, folder) / _ABOUT).exists()
    except OSError:
        return False


def folder() -> Path:
    """The user's cache of traces."""
    return platformdirs.user_cache_path("recsys-workbench") / "traces"


def usage() -> tuple[int, int]:
    """(files, bytes) in the user's cache of traces."""
    files = [file for file in folder().rglob("*") if file.is_file()]
    return len(files), sum(_bytes(file) for file in files)


def clear() -> tuple[int, int]:
    """Empty the user's cache of traces; (files, bytes) that were freed."""
    before = usage()
    shutil.rmtree(folder(), ignore_errors=True)
    after = usage()
    return before[0] - after[0], before[1] - after[1]


def _entry(path: Path, read: Callable[[Path], Part], within: Path | None) -> Path:
    """By name (it is told in the notes), content and code version."""
    with open(path, "rb") as file:
        content = hashlib.file_digest(file, "sha256")
    content.update(path.name.encode("utf-8", "surrogateescape"))
    return (within or folder()) / f"{content.hexdigest()[:32]}-{_code_version(read)[:12]}.part"


@cache
def _code_version(read: Callable[[Path], Part]) -> str:
    """Hash of the source that decides what `read` makes of a file."""
    modules = [Path(inspect.getfile(module)) for module in (call, collectives, memory_table, nesting, schema)]
    sources = [*sorted(Path(readers.__file__).parent.glob("*.py")), *modules, Path(__file__)]
    version = hashlib.sha256(f"{read.__module__}.{read.__qualname__}".encode())
    for source in sources:
        version.update(source.read_bytes())
    return version.hexdigest()


def _load(entry: Path) -> Part | None:
    """The Part of an entry; None where it is not there or cannot be read."""
    try:
        about = msgspec.json.decode((entry / _ABOUT).read_bytes())
        part = Part(**{name: _read_table(entry / f"{name}.arrow", empty) for name, empty in TABLES.items()}, **about)
        if execution := part.info.get(_EXECUTION):
            found = msgspec.convert(execution["collectives"], dict[int, Collective], str_keys=True)
            tensors = _read_table(entry / f"{_TENSORS}.arrow", empty_tensors)
            part.info[_EXECUTION] = Execution(execution["schema"], found, tensors)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None
    with contextlib.suppress(OSError):  # of a read-only cache, which cannot grow either
        os.utime(entry)  # the least recently used entry goes first
    return part


def _read_table(path: Path, empty: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    with pa.memory_map(str(path)) as source:
        # A copy: Arrow's memory is read-only, and a Part may be changed.
        frame = pa.ipc.open_file(source).read_all().to_pandas(split_blocks=True).copy()
    return frame if len(frame) else empty()  # Arrow forgets the type of categories that are not there


def _write_table(path: Path, frame: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _store(part: Part, entry: Path) -> None:
    """Write beside and rename: others see a whole entry or none."""
    scratch = entry.with_name(f".{entry.name}.{os.getpid()}.{secrets.token_hex(2)}")
    try:
        scratch.mkdir(parents=True)
        for name in TABLES:
            _write_table(scratch / f"{name}.arrow", getattr(part, name))
        info = dict(part.info)
        if execution := info.get(_EXECUTION):
            _write_table(scratch / f"{_TENSORS}.arrow", execution.tensors)
            info[_EXECUTION] = {"schema": execution.schema, "collectives": execution.collectives}
        (scratch / _ABOUT).write_bytes(msgspec.json.encode({"info": info, "notes": part.notes}))
        shutil.rmtree(entry, ignore_errors=True)  # a damaged one
        os.replace(scratch, entry)
    except (OSError, ValueError, TypeError, OverflowError):  # a full disk; a value that JSON cannot hold
        shutil.rmtree(scratch, ignore_errors=True)


def _evict(keep: Path) -> None:
    """Drop the user's least recently used entries until the rest fits LIMIT_BYTES."""
    try:
        found = [(entry.stat().st_mtime, entry, sum(map(_bytes, entry.iterdir()))) for entry in folder().iterdir()]
    except OSError:
        return  # another process is evicting
    total = sum(size for _, _, size in found)
    for _, entry, size in sorted(found):
        if total > LIMIT_BYTES and entry != keep:
            shutil.rmtree(entry, ignore_errors=True)
            total -= size


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # gone meanwhile
