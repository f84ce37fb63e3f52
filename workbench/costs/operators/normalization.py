"""Batch, layer, group and RMS normalisation, forward and backward, as single passes over their input."""

from workbench.costs.call import Call, Tensor
from workbench.costs.model import Cost, aten, model

_STATISTIC_BYTES = 4  # means and deviations are kept in fp32
_SOURCE = "counted from y = (x - mean) / sqrt(var + eps) * weight + bias and its derivative"
_SYMBOLS = "N elements, r statistics rows (or channels), w weight elements, s bytes of an element"
_LIMITS = "Statistics in two passes; a one-pass kernel does about as many operations. Rows' own operations not counted."

# FLOPs an element. Statistics: sum; subtract, square, sum. Normalising: subtract, multiply. Affine: multiply, add.
_STATISTICS, _NORMALIZE, _AFFINE = 4, 2, 2
# Backward: the normalised x again 2, grad x weight 1, its two row sums 3, dx 4; dweight 2, dbias 1.
_BACKWARD, _BACKWARD_AFFINE = 9, 4


@model(
    "normalization",
    title="Batch, layer or group normalisation",
    operators=aten(
        "native_layer_norm", "native_batch_norm", "_native_batch_norm_legit", "_batch_norm_with_update",
        "cudnn_batch_norm", "miopen_batch_norm", "native_group_norm",
    ),
    formula="F = (4 + 2 + 2 if affine) N; Q = s (2 N + 2 w) + 8 r; inference of batch norm: F = 2 N",
    symbols=_SYMBOLS,
    source=_SOURCE,
    limits=_LIMITS,
)  # fmt: skip
def normalization(call: Call) -> Cost:
    """native_layer_norm(x, shape, weight, bias, eps), native_batch_norm(x, weight, bias, mean, var, training, ...),
    native_group_norm(x, weight, bias, batch, channels, positions, groups, eps)."""
    x = call.tensor(0)
    first = 2 if call.operator == "native_layer_norm" else 1
    affine = [t for t in (call.optional(first), call.optional(first + 1)) if t]
    affine_bytes = sum(t.bytes for t in affine)
    statistics_bytes = 2 * _STATISTIC_BYTES * _rows(call, x)
    if "batch_norm" in call.operator and call.value(5) is False:
        # Inference folds running statistics, weight and bias into one multiply-add.
        return Cost(2.0 * x.numel, x.bytes + affine_bytes + statistics_bytes, x.bytes, x.dtype)
    operations = _STATISTICS + _NORMALIZE + (_AFFINE if affine else 0)
    return Cost(operations * x.numel, x.bytes + affine_bytes, x.bytes + statistics_bytes, x.dtype)


@model(
    "normalization_backward",
    title="Batch, layer or group normalisation, backward",
    operators=aten(
        "native_layer_norm_backward", "native_batch_norm_backward", "cudnn_batch_norm_backward",
        "miopen_batch_norm_backward", "native_group_norm_backward",
    ),
    formula="F = (9 + 4 if affine) N; Q = s (3 N + 3 w) + 8 r",
    symbols=_SYMBOLS,
    source=_SOURCE,
    limits=_LIMITS + " All gradients are counted, also where the output mask leaves one out.",
)  # fmt: skip
def normalization_backward(call: Call) -> Cost:
    """native_layer_norm_backward(grad, x, shape, mean, deviation, weight, bias, mask),
    native_batch_norm_backward(grad, x, weight, ...), native_group_norm_backward(grad, x, mean, deviation, weight)."""
    grad, x = call.tensor(0), call.tensor(1)
    batch = "batch_norm" in call.operator
    weight = call.optional(2 if batch else 5 if "layer" in call.operator else 4)
    rows = x.shape[1] if batch else call.tensor(3).numel
    weight_bytes = weight.bytes if weight else 0
    operations = _BACKWARD + (_BACKWARD_AFFINE if weight else 0)
    read_bytes = grad.bytes + x.bytes + weight_bytes + 2 * _STATISTIC_BYTES * rows
    return Cost(operations * x.numel, read_bytes, x.bytes + 2 * weight_bytes, x.dtype)


@model(
    "rms_normalization",
    title="RMS normalisation",
    operators=aten("_fused_rms_norm"),
    formula="F = (3 + 1 if weighted) N; Q = s (2 N + w) + 4 r",
    symbols=_SYMBOLS,
    source="counted from y = x / sqrt(mean(x^2) + eps) * weight: square, sum, multiply, multiply",
    limits="On the CPU the operator is composed of others, which move more bytes.",
)
def rms_normalization(call: Call) -> Cost:
    """_fused_rms_norm(x, shape, weight, eps)."""
    x, weight = call.tensor(0), call.optional(2)
    rows = x.numel // Tensor(call.integers(1)).numel
    read_bytes = x.bytes + (weight.bytes if weight else 0)
    return Cost((4.0 if weight else 3.0) * x.numel, read_bytes, x.bytes + _STATISTIC_BYTES * rows, x.dtype)


@model(
    "rms_normalization_backward",
    title="RMS normalisation, backward",
    operators=aten("_fused_rms_norm_backward"),
    formula="F = (6 + 3 if weighted) N; Q = s (3 N + 2 w) + 4 r",
    symbols=_SYMBOLS,
    source="counted from the derivative of x / rms * weight: x / rms 1, its product with the gradient and row sum 2, "
    "dx 3; gradient x weight 1, dweight 2",
    limits="All gradients are counted, also where the output mask leaves one out.",
)
def rms_normalization_backward(call: Call) -> Cost:
    """_fused_rms_norm_backward(grad, x, shape, rms, weight, mask)."""
    grad, x, rms, weight = call.tensor(0), call.tensor(1), call.tensor(3), call.optional(4)
    weight_bytes = weight.bytes if weight else 0
    read_bytes = grad.bytes + x.bytes + rms.bytes + weight_bytes
    return Cost((9.0 if weight else 6.0) * x.numel, read_bytes, x.bytes + weight_bytes, x.dtype)


def _rows(call: Call, x: Tensor) -> int:
    """How many means and deviations there are: one a row, a channel, or a group of an example."""
    if "batch_norm" in call.operator:
        return x.shape[1]
    if call.operator == "native_group_norm":
        return call.integer(3) * call.integer(6)
    weight = call.optional(2)
    width = weight.shape if weight else call.integers(1)
    return x.numel // Tensor(width).numel
