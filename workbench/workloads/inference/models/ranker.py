"""A whole model in one process: what every distributed deployment's scores must equal."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from workbench.embeddings.kernels import make_lookup
from workbench.errors import InputError
from workbench.workloads.inference.models.config import ModelConfig, NetConfig, TableType
from workbench.workloads.inference.models.lookup import serving_tables
from workbench.workloads.inference.models.nets import make_nets
from workbench.workloads.training.config import Config as TrainingConfig
from workbench.workloads.training.model import DLRM


class Ranker(nn.Module):
    """`nets` are the dense layers, `weights` [tables] the rows [rows, dim] of every table, in the config's order; it
    looks rows up as `table_type`."""

    def __init__(
        self, config: ModelConfig, nets: nn.ModuleList, weights: Sequence[np.ndarray], table_type: TableType = "fp32"
    ) -> None:
        super().__init__()
        self.config, self.nets, self.weights = config, nets, weights
        self._tables = [serving_tables([weights[t] for t in tables], table_type) for tables in config.table_ranges]

    @classmethod
    def untrained(cls, config: ModelConfig) -> "Ranker":
        """Random weights by the config's seed."""
        weights = make_lookup(config.tables, "torch", 0.0, "cpu", config.seed).weights
        return cls(config, make_nets(config), [weight.numpy() for weight in weights])

    @property
    def table_bytes(self) -> int:
        """What the rows of all tables take in memory."""
        return sum(tables.size_bytes for tables in self._tables)

    @torch.inference_mode()
    def forward(self, dense: Tensor, lengths: Tensor, ids: Tensor) -> Tensor:
        """Scores [B, outputs] between 0 and 1, of dense [B, dense_features] and the bags of all tables: lengths
        [tables, B] int64, ids [sum of lengths] int64."""
        ids_of = ids.split(lengths.sum(1).tolist())
        carried = None
        for net, tables, positions in zip(self.nets, self._tables, self.config.table_ranges, strict=True):
            embeddings = tables(lengths[positions], torch.cat([ids_of[table] for table in positions]))
            carried = net(net.bottom(dense), embeddings, carried)
        return carried.sigmoid()


def from_training(config: TrainingConfig, trained: DLRM) -> Ranker:
    """The model that `workbench run training` trained on one rank, ready to export and serve."""
    if config.ranks != 1:
        raise InputError(f"a model trained on ranks={config.ranks} lies on several processes: export one of ranks=1")
    net = NetConfig(
        name="ranking", architecture="dlrm", tables=config.table_configs, interaction="dot",
        bottom_mlp=config.bottom_sizes[1:], top_mlp=config.top_sizes[1:],
    )  # fmt: skip
    served = ModelConfig(name="trained-dlrm", dense_features=config.dense_features, nets=(net,), seed=config.seed)
    nets = make_nets(served)
    nets[0].bottom_mlp.load_state_dict(trained.bottom.state_dict())
    nets[0].top_mlp.load_state_dict(trained.top.state_dict())
    return Ranker(served, nets, [weight.detach().cpu().numpy() for weight in trained.lookup.weights])
