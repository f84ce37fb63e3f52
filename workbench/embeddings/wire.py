"""Rows as they travel: fp32, fp16, bf16, or int8 with a scale and an offset for every 32 columns.

Neo sends pooled rows in fp16 and their gradients in bf16 (Mudigere et al., ISCA 2022, section 5.3); int8 follows the
row-wise quantization of Yang et al. (DLP-KDD 2020). Sums are never taken in these: ranks decode first, then add.
"""

import torch
from torch import Tensor

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
INT8_BLOCK = 32  # columns that share a scale and an offset
_SCALE_BYTES = 8  # of the two, in fp32
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.uint8}


def coded_columns(dim: int, precision: str) -> int:
    """Elements of one coded row of `dim` columns."""
    return -(-dim // INT8_BLOCK) * (INT8_BLOCK + _SCALE_BYTES) if precision == "int8" else dim


def coded_row_bytes(dim: int, precision: str) -> int:
    """Bytes of one coded row of `dim` columns."""
    return coded_columns(dim, precision) * _DTYPES[precision].itemsize


def encode(rows: Tensor, precision: str) -> Tensor:
    """Rows [n, dim] fp32 as [n, coded_columns]; fp16 saturates at its largest number instead of becoming infinite."""
    if precision == "fp32":
        return rows
    if precision == "fp16":
        largest = torch.finfo(torch.float16).max
        return rows.clamp(-largest, largest).half()
    return rows.bfloat16() if precision == "bf16" else _quantize(rows)


def decode(coded: Tensor, dim: int, precision: str) -> Tensor:
    """What `encode` made of rows [n, dim], as fp32 again."""
    return _dequantize(coded, dim) if precision == "int8" else coded.float()


def _quantize(rows: Tensor) -> Tensor:
    """[n, dim] to uint8 [n, blocks * (INT8_BLOCK + 8)]: a block's codes, then scale and smallest value as fp32."""
    blocks = -(-rows.shape[1] // INT8_BLOCK)
    padding = blocks * INT8_BLOCK - rows.shape[1]
    values = torch.nn.functional.pad(rows, (0, padding)).view(len(rows), blocks, INT8_BLOCK)
    if padding:  # repeats the last column, which leaves the block's range as it is
        values[:, -1, -padding:] = rows[:, -1:]
    smallest, largest = values.aminmax(dim=2, keepdim=True)
    scale = (largest - smallest) / 255
    codes = ((values - smallest) / scale.clamp_min(torch.finfo(torch.float32).tiny)).round().clamp(0, 255)
    scales = torch.cat([scale, smallest], dim=2).view(torch.uint8)
    return torch.cat([codes.to(torch.uint8), scales], dim=2).flatten(1)


def _dequantize(coded: Tensor, dim: int) -> Tensor:
    block = INT8_BLOCK + _SCALE_BYTES
    blocks = coded.view(len(coded), coded.shape[1] // block, block)
    scale, smallest = blocks[:, :, INT8_BLOCK:].contiguous().view(torch.float32).split(1, dim=2)
    return (blocks[:, :, :INT8_BLOCK] * scale + smallest).flatten(1)[:, :dim].contiguous()
