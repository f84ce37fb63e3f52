"""Measures what this machine can do, once: `ceilings()` runs the parts beside this file and caches what they found.

A part is a file with `measure(plan) -> Found`. Each is cached when it is done, so an interrupted measurement goes on
where it stopped; a thorough one replaces a quick one part by part.
"""

import datetime
import fcntl
import importlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import platformdirs

from workbench.machine.ceilings import CEILINGS_VERSION, Ceilings
from workbench.machine.host import cpu_seconds, fingerprint, host_facts
from workbench.machine.measure.plan import Plan
from workbench.machine.measure.sampling import Found, Unavailable

PARTS = ("compute", "memory", "gather", "latency", "overhead", "collectives", "network", "storage", "device")


class Measured(msgspec.Struct):
    """One part as the cache holds it. `others_share`: of all processor time meanwhile, what went to other work."""

    rows: list[dict]
    left_out: dict[str, str]
    quick: bool
    measured_at: str
    others_share: float


class _Cache(msgspec.Struct):
    version: int
    parts: dict[str, Measured]


def ceilings(
    quick: bool = False, fresh: bool = False, progress: Callable[[str, float], None] | None = None
) -> Ceilings:
    """This machine's ceilings: measured now, or as cached for this hardware, its limits and the versions that matter.

    `quick` takes at most half a minute on two cores and accepts a thorough result as well; otherwise a few minutes.
    `fresh` measures whatever is cached. `progress(text, done_share)` is told what is being measured. Interrupted, it
    keeps the parts that are done, and the next call goes on from there. What the machine cannot be asked (no GPU, no
    room on the disk) is in `about["left_out"]` with the reason, until `fresh`.
    """
    tell = progress or (lambda text, done_share: None)
    facts = host_facts(gpus=True)
    path = platformdirs.user_cache_path("recsys-workbench") / "machine" / f"{fingerprint(facts)}.json"
    with _alone(path):
        parts = {} if fresh else _read(path)
        missing = [part for part in PARTS if part not in parts or (parts[part].quick and not quick)]
        plan = Plan.of_this_machine(quick) if missing else None
        for place, part in enumerate(missing):
            tell(f"measuring {part}", place / len(missing))
            parts[part] = _measure(part, plan)
            _write(path, parts)
    tell("measured", 1.0)
    return _assemble(parts, facts)


def _measure(part: str, plan: Plan) -> Measured:
    """Run one part; what this machine cannot be asked is left out, with the reason."""
    start_s, before = time.monotonic(), cpu_seconds()
    try:
        found = importlib.import_module(f"{__name__}.{part}").measure(plan)
    except Unavailable as reason:
        found = Found(left_out={part: str(reason)})
    machine_s, own_s = (after - earlier for after, earlier in zip(cpu_seconds(), before, strict=True))
    others_share = (machine_s - own_s) / ((time.monotonic() - start_s) * os.cpu_count())
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Measured(found.rows, found.left_out, plan.quick, now, min(max(others_share, 0.0), 1.0))


def _assemble(parts: dict[str, Measured], facts: dict) -> Ceilings:
    measured = [parts[part] for part in PARTS]
    levels = {"cpu": Plan.of_this_machine(quick=True).levels()}
    for number, gpu in enumerate(facts["gpus"][:1]):
        l2 = {"tier": "l2", "capacity_bytes": gpu["l2_bytes"]}
        levels[f"cuda:{number}"] = [l2, {"tier": "hbm", "capacity_bytes": None}]
    about = {
        "machine": facts["hostname"],
        "fingerprint": fingerprint(facts),
        "measured_at": max(part.measured_at for part in measured),
        "quick": any(part.quick for part in measured),
        "others_share": max(part.others_share for part in measured),
        "host": facts,
        "levels": levels,
        "left_out": {what: reason for part in measured for what, reason in part.left_out.items()},
    }
    return Ceilings.from_rows([row for part in measured for row in part.rows], about)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One measurement of a machine at a time: two would measure each other, and the second finds the first's result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> dict[str, Measured]:
    """The cached parts; none where there is no cache, or one of another version, or a damaged one."""
    try:
        cache = msgspec.json.decode(path.read_bytes(), type=_Cache)
    except (OSError, msgspec.MsgspecError):
        return {}
    return cache.parts if cache.version == CEILINGS_VERSION else {}


def _write(path: Path, parts: dict[str, Measured]) -> None:
    """Write and rename: an interruption leaves the old file or the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(2)}")
    scratch.write_bytes(msgspec.json.encode(_Cache(CEILINGS_VERSION, parts)))
    os.replace(scratch, path)
