"""What a trace says about itself outside its events: ranks, process groups, devices, clock, profiler settings."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from workbench.trace.readers.columns import BEYOND_NS, CollectiveArgs, integer
from workbench.trace.readers.messages import whole_numbers
from workbench.trace.readers.salvage import loads

# Kineto's counts of records that it could not use. Blocklisted runtime calls are left out on purpose.
_LOST = ("Out-of-range", "Invalid ext correlations", "CPU GPU out-of-order", "Unexpected CUDA events",
         "CUPTI stopped early?")  # fmt: skip
# 'WARNING:2024-05-22 17:15:22 2910249:2910249 CuptiActivityProfiler.cpp:976] '
_LOG_PREFIX = re.compile(r"^[A-Z]+:\S+ \S+ \S+ \S+\] ")
_MOST_LINES, _LONGEST = 3, 160
_SETTINGS = ("record_shapes", "profile_memory", "with_stack", "with_flops", "with_modules")


def decode(metadata: bytes) -> dict[str, Any] | None:
    """The top-level object as a dict, empty for an array; None where it cannot be read even tolerantly."""
    try:
        found = msgspec.json.decode(metadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            found = loads(metadata.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    return _mapping(found)


def describe(metadata: dict[str, Any]) -> dict[str, Any]:
    """`Part.info` from the top-level keys: rank (-1 unknown), world_size, backend, process_groups, devices (named by
    their number only), profiler settings, trace_name, host, and base_time_ns: the Unix time that the times of newer
    traces count from, 0 where they are absolute."""
    distributed = _mapping(metadata.get("distributedInfo"))
    world_size = integer(distributed.get("world_size"), bits=32)
    base_time_ns = integer(metadata.get("baseTimeNanoseconds"))
    return {
        "rank": integer(distributed.get("rank"), bits=32),
        "world_size": world_size if world_size > 0 else None,
        "backend": _text(distributed.get("backend")),
        "process_groups": [_process_group(entry) for entry in _listed(distributed.get("pg_config"))],
        "devices": [_device(entry) for entry in _listed(metadata.get("deviceProperties"))],
        "profiler": {key: bool(integer(metadata.get(key)) > 0) for key in _SETTINGS},
        "trace_name": _text(metadata.get("traceName")),
        "host": _text(metadata.get("host_name")),
        "base_time_ns": base_time_ns if 0 <= base_time_ns < BEYOND_NS else 0,
    }


def complaints(metadata: dict[str, Any]) -> list[str]:
    """What the profiler's own log, which newer writers keep in the trace, says of events that it lost or doubts."""
    log = {level: metadata.get(level) for level in ("INFO", "WARNING", "ERROR")}
    lines = [(level, str(line)) for level, said in log.items() if isinstance(said, list) for line in said]
    counts = [
        f"{name} = {found[1]}"
        for name in _LOST
        for _, line in lines
        if (found := re.search(rf"{re.escape(name)} = (\d{{1,18}})", line)) and int(found[1])
    ]
    notes = [f"the profiler left out or doubted events, by its own count: {', '.join(counts)}"] if counts else []
    grave = [(level, " ".join(_LOG_PREFIX.sub("", line).split())) for level, line in lines if level != "INFO"]
    notes += [f"the profiler logged this {level.lower()}: {text[:_LONGEST]}" for level, text in grave[:_MOST_LINES]]
    if len(grave) > _MOST_LINES:
        notes.append(f"the profiler logged {len(grave) - _MOST_LINES} more warnings and errors")
    return notes


def group_size(info: dict[str, Any]) -> int:
    """Ranks of the process group, where all groups have as many; -1 where the trace does not tell."""
    sizes = {group["size"] for group in info["process_groups"] if group["size"] > 0}
    if not sizes:
        return info["world_size"] or -1
    return sizes.pop() if len(sizes) == 1 else -1


def only_group(info: dict[str, Any]) -> str:
    """Name of the process group where the trace lists just one, else ""."""
    names = {group["name"] for group in info["process_groups"]}
    return names.pop() if len(names) == 1 else ""


def position(info: dict[str, Any], process_group: str, group_size: int) -> int:
    """Index of the trace's own rank among the ranks of the process group; -1 where the trace does not tell."""
    groups = (group["ranks"] for group in info["process_groups"] if group["name"] == process_group)
    ranks = next(groups, None) or (range(group_size) if group_size == info["world_size"] else ())
    return ranks.index(info["rank"]) if info["rank"] in ranks else -1


def with_groups(
    listed: list[dict[str, Any]], collectives: Iterable[tuple[int, CollectiveArgs]]
) -> list[dict[str, Any]]:
    """The process groups that the trace lists, and those that only its collectives name, with their ranks."""
    listed, known = list(listed), {group["name"] for group in listed}
    # Long lists of ranks are shortened in a collective's arguments, and thereby unreadable.
    for name, text in dict.fromkeys((str(args.process_group), str(args.group_ranks)) for _, args in collectives):
        if name not in known and (ranks := whole_numbers(text)):
            listed.append(_process_group({"pg_name": name, "ranks": list(ranks)}))
            known.add(name)
    return listed


def _process_group(entry: dict[str, Any]) -> dict[str, Any]:
    ranks = list(whole_numbers(entry.get("ranks")) or ())
    size = integer(entry.get("pg_size"), bits=32)
    return {
        "name": str(entry.get("pg_name", "")),
        "description": str(entry.get("pg_desc", "")),
        "backend": str(entry.get("backend_config", "")),
        "size": size if size > 0 else len(ranks),
        "ranks": ranks,
    }


def _device(entry: dict[str, Any]) -> dict[str, Any]:
    memory_bytes = integer(entry.get("totalGlobalMem"))
    return {
        "name": str(entry.get("id", 0)),
        "model": str(entry.get("name", "")),
        "memory_bytes": memory_bytes if memory_bytes > 0 else None,
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
