"""From a path to a Run: a run directory, one trace file, or a folder (or list) of one trace a rank."""

import glob
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.errors import InputError
from workbench.machine.ceilings import Ceilings
from workbench.machine.promised import promised
from workbench.trace.cache import cached_part
from workbench.trace.part import Part, merge
from workbench.trace.readers import kineto, spans
from workbench.trace.run import Run
from workbench.trace.rundir import MACHINE, MANIFEST, read_manifest
from workbench.trace.schema import repeated
from workbench.trace.stitch import stitch

TRACE_SUFFIXES = (".json", ".json.gz", ".zip")


def load(*paths: str | Path) -> Run:
    """The Run at `paths`: run directories that are parts of one run, or profiler traces that are ranks of one run.

    InputError when a path is missing, unreadable, empty, or holds no trace.
    """
    if not paths:
        raise InputError("nothing to load: give a run directory, a trace file or a folder of traces")
    found = [Path(path) for path in paths]
    for path in found:
        if not path.exists():
            raise InputError(f"{path} does not exist: give a run directory, a trace file or a folder of traces")
    if all((path / MANIFEST).is_file() for path in found):
        return _load_directories(found)
    return _load_traces(found)


def _load_directories(directories: list[Path]) -> Run:
    manifests = [read_manifest(directory) for directory in directories]
    if len({manifest.get("run_id") for manifest in manifests}) > 1:
        raise InputError(f"{directories[0]} and {directories[1]} are parts of different runs: load them one by one")
    parts = []
    for directory in directories:
        for path in sorted(directory.glob("*.spans.jsonl")):
            parts.append(_process_part(directory, path))
    merged = merge(parts) if parts else Part()
    machine = directories[0] / MACHINE
    run = Run(
        path=directories[0], events=merged.events, traffic=merged.traffic, operators=merged.operators,
        splits=merged.splits, memory=merged.memory,
        manifest=_join(manifests), ceilings=Ceilings.read(machine) if machine.exists() else None,
        parts=[part.info for part in parts], notes=merged.notes, directories=directories,
    )  # fmt: skip
    status = run.manifest.get("status")
    if status != "complete":
        run.notes.insert(0, f"this run is {status}: analysed as far as it got")
    if run.ceilings is None:
        run.notes.append("this run has no measured ceilings (--no-ceilings): nothing stands against a roof")
    return run


def _process_part(directory: Path, span_file: Path) -> Part:
    """Spans and profiler events of one process, with phase and step of the spans given to the operators."""
    process = span_file.name.removesuffix(".spans.jsonl")
    windows = sorted(directory.glob(f"{glob.escape(process)}.*pt.trace.json.gz"), key=_natural)
    profiles = [cached_part(window, kineto.read, folder=directory / ".derived") for window in windows]
    part = stitch(spans.read(span_file), profiles)
    _own_memory(part, part.info["process"], part.info["rank"])
    return part


def _own_memory(part: Part, process: str, rank: int) -> None:
    """Say in the memory table whose it is, as in the events table."""
    part.memory["process"], part.memory["rank"] = repeated(process, len(part.memory)), np.int32(rank)


def _join(manifests: list[dict]) -> dict:
    """The first manifest, with the processes of all and the worst status."""
    joined = dict(manifests[0])
    joined["processes"] = {name: entry for manifest in manifests for name, entry in manifest["processes"].items()}
    order = ("failed", "killed", "interrupted", "running", "complete")
    joined["status"] = min((manifest.get("status", "running") for manifest in manifests), key=order.index)
    return joined


@dataclass(frozen=True)
class _RankFile:
    path: Path
    part: Part
    rank: int


def _load_traces(paths: list[Path]) -> Run:
    files = [file for path in paths for file in (_trace_files(path) if path.is_dir() else [path])]
    parts = [(file, _read_trace(file)) for file in files]
    ranked = _assign_ranks(parts)
    for entry in ranked:
        entry.part.info["rank"] = entry.rank
        entry.part.events["rank"] = np.int32(entry.rank)
        entry.part.events["process"] = repeated(f"rank-{entry.rank}", len(entry.part.events))
        _own_memory(entry.part, f"rank-{entry.rank}", entry.rank)
    merged = merge([entry.part for entry in ranked])
    infos = [entry.part.info for entry in ranked]
    return Run(
        path=paths[0], events=merged.events, traffic=merged.traffic, operators=merged.operators,
        splits=merged.splits, memory=merged.memory,
        manifest={"workload": "trace", "status": "complete"}, ceilings=_promised(infos), parts=infos,
        notes=[*merged.notes, *_missing_ranks(infos)],
    )  # fmt: skip


def _read_trace(file: Path) -> Part:
    try:
        return cached_part(file, kineto.read)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None


def _trace_files(folder: Path) -> list[Path]:
    files = sorted((p for p in folder.iterdir() if p.is_file() and p.name.endswith(TRACE_SUFFIXES)), key=_natural)
    if not files:
        raise InputError(f"{folder} holds neither a {MANIFEST} nor traces ({', '.join(TRACE_SUFFIXES)})")
    return files


def _natural(path: Path) -> list:
    """rank-10 after rank-9."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", path.name)]


def _assign_ranks(parts: list[tuple[Path, Part]]) -> list[_RankFile]:
    """Rank from the trace's distributedInfo, else a number in the file name, else the order given."""
    ranks = [part.info.get("rank", -1) for _, part in parts]
    if min(ranks) < 0 or len(set(ranks)) < len(ranks):
        named = [re.search(r"rank[-_]?(\d+)", path.name) for path, _ in parts]
        ranks = [int(match.group(1)) for match in named] if all(named) else list(range(len(parts)))
    if len(set(ranks)) < len(ranks):
        raise InputError(f"{parts[0][0]} and others say they are the same rank: give one trace a rank")
    return sorted((_RankFile(path, part, rank) for (path, part), rank in zip(parts, ranks, strict=True)),
                  key=lambda entry: entry.rank)  # fmt: skip


def _promised(infos: list[dict]) -> Ceilings | None:
    """Vendors' ceilings of the device that the traces name, if it is one device and known."""
    devices = [device for info in infos for device in info.get("devices", ()) if device.get("model")]
    kinds = {(device["model"], device.get("memory_bytes")) for device in devices}
    if len(kinds) != 1:
        return None
    model, memory_bytes = kinds.pop()
    return promised(model, memory_bytes=memory_bytes)


def _missing_ranks(infos: list[dict]) -> list[str]:
    world_size = max((info.get("world_size") or 0 for info in infos), default=0)
    missing = sorted(set(range(world_size)) - {info["rank"] for info in infos})
    if not missing:
        return []
    shown = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
    return [f"{len(missing)} of {world_size} ranks are not here ({shown}): waits on them cannot be told from transfers"]
