"""Which rows were looked up, in order: what reuse distances are computed from."""

from torch import Tensor

from workbench.embeddings.inputs import Lookups
from workbench.embeddings.plan import Plan, Shard
from workbench.embeddings.sharded import Routed, ShardedEmbeddings
from workbench.trace.recorder import Recorder


def numbered_shards(plan: Plan) -> dict[tuple[str, Shard], int]:
    """The number of every shard of the plan: how accesses and the manifest call what a rank holds of a table."""
    shards = ((table.table, shard) for table in plan.tables for shard in table.shards)
    return {shard: number for number, shard in enumerate(shards)}


class AccessLog:
    """Records the accesses of this rank's shards from the first step on, until `limit_bytes` are used.

    One contiguous window, since a reuse distance counts everything in between: its first steps warm the caches that
    are modelled, and the first profiled steps lie inside it.
    """

    def __init__(self, recorder: Recorder, tables: ShardedEmbeddings, limit_bytes: int) -> None:
        self.recorder, self.schemes = recorder, tables.schemes
        self.left_bytes = limit_bytes if recorder.enabled else 0
        numbers = numbered_shards(tables.plan)
        # An empty shard, which only fills a place in an exchange, has no number, and no accesses.
        self.shards = [numbers.get((tables.name(piece.table), piece.shard)) for piece in tables.pieces]
        self.own_shards = [numbers[held.table, held.shard] for held in tables.held_replicated()]
        self.own_row_bases = tables.replicated.row_bases.tolist() if tables.replicated else []

    def record(self, routed: Routed, lookups: dict[str, Lookups]) -> None:
        """One step, whole or not at all."""
        parts = [(part.lengths, part.indices) for part in lookups.values()]
        own = [] if routed.own_lengths is None else [(routed.own_lengths, routed.own_indices)]
        size_bytes = sum(lengths.nbytes + indices.nbytes for lengths, indices in parts + own)
        if size_bytes > self.left_bytes:
            self.left_bytes = 0
            return
        self.left_bytes -= size_bytes
        with self.recorder.span("record_accesses", kind="runtime"):
            self._record(self.shards, parts, [0] * len(self.shards))
            self._record(self.own_shards, own, self.own_row_bases)

    def _record(self, shards: list[int | None], parts: list[tuple[Tensor, Tensor]], row_bases: list[int]) -> None:
        bags = [each for lengths, _ in parts for each in lengths.cpu()]
        rows_of = [each for lengths, indices in parts for each in indices.cpu().split(lengths.sum(1).tolist())]
        for shard, lengths, rows, base in zip(shards, bags, rows_of, row_bases, strict=True):
            if shard is not None:
                self.recorder.accesses(shard, lengths.numpy(), rows.numpy() - base)
