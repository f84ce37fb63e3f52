"""Which rows were looked up, in order: what reuse distances are computed from."""

from collections.abc import Iterator

from torch import Tensor

from workbench.embeddings.inputs import Lookups
from workbench.embeddings.plan import Plan, Shard
from workbench.embeddings.sharded import Routed, ShardedEmbeddings
from workbench.trace.recorder import Recorder
from workbench.workloads.training.tables import ModelTables, Received


def numbered_shards(plan: Plan) -> dict[tuple[str, Shard], int]:
    """The number of every shard of the plan: how accesses and the manifest call what a rank holds of a table."""
    shards = ((table.table, shard) for table in plan.tables for shard in table.shards)
    return {shard: number for number, shard in enumerate(shards)}


class AccessLog:
    """Records the accesses of this rank's shards from the first step on, until `limit_bytes` are used.

    One contiguous window, since a reuse distance counts everything in between: its first steps warm the caches that
    are modelled, and the first profiled steps lie inside it.
    """

    def __init__(self, recorder: Recorder, tables: ModelTables, limit_bytes: int) -> None:
        self.recorder, self.tables = recorder, tables
        self.left_bytes = limit_bytes if recorder.enabled else 0
        self.numbers = numbered_shards(tables.plan)

    def record(self, received: Received) -> None:
        """One step, whole or not at all."""
        if self.left_bytes == 0:
            return
        sets = zip(self.tables.sets, received.inputs.routed, received.lookups, strict=True)
        parts = [part for each in sets for part in _accesses(*each)]
        size_bytes = sum(lengths.nbytes + rows.nbytes for *_, lengths, rows in parts)
        if size_bytes > self.left_bytes:
            self.left_bytes = 0
            return
        self.left_bytes -= size_bytes
        with self.recorder.span("record_accesses", kind="runtime"):
            for table, shard, lengths, rows in parts:
                # An empty shard, which only fills a place in an exchange, has no number, and no accesses.
                if (table, shard) in self.numbers:
                    number = self.numbers[table, shard]
                    self.recorder.accesses(number, lengths.cpu().numpy(), rows.cpu().numpy())


def _accesses(
    tables: ShardedEmbeddings, routed: Routed, lookups: dict[str, Lookups]
) -> Iterator[tuple[str, Shard, Tensor, Tensor]]:
    """(table, shard, lengths [bags], rows) of everything that this rank holds."""
    pieces = iter(tables.pieces)
    for asked in lookups.values():
        for lengths, rows in _segments(asked.lengths, asked.indices):
            piece = next(pieces)
            yield tables.name(piece.table), piece.shard, lengths, rows
    if tables.replicated:
        bases = tables.replicated.row_bases.tolist()
        own = _segments(routed.own_lengths, routed.own_indices)
        for (table, shard), base, (lengths, rows) in zip(tables.copies(), bases, own, strict=True):
            yield table, shard, lengths, rows - base


def _segments(lengths: Tensor, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Every segment's lengths [bags] and indices."""
    return zip(lengths, indices.split(lengths.sum(1).tolist()), strict=True)
