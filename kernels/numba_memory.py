"""Arrays whose memory is reused: a training step allocates the same arrays every time.

Fresh memory costs a page fault for every 4 KiB when it is touched for the first time: 1.4 ms for 8 MiB, as long as the
convolution that fills it. So `empty` keeps memory by size, and gives it out again when no array in it is referenced.
`scratch` returns buffers that a kernel needs only while it runs; the kernels of a thread use them in turn.
While a graph is captured (graph.py), both come from the capture instead.
"""

import itertools
import math
import sys
import threading
from collections.abc import Callable

import numpy as np

LINE = 64  # bytes: an array begins at a cache line, so that no vector lies in two
SMALLEST = 1 << 16  # bytes: smaller arrays come from malloc
FORGOTTEN = 10_000  # calls, some dozen training steps: a block that was not used for so long may be freed

_kept: dict[int, list[np.ndarray]] = {}  # by size in bytes: blocks of that size plus one line
_starts: dict[int, list[int]] = {}  # where in each block the first line begins
_wanted: dict[int, list[int]] = {}  # the number of the call that got each block last
_calls = itertools.count()
_lock, _of_thread = threading.Lock(), threading.local()
_nothing: tuple[np.ndarray, dict[tuple, list[np.ndarray]]] = np.empty(0, np.uint8), {}  # at a thread's first call


def scratch(purpose: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Return uninitialised float32 arrays of these shapes, for use until the next call for this purpose.

    All kernels of a Python thread take turns in the same memory for what they need while they run. purpose: "filter",
    for a filter that was packed or transformed, or "kernel", for everything else.
    """
    if (make := getattr(_of_thread, "make", None)) is not None:
        return [make(shape) for shape in shapes]
    memory, arrays = getattr(_of_thread, purpose, _nothing)
    if shapes in arrays:
        return arrays[shapes]
    starts, size = [], LINE  # where each array begins; one line more, so that it can begin at a cache line
    for shape in shapes:
        starts.append(size - LINE)
        size += -(-4 * math.prod(shape) // LINE) * LINE
    if len(memory) < size:
        memory, arrays = np.empty(size, np.uint8), {}
        setattr(_of_thread, purpose, (memory, arrays))
    first = -memory.ctypes.data % LINE
    arrays[shapes] = [np.ndarray(shape, np.float32, memory, first + start) for shape, start in zip(shapes, starts)]
    return arrays[shapes]


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Return an uninitialised float32 array of the shape, in memory that nothing else uses.

    Every view of a NumPy array references the array itself, so a block is free when only `_kept` references it: two
    references, with the argument of sys.getrefcount. (A local name would be a third, but not on every Python.)
    Before a new block is made, blocks that were free for long are freed: a program that samples one image, then two,
    then three at a time does not need the memory of all.
    """
    if (make := getattr(_of_thread, "make", None)) is not None:
        return make(shape)
    size = 4 * math.prod(shape)
    if size < SMALLEST:
        return np.empty(shape, np.float32)
    with _lock:
        call, blocks = next(_calls), _kept.setdefault(size, [])
        starts, wanted = _starts.setdefault(size, []), _wanted.setdefault(size, [])
        for i in range(len(blocks)):
            if sys.getrefcount(blocks[i]) == 2:
                wanted[i] = call
                break
        else:
            forget(call - FORGOTTEN)
            i = len(blocks)
            blocks.append(np.empty(size + LINE, np.uint8))
            starts.append(-blocks[i].ctypes.data % LINE)
            wanted.append(call)
        return np.ndarray(shape, np.float32, blocks[i], starts[i])


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    """Return a float32 array of zeros, as `empty` does."""
    array = empty(shape)
    array[...] = 0
    return array


def made_by(make: Callable[[tuple[int, ...]], np.ndarray] | None) -> None:
    """Let make(shape) provide all memory of this thread from now on; None: as usual."""
    _of_thread.make = make


def forget_all() -> None:
    """Free the blocks that no array uses."""
    with _lock:
        forget(next(_calls) + 1)


def forget(call: int) -> None:
    """Free the blocks that no array uses, and that were not used since this call."""
    for size, blocks in _kept.items():
        for i in reversed(range(len(blocks))):
            if _wanted[size][i] < call and sys.getrefcount(blocks[i]) == 2:
                del blocks[i], _starts[size][i], _wanted[size][i]
