"""Fully connected layers whose product, bias and ReLU are one kernel where oneDNN has it."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

_LANES = 16  # fp32 numbers in a vector of 64 bytes


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths, input first, with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class FusedMLP(nn.Sequential):
    """mlp(sizes), to be trained: the same layers and parameters, [B, sizes[0]] to [B, sizes[-1]].

    In fp32 on a CPU oneDNN multiplies, both ways; elsewhere, and with nothing to learn, torch does as ever. oneDNN
    compiles a kernel for each shape that it meets: worth it for batches of one size, not for a server's of all sizes.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(*mlp(sizes))
        self.linear = [layer for layer in self if isinstance(layer, nn.Linear)]

    def forward(self, inputs: Tensor) -> Tensor:
        fp32_on_cpu = inputs.device.type == "cpu" and inputs.dtype == torch.float32
        if not (torch.is_grad_enabled() and fp32_on_cpu and torch.backends.mkldnn.is_available()):
            return super().forward(inputs)
        for layer in self.linear:
            inputs = _FusedLinear.apply(inputs, layer.weight, layer.bias, layer is not self.linear[-1])
        return inputs


class _FusedLinear(torch.autograd.Function):
    """inputs [B, K] times weight [N, K], plus bias [N], with ReLU or without."""

    @staticmethod
    def forward(ctx, inputs: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        outputs = _product(inputs, weight, bias, "relu" if relu else "none")
        ctx.relu = relu
        ctx.save_for_backward(inputs, weight, outputs if relu else None)
        return outputs

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        inputs, weight, outputs = ctx.saved_tensors
        if ctx.relu:
            gradient = torch.ops.aten.threshold_backward(gradient, outputs, 0)
        of_inputs = _product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        return of_inputs, _of_weight(gradient, inputs), gradient.sum(0), None


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """What torch.compile makes of a linear layer on CPUs."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, then, [], "")


def _of_weight(gradient: Tensor, inputs: Tensor) -> Tensor:
    """The weight's gradient [N, K], of the outputs' gradient [B, N] and the inputs [B, K].

    Products are fastest where their rows are whole vectors: a K of 13 or 415 is better left to the columns.
    """
    if inputs.shape[1] % _LANES and gradient.shape[1] % _LANES == 0:
        return (inputs.t() @ gradient).t()
    return gradient.t() @ inputs
