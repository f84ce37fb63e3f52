"""Large profiles of several ranks, decoded side by side: each by an interpreter of its own, into the cache.

What they find comes back as the cache's columns. Interpreters and not `multiprocessing`, since that would run the
main module of an unguarded script once more in each process. Where one fails, the caller decodes the file itself, and
meets the error.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from workbench.machine.host import cpu_limit, memory_limit_bytes, usable_cpus
from workbench.trace.cache import cached_part, is_cached
from workbench.trace.readers import kineto

# An interpreter takes a second or two to start, in which another decodes 10 MB: from here on that is repaid.
WORTHWHILE_BYTES = 40_000_000
# All of them together take at most this share of the memory that is free.
_MEMORY_SHARE = 0.5
# Measured on traces of 2 to 200 MB of JSON: memory of a process = fixed + expansion x size of the (gzip) file.
_FIXED_BYTES, _EXPANSION = 300_000_000, 12

_PROGRAM = "import sys; from workbench.trace.parallel import decode; decode(*sys.argv[1:])"


def decode_ahead(files: list[tuple[Path, Path | None]]) -> None:
    """Put the parts of these traces into the cache folder beside each (None: the user's), if it is worth while: they
    are large, not there yet, and CPUs and memory allow for two at once."""
    sizes = {file: path_bytes for file in files if (path_bytes := _bytes(file[0]))}
    if len(files) < 2 or sum(sizes.values()) < WORTHWHILE_BYTES:
        return
    missing = [file for file in sizes if not is_cached(file[0], kineto.read, file[1])]
    workers = _workers([sizes[file] for file in missing])
    if workers < 2 or sum(sizes[file] for file in missing) < WORTHWHILE_BYTES:
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(_decode_elsewhere, missing))


def decode(path: str, folder: str = "") -> None:
    """Put the part of one trace into the cache; what a started interpreter does."""
    cached_part(Path(path), kineto.read, Path(folder) if folder else None)


def _decode_elsewhere(file: tuple[Path, Path | None]) -> None:
    path, folder = file
    command = [sys.executable, "-c", _PROGRAM, str(path), str(folder or "")]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _workers(sizes_bytes: list[int]) -> int:
    """How many files of these sizes may be decoded at once."""
    cpus = min(len(usable_cpus()), cpu_limit() or len(usable_cpus()))
    available_bytes = min(psutil.virtual_memory().available, memory_limit_bytes() or sys.maxsize)
    needed_bytes = _FIXED_BYTES + _EXPANSION * max(sizes_bytes, default=0)
    return int(min(len(sizes_bytes), cpus, _MEMORY_SHARE * available_bytes // needed_bytes))


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
