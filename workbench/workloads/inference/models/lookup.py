"""Sum-pooled lookups for serving: no gradients, no optimizer state.

`training`'s tables live in `embeddings/kernels.py`; these only read. One call looks up all tables.
"""

import importlib.util
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from workbench.embeddings.jagged import offsets


class FbgemmTables:
    """FBGEMM's table-batched inference kernel, over a copy of the weights: [rows, dim] fp32 a table."""

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        # Imported here: with the torch path FBGEMM need not be installed.
        from fbgemm_gpu.split_embedding_configs import SparseType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen

        specs = [
            (f"table_{index}", *weight.shape, SparseType.FP32, EmbeddingLocation.HOST)
            for index, weight in enumerate(weights)
        ]
        self._kernel = IntNBitTableBatchedEmbeddingBagsCodegen(
            specs, device="cpu", output_dtype=SparseType.FP32, bounds_check_mode=BoundsCheckMode.FATAL
        )
        self._kernel.initialize_weights()
        for (raw, _), weight in zip(self._kernel.split_embedding_weights(), weights, strict=True):
            np.copyto(raw.numpy().view(np.float32), weight)

    def __call__(self, lengths: Tensor, ids: Tensor) -> Tensor:
        """lengths [tables, B] int64, ids [sum of lengths] int64 -> pooled [B, sum of dims]."""
        return self._kernel(ids, offsets(lengths))


class TorchTables:
    """The same in plain torch, table by table, over the arrays as they are, which may be mapped from files."""

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        self._weights = [torch.from_numpy(weight) for weight in weights]

    def __call__(self, lengths: Tensor, ids: Tensor) -> Tensor:
        """As FbgemmTables."""
        rows_of = ids.split(lengths.sum(1).tolist())
        pooled = [
            embedding_bag(rows, weight, offsets(bags), mode="sum", include_last_offset=True)
            for weight, rows, bags in zip(self._weights, rows_of, lengths, strict=True)
        ]
        return torch.cat(pooled, dim=1)


def serving_tables(weights: Sequence[np.ndarray]) -> FbgemmTables | TorchTables:
    """Tables behind the fastest kernel that is here."""
    return (FbgemmTables if importlib.util.find_spec("fbgemm_gpu") else TorchTables)(weights)
