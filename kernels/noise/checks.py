"""Checks of keys, sample numbers, and the arguments of `add_noise` and `sampler_update`."""

from typing import Any

Shape = tuple[int, ...]


def check_key(name: str, key: tuple[int, int, int], sample: Any, n: int) -> None:
    """Raise ValueError in one line unless the key's numbers fit the bits that they have."""
    seed, stream, step = key
    for what, number, bits in (("seed", seed, 64), ("stream", stream, 32), ("step", step, 32)):
        if not 0 <= number < 2**bits:
            raise ValueError(f"{name}: {what} must lie in 0..2**{bits} - 1, got {number}")
    if sample.ndim != 1 or sample.dtype.kind not in "iu":
        raise ValueError(f"{name}: sample must be (N,) integers, got shape {sample.shape} of {sample.dtype}")
    if sample.size and (int(sample.min()) < 0 or int(sample.max()) >= 2**32):
        raise ValueError(f"{name}: samples must lie in 0..2**32 - 1, got {sample.min()}..{sample.max()}")
    if not 0 <= n <= 2**34:
        raise ValueError(f"{name}: n must lie in 0..2**34, got {n}")


def check_add_noise(x0_shape: Shape, a_shape: Shape, s_shape: Shape, sample: Any) -> None:
    """Raise ValueError in one line unless there is one a, one s and one sample for each image."""
    N = x0_shape[0]
    for what, shape in (("a", a_shape), ("s", s_shape), ("sample", sample.shape)):
        if tuple(shape) != (N,):
            raise ValueError(f"add_noise: {what} must be ({N},), one for each image, got shape {tuple(shape)}")


def check_sampler_update(x_shape: Shape, x0_hat_shape: Shape, x0_hat_last_shape: Any, c: Any, sample: Any) -> None:
    """Raise ValueError in one line unless the shapes fit each other."""
    for what, shape in (("x0_hat", x0_hat_shape), ("x0_hat_last", x0_hat_last_shape)):
        if shape is not None and tuple(shape) != tuple(x_shape):
            raise ValueError(f"sampler_update: {what} must be {tuple(x_shape)} like x, got shape {tuple(shape)}")
    if len(c) != 4:
        raise ValueError(f"sampler_update: c must hold 4 numbers, got {len(c)}")
    if x0_hat_last_shape is None and c[2] != 0:
        raise ValueError(f"sampler_update: c[2] is {c[2]} but there is no x0_hat_last")
    if sample.shape != (x_shape[0],):
        raise ValueError(
            f"sampler_update: sample must be ({x_shape[0]},), one for each image, got shape {sample.shape}"
        )
