"""What a shard of an embedding table costs the rank that holds it, in one training step: bytes by formula, time by the
machine's rates.

A shard has h rows of width d; W ranks have B samples each, G = W B; n = G L lookups reach the shard (L a sample; of a
block of rows, its share of them; of a copy of a data-parallel table, those of B samples: there G is B), of
u = h (1 - (1 - 1/h)^n) distinct rows, as if ids were uniform (skewed ids repeat more). r and s are the bytes of a row
and of its optimizer state, c(x) = x in whole cache lines, e the bytes of an element on the wire.

    lookup         n c(r) gathered;  8 n + 4 G d streamed: indices, pooled rows
    update         2 u (c(r) + c(s)) gathered: rows and state, read and written;  8 n + 4 n d streamed: the gradient of
                   each lookup's bag
    communication  all-to-all of 8 n + 4 G: indices and lengths;  then forward and backward, e G d each:
                   table-wise, column-wise   all-to-all, all-to-all
                   row-wise                  reduce-scatter, all-gather
                   table-row-wise            reduce-scatter in the host and all-to-all between hosts of e G d / host
                                             ranks; all-to-all between hosts and all-gather in the host
                   data-parallel             none of these, but an all-reduce of the dense gradient, 4 h d; update
                                             streams 8 h d more, zeroing and reading that gradient

Schemes and what they move are Neo's (Mudigere et al., ISCA 2022, section 4.2).
"""

import math
from dataclasses import dataclass
from typing import Protocol

from workbench.costs.collectives import busbw_factor

LINE_BYTES = 64
INDEX_BYTES, LENGTH_BYTES, ELEMENT_BYTES = 8, 4, 4


class Rates(Protocol):
    """What one rank gets from the machine while the others are at work too."""

    def gather_bytes_per_s(self, row_bytes: float, footprint_bytes: float) -> float:
        """Random rows in whole lines."""

    def stream_bytes_per_s(self) -> float:
        """Memory read or written in order."""

    def collective_bytes_per_s(self, collective: str, group_size: int) -> tuple[float, int]:
        """Message bytes a second, and the group size at which that was measured."""


class EqualRates:
    """Every byte takes one nanosecond, wherever it moves: what is left where nothing was measured."""

    def gather_bytes_per_s(self, row_bytes: float, footprint_bytes: float) -> float:
        return 1e9

    def stream_bytes_per_s(self) -> float:
        return 1e9

    def collective_bytes_per_s(self, collective: str, group_size: int) -> tuple[float, int]:
        return 1e9, group_size


@dataclass(frozen=True)
class ShardWork:
    """One shard: its rows, its width, bytes of a row and of the row's state, and how it is sharded.

    `lookups_per_sample` reach this shard, of those of the table.
    """

    scheme: str
    rows: int
    dim: int
    row_bytes: float
    state_bytes_per_row: float
    lookups_per_sample: float

    @property
    def stored_bytes(self) -> int:
        """Weights and optimizer state."""
        return round(self.rows * (self.row_bytes + self.state_bytes_per_row))


@dataclass(frozen=True)
class StepShape:
    """Ranks, ranks of a host, samples a rank, and bytes of an element on the wire forward and backward."""

    ranks: int
    samples_per_rank: int
    host_ranks: int
    forward_element_bytes: float = ELEMENT_BYTES
    backward_element_bytes: float = ELEMENT_BYTES


@dataclass(frozen=True)
class ShardCost:
    """Time of one step on the rank that holds the shard."""

    lookup_ns: float
    update_ns: float
    communication_ns: float

    @property
    def total_ns(self) -> float:
        """All of it, one after the other."""
        return self.lookup_ns + self.update_ns + self.communication_ns


def shard_cost(shard: ShardWork, step: StepShape, rates: Rates) -> ShardCost:
    """Time that `shard` takes its rank in one step, by the formulas above."""
    replicated = shard.scheme == "data-parallel"
    bags = step.samples_per_rank * (1 if replicated else step.ranks)
    lookups = bags * shard.lookups_per_sample
    gather = rates.gather_bytes_per_s(shard.row_bytes, shard.rows * shard.row_bytes)
    stream = rates.stream_bytes_per_s()
    row_bytes, state_bytes = _whole_lines(shard.row_bytes), _whole_lines(shard.state_bytes_per_row)
    rows_ns = 1e9 * lookups * row_bytes / gather
    pooled_ns = 1e9 * (INDEX_BYTES * lookups + ELEMENT_BYTES * bags * shard.dim) / stream
    updates_ns = 1e9 * 2 * distinct_rows(lookups, shard.rows) * (row_bytes + state_bytes) / gather
    gradient_bytes = lookups * (INDEX_BYTES + ELEMENT_BYTES * shard.dim)
    if replicated:
        gradient_bytes += 2 * ELEMENT_BYTES * shard.rows * shard.dim
    gradients_ns = 1e9 * gradient_bytes / stream
    sent_ns = sum(
        _collective_ns(collective, message_bytes, group_size, rates)
        for collective, message_bytes, group_size in messages(shard, step)
    )
    return ShardCost(rows_ns + pooled_ns, updates_ns + gradients_ns, sent_ns)


def messages(shard: ShardWork, step: StepShape) -> list[tuple[str, float, int]]:
    """(collective, message bytes as nccl-tests count them, ranks that take part) of one step, for this shard."""
    if shard.scheme == "data-parallel":
        return [("all_reduce", ELEMENT_BYTES * shard.rows * shard.dim, step.ranks)]
    bags = step.ranks * step.samples_per_rank
    inputs = bags * (LENGTH_BYTES + INDEX_BYTES * shard.lookups_per_sample)
    forward, backward = (
        element_bytes * bags * shard.dim for element_bytes in (step.forward_element_bytes, step.backward_element_bytes)
    )
    hosts = step.ranks // step.host_ranks
    moved = {
        "row-wise": [("reduce_scatter", forward, step.ranks), ("all_gather", backward, step.ranks)],
        "table-row-wise": [
            ("reduce_scatter", forward, step.host_ranks),
            ("all_to_all", (forward + backward) / step.host_ranks, hosts),
            ("all_gather", backward, step.host_ranks),
        ],
    }.get(shard.scheme, [("all_to_all", forward, step.ranks), ("all_to_all", backward, step.ranks)])
    return [("all_to_all", inputs, step.ranks), *moved]


def distinct_rows(lookups: float, rows: int) -> float:
    """Expected number of different rows among `lookups` uniform ones of `rows`."""
    return float(rows) if rows == 1 else -rows * math.expm1(lookups * math.log1p(-1 / rows))


def _collective_ns(collective: str, message_bytes: float, group_size: int, rates: Rates) -> float:
    """At the measured rate, through the bus bandwidth where another group size was measured."""
    if group_size == 1:
        return 0.0
    rate, measured_group = rates.collective_bytes_per_s(collective, group_size)
    factor = busbw_factor(collective, group_size) / busbw_factor(collective, measured_group)
    return 1e9 * message_bytes * factor / rate


def _whole_lines(size_bytes: float) -> float:
    return LINE_BYTES * math.ceil(size_bytes / LINE_BYTES)
