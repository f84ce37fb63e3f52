"""Losses, forward and backward."""

from workbench.costs.call import Call
from workbench.costs.model import Cost, aten, model

# FLOPs for each element before the sum over elements.
_FORWARD = {
    "binary_cross_entropy": 8,  # -(y log p + (1 - y) log(1 - p)): 2 logs, 2 subtractions, 2 products, sum, sign
    "binary_cross_entropy_with_logits": 8,  # (1 - y) x - log_sigmoid(x): 3, and 5 of the log-sigmoid
    "mse_loss": 2,
}
_BACKWARD = {
    "binary_cross_entropy_backward": 6,  # g (p - y) / ((1 - p) p), then / N
    "mse_loss_backward": 3,  # 2 / N, (x - y), g
}
_SYMBOLS = "N elements, s bytes of an element, c operations an element by loss"
_SOURCE = "counted from the definition of each loss"


@model(
    "loss",
    title="Loss",
    operators=aten(*_FORWARD),
    formula="F = (c + 1) N, c N unreduced; Q = 2 s N + s (s N written unreduced)",
    symbols=_SYMBOLS,
    source=_SOURCE,
    limits="A mean is assumed where the trace does not tell the reduction. PyTorch composes the form with logits of "
    "several operators, which move more bytes than this. Weights of examples are read, not counted as operations.",
)
def loss(call: Call) -> Cost:
    """mse_loss(x, y, reduction), binary_cross_entropy(p, y, weight, reduction), ..._with_logits(x, y, weight,
    positive_weight, reduction)."""
    x, target = call.tensor(0), call.tensor(1)
    weight = call.optional(2)
    reduced = call.value(len(call.inputs) - 1) != 0
    results = 1 if reduced and x.numel else x.numel
    read_bytes = x.bytes + target.bytes + (weight.bytes if weight else 0)
    return Cost(float((_FORWARD[call.operator] + reduced) * x.numel), read_bytes, results * x.item_bytes, x.dtype)


@model(
    "loss_backward",
    title="Loss, backward",
    operators=aten(*_BACKWARD),
    formula="F = c N; Q = 3 s N + bytes of the gradient that comes in",
    symbols=_SYMBOLS,
    source=_SOURCE,
    limits="Cross entropy with logits has no operator of its own: its backward is covered by its parts.",
)
def loss_backward(call: Call) -> Cost:
    """mse_loss_backward(grad, x, y, reduction), binary_cross_entropy_backward(grad, p, y, weight, reduction)."""
    grad, x, target = call.tensor(0), call.tensor(1), call.tensor(2)
    return Cost(float(_BACKWARD[call.operator] * x.numel), grad.bytes + x.bytes + target.bytes, x.bytes, x.dtype)


@model(
    "negative_log_likelihood",
    title="Negative log likelihood",
    operators=aten("nll_loss_forward", "nll_loss_backward"),
    formula="F = 2 R; Q = t R + s R forward, t R + s R C backward",
    symbols="R examples of C classes, s and t bytes of an element and of a target",
    source="definition: one element of each row is picked and summed; the gradient is zero elsewhere",
    limits="A picked element is counted, not the cache line around it.",
)
def negative_log_likelihood(call: Call) -> Cost:
    """nll_loss_forward(log_p, target, ...), nll_loss_backward(grad, log_p, target, ...)."""
    backward = call.operator.endswith("backward")
    log_p, target = call.tensor(backward), call.tensor(1 + backward)
    picked_bytes = target.numel * log_p.item_bytes
    if backward:
        return Cost(2.0 * target.numel, target.bytes, log_p.bytes, log_p.dtype)
    return Cost(2.0 * target.numel, target.bytes + picked_bytes, log_p.item_bytes, log_p.dtype)
