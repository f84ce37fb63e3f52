"""Save a trainer and bring it back, on any number of ranks and under any plan: checkpoints of a run."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist

from workbench.embeddings.held_rows import HeldRows, held_rows, set_steps
from workbench.errors import InputError
from workbench.workloads.training.checkpoint import Checkpoint, Writer
from workbench.workloads.training.config import Config
from workbench.workloads.training.quality import LossSums

if TYPE_CHECKING:
    from workbench.workloads.training.train import Trainer

_CHUNK_ROWS = 1 << 14
# What makes a model and the data that it learns; all other settings may change when training resumes.
_SETTINGS = (
    "source", "global_batch_size", "session_samples", "prepared_batches", "tables", "rows", "dim", "dims",
    "pooling_factor", "zipf_exponent", "history_tables", "history_length", "interaction", "dense_features",
    "bottom_mlp", "top_mlp", "dense_optimizer", "optimizer", "row_dtype", "seed",
)  # fmt: skip


def model_settings(config: Config) -> dict:
    """The settings that a checkpoint's model must share."""
    return {name: value for name, value in asdict(config).items() if name in _SETTINGS}


def save(trainer: "Trainer", folder: Path, step: int, running: LossSums) -> None:
    """A checkpoint after `step` steps. Collective: it is in its place when the last rank returns."""
    writer = Writer(folder, step, trainer.rank)
    if trainer.rank == 0:
        writer.prepare()
    _barrier(trainer)
    for held in _held(trainer):
        if trainer.rank == 0 or not held.copied:
            _add_table(writer, held)
    if trainer.rank == 0:
        for name, what, values in _dense(trainer):
            values = values.detach().cpu().numpy()
            writer.add(name, what, values.shape, values.dtype, [values])
    writer.close()
    _barrier(trainer)
    if trainer.rank == 0:
        tables = {table.name: (table.rows, table.dim) for table in trainer.config.table_configs}
        sums = (running.log_loss, running.labels, running.samples)
        writer.commit(trainer.ranks, model_settings(trainer.config), tables, sums)


def restore(trainer: "Trainer", checkpoint: Checkpoint) -> LossSums:
    """Bring back what this rank holds; returns the running sums of the loss. `checkpoint.step` is the next step."""
    checkpoint.check_model(model_settings(trainer.config))
    for held in _held(trainer):
        columns = held.shard.column_begin, held.shard.column_end
        for start in range(0, held.shard.rows, _CHUNK_ROWS):
            end = min(start + _CHUNK_ROWS, held.shard.rows)
            rows = held.shard.row_begin + start, held.shard.row_begin + end
            values = [column.cpu().clone() for column in held.read(start, end)]
            for what, column in zip(held.columns, values, strict=True):
                checkpoint.fill(held.table, what, rows, columns, column.numpy())
            held.write(start, values)
    for tables in trainer.tables.sets:
        set_steps(tables, checkpoint.step)
    found = {(name, what): values for name, what, values in checkpoint.parameters()}
    for name, what, values in _dense(trainer):
        with torch.no_grad():
            values.copy_(torch.from_numpy(np.array(found[name, what])))
    return LossSums(*checkpoint.running)


def _held(trainer: "Trainer") -> Iterator[HeldRows]:
    for tables in trainer.tables.sets:
        yield from held_rows(tables)


def _add_table(writer: Writer, held: HeldRows) -> None:
    shard = held.shard
    rows, columns = (shard.row_begin, shard.row_end), (shard.column_begin, shard.column_end)
    for place, (what, like) in enumerate(zip(held.columns, held.read(0, 1), strict=True)):
        chunks = (
            held.read(start, min(start + _CHUNK_ROWS, shard.rows))[place].cpu().numpy()
            for start in range(0, shard.rows, _CHUNK_ROWS)
        )
        array = like.cpu().numpy()
        if array.size == 0:  # SGD keeps no state
            continue
        writer.add(held.table, what, (shard.rows, *array.shape[1:]), array.dtype, chunks, rows, columns)


def _dense(trainer: "Trainer") -> Iterator[tuple[str, str, torch.Tensor]]:
    """(name, what, tensor) of the MLPs' parameters and their optimizer's states."""
    for name, parameter in trainer.model.named_parameters():
        if not name.startswith(("bottom.", "top.")):
            continue
        yield name, "weight", parameter
        for what, state in trainer.optimizer.state[parameter].items():
            yield name, what, state


def _barrier(trainer: "Trainer") -> None:
    if trainer.ranks > 1:
        dist.barrier()


def opened(config: Config) -> Checkpoint | None:
    """The checkpoint to resume from, none for a new training; InputError where it cannot be.

    One after the last step is fine: a rank that dies in the evaluation has its run end all the same.
    """
    if config.resume is None:
        return None
    checkpoint = Checkpoint(Path(config.resume))
    checkpoint.check_model(model_settings(config))
    if checkpoint.step > config.steps:
        raise InputError(f"setting steps={config.steps}: checkpoint {config.resume} is after step {checkpoint.step}")
    return checkpoint
