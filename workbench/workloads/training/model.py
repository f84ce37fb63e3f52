"""DLRM (Naumov et al., 2019) for one rank: dense parts replicated, embedding tables sharded over ranks.

    dense [B, dense_features] --> bottom MLP --> [B, D] ------------------+
                                                                          +--> interaction --> top MLP --> logit [B]
    lookups of my shards, all ranks' samples --> pooled --exchange--> T x [B, D]

B samples a rank, T tables over all ranks, D the width of every table and of the bottom MLP's output, F = T + 1.
"""

import torch
from torch import Tensor, nn

from workbench.trace.recorder import Recorder
from workbench.workloads.training.config import Config
from workbench.workloads.training.history import attend
from workbench.workloads.training.interaction import Concatenation, DotInteraction
from workbench.workloads.training.mlp import FusedMLP
from workbench.workloads.training.tables import ModelTables, Received


class DLRM(nn.Module):
    """The MLPs are equal on all ranks and need an optimizer; the tables update themselves in their backward pass."""

    def __init__(self, config: Config, tables: ModelTables, device: torch.device, recorder: Recorder) -> None:
        super().__init__()
        self.tables, self.recorder = tables, recorder
        torch.manual_seed(config.seed)  # the same MLPs on every rank
        self.bottom = FusedMLP(config.bottom_sizes).to(device)
        make = DotInteraction if config.interaction == "dot" else Concatenation
        self.interaction = make(tables.order, tables.dims).to(device)
        self.top = FusedMLP(config.top_sizes).to(device)

    def dense_parameters(self) -> list[nn.Parameter]:
        """The MLPs' parameters, those first whose gradients the backward pass reaches last."""
        return [*self.bottom.parameters(), *self.top.parameters()]

    def forward(self, received: Received) -> Tensor:
        """Logits [B] of this rank's samples."""
        span, inputs = self.recorder.span, received.inputs
        with span("embedding_lookup", kind="compute", phase="forward"):
            sets = zip(self.tables.sets, received.lookups, inputs.routed, strict=True)
            pending = [tables.start(lookups, routed) for tables, lookups, routed in sets]
        with span("bottom_mlp", kind="compute", phase="forward"):
            bottom = self.bottom(inputs.dense)
        embeddings, *histories = [each.wait() for each in pending]
        for rows in histories:
            with span("attention", kind="compute", phase="forward"):
                embeddings.append(self._attend(bottom, rows, self.tables.present(inputs)))
        with span("interaction", kind="compute", phase="forward"):
            interactions = self.interaction(bottom, embeddings)
        with span("top_mlp", kind="compute", phase="forward"):
            return self.top(interactions).squeeze(1)

    def _attend(self, query: Tensor, parts: list[Tensor], present: Tensor) -> Tensor:
        """Histories [B, H * D], pooled by attention of the bottom MLP's output to their rows."""
        samples, histories, length = present.shape
        rows = torch.cat(parts, dim=1).view(samples, length, histories, -1).transpose(1, 2)
        return attend(query, rows, present).flatten(1)
