"""Reading and writing elements or rows at given positions."""

import math

from workbench.costs.call import Call, Tensor, Unknown
from workbench.costs.model import Cost, Gather, aten, model

_INDEX_BYTES = 8
_GATHER_LIMITS = "Every position counts, also one that occurs twice or that a cache holds."


@model(
    "index_read",
    title="Gather at an index",
    operators=aten("index_select", "gather", "take"),
    formula="F = 0; Q = index + 2 s N",
    symbols="N elements of the result, s bytes of an element; rows of the gather are the pieces that lie together",
    source="definition",
    limits=_GATHER_LIMITS,
)
def index_read(call: Call) -> Cost:
    """index_select(x, dim, index), gather(x, dim, index, sparse_grad), take(x, index)."""
    x = call.tensor(0)
    index = call.tensor(1 if call.operator == "take" else 2)
    pieces, row = index.numel, 1
    if call.operator == "index_select":
        dim = _dimension(call, x)
        pieces, row = math.prod(x.shape[:dim]) * index.numel, math.prod(x.shape[dim + 1 :])
    moved_bytes = pieces * row * x.item_bytes
    gather = Gather(pieces, row * x.item_bytes, x.bytes)
    return Cost(0.0, index.bytes + moved_bytes, moved_bytes, x.dtype, gather=gather)


@model(
    "index_write",
    title="Scatter at an index",
    operators=aten("scatter", "scatter_add", "index_add", "index_copy", "index_fill"),
    formula="F = N where it adds, else 0; Q = index + source + s N, + s N read where it adds, + 2 x where not in place",
    symbols="N elements of the source (or, of one number, of what is written), x the bytes of the whole tensor, s "
    "bytes of an element",
    source="definition",
    limits=_GATHER_LIMITS,
)
def index_write(call: Call) -> Cost:
    """scatter_(x, dim, index, source), index_add_(x, dim, index, source, alpha); source may be a number."""
    x, index, source = call.tensor(0), call.tensor(2), call.optional(3)
    if source is not None:
        written = source.numel
    elif call.operator == "index_fill":
        written = x.numel // max(x.shape[_dimension(call, x)], 1) * index.numel
    else:
        written = index.numel
    adds = "add" in call.operator
    return _write(x, written, index.bytes + (source.bytes if source else 0), adds, copies=not call.in_place)


@model(
    "index_put",
    title="Write at positions",
    operators=aten("index_put", "_index_put_impl"),
    formula="F = N where it adds, else 0; Q = 8 N + 2 s N, + s N read where it adds, + 2 x where not in place",
    symbols="N elements of the values, x the bytes of the whole tensor, s bytes of an element",
    source="definition",
    limits="Traces do not show the index: one 8 B position for each value is assumed, an upper bound. Accumulation is "
    "assumed where the trace does not tell (it is the derivative of indexing). One value for many positions: unknown.",
)
def index_put(call: Call) -> Cost:
    """index_put_(x, indices, values, accumulate), _index_put_impl_(x, indices, values, accumulate, unsafe)."""
    x, values = call.tensor(0), call.tensor(2)
    if not values.shape:
        raise Unknown("how often one value is written is not recorded")
    adds = call.value(3) is not False
    return _write(
        x,
        values.numel,
        values.numel * _INDEX_BYTES + values.bytes,
        adds,
        copies=call.operator == "index_put" and not call.in_place,
    )


def _write(x: Tensor, written: int, operand_bytes: int, adds: bool, copies: bool) -> Cost:
    """Write (or add) `written` elements into `x`, or into a copy of it."""
    written_bytes = written * x.item_bytes
    copied_bytes = x.bytes if copies else 0
    read_bytes = operand_bytes + copied_bytes + (written_bytes if adds else 0)
    return Cost(float(written * adds), read_bytes, written_bytes + copied_bytes, x.dtype)


def _dimension(call: Call, x: Tensor) -> int:
    """The dimension argument; not needed where there is only one."""
    return 0 if len(x.shape) == 1 else call.integer(1) % len(x.shape)
