"""Moving data unchanged: copies, casts, fills, concatenation, reading one number back to the host."""

from workbench.costs.call import Call, Unknown
from workbench.costs.model import Cost, aten, model


@model(
    "copy",
    title="Copy or cast",
    operators=aten("copy_", "clone", "flip", "roll", "tril", "triu"),
    formula="F = 0; Q = source + destination",
    symbols="bytes of both, each in its own dtype",
    source="definition",
    limits="A source expanded by strides of 0 is counted at its expanded size. Between host and device the bytes cross "
    "the link, not one memory twice.",
)
def copy(call: Call) -> Cost:
    """copy_(destination, source, non_blocking), clone(source)."""
    destination = call.tensor(0)
    source = call.tensor(1) if call.operator == "copy" else destination
    return Cost(0.0, source.bytes, destination.bytes, destination.dtype)


@model(
    "copy_list",
    title="Copy of a list of tensors",
    operators=aten("_foreach_copy"),
    formula="F = 0; Q = 2 s N",
    symbols="N elements of all tensors, s bytes of an element",
    source="definition",
)
def copy_list(call: Call) -> Cost:
    """_foreach_copy_(destinations, sources, non_blocking)."""
    destination, source = call.tensor_list(0), call.tensor_list(1)
    return Cost(0.0, sum(t.bytes for t in source), sum(t.bytes for t in destination), destination[0].dtype)


@model(
    "fill",
    title="Fill",
    operators=aten("fill_", "zero_", "_foreach_zero"),
    formula="F = 0; Q = result",
    symbols="bytes written",
    source="definition",
    limits="zeros, ones and full are covered by the fill inside them.",
)
def fill(call: Call) -> Cost:
    """fill_(x, value), _foreach_zero_(tensors)."""
    filled = call.optional_list(0) or (call.tensor(0),)
    return Cost(0.0, 0.0, sum(t.bytes for t in filled), filled[0].dtype)


@model(
    "random_fill",
    title="Random fill",
    operators=aten("normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_", "geometric_"),
    formula="F = 0; Q = result",
    symbols="bytes written",
    source="definition",
    limits="The generator's integer arithmetic (tens of operations a number) is not counted.",
)
def random_fill(call: Call) -> Cost:
    """normal_(x, mean, std, generator)."""
    return Cost(0.0, 0.0, call.tensor(0).bytes, call.tensor(0).dtype)


@model(
    "concatenation",
    title="Concatenation",
    operators=aten("cat", "stack", "_cat", "_stack"),
    formula="F = 0; Q = 2 x sum of the parts",
    symbols="bytes of the parts",
    source="definition",
    limits="Traces before PyTorch 2.0 or so do not show the list: the cost is then unknown.",
)
def concatenation(call: Call) -> Cost:
    """cat(tensors, dim), cat(tensors, dim, out)."""
    output = call.optional(2)
    numel = sum(t.numel for t in call.tensor_list(0))
    item_bytes, dtype = (output.item_bytes, output.dtype) if output else (4, "fp32")
    return Cost(0.0, numel * item_bytes, numel * item_bytes, dtype)


@model(
    "scalar_read",
    title="Number read back to the host",
    operators=aten("_local_scalar_dense"),
    formula="F = 0; Q = s",
    symbols="s bytes of the element",
    source="definition",
    limits="On a device its time is waiting for all work before it, not movement.",
)
def scalar_read(call: Call) -> Cost:
    """_local_scalar_dense(x), inside item()."""
    x = call.tensor(0)
    if x.numel != 1:
        raise Unknown("only a tensor of one element has one number")
    return Cost(0.0, x.bytes, 0.0, x.dtype)


@model(
    "dropout",
    title="Dropout",
    operators=aten("native_dropout", "native_dropout_backward"),
    formula="F = 2 N; Q = 2 s N + N",
    symbols="N elements, s bytes of an element; the mask is one byte an element",
    source="counted from x mask / (1 - p): choose, multiply",
    limits="The random generator is not counted. On the CPU dropout is composed of other operators.",
)
def dropout(call: Call) -> Cost:
    """native_dropout(x, p, train), native_dropout_backward(grad, mask, scale)."""
    x = call.tensor(0)
    mask_bytes = x.numel
    if call.operator.endswith("backward"):
        return Cost(2.0 * x.numel, x.bytes + mask_bytes, x.bytes, x.dtype)
    return Cost(2.0 * x.numel, x.bytes, x.bytes + mask_bytes, x.dtype)
