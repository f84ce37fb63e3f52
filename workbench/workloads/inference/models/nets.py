"""The dense layers of a net, by architecture: what the main shard computes.

Every net is cut at the same place. `bottom(dense [B, dense_features])` needs no embeddings: it runs while lookups are
under way. `forward(bottom, embeddings [B, sum of dims], carried [B, outputs of the net before] | None)` does the rest
and returns the net's outputs [B, outputs]. B items, T tables, D the width of a table.
"""

import torch
from torch import Tensor, nn

from workbench.workloads.inference.models.config import ModelConfig, NetConfig
from workbench.workloads.training.interaction import DotInteraction
from workbench.workloads.training.mlp import mlp


def make_nets(config: ModelConfig) -> nn.ModuleList:
    """The model's nets in order, with the weights that its seed gives."""
    nets, carried_width = nn.ModuleList(), 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        for net in config.nets:
            nets.append(_ARCHITECTURES[net.architecture](net, config.dense_features, carried_width))
            carried_width = net.outputs
    return nets.eval()


class _Net(nn.Module):
    """A net without bottom layers: dense features go on as they are."""

    def bottom(self, dense: Tensor) -> Tensor:
        return dense


class Dlrm(_Net):
    """DLRM (Naumov et al., 2019, arXiv:1906.00091); without bottom layers it is Wide&Deep.

    The interaction sets everything side by side, or takes the dot products of all pairs of vectors.
    """

    def __init__(self, config: NetConfig, dense_features: int, carried_width: int) -> None:
        super().__init__()
        self.bottom_mlp = mlp((dense_features, *config.bottom_mlp))
        width = (config.bottom_mlp or (dense_features,))[-1]
        self.dot = None
        if config.interaction == "dot":
            self.dot = DotInteraction(range(len(config.tables)))
            interactions = width + len(config.tables) * (len(config.tables) + 1) // 2
        else:
            interactions = width + config.embeddings_width
        self.top_mlp = mlp((interactions + carried_width, *config.top_mlp))

    def bottom(self, dense: Tensor) -> Tensor:
        return self.bottom_mlp(dense)

    def forward(self, bottom: Tensor, embeddings: Tensor, carried: Tensor | None) -> Tensor:
        interactions = [self.dot(bottom, [embeddings])] if self.dot else [bottom, embeddings]
        return self.top_mlp(torch.cat(interactions + ([] if carried is None else [carried]), dim=1))


class MultiTask(_Net):
    """Multi-task Wide&Deep: layers that all tasks share, then each task's own; outputs task after task."""

    def __init__(self, config: NetConfig, dense_features: int, _: int) -> None:
        super().__init__()
        self.shared = mlp((dense_features + config.embeddings_width, *config.top_mlp))
        self.heads = nn.ModuleList(mlp((config.top_mlp[-1], *config.head_mlp)) for _ in range(config.tasks))

    def forward(self, bottom: Tensor, embeddings: Tensor, _: Tensor | None) -> Tensor:
        shared = self.shared(torch.cat([bottom, embeddings], dim=1)).relu()
        return torch.cat([head(shared) for head in self.heads], dim=1)


class Ncf(_Net):
    """Neural collaborative filtering; tables: a user's and an item's factors, then their embeddings for the MLP.

    The released code adds the factors, where the paper multiplies them; so do we, to have its operators.
    """

    def __init__(self, config: NetConfig, dense_features: int, _: int) -> None:
        super().__init__()
        factors, _, users, items = (table.dim for table in config.tables)
        self.mlp = mlp((users + items, *config.top_mlp))
        self.head = mlp((factors + config.top_mlp[-1], *config.head_mlp))
        self.dims = [table.dim for table in config.tables]

    def forward(self, bottom: Tensor, embeddings: Tensor, _: Tensor | None) -> Tensor:
        user_factors, item_factors, user, item = embeddings.split(self.dims, dim=1)
        deep = self.mlp(torch.cat([user, item], dim=1)).relu()
        return self.head(torch.cat([user_factors + item_factors, deep], dim=1))


class Din(_Net):
    """Deep Interest Network; tables: profile, behaviours, advertisement, context, all D wide.

    Each behaviour passes a small attention layer together with the advertisement and their sum; the results are added.
    """

    def __init__(self, config: NetConfig, dense_features: int, _: int) -> None:
        super().__init__()
        self.dim = config.tables[0].dim
        self.attention = mlp((3 * self.dim, config.hidden, self.dim))
        self.top = mlp((dense_features + 4 * self.dim, *config.top_mlp))

    def forward(self, bottom: Tensor, embeddings: Tensor, _: Tensor | None) -> Tensor:
        tables = embeddings.view(len(embeddings), -1, self.dim)
        profile, behaviours, ad, context = tables[:, 0], tables[:, 1:-2], tables[:, -2], tables[:, -1]
        ads = ad[:, None].expand_as(behaviours)
        interest = self.attention(torch.cat([behaviours, ads, behaviours + ads], dim=2)).sum(dim=1)
        return self.top(torch.cat([bottom, profile, interest, ad, context], dim=1))


class Dien(_Net):
    """Deep Interest Evolution Network; tables: behaviours in order of time, then two of the user and the item.

    As in the released code, a second recurrent layer over states that attention has weighted stands in for the paper's
    gated unit with an attentional update gate.
    """

    def __init__(self, config: NetConfig, dense_features: int, _: int) -> None:
        super().__init__()
        self.dim = config.tables[0].dim
        self.interests = nn.RNN(self.dim, config.hidden, batch_first=True)
        self.attention = nn.Linear(config.hidden, 1)
        self.evolution = nn.RNN(config.hidden, config.hidden, batch_first=True)
        self.top = mlp((dense_features + config.hidden + 2 * self.dim, *config.top_mlp))

    def forward(self, bottom: Tensor, embeddings: Tensor, _: Tensor | None) -> Tensor:
        tables = embeddings.view(len(embeddings), -1, self.dim)
        states, _ = self.interests(tables[:, :-2])
        _, last = self.evolution(states * self.attention(states).softmax(dim=1))
        return self.top(torch.cat([bottom, last[0], tables[:, -2:].flatten(1)], dim=1))


_ARCHITECTURES = {"dlrm": Dlrm, "multitask": MultiTask, "ncf": Ncf, "din": Din, "dien": Dien}
