"""One row a run, for the table of runs: from its manifest, and for what it does not say (yet) from its time series."""

from datetime import datetime

from dashboards.entry import RunEntry
from workbench.trace.streams import read_metrics

# key -> (title, explanation)
HEADERS = {
    "name": ("Run", "name of the run directory"),
    "workload": ("Workload", "what ran"),
    "preset": ("Preset", "the named configuration that it started from"),
    "status": ("Status", "complete, running, failed, interrupted, killed (its processes are gone) or unreadable"),
    "start": ("Start", "local time at which it started"),
    "ranks": ("Ranks", "processes that worked together"),
    "steps": ("Steps", "steps done so far, of the processes that report them"),
    "samples_per_s": ("Samples/s", "measured by the workload itself, after warm-up; while it runs, of its last step"),
    "loss": ("Loss", "measured: mean log loss of the last training step"),
    "normalized_entropy": (
        "NE",
        "measured: normalized entropy of held-out examples; while it runs, of the latest ones",
    ),
    "duration_ns": ("Duration", "from start to end; while it runs, to its last sign of life"),
}


def headline(entry: RunEntry) -> dict:
    """The row of HEADERS; None where nothing is known."""
    manifest, results = entry.manifest, entry.manifest.get("results") or {}
    last = _last_points(entry)
    return {
        "name": entry.name,
        "workload": manifest.get("workload"),
        "preset": manifest.get("preset"),
        "status": entry.status,
        "start": datetime.fromtimestamp(entry.start_ns / 1e9).strftime("%Y-%m-%d %H:%M:%S") if entry.start_ns else None,
        "ranks": manifest.get("ranks"),
        "steps": last.get("steps"),
        "samples_per_s": results.get("samples_per_s", last.get("samples_per_s")),
        "loss": results.get("loss", last.get("loss")),
        "normalized_entropy": results.get("held_out_normalized_entropy", last.get("normalized_entropy")),
        "duration_ns": entry.duration_ns,
    }


def _last_points(entry: RunEntry) -> dict:
    """The last value of each time series, and how many steps there were."""
    metrics = read_metrics([entry.path])
    if len(metrics) == 0:
        return {}
    last = metrics.sort_values("time_ns").groupby("name")["value"].last().to_dict()
    return {**last, "steps": int(metrics["step"].max()) + 1}
