"""What analyses must know about an inference run: the model, the plan, and what each shard holds."""

from collections.abc import Sequence

import msgspec

from workbench.workloads.inference.config import Config
from workbench.workloads.inference.models.config import ModelConfig, row_bytes, table_bytes
from workbench.workloads.inference.plan import Plan
from workbench.workloads.inference.strategies import shard_bytes


def describe(config: Config, model: ModelConfig, plan: Plan, lookups: Sequence[float]) -> dict:
    """Fields of run.json. `lookups` [tables]: expected ids a request; `rpcs_per_request` is what one makes at most,
    when each of its batches asks every shard for a row. Bytes are those of rows as servers keep them."""
    lookups_of = {table.name: count for table, count in zip(model.tables, lookups, strict=True)}
    batches = -(-config.items // (config.batch_items or config.items))
    nets = [{table.name for table in net.tables} for net in model.nets]
    return {
        "model": {
            "name": model.name,
            "nets": [net.name for net in model.nets],
            "embedding_bytes": sum(table_bytes(table, config.table_type) for table in model.tables),
            "outputs": model.outputs,
        },
        "tables": [
            {
                "name": table.name,
                "net": net.name,
                "rows": table.rows,
                "dim": table.dim,
                "row_bytes": row_bytes(table, config.table_type),
                "lookups_per_request": float(lookups_of[table.name]),
            }
            for net in model.nets
            for table in net.tables
        ],
        "plan": msgspec.to_builtins(plan),
        "shards": [
            {
                "name": shard.name,
                "bytes": shard_bytes(shard, model, config.table_type),
                "tables": len(shard.pieces),
                "lookups_per_request": float(sum(lookups_of[p.table] / p.pieces for p in shard.pieces)),
            }
            for shard in plan.shards
        ],
        "batches_per_request": batches,
        "rpcs_per_request": batches * sum(len(plan.shards_of(tables)) for tables in nets),
    }
