"""Un-pooled history features: a sample's last ids keep their own rows, and attention pools them for this sample.

A history of up to L ids is L bags of one id or none, so that its rows travel by the same exchanges as pooled ones,
under any sharding scheme; absent places travel as zeros. Attention is that of Vaswani et al. (2017) with one query, the
dense features' vector: sequence features pooled by a target, as in Deep Interest Network (Zhou et al., KDD 2018).
"""

import numpy as np
import torch
from torch import Tensor

from workbench.data.batch import Batch


def history_bags(lengths: np.ndarray, indices: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Histories, lengths [features, B] and indices, as bags of at most one id: lengths [features, B * length], of the
    first `length` ids of each."""
    kept = np.arange(length) < lengths[:, :, None]
    flat = lengths.ravel().astype(np.int64)
    place = np.arange(len(indices)) - np.repeat(np.cumsum(flat) - flat, flat)
    return kept.reshape(len(lengths), -1).astype(np.int32), indices[place < length]


def split_histories(batch: Batch, histories: int, length: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Lookups of the pooled features and, if there are any, of the last `histories` features as `history_bags`."""
    if histories == 0:
        return [(batch.lengths, batch.indices)]
    pooled = len(batch.lengths) - histories
    end = int(batch.lengths[:pooled].sum())
    bags = history_bags(batch.lengths[pooled:], batch.indices[end:], length)
    return [(batch.lengths[:pooled], batch.indices[:end]), bags]


def attend(query: Tensor, rows: Tensor, present: Tensor) -> Tensor:
    """Attention-pooled histories [B, H, D]: `query` [B, D], `rows` [B, H, L, D], `present` [B, H, L] bool.

    softmax over present places of row . query / sqrt(D); an empty history pools to 0.
    """
    scores = torch.einsum("bhld,bd->bhl", rows, query) / query.shape[1] ** 0.5
    # Not -inf: the softmax of a history without any present place would be NaN.
    weights = scores.masked_fill(~present, torch.finfo(scores.dtype).min).softmax(dim=2) * present
    return torch.einsum("bhl,bhld->bhd", weights, rows)
