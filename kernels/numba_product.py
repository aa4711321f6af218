"""The product of two matrices, as far as it fits into registers: what every convolution ends in.

A product C = A B of (rows, K) and (K, columns) makes rows columns K multiplications with only rows K + K columns
numbers, so a number that was loaded should be used as often as possible. Here 8 x 32 sums stay in sixteen registers
for the whole length of K; each step loads two vectors of B and eight numbers of A and makes sixteen fused
multiply-adds with them:

    for k in range(K):
        C[0:8, 0:32] += A[0:8, k] B[k, 0:32]

Half as many loads as multiply-adds is what a core can do at once, so it runs at its peak from K = 32 on, where a BLAS,
made for large matrices, is still arranging its operands. That needs the sums to be named one by one, so the loop over
them is unrolled here in Python, into LLVM's own instructions.

Those are registers of AVX-512, thirty-two of sixteen numbers. Where they are smaller or fewer, as with AVX2 or NEON,
not all sums fit, and each multiply-add would fetch one from memory and put it back. There 4 x 16 sums are made at a
time: 44 instead of 20 GFLOP/s on a core with AVX2 (AMD EPYC, Zen 1), beside 41 by OpenBLAS for large matrices.
Source: the outer-product micro-kernel of Goto & van de Geijn 2008, doi:10.1145/1356052.1356053, section 4.
"""

from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_vector import INT64, LANES, VECTOR, ZERO, floats, fused, integers, spread

ROWS = 8
WIDE = 2 * LANES  # columns
# Rows, and vectors of columns, whose sums fit into the registers at once.
TOGETHER, ABREAST = (ROWS, 2) if get_host_cpu_features().get("avx512f") else (4, 1)


def blocks(vectors):
    """Cut ROWS rows of so many vectors into blocks, ranges of rows and of vectors, that fit into the registers."""
    for row in range(0, ROWS, TOGETHER):
        for first in range(0, vectors, ABREAST):
            yield range(row, row + TOGETHER), range(first, min(first + ABREAST, vectors))


def rounded(n, unit):
    """n, or the next number above it that `unit` divides."""
    return -(-n // unit) * unit


def product_of(columns, by_table):
    """Make the function that multiplies ROWS rows by so many columns, 16 or 32."""
    vectors = columns // LANES

    def multiply(typing, a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, K, add):
        """C[r, 0:columns] = sum_k A[r, k] B[k, 0:columns] for r < ROWS, added to what C holds if `add`.

        A[r, k] is a[a_start + r a_row + k a_step]; B's row k starts at b[b_start + k b_step], C's row r at
        c[c_start + r c_row]. a, b, c: pointers to float32 numbers; nothing checks the offsets.
        by_table: a_row and a_step are pointers to int64 numbers, and A[r, k] is a[a_start + a_row[r] + a_step[k]].
        """

        def generate(context, builder, signature, args):
            a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, K, add = args
            a, b, c = builder.gep(a, [a_start]), builder.gep(b, [b_start]), builder.gep(c, [c_start])

            def offset_in_a(step, i):
                return builder.load(builder.gep(step, [i])) if by_table else builder.mul(step, i)

            def vector_at(base, row, column):
                return builder.bitcast(builder.gep(base, [builder.add(row, INT64(column))]), VECTOR.as_pointer())

            a_rows = [builder.gep(a, [offset_in_a(a_row, INT64(r))]) for r in range(ROWS)]
            rows = [builder.mul(c_row, INT64(r)) for r in range(ROWS)]
            for down, across in blocks(vectors):
                block = [(r, v) for r in down for v in across]
                sums = {rv: cgutils.alloca_once(builder, VECTOR) for rv in block}  # LLVM puts them into registers
                for rv in block:
                    builder.store(ZERO, sums[rv])
                with cgutils.for_range(builder, K) as loop:
                    along_a, along_b = offset_in_a(a_step, loop.index), builder.mul(loop.index, b_step)
                    b_row = {v: builder.load(vector_at(b, along_b, v * LANES), align=4) for v in across}
                    for r in down:
                        number = spread(builder, builder.load(builder.gep(a_rows[r], [along_a])))
                        for v in across:
                            builder.store(fused(builder, number, b_row[v], builder.load(sums[r, v])), sums[r, v])
                with builder.if_else(add) as (old, new):  # to the finished sum: rounding errors grow with its length
                    with old:
                        for r, v in block:
                            at = vector_at(c, rows[r], v * LANES)
                            total = builder.fadd(builder.load(at, align=4), builder.load(sums[r, v]))
                            builder.store(total, at, align=4)
                    with new:
                        for r, v in block:
                            builder.store(builder.load(sums[r, v]), vector_at(c, rows[r], v * LANES), align=4)
            return context.get_dummy_value()

        n = types.intp
        steps = integers if by_table else n
        return types.void(floats, n, steps, steps, floats, n, n, floats, n, n, n, types.boolean), generate

    return intrinsic(multiply)


multiply_wide, multiply_narrow = product_of(WIDE, False), product_of(LANES, False)
multiply_wide_by_table, multiply_narrow_by_table = product_of(WIDE, True), product_of(LANES, True)


@njit
def multiply(columns, a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, K, add):
    """The product of so many columns, 32 or 16; see `product_of`."""
    if columns == WIDE:
        multiply_wide(a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, K, add)
    else:
        multiply_narrow(a, a_start, a_row, a_step, b, b_start, b_step, c, c_start, c_row, K, add)


@njit
def multiply_by_table(columns, a, a_start, a_rows, a_steps, b, b_start, b_step, c, c_start, c_row, K, add):
    """The same for a matrix A whose numbers lie at a_rows[r] + a_steps[k]."""
    if columns == WIDE:
        multiply_wide_by_table(a, a_start, a_rows, a_steps, b, b_start, b_step, c, c_start, c_row, K, add)
    else:
        multiply_narrow_by_table(a, a_start, a_rows, a_steps, b, b_start, b_step, c, c_start, c_row, K, add)
