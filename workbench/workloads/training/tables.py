"""A model's tables on one rank: those that are pooled, and un-pooled histories, whose bags are of one id (`history`).

Histories have more bags a sample, so they are a second set of sharded tables, with lookups and exchanges of their own.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from workbench.data.batch import Batch
from workbench.embeddings.cache_stores import CacheConfig
from workbench.embeddings.inputs import Arriving, Lookups
from workbench.embeddings.jagged import check_ids
from workbench.embeddings.link import WireBytes
from workbench.embeddings.plan import Plan
from workbench.embeddings.sharded import EmbeddingOptions, Routed, ShardedEmbeddings
from workbench.trace.recorder import Recorder
from workbench.workloads.training.config import Config
from workbench.workloads.training.history import split_histories


class Inputs(NamedTuple):
    """One rank's batch on the device: dense [B, dense_features], labels [B], and for each set of tables its lookups in
    travel order."""

    dense: Tensor
    labels: Tensor
    routed: tuple[Routed, ...]


class Received(NamedTuple):
    """A batch whose lookups have come: `lookups` are all ranks' lookups of this rank's shards, by set and scheme."""

    inputs: Inputs
    lookups: tuple[dict[str, Lookups], ...]


class Travelling:
    """A batch whose lookups are on their way to the shards."""

    def __init__(self, inputs: Inputs, arriving: list[Arriving]) -> None:
        self.inputs, self.arriving = inputs, arriving

    def send_indices(self) -> None:
        """The second of the two all-to-alls."""
        for each in self.arriving:
            each.send_indices()

    def finish(self) -> Received:
        """Wait for it."""
        return Received(self.inputs, tuple(each.finish() for each in self.arriving))


class ModelTables:
    """`pooled` and `histories` (none: the model has none), both under `plan`; `order` is that of the columns that the
    model gets. Files of rows go into `folder`. Collective: all ranks construct it."""

    def __init__(
        self, config: Config, plan: Plan, rank: int, device: torch.device, recorder: Recorder, folder: Path
    ) -> None:
        self.config, self.plan, self.device = config, plan, device
        self.wire_bytes = WireBytes()
        options = EmbeddingOptions(
            config.kernel, config.embedding_learning_rate, config.seed, config.forward_wire, config.backward_wire,
            config.fixed_order, cache_config(config, folder),
        )  # fmt: skip
        count = config.tables - config.history_tables
        configs = config.table_configs
        self.sets = tuple(
            ShardedEmbeddings(
                configs[part], Plan(plan.ranks, plan.tables[part]), options, rank, device, recorder, self.wire_bytes
            )
            for part in (slice(0, count), slice(count, config.tables))
            if configs[part]
        )
        self.pooled, self.histories = self.sets[0], self.sets[1] if len(self.sets) > 1 else None
        self.order = [
            *self.pooled.order,
            *(count + number for number in (self.sets[1].order if self.histories else [])),
        ]
        self.dims = [configs[number].dim for number in self.order]

    def prepare(self, batch: Batch) -> Inputs:
        """To tensors on the device; InputError for an id without a row."""
        length = self.config.history_length
        check_ids(self.config.table_configs, torch.from_numpy(batch.lengths), torch.from_numpy(batch.indices))
        lookups = split_histories(batch, self.config.history_tables, length)
        routed = [tables.route(*map(torch.from_numpy, each)) for tables, each in zip(self.sets, lookups, strict=True)]
        dense, labels = (torch.from_numpy(values).to(self.device) for values in (batch.dense, batch.labels))
        return Inputs(dense, labels, tuple(each.to(self.device) for each in routed))

    def send(self, inputs: Inputs) -> Travelling:
        """Begin to send a batch's lookups to the shards."""
        arriving = [tables.send(routed) for tables, routed in zip(self.sets, inputs.routed, strict=True)]
        return Travelling(inputs, arriving)

    def announce(self, received: Received) -> None:
        """This batch follows the one that comes next: caches fetch its rows while that one trains."""
        for tables, lookups in zip(self.sets, received.lookups, strict=True):
            tables.announce(lookups)

    def present(self, inputs: Inputs) -> Tensor:
        """Which places of histories hold an id: bool [B, histories in `order`, history_length]."""
        lengths = inputs.routed[1].lengths_of_tables[self.histories.order]
        return lengths.view(len(lengths), len(inputs.labels), -1).transpose(0, 1) > 0

    def dense_parameters(self) -> list[nn.Parameter]:
        """What needs its gradients summed over ranks before `update`, and no other optimizer."""
        return [parameter for tables in self.sets for parameter in tables.dense_parameters()]

    def update(self) -> None:
        """After the backward pass: update the tables that do not update themselves in it."""
        for tables in self.sets:
            tables.update()


def cache_config(config: Config, folder: Path) -> CacheConfig | None:
    """The cache before each rank's tables, none where all rows are in the device's memory."""
    if config.cache_share is None:
        return None
    return CacheConfig(config.cache_share, config.cache_policy, config.backing, folder, config.host_cache_share)
