"""All embedding tables of a model on one rank, under a plan: route lookups, pool rows, exchange them, update.

    lookups --route--> InputExchange --> lookup of every scheme --> its exchange --> embeddings of this rank's samples

One lookup and one exchange a scheme, whatever the number of tables. Data-parallel tables take part in neither: they
look up this rank's own samples, and their gradients are summed with the dense parameters'. In fixed order they are
served like the others (every rank looks up all samples), which gives the same bits as one rank has.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from workbench.embeddings.cache_stores import CacheConfig
from workbench.embeddings.columns import ColumnSquares, DeferredLookup
from workbench.embeddings.exchange import AllToAllRows, HostThenAll, Pending, ReduceScatterRows, ReplicatedRows
from workbench.embeddings.inputs import Arriving, InputExchange, Lookups
from workbench.embeddings.jagged import permute_segments
from workbench.embeddings.kernels import make_lookup
from workbench.embeddings.link import Link, WireBytes
from workbench.embeddings.plan import Plan, Shard
from workbench.embeddings.replicated import ReplicatedTables
from workbench.embeddings.routing import Piece, Routing
from workbench.embeddings.tables import TableConfig, TableShard
from workbench.embeddings.tiers import CachedLookup
from workbench.errors import InputError
from workbench.trace.recorder import Recorder


@dataclass(frozen=True)
class EmbeddingOptions:
    """How tables are looked up and updated, and what their rows (`forward`) and gradients (`backward`) travel as."""

    kernel: str = "auto"
    learning_rate: float = 0.05
    seed: int = 0
    forward: str = "fp32"
    backward: str = "fp32"
    fixed_order: bool = False
    cache: CacheConfig | None = None  # none: all rows are in the device's memory


class Routed(NamedTuple):
    """One batch's lookups in travel order, lengths [pieces of all ranks, B], and the data-parallel tables' own, which
    do not travel; and how long all bags were, [tables, B]."""

    lengths: Tensor
    indices: Tensor
    own_lengths: Tensor
    own_indices: Tensor
    lengths_of_tables: Tensor

    def to(self, device: torch.device) -> "Routed":
        """The same on a device."""
        return Routed(*(tensor.to(device) for tensor in self))


class HeldTable(NamedTuple):
    """What this rank holds of a table: weights [rows, dim] and optimizer state [rows, ...] of `shard`."""

    table: str
    shard: Shard
    weight: Tensor
    state: Tensor


class ShardedEmbeddings(nn.Module):
    """The tables of `plan` that lie on this rank. Collective: all ranks construct it, and step together.

    `order` names the tables in the order in which `Embeddings.wait` joins their columns, `dims` their widths.
    """

    def __init__(
        self, tables: Sequence[TableConfig], plan: Plan, options: EmbeddingOptions, rank: int, device: torch.device,
        recorder: Recorder, wire_bytes: WireBytes,
    ) -> None:  # fmt: skip
        super().__init__()
        plan.check(tables, plan.ranks)
        self.plan, self.options, self.device, self.recorder = plan, options, device, recorder
        self.wire_bytes = wire_bytes
        self._rank, self._configs = rank, tables
        self.routing = Routing(plan, replicate=options.fixed_order)
        self.schemes = self.routing.schemes
        self.pieces = self.routing.pieces_of[rank]
        input_link = Link(rank, plan.ranks, recorder, WireBytes(), "lookups")
        self.inputs = InputExchange(self.routing, input_link, self.wire_bytes)
        self.lookups, self.exchanges = nn.ModuleDict(), {}
        self.order: list[int] = []
        for scheme in self.schemes:
            self._add(scheme)
        self.replicated = self._replicated_tables()
        self.dims = [tables[number].dim for number in self.order]

    def _add(self, scheme: str) -> None:
        """The lookup and the exchange of one scheme."""
        options = self.options
        pieces_of = [[piece for piece in pieces if piece.scheme == scheme] for pieces in self.routing.pieces_of]
        link = Link(
            self._rank, self.plan.ranks, self.recorder, self.wire_bytes, scheme, options.forward, options.backward,
            options.fixed_order,
        )  # fmt: skip
        dims_of = [sum(piece.shard.dim for piece in pieces) for pieces in pieces_of]
        if scheme in ("table-wise", "column-wise"):
            self.exchanges[scheme] = AllToAllRows(link, dims_of)
        elif scheme == "table-row-wise":
            self.exchanges[scheme] = self._host_exchange(link, dims_of)
        else:
            make = ReduceScatterRows if scheme == "row-wise" else ReplicatedRows
            self.exchanges[scheme] = make(link, dims_of[self._rank])
        lookup = self._lookup(pieces_of, link)
        if lookup is not None:
            self.lookups[scheme] = lookup
        arriving = {piece.table: None for pieces in pieces_of for piece in pieces}  # a set that keeps its order
        self.order += sorted(arriving) if scheme == "column-wise" else arriving

    def _host_exchange(self, link: Link, dims_of: list[int]) -> HostThenAll:
        size = self.plan.host_ranks
        hosts = [range(first, first + size) for first in range(0, link.ranks, size)]
        across = [range(place, link.ranks, size) for place in range(size)]
        in_host, between = (_subgroup(link, groups) for groups in (hosts, across))
        return HostThenAll(in_host, between, dims_of[::size])

    def _lookup(self, pieces_of: list[list[Piece]], link: Link) -> nn.Module | None:
        """None where this rank holds nothing under the scheme."""
        options = self.options
        tables = [TableShard.of(self._configs[piece.table], piece.shard) for piece in pieces_of[self._rank]]
        columns = None
        rowwise = [[p for p in pieces if self._configs[p.table].optimizer == "rowwise_adagrad"] for pieces in pieces_of]
        if link.scheme == "column-wise" and link.ranks > 1 and any(rowwise):
            columns = ColumnSquares(rowwise, link, self.device)
        if options.cache:
            _check_cache(tables, options.fixed_order or columns is not None)
        if columns or (tables and options.fixed_order):
            return DeferredLookup(
                tables, options.learning_rate, self.device, options.seed, options.fixed_order, columns
            )
        if not tables:
            return None
        make = partial(
            make_lookup,
            kernel=options.kernel,
            learning_rate=options.learning_rate,
            device=self.device,
            seed=options.seed,
        )
        return CachedLookup(tables, options.cache, make, options.seed, self.recorder) if options.cache else make(tables)

    def _replicated_tables(self) -> ReplicatedTables | None:
        sent = {piece.table for pieces in self.routing.pieces_of for piece in pieces}
        self._own_tables = [number for number in range(len(self._configs)) if number not in sent]
        if not self._own_tables:
            return None
        tables = [self._configs[number] for number in self._own_tables]
        replicated = ReplicatedTables(tables, self.options.learning_rate, self.device, self.options.seed)
        self.order += [self._own_tables[place] for place in replicated.order]
        return replicated

    def route(self, lengths: Tensor, indices: Tensor) -> Routed:
        """A batch's lookups as they travel: lengths [tables, B], indices [sum of lengths], on the host."""
        own = permute_segments(lengths, indices, self._own_tables)
        if self.replicated:
            own = self.replicated.prepare(*own)
        return Routed(*self.routing.route(lengths, indices), *own, lengths)

    def send(self, routed: Routed) -> Arriving:
        """Begin the input exchange; its `send_indices` and `finish` complete it."""
        return self.inputs.start(routed.lengths, routed.indices)

    def start(self, lookups: dict[str, Lookups], routed: Routed) -> "Embeddings":
        """Pool all samples' lookups of this rank's shards, and begin to send what was pooled to the samples' ranks."""
        pending = [self.exchanges[scheme].start(self._pool(scheme, lookups[scheme])) for scheme in self.schemes]
        own = self.replicated(routed.own_lengths, routed.own_indices) if self.replicated else []
        return Embeddings(self, pending, own)

    def announce(self, lookups: dict[str, Lookups]) -> None:
        """These are started after the next ones: caches fetch their rows while that batch trains."""
        for scheme, lookup in self.lookups.items():
            if isinstance(lookup, CachedLookup):
                lookup.announce(lookups[scheme].indices, lookups[scheme].offsets)

    def _pool(self, scheme: str, lookups: Lookups) -> Tensor:
        """[ranks * B, columns of this rank under the scheme]."""
        if len(lookups.lengths) == 0:  # this rank takes part in the exchange all the same
            return torch.zeros(lookups.lengths.shape[1], 0, device=self.device, requires_grad=True)
        return self.lookups[scheme](lookups.indices, lookups.offsets)

    def dense_parameters(self) -> list[nn.Parameter]:
        """What needs its gradients summed over ranks before `update`, and no other optimizer."""
        return list(self.replicated.parameters()) if self.replicated else []

    def update(self) -> None:
        """After the backward pass: update the tables that do not update themselves in it."""
        for lookup in self.lookups.values():
            if isinstance(lookup, DeferredLookup):
                lookup.update()
        if self.replicated:
            self.replicated.update()

    def held(self) -> Iterator[HeldTable]:
        """Everything that this rank holds."""
        for scheme, lookup in self.lookups.items():
            pieces = [piece for piece in self.pieces if piece.scheme == scheme]
            for piece, weight, state in zip(pieces, lookup.weights, lookup.states, strict=True):
                rows = piece.shard.rows  # an empty shard's one row is nobody's
                yield HeldTable(self.name(piece.table), piece.shard, weight.detach()[:rows], state[:rows])
        if self.replicated:
            for (table, shard), weight, stored in zip(
                self.copies(), self.replicated.weights, self.replicated.stored, strict=True
            ):
                yield HeldTable(table, shard, weight, stored["state"])

    def copies(self) -> list[tuple[str, Shard]]:
        """The data-parallel tables, in the order of their lookups, with this rank's shard: all of the table."""
        order = self.replicated.order if self.replicated else []
        tables = [self.plan.tables[self._own_tables[place]] for place in order]
        return [(table.table, table.shards[self._rank]) for table in tables]

    def name(self, number: int) -> str:
        """The name of table `number`."""
        return self._configs[number].name


