"""Fused scaled dot-product attention, forward and backward: scores are never written to memory."""

from workbench.costs.call import Call, Tensor
from workbench.costs.model import Cost, aten, model

_KERNELS = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)
_STATISTIC_BYTES = 4  # the log of each row's sum of exponentials, kept in fp32
_SYMBOLS = (
    "b batch, h query heads, q and k positions of query and key, d and v their and the value's width, "
    "s bytes of an element; Q K V O query, key, value, output"
)
_LIMITS = (
    "Counts masked positions too: a causal mask halves the work at best. Softmax's own operations are not counted. "
    "The unfused form (_scaled_dot_product_attention_math) is covered by its children."
)


@model(
    "attention",
    title="Fused attention",
    operators=aten(*_KERNELS),
    formula="F = 2 b h q k (d + v); Q = s (Q + K + V + O) + 4 b h q",
    symbols=_SYMBOLS,
    source="the two products of Vaswani et al. 2017, eq. 1; kept statistics as in Dao 2023 (FlashAttention-2)",
    limits=_LIMITS,
)
def attention(call: Call) -> Cost:
    """attention(query, key, value, ...), each [batch, heads, positions, width]."""
    query, key, value = (call.tensor(position) for position in range(3))
    b, h, q, k, d, v = _sizes(query, key, value)
    output_bytes = b * h * q * v * query.item_bytes + b * h * q * _STATISTIC_BYTES
    return Cost(2.0 * b * h * q * k * (d + v), query.bytes + key.bytes + value.bytes, output_bytes, query.dtype)


@model(
    "attention_backward",
    title="Fused attention, backward",
    operators=aten(*(f"{kernel}_backward" for kernel in _KERNELS)),
    formula="F = 2 b h q k (3 d + 2 v); Q = s (dO + O + 2 (Q + K + V)) + 4 b h q",
    symbols=_SYMBOLS + "; d marks a gradient",
    source="five products, the scores among them computed again: Dao et al. 2022 (FlashAttention), algorithm 4",
    limits=_LIMITS,
)
def attention_backward(call: Call) -> Cost:
    """attention_backward(grad, query, key, value, ...)."""
    grad, query, key, value = (call.tensor(position) for position in range(4))
    b, h, q, k, d, v = _sizes(query, key, value)
    gradients_bytes = query.bytes + key.bytes + value.bytes
    read_bytes = 2 * grad.bytes + gradients_bytes + b * h * q * _STATISTIC_BYTES
    return Cost(2.0 * b * h * q * k * (3 * d + 2 * v), read_bytes, gradients_bytes, query.dtype)


def _sizes(query: Tensor, key: Tensor, value: Tensor) -> tuple[int, int, int, int, int, int]:
    (b, h, q, d), k, v = query.shape, key.shape[2], value.shape[3]
    return b, h, q, k, d, v
