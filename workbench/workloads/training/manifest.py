"""What analyses must know about a training run: its size, its work a sample, its tables and where they lie."""

import json
from itertools import pairwise

from workbench.costs import dlrm_flops_per_sample
from workbench.embeddings.tables import ELEMENT_BYTES
from workbench.workloads.training.config import Config


def describe(config: Config) -> dict:
    """Fields of run.json. `tables` are what ranks hold of tables, indexed as in the recorded accesses: one entry a
    shard; `model_flops_per_sample` counts forward, backward and the tables' updates."""
    tables = config.table_configs
    plan = config.plan_for(config.ranks)
    lookups = [table.pooling_factor for table in tables]
    return {
        "ranks": config.ranks,
        "threads_per_rank": config.threads_per_rank,
        "samples_per_step": config.global_batch_size,
        "model_flops_per_sample": dlrm_flops_per_sample(
            config.bottom_sizes, config.top_sizes, lookups, config.dim, training=True
        ),
        "dense_parameters": sum(map(mlp_parameters, (config.bottom_sizes, config.top_sizes))),
        "embedding_parameters": sum(table.rows * table.dim for table in tables),
        "plan": json.loads(plan.to_json()),
        "tables": [
            {
                "name": table.name,
                "scheme": table_plan.scheme,
                "rows": shard.rows,
                "dim": shard.dim,
                "row_bytes": shard.dim * ELEMENT_BYTES,
                "state_bytes_per_row": table.state_bytes_per_row,
                "pooling_factor": table.pooling_factor * shard.rows / table.rows,
                "rank": shard.rank,
            }
            for table, table_plan in zip(tables, plan.tables, strict=True)
            for shard in table_plan.shards
        ],
    }


def mlp_parameters(sizes: tuple[int, ...]) -> int:
    """Weights and biases of linear layers of these widths, input first."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
