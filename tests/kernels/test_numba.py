"""What holds for all Numba kernels: float32 only, one signature a kernel, one thread for BLAS."""

import importlib
import itertools
import json
import subprocess
import sys

import numba
import numpy as np
import pytest
import threadpoolctl

from minidiff import backend
from minidiff.kernels import numba_math, numba_threads
from minidiff.kernels.conv2d import implicit_gemm
from minidiff.kernels.conv2d.pack import Window
from minidiff.kernels.numba_product import ROWS


@pytest.fixture(scope="module")
def table():
    return backend.get("numba")


def float32(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_refuses_float64_in_one_line(table):
    x, w, q, flat = np.ones((1, 4, 4, 2)), np.ones((3, 3, 2, 2)), np.ones((1, 3, 2)), np.ones(5)
    x32, w32, c, key, one = x.astype(np.float32), w.astype(np.float32), np.ones(2), (0, 0, 0), np.arange(1)
    c32, one32 = np.ones(2, np.float32), np.ones((1, 1), np.float32)
    cases = {
        "conv2d: w must be float32, got float64": lambda: table.conv2d(x32, w),
        "conv2d: b must be float32, got float64": lambda: table.conv2d(x32, w32, c),
        "conv2d_grad_x: gy must be float32, got float64": lambda: table.conv2d_grad_x(x, w, x.shape),
        "conv2d_grad_w: x must be float32, got float64": lambda: table.conv2d_grad_w(x32, x, w.shape),
        "conv2d_grad_b: gy must be float32, got float64": lambda: table.conv2d_grad_b(x),
        "norm_silu_conv2d: x must be float32, got float64": lambda: table.norm_silu_conv2d(x, c, c, 1, 1e-5, w, c),
        "norm_silu_conv2d: residual must be float32, got float64": lambda: table.norm_silu_conv2d(
            x32, c32, c32, 1, 1e-5, w32, c32, x
        ),
        "norm_silu_conv2d_grad: w must be float32, got float64": lambda: table.norm_silu_conv2d_grad(
            x32, x32, c32, c32, one32, one32, 1, w
        ),
        "concat: b must be float32, got float64": lambda: table.concat(x32, x),
        "split: x must be float32, got float64": lambda: table.split(x, 1),
        "group_norm: x must be float32, got float64": lambda: table.group_norm(x, c, c, 1, 1e-5, True),
        "attention: q must be float32, got float64": lambda: table.attention(q, q, q, 1),
        "add_noise: x0 must be float32, got float64": lambda: table.add_noise(x, c[:1], c[:1], key, one),
        "sampler_update: x0_hat must be float32, got float64": lambda: table.sampler_update(
            x32, x, None, (1, 1, 0, 0), key, one
        ),
        "square_sum: x must be float32, got float64": lambda: table.square_sum(flat),
        "adamw_ema: w must be float32, got float64": lambda: table.adamw_ema(*[flat] * 5, 0, np.ones(9)),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError) as raised:
            call()
        assert str(raised.value) == message


def test_one_signature_a_kernel(table):
    """Compiling is what a user waits for, so neither layout, nor what may be written, nor options compile anew."""
    x, w, b, scale = float32(2, 6, 5, 4), float32(3, 3, 4, 4), float32(4), float32(2, 4)
    many, wide = float32(4, 8, 8, 8), float32(3, 3, 8, 8)  # Winograd's way is taken for these
    fixed, fixed_many = x.copy(), many.copy()
    fixed.flags.writeable = fixed_many.flags.writeable = False
    large = float32(40_000)
    for picture, pictures in ((x, many), (fixed, fixed_many), (np.asfortranarray(x), np.asfortranarray(many))):
        for stride in (1, 2):
            y = table.conv2d(picture, w, b, stride)
            table.conv2d_grad_x(y, w, x.shape, stride)
            table.conv2d_grad_x(y, w, x.shape, stride, gx_so_far=picture)
            table.conv2d_grad_w(y, picture, w.shape, stride)
        table.conv2d(picture, w)
        for upsample in (False, True):
            y = table.conv2d(pictures, wide, None, 1, upsample)
            table.conv2d_grad_x(y, wide, many.shape, 1, upsample)
            table.conv2d_grad_x(y, wide, many.shape, 1, upsample, gx_so_far=pictures)
            table.conv2d_grad_w(y, pictures, wide.shape, 1, upsample)
        table.conv2d_grad_b(picture)
        for z, filters, add in (
            (picture, w, None),
            (picture, w, picture),
            (pictures, wide, None),
            (pictures, wide, many),
        ):
            bias = filters[0, 0, 0]
            for s in (bias, np.tile(bias, (len(z), 1))):
                y, mean, rstd = table.norm_silu_conv2d(z, s, s, 2, 1e-5, filters, s, add)
                table.norm_silu_conv2d_grad(y, z, s, s, mean, rstd, 2, filters, add)
        table.split(table.concat(picture, picture), 4)
        table.add(large, large[::-1])
        for s in (scale, scale[0]):
            y, mean, rstd = table.group_norm(picture, s, s, 2, 1e-5, s is scale)
            table.group_norm_grad(y, picture, s, s, mean, rstd, 2, s is scale)
            table.group_norm_grad(y, picture, s, s, mean, rstd, 2, s is scale, gx_so_far=picture)
        q = picture.reshape(2, 30, 4)
        table.attention_grad(q, q, q, q, table.attention(q, q, q, 2)[1], 2)
        for sample in (np.arange(2), np.arange(2, dtype=np.uint32), np.arange(4)[::2]):
            table.add_noise(picture, scale[:, 0], np.ones(2), (1, 2, 3), sample)
            table.sampler_update(picture, picture, None, (1, 1, 0, 0), (2**63, 2, 3), sample)
            table.sampler_update(picture, picture, x, (1, 1, 1, 1), (1, 2, 3), sample)
    operations = ("attention", "conv2d", "elementwise", "noise", "norm", "norm_silu_conv2d", "optimizer")
    beside = (
        "pack",
        "few_channels",
        "implicit_gemm",
        "winograd_transforms",
        "winograd_forward",
        "winograd_backward_filter",
    )
    places = [f"{operation}.numba_cpu" for operation in operations] + [f"conv2d.{name}" for name in beside]
    for place in places:
        module = importlib.import_module(f"minidiff.kernels.{place}")
        for name, kernel in vars(module).items():
            if hasattr(kernel, "signatures") and kernel.__module__ == module.__name__:
                assert len(kernel.signatures) <= 1, f"{place}.{name} was compiled for {kernel.signatures}"


def test_adamw_refuses_what_it_could_not_update(table):
    w = float32(20)[::2]
    rest = [float32(10) for _ in range(4)]
    with pytest.raises(ValueError, match=r"^adamw_ema: w is updated in place and must be C-contiguous$"):
        table.adamw_ema(w, *rest, 0, np.ones(9))


def test_blocks_cover_the_lines():
    """They share the lines evenly, and fit into their cache unless a line or a few pixels do not."""
    for lines, across, C_in, C_out, K, step in itertools.product(
        (1, 2, 15, 1000), (1, 7, 32, 1000), (1, 3, 300), (1, 64), (1, 3), (1, 2)
    ):
        x_shape = 1, lines * step, across * step, C_in
        block, (seen, outputs) = implicit_gemm._blocks(x_shape, Window(K, K, 0, 0, step), lines, across, C_out)
        workers, line = seen[0], ((across - 1) * step + K) * C_in
        assert 1 <= block <= -(-lines // workers) and outputs[0] == workers
        assert seen[1] >= ((block - 1) * step + K) * line
        assert outputs[1] >= block * across and outputs[1] % ROWS == 0 and outputs[2] >= C_out
        least = (block - 1) * across < 4 * ROWS
        assert least or block * (step * line + across * outputs[2]) <= implicit_gemm.BUFFER


def test_every_blas_is_set_to_one_thread():
    """In a fresh process: other tests may have changed the pools of this one."""
    code = """
import json, threadpoolctl
from minidiff.kernels import numba_threads
print(json.dumps([pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]))
"""
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    threads = json.loads(run.stdout)
    if not threads:
        pytest.skip("threadpoolctl cannot set this machine's BLAS")
    assert set(threads) == {1}


def test_says_that_blas_cannot_be_set(monkeypatch):
    monkeypatch.setattr(threadpoolctl, "threadpool_info", lambda: [{"user_api": "openmp", "filepath": "libgomp.so"}])
    with pytest.warns(RuntimeWarning) as warned:
        numba_threads.one_thread_for_numpy()
    said = "this BLAS has no thread setting that threadpoolctl knows: its threads may slow the kernels down"
    assert [str(warning.message) for warning in warned] == [said]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numba.vectorize reports the NaN asked for here
def test_exp():
    @numba.vectorize
    def exp(x):
        return numba_math.exp(x)

    x = np.linspace(-87, 87, 100_001, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    assert (np.abs(exp(x) - exact) / np.spacing(exact.astype(np.float32))).max() < 2
    ends = exp(np.array([np.nan, np.inf, -np.inf, 0], np.float32))
    assert np.isnan(ends[0]) and list(ends[1:]) == [*exp(np.array([87, -87], np.float32)), 1]
