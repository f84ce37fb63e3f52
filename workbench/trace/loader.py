"""From a path to a Run: a run directory, a trace file of any known format, or a folder (or list) of one a rank."""

import glob
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from workbench.errors import InputError
from workbench.machine.ceilings import Ceilings
from workbench.machine.promised import promised
from workbench.trace import integrity
from workbench.trace.cache import cached_part
from workbench.trace.files import OF_RANKS, natural, read_parts, trace_files
from workbench.trace.filters import Filters, cut_interval, cut_kinds, filters
from workbench.trace.link import link_ranks
from workbench.trace.parallel import decode_ahead
from workbench.trace.part import TABLES, Part, merge
from workbench.trace.readers import distributed, kineto, spans, stacks
from workbench.trace.run import Run
from workbench.trace.rundir import MACHINE, MANIFEST, read_manifest
from workbench.trace.schema import repeated
from workbench.trace.stitch import stitch

_SPANS, _STACKS, _DERIVED = ".spans.jsonl", ".stacks.txt", ".derived"
_OF_SPANS = frozenset({"otlp", "jaeger"})


def load(
    *paths: str | Path,
    between: object = None,
    ranks: object = None,
    kinds: object = None,
    execution_trace: str | Path | Iterable[str | Path] | None = None,
) -> Run:
    """The Run at `paths`: run directories that are parts of one run, or traces of one format (`recognise.FORMATS`) that
    are ranks or services of one run.

    `between` (0.5, 2) or "0.5:2" keeps the events that lie wholly in that interval, in seconds from the first event of
    the loaded ranks; `ranks` [0, 3] or "0,3" reads no other rank's files; `kinds` keeps events of these kinds. Metrics
    and accesses of a run directory are cut by rank only. `execution_trace`, a file, a folder or several, holds the
    PyTorch execution traces of the same run, whose operands and collectives complete those of the profiles.
    InputError when a path is missing, unreadable, empty, or holds no trace.
    """
    chosen = filters(between, ranks, kinds)
    found = _existing(paths)
    executions = [execution_trace] if isinstance(execution_trace, (str, Path)) else list(execution_trace or ())
    try:
        if all((path / MANIFEST).is_file() for path in found):
            if executions:
                raise InputError(f"{found[0]} is a run directory: --execution-trace completes profiles (Kineto traces)")
            run = _load_directories(found, chosen)
        else:
            run = _load_traces(found, chosen, _existing(executions) if executions else [])
    except OSError as error:
        raise InputError(f"cannot read {error.filename or found[0]}: {error.strerror}") from None
    run.notes[:0] = integrity.findings(run)
    cut_kinds(run, chosen)
    run.notes[:0] = chosen.note(run)
    return run


def _existing(paths: Iterable[str | Path]) -> list[Path]:
    found = [Path(path) for path in paths]
    if not found:
        raise InputError("nothing to load: give a run directory, a trace file or a folder of traces")
    for path in found:
        if not path.exists():
            raise InputError(f"{path} does not exist: give a run directory, a trace file or a folder of traces")
    return found


def _load_directories(directories: list[Path], chosen: Filters) -> Run:
    manifests = [read_manifest(directory) for directory in directories]
    if len({manifest.get("run_id") for manifest in manifests}) > 1:
        raise InputError(f"{directories[0]} and {directories[1]} are parts of different runs: load them one by one")
    files = [(directory, path) for directory in directories for path in sorted(directory.glob(f"*{_SPANS}"))]
    manifest = _join(manifests)
    files = [(directory, path) for directory, path in files if chosen.takes(_manifest_rank(manifest, path))]
    decode_ahead([(window, directory / _DERIVED) for directory, path in files for window in _windows(directory, path)])
    parts = [_process_part(directory, path, manifest.get("stack_samples_per_s")) for directory, path in files]
    machine = directories[0] / MACHINE
    ceilings = Ceilings.read(machine) if machine.exists() else None
    run = _run(directories[0], parts, manifest=manifest, ceilings=ceilings, directories=directories)
    cut_interval(run, chosen)
    status = run.manifest.get("status")
    if status != "complete":
        run.notes.insert(0, f"this run is {status}: analysed as far as it got")
    if run.ceilings is None:
        run.notes.append("this run has no measured ceilings (--no-ceilings): nothing stands against a roof")
    return run


