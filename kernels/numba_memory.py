"""Arrays whose memory is used again: a training step makes the same arrays every time.

Fresh memory costs a page fault for every 4 KiB that is touched first: 1.4 ms for 8 MiB, as long as the convolution
that fills it. So memory is kept here by size, and given out again once nobody holds an array in it.
"""

import itertools
import math
import sys
import threading

import numpy as np

LINE = 64  # bytes: an array starts with a cache line, so that no vector straddles two
SMALLEST = 1 << 16  # bytes: smaller arrays are malloc's business
FORGOTTEN = 10_000  # calls, some dozen training steps: a block that nobody wanted for so long may go

_kept: dict[int, list[np.ndarray]] = {}  # size in bytes: blocks of so many, and of one line more
_starts: dict[int, list[int]] = {}  # where in each block the first line begins
_wanted: dict[int, list[int]] = {}  # the number of the call that got each block last
_calls = itertools.count()
_lock, _of_thread = threading.Lock(), threading.local()


def scratch(purpose: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Float32 arrays of these shapes with anything in them, for use until the next call for this purpose.

    What a kernel needs while it runs, all kernels of a Python thread have in the same memory in turn. purpose:
    "filter", for a filter brought into another form, or "kernel", for all else.
    """
    memory, arrays = getattr(_of_thread, purpose, (b"", {}))
    if shapes in arrays:
        return arrays[shapes]
    starts, size = [], LINE  # where each array begins; with a line to begin at a cache line
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
    """A float32 array of the shape with anything in it, in memory that nothing else uses.

    NumPy lets every view of an array hold the array itself, so memory is free when only `_kept` holds it: two
    references, with the one that sys.getrefcount gets. (A name for it here would be a third, but not on every Python.)
    Before a new block is made, those go that were free for long: whoever draws one picture, then two, then three at a
    time does not need the memory of all.
    """
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


def forget(call):
    """Let blocks go that are free, and that nobody has wanted since this call."""
    for size, blocks in _kept.items():
        for i in reversed(range(len(blocks))):
            if _wanted[size][i] < call and sys.getrefcount(blocks[i]) == 2:
                del blocks[i], _starts[size][i], _wanted[size][i]
