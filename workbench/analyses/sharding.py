"""Sharding explained: which rank holds what, what each was predicted to cost, how even that is, and what it took.

Predictions are the planner's own: the formulas of `costs.sharding` at the rates that the run's machine was measured
to give one rank among the others. Without such rates every byte counts the same, and only the balance means something.
"""

from typing import Literal

import numpy as np
import pandas as pd

from workbench.analyses.core.operator_calls import operator_calls, operator_costs
from workbench.analyses.core.operator_limits import is_embedding
from workbench.analyses.core.rank_share import RankShare
from workbench.analyses.core.result import Result, not_applicable
from workbench.costs.sharding import EqualRates, Rates, ShardWork, StepShape, shard_cost
from workbench.errors import InputError
from workbench.machine.rank_rates import RankRates
from workbench.trace.run import Run

# Fields of the manifest's shards, as ShardWork takes them.
_WORK = ("rows", "dim", "row_bytes", "state_bytes_per_row", "pooling_factor")
_WIRE_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.25}  # int8: 8 bytes of scales for every 32 elements
DIRECTIONS = ("input", "forward", "backward", "update")
TIMES = ("lookup_ns", "update_ns", "communication_ns", "predicted_ns")


def sharding(run: Run, *, by: Literal["rank", "shard", "scheme"] = "rank") -> Result:
    """Rows by rank, predicted beside measured, or by shard with the costliest first; or the bytes on the wire that were
    counted, by scheme."""
    manifest = run.manifest
    if by == "scheme":
        table = _by_scheme(manifest)
        if table.empty:
            return not_applicable("sharding", "no bytes on the wire were counted: the run has one rank, or no end")
        return Result("sharding", table.assign(source="measured"), {"sent_bytes": float(table["sent_bytes"].sum())})
    if not manifest.get("tables") or not manifest.get("samples_per_step"):
        return not_applicable("sharding", "the run's manifest names no embedding tables, as our training runs do")
    share = RankShare.of(run)
    ranks = int(manifest["ranks"])
    config = manifest.get("config", {})
    wire = [_WIRE_BYTES.get(config.get(f"{way}_wire"), 4.0) for way in ("forward", "backward")]
    step = StepShape(ranks, round(manifest["samples_per_step"] / ranks), config.get("host_ranks") or ranks, *wire)
    rates, notes = _rates(share, ranks)
    shards = _shards(manifest, step, rates)
    loads = shards.groupby("rank")[["stored_bytes", *TIMES]].sum().reindex(range(ranks), fill_value=0)
    loads.insert(0, "shards", shards["rank"].value_counts().reindex(range(ranks), fill_value=0))
    loads["over_mean"] = loads["predicted_ns"] / loads["predicted_ns"].mean()
    loads["measured_ns"] = _measured_ns(run).reindex(range(ranks))
    summary = {
        "ranks": ranks,
        "shards": len(shards),
        "max_over_mean": float(loads["over_mean"].max()),
        "measured_max_over_mean": float(loads["measured_ns"].max() / loads["measured_ns"].mean()),
        "predicted_over_measured": float(
            (loads["lookup_ns"] + loads["update_ns"]).sum() / loads["measured_ns"].sum(skipna=False)
        ),
        "communication_share": float(loads["communication_ns"].sum() / loads["predicted_ns"].sum()),
    }
    if np.isnan(summary["predicted_over_measured"]):
        notes.append("no embedding operators were profiled on some rank: nothing measured to compare with")
    if isinstance(rates, EqualRates):
        summary["predicted_over_measured"] = np.nan
    if by == "shard":
        table = shards.sort_values("predicted_ns", ascending=False, kind="stable", ignore_index=True)
    else:
        table = loads.reset_index(names="rank")
    return Result("sharding", table.assign(source="modelled"), summary, notes)


def _rates(share: RankShare, ranks: int) -> tuple[Rates, list[str]]:
    """The machine's rates, or equal ones and a note that says why."""
    if share.ceilings is None:
        return EqualRates(), ["no ceilings are known for this run: every byte counts one nanosecond"]
    rates = RankRates(share.ceilings, share.active, share.threads, share.device)
    try:
        rates.stream_bytes_per_s()
        if ranks > 1:
            rates.collective_bytes_per_s("all_to_all", ranks)
    except InputError as error:
        return EqualRates(), [f"{error}: every byte counts one nanosecond"]
    return rates, ["predicted times count bytes at measured rates, not arithmetic, sorting or the overhead of calls"]


def _shards(manifest: dict, step: StepShape, rates: Rates) -> pd.DataFrame:
    """One row a shard: table, scheme, rank, rows, dim, stored_bytes and the predicted times."""
    rows = []
    for shard in manifest["tables"]:
        scheme = shard.get("scheme", "table-wise")
        work = ShardWork(scheme, *(shard[name] for name in _WORK))
        cost = shard_cost(work, step, rates)
        rows.append({
            "rank": shard["rank"], "table": shard["name"], "scheme": scheme, "rows": work.rows, "dim": work.dim,
            "stored_bytes": work.stored_bytes, "lookup_ns": cost.lookup_ns, "update_ns": cost.update_ns,
            "communication_ns": cost.communication_ns, "predicted_ns": cost.total_ns,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _by_scheme(manifest: dict) -> pd.DataFrame:
    """Bytes that all ranks have sent to each other in a step, as they counted them, by scheme."""
    counted = manifest.get("results", {}).get("wire_bytes_per_step", {})
    rows = [
        {"scheme": scheme, **{f"{direction}_bytes": sent.get(direction, 0.0) for direction in DIRECTIONS}}
        for scheme, sent in counted.items()
    ]
    table = pd.DataFrame(rows, columns=["scheme", *(f"{direction}_bytes" for direction in DIRECTIONS)])
    table["sent_bytes"] = table.drop(columns="scheme").sum(axis=1)
    return table.assign(sent_share=table["sent_bytes"] / table["sent_bytes"].sum())


def _measured_ns(run: Run) -> pd.Series:
    """Time of the embedding operators in a step, mean over the sampled steps, by rank."""
    costs = operator_costs(run)
    embedding = [key for key, known in costs.items() if is_embedding(known)]
    calls = operator_calls(run, costs)
    steps = calls.groupby("rank", observed=True)["step"].nunique()
    spent_ns = calls[calls["operator_id"].isin(embedding)].groupby("rank", observed=True)["duration_ns"].sum()
    return spent_ns / steps
