"""Softmax and its logarithm, forward and backward."""

from workbench.costs.call import Call
from workbench.costs.model import Cost, aten, model


@model(
    "softmax",
    title="Softmax",
    operators=aten("_softmax", "_log_softmax"),
    formula="F = 5 N; Q = 2 s N",
    symbols="N elements, s bytes of an element",
    source="counted from exp(x - max) / sum: compare, subtract, exponential, add, divide (its logarithm: subtract)",
)
def softmax(call: Call) -> Cost:
    """_softmax(x, dim, half_to_float)."""
    x = call.tensor(0)
    return Cost(5.0 * x.numel, x.bytes, x.bytes, x.dtype)


@model(
    "softmax_backward",
    title="Softmax, backward",
    operators=aten("_softmax_backward_data", "_log_softmax_backward_data"),
    formula="F = 4 N; Q = 3 s N",
    symbols="N elements, s bytes of an element",
    source="counted from y (g - sum(g y)): multiply, add, subtract, multiply (of the logarithm: g - exp(y) sum(g))",
)
def softmax_backward(call: Call) -> Cost:
    """_softmax_backward_data(grad, output, dim, dtype)."""
    grad, output = call.tensor(0), call.tensor(1)
    return Cost(4.0 * output.numel, grad.bytes + output.bytes, output.bytes, output.dtype)
