"""The differentiable operations, each with its value and its derivative.

Idea: an operation computes its result, and records a closure with it.  The closure takes `gy`, the gradient of the loss
with respect to the result, and returns the gradients of the loss with respect to the inputs.
Leaves out the formulas of the operations that have kernels: `conv2d`, for example, only calls the backend here, and
kernels/conv2d/reference.py defines its value and its derivative.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.autograd import Tensor, record
from minidiff.fused_sum import record_fused_sum

Operand = Tensor | Any


def as_tensor(value: Operand, like: Tensor | None = None) -> Tensor:
    """Return value as a Tensor; a plain number gets the dtype of `like`, so that results stay float32."""
    if isinstance(value, Tensor):
        return value
    if like is not None and np.ndim(value) == 0:
        return Tensor(like.dtype.type(value))  # a NumPy scalar, which CuPy accepts too
    return Tensor(value)


def _pair(a: Operand, b: Operand) -> tuple[Tensor, Tensor]:
    a = as_tensor(a, b if isinstance(b, Tensor) else None)
    return a, as_tensor(b, a)


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def add(a: Operand, b: Operand) -> Tensor:
    """a + b, broadcasting.  d(a + b) = da + db."""
    a, b = _pair(a, b)
    y = backend.current().add(a.data, b.data) if a.shape == b.shape else a.data + b.data
    return record(y, (a, b), lambda gy: (gy, gy))


def sub(a: Operand, b: Operand) -> Tensor:
    """a - b, broadcasting.  d(a - b) = da - db."""
    a, b = _pair(a, b)
    return record(a.data - b.data, (a, b), lambda gy: (gy, -gy))


def mul(a: Operand, b: Operand) -> Tensor:
    """a b, elementwise and broadcasting.  d(a b) = b da + a db."""
    a, b = _pair(a, b)
    gradients = lambda gy: (gy * b.data if a.requires_grad else None, gy * a.data if b.requires_grad else None)
    return record(a.data * b.data, (a, b), gradients)


def div(a: Operand, b: Operand) -> Tensor:
    """a / b, elementwise and broadcasting.  d(a / b) = da / b - a db / b²."""
    a, b = _pair(a, b)
    y = a.data / b.data
    return record(y, (a, b), lambda gy: (gy / b.data, -gy * y / b.data if b.requires_grad else None))


def neg(a: Tensor) -> Tensor:
    """-a."""
    return record(-a.data, (a,), lambda gy: (-gy,))


def square(x: Tensor) -> Tensor:
    """x².  d(x²) = 2 x dx."""
    return record(x.data * x.data, (x,), lambda gy: (2 * gy * x.data,))


def exp(x: Tensor) -> Tensor:
    """exp(x).  d exp(x) = exp(x) dx."""
    y = _xp().exp(x.data)
    return record(y, (x,), lambda gy: (gy * y,))


def abs(x: Tensor) -> Tensor:
    """|x|.  d|x| = sign(x) dx, taken as 0 at x = 0."""
    return record(_xp().abs(x.data), (x,), lambda gy: (gy * _xp().sign(x.data),))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product a b of matrices (…, L, M) and (M, P) or (…, M, P): (…, L, P).  dL/da = gy bᵀ, dL/db = aᵀ gy."""
    a, b = _pair(a, b)
    transposed = lambda x: x.data.swapaxes(-1, -2)
    return record(a.data @ b.data, (a, b), lambda gy: (gy @ transposed(b), transposed(a) @ gy))


# ---- shape ----------------------------------------------------------------------------------------------------------


