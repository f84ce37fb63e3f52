"""The compiled inner loops. Each does what its docstring declares, `passes` times, without the GIL.

Arrays are 8-byte words. Sums are of integers, whose additions may be reordered and take one cycle: the loads limit,
not the adds. What is stored is float64 and a whole number: an integer's bits would read as a denormal, which stalls
arithmetic. What a loop stores or returns depends on every pass, so the compiler cannot drop one.
"""

from collections.abc import Callable
from functools import cache

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

PREFETCH_DISTANCE = 16  # rows ahead, as FBGEMM's embedding kernels look
WORD_BYTES = 8
LINE_WORDS = 8  # 64 B

_compiled = numba.njit(nogil=True, cache=True, boundscheck=False)


@_compiled
def read(source, passes):
    """Sum of `source` [n] times `passes`, wrapping: 8 B read an element and pass."""
    total = 0
    for number in range(passes):
        for i in range(len(source)):
            total += source[i] ^ number
    return total


@_compiled
def write(target, passes):
    """target[i] = last pass's number: 8 B written an element and pass (16 B moved with write-allocate)."""
    for number in range(passes):
        value = float(number)
        for i in range(len(target)):
            target[i] = value


@_compiled
def copy(target, source, passes):
    """target[i] = source[i] + last pass's number: 8 B read and 8 B written an element and pass."""
    for number in range(passes):
        value = float(number)
        for i in range(len(target)):
            target[i] = source[i] + value


@_compiled
def triad(target, first, second, passes):
    """target[i] = first[i] + s * second[i] with s the last pass's number, on float64: STREAM's triad, 24 B and 2 FLOP
    an element and pass (32 B moved with write-allocate)."""
    for number in range(passes):
        scale = float(number)
        for i in range(len(target)):
            target[i] = first[i] + scale * second[i]


@intrinsic
def prefetch_line(typing_context, array, index):
    """Ask for the line of array[index], as __builtin_prefetch does; no effect on any value."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, flag(0), flag(3), flag(1)])  # a read, kept in all levels, data
        return context.get_dummy_value()

    return types.void(array, index), generate


@cache
def gather(row_words: int, prefetch: bool) -> Callable[[np.ndarray, np.ndarray, int, int], int]:
    """A loop over random rows of `row_words` words, compiled for that length: how many rows are on their way at once,
    and so the rate, depends on how few instructions a row takes.

    `loop(table, draws, rows, passes)` touches every line of the rows that `draws` [n + PREFETCH_DISTANCE] name among
    `rows` (a power of two) and returns the sum of each line's first word. It moves n x max(1, row_words / 8) lines of
    64 B a pass. With `prefetch` it asks for each row's lines PREFETCH_DISTANCE rows ahead.
    """
    lines = max(1, row_words // LINE_WORDS)

    @_compiled
    def loop(table, draws, rows, passes):
        total = 0
        for number in range(passes):
            for i in range(len(draws) - PREFETCH_DISTANCE):
                if prefetch:
                    ahead = (draws[i + PREFETCH_DISTANCE] & (rows - 1)) * row_words
                    for line in range(lines):
                        prefetch_line(table, ahead + line * LINE_WORDS)
                first = (draws[i] & (rows - 1)) * row_words
                for line in range(lines):
                    total += table[first + line * LINE_WORDS] ^ number
        return total

    return loop


@_compiled
def link_cycle(chain, seed):
    """Link the lines of `chain` [lines x 8] into one random cycle (Sattolo's shuffle): the first word of a line holds
    the position of the next. Every line is visited once before any is visited again."""
    np.random.seed(seed)
    lines = len(chain) // LINE_WORDS
    for line in range(lines):
        chain[line * LINE_WORDS] = line * LINE_WORDS
    for last in range(lines - 1, 0, -1):
        here, there = last * LINE_WORDS, np.random.randint(0, last) * LINE_WORDS
        chain[here], chain[there] = chain[there], chain[here]


@_compiled
def chase(chain, position, steps):
    """Follow the cycle `steps` times from `position`, each load waiting for the one before; where it ends. Unsigned
    words: a signed position would be checked for counting from the end, in the chain of waiting."""
    for _ in range(steps):
        position = chain[position]
    return position
