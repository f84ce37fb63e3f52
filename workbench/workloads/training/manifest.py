"""What analyses must know about a training run: its size, its work a sample, its tables and where they lie."""

import json
from itertools import pairwise

from workbench.costs.recommendation import TRAINING_FACTOR, interaction_flops, mlp_flops, pooling_flops
from workbench.embeddings.cache_index import WAYS
from workbench.embeddings.cache_stores import cache_slots
from workbench.embeddings.plan import Plan
from workbench.embeddings.tables import TableShard
from workbench.workloads.training.accesses import numbered_shards
from workbench.workloads.training.config import Config


def describe(config: Config) -> dict:
    """Fields of run.json. `tables` are what ranks hold of tables, indexed as in the recorded accesses: one entry a
    shard; `model_flops_per_sample` counts forward, backward and the tables' updates."""
    tables = config.table_configs
    plan = config.plan_for(config.ranks)
    return {
        "ranks": config.ranks,
        "threads_per_rank": config.threads_per_rank,
        "samples_per_step": config.global_batch_size,
        "model_flops_per_sample": model_flops(config, training=True),
        "dense_parameters": sum(map(mlp_parameters, (config.bottom_sizes, config.top_sizes))),
        "embedding_parameters": sum(table.rows * table.dim for table in tables),
        "plan": json.loads(plan.to_json()),
        "tables": [
            {
                "name": table.name,
                "scheme": table_plan.scheme,
                "rows": shard.rows,
                "dim": shard.dim,
                "row_bytes": TableShard.of(table, shard).row_bytes,
                "state_bytes_per_row": TableShard.of(table, shard).state_bytes_per_row,
                "pooling_factor": table.pooling_factor * shard.rows / table.rows,
                "rank": shard.rank,
            }
            for table, table_plan in zip(tables, plan.tables, strict=True)
            for shard in table_plan.shards
        ],
        **describe_caches(config, plan),
    }


def describe_caches(config: Config, plan: Plan) -> dict:
    """The caches of all ranks and the numbers of the `tables` behind each: those of one scheme and width, histories
    apart. Data-parallel tables have none. It is what the memory_tiers analysis replays."""
    if config.cache_share is None:
        return {}
    behind: dict[tuple, list[tuple[int, int]]] = {}
    for (name, shard), number in numbered_shards(plan).items():
        place = next(place for place, table in enumerate(plan.tables) if table.table == name)
        is_history = place >= config.tables - config.history_tables
        if plan.tables[place].scheme != "data-parallel":
            cache = (shard.rank, is_history, plan.tables[place].scheme, shard.dim)
            behind.setdefault(cache, []).append((number, shard.rows))
    caches = [
        {
            "rank": rank, "tables": [number for number, _ in held],
            "rows": cache_slots(sum(rows for _, rows in held), config.cache_share),
        }
        for (rank, *_), held in sorted(behind.items())
    ]  # fmt: skip
    return {"cache": {"policy": config.cache_policy, "ways": WAYS, "backing": config.backing, "caches": caches}}


def model_flops(config: Config, training: bool) -> float:
    """FLOPs a sample, forward or training (as `costs.dlrm_flops_per_sample` counts them), with the attention of
    histories: two products of [history_length, dim] a table."""
    products = mlp_flops(config.bottom_sizes) + mlp_flops(config.top_sizes)
    if config.interaction == "dot":
        products += interaction_flops(config.tables + 1, config.dim)
    products += 4.0 * config.history_tables * config.history_length * config.dim
    pooled = config.table_configs[: config.tables - config.history_tables]
    pooling = sum(pooling_flops([table.pooling_factor], table.dim) for table in pooled)
    updates = 2.0 * sum(table.pooling_factor * table.dim for table in config.table_configs)
    return TRAINING_FACTOR * products + pooling + updates if training else products + pooling


def mlp_parameters(sizes: tuple[int, ...]) -> int:
    """Weights and biases of linear layers of these widths, input first."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
