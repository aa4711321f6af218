"""A replayed list of calls gives the bits of the function that was captured, for other numbers, in shared memory."""

import ast
import threading
from operator import methodcaller
from pathlib import Path

import numpy as np
import pytest

from minidiff.kernels import graph, numba_memory, numba_threads
from minidiff.kernels.arena import Allocation, place
from minidiff.kernels.attention import numba_cpu as attention
from minidiff.kernels.conv2d import numba_cpu as conv2d
from minidiff.kernels.elementwise import numba_cpu as elementwise
from minidiff.kernels.norm import numba_cpu as norm
from minidiff.kernels.norm_silu_conv2d import numba_cpu as norm_silu_conv2d

SHAPE = (3, 4, 6)


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def written(x, y):
    x[1:, 0] = y[1:, 0] * 2
    x[0] += 1
    x += y
    return x


def picked(x, y):
    rows = (np.abs(y[:, 0, 0]) * 2).astype(np.int64) % 3
    return np.take(x, rows, axis=0), x[rows], x[rows, 1]


OF_NUMPY = {
    "arithmetic": lambda x, y: (x + 2 * y - x / (1 + y * y), -x, np.tanh(x) @ y.swapaxes(-1, -2)),
    "broadcasting": lambda x, y: (x * y[:, :1], np.broadcast_to(x.sum(0), x.shape) + y),
    "sums": lambda x, y: (x.sum(), x.sum((0, 2)), y.mean(axis=1, keepdims=True), x.max(), np.minimum(x, y).min(-1)),
    "shapes": lambda x, y: (x.transpose(2, 0, 1).reshape(6, -1) + 1, x[..., None].squeeze(-1), x.T.copy(), y.ravel()),
    "written": lambda x, y: (written(x.copy(), y), x),
    "its input": lambda x, y: (written(x, y),),
    "picked": picked,
    "repeated": lambda x, y: (x.repeat(2, axis=1), y[None].repeat(3, axis=0)),
    "of several": lambda x, y: (np.concatenate([x, y], 1), *np.split(x, 2, 1), np.where(x > y, x, y), np.pad(x, 1)),
    "of other types": lambda x, y: (
        (x > 0).sum(1),
        (x != y) / np.maximum((x > 0).sum(0, keepdims=True), 1),
        x.astype(float),
    ),
    "of nothing": lambda x, y: (x[:0].sum(), np.zeros_like(x), y),
    "twice the same": lambda x, y: (x, x, y[1]),
}


@pytest.mark.parametrize("name", OF_NUMPY)
def test_numpy_is_replayed(name):
    replays_to_the_bit(OF_NUMPY[name], SHAPE, SHAPE)


def replays_to_the_bit(function, *shapes):
    """Capture, replay for other numbers twice, compare each with the function itself."""
    _, captured = graph.capture(function, [numbers(i, *shape) for i, shape in enumerate(shapes)])
    made = graph.Graph(captured)
    for seed in (10, 20):
        given = [numbers(seed + i, *shape) for i, shape in enumerate(shapes)]
        for place_of, array in zip(made.inputs, given, strict=True):
            place_of[...] = array
        made.replay()
        for found, exact in zip(made.outputs, function(*given), strict=True):
            assert type(found) is np.ndarray
            assert found.dtype == np.asarray(exact).dtype
            np.testing.assert_array_equal(found, exact)


def convolution(stride, upsample):
    def all_three(x, w, b, gy):
        shape = x.shape, w.shape
        return (
            conv2d.conv2d(x, w, b, stride, upsample),
            conv2d.conv2d_grad_x(gy, w, shape[0], stride, upsample, x),
            conv2d.conv2d_grad_w(gy, x, shape[1], stride, upsample),
            conv2d.conv2d_grad_b(gy),
        )

    return all_three


