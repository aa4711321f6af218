"""Exercise 14: an operation of your own.

Write softplus(x) = log(1 + exp(x)) as an operation of the tape: compute its value, and hand `record` a closure that
turns gy, the gradient of the loss with respect to the result, into the gradient with respect to x. ops.silu is the
example to follow.

Hint: the derivative is the sigmoid. exp(1000) overflows; log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)) does not.
"""

import sys

import numpy as np
from checking import expect, report

from minidiff import ops
from minidiff.autograd import Tensor, record  # noqa: F401  record is for you


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), elementwise. Returns a Tensor of x's shape that is recorded on the tape."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `softplus` is right."""
    rng = np.random.default_rng(0)
    x, gy, h = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), 1e-5
    value = softplus(Tensor(x))
    expect(isinstance(value, Tensor), f"softplus must return a Tensor, not {type(value).__name__}")
    expect(np.allclose(value.data, np.log(1 + np.exp(x))), "the value is not log(1 + exp(x))")

    leaf = Tensor(x.copy(), requires_grad=True)
    made = softplus(leaf)
    expect(made.requires_grad, "the result does not remember x: return record(value, (x,), closure)")
    ops.sum(ops.mul(made, Tensor(gy))).backward()
    differences = gy * (softplus(Tensor(x + h)).data - softplus(Tensor(x - h)).data) / (2 * h)
    # h² of curvature and 1e-16 / h of rounding leave about 1e-10; a wrong derivative is off by more than a hundredth
    expect(np.abs(leaf.grad - differences).max() < 1e-6, "the gradient is not what small steps of x say it is")

    leaf = Tensor(x.copy(), requires_grad=True)
    ops.sum(softplus(softplus(leaf))).backward()
    inner = np.log(1 + np.exp(x))
    chained = 1 / (1 + np.exp(-inner)) / (1 + np.exp(-x))
    expect(np.allclose(leaf.grad, chained), "the closure must multiply by gy, or the chain rule is broken")

    with np.errstate(over="ignore"):
        far = softplus(Tensor(np.array([-1000.0, 1000.0]))).data
    expect(np.allclose(far, [0, 1000]), f"softplus of -1000 and 1000 should be 0 and 1000, got {far}")


if __name__ == "__main__":
    sys.exit(report(check))
