"""The micro-kernel: a product of matrices that is small enough for its sums to stay in registers.

A product C = A B of (rows, K) and (K, columns) takes rows x columns x K multiplications of only (rows + columns) x K
numbers, so a number that was loaded should be used as often as possible. Here 8 x 32 sums stay in sixteen registers for
the whole length of K. Each step loads two vectors of B and eight numbers of A, and makes sixteen fused multiply-adds:

    for k in range(K):
        C[0:8, 0:32] += A[0:8, k] B[k, 0:32]

A core can load about as often as it can multiply and add, and ten loads are fewer than sixteen multiply-adds, so the
arithmetic does not wait. The micro-kernel therefore reaches the core's peak from K = 32 on, where a BLAS, which is made
for large matrices, is still packing its operands. Registers have no indices, so each sum needs a name of its own: the
loop over them is unrolled here, in Python, into LLVM's instructions.

Sixteen registers for the sums assume AVX-512, which has thirty-two of sixteen numbers each. AVX2 and NEON have fewer or
smaller registers: not all sums would fit, and each multiply-add would load a sum from memory and store it again. There
the block is made in parts of 4 x 16 sums (`numba_core.py` has the table): 44 instead of 20 GFLOP/s on a core with AVX2
(AMD EPYC, Zen 1), where OpenBLAS makes 41 with large matrices.

Reading order: after `numba_vector.py` and `numba_core.py`. Leaves out the blocking for caches: each kernel that calls
this does its own.
Source: the outer-product micro-kernel of Goto & van de Geijn 2008, doi:10.1145/1356052.1356053, section 4.
"""

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minidiff.kernels import numba_core
from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_vector import INT64, LANES, VECTOR, ZERO, broadcast, floats, fused, integers

ROWS = 8
WIDE = 2 * LANES  # columns


def register_blocks(vectors):
    """Cut ROWS rows of so many vectors into blocks whose sums fit into the registers: ranges of rows and of vectors."""
    height, width = numba_core.BLOCK
    for row in range(0, ROWS, height):
        for first in range(0, vectors, width):
            yield range(row, row + height), range(first, min(first + width, vectors))


def round_up(n: int, unit: int) -> int:
    """Return n, or the next multiple of `unit` above it."""
    return -(-n // unit) * unit


def micro_kernel(columns, by_table):
    """Make the function that multiplies ROWS rows by so many columns, 16 or 32.

    The function that is made computes

        C[r, 0:columns] = sum_k A[r, k] B[k, 0:columns]      for r < ROWS, plus what C holds if `accumulate`

    a, b, c: pointers to the first float32 number of each matrix; nothing checks what lies behind them.
    a_row, a_column, b_row, c_row: strides in numbers. A[r, k] lies at a[r a_row + k a_column], row k of B begins at
    b[k b_row], row r of C at c[r c_row].
    by_table: a_row and a_column are pointers to int64 offsets, and A[r, k] lies at a[a_row[r] + a_column[k]].
    """
    vectors = columns // LANES

    def multiply(typing, a, a_row, a_column, b, b_row, c, c_row, K, accumulate):
        def generate(context, builder, signature, args):
            a, a_row, a_column, b, b_row, c, c_row, K, accumulate = args

            def offset_in_a(stride, i):
                return builder.load(builder.gep(stride, [i])) if by_table else builder.mul(stride, i)

            def vector_at(base, row, column):
                return builder.bitcast(builder.gep(base, [builder.add(row, INT64(column))]), VECTOR.as_pointer())

            a_rows = [builder.gep(a, [offset_in_a(a_row, INT64(r))]) for r in range(ROWS)]
            c_rows = [builder.mul(c_row, INT64(r)) for r in range(ROWS)]
            for rows, columns_of_vectors in register_blocks(vectors):
                block = [(r, v) for r in rows for v in columns_of_vectors]
                sums = {rv: cgutils.alloca_once(builder, VECTOR) for rv in block}  # LLVM puts them into registers
                for rv in block:
                    builder.store(ZERO, sums[rv])
                with cgutils.for_range(builder, K) as loop:
                    in_a, in_b = offset_in_a(a_column, loop.index), builder.mul(loop.index, b_row)
                    b_vectors = {v: builder.load(vector_at(b, in_b, v * LANES), align=4) for v in columns_of_vectors}
                    for r in rows:
                        number = broadcast(builder, builder.load(builder.gep(a_rows[r], [in_a])))
                        for v in columns_of_vectors:
                            builder.store(fused(builder, number, b_vectors[v], builder.load(sums[r, v])), sums[r, v])
                with builder.if_else(accumulate) as (old, new):
                    with old:  # C is added to the finished sum: rounding errors grow with the length of a sum
                        for r, v in block:
                            at = vector_at(c, c_rows[r], v * LANES)
                            total = builder.fadd(builder.load(at, align=4), builder.load(sums[r, v]))
                            builder.store(total, at, align=4)
                    with new:
                        for r, v in block:
                            builder.store(builder.load(sums[r, v]), vector_at(c, c_rows[r], v * LANES), align=4)
            return context.get_dummy_value()

        n = types.intp
        stride = integers if by_table else n
        return types.void(floats, stride, stride, floats, n, floats, n, n, types.boolean), generate

    return intrinsic(multiply)


multiply_wide, multiply_narrow = micro_kernel(WIDE, False), micro_kernel(LANES, False)
multiply_wide_by_table, multiply_narrow_by_table = micro_kernel(WIDE, True), micro_kernel(LANES, True)


@njit
def multiply(columns, a, a_row, a_column, b, b_row, c, c_row, K, accumulate):
    """The product of so many columns, 32 or 16; see `micro_kernel`."""
    if columns == WIDE:
        multiply_wide(a, a_row, a_column, b, b_row, c, c_row, K, accumulate)
    else:
        multiply_narrow(a, a_row, a_column, b, b_row, c, c_row, K, accumulate)


@njit
def multiply_by_table(columns, a, a_rows, a_columns, b, b_row, c, c_row, K, accumulate):
    """The same for a matrix A whose number A[r, k] lies at a[a_rows[r] + a_columns[k]]."""
    if columns == WIDE:
        multiply_wide_by_table(a, a_rows, a_columns, b, b_row, c, c_row, K, accumulate)
    else:
        multiply_narrow_by_table(a, a_rows, a_columns, b, b_row, c, c_row, K, accumulate)
