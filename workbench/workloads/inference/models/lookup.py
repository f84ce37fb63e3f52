"""Sum-pooled lookups for serving: no gradients, no optimizer state. One call looks up all tables.

`training`'s tables live in `embeddings/kernels.py`; these only read. Rows are kept in fp32, or in 8 or 4 bits an
element: in equal steps from the row's smallest value to its largest, which are kept with it. Sums are always fp32.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from workbench.embeddings.jagged import offsets
from workbench.errors import InputError
from workbench.workloads.inference.models.config import HAS_FBGEMM, STEP_BYTES, TableType

_BITS = {"int8": 8, "int4": 4}


class FbgemmTables:
    """FBGEMM's table-batched inference kernel, over a copy of the weights: [rows, dim] fp32 a table."""

    def __init__(self, weights: Sequence[np.ndarray], table_type: TableType = "fp32") -> None:
        # Imported here: with the torch path FBGEMM need not be installed.
        from fbgemm_gpu.split_embedding_configs import SparseType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_inference import IntNBitTableBatchedEmbeddingBagsCodegen

        specs = [
            (f"table_{index}", *weight.shape, SparseType(table_type), EmbeddingLocation.HOST)
            for index, weight in enumerate(weights)
        ]
        self._kernel = IntNBitTableBatchedEmbeddingBagsCodegen(
            specs, device="cpu", output_dtype=SparseType.FP32, bounds_check_mode=BoundsCheckMode.FATAL
        )
        self._kernel.initialize_weights()
        stored = self._kernel.split_embedding_weights()  # for each table: elements, and a compressed row's steps
        self.size_bytes = sum(part.nbytes for parts in stored for part in parts if part is not None)
        for (elements, steps), weight in zip(stored, weights, strict=True):
            if table_type == "fp32":
                np.copyto(elements.numpy().view(np.float32), weight)
                continue
            packed = torch.ops.fbgemm.FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf(
                torch.from_numpy(weight), _BITS[table_type]
            )
            elements.copy_(packed[:, :-STEP_BYTES])
            steps.copy_(packed[:, -STEP_BYTES:])

    def __call__(self, lengths: Tensor, ids: Tensor) -> Tensor:
        """lengths [tables, B] int64, ids [sum of lengths] int64 -> pooled [B, sum of dims]."""
        return self._kernel(ids, offsets(lengths))


class TorchTables:
    """The same in plain torch, table by table. In fp32 over the arrays as they are, which may be mapped from files.

    An int8 row keeps its steps in fp32 here, which takes 4 bytes more a row than FBGEMM's.
    """

    def __init__(self, weights: Sequence[np.ndarray], table_type: TableType = "fp32") -> None:
        quantized = torch.ops.quantized
        tensors = [torch.from_numpy(weight) for weight in weights]
        if table_type == "int8":
            tensors = [quantized.embedding_bag_byte_prepack(tensor) for tensor in tensors]
        elif table_type == "int4":
            tensors = [quantized.embedding_bag_4bit_prepack(tensor) for tensor in tensors]
        self._weights = tensors
        self._pool = {
            "fp32": lambda rows, ids, starts, **options: embedding_bag(ids, rows, starts, mode="sum", **options),
            "int8": quantized.embedding_bag_byte_rowwise_offsets,
            "int4": quantized.embedding_bag_4bit_rowwise_offsets,
        }[table_type]
        self.size_bytes = sum(tensor.nbytes for tensor in tensors)

    def __call__(self, lengths: Tensor, ids: Tensor) -> Tensor:
        """As FbgemmTables."""
        rows_of = ids.split(lengths.sum(1).tolist())
        pooled = [
            self._pool(weight, rows, offsets(bags), include_last_offset=True)
            for weight, rows, bags in zip(self._weights, rows_of, lengths, strict=True)
        ]
        return torch.cat(pooled, dim=1)


def serving_tables(weights: Sequence[np.ndarray], table_type: TableType = "fp32") -> FbgemmTables | TorchTables:
    """Tables behind the fastest kernel that is here; `size_bytes` is what their rows take.

    InputError where 4 bits an element do not fill whole bytes.
    """
    if table_type == "int4" and (odd := [weight.shape[1] for weight in weights if weight.shape[1] % 2]):
        raise InputError(f"setting table_type=int4: rows of {odd[0]} elements fill no whole bytes; use int8")
    return (FbgemmTables if HAS_FBGEMM else TorchTables)(weights, table_type)
