"""Pooling over windows of images: the largest or the mean of each window, forward and backward."""

import math

from workbench.costs.call import Call
from workbench.costs.model import Cost, aten, model
from workbench.costs.operators.convolution import output_sizes

_INDEX_BYTES = 8
_LIMITS = "Windows cut off by a rounding-up (ceil_mode) are not counted."


@model(
    "max_pooling",
    title="Largest of each window",
    operators=aten("max_pool2d_with_indices", "max_pool3d_with_indices"),
    formula="F = k M; Q = s (N + M) + 8 M",
    symbols="N elements in, M windows, k elements of a window, s bytes of an element; 8 B for the place of the largest",
    source="definition: one comparison an element of each window",
    limits=_LIMITS,
)
def max_pooling(call: Call) -> Cost:
    """max_pool2d_with_indices(x, kernel, stride, padding, dilation, ceil_mode)."""
    x = call.tensor(0)
    windows, elements = _windows(call, dilation_at=4)
    return Cost(float(elements * windows), x.bytes, windows * (x.item_bytes + _INDEX_BYTES), x.dtype)


@model(
    "max_pooling_backward",
    title="Largest of each window, backward",
    operators=aten("max_pool2d_with_indices_backward", "max_pool3d_with_indices_backward"),
    formula="F = M; Q = s (M + N) + 8 M",
    symbols="as in the forward pass",
    source="definition: each window's gradient is added at the place of its largest",
)
def max_pooling_backward(call: Call) -> Cost:
    """max_pool2d_with_indices_backward(grad, x, kernel, stride, padding, dilation, ceil_mode, indices)."""
    grad, x = call.tensor(0), call.tensor(1)
    return Cost(float(grad.numel), grad.bytes + grad.numel * _INDEX_BYTES, x.bytes, grad.dtype)


@model(
    "mean_pooling",
    title="Mean of each window",
    operators=aten("avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
    formula="F = k M; Q = s (N + M)",
    symbols="N elements in, M windows, k elements of a window (adaptive: as many as make the windows tile the input), "
    "s bytes of an element",
    source="definition: k - 1 additions and a division a window",
    limits=_LIMITS,
)
def mean_pooling(call: Call) -> Cost:
    """avg_pool2d(x, kernel, stride, padding, ...), _adaptive_avg_pool2d(x, output_size)."""
    x = call.tensor(0)
    if "adaptive" in call.operator:
        output = call.integers(1)
        windows = math.prod(x.shape[: -len(output)]) * math.prod(output)
        elements = x.numel / max(windows, 1)
    else:
        windows, elements = _windows(call, dilation_at=None)
    return Cost(float(elements * windows), x.bytes, windows * x.item_bytes, x.dtype)


@model(
    "mean_pooling_backward",
    title="Mean of each window, backward",
    operators=aten(
        "avg_pool2d_backward", "avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward"
    ),
    formula="F = N + M; Q = s (M + N)",
    symbols="as in the forward pass",
    source="definition: each gradient is divided once and added to the elements of its window",
    limits="Windows are taken as tiles: where they overlap, there are more additions.",
)
def mean_pooling_backward(call: Call) -> Cost:
    """avg_pool2d_backward(grad, x, ...), _adaptive_avg_pool2d_backward(grad, x)."""
    grad, x = call.tensor(0), call.tensor(1)
    return Cost(float(x.numel + grad.numel), grad.bytes, x.bytes, grad.dtype)


def _windows(call: Call, dilation_at: int | None) -> tuple[int, int]:
    """(number of windows over all channels, elements of a window) of pool(x, kernel, stride, padding, ...)."""
    x, kernel = call.tensor(0), call.integers(1)
    axes = len(kernel)
    # No stride means that windows touch.
    stride, padding = call.value(2) or kernel, call.integers(3)
    dilation = call.integers(dilation_at) if dilation_at is not None else (1,) * axes
    sizes = output_sizes(x.shape[-axes:], kernel, stride, padding, dilation)
    return math.prod(x.shape[:-axes]) * math.prod(sizes), math.prod(kernel)
