"""TorchRec as the engine: the same model, data, plan and spans under its DistributedModelParallel.

Tables are an EmbeddingBagCollection with the optimizer fused, sharded by our plan; pairs of vectors are TorchRec's own
InteractionArch; MLPs are reduced by its DDP. Initial weights are ours, so that the first loss is. The loss of a rank is
its own mean, since TorchRec and DDP divide gradients by the number of ranks. Training is the same to rounding, except
that TorchRec's row-wise AdaGrad keeps a moment for each column shard, where ours has one for the row.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import cycle, islice

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._shard.sharding_spec import EnumerableShardingSpec, ShardMetadata
from torch.nn.functional import binary_cross_entropy_with_logits
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor, PoolingType
from torchrec import optim as torchrec_optim
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.types import EmbeddingModuleShardingPlan, ParameterSharding, ShardingPlan
from torchrec.models.dlrm import InteractionArch
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

from workbench.data.batch import Batch
from workbench.embeddings.kernels import initialize
from workbench.embeddings.optimizers import EPSILON
from workbench.embeddings.plan import Shard, TablePlan
from workbench.embeddings.tables import TableShard
from workbench.trace.recorder import Recorder
from workbench.workloads.training.config import Config
from workbench.workloads.training.mlp import mlp
from workbench.workloads.training.quality import LossSums
from workbench.workloads.training.train import make_optimizer, make_source

# TorchRec's names of what it shares with us; the settings check that nothing else is asked for.
_SCHEMES = {"table-wise": "table_wise", "row-wise": "row_wise", "column-wise": "column_wise"}
_OPTIMIZERS = {
    "rowwise_adagrad": (torchrec_optim.RowWiseAdagrad, {"eps": EPSILON}),
    "adagrad": (torchrec_optim.Adagrad, {"eps": EPSILON}),
    "sgd": (torchrec_optim.SGD, {}),
}


class TorchrecTrainer:
    """One rank's data, model and optimizer: what `train.run` asks of a trainer."""

    def __init__(self, config: Config, recorder: Recorder) -> None:
        self.config, self.recorder = config, recorder
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        os.environ.setdefault("LOCAL_WORLD_SIZE", str(self.ranks))  # TorchRec asks the environment for it
        cuda = config.device == "cuda"
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        self.source = make_source(config)
        self.keys = [table.name for table in config.table_configs]
        model = TorchrecDLRM(config, self.device, recorder)
        plan = config.plan_for(self.ranks)
        tables = EmbeddingModuleShardingPlan(
            {table.table: _parameter_sharding(table, self.device.type) for table in plan.tables}
        )
        self.model = DistributedModelParallel(
            model, device=self.device, plan=ShardingPlan({"tables": tables}), sharders=[EmbeddingBagCollectionSharder()]
        )
        _initialize(model.tables, config)
        self.optimizer = make_optimizer(config, [*model.bottom.parameters(), *model.top.parameters()])

    def inputs(self, first: int = 0) -> Iterator[tuple[Tensor, Tensor, KeyedJaggedTensor]]:
        """This rank's part of every training batch from step `first` on: dense, labels, lookups."""
        prepared = map(self.prepare, self.source.batches(self.rank, self.ranks))
        if self.config.prepared_batches:
            prepared = cycle(list(islice(prepared, self.config.prepared_batches)))
        return islice(prepared, first, self.config.steps)

    def prepare(self, batch: Batch) -> tuple[Tensor, Tensor, KeyedJaggedTensor]:
        """To tensors on the device."""
        lengths, indices = torch.from_numpy(batch.lengths).flatten(), torch.from_numpy(batch.indices)
        lookups = KeyedJaggedTensor(self.keys, indices, lengths=lengths).to(self.device)
        dense, labels = (torch.from_numpy(values).to(self.device) for values in (batch.dense, batch.labels))
        return dense, labels, lookups

    def redistribute(self, prepared: Iterable[tuple]) -> Iterator[tuple]:
        """As they are: TorchRec redistributes lookups in the model's forward pass."""
        return iter(prepared)

    def step(self, batches: Iterator[tuple]) -> LossSums:
        """One step; the sums are over all ranks."""
        span = self.recorder.span
        with span("input", kind="wait", phase="input"):
            dense, labels, lookups = next(batches)
        logits = self.model(dense, lookups)
        with span("loss", kind="compute", phase="forward"):
            loss = binary_cross_entropy_with_logits(logits, labels)
        with span("backward", kind="compute", phase="backward"):
            self.optimizer.zero_grad()
            loss.backward()  # tables update themselves in here
        with span("optimizer", kind="compute", phase="optimizer"):
            self.optimizer.step()
        return self._over_ranks(loss.detach() * len(labels), labels)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float | None]:
        """Normalized entropy of the held-out samples."""
        model = LossSums()
        for batch in self.source.held_out(self.rank, self.ranks, self.config.evaluation_batches):
            dense, labels, lookups = self.prepare(batch)
            log_loss = binary_cross_entropy_with_logits(self.model(dense, lookups), labels, reduction="sum")
            model += self._over_ranks(log_loss, labels)
        return {"held_out_normalized_entropy": model.normalized_entropy if model.samples else None}

    def wire_bytes_per_step(self, _steps: int) -> dict:
        """Nothing: TorchRec counts no bytes; the `communication` analysis reads them from the trace."""
        return {}

    def _over_ranks(self, log_loss: Tensor, labels: Tensor) -> LossSums:
        sums = torch.stack([log_loss, labels.sum(), log_loss.new_tensor(float(len(labels)))])
        dist.all_reduce(sums)
        return LossSums(*sums.tolist())


