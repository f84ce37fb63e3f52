"""What every workload puts into its run directory before it starts: who ran what, where, on what machine."""

import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.machine.host import code_revision, host_facts
from workbench.machine.measure import ceilings
from workbench.trace.rundir import MACHINE, RunDirectory
from workbench.workloads.progress import ProgressLine


def create_run(
    workload: str, preset: str, config: Any, traces: Path, run_id: str | None = None, **fields: Any
) -> RunDirectory:
    """A new run directory with the full configuration (a dataclass), the host, the code and `fields` in its manifest.

    `run_id` joins the parts of one run that hosts without a common disk write each for itself.
    """
    return RunDirectory.create(
        traces, workload, preset, run_id=run_id or secrets.token_hex(8), preset=preset, seed=config.seed,
        config=asdict(config), host=host_facts(gpus=True), code_revision=code_revision(), **fields,
    )  # fmt: skip


def write_ceilings(directory: RunDirectory) -> None:
    """This machine's ceilings beside the run: measured in half a minute the first time, later read from the cache."""
    with ProgressLine() as progress:
        found = ceilings(quick=True, progress=progress.update)
    (directory.path / MACHINE).write_bytes(found.dumps())
