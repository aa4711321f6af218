"""Every function of a CUDA version, held against the float64 reference at small ragged shapes.

    run("cupy_cuda")        yields the name of each case and its error, as a share of the largest exact number

Used wherever these kernels run: on a GPU, in Numba's simulator (where every thread is one of Python's, so that images
must be tiny), and emulated. Reading order: after tests/kernels, which asks more, and of every version.
"""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module

import numpy as np

from minidiff import backend
from minidiff.kernels import cuda_launch
from minidiff.kernels.attention import reference as attention_reference
from minidiff.kernels.conv2d import cuda_host
from minidiff.kernels.conv2d import reference as conv2d_reference
from minidiff.kernels.conv2d.checks import output_shape
from minidiff.kernels.noise import reference as noise_reference
from minidiff.kernels.norm import reference as norm_reference
from minidiff.kernels.norm_silu_conv2d import reference as fused_reference
from minidiff.kernels.optimizer import reference as optimizer_reference

HOSTS = {  # of which module, and by which name
    "attention": ("_attention",),
    "conv2d": ("naive", "_tiled"),
    "noise": ("_noise",),
    "norm": ("_norm",),
    "optimizer": ("_optimizer",),
}


def module(operation: str, version: str):
    """A CUDA version of an operation: its kernels on the device in use."""
    return import_module(f"minidiff.kernels.{operation}.{version}")


def on_device(value):
    """float32 numbers go to the device; how many images there are, and what for, stays with the host."""
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return cuda_launch.device().xp.asarray(value)
    return value


def on_host(value):
    return tuple(map(on_host, value)) if isinstance(value, tuple) else backend.to_numpy(value)


