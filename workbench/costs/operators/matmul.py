"""Matrix products: two-dimensional, batched, with a vector, with an added matrix."""

from workbench.costs.call import Call, Tensor, Unknown, broadcast
from workbench.costs.model import Cost, aten, model


@model(
    "matrix_product",
    title="Matrix product",
    operators=(
        *aten("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "linear", "matmul", "_int_mm"),
        "mkldnn::_linear_pointwise",
    ),
    formula="F = 2 b m n k; Q = s (b m k + b k n + b m n) + bytes of the added matrix",
    symbols="b batch (after broadcasting), m x k and k x n the factors, s bytes of an element",
    source="k multiply-adds for each of b m n results, as torch.utils.flop_counter counts; the added matrix starts "
    "the sum and costs no operation more",
    limits="A broadcast factor is read once. alpha and beta, and what oneDNN does to the result on its way, are not "
    "counted (m n at most).",
)
def matrix_product(call: Call) -> Cost:
    """mm(a, b), addmm(added, a, b), linear(x, weight, bias), _linear_pointwise(x, weight, bias, then...)."""
    first = 1 if call.operator.startswith("add") or call.operator == "baddbmm" else 0
    added = call.optional(0) if first else None
    left, right = call.tensor(first), call.tensor(first + 1)
    if call.operator in ("linear", "_linear_pointwise"):
        right, added = Tensor(right.shape[::-1], right.dtype), call.optional(2)
    batch, m, n, k = _sizes(left, right)
    results = m * n if call.operator == "addbmm" else batch * m * n
    result_bytes = results * (4 if call.operator == "_int_mm" else left.item_bytes)
    read_bytes = left.bytes + right.bytes + (added.bytes if added else 0)
    return Cost(2.0 * batch * m * n * k, read_bytes, result_bytes, left.dtype)


def _sizes(left: Tensor, right: Tensor) -> tuple[int, int, int, int]:
    """(batch, m, n, k) of left @ right by the rule of matmul: a vector is a row on the left, a column on the right."""
    if not left.shape or not right.shape:
        raise Unknown("a matrix product of a number")
    m = left.shape[-2] if len(left.shape) > 1 else 1
    k, n = right.shape[-2:] if len(right.shape) > 1 else (right.shape[0], 1)
    if left.shape[-1] != k:
        raise Unknown(f"{left.shape} and {right.shape} do not multiply")
    batch = Tensor(broadcast((left.shape[:-2], right.shape[:-2]))).numel
    return batch, m, n, k