KERNELS = {
    "Winograd": (convolution(1, False), (4, 8, 8, 16), (3, 3, 16, 24), (24,), (4, 8, 8, 24)),
    "Winograd, upsampled": (convolution(1, True), (4, 8, 8, 16), (3, 3, 16, 24), (24,), (4, 16, 16, 24)),
    "stride 2": (convolution(2, False), (2, 8, 8, 8), (3, 3, 8, 8), (8,), (2, 4, 4, 8)),
    "a small product": (convolution(1, False), (2, 4, 4, 8), (1, 1, 8, 8), (8,), (2, 4, 4, 8)),
    "1×1 of stride 2": (convolution(2, False), (2, 5, 4, 8), (1, 1, 8, 8), (8,), (2, 3, 2, 8)),
    "few channels": (convolution(1, False), (2, 8, 8, 16), (3, 3, 16, 3), (3,), (2, 8, 8, 3)),
    "few channels in": (convolution(1, False), (2, 8, 8, 3), (3, 3, 3, 16), (16,), (2, 8, 8, 16)),
    "elementwise": (
        lambda x, y: (elementwise.add(x, y), elementwise.concat(x, y), *elementwise.split(x, 5)),
        (40, 30, 16), (40, 30, 16),
    ),
    "group norm": (
        lambda x, s, b, g: norm.group_norm_grad(g, x, s, b, *norm.group_norm(x, s, b, 4, 1e-5, True)[1:], 4, True, g),
        (3, 6, 5, 8), (3, 8), (8,), (3, 6, 5, 8),
    ),
    "attention": (
        lambda q, k, v: attention.attention_grad(q, q, k, v, attention.attention(q, k, v, 2)[1], 2),
        (2, 9, 8), (2, 5, 8), (2, 5, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_replayed(name):
    replays_to_the_bit(*KERNELS[name])


@pytest.mark.parametrize("N", [1, 9])
def test_the_fused_kernel_is_replayed(N):
    """With enough images for all threads, and with too few."""

    def both(x, s, b, w, bias, gy):
        y, mean, rstd = norm_silu_conv2d.norm_silu_conv2d(x, s, b, 4, 1e-5, w, bias, gy)
        return y, *norm_silu_conv2d.norm_silu_conv2d_grad(gy, x, s, b, mean, rstd, 4, w, x)

    replays_to_the_bit(both, (N, 8, 8, 16), (N, 16), (16,), (3, 3, 16, 16), (16,), (N, 8, 8, 16))


def test_an_array_from_elsewhere_is_read_and_written_where_it_is():
    weights, total = numbers(0, 5), np.zeros(5, np.float32)

    def function(x):
        nonlocal total
        total += weights * x
        return (x @ graph.traced(weights),)

    x = np.arange(5, dtype=np.float32)
    _, captured = graph.capture(function, [x])
    made = graph.Graph(captured)
    weights[:], total[:], made.inputs[0][:] = 3, 0, x
    made.replay()
    np.testing.assert_array_equal(total, 3 * x)
    assert made.outputs[0] == 3 * x.sum()


def test_filters_that_stay_are_transformed_once():
    w = numbers(1, 3, 3, 16, 16)
    with conv2d.constant_filters() as _:
        _, captured = graph.capture(lambda x: (conv2d.conv2d(x, w),), [numbers(0, 4, 8, 8, 16)])
    assert [call for call in captured.calls if "transform" in str(call.function)] == []


@pytest.mark.parametrize("ask", [float, int, bool, methodcaller("item"), methodcaller("tolist")])
def test_a_number_of_an_array_cannot_be_captured(ask):
    with pytest.raises(graph.NotCapturable):
        graph.capture(lambda x: (x * ask(x.sum()),), [numbers(0, 3)])
    assert graph.active() is None


def test_a_choice_by_a_mask_cannot_be_captured():
    """The shape of its result is a number of the array."""
    with pytest.raises(graph.NotCapturable):
        graph.capture(lambda x: (x[x > 0],), [numbers(0, 3)])
    replays_to_the_bit(lambda x: (np.where(x > 0, x, 0), x[[True, False, True]]), (3,))


def test_two_captures_tell_what_one_cannot():
    """Calls that depend on a number of Python, and arrays that were made in a way that no list repeats."""
    x, count = numbers(0, 4), [0]
    twice = lambda function: [graph.capture(function, [x + i])[1] for i in range(2)]

    def counted(x):
        count[0] += 1
        return (x * count[0],)

    def hidden(x):
        return (x + np.array(list(graph.plain(x))),)

    for function in (counted, hidden):
        one, other = twice(function)
        assert not one.same(other)
    one, other = twice(lambda x: (x + np.arange(4), np.exp(x)[1:]))
    assert one.same(other)


def test_what_is_performed_waits_for_the_capture_and_is_performed_by_each_replay():
    seen = []

    def function(x):
        y = x + 1
        graph.perform(seen.append, y[0])
        return (y,)

    _, captured = graph.capture(function, [np.zeros(2, np.float32)])
    assert seen == []
    captured.perform()
    made = graph.Graph(captured)
    for performing in (False, True):
        made.inputs[0][...] = 5
        made.replay(performing)
    assert [float(each) for each in seen] == [1, 6]


def test_another_thread_is_not_captured():
    def function(x):
        other = threading.Thread(target=lambda: conv2d.conv2d_grad_b(numbers(0, 2, 3, 3, 4)))
        other.start()
        other.join()
        return (x + 1,)

    _, captured = graph.capture(function, [numbers(0, 2)])
    assert len(captured.calls) == 1


def test_arrays_that_are_never_needed_together_share_memory():
    def chain(x):
        for _ in range(20):
            x = elementwise.add(x, x)
        return (x,)

    _, captured = graph.capture(chain, [numbers(0, 1 << 16)])
    assert graph.Graph(captured).size <= 3 << 18  # two are needed at a time; a quarter of a MiB each


@pytest.mark.parametrize("seed", range(5))
def test_places_do_not_overlap_while_both_are_needed(seed):
    random = np.random.default_rng(seed)
    allocations = [Allocation(i, int(size)) for i, size in enumerate(random.integers(1, 5000, 200))]
    for allocation in allocations[:-1]:
        for call in sorted(random.integers(0, 100, 2)):
            allocation.used(int(call))
    size = place(allocations)
    used = allocations[:-1]  # nothing needs the last one
    for i, a in enumerate(used):
        assert a.offset % 64 == 0 and a.offset + a.size <= size
        for b in used[:i]:
            together = a.first <= b.last and b.first <= a.last
            assert not together or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
    at_once = max(sum(a.size for a in used if a.first <= call <= a.last) for call in range(100))
    assert at_once <= size < 1.2 * at_once


def test_memory_comes_from_the_capture_only_while_it_lasts():
    _, captured = graph.capture(lambda x: (numba_memory.empty((300, 300)), x), [numbers(0, 2)])
    assert len(captured.allocations) == 2
    assert type(numba_memory.empty((300, 300))) is np.ndarray
    assert numba_threads.threads() > 0


KERNEL_FILES = sorted(
    path
    for folder in ("attention", "conv2d", "elementwise", "norm", "norm_silu_conv2d")
    for path in (Path(graph.__file__).parent / folder).glob("*.py")
    if path.stem not in ("__init__", "reference", "checks", "ladder", "winograd") and "cuda" not in path.stem
)
UNSEEN = {"array", "asarray", "ascontiguousarray", "empty", "empty_like", "full", "ones", "zeros", "zeros_like"}


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_prepares_a_kernel_takes_memory_that_a_capture_sees(path):
    """Arrays of NumPy's own functions would be constants of the graph; compiled functions may make some inside."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef):
            continue
        decorators = " ".join(map(ast.unparse, node.decorator_list))
        if any(name in decorators for name in ("njit", "kernel", "functools.cache")):
            continue
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in {f"np.{name}" for name in UNSEEN}:
                pytest.fail(f"{path.name}, line {call.lineno}: {ast.unparse(call)[:60]}; take numba_memory's")
