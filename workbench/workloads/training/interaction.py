"""How DLRM joins its dense vector and its pooled embeddings: concatenated, or by the dot product of every pair.

On a CPU the dot interaction is one compiled pass over the samples, each of whose vectors fit the innermost cache. The
batched products of plain torch go through memory several times: vectors side by side, all F^2 products, those that are
wanted. They remain for other devices and types, and say what the result must be.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from workbench.embeddings.compiled import as_array, compiled, on_threads
from workbench.workloads.training.tile_product import COLUMNS, ROWS, multiply

_SAMPLES_A_THREAD = 256


class Concatenation(nn.Module):
    """The bottom MLP's output, then every table's columns in table order: for tables of many widths."""

    def __init__(self, table_order: Sequence[int], dims: Sequence[int]) -> None:
        super().__init__()
        self.dims = dims  # in the order of arrival
        self.place = sorted(range(len(table_order)), key=lambda place: table_order[place])

    def forward(self, bottom: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """bottom [B, D], embeddings [B, columns] each: [B, D + all columns]."""
        arrived = torch.cat(list(embeddings), dim=1).split(self.dims, dim=1)
        return torch.cat([bottom, *(arrived[place] for place in self.place)], dim=1)


class DotInteraction(nn.Module):
    """The bottom MLP's output, then the dot product of every pair of the F vectors: [B, D + F (F - 1) / 2].

    Embeddings arrive in the order of their placement on ranks; pairs leave in table order, so that the model is the
    same wherever its tables lie: vector 0 is the bottom MLP's output, vector k + 1 the embedding of table k.
    """

    def __init__(self, table_order: Sequence[int], _: Sequence[int]) -> None:
        super().__init__()
        vector_of = torch.tensor(table_order, dtype=torch.int64) + 1  # of each arriving embedding
        self.register_buffer("vector_of", vector_of, persistent=False)
        vectors = len(table_order) + 1
        arrival = torch.zeros(vectors, dtype=torch.int64)  # of each vector: the bottom MLP's output comes first
        arrival[vector_of] = torch.arange(1, vectors)
        first, second = (arrival[pair] for pair in torch.tril_indices(vectors, vectors, offset=-1))
        pairs = len(first)
        # Which entries of the flat [F, F] product are the pairs, and which pair each entry is (`pairs`: none).
        self.register_buffer("entry_of_pair", first * vectors + second, persistent=False)
        pair_of_entry = torch.full((vectors, vectors), pairs)
        pair_of_entry[first, second] = pair_of_entry[second, first] = torch.arange(pairs)
        self.register_buffer("pair_of_entry", pair_of_entry.flatten(), persistent=False)

    def forward(self, bottom: Tensor, embeddings: Sequence[Tensor]) -> Tensor:
        """bottom [B, D], embeddings [B, columns] each: side by side they are the T tables' D columns each."""
        if bottom.device.type == "cpu" and bottom.dtype == torch.float32:
            return dot_interaction(bottom, list(embeddings), self.vector_of)
        # Permuting which pairs are picked costs nothing; permuting the vectors would copy them.
        vectors = torch.cat([bottom, *embeddings], dim=1).view(len(bottom), -1, bottom.shape[1])
        return torch.cat([bottom, _PairProducts.apply(vectors, self.entry_of_pair, self.pair_of_entry)], dim=1)


class _PairProducts(torch.autograd.Function):
    """Dot products of the picked pairs of vectors [B, F, D].

    By hand, since the product's symmetry is unknown to autograd: it would spend a second product of the same size on
    the backward pass, and scatter into the picked entries one by one where a gather does.
    """

    @staticmethod
    def forward(ctx, vectors: Tensor, entry_of_pair: Tensor, pair_of_entry: Tensor) -> Tensor:
        ctx.save_for_backward(vectors, pair_of_entry)
        return torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1).index_select(1, entry_of_pair)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        vectors, pair_of_entry = ctx.saved_tensors
        samples, count, _ = vectors.shape
        # Each pair's gradient stands in both triangles; the diagonal and nothing else picks the padded zero.
        padded = nn.functional.pad(gradient, (0, 1))
        symmetric = padded.index_select(1, pair_of_entry).view(samples, count, count)
        return torch.bmm(symmetric, vectors), None, None


