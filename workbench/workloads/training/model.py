"""DLRM (Naumov et al., 2019) for one rank: dense parts replicated, embedding tables sharded over ranks.

    dense [B, dense_features] --> bottom MLP --> [B, D] ------------------+
                                                                          +--> interaction --> top MLP --> logit [B]
    lookups of my shards, all ranks' samples --> pooled --exchange--> T x [B, D]

B samples a rank, T tables over all ranks, D the width of every table and of the bottom MLP's output, F = T + 1.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from workbench.trace.recorder import Recorder
from workbench.workloads.training.config import Config
from workbench.workloads.training.history import attend
from workbench.workloads.training.tables import ModelTables, Received


class DLRM(nn.Module):
    """The MLPs are equal on all ranks and need an optimizer; the tables update themselves in their backward pass."""

    def __init__(self, config: Config, tables: ModelTables, device: torch.device, recorder: Recorder) -> None:
        super().__init__()
        self.tables, self.recorder = tables, recorder
        torch.manual_seed(config.seed)  # the same MLPs on every rank
        self.bottom = mlp(config.bottom_sizes).to(device)
        make = DotInteraction if config.interaction == "dot" else Concatenation
        self.interaction = make(tables.order, tables.dims).to(device)
        self.top = mlp(config.top_sizes).to(device)

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


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths, input first, with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Concatenation(nn.Module):
    """The bottom MLP's output, then every table's columns in table order: for tables of many widths."""

    def __init__(self, table_order: Sequence[int], dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = dims  # in the order of arrival
        self.place = sorted(range(len(table_order)), key=lambda place: table_order[place])

    def forward(self, bottom: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """bottom [B, D], embeddings [B, columns] each: [B, D + all columns]."""
        arrived = torch.cat(list(embeddings), dim=1).split(self.dims, dim=1)
        return torch.cat([bottom, *(arrived[place] for place in self.place)], dim=1)


class DotInteraction(nn.Module):
    """The bottom MLP's output, then the dot product of every pair of the F vectors: [B, D + F (F - 1) / 2].

    Embeddings arrive in the order of their placement on ranks; pairs leave in table order, so that the model is the
    same wherever its tables lie. Permuting which pairs are picked costs nothing; permuting the vectors would copy them.
    """

    def __init__(self, table_order: Sequence[int], _: Sequence[int]) -> None:
        super().__init__()
        vectors = len(table_order) + 1
        arrival = torch.empty(vectors, dtype=torch.int64)
        arrival[0] = 0  # the bottom MLP's output comes first, then table `table_order[k]` as vector k + 1
        arrival[torch.tensor(table_order) + 1] = torch.arange(1, vectors)
        first, second = (arrival[pair] for pair in torch.tril_indices(vectors, vectors, offset=-1))
        pairs = len(first)
        # Which entries of the flat [F, F] product are the pairs, and which pair each entry is (`pairs`: none).
        self.register_buffer("entry_of_pair", first * vectors + second, persistent=False)
        pair_of_entry = torch.full((vectors, vectors), pairs)
        pair_of_entry[first, second] = pair_of_entry[second, first] = torch.arange(pairs)
        self.register_buffer("pair_of_entry", pair_of_entry.flatten(), persistent=False)

    def forward(self, bottom: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """bottom [B, D], embeddings [B, n D] each, together T tables."""
        samples, dim = bottom.shape
        vectors = torch.cat([bottom, *embeddings], dim=1).view(samples, -1, dim)
        return torch.cat([bottom, _PairProducts.apply(vectors, self.entry_of_pair, self.pair_of_entry)], dim=1)


class _PairProducts(torch.autograd.Function):
    """Dot products of the picked pairs of vectors [B, F, D].

    By hand, since the product's symmetry is unknown to autograd: it would spend a second product of the same size on
    the backward pass, and scatter into the picked entries one by one where a gather does.
    """

    @staticmethod
    def forward(ctx, vectors: Tensor, entry_of_pair: Tensor, pair_of_entry: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, pair_of_entry)
        return torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, entry_of_pair)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        vectors, pair_of_entry = ctx.saved_tensors
        samples, count, _ = vectors.shape
        # Each pair's gradient stands in both triangles; the diagonal and nothing else picks the padded zero.
        padded = nn.functional.pad(gradient, (0, 1))
        symmetric = padded.index_select(1, pair_of_entry).view(samples, count, count)
        return torch.bmm(symmetric, vectors), None, None
