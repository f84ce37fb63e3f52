"""Fused optimizer steps: one pass over all parameters. Unfused steps are elementwise operators."""

from workbench.costs.call import Call
from workbench.costs.model import Cost, aten, model

# FLOPs a parameter (without weight decay). Adam: first moment 3, second 4, bias-corrected root 3, step 3. Adagrad:
# square, add; root, add, divide, scale, subtract. SGD: scale, subtract; its momentum the same again.
_FLOPS = {"_fused_adam": 13, "_fused_adamw": 13, "_fused_adagrad": 7, "_fused_sgd": 2}
# How many lists of state of a parameter's size may follow parameters and gradients (Adam's third is AMSGrad's).
_STATES = {"_fused_adam": 3, "_fused_adamw": 3, "_fused_adagrad": 1, "_fused_sgd": 1}


@model(
    "fused_optimizer",
    title="Fused optimizer step",
    operators=aten(*_FLOPS),
    formula="F = c P; Q = s P (2 + S) read + s P (1 + S) written",
    symbols="P parameters, S states of a parameter's size (Adam 2, Adagrad 1, SGD 0 or 1 with momentum), s bytes; c: "
    "Adam 13, Adagrad 7, SGD 2, with momentum 4",
    source="counted from Kingma and Ba 2015 (Adam, algorithm 1), Duchi et al. 2011 (Adagrad), and PyTorch's SGD",
    limits="Weight decay is not counted (2 a parameter).",
)
def fused_optimizer(call: Call) -> Cost:
    """_fused_adam_(parameters, gradients, moments, second moments, largest second moments, steps, ...)."""
    parameters, gradients = call.tensor_list(0), call.tensor_list(1)
    states = [t for position in range(2, 2 + _STATES[call.operator]) for t in call.optional_list(position)]
    count = sum(t.numel for t in parameters)
    with_momentum = call.operator == "_fused_sgd" and bool(states)
    flops = (_FLOPS[call.operator] + 2 * with_momentum) * count
    updated_bytes = sum(t.bytes for t in (*parameters, *states))
    return Cost(float(flops), updated_bytes + sum(t.bytes for t in gradients), updated_bytes, parameters[0].dtype)