@torch.library.custom_op("workbench::dot_interaction", mutates_args=(), device_types="cpu")
def dot_interaction(bottom: Tensor, embeddings: list[Tensor], vector_of: Tensor) -> Tensor:
    """DotInteraction, compiled: an operator of its own, so that profiles name it and show its shapes."""
    samples, dim = bottom.shape
    vectors = len(vector_of) + 1
    columns = sum(embedding.shape[1] for embedding in embeddings)
    if columns != len(vector_of) * dim or any(len(embedding) != samples for embedding in embeddings):
        raise ValueError(
            f"{len(vector_of)} embeddings of {samples} samples and {dim} columns are needed, not {columns}"
        )
    joined = bottom.new_empty(samples, dim + vectors * (vectors - 1) // 2)
    on_threads(
        samples, _SAMPLES_A_THREAD, _join, as_array(bottom), _arrays(embeddings), as_array(vector_of), as_array(joined)
    )
    return joined


@torch.library.custom_op("workbench::dot_interaction_backward", mutates_args=(), device_types="cpu")
def _dot_interaction_backward(
    gradient: Tensor, bottom: Tensor, embeddings: list[Tensor], vector_of: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients for that of the result: of `bottom`, and of all `embeddings`, one after the other in one buffer."""
    of_bottom = torch.empty_like(bottom, memory_format=torch.contiguous_format)
    of_embeddings = bottom.new_empty(sum(embedding.numel() for embedding in embeddings))
    on_threads(
        len(bottom), _SAMPLES_A_THREAD, _separate, as_array(gradient), as_array(bottom), _arrays(embeddings),
        as_array(vector_of), as_array(of_bottom), _arrays(_shaped_as(embeddings, of_embeddings)),
    )  # fmt: skip
    return of_bottom, of_embeddings


def _shaped_as(tensors: Sequence[Tensor], buffer: Tensor) -> list[Tensor]:
    """Views of a flat buffer that holds as many elements as `tensors`: one after the other, in their shapes."""
    parts = buffer.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def _keep_inputs(ctx, inputs: tuple[Tensor, list[Tensor], Tensor], output: Tensor) -> None:
    bottom, embeddings, vector_of = inputs
    ctx.save_for_backward(bottom, vector_of, *embeddings)


def _gradients(ctx, gradient: Tensor) -> tuple[Tensor, list[Tensor], None]:
    bottom, vector_of, *embeddings = ctx.saved_tensors
    of_bottom, of_embeddings = _dot_interaction_backward(gradient, bottom, embeddings, vector_of)
    # Side by side in memory, as an all-to-all sends them.
    return of_bottom, _shaped_as(embeddings, of_embeddings), None


dot_interaction.register_autograd(_gradients, setup_context=_keep_inputs)


def _arrays(tensors: Sequence[Tensor]) -> tuple[np.ndarray, ...]:
    return tuple(map(as_array, tensors))


@compiled
def _copy(source, target):
    for column in range(len(source)):
        target[column] = source[column]


@compiled
def _vectors_of(sample, bottom, embeddings, vector_of, vectors):
    """Lay one sample's vectors side by side, in table order: vectors [F, D]."""
    dim, arrived = bottom.shape[1], 0
    _copy(bottom[sample], vectors[0])
    for embedding in embeddings:
        row = embedding[sample]
        start = 0
        while start < len(row):
            vector, column = vectors[vector_of[arrived // dim]], arrived % dim
            width = min(dim - column, len(row) - start)
            _copy(row[start : start + width], vector[column : column + width])
            start += width
            arrived += width


@compiled
def _pair_products(vectors, products):
    """Dot products of vectors [F, D], each with those before it, four at a time: products [F (F - 1) / 2]."""
    pair = 0
    for second in range(1, len(vectors)):
        one = vectors[second]
        for first in range(0, second - 3, 4):
            a, b, c, d = vectors[first], vectors[first + 1], vectors[first + 2], vectors[first + 3]
            sum_a = sum_b = sum_c = sum_d = np.float32(0)
            for k in range(len(one)):
                sum_a += one[k] * a[k]
                sum_b += one[k] * b[k]
                sum_c += one[k] * c[k]
                sum_d += one[k] * d[k]
            products[pair], products[pair + 1], products[pair + 2], products[pair + 3] = sum_a, sum_b, sum_c, sum_d
            pair += 4
        for first in range(second // 4 * 4, second):
            a, sum_a = vectors[first], np.float32(0)
            for k in range(len(one)):
                sum_a += one[k] * a[k]
            products[pair] = sum_a
            pair += 1


@compiled
def _join(begin, end, bottom, embeddings, vector_of, joined):
    """Samples `begin` to `end` of the forward pass: joined [B, D + pairs]."""
    dim = bottom.shape[1]
    vectors = np.empty((len(vector_of) + 1, dim), np.float32)
    for sample in range(begin, end):
        _vectors_of(sample, bottom, embeddings, vector_of, vectors)
        _copy(bottom[sample], joined[sample])
        _pair_products(vectors, joined[sample, dim:])


@compiled
def _separate(begin, end, gradient, bottom, embeddings, vector_of, of_bottom, of_embeddings):
    """Samples `begin` to `end` of the backward pass: a vector's gradient is the sum of the others, each weighted by
    its pair's gradient."""
    dim, count = bottom.shape[1], len(vector_of) + 1
    rows, columns = -(-count // ROWS) * ROWS, -(-dim // COLUMNS) * COLUMNS  # the last ones stay zero
    vectors, of_vectors = np.zeros((rows, columns), np.float32), np.empty((rows, columns), np.float32)
    of_products = np.zeros((rows, rows), np.float32)  # symmetric, with a zero diagonal
    for sample in range(begin, end):
        _vectors_of(sample, bottom, embeddings, vector_of, vectors)
        of_pairs = gradient[sample, dim:]
        pair = 0
        for second in range(1, count):
            for first in range(second):
                of_products[second, first] = of_products[first, second] = of_pairs[pair]
                pair += 1
        multiply(of_products, vectors, of_vectors)
        directly, of_row = gradient[sample], of_bottom[sample]
        for column in range(dim):
            of_row[column] = directly[column] + of_vectors[0, column]
        arrived = 0
        for of_embedding in of_embeddings:
            of_row = of_embedding[sample]
            start = 0
            while start < len(of_row):
                of_vector, column = of_vectors[vector_of[arrived // dim]], arrived % dim
                width = min(dim - column, len(of_row) - start)
                _copy(of_vector[column : column + width], of_row[start : start + width])
                start += width
                arrived += width
