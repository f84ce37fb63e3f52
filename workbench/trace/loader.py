"""From a path to a Run: a run directory, one trace file, or a folder (or list) of one trace a rank."""

import glob
import re
from pathlib import Path

import numpy as np

from workbench.errors import InputError
from workbench.machine.ceilings import Ceilings
from workbench.machine.promised import promised
from workbench.trace.cache import cached_part
from workbench.trace.filters import Filters, cut_interval, cut_kinds, filters
from workbench.trace.parallel import decode_ahead
from workbench.trace.part import Part, merge
from workbench.trace.readers import kineto, spans
from workbench.trace.run import Run
from workbench.trace.rundir import MACHINE, MANIFEST, read_manifest
from workbench.trace.schema import repeated
from workbench.trace.stitch import stitch

TRACE_SUFFIXES = (".json", ".json.gz", ".zip")
_SPANS, _DERIVED = ".spans.jsonl", ".derived"


def load(*paths: str | Path, between: object = None, ranks: object = None, kinds: object = None) -> Run:
    """The Run at `paths`: run directories that are parts of one run, or profiler traces that are ranks of one run.

    `between` (0.5, 2) or "0.5:2" keeps the events that lie wholly in that interval, in seconds from the first event of
    the loaded ranks; `ranks` [0, 3] or "0,3" reads no other rank's files; `kinds` keeps events of these kinds. Metrics
    and accesses of a run directory are cut by rank only. InputError when a path is missing, unreadable, empty, or holds
    no trace.
    """
    chosen = filters(between, ranks, kinds)
    if not paths:
        raise InputError("nothing to load: give a run directory, a trace file or a folder of traces")
    found = [Path(path) for path in paths]
    for path in found:
        if not path.exists():
            raise InputError(f"{path} does not exist: give a run directory, a trace file or a folder of traces")
    in_directories = all((path / MANIFEST).is_file() for path in found)
    run = _load_directories(found, chosen) if in_directories else _load_traces(found, chosen)
    cut_kinds(run, chosen)
    run.notes[:0] = chosen.note(run)
    return run


def _load_directories(directories: list[Path], chosen: Filters) -> Run:
    manifests = [read_manifest(directory) for directory in directories]
    if len({manifest.get("run_id") for manifest in manifests}) > 1:
        raise InputError(f"{directories[0]} and {directories[1]} are parts of different runs: load them one by one")
    manifest = _join(manifests)
    files = [(directory, path) for directory in directories for path in sorted(directory.glob(f"*{_SPANS}"))]
    files = [(directory, path) for directory, path in files if chosen.takes(_manifest_rank(manifest, path))]
    decode_ahead([(window, directory / _DERIVED) for directory, path in files for window in _windows(directory, path)])
    parts = [_process_part(directory, path) for directory, path in files]
    merged = merge(parts) if parts else Part()
    machine = directories[0] / MACHINE
    run = Run(
        path=directories[0], events=merged.events, traffic=merged.traffic, operators=merged.operators,
        splits=merged.splits, memory=merged.memory,
        manifest=manifest, ceilings=Ceilings.read(machine) if machine.exists() else None,
        parts=[part.info for part in parts], notes=merged.notes, directories=directories,
    )  # fmt: skip
    cut_interval(run, chosen)
    status = run.manifest.get("status")
    if status != "complete":
        run.notes.insert(0, f"this run is {status}: analysed as far as it got")
    if run.ceilings is None:
        run.notes.append("this run has no measured ceilings (--no-ceilings): nothing stands against a roof")
    return run


def _process_part(directory: Path, span_file: Path) -> Part:
    """Spans and profiler events of one process, with phase and step of the spans given to the operators."""
    windows = _windows(directory, span_file)
    profiles = [cached_part(window, kineto.read, folder=directory / _DERIVED) for window in windows]
    part = stitch(spans.read(span_file), profiles)
    _own_memory(part, part.info["process"], part.info["rank"])
    return part


def _windows(directory: Path, span_file: Path) -> list[Path]:
    """The profiler's files of the process, in order."""
    process = span_file.name.removesuffix(_SPANS)
    return sorted(directory.glob(f"{glob.escape(process)}.*pt.trace.json.gz"), key=_natural)


def _manifest_rank(manifest: dict, span_file: Path) -> int | None:
    """Rank of the process whose spans these are; None where the manifest does not know."""
    entry = manifest["processes"].get(span_file.name.removesuffix(_SPANS), {})
    return entry.get("rank")


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


def _load_traces(paths: list[Path], chosen: Filters) -> Run:
    files = [file for path in paths for file in (_trace_files(path) if path.is_dir() else [path])]
    ranks = _told_ranks(files, [kineto.head(file)["rank"] for file in files]) if chosen.ranks else None
    if ranks is not None:
        files = [file for file, rank in zip(files, ranks, strict=True) if chosen.takes(rank)]
        ranks = [rank for rank in ranks if chosen.takes(rank)]
    parts = _read_traces(files, chosen)
    for part, rank in zip(parts, _ranks(files, parts) if ranks is None else ranks, strict=True):
        part.info["rank"] = rank
        part.events["rank"] = np.int32(rank)
        part.events["process"] = repeated(f"rank-{rank}", len(part.events))
        _own_memory(part, f"rank-{rank}", rank)
    parts = sorted((part for part in parts if chosen.takes(part.info["rank"])), key=lambda part: part.info["rank"])
    merged, infos = merge(parts) if parts else Part(), [part.info for part in parts]
    return Run(
        path=paths[0], events=merged.events, traffic=merged.traffic, operators=merged.operators,
        splits=merged.splits, memory=merged.memory,
        manifest={"workload": "trace", "status": "complete"}, ceilings=_promised(infos), parts=infos,
        notes=[*merged.notes, *_missing_ranks(infos)],
    )  # fmt: skip


def _read_traces(files: list[Path], chosen: Filters) -> list[Part]:
    """All of each trace, from the cache where it is there; or what lies in an interval, which is decoded afresh."""
    if chosen.between_s is None:
        decode_ahead([(file, None) for file in files])
        return [_read_trace(file) for file in files]
    clocks = [kineto.clock(file) for file in files]
    first_ns, last_ns = chosen.window_ns(min((c.first_ns + c.base_ns for c in clocks if c), default=0))
    bases_ns = [clock.base_ns if clock else 0 for clock in clocks]
    return [
        kineto.read(file, (first_ns - base_ns, last_ns - base_ns))
        for file, base_ns in zip(files, bases_ns, strict=True)
    ]


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


def _ranks(files: list[Path], parts: list[Part]) -> list[int]:
    """Rank from the trace's distributedInfo, else a number in the file name, else the order given."""
    ranks = _told_ranks(files, [part.info.get("rank", -1) for part in parts])
    ranks = list(range(len(parts))) if ranks is None else ranks
    if len(set(ranks)) < len(ranks):
        raise InputError(f"{files[0]} and others say they are the same rank: give one trace a rank")
    return ranks


def _told_ranks(files: list[Path], said: list[int]) -> list[int] | None:
    """What the traces say (-1: nothing) where that tells all apart, else numbers in the file names, else None."""
    if min(said, default=0) >= 0 and len(set(said)) == len(said):
        return said
    named = [re.search(r"rank[-_]?(\d+)", path.name) for path in files]
    return [int(match.group(1)) for match in named] if all(named) else None


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
