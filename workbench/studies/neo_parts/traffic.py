"""Bytes that pooled rows cause on the wire, by sharding scheme: counted sender by receiver, from the plan alone."""

from collections.abc import Sequence

import numpy as np

from workbench.costs.sharding import ShardWork, StepShape, messages
from workbench.embeddings.plan import Plan, Shard, TablePlan
from workbench.studies.core.criteria import Within
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.neo_parts.paper import FP16_BYTES, GPUS, GPUS_A_NODE, MODEL_A, MODEL_F, MODEL_I, MODELS, Model

POOLED = {
    model.name: Quantity(
        name=f"{model.name}: pooled rows a sample, table-wise, fp16, one way", unit="B", scale_free=True,
        fact=Fact(size_bytes, "derived: tables x mean width x 2 B"), criterion=Within(0.05),
    )
    for model, size_bytes in ((MODEL_A, 186e3), (MODEL_F, 5e3), (MODEL_I, 18e3))
}  # fmt: skip
NODE_CUT = Quantity(
    name=f"bytes off the node a rank sends, row-wise over table-row-wise, W = {GPUS}", unit="1", scale_free=True,
    fact=Fact(GPUS_A_NODE, "derived: partial sums are added up among a node's 8 GPUs first"), criterion=Within(0.01),
)  # fmt: skip
INDEX_COPIES = Quantity(
    name="index bytes, column-wise in 2 shards over table-wise", unit="1", scale_free=True,
    fact=Fact(2, "derived: indices go to each column shard"), criterion=Within(0.01),
)  # fmt: skip
_ROWS = 1 << 20


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Forward traffic only; the backward pass sends as much."""
    rows = [row(POOLED[model.name], [pooled_bytes_per_sample(model)], "modelled") for model in MODELS]
    row_wise, table_row_wise = (off_node_bytes(scheme, GPUS).max() for scheme in ("row-wise", "table-row-wise"))
    rows.append(row(NODE_CUT, [row_wise / table_row_wise], "modelled"))
    rows.append(row(INDEX_COPIES, [_index_bytes("column-wise", 2) / _index_bytes("table-wise", 1)], "modelled"))
    points = [
        {
            "ranks": ranks,
            "B that leave the node, a sample": float(off_node_bytes(scheme, ranks).sum() / ranks),
            "scheme": scheme,
        }
        for scheme in ("table-wise", "column-wise", "row-wise", "table-row-wise")
        for ranks in (16, 32, 64, 128)
    ]
    curve = Curve(
        title=f"Pooled rows of one table of {MODEL_F.dim} columns, fp16, {GPUS_A_NODE} ranks a node", table=points,
        x="ranks", y="B that leave the node, a sample", colour="scheme", style="bar", log_y=True, source="modelled",
    )  # fmt: skip
    return Part(rows, [curve], [_FROM_MEMORY])


_FROM_MEMORY = (
    "traffic: how many tables the paper's models have, and how wide, is from memory; their verdicts say that counting "
    "agrees with the formula, no more"
)


def pooled_bytes_per_sample(model: Model) -> float:
    """What the all-to-all of table-wise sharding carries forward, own samples included, as the planner costs it."""
    step = StepShape(GPUS, model.samples_per_gpu, GPUS_A_NODE, forward_element_bytes=FP16_BYTES)
    shards = [
        ShardWork("table-wise", table.rows, table.dim, table.row_bytes, table.state_bytes_per_row, model.pooling)
        for table in model.table_configs(_ROWS)
    ]
    forward = [messages(shard, step)[1] for shard in shards]
    assert {collective for collective, _, _ in forward} == {"all_to_all"}
    return sum(message_bytes for _, message_bytes, _ in forward) / (GPUS * model.samples_per_gpu)


def off_node_bytes(scheme: str, ranks: int) -> np.ndarray:
    """Of one table as wide as Model-F's and one sample a rank: bytes that each rank [ranks] sends to other nodes."""
    sent = sent_bytes(one_table_plan(scheme, ranks), samples_per_rank=1, element_bytes=FP16_BYTES)
    node = np.arange(ranks) // GPUS_A_NODE
    return np.where(node[:, None] != node, sent, 0).sum(axis=1)


def one_table_plan(scheme: str, ranks: int) -> Plan:
    """One table of Model-F's width on `ranks` ranks: whole on rank 0, or in as many parts as the scheme wants."""
    dim, per_node = MODEL_F.dim, min(GPUS_A_NODE, ranks)
    shards = {
        "table-wise": [Shard(0, 0, _ROWS, 0, dim)],
        "column-wise": [Shard(0, 0, _ROWS, 0, dim // 2), Shard(1, 0, _ROWS, dim // 2, dim)],
        "row-wise": [Shard(r, r * _ROWS // ranks, (r + 1) * _ROWS // ranks, 0, dim) for r in range(ranks)],
        "table-row-wise": [
            Shard(r, r * _ROWS // per_node, (r + 1) * _ROWS // per_node, 0, dim) for r in range(per_node)
        ],
    }
    return Plan(ranks, (TablePlan("table", scheme, tuple(shards[scheme])),))


def sent_bytes(plan: Plan, samples_per_rank: int, element_bytes: float) -> np.ndarray:
    """[from rank, to rank] bytes of pooled rows in the forward pass: what each shard's rank sends to the samples'
    ranks; where a host adds up first, within the host and then to the rank in the same place of each other host."""
    sent = np.zeros((plan.ranks, plan.ranks))
    host_ranks = plan.host_ranks
    for table in plan.tables:
        if table.scheme == "data-parallel":
            continue  # pooled where the samples are
        for shard in table.shards:
            block_bytes = samples_per_rank * shard.dim * element_bytes  # one rank's samples
            if table.scheme == "table-row-wise":
                first = shard.rank - shard.rank % host_ranks
                # Each mate adds up the samples of the ranks in its own place, one a host.
                sent[shard.rank, first : first + host_ranks] += block_bytes * plan.ranks / host_ranks
                sent[shard.rank, shard.rank % host_ranks :: host_ranks] += block_bytes
            else:
                sent[shard.rank] += block_bytes
    np.fill_diagonal(sent, 0)
    return sent


def _index_bytes(scheme: str, shards: int) -> float:
    """Bytes of lengths and indices that one table's shards get, by the planner's cost."""
    step = StepShape(GPUS, MODEL_F.samples_per_gpu, GPUS_A_NODE)
    work = ShardWork(scheme, _ROWS, MODEL_F.dim // shards, 4.0 * MODEL_F.dim / shards, 4.0, MODEL_F.pooling)
    return shards * messages(work, step)[0][1]
