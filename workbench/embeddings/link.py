"""The ranks of one process group: asynchronous collectives that count the bytes which leave this rank."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch.distributed as dist
from torch import Tensor

from workbench.trace.recorder import Recorder

DIRECTIONS = ("input", "forward", "backward", "update")
WireBytes = Counter[tuple[str, str]]  # (scheme, direction) -> bytes that this rank has sent to others


@dataclass
class Transfer:
    """A collective under way; what a span says about it."""

    work: dist.Work
    collective: str
    message_bytes: int


@dataclass(frozen=True)
class Link:
    """This rank's place among the `ranks` of `group` (none: all), for the tables of one `scheme`.

    `forward` and `backward` say what rows and gradients are coded in; `fixed_order`, that sums are taken in the order
    of ranks.
    """

    rank: int
    ranks: int
    recorder: Recorder
    wire_bytes: WireBytes
    scheme: str
    forward: str = "fp32"
    backward: str = "fp32"
    fixed_order: bool = False
    group: dist.ProcessGroup | None = None

    @property
    def backend(self) -> str:
        """Whose collectives these are: gloo, nccl; with one rank, nobody's."""
        return dist.get_backend(self.group) if self.ranks > 1 else ""

    def all_to_all(
        self, direction: str, source: Tensor, receives: Sequence[int], sends: Sequence[int] | None = None
    ) -> tuple[Tensor, Transfer]:
        """Start sending `source` in parts of `sends` elements (none: equal ones); the buffer of what arrives."""
        source = source.contiguous().view(-1)
        sends = sends or [len(source) // self.ranks] * self.ranks
        target = source.new_empty(sum(receives))
        work = dist.all_to_all_single(target, source, list(receives), list(sends), group=self.group, async_op=True)
        return target, self._started(work, "all_to_all", direction, source, len(source) - sends[self.rank])

    def reduce_scatter(self, direction: str, source: Tensor) -> tuple[Tensor, Transfer]:
        """Start adding `source` [ranks * n, ...] over ranks; the buffer [n, ...] of this rank's part of the sums."""
        target = source.new_empty(len(source) // self.ranks, *source.shape[1:])
        work = dist.reduce_scatter_single(target, source.contiguous(), group=self.group, async_op=True)
        return target, self._started(work, "reduce_scatter", direction, source, source.numel() - target.numel())

    def all_gather(self, direction: str, source: Tensor) -> tuple[Tensor, Transfer]:
        """Start gathering every rank's `source` [n, ...]: the buffer [ranks * n, ...]."""
        target = source.new_empty(len(source) * self.ranks, *source.shape[1:])
        work = dist.all_gather_single(target, source.contiguous(), group=self.group, async_op=True)
        return target, self._started(work, "all_gather", direction, target, target.numel() - source.numel())

    def all_reduce(self, direction: str, tensor: Tensor) -> Transfer:
        """Start adding `tensor` over ranks, in place."""
        work = dist.all_reduce(tensor, group=self.group, async_op=True)
        # A reduce-scatter and an all-gather of equal parts, whatever the backend does.
        return self._started(work, "all_reduce", direction, tensor, 2 * (self.ranks - 1) * tensor.numel() / self.ranks)

    def _started(
        self, work: dist.Work, collective: str, direction: str, whole: Tensor, sent_elements: float
    ) -> Transfer:
        """`sent_elements` is what an algorithm that sends nothing twice sends: the bus bandwidth's convention."""
        self.wire_bytes[self.scheme, direction] += sent_elements * whole.itemsize
        return Transfer(work, collective, whole.nbytes)

    def wait(self, transfer: Transfer | None, name: str, phase: str) -> None:
        """Wait for a transfer, in a span."""
        if transfer is None:
            return
        about = {"collective": transfer.collective, "message_bytes": transfer.message_bytes, "group_size": self.ranks}
        with self.recorder.span(name, kind="wait", phase=phase, tags=self.scheme, **about):
            transfer.work.wait()