def sum(x: Tensor, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """The sum over the axes (all by default), which are removed.  Each summand receives the gradient of the sum."""
    kept = x.data.sum(axis=axis, keepdims=True)
    y = kept.sum() if axis is None else kept.squeeze(axis)
    return record(y, (x,), lambda gy: (_xp().broadcast_to(gy.reshape(kept.shape), x.shape),))


def mean(x: Tensor, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """The mean over the axes (all by default), which are removed."""
    total = sum(x, axis)
    return mul(total, total.data.size / x.data.size)


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The same values in another shape."""
    return record(x.data.reshape(shape), (x,), lambda gy: (gy.reshape(x.shape),))


def transpose(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The axes in another order: axis i of the result is axis axes[i] of x."""
    back = tuple(int(i) for i in np.argsort(axes))
    return record(x.data.transpose(axes), (x,), lambda gy: (gy.transpose(back),))


def concat(a: Tensor, b: Tensor) -> Tensor:
    """The channels of a followed by those of b: (…, A) and (…, B) to (…, A + B)."""
    k = backend.current()
    return record(k.concat(a.data, b.data), (a, b), lambda gy: k.split(gy, a.shape[-1]))


def pad(x: Tensor, rows: int, columns: int) -> Tensor:
    """Add rows of zeros above and columns of zeros on the left: (N, H, W, C) to (N, rows + H, columns + W, C)."""
    y = _xp().pad(x.data, ((0, 0), (rows, 0), (columns, 0), (0, 0)))
    return record(y, (x,), lambda gy: (gy[:, rows:, columns:],))


def index(x: Tensor, key: Any) -> Tensor:
    """x[key], for numbers and slices.  What is left out has no effect, so its gradient is zero."""

    def backward(gy: Any) -> tuple[Any]:
        gx = _xp().zeros_like(x.data)
        gx[key] = gy
        return (gx,)

    part = x.data[key]
    return record(part if part.flags.c_contiguous else part.copy(), (x,), backward)


# ---- layers ---------------------------------------------------------------------------------------------------------


def silu(x: Tensor) -> Tensor:
    """SiLU(x) = x s with s = sigmoid(x).  Its derivative is s (1 + x (1 - s)).

    Source: Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2; "swish" in arXiv:1710.05941.
    """
    s = 0.5 * (1 + _xp().tanh(0.5 * x.data))  # the sigmoid, in a form that cannot overflow
    return record(x.data * s, (x,), lambda gy: (gy * s * (1 + x.data * (1 - s)),))


def linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """x w + b.  x: (…, C_in), w: (C_in, C_out), b: (C_out,).  Returns (…, C_out).

    It is computed as the 1×1 convolution of an image one pixel wide, whose pixels are the rows of x.
    """
    if x.shape[-1] != w.shape[0]:
        raise ValueError(f"linear: x has {x.shape[-1]} channels, w expects {w.shape[0]}")
    k = backend.current()
    rows, filters = x.data.reshape(1, -1, 1, x.shape[-1]), w.data.reshape(1, 1, *w.shape)
    y = k.conv2d(rows, filters, None if b is None else b.data).reshape(*x.shape[:-1], w.shape[1])

    def closure(gy: Any) -> tuple[Any, ...]:
        gy = gy.reshape(1, -1, 1, w.shape[1])
        gx = k.conv2d_grad_x(gy, filters, rows.shape).reshape(x.shape) if x.requires_grad else None
        gw = k.conv2d_grad_w(gy, rows, filters.shape).reshape(w.shape)
        return (gx, gw) if b is None else (gx, gw, k.conv2d_grad_b(gy))

    return record(y, (x, w) if b is None else (x, w, b), closure)


def conv2d(x: Tensor, w: Tensor, b: Tensor | None = None, stride: int = 1, upsample: bool = False) -> Tensor:
    """Convolution with zero padding KH // 2; definition and derivative: kernels/conv2d/reference.py.

    x: (N, H, W, C_in), w: (KH, KW, C_in, C_out), b: (C_out,).  Returns (N, ⌈H/stride⌉, ⌈W/stride⌉, C_out).
    upsample: double height and width of x first; each pixel becomes 2 × 2 equal pixels.
    """
    k = backend.current()
    y = k.conv2d(x.data, w.data, None if b is None else b.data, stride, upsample)

    def closure(gy: Any, add_to_gx: Any) -> tuple[Any, ...]:
        gx = k.conv2d_grad_x(gy, w.data, x.shape, stride, upsample, add_to_gx) if x.requires_grad else None
        gw = k.conv2d_grad_w(gy, x.data, w.shape, stride, upsample) if w.requires_grad else None
        return (gx, gw) if b is None else (gx, gw, k.conv2d_grad_b(gy))

    return record_fused_sum(y, (x, w) if b is None else (x, w, b), closure)


def norm_silu_conv2d(
    x: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float, w: Tensor, b: Tensor, add: Tensor | None = None
) -> Tensor:
    """conv2d(silu(group_norm(x))) + add as one operation, which does not keep the intermediate results.

    x: (N, H, W, C_in); scale, shift: (C_in,) or (N, C_in); w: (KH, KW, C_in, C_out); b: (C_out,) or (N, C_out);
    add: (N, H, W, C_out).  Returns (N, H, W, C_out).  See kernels/norm_silu_conv2d/reference.py.
    """
    k = backend.current()
    y, mu, rstd = k.norm_silu_conv2d(
        x.data, scale.data, shift.data, groups, eps, w.data, b.data, None if add is None else add.data
    )

    def closure(gy: Any, add_to_gx: Any) -> tuple[Any, ...]:
        gradients = k.norm_silu_conv2d_grad(gy, x.data, scale.data, shift.data, mu, rstd, groups, w.data, add_to_gx)
        return gradients if add is None else (*gradients, gy)

    return record_fused_sum(y, (x, scale, shift, w, b) if add is None else (x, scale, shift, w, b, add), closure)


def group_norm(x: Tensor, scale: Tensor, shift: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
    """Group normalisation, followed by SiLU if `silu`; definition and derivative: kernels/norm/reference.py.

    x: (N, H, W, C).  scale, shift: (C,), or (N, C) with values for each image.
    Source: Wu and He 2018, arXiv:1803.08494, eq. 1 and 7.
    """
    k = backend.current()
    y, mu, rstd = k.group_norm(x.data, scale.data, shift.data, groups, eps, silu)

    def closure(gy: Any, add_to_gx: Any) -> tuple[Any, ...]:
        return k.group_norm_grad(gy, x.data, scale.data, shift.data, mu, rstd, groups, silu, add_to_gx)

    return record_fused_sum(y, (x, scale, shift), closure)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, on_weights: Callable[[Any], object] | None = None) -> Tensor:
    """Multi-head attention, softmax(q kᵀ / √d) v in each head; see kernels/attention/reference.py.

    q: (N, L, D); k, v: (N, M, D); D = heads · d.  Returns (N, L, D).
    on_weights: a callback that receives the attention weights p, (N, heads, L, M).
    Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.
    """
    kernels = backend.current()
    y, p = kernels.attention(q.data, k.data, v.data, heads)
    if on_weights is not None:
        on_weights(p)
    return record(y, (q, k, v), lambda gy: kernels.attention_grad(gy, q.data, k.data, v.data, p, heads))


def embedding(table: Tensor, index: Any) -> Tensor:
    """Rows of a table by index.  table: (n, D), index: (N,) integers in [0, n).  Returns (N, D).

    A row that is used twice receives the sum of both gradients.  Raises ValueError for an index outside [0, n), if they
    are on the host: a device would have to be waited for.
    """
    if type(index) is np.ndarray and len(index) and not (index.min() >= 0 and index.max() < table.shape[0]):
        raise ValueError(f"embedding: index must be in [0, {table.shape[0]}), got {index.min()} to {index.max()}")
    index = backend.to_device(index)

    def closure(gy: Any) -> tuple[Any]:
        chosen = (index[:, None] == _xp().arange(table.shape[0])).astype(gy.dtype)  # (N, n), one-hot
        return (chosen.T @ gy,)

    return record(_xp().take(table.data, index, axis=0), (table,), closure)


def cross_entropy(logits: Tensor, labels: Any) -> Tensor:
    """The mean of -log softmax(logits)[label].  logits: (N, n), labels: (N,) integers.

    Its derivative with respect to the logits is (softmax(logits) - one_hot(labels)) / N.
    """
    xp = _xp()
    shifted = logits.data - logits.data.max(axis=-1, keepdims=True)  # does not change softmax, and keeps exp finite
    log_p = shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))
    n = len(labels)
    rows, labels = xp.arange(n), xp.asarray(labels)

    def closure(gy: Any) -> tuple[Any]:
        p = xp.exp(log_p)
        p[rows, labels] -= 1
        return (gy * p / n,)

    return record(-log_p[rows, labels].mean(), (logits,), closure)


def _xp() -> Any:
    return backend.current().xp


# The operators of Tensor.  They are attached here because autograd.py does not import this file.
_OPERATORS = {
    "__add__": add,
    "__radd__": add,
    "__sub__": sub,
    "__rsub__": lambda b, a: sub(a, b),
    "__mul__": mul,
    "__rmul__": mul,
    "__truediv__": div,
    "__rtruediv__": lambda b, a: div(a, b),
    "__matmul__": matmul,
    "__neg__": neg,
    "__getitem__": index,
    "sum": sum,
    "mean": mean,
    "reshape": reshape,
}
for _name, _operation in _OPERATORS.items():
    setattr(Tensor, _name, _operation)
