"""Pooled rows on their way to the samples' ranks, and their gradients on the way back: one exchange a sharding scheme.

    scheme          forward                                             backward
    table-wise      all-to-all                                          all-to-all
    column-wise     all-to-all                                          all-to-all
    row-wise        reduce-scatter of partial sums                      all-gather
    table-row-wise  reduce-scatter in the host, all-to-all between      all-to-all between, all-gather in the host
    replicated      nothing: every rank pools all samples               all-gather

(Neo: Mudigere et al., ISCA 2022, section 4.2.) `start` begins the forward transfer and `wait` ends it, so that what
lies between overlaps it; the backward pass does the same with the gradients, the other way round. Every transfer is
counted: bytes that leave this rank for others, after coding (see `wire`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from workbench.embeddings.link import Link, Transfer
from workbench.embeddings.wire import coded_columns, decode, encode


class Exchange(ABC):
    """How one scheme's rows and gradients move between the ranks of `link`; a subclass is told in [bags, columns]."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def start(self, pooled: Tensor) -> "Pending":
        """Begin to send pooled rows [ranks * B, columns] to their samples' ranks."""
        return Pending(self, pooled)

    @abstractmethod
    def begin_forward(self, pooled: Tensor) -> tuple[Tensor, Transfer | None]:
        """Start the transfer: the buffer that it fills, and its handle, if anything moves."""

    @abstractmethod
    def end_forward(self, buffer: Tensor, bags: int) -> tuple[Tensor, ...]:
        """The filled buffer as rows [B, columns] of this rank's B = `bags` samples."""

    @abstractmethod
    def begin_backward(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Transfer]:
        """As `begin_forward`, for the gradients of what `end_forward` gave."""

    @abstractmethod
    def end_backward(self, buffer: Tensor, bags: int) -> Tensor:
        """The filled buffer as the gradient of `pooled`."""


class AllToAllRows(Exchange):
    """Rank r pools `dims_of[r]` columns for all samples; every rank gets its samples' columns from all ranks."""

    def __init__(self, link: Link, dims_of: Sequence[int]) -> None:
        super().__init__(link)
        self.dims_of = dims_of
        self.own_dim = dims_of[link.rank]

    def begin_forward(self, pooled: Tensor) -> tuple[Tensor, Transfer]:
        bags, precision = len(pooled) // self.link.ranks, self.link.forward
        return self.link.all_to_all("forward", encode(pooled, precision), self._sizes(bags, precision))

    def end_forward(self, buffer: Tensor, bags: int) -> tuple[Tensor, ...]:
        parts = buffer.split(self._sizes(bags, self.link.forward))
        return tuple(
            decode(part.view(bags, -1), dim, self.link.forward) for part, dim in zip(parts, self.dims_of, strict=True)
        )

    def begin_backward(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Transfer]:
        bags, precision = len(gradients[0]), self.link.backward
        sends = self._sizes(bags, precision)
        source = end_to_end([encode(gradient, precision) for gradient in gradients])
        receives = [bags * coded_columns(self.own_dim, precision)] * self.link.ranks
        return self.link.all_to_all("backward", source, receives, sends)

    def end_backward(self, buffer: Tensor, bags: int) -> Tensor:
        return decode(buffer.view(bags * self.link.ranks, -1), self.own_dim, self.link.backward)

    def _sizes(self, bags: int, precision: str) -> list[int]:
        """Elements of what each rank has pooled for one rank's samples."""
        return [bags * coded_columns(dim, precision) for dim in self.dims_of]


class ReduceScatterRows(Exchange):
    """Every rank pools part of the same `dim` columns for all samples; each gets the sums over ranks for its own."""

    def __init__(self, link: Link, dim: int) -> None:
        super().__init__(link)
        self.dim = dim
        # A backend adds in an order of its own and cannot add what is coded; gloo sums everything everywhere, which
        # sends twice as much. In these cases parts travel by all-to-all, and are added here.
        self.adds_here = link.fixed_order or link.forward != "fp32" or link.backend == "gloo"

    def begin_forward(self, pooled: Tensor) -> tuple[Tensor, Transfer]:
        if not self.adds_here:
            return self.link.reduce_scatter("forward", pooled)
        size = len(pooled) // self.link.ranks * coded_columns(self.dim, self.link.forward)
        return self.link.all_to_all("forward", encode(pooled, self.link.forward), [size] * self.link.ranks)

    def end_forward(self, buffer: Tensor, bags: int) -> tuple[Tensor, ...]:
        if not self.adds_here:
            return (buffer,)
        total, *others = decode(buffer.view(bags * self.link.ranks, -1), self.dim, self.link.forward).split(bags)
        total = total.clone()
        for part in others:  # in the order of ranks
            total += part
        return (total,)

    def begin_backward(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Transfer]:
        return self.link.all_gather("backward", encode(gradients[0].contiguous(), self.link.backward))

    def end_backward(self, buffer: Tensor, bags: int) -> Tensor:
        return decode(buffer.view(bags * self.link.ranks, -1), self.dim, self.link.backward)


