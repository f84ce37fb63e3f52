"""What this machine is: processor, caches, memory, limits, versions; its fingerprint; the project's revision.

Read from Linux's /proc and /sys; what a system does not tell is None or empty, never guessed.
"""

import hashlib
import importlib.metadata
import json
import math
import mmap
import os
import platform
import re
import socket
import subprocess
from pathlib import Path

import psutil

_PACKAGES = ("numpy", "numba", "torch", "fbgemm-gpu-cpu", "fbgemm-gpu")
# What decides how fast the machine is and stays the same over reboots: no clocks, counters, kernel or host name.
_LASTING = ("cpu_model", "architecture", "sockets", "cores", "caches", "numa_nodes", "cpu_limit", "memory_limit_bytes",
            "page_bytes", "transparent_huge_pages", "packages", "gpus")  # fmt: skip


def host_facts(gpus: bool = False) -> dict:
    """Facts of this machine, JSON-ready. `gpus` also asks torch for its devices (which imports torch)."""
    frequency = psutil.cpu_freq()
    return {
        "hostname": socket.gethostname(),
        "boot_id": _text("/proc/sys/kernel/random/boot_id"),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu_model": _cpu_model(),
        "sockets": len(_topology("physical_package_id")),
        "cores": len(physical_cores()),
        "usable_cpus": usable_cpus(),
        "cpu_limit": cpu_limit(),
        "caches": caches(),
        "numa_nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))),
        "frequency_mhz": frequency.current if frequency else None,
        "steal_s": getattr(psutil.cpu_times(), "steal", None),
        "memory_bytes": psutil.virtual_memory().total,
        "memory_limit_bytes": memory_limit_bytes(),
        "page_bytes": mmap.PAGESIZE,
        "transparent_huge_pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "gpus": _gpus() if gpus else [],
    }


def fingerprint(facts: dict) -> str:
    """16 hexadecimal digits that change when hardware, limits or the versions that matter do, and not on a reboot.

    The kernel keeps a little more or less memory for itself at each boot, so memory counts in GiB, rounded up.
    """
    lasting = {key: facts.get(key) for key in _LASTING} | {"memory_gib": math.ceil(facts["memory_bytes"] / 2**30)}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:16]


def code_revision() -> str | None:
    """Revision of the checkout that this package is part of, with `-dirty` where files differ from it; None elsewhere
    (an installed package may well lie inside somebody else's repository)."""
    folder = Path(__file__).parent
    if _git(folder, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    revision, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{revision}-dirty" if revision and changes else revision


def cpu_seconds() -> tuple[float, float]:
    """(CPU seconds that the whole machine has worked or lost to its host, those of this process and its children)."""
    machine, own = psutil.cpu_times(), os.times()
    worked = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(getattr(machine, field, 0.0) for field in worked), sum(own[:4])


def usable_cpus() -> list[int]:
    """CPUs that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))


def physical_cores() -> list[int]:
    """One usable CPU of each physical core: two threads of one core would share what is to be measured."""
    cpus = reversed(usable_cpus())
    first = {_text(_cpu_file(cpu, "topology/thread_siblings_list")) or str(cpu): cpu for cpu in cpus}
    return sorted(first.values())


def caches() -> list[dict]:
    """Data caches as the first usable CPU reports them, nearest first: level, bytes, usable cores that share it. A
    virtual machine may report sizes that it does not own."""
    found, cores = [], physical_cores()
    for folder in sorted(_cpu_file(cores[0], "cache").glob("index*")):
        size = re.fullmatch(r"(\d+)([KMG])", _text(folder / "size") or "")
        if size and _text(folder / "type") in ("Data", "Unified"):
            capacity_bytes = int(size[1]) << {"K": 10, "M": 20, "G": 30}[size[2]]
            sharing = _cpu_list(_text(folder / "shared_cpu_list") or "").intersection(cores)
            level = int(_text(folder / "level"))
            found.append({"level": level, "bytes": capacity_bytes, "shared_by_cores": max(1, len(sharing))})
    return sorted(found, key=lambda cache: cache["level"])


def cpu_limit(root: Path = Path("/")) -> float | None:
    """CPUs that the control group grants, the smallest limit on the way to the root; None without one."""
    limits = []
    for folder in _control_groups(root, "cpu"):
        quota, period = ((_text(folder / "cpu.max") or "max 0").split() + ["0"])[:2]
        if quota == "max":
            quota, period = _text(folder / "cpu.cfs_quota_us") or "-1", _text(folder / "cpu.cfs_period_us") or "0"
        if int(quota) > 0:
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Memory that the control group grants, the smallest limit on the way to the root; None without one."""
    limits = []
    for folder in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _text(folder / name)
            if text and text.isdigit() and int(text) < 2**62:  # version 1 writes "no limit" as a huge number
                limits.append(int(text))
    return min(limits, default=None)


def _control_groups(root: Path, controller: str) -> list[Path]:
    """Folders of this process's control group for `controller`, and of its parents (versions 1 and 2)."""
    folders = []
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        own = top / path.lstrip("/")
        folders += [own, *(parent for parent in own.parents if parent.is_relative_to(top))]
    return folders


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo") or "", re.MULTILINE)
    return match[1].strip() if match else platform.processor()


def _topology(name: str) -> set[str]:
    return {_text(_cpu_file(cpu, f"topology/{name}")) or "0" for cpu in usable_cpus()}


def _gpus() -> list[dict]:
    import torch

    if not torch.cuda.is_available():
        return []
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [{"name": p.name, "memory_bytes": p.total_memory, "l2_bytes": p.L2_cache_size} for p in properties]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_file(cpu: int, name: str) -> Path:
    return Path(f"/sys/devices/system/cpu/cpu{cpu}/{name}")


def _text(path: str | Path) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _chosen(path: str) -> str | None:
    """The word in brackets: 'always [madvise] never' -> 'madvise'."""
    match = re.search(r"\[(\w+)\]", _text(path) or "")
    return match[1] if match else None


def _cpu_list(text: str) -> set[int]:
    """'0-3,8' -> {0, 1, 2, 3, 8}."""
    ranges = [part.split("-") for part in text.split(",") if part]
    return {cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)}
