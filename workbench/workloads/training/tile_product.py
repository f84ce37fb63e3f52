"""Products of matrices too small for a BLAS to be quick at, as part of a compiled loop.

A tile of the result stays in registers while the products that it is a sum of go by; left to itself the compiler stores
and loads it again for each. Vectors are LLVM's own, which it maps to whatever the machine has.
"""

import itertools

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from workbench.embeddings.compiled import compiled

_LANES, _VECTORS = 8, 2
ROWS, COLUMNS = 4, _LANES * _VECTORS  # of a tile: eight sums, and as many registers left for what is multiplied
_BYTE, _FLOAT = ir.IntType(8), ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, _LANES)
_FUSED = ("contract",)  # product and sum may be one instruction


@compiled
def multiply(left, right, result):
    """result [M, N] = left [M, K] x right [K, N], all float32; M is a multiple of ROWS, and N of COLUMNS."""
    for i in range(0, len(left), ROWS):
        for j in range(0, right.shape[1], COLUMNS):
            _tile(left[i : i + ROWS], right[:, j : j + COLUMNS], result[i : i + ROWS, j : j + COLUMNS])


@intrinsic
def _tile(_, left, right, result):
    """result [ROWS, COLUMNS] = left [ROWS, K] x right [K, COLUMNS]; rows of `right` and `result` are contiguous."""
    return types.void(left, right, result), _tile_code


def _tile_code(context, builder, signature, arguments):
    left, right, result = (
        context.make_array(kind)(context, builder, value) for kind, value in zip(signature.args, arguments, strict=True)
    )
    index_type = context.get_value_type(types.intp)

    def address(array, row, column, kind):
        strides = cgutils.unpack_tuple(builder, array.strides, 2)
        offset = builder.add(builder.mul(row, strides[0]), builder.mul(column, strides[1]))
        place = builder.gep(builder.bitcast(array.data, _BYTE.as_pointer()), [offset])
        return builder.bitcast(place, kind.as_pointer())

    tile = list(itertools.product(map(index_type, range(ROWS)), map(index_type, range(0, COLUMNS, _LANES))))
    sums = [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None)) for _ in tile]
    depth, _ = cgutils.unpack_tuple(builder, right.shape, 2)
    with cgutils.for_range(builder, depth) as loop:
        for (row, column), total in zip(tile, sums, strict=True):
            factor = _spread(builder, builder.load(address(left, row, loop.index, _FLOAT)))
            vector = builder.load(address(right, loop.index, column, _VECTOR), align=4)
            product = builder.fmul(factor, vector, flags=_FUSED)
            builder.store(builder.fadd(builder.load(total), product, flags=_FUSED), total)
    for (row, column), total in zip(tile, sums, strict=True):
        builder.store(builder.load(total), address(result, row, column, _VECTOR), align=4)
    return context.get_dummy_value()


def _spread(builder, value):
    """A vector that holds `value` in every lane."""
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None))
