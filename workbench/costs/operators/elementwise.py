"""Element by element: arithmetic, comparisons, activations and their derivatives, also over lists (`_foreach_`)."""

from workbench.costs.call import Call, Tensor, Unknown, broadcast, promoted
from workbench.costs.model import Cost, aten, model

_UNARY = (
    "abs", "neg", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "square",
    "sin", "cos", "tan", "tanh", "erf", "ceil", "floor", "round", "trunc", "sign", "logical_not", "bitwise_not",
    "isnan", "isinf", "isneginf", "isposinf", "nan_to_num", "relu", "sigmoid", "silu", "gelu", "elu", "leaky_relu",
    "hardtanh", "hardsigmoid", "hardswish", "softplus", "log_sigmoid_forward",
)  # fmt: skip
_BINARY = (
    "add", "sub", "subtract", "rsub", "mul", "multiply", "div", "divide", "true_divide", "floor_divide", "remainder",
    "fmod", "pow", "atan2", "xlogy", "maximum", "minimum", "fmax", "fmin", "clamp_min", "clamp_max", "eq", "ne", "lt",
    "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
    "_prelu_kernel", "threshold_backward", "sigmoid_backward", "tanh_backward", "silu_backward", "gelu_backward",
    "leaky_relu_backward", "hardtanh_backward", "hardswish_backward", "softplus_backward", "log_sigmoid_backward",
)  # fmt: skip
_TERNARY = ("where", "masked_fill", "clamp", "addcmul", "addcdiv", "lerp")
# How many leading arguments an operator reads: later ones are its output or options.
_READS = dict.fromkeys(_UNARY, 1) | dict.fromkeys(_BINARY, 2) | dict.fromkeys(_TERNARY, 3)
_READS["elu_backward"] = 6  # (grad, alpha, scale, input_scale, is_result, output)
# FLOPs for each element of the result, where they are not 1.
_FLOPS = {
    "nan_to_num": 3, "sigmoid": 4, "silu": 5, "gelu": 5, "elu": 3, "leaky_relu": 2, "hardtanh": 2, "hardsigmoid": 4,
    "hardswish": 5, "softplus": 3, "log_sigmoid_forward": 5, "xlogy": 2, "_prelu_kernel": 2, "sigmoid_backward": 3,
    "tanh_backward": 3, "silu_backward": 9, "gelu_backward": 11, "elu_backward": 3, "leaky_relu_backward": 2,
    "hardtanh_backward": 3, "hardswish_backward": 5, "softplus_backward": 5, "log_sigmoid_backward": 5, "clamp": 2,
    "addcmul": 3, "addcdiv": 3, "lerp": 3,
}  # fmt: skip
_TO_BOOL = frozenset(
    ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "logical_not")
    + ("isnan", "isinf", "isneginf", "isposinf")
)
_LISTS = (
    "add", "sub", "mul", "div", "addcmul", "addcdiv", "lerp", "sqrt", "rsqrt", "reciprocal", "neg", "abs", "exp", "log",
    "pow", "maximum", "minimum", "clamp_min", "clamp_max", "sign",
)  # fmt: skip
_SOURCE = "one operation for each +, -, x, /, comparison, choice and elementary function in the definition"


@model(
    "elementwise",
    title="Elementwise",
    operators=aten(*_READS),
    formula="F = c N; Q = operands + result",
    symbols="N elements of the result after broadcasting; c operations an element, by operator (add 1, add with alpha "
    "2, addcmul 3, sigmoid 4, gelu 5...)",
    source=_SOURCE,
    limits="Result dtype by promotion of the tensors (a division of integers and a Python number's type are not seen). "
    "A sparse operand shows its dense shape and is counted as dense: an upper bound. Hardware spends several "
    "instructions on an exponential.",
)
def elementwise(call: Call) -> Cost:
    """add(a, b, alpha), where(condition, a, b), threshold_backward(grad, x, threshold), add_(a, b)..."""
    operands = [tensor for tensor in map(call.optional, range(_READS[call.operator])) if tensor]
    if call.operator == "where" and len(operands) == 1:
        raise Unknown("where(condition) returns as many positions as are true")
    return combined(call, operands)


def combined(call: Call, operands: list[Tensor]) -> Cost:
    """The cost of making one result of the operands' common shape, or of overwriting the first of them."""
    result = Tensor(broadcast(tensor.shape for tensor in operands), promoted(operands))
    precision = result.dtype
    if call.in_place:
        result = operands[0]
    elif call.operator in _TO_BOOL:
        result = Tensor(result.shape, "bool")
    return Cost(_flops(call) * result.numel, sum(tensor.bytes for tensor in operands), result.bytes, precision)


@model(
    "elementwise_list",
    title="Elementwise over a list of tensors",
    operators=aten(*(f"_foreach_{name}" for name in _LISTS)),
    formula="F = c N; Q = s N (lists read + 1)",
    symbols="N elements of all tensors of a list; c as for one tensor; s bytes of an element",
    source=_SOURCE,
)
def elementwise_list(call: Call) -> Cost:
    """_foreach_add_(tensors, others, alpha), _foreach_addcdiv_(tensors, numerators, denominators, value)..."""
    result = call.tensor_list(0)
    read = [tensor for position in range(_READS[call.operator]) for tensor in call.optional_list(position)]
    flops = _flops(call) * sum(tensor.numel for tensor in result)
    return Cost(flops, sum(t.bytes for t in read), sum(t.bytes for t in result), result[0].dtype)


def _flops(call: Call) -> float:
    """FLOPs for each element: one multiplication more where add or sub has an alpha other than 1."""
    scaled = call.operator in ("add", "sub", "rsub") and call.value(2, 1) != 1
    return float(_FLOPS.get(call.operator, 1) + scaled)
