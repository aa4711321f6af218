"""Sixteen float32 numbers side by side as one value of a Numba kernel: a SIMD vector.

A compiler turns a loop over channels into SIMD only where it can prove that arrays do not overlap, and adds a check and
a remainder loop to each such loop: too much for the short loops of a convolution's transforms. Here the sixteen lanes
are explicit instead:

    v = load(x, i) + 4 * load(x, i + 16)
    store(y, i, v)

Sixteen numbers are one AVX-512 register, two of AVX2, four of NEON; LLVM splits them as the machine needs.

`x` and `y` are pointers, from `pointer(array)`; indices count float32 numbers from the start of a C-contiguous array,
whatever its shape, and nothing checks them. Arrays are not passed themselves, because Numba counts the references to
them, which would take longer than the few instructions.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_math import LIMIT, LN2_HIGH, LN2_LOW, LOG2_E

LANES = 16
FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR, MASK = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.IntType(1), LANES)
ZERO = ir.Constant(VECTOR, [0.0] * LANES)


class Vector(types.Type):
    """Numba's name for sixteen float32 numbers."""

    def __init__(self):
        super().__init__(name="Vector")


vector, floats, integers = Vector(), types.CPointer(types.float32), types.CPointer(types.int64)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, VECTOR)


# ---- memory ---------------------------------------------------------------------------------------------------------


