"""The sum and the largest of a vector's sixteen numbers.

Adding one lane after the other waits for each addition. Here the vector is added to itself, turned by eight lanes, then
by four, two and one: four additions, after which every lane holds the sum, in the same bits.

Reading order: after `numba_vector.py`.
"""

from llvmlite import ir
from numba import types
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic

from minidiff.kernels.numba_compile import njit
from minidiff.kernels.numba_vector import INT32, LANES, maximum, vector


@intrinsic
def turned(typing, v, lanes):
    """The vector whose lane i is lane i + lanes of v, counted on from the first after the last; lanes is a constant."""
    if not isinstance(lanes, types.IntegerLiteral):
        raise RequireLiteralValue("turned: by how many lanes must be known when compiling")

    def generate(context, builder, signature, args):
        from_lane = [(i + lanes.literal_value) % LANES for i in range(LANES)]
        return builder.shuffle_vector(args[0], args[0], ir.Constant(ir.VectorType(INT32, LANES), from_lane))

    return vector(vector, lanes), generate


@njit
def sum_of_lanes(v):
    """The sum of a vector's numbers, in all lanes."""
    v = v + turned(v, 8)
    v = v + turned(v, 4)
    v = v + turned(v, 2)
    return v + turned(v, 1)


@njit
def largest_of_lanes(v):
    """The largest of a vector's numbers, in all lanes; anything if one of them is NaN."""
    v = maximum(v, turned(v, 8))
    v = maximum(v, turned(v, 4))
    v = maximum(v, turned(v, 2))
    return maximum(v, turned(v, 1))
