"""What there is, as lines of text: the inventory, the definitions, and what one run holds."""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

from workbench import registry, studies
from workbench.analyses import names as analysis_names
from workbench.errors import InputError
from workbench.metrics import definitions
from workbench.trace.run import Run
from workbench.trace.rundir import MANIFEST, read_manifest
from workbench.units import format_ns, printable


def inventory_lines(traces: Path) -> Iterator[str]:
    """Workloads with presets, analyses, studies, and the runs in `traces`."""
    yield "workloads (workbench run WORKLOAD --preset PRESET)"
    for name in registry.packages("workbench.workloads"):
        module = registry.module("workbench.workloads", name, "workload")
        yield f"  {name}: {_first_line(module)}"
        for preset, make in module.PRESETS.items():
            yield f"    {preset}: {_first_line(make)}"
    yield "analyses (workbench analyze PATH --analysis NAME)"
    for name in analysis_names():
        module = importlib.import_module(f"workbench.analyses.{name}")
        yield f"  {name}: {_first_line(module)}"
    yield "studies (workbench study NAME --scale tiny|small|full)"
    yield from (f"  {name}: {studies.question(name)}" for name in studies.names())
    yield f"runs in {traces}"
    yield from _run_lines(traces)


def _run_lines(traces: Path) -> Iterator[str]:
    paths = sorted(path.parent for path in traces.glob(f"*/{MANIFEST}"))
    for path in paths:
        try:
            manifest = read_manifest(path)
            yield f"  {path.name}  {manifest.get('status')}"
        except InputError as error:
            yield f"  {path.name}  unreadable: {error}"
    if not paths:
        yield "  none yet: workbench run training --preset tiny makes one"


def definition_lines() -> Iterator[str]:
    """Every metric of every analysis: key, unit, formula, limits and source."""
    analysis = None
    for definition in definitions():
        if definition.analysis != analysis:
            analysis = definition.analysis
            yield f"\n{analysis}"
        yield f"  {definition.key}: {definition.text}"


def run_lines(run: Run) -> Iterator[str]:
    """One run in a dozen lines, as a terminal may show them: what it was, its processes, its events by kind, notes."""
    yield from map(printable, _about(run))


def _about(run: Run) -> Iterator[str]:
    yield repr(run)
    for key in ("workload", "preset", "seed", "status"):
        if run.manifest.get(key) is not None:
            yield f"  {key}: {run.manifest[key]}"
    for part in run.parts:
        devices = ", ".join(device.get("model", "?") for device in part.get("devices", ())) or "cpu"
        yield f"  rank {part.get('rank', -1)} of {part.get('world_size') or '?'}: {part.get('file')} ({devices})"
    by_kind = run.events.groupby("kind", observed=True)["duration_ns"].agg(["size", "sum"])
    for kind, row in by_kind.iterrows():
        yield f"  {kind}: {row['size']:,} events, {format_ns(row['sum'])} inclusive"
    yield from (f"  note: {note}" for note in run.notes)


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").split("\n")[0]