class ReplicatedRows(ReduceScatterRows):
    """Every rank pools all of the same `dim` columns for all samples: it keeps its own, and gets all gradients."""

    def begin_forward(self, pooled: Tensor) -> tuple[Tensor, None]:
        return pooled.chunk(self.link.ranks)[self.link.rank].clone(), None

    def end_forward(self, buffer: Tensor, bags: int) -> tuple[Tensor, ...]:
        return (buffer,)


class HostThenAll:
    """Table-row-wise: partial sums are added up within each host, and what is left crosses between hosts.

    `in_host` links this rank's host, `between` the ranks of the same place on every host; host h holds `dims_of[h]`
    columns. A rank receives, within its host, the samples of the ranks that `between` links.
    """

    def __init__(self, in_host: Link, between: Link, dims_of: Sequence[int]) -> None:
        self.in_host, self.between = in_host, between
        self.reduce = ReduceScatterRows(in_host, dims_of[between.rank])
        self.exchange = AllToAllRows(between, dims_of)

    def start(self, pooled: Tensor) -> "HostThenAll":
        """Begin to send partial sums [ranks * B, columns of this host] to their samples' ranks."""
        by_rank = pooled.view(self.between.ranks, self.in_host.ranks, -1, pooled.shape[1])
        self._pending = self.reduce.start(by_rank.transpose(0, 1).reshape(pooled.shape))
        return self

    def wait(self) -> list[Tensor]:
        """[B, columns of a host] for every host."""
        pending, self._pending = self._pending, None
        return self.exchange.start(*pending.wait()).wait()


class Pending:
    """One exchange under way: forward from `start` to `wait`, backward from the gradients of the one to the other."""

    def __init__(self, exchange: Exchange, pooled: Tensor) -> None:
        self.exchange, self.link = exchange, exchange.link
        self.bags = len(pooled) // self.link.ranks
        self._token = _Start.apply(pooled, self) if self.link.ranks > 1 else pooled

    def wait(self) -> list[Tensor]:
        """[B, columns] for every part that arrives, in the order of ranks."""
        # Let go of it: its graph refers back to this object, and a cycle would keep the buffers past the step.
        token, self._token = self._token, None
        return list(_Finish.apply(token, self)) if self.link.ranks > 1 else [token]


class _Start(torch.autograd.Function):
    """Forward starts the rows' transfer, backward waits for the gradients'."""

    @staticmethod
    def forward(ctx, pooled: Tensor, pending: Pending) -> Tensor:
        ctx.pending = pending
        pending.buffer, pending.transfer = pending.exchange.begin_forward(pooled)
        return pooled.new_empty(0)  # only carries the order

    @staticmethod
    def backward(ctx, _: Tensor) -> tuple[Tensor, None]:
        pending = ctx.pending
        pending.link.wait(pending.transfer, "gradient_exchange", "backward")
        gradient = pending.exchange.end_backward(pending.buffer, pending.bags)
        pending.buffer = None
        return gradient, None


class _Finish(torch.autograd.Function):
    """Forward waits for the rows, backward starts the gradients' transfer: it overlaps the bottom MLP's backward."""

    @staticmethod
    def forward(ctx, token: Tensor, pending: Pending) -> tuple[Tensor, ...]:
        ctx.pending = pending
        pending.link.wait(pending.transfer, "embedding_exchange", "forward")
        buffer, pending.buffer = pending.buffer, None
        return pending.exchange.end_forward(buffer, pending.bags)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:
        pending = ctx.pending
        pending.buffer, pending.transfer = pending.exchange.begin_backward(gradients)
        return gradients[0].new_empty(0), None


def end_to_end(parts: Sequence[Tensor]) -> Tensor:
    """All elements of `parts`, of one dtype, one part after the other: flat, and a view where they lie so already."""
    first, position = parts[0], parts[0].storage_offset()
    for part in parts:
        same_storage = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (same_storage and part.is_contiguous() and part.storage_offset() == position):
            return torch.cat([part.flatten() for part in parts])
        position += part.numel()
    return first.as_strided((position - first.storage_offset(),), (1,))
