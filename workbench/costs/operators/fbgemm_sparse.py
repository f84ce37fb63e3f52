"""FBGEMM's operators on sparse features: permuting, bucketizing, ranges, regrouping of pooled embeddings."""

from workbench.costs.call import Call
from workbench.costs.model import Cost, model


@model(
    "permute_sparse",
    title="Permute sparse features",
    operators=(
        "fbgemm::permute_1D_sparse_data",
        "fbgemm::permute_2D_sparse_data",
        "fbgemm::permute_2D_sparse_preallocated_out",
        "fbgemm::permute_sparse_data",
        "fbgemm::permute_sparse_features",
    ),
    formula="F = 0; Q = permute + 2 (lengths + values + weights) of the features that are kept",
    symbols="bytes of each; lengths [features, batch], values and weights one for each index",
    source="definition: each kept feature's lengths and values are read and written once",
    limits="The running sums of lengths inside are not counted. Where the sum of the kept lengths is not given, kept "
    "values are to all values as kept features to all features.",
)
def permute_sparse(call: Call) -> Cost:
    """permute_2D_sparse_data(permute, lengths, values, weights, permuted_lengths_sum)."""
    permute, lengths, values, weights = call.tensor(0), call.tensor(1), call.tensor(2), call.optional(3)
    kept = permute.numel / lengths.shape[0]
    given = call.value(4)
    count = given if isinstance(given, int) else values.numel * kept
    value_bytes = values.item_bytes + (weights.item_bytes if weights else 0)
    moved_bytes = lengths.bytes * kept + count * value_bytes
    return Cost(0.0, permute.bytes + moved_bytes, moved_bytes, values.dtype)


@model(
    "bucketize_sparse",
    title="Bucketize sparse features",
    operators=("fbgemm::block_bucketize_sparse_features",),
    formula="F = 2 L; Q = lengths (1 + buckets) + 2 (indices + weights) + indices x outputs asked for beside these",
    symbols="L indices; bytes of each; positions in buckets and the way back may be asked for",
    source="a division and a remainder for each index",
    limits="The running sums of lengths inside, and a second pass over the indices, are not counted.",
)
def bucketize_sparse(call: Call) -> Cost:
    """block_bucketize_sparse_features(lengths, indices, bucketize_pos, sequence, block_sizes, buckets, weights)."""
    lengths, indices, weights = call.tensor(0), call.tensor(1), call.optional(6)
    buckets = call.integer(5)
    extra = (call.value(2) is True) + (call.value(3) is True)
    moved_bytes = indices.bytes + (weights.bytes if weights else 0)
    write_bytes = lengths.bytes * buckets + moved_bytes + extra * indices.bytes
    return Cost(2.0 * indices.numel, lengths.bytes + moved_bytes, write_bytes, indices.dtype)


@model(
    "range",
    title="Ranges from offsets",
    operators=("fb*::offsets_range", "fbgemm::expand_into_jagged_permute"),
    formula="F = N; Q = inputs + i N",
    symbols="N numbers written, i bytes of one",
    source="one addition a number",
)
def ranges(call: Call) -> Cost:
    """offsets_range(offsets, range_size), expand_into_jagged_permute(permute, in_offsets, out_offsets, size)."""
    inputs = [t for t in map(call.optional, range(3)) if t]
    if "offsets_range" in call.name:
        # An internal variant is handed the values themselves in place of their number.
        count = inputs[1].numel if len(inputs) > 1 else call.integer(1)
        inputs = inputs[:1]
    else:
        count = call.integer(3)
    read_bytes = sum(t.bytes for t in inputs)
    return Cost(float(count), read_bytes, count * inputs[0].item_bytes, inputs[0].dtype)


@model(
    "regroup_pooled",
    title="Reorder pooled embeddings",
    operators=("fbgemm::permute_pooled_embs*", "fbgemm::recat_embedding_grad_output*"),
    formula="F = 0; Q = 2 x embeddings",
    symbols="bytes of the embeddings [batch, sum of D]",
    source="definition",
)
def regroup_pooled(call: Call) -> Cost:
    """permute_pooled_embs_auto_grad(embeddings, ...), recat_embedding_grad_output_mixed_D_batch(grad, ...)."""
    embeddings = call.tensor(0)
    return Cost(0.0, embeddings.bytes, embeddings.bytes, embeddings.dtype)


@model(
    "regroup_keyed",
    title="Regroup pooled embeddings of several tensors",
    operators=("fbgemm::permute_multi_embedding*", "fbgemm::regroup_keyed_tensor"),
    formula="F = 0; Q = 2 x sum of the tensors",
    symbols="bytes of the tensors [batch, sum of D]",
    source="definition",
    limits="Every column is taken as used once.",
)
def regroup_keyed(call: Call) -> Cost:
    """permute_multi_embedding(tensors, permutes, in_shapes, out_shapes, out_lengths)."""
    tensors = call.tensor_list(0)
    total_bytes = sum(t.bytes for t in tensors)
    return Cost(0.0, total_bytes, total_bytes, tensors[0].dtype)
