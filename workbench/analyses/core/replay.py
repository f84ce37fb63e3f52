"""A run's sampled accesses replayed against the memory tiers, process by process, and checked against the clock."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.analyses.core.access_stream import dense_step, touches, windows
from workbench.analyses.core.operator_calls import operator_calls, operator_costs
from workbench.analyses.core.operator_limits import is_embedding
from workbench.analyses.core.rank_share import RankShare
from workbench.analyses.core.tier_cut import TierCut, cut
from workbench.trace.run import Run

# Lookups of all processes together that are replayed line by line.
REPLAYED_LOOKUPS = 3_000_000


@dataclass(frozen=True)
class Replay:
    """`cuts` [process] as `windows` orders them, over the second half of `steps` each. Times are of the embedding
    operators in one step of one process: predicted by the cuts, and measured (NaN where nothing was profiled)."""

    cuts: list[TierCut]
    steps: int
    embedding_predicted_ns: float
    embedding_measured_ns: float
    has_dense: bool


def replay(run: Run, tables: Sequence[dict], share: RankShare) -> Replay:
    """The counted steps of every process, with the operators of its first profiled step around the embeddings."""
    costs = operator_costs(run)
    calls = operator_calls(run, costs)
    trains = bool((run.events["phase"] == "backward").any())
    cuts, predicted_ns, steps = [], [], 0
    for window in windows(run.accesses, REPLAYED_LOOKUPS // run.accesses["process"].nunique()):
        own = calls[calls["process"] == window.process]
        first = own[own["step"] == own["step"].min()]
        dense = dense_step(first, costs, updates=trains)
        cuts.append(cut(touches(window, tables, dense), window, tables, share))
        steps = max(steps, len(window.steps))
        predicted_ns.append(cuts[-1].time_ns[:, :, :-1].sum() / window.counted_steps)
    embedding = calls[calls["operator_id"].isin([key for key, known in costs.items() if is_embedding(known)])]
    measured_ns = embedding.groupby(["process", "step"], observed=True)["duration_ns"].sum().mean()
    return Replay(cuts, steps, float(np.mean(predicted_ns)), float(measured_ns), has_dense=len(calls) > 0)
