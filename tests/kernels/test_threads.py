"""What the number of threads may change: the time that a kernel takes, and the bits of the gradients of filters."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minidiff import backend
from minidiff.kernels.raster import reference as raster
from tests.backends import RUN_HERE

KEY, SAMPLE = (1, 2, 3), np.arange(4)


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32)


def discs(n):
    """Pictures of one disc each, at random places."""
    shapes = np.zeros((n, 1, raster.COLUMNS), np.float32)
    shapes[:, 0, 0], shapes[:, 0, 3:5], shapes[:, 0, 11:15] = raster.ELLIPSE, 0.5, 1
    shapes[:, 0, 1:3] = 0.3 * draw(n, 2)
    return shapes, np.ones(n, np.int64), 16


x, w, narrow = draw(2, 37, 41, 16), draw(3, 3, 16, 20), draw(1, 1, 16, 20)
gy, gy_half, gy_double = draw(2, 37, 41, 20), draw(2, 19, 21, 20), draw(2, 74, 82, 20)
w5, w_few, gy_few = draw(5, 5, 16, 20), draw(3, 3, 16, 3), draw(2, 37, 41, 3)  # what Winograd has no part in
pictures, scale = draw(4, 16, 24, 32), draw(4, 32)
mean, rstd = draw(4, 8), 1 + draw(4, 8) ** 2
q, p = draw(3, 67, 48), np.full((3, 3, 67, 67), 1 / 67, np.float32)
flat = draw(300_003)
hyper = np.full(9, 0.5)
one, five, w32 = draw(1, 32, 32, 32), draw(5, 12, 20, 32), draw(3, 3, 32, 33)  # fewer pictures than threads, and more
few_tiles, wide = draw(1, 10, 12, 32), draw(3, 3, 32, 100)  # whose columns are shared out, as the tiles are few


def moved(table):
    """The arrays that adamw_ema updates in place."""
    arrays = [np.abs(draw(300_003, seed=seed)) for seed in range(5)]
    table.adamw_ema(*arrays, 100_000, hyper)
    return arrays


def constant(table):
    """A convolution with a filter brought to its points, and one with the filter as it is kept."""
    with table.constant_filters():
        return table.conv2d(x, w), table.conv2d(x, w)


def normalised(table, x):
    return table.norm_silu_conv2d(x, scale[0], scale[1], 8, 1e-5, w32, w32[0, 0, 0])


def normalised_grad(table, x):
    gy, mean, rstd = draw(*x.shape[:3], 33), draw(len(x), 8), 1 + draw(len(x), 8, seed=1) ** 2
    return table.norm_silu_conv2d_grad(gy, x, scale[0], scale[1], mean, rstd, 8, w32)


# Every kernel, with enough to do for several threads, and sizes that none of them divides.
# fmt: off
SAME_FOR_ANY_NUMBER = {
    "conv2d": lambda t: (
        t.conv2d(x, w, w[0, 0, 0]), t.conv2d(x, w, None, 2), t.conv2d(x, narrow), t.conv2d(x, w, None, 1, True),
        t.conv2d(x, w5), t.conv2d(x, w_few),
        t.conv2d(few_tiles, wide, wide[0, 0, 0]), t.conv2d(few_tiles, wide, None, 1, True),
    ),
    "conv2d_grad_x": lambda t: (
        t.conv2d_grad_x(gy, w, x.shape), t.conv2d_grad_x(gy_half, w, x.shape, 2),
        t.conv2d_grad_x(gy_double, w, x.shape, 1, True), t.conv2d_grad_x(gy, w5, x.shape),
        t.conv2d_grad_x(gy_few, w_few, x.shape),
        t.conv2d_grad_x(few_tiles, wide.swapaxes(2, 3), (1, 10, 12, 100)),
        t.conv2d_grad_x(few_tiles, wide.swapaxes(2, 3), (1, 5, 6, 100), 1, True),
    ),
    "conv2d_grad_b": lambda t: (t.conv2d_grad_b(gy), t.conv2d_grad_b(gy.reshape(1, 1, -1, 20))),
    "constant_filters": constant,
    "norm_silu_conv2d": lambda t: (*normalised(t, one), *normalised(t, five)),
    "add": lambda t: (t.add(flat, flat),),
    "concat": lambda t: (t.concat(x, gy),),
    "split": lambda t: t.split(x, 5),
    "group_norm": lambda t: t.group_norm(pictures, scale, scale, 8, 1e-5, True),
    "group_norm_grad": lambda t: t.group_norm_grad(pictures, pictures, scale, scale, mean, rstd, 8, True),
    "attention": lambda t: t.attention(q, q, q, 3),
    "attention_grad": lambda t: t.attention_grad(q, q, q, q, p, 3),
    "random_bits": lambda t: (t.random_bits(KEY, SAMPLE, 5_003),),
    "uniform": lambda t: (t.uniform(KEY, SAMPLE, 5_003),),
    "normal": lambda t: (t.normal(KEY, SAMPLE, 5_003),),
    "add_noise": lambda t: t.add_noise(pictures, scale[:, 0], scale[:, 1], KEY, SAMPLE),
    "sampler_update": lambda t: (t.sampler_update(pictures, pictures, pictures, hyper[:4], KEY, SAMPLE),),
    "square_sum": lambda t: (np.float64(t.square_sum(flat)),),
    "adamw_ema": moved,
    "raster": lambda t: t.raster(*discs(9)),
}
SAME_FOR_THE_SAME_NUMBER = {
    "conv2d_grad_w": lambda t: (
        t.conv2d_grad_w(gy, x, w.shape), t.conv2d_grad_w(gy_half, x, w.shape, 2),
        t.conv2d_grad_w(gy_double, x, w.shape, 1, True), t.conv2d_grad_w(gy, x, w5.shape),
        t.conv2d_grad_w(gy_few, x, w_few.shape),
    ),
    "norm_silu_conv2d_grad": lambda t: (*normalised_grad(t, one), *normalised_grad(t, five)),
}
# fmt: on


def results(call, threads, number):
    threads(number)
    return [np.array(result) for result in call(backend.get("numba"))]


def bits(call, threads, number):
    return [result.tobytes() for result in results(call, threads, number)]


def test_each_kernel_promises_something():
    graphs = {"capture", "Graph", "traced", "plain", "perform"}  # compute nothing themselves
    kernels = {field.name for field in dataclasses.fields(backend.Backend)} - {"name", "xp", "threads"} - graphs
    assert SAME_FOR_ANY_NUMBER.keys() | SAME_FOR_THE_SAME_NUMBER.keys() == kernels


@pytest.mark.parametrize("name", SAME_FOR_ANY_NUMBER)
def test_any_number_gives_the_same_bits(threads, name):
    call = SAME_FOR_ANY_NUMBER[name]
    two = bits(call, threads, 2)
    assert two == bits(call, threads, 1)
    assert two == bits(call, threads, 2)


@pytest.mark.parametrize("name", SAME_FOR_THE_SAME_NUMBER)
def test_the_same_number_gives_the_same_bits(threads, name):
    call = SAME_FOR_THE_SAME_NUMBER[name]
    for number in (1, 2):
        assert bits(call, threads, number) == bits(call, threads, number)
    for a, b in zip(results(call, threads, 1), results(call, threads, 2)):
        assert np.abs(a - b).max() < 1e-5 * np.abs(a).max()  # float32 sums in another order


@pytest.mark.parametrize("name", RUN_HERE)
@pytest.mark.parametrize("number", [0, -1, 1_000_000])
def test_a_number_that_cannot_be_is_one_line(name, number):
    line = rf"^threads must be from 1 to \d+, as many as this process may use, got {number}$"
    with pytest.raises(ValueError, match=line):
        backend.get(name).threads(number)


def run(program, **environment):
    """What a fresh process prints as JSON: its pools are as the kernels left them."""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_numba_takes_blas_back_from_numpy():
    """Products inside kernels take one thread even after NumPy had been given two; one thread each at least."""
    program = """
