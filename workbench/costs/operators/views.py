"""Operators that move no data themselves: views, allocation, bookkeeping, and wrappers whose work is all in operators
inside them. They are known to cost nothing, which is not the same as unknown: their own time counts as covered."""

from workbench.costs.call import ASSUMED_DTYPE, Call
from workbench.costs.model import Cost, aten, model

_VIEWS = (
    "view", "_unsafe_view", "_reshape_alias", "view_as", "alias", "t", "numpy_T", "transpose", "swapaxes", "permute",
    "movedim", "expand", "expand_as", "broadcast_to", "broadcast_tensors", "slice", "select", "narrow", "as_strided",
    "squeeze", "unsqueeze", "unbind", "split", "split_with_sizes", "chunk", "tensor_split", "diagonal", "unfold",
    "detach", "real", "conj", "_conj", "resolve_conj", "resolve_neg", "lift_fresh", "set_", "atleast_1d", "atleast_2d",
)  # fmt: skip
_ALLOCATION = (
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_", "resize_as_", "record_stream",
    "is_pinned", "result_type", "_has_compatible_shallow_copy_type", "is_coalesced", "_coalesced_", "_nnz", "_indices",
    "_values", "sparse_dim", "dense_dim", "sparse_coo_tensor", "_sparse_coo_tensor_unsafe",
    "_sparse_coo_tensor_with_dims_and_tensors", "embedding_sparse_backward",
)  # fmt: skip
_WRAPPERS = (
    "to", "_to_copy", "type_as", "contiguous", "reshape", "flatten", "pin_memory", "_pin_memory", "item", "is_nonzero",
    "zeros", "zeros_like", "new_zeros", "ones", "ones_like", "full", "full_like", "rand", "randn", "randint", "concat",
    "hstack", "vstack", "repeat", "argsort", "pad", "dropout", "log_sigmoid", "softmax", "log_softmax", "layer_norm",
    "batch_norm", "_batch_norm_impl_index", "group_norm", "rms_norm", "conv1d", "conv2d", "conv3d", "conv_transpose2d",
    "cross_entropy_loss", "nll_loss", "nll_loss_nd", "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math", "_safe_softmax", "embedding_bag", "embedding_backward",
    "_embedding_bag_backward", "_embedding_bag_sparse_backward", "gather_backward", "index_select_backward",
    "slice_backward", "select_backward", "einsum", "outer", "take_along_dim", "max_pool2d", "logsumexp", "prelu",
)  # fmt: skip
_OTHERS = ("detach", "detach_", "fbgemm::split_embedding_codegen_lookup_*_function_pt2")


@model(
    "view",
    title="View, allocation or wrapper",
    operators=(*aten(*_VIEWS, *_ALLOCATION, *_WRAPPERS), *_OTHERS),
    formula="F = 0; Q = 0",
    symbols="none",
    source="PyTorch documentation, 'Tensor Views'; wrappers by the operators that profiles show inside them",
    limits="What happens inside is counted there: reshape may hold a copy, to a cast, zeros a fill. Pages of a fresh "
    "allocation are touched by whoever writes them first.",
)
def view(call: Call) -> Cost:
    """Nothing is read or written."""
    return Cost(0.0, 0.0, 0.0, ASSUMED_DTYPE)
