"""Quantising and restoring: FBGEMM's fused row-wise formats, reduced floating point, PyTorch's per-tensor form."""

import math

from workbench.costs.call import Call, Unknown
from workbench.costs.model import Cost, aten, model

_FLOAT_BYTES = {0: 4, 1: 2, 5: 2}  # FBGEMM's SparseType: fp32, fp16, bf16
_8_BIT_EXTRA_BYTES, _N_BIT_EXTRA_BYTES = 8, 4  # scale and bias of a row: two fp32, two fp16


@model(
    "rowwise_quantize",
    title="Quantise rows",
    operators=("fbgemm::*ToFused8BitRowwiseQuantized", "fbgemm::*ToFusedNBitRowwiseQuantizedSBHalf"),
    formula="F = 5 R D; Q = s R D + R (q D / 8 + e)",
    symbols="R rows of D elements of s bytes, q bits of a quantised element, e bytes of scale and bias a row (8 at 8 "
    "bits, else 4)",
    source="least and greatest of a row (2), subtract, scale, round (3); format by the FBGEMM documentation",
    limits="A row is read once: the second pass finds it in a cache.",
)
def rowwise_quantize(call: Call) -> Cost:
    """FloatToFused8BitRowwiseQuantized(x), FloatToFusedNBitRowwiseQuantizedSBHalf(x, bits)."""
    x = call.tensor(0)
    rows, dim = math.prod(x.shape[:-1]), x.shape[-1]
    row_bytes = dim + _8_BIT_EXTRA_BYTES if "8Bit" in call.name else dim * call.integer(1) / 8 + _N_BIT_EXTRA_BYTES
    return Cost(5.0 * x.numel, x.bytes, rows * row_bytes, x.dtype)


@model(
    "rowwise_dequantize",
    title="Restore quantised rows",
    operators=("fbgemm::Fused8BitRowwiseQuantizedTo*", "fbgemm::FusedNBitRowwiseQuantizedSBHalfTo*"),
    formula="F = 2 R D; Q = R (q D / 8 + e) + s R D",
    symbols="R rows of D elements; s bytes of a restored and q bits of a quantised element; e as when quantising",
    source="a multiply-add an element",
)
def rowwise_dequantize(call: Call) -> Cost:
    """Fused8BitRowwiseQuantizedToFloat(x), FusedNBitRowwiseQuantizedSBHalfToFloat(x, bits)."""
    x = call.tensor(0)
    rows, row_bytes = math.prod(x.shape[:-1]), x.shape[-1]
    eight = "8Bit" in call.name
    dim = row_bytes - _8_BIT_EXTRA_BYTES if eight else (row_bytes - _N_BIT_EXTRA_BYTES) * 8 // call.integer(1)
    if call.name.endswith("OrHalf"):
        output_bytes = _FLOAT_BYTES[call.integer(1 if eight else 2)]
    elif call.name.endswith(("ToFloat", "ToHalf", "ToBfloat16")):
        output_bytes = 4 if call.name.endswith("ToFloat") else 2
    else:
        raise Unknown(f"format of {call.name}")
    return Cost(2.0 * rows * dim, x.bytes, rows * dim * output_bytes, "fp32")


@model(
    "reduced_float",
    title="Cast to or from a communication format",
    operators=(
        "fbgemm::FloatToBfloat16Quantized",
        "fbgemm::Bfloat16QuantizedToFloat",
        "fbgemm::FloatToHFP8Quantized",
        "fbgemm::HFP8QuantizedToFloat",
    ),
    formula="F = N; Q = 4 N + q N",
    symbols="N elements, q bytes of one in the format (bfloat16 2, hybrid 8-bit floating point 1)",
    source="one rounding an element",
)
def reduced_float(call: Call) -> Cost:
    """FloatToBfloat16Quantized(x), HFP8QuantizedToFloat(x, exponent_bits, exponent_bias)."""
    x = call.tensor(0)
    reduced_bytes = x.numel * (2 if "Bfloat16" in call.name else 1)
    float_bytes = x.numel * 4
    if "QuantizedTo" in call.name:
        return Cost(float(x.numel), reduced_bytes, float_bytes, "fp32")
    return Cost(float(x.numel), float_bytes, reduced_bytes, "fp32")


@model(
    "tensor_quantize",
    title="Quantise or restore a tensor",
    operators=aten("quantize_per_tensor", "dequantize"),
    formula="F = 4 N quantising, 2 N restoring; Q = s N + q N",
    symbols="N elements, s and q bytes of a plain and a quantised element",
    source="divide, round, shift, clamp; shift, scale",
    limits="8-bit results are assumed (torch.qint32 is not seen), and fp32 restored.",
)
def tensor_quantize(call: Call) -> Cost:
    """quantize_per_tensor(x, scale, zero_point, dtype), dequantize(x)."""
    x = call.tensor(0)
    if call.operator == "dequantize":
        return Cost(2.0 * x.numel, x.bytes, x.numel * 4, "fp32")
    return Cost(4.0 * x.numel, x.bytes, x.numel, x.dtype)
