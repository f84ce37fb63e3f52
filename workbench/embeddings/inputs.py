"""The input exchange: every rank's lookups go to the shards that hold their rows.

    samples' ranks                                   shards' ranks
    lengths --all-to-all--> how much will come
    indices --all-to-all(v)--------------------> lookups of all samples, grouped by shard

Two messages for all tables together, since lengths concatenate without a fix-up. Each step of it is asynchronous, so
that the next batches' lookups can travel while this one is computed (see `workloads/training/pipeline.py`).
"""

from collections import Counter
from dataclasses import dataclass

from torch import Tensor

from workbench.embeddings.jagged import offsets, permute_segments
from workbench.embeddings.link import Link, WireBytes
from workbench.embeddings.routing import Routing


@dataclass(frozen=True)
class Lookups:
    """What one scheme's lookup on this rank is asked: lengths [pieces, bags], indices, offsets [pieces * bags + 1]."""

    lengths: Tensor
    indices: Tensor
    offsets: Tensor


class InputExchange:
    """The two all-to-alls over `link`; what they send is also counted by scheme, in `wire_bytes`."""

    def __init__(self, routing: Routing, link: Link, wire_bytes: WireBytes) -> None:
        self.routing, self.link, self.wire_bytes = routing, link, wire_bytes
        self.pieces = routing.pieces_of[link.rank]
        self.sizes = [len(pieces) for pieces in routing.pieces_of]
        self.schemes = [piece.scheme for pieces in routing.pieces_of for piece in pieces]
        own_first = sum(self.sizes[: link.rank])
        self.own = range(own_first, own_first + len(self.pieces))
        # Received sender after sender; wanted shard after shard, senders within.
        count = len(self.pieces)
        self.by_shard = [sender * count + piece for piece in range(count) for sender in range(link.ranks)]

    def start(self, lengths: Tensor, indices: Tensor) -> "Arriving":
        """Begin with lookups in travel order (`Routing.route`): lengths [pieces of all ranks, B]."""
        return Arriving(self, lengths, indices)


class Arriving:
    """One batch's lookups on their way: `send_indices`, then `finish`."""

    def __init__(self, exchange: InputExchange, lengths: Tensor, indices: Tensor) -> None:
        self.exchange, self.link = exchange, exchange.link
        self.bags, self.indices, self.lengths = lengths.shape[1], indices, lengths
        if self.link.ranks > 1:
            sends, receives = self._elements(exchange.sizes), self._elements([len(exchange.pieces)] * self.link.ranks)
            self.received_lengths, self.transfer = self.link.all_to_all("input", lengths, receives, sends)

    def _elements(self, pieces: list[int]) -> list[int]:
        return [count * self.bags for count in pieces]

    def send_indices(self) -> None:
        """Wait for the lengths, which say how much will come, and send the indices."""
        if self.link.ranks == 1:
            return
        self.link.wait(self.transfer, "lengths_exchange", "input")
        with self.link.recorder.span("send_indices", kind="runtime", phase="input"):
            self.received_lengths = self.received_lengths.view(-1, self.bags)
            counts = self.lengths.sum(1).tolist()
            sends = [sum(part) for part in _split(counts, self.exchange.sizes)]
            received = self.received_lengths.sum(1).view(self.link.ranks, -1).sum(1).tolist()
            self._count(counts)
            self.received_indices, self.transfer = self.link.all_to_all("input", self.indices, received, sends)

    def _count(self, counts: list[int]) -> None:
        """Bytes of lengths and indices that leave this rank, by the scheme that they go to."""
        row_bytes, index_bytes = self.bags * self.lengths.itemsize, self.indices.itemsize
        for position, (scheme, count) in enumerate(zip(self.exchange.schemes, counts, strict=True)):
            if position not in self.exchange.own:
                self.exchange.wire_bytes[scheme, "input"] += row_bytes + count * index_bytes

    def finish(self) -> dict[str, Lookups]:
        """All ranks' lookups of this rank's shards, by scheme: lengths [pieces, ranks * B]."""
        if self.link.ranks > 1:
            self.link.wait(self.transfer, "indices_exchange", "input")
            with self.link.recorder.span("group_by_shard", kind="memory", phase="input"):
                lengths, indices = permute_segments(
                    self.received_lengths, self.received_indices, self.exchange.by_shard
                )
        else:
            lengths, indices = self.lengths, self.indices
        return self._by_scheme(lengths.view(len(self.exchange.pieces), self.link.ranks * self.bags), indices)

    def _by_scheme(self, lengths: Tensor, indices: Tensor) -> dict[str, Lookups]:
        schemes = self.exchange.routing.schemes
        pieces = Counter(piece.scheme for piece in self.exchange.pieces)
        lengths_of = lengths.split([pieces[scheme] for scheme in schemes])
        if len(schemes) == 1:
            return {schemes[0]: Lookups(lengths, indices, offsets(lengths))}
        indices_of = indices.split([int(part.sum()) for part in lengths_of])
        return {
            scheme: Lookups(part, part_indices, offsets(part))
            for scheme, part, part_indices in zip(schemes, lengths_of, indices_of, strict=True)
        }


def _split(values: list[int], sizes: list[int]) -> list[list[int]]:
    """Consecutive parts of `values` of these sizes."""
    values = iter(values)
    return [[next(values) for _ in range(size)] for size in sizes]