import json, os, threadpoolctl
from minidiff import backend
blas = lambda: [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
backend.use("numba")
most = min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
if blas():
    backend.use("numpy", most)
between = blas()
backend.use("numba")
print(json.dumps([most, between, blas()]))
"""
    most, between, after = run(program)
    if not after:
        pytest.skip("threadpoolctl cannot set this machine's BLAS")
    assert set(between) == {most}
    assert set(after) == {1}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux tells what each thread did")
@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.release), 2])
def test_no_more_threads_work_than_were_asked_for(threads, number):
    """Counted by the system: the processor time that each of the process' threads gains."""
    threads(number)  # or skip
    program = f"""
import json, time
from pathlib import Path
import numpy as np
from minidiff import backend

table = backend.use("numba", {number})
x, w = np.ones((4, 32, 32, 64), np.float32), np.ones((3, 3, 64, 64), np.float32)

def work(seconds):
    start = time.process_time()
    while time.process_time() - start < seconds:
        table.conv2d_grad_w(table.conv2d_grad_x(table.conv2d(x, w), w, x.shape), x, w.shape)

def ticks():
    # Of one hundredth of a second. The name of the thread, in parentheses, may hold anything.
    texts = [(task.name, (task / "stat").read_text()) for task in Path("/proc/self/task").iterdir()]
    return {{name: sum(map(int, text.rpartition(")")[2].split()[11:13])) for name, text in texts}}

work(0.01)  # starts the threads
before = ticks()
work(0.3)
print(json.dumps([after - before.get(name, 0) for name, after in ticks().items()]))
"""
    busy = [gained for gained in run(program) if gained > 2]  # two ticks: what a thread takes to fall asleep
    assert len(busy) == number


def test_numbas_own_variable_holds():
    program = "from minidiff import backend; print(backend.use('numba').threads())"
    assert run(program, NUMBA_NUM_THREADS="1") == 1


def test_a_variable_that_cannot_be_is_one_line():
    program = (
        "import json\nfrom minidiff import backend\n"
        "try:\n    backend.use('numba')\nexcept backend.MinidiffError as error:\n    print(json.dumps(str(error)))"
    )
    line = "backend 'numba' cannot run here: Number of threads specified must be > 0; try numpy"
    assert run(program, NUMBA_NUM_THREADS="0") == line
