"""A run: what happened, on what machine, with what settings. `load` makes one from a path."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from workbench.machine.ceilings import Ceilings
from workbench.trace import streams
from workbench.trace.memory_table import empty_memory
from workbench.trace.schema import (
    empty_dependencies,
    empty_events,
    empty_operators,
    empty_splits,
    empty_stacks,
    empty_traffic,
)
from workbench.units import format_ns


@dataclass
class Run:
    """The tables of one run; `schema.py` and `memory_table.py` describe the columns.

    `operators` [operator_id]: name, input_dims, input_types, concrete_inputs (JSON text). `ceilings` are those of the
    machine that it ran on: measured for our own runs, vendors' promises for a known foreign device, else None.
    `parts` holds what each file said about itself (rank, world size, backend, devices).
    """

    path: Path
    events: pd.DataFrame = field(default_factory=empty_events)
    traffic: pd.DataFrame = field(default_factory=empty_traffic)
    splits: pd.DataFrame = field(default_factory=empty_splits)
    memory: pd.DataFrame = field(default_factory=empty_memory)
    operators: pd.DataFrame = field(default_factory=empty_operators)
    stacks: pd.DataFrame = field(default_factory=empty_stacks)
    dependencies: pd.DataFrame = field(default_factory=empty_dependencies)
    manifest: dict = field(default_factory=dict)
    ceilings: Ceilings | None = None
    parts: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    directories: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The run directory's or trace file's name."""
        return self.path.name

    @property
    def ranks(self) -> list[int]:
        """Ranks that have events, sorted."""
        return sorted(int(rank) for rank in self.events["rank"].unique())

    @property
    def timed(self) -> bool:
        """Whether the events have times; an execution trace by itself has only their order."""
        return all(part.get("clock") != "order" for part in self.parts)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Time series: process, time_ns, step, name, value."""
        return self._of_loaded(streams.read_metrics(self.directories))

    @cached_property
    def accesses(self) -> pd.DataFrame:
        """Embedding accesses in order: process, step, table, lengths (array), rows (array)."""
        return self._of_loaded(streams.read_accesses(self.directories))

    def _of_loaded(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the processes that were loaded: not all of them, where ranks were chosen."""
        loaded = {part.get("process") for part in self.parts}
        return table[table["process"].isin(loaded)].reset_index(drop=True) if loaded else table

    def __repr__(self) -> str:
        events = self.events
        span_ns = 0
        if len(events):
            span_ns = int((events["start_ns"] + events["duration_ns"]).max() - events["start_ns"].min())
        status = self.manifest.get("status", "trace")
        lasting = format_ns(span_ns) if self.timed else "in order, without times"
        return f"Run {self.name} ({status}): {len(events):,} events, {len(self.ranks)} ranks, {lasting}"

    def _repr_html_(self) -> str:
        config = json.dumps(self.manifest.get("config", {}), indent=1, default=str)
        body = f"<b>{self!r}</b>".replace("<b>Run", "<b>Run")
        return f"{body}<details><summary>configuration</summary><pre>{config}</pre></details>"
