"""What a reader must know of a run before any figure: ranks that are missing, clocks that differ.

What is wrong inside one file (events lost, repaired or overlapping, kernels without a launch, graph launches) the
readers have noted already; this looks across the files of a run.
"""

import pandas as pd

from workbench.trace.clocks import SYNCHRONISING, clock_offsets
from workbench.trace.run import Run
from workbench.units import format_ns

_SHOWN = 8


def findings(run: Run) -> list[str]:
    """Notes about the run as a whole, the gravest first; empty where nothing is wrong."""
    return [*_missing_ranks(run), *_clocks(run), *_apart(run), *_clock_spread(run)]


def _missing_ranks(run: Run) -> list[str]:
    own = {part.get("rank", -1) for part in run.parts}
    entered = [entry.get("rank") for entry in run.manifest.get("processes", {}).values()]
    ranks = {rank for rank in entered if isinstance(rank, int) and rank >= 0}
    world_size = max([0, *(part.get("world_size") or 0 for part in run.parts)])
    missing = sorted((ranks | set(range(world_size))) - own)
    if not missing:
        return []
    shown = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
    all_ranks = len(ranks | set(range(world_size)))
    return [f"{len(missing)} of {all_ranks} ranks are not here ({shown}): waits on them cannot be told from transfers"]


def _clocks(run: Run) -> list[str]:
    """Ranks whose times count from different beginnings."""
    relative = sorted({part.get("rank", -1) for part in run.parts if part.get("clock") == "relative"})
    if not relative or len(run.parts) == len(relative) == 1:
        return []
    if len(relative) == len(run.parts):
        return ["the ranks' times do not count from 1970: each may begin at a time of its own"]
    shown = ", ".join(map(str, relative[:_SHOWN]))
    return [f"the times of ranks {shown} do not count from 1970 as the others' do: they cannot be set beside those"]


def _apart(run: Run) -> list[str]:
    """Processes that were not recorded at the same time."""
    if any(part.get("clock") == "relative" for part in run.parts):
        return []
    end_ns = run.events["start_ns"] + run.events["duration_ns"]
    processes = run.events["process"]
    first_ns = run.events["start_ns"].groupby(processes, observed=True).min()
    last_ns = end_ns.groupby(processes, observed=True).max()
    if len(first_ns) < 2 or first_ns.max() <= last_ns.min():
        return []
    gap_ns = int(first_ns.max() - last_ns.min())
    return [f"{last_ns.idxmin()} ends {format_ns(gap_ns)} before {first_ns.idxmax()} begins: not recorded together"]


def _clock_spread(run: Run) -> list[str]:
    """Clocks of ranks that differ by more than the ends of their collectives let us know them."""
    hosts = {part.get("host") for part in run.parts}
    ends = _ends(run)
    offset_ns, residual_ns = clock_offsets(ends, one_clock=len(hosts) == 1 and None not in hosts)
    if not offset_ns.any():
        return []
    spread_ns, count = float(offset_ns.max() - offset_ns.min()), ends["match"].nunique()
    return [
        f"ranks' clocks differ by up to {format_ns(spread_ns)}, by the ends of {count} collectives that all leave "
        f"together; aligned on them, the ends still differ by {format_ns(residual_ns)} (95th percentile)"
    ]


def _ends(run: Run) -> pd.DataFrame:
    """process, match, end_ns of the collectives that all ranks of a group took part in, as often as one another."""
    events = run.events
    synchronising = events["collective"].isin(SYNCHRONISING)
    on_device = synchronising & (events["device"] != "cpu") & (events["kind"] == "communication")
    gloo = [name for name in events["name"].cat.categories if name.startswith("gloo:")]
    chosen = events[on_device if on_device.any() else synchronising & events["name"].isin(gloo)]
    calls = chosen[["process", "collective", "group_size", "process_group", "start_ns"]].astype(
        dict.fromkeys(("process", "collective", "process_group"), "str")
    )
    calls["end_ns"] = chosen["start_ns"] + chosen["duration_ns"]
    calls = calls.sort_values("start_ns", kind="stable")
    kind = ["collective", "group_size", "process_group"]
    calls["order"] = calls.groupby(["process", *kind]).cumcount()
    calls["match"] = calls.groupby([*kind, "order"]).ngroup()
    ranks = calls.groupby("match")["process"].transform("size")
    processes, most = calls["process"].nunique(), calls.groupby(kind)["order"].transform("max")
    # A group of which a rank saw more calls than another has lost its count.
    whole = calls.groupby(kind)["match"].transform("size") == (most + 1) * ranks
    return calls[(ranks == calls["group_size"].where(calls["group_size"] > 0, processes)) & (ranks > 1) & whole]