class Embeddings:
    """Embeddings on their way to this rank's samples."""

    def __init__(self, tables: ShardedEmbeddings, pending: list[Pending | HostThenAll], own: list[Tensor]) -> None:
        self._tables, self._pending, self._own = tables, pending, own

    def wait(self) -> list[Tensor]:
        """[B, columns] each: together the tables in `ShardedEmbeddings.order`."""
        parts = []
        for scheme, pending in zip(self._tables.schemes, self._pending, strict=True):
            arrived = pending.wait()
            parts += self._join_columns(arrived) if scheme == "column-wise" else arrived
        return [*parts, *self._own]

    def _join_columns(self, arrived: list[Tensor]) -> list[Tensor]:
        """Column shards, rank after rank, in the order of tables and of their columns."""
        pieces_of = [[p for p in pieces if p.scheme == "column-wise"] for pieces in self._tables.routing.pieces_of]
        found: dict[tuple[int, int], Tensor] = {}
        for part, pieces in zip(arrived, pieces_of, strict=True):
            for piece, columns in zip(pieces, part.split([p.shard.dim for p in pieces], dim=1), strict=True):
                found[piece.table, piece.shard.column_begin] = columns
        return [found[place] for place in sorted(found)]


def _check_cache(tables: Sequence[TableConfig], deferred: bool) -> None:
    """InputError unless rows can be cached: they are updated in the backward pass, and a slot does not know the row by
    whose numbers it would be rounded."""
    if deferred:
        raise InputError("cache_share works neither in fixed order nor where row-wise AdaGrad's tables lie in columns")
    for table in tables:
        if table.row_dtype != "fp32":
            raise InputError(f"cache_share takes fp32 rows: table {table.name} has row_dtype={table.row_dtype}")


def _subgroup(link: Link, groups: Sequence[Sequence[int]]) -> Link:
    """The link within the one of `groups` that holds this rank; all ranks make all groups."""
    own = next(list(group) for group in groups if link.rank in group)
    if len(groups) > 1 and len(own) > 1:
        group, _ = dist.new_subgroups_by_enumeration([list(group) for group in groups])
        link = replace(link, group=group)
    return replace(link, rank=own.index(link.rank), ranks=len(own))
