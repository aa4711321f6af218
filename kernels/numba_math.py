"""exp and fma for float32, one number at a time, written so that the compiler turns a loop over them into SIMD.

In a compiled loop, `np.exp` calls the C library for each number, which takes 3-5 ns; `exp` takes about 0.2 ns. The
order of its operations matters, so it keeps strict floating-point rules even when it is inlined into a kernel with
looser ones. `numba_vector.exp` is the same function for sixteen numbers.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minidiff.kernels.numba_compile import njit

LOG2_E = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = (
    np.float32(0.693359375),
    np.float32(-2.12194440e-4),
)  # the first has 9 bits: its products with n are exact
LIMIT = np.float32(87.0)  # up to here e^x and e^-x are normal numbers, which are much faster than denormal ones


@intrinsic
def fma(typing, a, b, c):
    """a b + c for float32, rounded once where the machine can: exactly where this function is called."""

    def generate(context, builder, signature, args):
        kind = ir.FunctionType(ir.FloatType(), [ir.FloatType()] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fmuladd.f32"), args)

    return types.float32(types.float32, types.float32, types.float32), generate


@njit(error_model="numpy")
def exp(x: np.float32) -> np.float32:
    """e^x for float32, within 2 ULP for x in [-87, 87] and constant beyond; NaN stays NaN.

        e^x = 2^n e^r,   n = round(x / ln 2),   r = x - n ln 2 in [-0.35, 0.35]

    e^r is a polynomial, 2^n an exponent written into the bits of a float.
    Source: the coefficients of expf in Cephes (S. Moshier, 1992).
    """
    x = -LIMIT if x < -LIMIT else x
    x = LIMIT if x > LIMIT else x
    biased = np.int32(fma(x, LOG2_E, np.float32(127.5)))  # n + 127: positive, so that cutting off rounds down
    n = np.float32(biased - np.int32(127))
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    p = np.float32(1.9875691500e-4)
    p = fma(p, r, np.float32(1.3981999507e-3))
    p = fma(p, r, np.float32(8.3334519073e-3))
    p = fma(p, r, np.float32(4.1665795894e-2))
    p = fma(p, r, np.float32(1.6666665459e-1))
    p = fma(p, r, np.float32(5.0000001201e-1))
    p = fma(p * r, r, r) + np.float32(1.0)
    return p * np.int32(biased << np.int32(23)).view(np.float32)