def draw(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def exactly(arguments):
    return [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in arguments]


def error_of(function: Callable, reference: Callable, *arguments) -> float:
    """The largest difference, as a share of the largest exact number of the same result."""
    found, exact = on_host(function(*map(on_device, arguments))), reference(*exactly(arguments))
    pairs = zip(found, exact, strict=True) if isinstance(exact, tuple) else [(found, exact)]
    errors = [np.abs(np.asarray(one, np.float64) - other).max() / np.abs(other).max() for one, other in pairs]
    return float(max(errors))


def convolutions(version: str) -> Iterator[tuple[str, float]]:
    conv2d = module("conv2d", version)
    for kernel, stride, upsample in ((3, 1, False), (3, 2, False), (1, 1, False), (1, 2, False), (3, 1, True)):
        x, w, b = draw(*((1, 3, 2, 3) if upsample else (2, 5, 3, 3))), draw(kernel, kernel, 3, 5), draw(5)
        shape = output_shape(x.shape, w.shape, stride, upsample)
        gy, add, kind = draw(*shape), draw(*x.shape), f"{kernel}x{kernel} stride {stride}{' doubled' * upsample}"
        yield f"conv2d {kind}", error_of(conv2d.conv2d, conv2d_reference.conv2d, x, w, b, stride, upsample)
        back = gy, w, x.shape, stride, upsample, add
        yield f"conv2d_grad_x {kind}", error_of(conv2d.conv2d_grad_x, conv2d_reference.conv2d_grad_x, *back)
        of_w = gy, x, w.shape, stride, upsample
        yield f"conv2d_grad_w {kind}", error_of(conv2d.conv2d_grad_w, conv2d_reference.conv2d_grad_w, *of_w)
        if not upsample:
            naive = conv2d.naive
            yield f"naive conv2d {kind}", error_of(naive.conv2d, conv2d_reference.conv2d, x, w, b, stride)
            yield (
                f"naive conv2d_grad_x {kind}",
                error_of(naive.conv2d_grad_x, conv2d_reference.conv2d_grad_x, *back[:4]),
            )
            yield (
                f"naive conv2d_grad_w {kind}",
                error_of(naive.conv2d_grad_w, conv2d_reference.conv2d_grad_w, *of_w[:4]),
            )
    yield "conv2d without bias", error_of(conv2d.conv2d, conv2d_reference.conv2d, draw(1, 3, 3, 2), draw(3, 3, 2, 3))
    gy, x, whole = draw(2, 6, 7, 2), draw(2, 6, 7, 1), cuda_host.SLICE
    cuda_host.SLICE = 32  # 84 pixels are three slices
    try:
        sliced = gy, x, (1, 1, 1, 2)
        yield "conv2d_grad_w in slices", error_of(conv2d.conv2d_grad_w, conv2d_reference.conv2d_grad_w, *sliced)
    finally:
        cuda_host.SLICE = whole
    yield "conv2d_grad_b", error_of(conv2d.conv2d_grad_b, conv2d_reference.conv2d_grad_b, gy)


def norms(version: str) -> Iterator[tuple[str, float]]:
    norm, fused = module("norm", version), module("norm_silu_conv2d", version)
    x, gy, add = draw(2, 6, 11, 4) + 3, draw(2, 6, 11, 4), draw(2, 6, 11, 4)  # 66 pixels: more than a block has threads
    for silu, shape in ((False, (4,)), (True, (2, 4))):
        scale, shift = draw(*shape), draw(*shape)
        kind = f"{'with' if silu else 'without'} SiLU, scale {shape}"
        given = x, scale, shift, 2, 1e-5, silu
        yield f"group_norm {kind}", error_of(norm.group_norm, norm_reference.group_norm, *given)
        y, mean, rstd = norm_reference.group_norm(*given)
        back = gy, x, scale, shift, mean, rstd, 2, silu, add
        yield f"group_norm_grad {kind}", error_of(norm.group_norm_grad, norm_reference.group_norm_grad, *back)
        again = on_host(norm.group_norm_again(*map(on_device, (x, scale, shift, mean, rstd, 2, silu))))
        yield f"group_norm_again {kind}", float(np.abs(again - y).max() / np.abs(y).max())
    x, add, w, b, more = draw(2, 3, 5, 4) + 3, draw(2, 3, 5, 4), draw(3, 3, 4, 3), draw(2, 3), draw(2, 3, 5, 3)
    given = x, scale, shift, 2, 1e-5, w, b, more
    yield "norm_silu_conv2d", error_of(fused.norm_silu_conv2d, fused_reference.norm_silu_conv2d, *given)
    _, mean, rstd = fused_reference.norm_silu_conv2d(*given)
    back = more, x, scale, shift, mean, rstd, 2, w, add
    yield "norm_silu_conv2d_grad", error_of(fused.norm_silu_conv2d_grad, fused_reference.norm_silu_conv2d_grad, *back)


def attentions(version: str) -> Iterator[tuple[str, float]]:
    attention = module("attention", version)
    q, k, v, gy = draw(2, 3, 6), draw(2, 5, 6), draw(2, 5, 6) + 1, draw(2, 3, 6)
    yield "attention", error_of(attention.attention, attention_reference.attention, q, k, v, 2)
    p = attention_reference.attention(q, k, v, 2)[1]
    given = gy, q, k, v, p, 2
    yield "attention_grad", error_of(attention.attention_grad, attention_reference.attention_grad, *given)


def noises(version: str) -> Iterator[tuple[str, float]]:
    noise = module("noise", version)
    key, sample = (2**40 + 5, 3, 7), np.array([0, 4, 2**32 - 1])
    for name in ("random_bits", "uniform"):
        found, exact = (on_host(getattr(each, name)(key, sample, 11)) for each in (noise, noise_reference))
        yield name, float(found.tobytes() != exact.tobytes())
    z, exact = on_host(noise.normal(key, sample, 11)), noise_reference.normal(key, sample, 11)
    yield "normal in ULP", float((np.abs(z - exact) / np.spacing(np.abs(exact))).max()) * 1e-7  # at most 1 ULP
    x0, a, s = draw(3, 2, 2, 3), draw(3), draw(3)
    yield "add_noise", error_of(noise.add_noise, noise_reference.add_noise, x0, a, s, key, sample)
    for before, c in ((None, (0.5, 2.0, 0.0, 0.7)), (draw(3, 2, 2, 3), (0.5, 2.0, -1.5, 0.0))):
        given = x0, draw(3, 2, 2, 3), before, np.array(c), key, sample
        yield f"sampler_update {c}", error_of(noise.sampler_update, noise_reference.sampler_update, *given)


def optimizers(version: str) -> Iterator[tuple[str, float]]:
    optimizer = module("optimizer", version)
    arrays = [draw(150), draw(150, 1)[:, 0].copy(), draw(150) / 10, draw(150) ** 2, draw(150)]
    hyper = np.array([1e-3, 0.9, 0.999, 1e-8, 0.01, 1 - 0.9**3, 1 - 0.999**3, 0.5, 0.999])
    exact = exactly(arrays)
    there = [on_device(array) for array in arrays]
    optimizer.adamw_ema(*there, 100, hyper)
    optimizer_reference.adamw_ema(*exact, 100, hyper)
    for name, one, other in zip(("w", "g", "m", "v", "ema"), map(on_host, there), exact):
        yield f"adamw_ema {name}", float(np.abs(one - other).max() / np.abs(other).max())
    x = draw(1000)
    total = float(on_host(optimizer.square_sum(on_device(x)))[0])
    exact_total = optimizer_reference.square_sum(x.astype(np.float64))
    yield "square_sum", abs(total - exact_total) / exact_total


def run(version: str) -> Iterator[tuple[str, float]]:
    """All cases of "cupy_cuda" or "numba_cuda"; the last tells how many of the kernels have not run in any of them."""
    ran: set[str] = set()
    hosts = [getattr(module(operation, version), name) for operation, names in HOSTS.items() for name in names]
    launches = [host.launch for host in hosts]
    for host, launch in zip(hosts, launches):
        host.launch = partial(noted, launch, ran)
    try:
        for part in (convolutions, norms, attentions, noises, optimizers):
            yield from part(version)
    finally:
        for host, launch in zip(hosts, launches):
            host.launch = launch
    never = sorted({name for launch in launches for name in launch.names()} - ran)
    yield f"kernels that never ran: {', '.join(never) or 'none'}", float(len(never))


def noted(launch: Callable, ran: set[str], name: str, *arguments) -> None:
    ran.add(name)
    launch(name, *arguments)
