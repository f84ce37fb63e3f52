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

    def forward(self, inputs: Tensor) -> Tensor:
        fp32_on_cpu = inputs.device.type == "cpu" and inputs.dtype == torch.float32
        if not (torch.is_grad_enabled() and fp32_on_cpu and torch.backends.mkldnn.is_available()):
            return super().forward(inputs)
        return _FusedLayers.apply(inputs, *self.parameters())


class _FusedLayers(torch.autograd.Function):
    """Layers of weight [N, K], bias [N], weight... for inputs [B, K], with ReLU between them.

    One function, since then the gradient between two layers is its own, to apply ReLU's derivative to in place.
    """

    @staticmethod
    def forward(ctx, inputs: Tensor, *parameters: Tensor) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        inputs_of = [inputs]  # each layer
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            inputs_of.append(_product(inputs_of[-1], weight, bias, "relu"))
        ctx.save_for_backward(*inputs_of, *weights)
        return _product(inputs_of[-1], weights[-1], biases[-1])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        layers = len(ctx.saved_tensors) // 2
        inputs_of, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        of_parameters: list[Tensor] = []
        for layer in reversed(range(layers)):
            of_bias = gradient.sum(0)  # before the product, while the caches still hold the gradient
            of_parameters = [_of_weight(gradient, inputs_of[layer]), of_bias, *of_parameters]
            if layer:
                gradient = _of_inputs(gradient, weights[layer])
                torch.ops.aten.threshold_backward.grad_input(gradient, inputs_of[layer], 0, grad_input=gradient)
        return _of_inputs(gradient, weights[0]) if ctx.needs_input_grad[0] else None, *of_parameters


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """What torch.compile makes of a linear layer on CPUs."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, then, [], "")


def _of_inputs(gradient: Tensor, weight: Tensor) -> Tensor:
    """The inputs' gradient [B, K], of the outputs' gradient [B, N] and the weight [N, K]."""
    if len(weight) == 1:  # nothing is added up: no work for a kernel of oneDNN's
        return gradient * weight
    return _product(gradient, weight.t())


def _of_weight(gradient: Tensor, inputs: Tensor) -> Tensor:
    """The weight's gradient [N, K], of the outputs' gradient [B, N] and the inputs [B, K].

    Products are fastest where their rows are whole vectors: a K of 13 or 415 is better left to the columns.
    """
    if inputs.shape[1] % _LANES and gradient.shape[1] % _LANES == 0:
        return (inputs.t() @ gradient).t()
    return gradient.t() @ inputs