@intrinsic
def pointer(typing, array):
    """Return a pointer to the numbers of an array, which must outlive the pointer."""

    def generate(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def offset(typing, start, i):
    """Return the pointer i numbers further on."""
    return start(start, types.intp), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


@intrinsic
def alloca(typing, vectors):
    """Return memory on the stack for so many vectors, until the function returns; the number is a constant."""
    if not isinstance(vectors, types.IntegerLiteral):
        raise RequireLiteralValue("alloca: the number of vectors must be known when compiling")

    def generate(context, builder, signature, args):
        memory = cgutils.alloca_once(builder, ir.ArrayType(VECTOR, vectors.literal_value))
        memory.align = 4 * LANES
        return builder.bitcast(memory, FLOAT.as_pointer())

    return floats(vectors), generate


@intrinsic
def load(typing, array, i):
    """The numbers array[i : i + 16]."""

    def generate(context, builder, signature, args):
        return builder.load(vector_at(builder, *args), align=4)

    return vector(floats, types.intp), generate


@intrinsic
def masked_load(typing, array, i, n):
    """The numbers array[i : i + n], n ≤ 16, and zeros behind them; what lies beyond n is not read."""

    def generate(context, builder, signature, args):
        address = vector_at(builder, *args[:2])
        kind = ir.FunctionType(VECTOR, [VECTOR.as_pointer(), INT32, MASK, VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v16f32.p0")
        return builder.call(function, [address, INT32(4), lane_mask(builder, args[2]), ZERO])

    return vector(floats, types.intp, types.intp), generate


@intrinsic
def store(typing, array, i, value):
    """array[i : i + 16] = value."""

    def generate(context, builder, signature, args):
        builder.store(args[2], vector_at(builder, *args[:2]), align=4)
        return context.get_dummy_value()

    return types.void(floats, types.intp, vector), generate


@intrinsic
def masked_store(typing, array, i, value, n):
    """array[i : i + n] = value[:n]."""

    def generate(context, builder, signature, args):
        address = vector_at(builder, *args[:2])
        kind = ir.FunctionType(ir.VoidType(), [VECTOR, VECTOR.as_pointer(), INT32, MASK])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v16f32.p0")
        full = builder.icmp_signed(">=", args[3], INT64(LANES))
        with builder.if_else(full) as (whole, part):  # masked stores are slow without AVX-512
            with whole:
                builder.store(args[2], address, align=4)
            with part:
                builder.call(function, [args[2], address, INT32(4), lane_mask(builder, args[3])])
        return context.get_dummy_value()

    return types.void(floats, types.intp, vector, types.intp), generate


def vector_at(builder, array, i):
    """Return the address of number i of an array as the address of a vector."""
    return builder.bitcast(builder.gep(array, [i]), VECTOR.as_pointer())


def lane_mask(builder, n):
    """A mask of the first n lanes: all lanes if n is larger than 16, none if it is negative."""
    n = builder.select(builder.icmp_signed("<", n, INT64(LANES)), n, INT64(LANES))
    n = builder.select(builder.icmp_signed(">", n, INT64(0)), n, INT64(0))  # now n fits 32 bits
    every = broadcast(builder, builder.trunc(n, INT32), ir.VectorType(INT32, LANES))
    return builder.icmp_signed("<", ir.Constant(every.type, list(range(LANES))), every)


def broadcast(builder, number, kind=VECTOR):
    """Return a vector with one number in all lanes."""
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, number, INT32(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))


@intrinsic
def prefetch(typing, array, i):
    """Prefetch the cache line of array[i], which will be read."""
    return types.void(floats, types.intp), lambda context, builder, signature, args: fetch(builder, args, 0, 2)


@intrinsic
def prefetch_to_write(typing, array, i):
    """Prefetch the cache line of array[i], which will be written."""
    return types.void(floats, types.intp), lambda context, builder, signature, args: fetch(builder, args, 1, 3)


def fetch(builder, args, writing, near):
    """The instruction of both; args: array and i. near: from 0, to be used once, to 3, to be kept in all caches."""
    address = builder.gep(args[0], [args[1]])
    kind = ir.FunctionType(ir.VoidType(), [address.type, INT32, INT32, INT32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    return builder.call(function, [address, INT32(writing), INT32(near), INT32(1)])


@intrinsic
def transpose(typing, array, i, step, to, j, to_step):
    """Transpose sixteen vectors: the one at array[i + n step] becomes column n of the vectors at to[j + m to_step].

    Interleaving row n with row n + 8, for all n, moves each number a quarter of its way: four rounds transpose.
    """

    def generate(context, builder, signature, args):
        array, i, step, to, j, to_step = args
        low = [lane // 2 + lane % 2 * LANES for lane in range(LANES)]
        masks = [
            ir.Constant(ir.VectorType(INT32, LANES), [lane + half for lane in low]) for half in (0, LANES // 2)
        ]  # fmt: skip

        def at(start, apart, n):
            return builder.add(start, builder.mul(apart, INT64(n)))

        rows = [builder.load(vector_at(builder, array, at(i, step, n)), align=4) for n in range(LANES)]
        for _ in range(4):
            rows = [
                builder.shuffle_vector(rows[n], rows[n + LANES // 2], mask) for n in range(LANES // 2) for mask in masks
            ]
        for n, row in enumerate(rows):
            builder.store(row, vector_at(builder, to, at(j, to_step, n)), align=4)
        return context.get_dummy_value()

    n = types.intp
    return types.void(floats, n, n, floats, n, n), generate


@njit
def load_four(array, i, step):
    """Four vectors, `step` numbers apart."""
    return load(array, i), load(array, i + step), load(array, i + 2 * step), load(array, i + 3 * step)


@njit
def load_six(array, i, step):
    """Six vectors, `step` numbers apart."""
    return (
        load(array, i),
        load(array, i + step),
        load(array, i + 2 * step),
        load(array, i + 3 * step),
        load(array, i + 4 * step),
        load(array, i + 5 * step),
    )


@njit
def store_four(array, i, step, values):
    """Four vectors to places `step` numbers apart."""
    store(array, i, values[0])
    store(array, i + step, values[1])
    store(array, i + 2 * step, values[2])
    store(array, i + 3 * step, values[3])


@njit
def store_six(array, i, step, values):
    """Six vectors to places `step` numbers apart."""
    store(array, i, values[0])
    store(array, i + step, values[1])
    store(array, i + 2 * step, values[2])
    store(array, i + 3 * step, values[3])
    store(array, i + 4 * step, values[4])
    store(array, i + 5 * step, values[5])


# ---- arithmetic -----------------------------------------------------------------------------------------------------


@intrinsic
def splat(typing, number):
    """A float32 number in all lanes."""
    return vector(types.float32), lambda context, builder, signature, args: broadcast(builder, args[0])


@infer_global(operator.add)
@infer_global(operator.sub)
@infer_global(operator.truediv)
class VectorAndVector(ConcreteTemplate):
    cases = (vector(vector, vector),)


@infer_global(operator.mul)
class VectorOrNumberAndVector(ConcreteTemplate):
    cases = (vector(vector, vector), vector(types.float32, vector))


@infer_global(operator.neg)
class OneVector(ConcreteTemplate):
    cases = (vector(vector),)


@lower_builtin(operator.add, vector, vector)
def add(context, builder, signature, args):
    return builder.fadd(*args)


@lower_builtin(operator.sub, vector, vector)
def subtract(context, builder, signature, args):
    return builder.fsub(*args)


@lower_builtin(operator.mul, vector, vector)
def multiply(context, builder, signature, args):
    return builder.fmul(*args)


@lower_builtin(operator.truediv, vector, vector)
def divide(context, builder, signature, args):
    return builder.fdiv(*args)


@lower_builtin(operator.mul, types.float32, vector)
def scale(context, builder, signature, args):
    return builder.fmul(broadcast(builder, args[0]), args[1])


@lower_builtin(operator.neg, vector)
def negate(context, builder, signature, args):
    return builder.fneg(*args)


@intrinsic
def fma(typing, a, b, c):
    """a b + c, rounded once where the machine can; a: a vector, or a float32 number for all lanes.

    The sum is fused where this is called, and nowhere else. Sums that the compiler may fuse as it chooses could differ
    in their bits each time it compiles them, alone or inside of another function.
    """

    def generate(context, builder, signature, args):
        a, b, c = args
        return fused(builder, a if signature.args[0] == vector else broadcast(builder, a), b, c)

    return vector(vector if a == vector else types.float32, vector, vector), generate


def fused(builder, a, b, c):
    """The instruction of `fma` for three vectors."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.v16f32"), [a, b, c])


@intrinsic
def maximum(typing, a, b):
    """The larger of each pair of numbers; NaN where a is NaN."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<", *args), args[1], args[0])

    return vector(vector, vector), generate


@intrinsic
def minimum(typing, a, b):
    """The smaller of each pair of numbers; NaN where a is NaN."""

    def generate(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), args[1], args[0])

    return vector(vector, vector), generate


@intrinsic
def floor(typing, a):
    """The largest integer that is not above each number."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(VECTOR, [VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.floor.v16f32"), args)

    return vector(vector), generate


@intrinsic
def power_of_two(typing, n):
    """2^n for integers n in [-126, 127], written as exponents into the bits of a float."""

    def generate(context, builder, signature, args):
        whole = ir.VectorType(INT32, LANES)
        biased = builder.add(builder.fptosi(args[0], whole), ir.Constant(whole, [127] * LANES))
        return builder.bitcast(builder.shl(biased, ir.Constant(whole, [23] * LANES)), VECTOR)

    return vector(vector), generate


@njit
def exp(x):
    """e^x, as `numba_math.exp` has it: within 2 ULP for x in [-87, 87] and constant beyond; NaN stays NaN."""
    x = minimum(maximum(x, splat(-LIMIT)), splat(LIMIT))
    n = floor(fma(LOG2_E, x, splat(np.float32(0.5))))
    r = fma(-LN2_LOW, n, fma(-LN2_HIGH, n, x))
    p = splat(np.float32(1.9875691500e-4))
    p = fma(p, r, splat(np.float32(1.3981999507e-3)))
    p = fma(p, r, splat(np.float32(8.3334519073e-3)))
    p = fma(p, r, splat(np.float32(4.1665795894e-2)))
    p = fma(p, r, splat(np.float32(1.6666665459e-1)))
    p = fma(p, r, splat(np.float32(5.0000001201e-1)))
    return (fma(p * r, r, r) + splat(np.float32(1.0))) * power_of_two(n)


@njit
def sigmoid(z):
    """1 / (1 + e^-z)."""
    one = splat(np.float32(1.0))
    return one / (one + exp(-z))
