"""Convolutions and transposed convolutions of any number of dimensions, forward and backward."""

import math
from collections.abc import Sequence

from workbench.costs.call import Call, Tensor
from workbench.costs.model import Cost, aten, model

_SOURCE = (
    "one multiply-add for each pair of weight and position that it is applied at, as torch.utils.flop_counter counts"
)


@model(
    "convolution",
    title="Convolution",
    operators=aten("convolution", "_convolution"),
    formula="F = 2 N P c w; Q = s (x + w + y), P output positions (input positions where transposed)",
    symbols="N batch, w weight elements (output channels x input channels a group x kernel), P positions of a channel, "
    "x and y elements of input and output, s bytes of an element",
    source=_SOURCE,
    limits="Positions in the padding are counted, bias adds are not. Winograd's and Fourier's algorithms do less.",
)
def convolution(call: Call) -> Cost:
    """convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups)."""
    x, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    transposed = call.value(6)
    channels = weight.shape[1] * call.integer(8) if transposed else weight.shape[0]
    positions = _output_positions(call, x, weight)
    flops = 2.0 * x.shape[0] * math.prod(x.shape[2:] if transposed else positions) * weight.numel
    output_bytes = x.shape[0] * channels * math.prod(positions) * x.item_bytes
    return Cost(flops, x.bytes + weight.bytes + (bias.bytes if bias else 0), output_bytes, x.dtype)


@model(
    "library_convolution",
    title="Convolution of one library",
    operators=aten("cudnn_convolution", "miopen_convolution", "mkldnn_convolution"),
    formula="F = 2 N P c w; Q = s (x + w + y)",
    symbols="as in the convolution, which calls it",
    source=_SOURCE,
    limits="As in the convolution.",
)
def library_convolution(call: Call) -> Cost:
    """cudnn_convolution(x, weight, padding, stride, dilation, groups, ...), and with a bias before the padding
    miopen_convolution and mkldnn_convolution."""
    x, weight = call.tensor(0), call.tensor(1)
    after = 2 if call.operator.startswith("cudnn") else 3
    bias_bytes = bias.bytes if after == 3 and (bias := call.optional(2)) else 0
    padding, stride, dilation = (_per_axis(call, after + place, len(x.shape) - 2) for place in range(3))
    positions = math.prod(output_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation))
    output_bytes = x.shape[0] * weight.shape[0] * positions * x.item_bytes
    return Cost(2.0 * x.shape[0] * positions * weight.numel, x.bytes + weight.bytes + bias_bytes, output_bytes, x.dtype)


@model(
    "convolution_backward",
    title="Convolution, backward",
    operators=aten("convolution_backward"),
    formula="F = 2 N P w for each of the gradients of input and weight; "
    "Q = s (dy + (w + dx if input's) + (x + dw if weight's))",
    symbols="as in the forward convolution; d marks gradients",
    source=_SOURCE,
    limits="As in the forward convolution.",
)
def convolution_backward(call: Call) -> Cost:
    """convolution_backward(grad, x, weight, bias_sizes, stride, padding, dilation, transposed, ..., output_mask)."""
    grad, x, weight = call.tensor(0), call.tensor(1), call.tensor(2)
    of_input, of_weight, of_bias = call.value(10)
    applied = math.prod((x if call.value(7) else grad).shape[2:])
    flops = 2.0 * x.shape[0] * applied * weight.numel * (of_input + of_weight)
    read_bytes = grad.bytes + of_input * weight.bytes + of_weight * x.bytes
    write_bytes = of_input * x.bytes + of_weight * weight.bytes + of_bias * grad.shape[1] * grad.item_bytes
    return Cost(flops, read_bytes, write_bytes, grad.dtype)


def _output_positions(call: Call, x: Tensor, weight: Tensor) -> list[int]:
    """Output size of each spatial axis."""
    sizes, kernel = x.shape[2:], weight.shape[2:]
    stride, padding, dilation, added = (_per_axis(call, position, len(sizes)) for position in (3, 4, 5, 7))
    if not call.value(6):
        return output_sizes(sizes, kernel, stride, padding, dilation)
    options = zip(sizes, kernel, stride, padding, dilation, added, strict=True)
    return [(n - 1) * step - 2 * pad + apart * (k - 1) + more + 1 for n, k, step, pad, apart, more in options]


def output_sizes(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """How many positions a sliding kernel has on each axis; all by axis. Used by pooling too."""
    axes = zip(sizes, kernel, stride, padding, dilation, strict=True)
    return [(n + 2 * pad - apart * (k - 1) - 1) // step + 1 for n, k, step, pad, apart in axes]


def _per_axis(call: Call, position: int, axes: int) -> tuple[int, ...]:
    """The option at `position`; one given once holds for all axes."""
    given = call.integers(position)
    return given * axes if len(given) == 1 else given
