"""The two all-to-alls of table-wise sharding (Neo, section 4): lookups go to the tables, pooled rows come back.

    samples' ranks                 tables' ranks                          samples' ranks
    lengths, indices --all-to-all--> lookup --> pooled --all-to-all (async)--> embeddings
                                    update <-- gradients <--all-to-all (async)--

Every rank starts with its B samples of all tables. After the input exchange it has all W * B samples of its own
tables. The output exchange is started before the bottom MLP and waited for after it, so the two overlap; backward the
same two halves change roles. With one rank nothing moves, and torch.distributed is not needed.

Each exchange records the time that this rank spends in it: all of the input exchange, and the wait for the others.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from workbench.embeddings.jagged import permute_segments
from workbench.trace.recorder import Recorder


class TableExchange:
    """Exchanges for tables that lie on ranks by `placement` [tables]; `dims` [tables] are the tables' widths.

    Placement order, in which tables travel: rank 0's tables first, each rank's in table order.
    """

    def __init__(
        self, placement: Sequence[int], dims: Sequence[int], rank: int, ranks: int, recorder: Recorder
    ) -> None:
        self.rank, self.ranks, self.recorder = rank, ranks, recorder
        self.tables_of = [[t for t, owner in enumerate(placement) if owner == r] for r in range(ranks)]
        self.order = [table for tables in self.tables_of for table in tables]
        self.dims_of = [sum(dims[table] for table in tables) for tables in self.tables_of]

    @property
    def local_tables(self) -> list[int]:
        """Tables of this rank, in table order."""
        return self.tables_of[self.rank]

    def send_lookups(self, lengths: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """To the owners: lengths [tables, B] and indices in placement order become those of this rank's tables and
        every rank's samples, still sender after sender: [ranks * local tables, B]."""
        if self.ranks == 1:
            return lengths, indices
        message = {"message_bytes": lengths.nbytes + indices.nbytes, "group_size": self.ranks}
        with self.recorder.span(
            "input_exchange", kind="communication", phase="input", collective="all_to_all", **message
        ):
            send_tables = [len(tables) for tables in self.tables_of]
            receive_tables = [len(self.local_tables)] * self.ranks
            received_lengths = lengths.new_empty(sum(receive_tables), lengths.shape[1])
            dist.all_to_all_single(received_lengths, lengths, receive_tables, send_tables)
            sends = [int(part.sum()) for part in lengths.split(send_tables)]
            receives = [int(part.sum()) for part in received_lengths.split(receive_tables)]
            received = indices.new_empty(sum(receives))
            dist.all_to_all_single(received, indices, receives, sends)
        return received_lengths, received

    def group_by_table(self, lengths: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Received lookups, sender-major, as the kernel wants them, table-major: lengths [local tables, ranks * B]."""
        tables = len(self.local_tables)
        order = [sender * tables + table for table in range(tables) for sender in range(self.ranks)]
        lengths, indices = permute_segments(lengths, indices, order)
        return lengths.view(tables, -1), indices

    def start_embeddings(self, pooled: Tensor) -> "PendingEmbeddings":
        """Start sending pooled rows [ranks * B, sum of local dims] to the samples' ranks; `wait` returns them."""
        return PendingEmbeddings(self, pooled)


class PendingEmbeddings:
    """Pooled rows on their way, and later their gradients on the way back."""

    def __init__(self, exchange: TableExchange, pooled: Tensor) -> None:
        self.ranks, self.dims_of, self.recorder = exchange.ranks, exchange.dims_of, exchange.recorder
        self.bags = len(pooled) // self.ranks
        # Elements from and to each rank in the forward pass; the backward pass swaps them.
        self.receives = [self.bags * dims for dims in self.dims_of]
        self.sends = [self.bags * exchange.dims_of[exchange.rank]] * self.ranks
        self.work: dist.Work | None = None
        self._in_flight = _StartTransfer.apply(pooled, self) if self.ranks > 1 else pooled

    def wait(self) -> list[Tensor]:
        """[B, sum of a rank's dims] for every rank: together the tables in placement order."""
        # Let go of it: its graph refers back to this object, and a cycle would keep the buffers past the step.
        in_flight, self._in_flight = self._in_flight, None
        if self.ranks == 1:
            return [in_flight]
        parts = _FinishTransfer.apply(in_flight, self).split(self.receives)
        return [part.view(self.bags, dims) for part, dims in zip(parts, self.dims_of, strict=True)]

    def transfer(self, source: Tensor, receives: list[int], sends: list[int]) -> Tensor:
        """Start one all-to-all of `source`'s elements: flat, and complete only after `finish`."""
        target = source.new_empty(sum(receives))
        self.work = dist.all_to_all_single(target, source.contiguous().view(-1), receives, sends, async_op=True)
        return target

    def finish(self, name: str, phase: str) -> None:
        """Wait for the transfer under way."""
        with self.recorder.span(name, kind="wait", phase=phase, collective="all_to_all", group_size=self.ranks):
            self.work.wait()


class _StartTransfer(torch.autograd.Function):
    """Forward starts the rows' exchange, backward waits for the gradients'."""

    @staticmethod
    def forward(ctx, pooled: Tensor, pending: PendingEmbeddings) -> Tensor:
        ctx.pending, ctx.shape = pending, pooled.shape
        return pending.transfer(pooled, pending.receives, pending.sends)

    @staticmethod
    def backward(ctx, _: Tensor) -> tuple[Tensor, None]:
        ctx.pending.finish("gradient_exchange", phase="backward")
        return ctx.pending.gradient.view(ctx.shape), None


class _FinishTransfer(torch.autograd.Function):
    """Forward waits for the rows, backward starts the gradients' exchange: it overlaps the bottom MLP's backward."""

    @staticmethod
    def forward(ctx, in_flight: Tensor, pending: PendingEmbeddings) -> Tensor:
        ctx.pending = pending
        pending.finish("embedding_exchange", phase="forward")
        return in_flight.view_as(in_flight)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        pending = ctx.pending
        # The result is kept aside: the value that autograd hands on to _StartTransfer only carries the order.
        pending.gradient = pending.transfer(gradient, pending.sends, pending.receives)
        return gradient, None