class TorchrecDLRM(nn.Module):
    """Our DLRM of TorchRec's parts."""

    def __init__(self, config: Config, device: torch.device, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder
        self.names, self.dim = [table.name for table in config.table_configs], config.dim
        self.tables = EmbeddingBagCollection(
            [
                EmbeddingBagConfig(
                    name=table.name, embedding_dim=table.dim, num_embeddings=table.rows, feature_names=[table.name],
                    pooling=PoolingType.SUM,
                )
                for table in config.table_configs
            ],
            device=torch.device("meta"),
        )  # fmt: skip
        make, settings = _OPTIMIZERS[config.optimizer]
        settings = {"lr": config.embedding_learning_rate, **settings}
        apply_optimizer_in_backward(make, self.tables.parameters(), settings)
        torch.manual_seed(config.seed)  # in the order in which the model draws them
        self.bottom = mlp(config.bottom_sizes).to(device)
        self.top = mlp(config.top_sizes).to(device)
        self.interaction = InteractionArch(len(self.names)).to(device)
        with torch.no_grad():
            first = self.top[0].weight
            first.copy_(first[:, _columns(len(self.names) + 1, config.dim)])

    def forward(self, dense: Tensor, lookups: KeyedJaggedTensor) -> Tensor:
        """Logits [B] of this rank's samples: dense [B, dense_features]."""
        span = self.recorder.span
        with span("embedding_lookup", kind="compute", phase="forward"):
            arriving = self.tables(lookups)  # with the input exchange
        with span("bottom_mlp", kind="compute", phase="forward"):
            bottom = self.bottom(dense)
        with span("embedding_exchange", kind="wait", phase="forward", collective="all_to_all"):
            pooled = arriving.to_dict()
        with span("interaction", kind="compute", phase="forward"):
            vectors = torch.cat([pooled[name] for name in self.names], dim=1).view(len(dense), -1, self.dim)
            interactions = self.interaction(bottom, vectors)
        with span("top_mlp", kind="compute", phase="forward"):
            return self.top(interactions).squeeze(1)


def _columns(vectors: int, dim: int) -> Tensor:
    """Where each input of TorchRec's top MLP stands among ours: it lists pairs (i, j > i) by i, we (j, i < j) by j."""
    first, second = torch.triu_indices(vectors, vectors, offset=1)
    return torch.cat([torch.arange(dim), dim + second * (second - 1) // 2 + first])


def _parameter_sharding(table: TablePlan, device: str) -> ParameterSharding:
    shards = [
        ShardMetadata(
            shard_offsets=[shard.row_begin, shard.column_begin], shard_sizes=[shard.rows, shard.dim],
            placement=f"rank:{shard.rank}/{device}" + (f":{shard.rank}" if device == "cuda" else ""),
        )
        for shard in table.shards
    ]  # fmt: skip
    return ParameterSharding(
        sharding_type=_SCHEMES[table.scheme], compute_kernel="fused", ranks=[shard.rank for shard in table.shards],
        sharding_spec=EnumerableShardingSpec(shards),
    )  # fmt: skip


def _initialize(sharded: nn.Module, config: Config) -> None:
    """Our initial weights into this rank's shards."""
    state = sharded.state_dict()
    for table in config.table_configs:
        for held in state[f"embedding_bags.{table.name}.weight"].local_shards():
            (row, column), (rows, columns) = held.metadata.shard_offsets, held.metadata.shard_sizes
            shard = TableShard.of(table, Shard(dist.get_rank(), row, row + rows, column, column + columns))
            initialize([held.tensor], [shard], config.seed)
