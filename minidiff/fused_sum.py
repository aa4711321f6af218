"""An optimisation of the backward pass: some operations add gradients while they compute them.

Idea: a tensor that is used twice receives two gradients, and `Tensor.backward` adds them in a separate pass over
memory.  The backward kernel of a convolution or a normalisation can add the first gradient while it writes the second,
which saves that pass.  So the closure of such an operation receives the sum of the gradients that its first input has
received so far, and returns the new sum.  The values are the same as without the optimisation.
Used by `conv2d`, `group_norm` and `norm_silu_conv2d` in ops.py.
"""

from typing import Any

from minidiff.autograd import Closure, Tensor, record


class FusedSumTensor(Tensor):
    """The result of an operation whose closure also adds the earlier gradients of its first input."""

    __slots__ = ()

    def _gradients_of_inputs(self, gy: Any, sums: dict[int, Any]) -> tuple[Any, ...]:
        """Take the sum of the first input out of `sums`, and let the closure return the new sum in its place."""
        assert self._closure is not None
        add_to_gx = sums.pop(self._inputs[0]._serial, None) if self._inputs else None  # no inputs: already walked
        return self._closure(gy, add_to_gx)


def record_fused_sum(data: Any, inputs: tuple[Tensor, ...], closure: Closure) -> Tensor:
    """As `record`, for a closure(gy, add_to_gx).

    add_to_gx: the sum of the gradients that the first input has received so far, None if there are none.  The closure
    returns add_to_gx plus its own gradient for the first input, which must not be broadcast.
    """
    return record(data, inputs, closure, kind=FusedSumTensor)