def _process_part(directory: Path, span_file: Path, stack_samples_per_s: float | None) -> Part:
    """Spans and profiler events of one process, with phase and step of the spans given to the operators; its stacks,
    which weigh time where it is known how often they were sampled."""
    windows = _windows(directory, span_file)
    profiles = [cached_part(window, kineto.read, folder=directory / _DERIVED) for window in windows]
    part = stitch(spans.read(span_file), profiles)
    _own_memory(part, part.info["process"], part.info["rank"])
    sampled = span_file.with_name(span_file.name.removesuffix(_SPANS) + _STACKS)
    if sampled.is_file() and sampled.stat().st_size:
        found = stacks.read_collapsed(sampled)
        part.stacks, part.notes = found.stacks.assign(process=part.info["process"]), [*part.notes, *found.notes]
        if stack_samples_per_s:
            part.stacks = part.stacks.assign(weight=part.stacks["samples"] * 1e9 / stack_samples_per_s, unit="ns")
    return part


def _windows(directory: Path, span_file: Path) -> list[Path]:
    """The profiler's files of the process, in order."""
    process = span_file.name.removesuffix(_SPANS)
    return sorted(directory.glob(f"{glob.escape(process)}.*pt.trace.json.gz"), key=natural)


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


def _load_traces(paths: list[Path], chosen: Filters, executions: list[Path]) -> Run:
    files = trace_files(paths)
    if executions and files.format != "kineto":
        raise InputError(f"{files.paths[0]} is no profile: --execution-trace completes profiles (Kineto traces)")
    parts = read_parts(files, chosen)
    if executions:
        recorded = trace_files(executions)
        if recorded.format != "execution_trace":
            raise InputError(f"{recorded.paths[0]} is no execution trace (torch.profiler.ExecutionTraceObserver)")
        parts = link_ranks(parts, read_parts(recorded, filters()))
    for part in parts if files.format in OF_RANKS else ():
        rank = part.info["rank"]
        part.events["rank"], part.events["process"] = np.int32(rank), repeated(f"rank-{rank}", len(part.events))
        _own_memory(part, f"rank-{rank}", rank)
        part.info.pop("execution", None)  # what is beyond its events serves for linking only
    ceilings = _promised([part.info for part in parts])
    run = _run(paths[0], parts, manifest={"workload": "trace", "status": "complete"}, ceilings=ceilings)
    run.notes[:0] = files.notes
    if files.format in _OF_SPANS and len(parts) > 1:
        run.events = distributed.joined(run.events)
    if files.format != "kineto" and chosen.between_s is not None:
        if not run.timed:
            raise InputError("between chooses by time, and an execution trace has only an order: leave it out")
        cut_interval(run, chosen)
    return run


def _run(path: Path, parts: list[Part], **fields: object) -> Run:
    merged = merge(parts) if parts else Part()
    tables = {name: getattr(merged, name) for name in TABLES}
    return Run(path=path, **tables, parts=[part.info for part in parts], notes=list(merged.notes), **fields)


def _promised(infos: list[dict]) -> Ceilings | None:
    """Vendors' ceilings of the device that the traces name, if it is one device and known."""
    devices = [device for info in infos for device in info.get("devices", ()) if device.get("model")]
    kinds = {(device["model"], device.get("memory_bytes")) for device in devices}
    if len(kinds) != 1:
        return None
    model, memory_bytes = kinds.pop()
    return promised(model, memory_bytes=memory_bytes)
