"""DLRM (Naumov et al., 2019) for one rank: dense parts replicated, each embedding table on one rank.

    dense [B, dense_features] --> bottom MLP --> [B, D] ------------------+
                                                                          +--> interaction --> top MLP --> logit [B]
    lookups of my tables, all ranks' samples --> pooled --exchange--> T x [B, D]

B samples a rank, T tables over all ranks, D the width of every table and of the bottom MLP's output, F = T + 1.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.embeddings.exchange import TableExchange
from workbench.embeddings.jagged import offsets
from workbench.embeddings.kernels import make_lookup
from workbench.embeddings.tables import TableConfig
from workbench.embeddings.tiers import CacheConfig, CachedLookup
from workbench.trace.recorder import Recorder
from workbench.workloads.training.config import Config


class DLRM(nn.Module):
    """The MLPs are equal on all ranks and need an optimizer; the tables update themselves in their backward pass."""

    def __init__(
        self, config: Config, exchange: TableExchange, device: torch.device, recorder: Recorder, folder: Path
    ) -> None:
        super().__init__()
        self.exchange, self.recorder = exchange, recorder
        tables = [config.table_configs[table] for table in exchange.local_tables]
        self.lookup = table_lookup(config, tables, device, recorder, folder)
        torch.manual_seed(config.seed)  # the same MLPs on every rank
        self.bottom = mlp(config.bottom_sizes).to(device)
        self.interaction = DotInteraction(exchange.order).to(device)
        self.top = mlp(config.top_sizes).to(device)

    def dense_parameters(self) -> list[nn.Parameter]:
        """The MLPs' parameters. `parameters()` is not for training: FBGEMM's tables are in there too."""
        return [*self.bottom.parameters(), *self.top.parameters()]

    def forward(self, dense: Tensor, lengths: Tensor, indices: Tensor) -> Tensor:
        """Logits [B] of this rank's samples: dense [B, dense_features], and the lookups of this rank's tables for all
        ranks' samples: lengths [local tables, ranks * B], indices [sum of lengths]."""
        span = self.recorder.span
        with span("embedding_lookup", kind="compute", phase="forward"):
            pooled = self.lookup(indices, offsets(lengths))
            pending = self.exchange.start_embeddings(pooled)
        with span("bottom_mlp", kind="compute", phase="forward"):
            bottom = self.bottom(dense)
        embeddings = pending.wait()
        with span("interaction", kind="compute", phase="forward"):
            interactions = self.interaction(bottom, embeddings)
        with span("top_mlp", kind="compute", phase="forward"):
            return self.top(interactions).squeeze(1)


def table_lookup(
    config: Config, tables: Sequence[TableConfig], device: torch.device, recorder: Recorder, folder: Path
) -> nn.Module:
    """This rank's tables, all in the device's memory or behind a cache there; a file of rows goes into `folder`."""
    make = partial(
        make_lookup, kernel=config.kernel, learning_rate=config.embedding_learning_rate, device=device, seed=config.seed
    )
    if config.cache_share is None:
        return make(tables)
    cache = CacheConfig(config.cache_share, config.cache_policy, config.backing, folder, config.host_cache_share)
    return CachedLookup(tables, cache, make, config.seed, recorder)


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths, input first, with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class DotInteraction(nn.Module):
    """The bottom MLP's output, then the dot product of every pair of the F vectors: [B, D + F (F - 1) / 2].

    Embeddings arrive in the order of their placement on ranks; pairs leave in table order, so that the model is the
    same wherever its tables lie. Permuting which pairs are picked costs nothing; permuting the vectors would copy them.
    """

    def __init__(self, table_order: Sequence[int]) -> None:
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
