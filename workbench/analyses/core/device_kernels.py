"""Device events (kernels, collectives, copies and fills) of the sampled steps, each with its launch and its wait."""

import numpy as np
import pandas as pd

from workbench.analyses.core.operator_calls import sampled
from workbench.analyses.core.rows import OPERATOR_KINDS, positions
from workbench.trace.run import Run
from workbench.trace.schema import SOURCES

LANE = ["process", "device", "lane"]


def device_kernels(run: Run) -> pd.DataFrame:
    """One row a device event, by stream and start: row (in `run.events`), name, kind, process, rank, device, lane,
    start_ns, end_ns, duration_ns, source; launch (row of the call that launched it, -1 unknown), launch_ns (start of
    that call, else of the event), delay_ns and queued_ns (NaN where the launch is unknown).

    delay = start - end of the launching call, 0 where the event began before its call returned; queued is the part of
    it during which earlier events of the same stream still ran.
    """
    events = run.events
    chosen = (events["device"] != "cpu") & events["kind"].isin(OPERATOR_KINDS) & sampled(events)
    kernels = events.loc[chosen, ["name", "kind", "rank", *LANE, "start_ns", "duration_ns", "source"]]
    kernels["row"] = np.flatnonzero(chosen)
    kernels["source"] = kernels["source"].cat.set_categories(SOURCES, ordered=True)
    kernels["end_ns"] = kernels["start_ns"] + kernels["duration_ns"]
    kernels["launch"] = positions(events, events.loc[chosen, "launch_id"].to_numpy())
    kernels["stream"] = kernels.groupby(LANE, observed=True).ngroup()
    kernels = kernels.sort_values(["stream", "start_ns"], kind="stable", ignore_index=True)
    return _with_delays(kernels, events)


def _with_delays(kernels: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """`kernels` with launch_ns, delay_ns and queued_ns."""
    known, start_ns = (kernels["launch"] >= 0).to_numpy(), kernels["start_ns"].to_numpy()
    call_ns, took_ns = (events[name].to_numpy()[kernels["launch"]] for name in ("start_ns", "duration_ns"))
    returned_ns = np.minimum(np.where(known, call_ns + took_ns, start_ns), start_ns)
    before_ns = kernels.groupby("stream")["end_ns"].cummax().shift(fill_value=0).to_numpy()
    first = np.diff(kernels["stream"], prepend=-1) != 0
    free_ns = np.minimum(np.where(first, returned_ns, before_ns), start_ns)  # earlier events of the stream have ended
    return kernels.assign(
        launch_ns=np.where(known, call_ns, start_ns),
        delay_ns=np.where(known, start_ns - returned_ns, np.nan),
        queued_ns=np.where(known, np.maximum(free_ns - returned_ns, 0), np.nan),
    )


def launch_overhead_ns(kernels: pd.DataFrame, events: pd.DataFrame) -> float:
    """Median time of the host call that launches a compute kernel, over the kernels it launches (a graph launch starts
    many); NaN where no launch is known. `kernels` as `device_kernels` makes them."""
    launched = kernels[(kernels["launch"] >= 0) & (kernels["kind"] == "compute")]
    calls, counts = np.unique(launched["launch"], return_counts=True)
    if len(calls) == 0:
        return np.nan
    return float(np.median(events["duration_ns"].to_numpy()[calls] / counts))


def queue_lengths(kernels: pd.DataFrame) -> pd.DataFrame:
    """By stream (LANE): queue_max and queue_mean, the events launched (their call has begun) and not yet finished.

    The mean is over the time from the stream's first launch to its last end: by Little's law, the sum of all stays
    (launch to end) over that time. An event of unknown launch stays from its start.
    """
    found = {}
    for stream, queue in kernels.groupby(LANE, observed=True):
        arrivals_ns, departures_ns = np.sort(queue["launch_ns"]), np.sort(queue["end_ns"])
        # It is longest when one arrives: all that came, less what had left by then.
        left = np.searchsorted(departures_ns, arrivals_ns, side="right")
        window_ns = departures_ns[-1] - arrivals_ns[0]
        longest = int((np.arange(1, len(queue) + 1) - left).max())
        found[stream] = (longest, (queue["end_ns"] - queue["launch_ns"]).sum() / max(window_ns, 1))
    index = pd.MultiIndex.from_tuples(found, names=LANE)
    return pd.DataFrame(list(found.values()), index=index, columns=["queue_max", "queue_mean"])
