"""Dot interaction of DLRM's vectors as one operator: ours, on CPUs."""

from workbench.costs.call import Call, Unknown
from workbench.costs.model import Cost, model

_SYMBOLS = "B samples, V = T + 1 vectors of D elements (the dense one and T embeddings), s bytes of an element"


@model(
    "dot_interaction",
    title="Dot interaction",
    operators=("workbench::dot_interaction",),
    formula="F = V (V - 1) D B; Q = s B (V D + D + V (V - 1) / 2)",
    symbols=_SYMBOLS,
    source="D multiply-adds for each pair of vectors (Naumov et al. 2019, arXiv:1906.00091, section 2), each once",
)
def dot_interaction(call: Call) -> Cost:
    """dot_interaction(bottom [B, D], embeddings [B, n D] each, vector of each embedding)."""
    samples, vectors, dim, item_bytes = _sizes(call, 0)
    pairs = vectors * (vectors - 1) // 2
    read, written = vectors * dim, dim + pairs
    return Cost(2.0 * pairs * dim * samples, samples * read * item_bytes, samples * written * item_bytes, "fp32")


@model(
    "dot_interaction_backward",
    title="Dot interaction, backward",
    operators=("workbench::dot_interaction_backward",),
    formula="F = 2 V (V - 1) D B; Q = s B (2 V D + D + V (V - 1) / 2)",
    symbols=_SYMBOLS,
    source="a pair's gradient times each of its two vectors is added to the gradient of the other",
)
def dot_interaction_backward(call: Call) -> Cost:
    """dot_interaction_backward(gradient of the result, then dot_interaction's inputs)."""
    samples, vectors, dim, item_bytes = _sizes(call, 1)
    pairs = vectors * (vectors - 1) // 2
    read, written = vectors * dim + dim + pairs, vectors * dim
    return Cost(4.0 * pairs * dim * samples, samples * read * item_bytes, samples * written * item_bytes, "fp32")


def _sizes(call: Call, position: int) -> tuple[int, int, int, int]:
    """(samples, vectors, dim, bytes of an element) from `bottom` at `position` and the embeddings after it."""
    bottom, embeddings = call.tensor(position), call.tensor_list(position + 1)
    if len(bottom.shape) != 2 or not bottom.shape[1] or any(len(each.shape) != 2 for each in embeddings):
        raise Unknown(f"{call.name}'s inputs are no [samples, dim]")
    samples, dim = bottom.shape
    return samples, 1 + sum(each.shape[1] for each in embeddings) // dim, dim, bottom.item_bytes
