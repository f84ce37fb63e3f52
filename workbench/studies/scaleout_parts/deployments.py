"""One deployment of the inference workload, and what its requests took: what all parts ask for."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workbench import workloads
from workbench.analyses import analyze
from workbench.errors import WorkFailed
from workbench.workloads.inference.config import Config
from workbench.workloads.inference.prepare import exported_model

_DEADLINE_S = 60.0  # far beyond any request here: none is given up
_REFUSED = "RESOURCE_EXHAUSTED"  # what an overloaded server says, as the search for the largest rate makes it


@dataclass(frozen=True)
class Served:
    """A deployment's requests: analysis `latency` by percentile (rows indexed by it) and by shard (by its name), its
    summary, and the run's manifest."""

    percentiles: pd.DataFrame
    shards: pd.DataFrame
    summary: dict[str, Any]
    manifest: dict[str, Any]

    def latency_ns(self, percentile: float) -> float:
        """Of a request, from its caller to the scores."""
        return float(self.percentiles.loc[percentile, "latency_ns"])

    @property
    def p50_ns(self) -> float:
        """The median latency."""
        return self.latency_ns(50)

    @property
    def cpu_ns(self) -> float:
        """Mean CPU time a request on all servers."""
        return float(self.summary["cpu_ns"])

    @property
    def cores(self) -> int:
        """That all processes shared."""
        return len(self.manifest["host"]["usable_cpus"])

    @property
    def rpcs(self) -> float:
        """Mean RPCs to sparse shards a request."""
        return float(self.summary["rpcs_per_request"])

    def part_ns(self, part: str) -> float:
        """What the median requests spent on one part, such as `embedded_network` or `cpu_sparse`."""
        return float(self.percentiles.loc[50, f"{part}_ns"])


@contextmanager
def exported(model: str, rows_factor: float) -> Iterator[str]:
    """The folder of `model`, exported once for all deployments inside."""
    with tempfile.TemporaryDirectory(prefix="workbench-") as folder:
        config = Config(model=model, rows_factor=rows_factor)
        yield str(exported_model(config, Path(folder) / "model").path)


def serve(**settings: Any) -> Served:
    """Run the inference workload with these settings. WorkFailed where a request was not answered."""
    # Its own progress would run into the study's.
    with tempfile.TemporaryDirectory(prefix="workbench-") as traces, redirect_stderr(io.StringIO()):
        run = workloads.run("inference", "default", traces, ceilings=False, deadline_s=_DEADLINE_S, **settings)
        by_percentile, by_shard = (analyze(run, "latency", by=by) for by in ("percentile", "shard"))
    statuses = run.manifest["results"]["statuses"]
    if set(statuses) - {"OK", _REFUSED}:
        raise WorkFailed(f"requests were not answered: {statuses}, with {settings}")
    return Served(
        by_percentile.table.set_index("percentile"), by_shard.table.set_index("shard"), by_percentile.summary,
        run.manifest,
    )  # fmt: skip
