"""What a device was asked to do: how long its kernels take, how long they wait, and how many are too short to pay.

Device events are kernels, collectives, copies and fills of the sampled steps. A row pools the calls of all ranks, so
its percentiles are those of single calls.
"""

from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.ancestors import nearest
from workbench.analyses.core.device_kernels import LANE, device_kernels, launch_overhead_ns, queue_lengths
from workbench.analyses.core.fused import fused_operators
from workbench.analyses.core.modules import NO_MODULE, module_calls, modules_around
from workbench.analyses.core.result import Result, not_applicable
from workbench.analyses.core.rows import NO_OPERATOR, OPERATOR_KINDS, positions
from workbench.trace.run import Run
from workbench.units import format_ns

_KEYS = {"name": ["name", "kind"], "operator": ["operator"], "module": ["module", "inside"], "stream": ["rank", *LANE]}
_NOBODY = {"operator": NO_OPERATOR, "module": NO_MODULE}
_WHY_NOBODY = {
    "operator": "launched outside any recorded one",
    "module": "launched where no module was open, as in the backward pass, which runs on another thread",
}


def kernels(run: Run, *, by: Literal["name", "operator", "module", "stream"] = "name") -> Result:
    """Calls, durations (`_ns`), the share of short ones, and delays after the launch, of a device's events.

    `by`: one row a kernel's name, the operator that launched it, the innermost nn.Module around the launch, or a
    stream (with the lengths of its queue); rows come by total duration.
    """
    calls = device_kernels(run)
    if len(calls) == 0:
        return not_applicable("kernels", "no device worked while this was recorded: there are no kernels")
    if by == "module" and not module_calls(run.events).any():
        return not_applicable("kernels", "the trace names no modules: record it with with_modules=True")
    overhead_ns = launch_overhead_ns(calls, run.events)
    calls["short"] = calls["duration_ns"] < overhead_ns if not np.isnan(overhead_ns) else np.nan
    calls["operator"] = _operators(run.events, calls)
    if by == "module":
        calls["module"], calls["inside"] = modules_around(run.events, calls["launch"].to_numpy())
    table = _rows(calls, _KEYS[by])
    if by == "name":
        table.insert(2, "operator", _main_operator(calls, table))
    if by == "stream":
        table = table.merge(queue_lengths(calls).reset_index())
    return Result("kernels", table, _summary(calls, overhead_ns), _notes(calls, overhead_ns, by))


def _operators(events: pd.DataFrame, calls: pd.DataFrame) -> pd.Categorical:
    """Who made each device event [n]: the operators that a compiler fused into it, else the innermost operator around
    its launch, else (a custom autograd function, an executor) the innermost event there that is no annotation."""
    parents = positions(events, events["parent_id"].to_numpy())
    around = np.append(parents, -1)[calls["launch"]]
    operator = nearest(around, parents, events["kind"].isin(OPERATOR_KINDS).to_numpy())
    made_by = np.where(operator >= 0, operator, nearest(around, parents, (events["kind"] != "span").to_numpy()))
    names, kernel = events["name"].cat, calls["name"].cat
    labels = np.append(names.categories.to_numpy(object), NO_OPERATOR)[np.append(names.codes.to_numpy(), -1)[made_by]]
    fused = np.array([fused_operators(name) for name in kernel.categories], dtype=object)[kernel.codes.to_numpy()]
    return pd.Categorical(np.where(fused != "", fused, labels))


def _rows(calls: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Statistics over the calls of each group, by total duration."""
    groups = calls.groupby(keys, observed=True, sort=False)
    durations, delays = groups["duration_ns"], groups["delay_ns"]
    table = pd.DataFrame({"calls": groups.size(), "duration_ns": durations.sum()})
    table["time_share"] = table["duration_ns"] / table["duration_ns"].sum()
    table["mean_ns"] = durations.mean()
    table["p50_ns"], table["p95_ns"] = durations.quantile(0.5), durations.quantile(0.95)
    table["min_ns"], table["max_ns"] = durations.min(), durations.max()
    table["short_share"] = groups["short"].mean()
    table["delay_p50_ns"], table["delay_p95_ns"] = delays.quantile(0.5), delays.quantile(0.95)
    delay_ns = delays.sum()
    table["queued_share"] = groups["queued_ns"].sum() / delay_ns.where(delay_ns > 0)
    table["source"] = groups["source"].max().astype(str)
    return table.reset_index().sort_values("duration_ns", ascending=False, kind="stable", ignore_index=True)


def _main_operator(calls: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """Of each row's kernels: the operator behind the most of their time."""
    keys = _KEYS["name"]
    spent = calls.groupby([*keys, "operator"], observed=True)["duration_ns"].sum().reset_index()
    most = spent.sort_values("duration_ns", kind="stable").drop_duplicates(keys, keep="last")
    return table[keys].merge(most, how="left", on=keys)["operator"].to_numpy()


def _summary(calls: pd.DataFrame, overhead_ns: float) -> dict:
    duration_ns, delay_ns = calls["duration_ns"].sum(), calls["delay_ns"].sum()
    return {
        "calls": len(calls),
        "kernel_names": int(calls["name"].nunique()),
        "duration_ns": int(duration_ns),
        "launch_overhead_ns": overhead_ns,
        "short_share": float(calls["short"].mean()),
        "short_time_share": float((calls["duration_ns"] * calls["short"]).sum(min_count=1) / max(duration_ns, 1)),
        "launched_share": float((calls["launch"] >= 0).mean()),
        "delay_p50_ns": float(calls["delay_ns"].quantile(0.5)),
        "delay_p95_ns": float(calls["delay_ns"].quantile(0.95)),
        "queued_share": float(calls["queued_ns"].sum() / delay_ns) if delay_ns > 0 else np.nan,
    }


def _notes(calls: pd.DataFrame, overhead_ns: float, by: str) -> list[str]:
    notes, launched_share = [], (calls["launch"] >= 0).mean()
    if launched_share < 0.9:
        notes.append(
            f"the call that launched a device event is known for {launched_share:.1%} of them: delays are of those, "
            "and the others belong to no operator or module"
        )
    if by in _NOBODY:
        nobody_ns = calls.loc[(calls[by] == _NOBODY[by]).to_numpy(), "duration_ns"].sum()
        share = nobody_ns / max(calls["duration_ns"].sum(), 1)
        if share > 0.1:
            notes.append(f"{share:.1%} of the time belongs to {_NOBODY[by]}: {_WHY_NOBODY[by]}")
    if np.isnan(overhead_ns):
        notes.append("no launching call is in the trace: which kernels are shorter than their launch is unknown")
    else:
        notes.append(
            f"short kernels take less than {format_ns(overhead_ns)}, the median time of the host call that launches a "
            "kernel in this run (profiling makes it longer): a stream of them is bound by the host"
        )
    notes.append(
        "a kernel's delay runs from the end of its launching call, and holds the queue before it in its stream"
    )
    return notes
