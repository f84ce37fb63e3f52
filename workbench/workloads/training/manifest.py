"""What analyses must know about a training run: its size, its work a sample, its tables and where they lie."""

from collections.abc import Sequence
from itertools import pairwise

from workbench.costs import dlrm_flops_per_sample
from workbench.embeddings.cache_index import WAYS
from workbench.embeddings.sharding import place_tables
from workbench.embeddings.tiers import cache_slots, same_width
from workbench.workloads.training.config import Config


def describe(config: Config) -> dict:
    """Fields of run.json. `tables` is indexed as in the recorded accesses; `model_flops_per_sample`
    counts forward, backward and the tables' updates."""
    tables = config.table_configs
    placement = place_tables(tables, config.ranks)
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
        "tables": [
            {
                "name": table.name,
                "rows": table.rows,
                "dim": table.dim,
                "row_bytes": table.row_bytes,
                "state_bytes_per_row": table.state_bytes_per_row,
                "pooling_factor": table.pooling_factor,
                "rank": rank,
            }
            for table, rank in zip(tables, placement, strict=True)
        ],
        **describe_cache(config, placement),
    }


def describe_cache(config: Config, placement: Sequence[int]) -> dict:
    """The caches of all ranks, one for each width of a rank's tables: what the memory_tiers analysis predicts."""
    if config.cache_share is None:
        return {}
    caches = []
    for rank in range(config.ranks):
        tables = [table for table, owner in zip(config.table_configs, placement, strict=True) if owner == rank]
        for group in same_width(tables):
            rows = sum(tables[index].rows for index in group)
            caches.append({"rank": rank, "dim": tables[group[0]].dim, "rows": cache_slots(rows, config.cache_share)})
    return {"cache": {"policy": config.cache_policy, "ways": WAYS, "backing": config.backing, "caches": caches}}


def mlp_parameters(sizes: tuple[int, ...]) -> int:
    """Weights and biases of linear layers of these widths, input first."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
