"""Exercise 17: a block of a GPU, on one core.

The threads of a block run in parallel, and wait for one another only at barriers. Chapter 17 tests kernels without a
GPU by running the threads in turns: each runs until it reaches a barrier. In Python a thread that can stop is a
generator:

    def reverse(thread, a, shared):
        shared[thread] = a[thread]
        yield                               # a barrier
        a[thread] = shared[len(a) - 1 - thread]

Write `run_block`, which runs such threads from barrier to barrier, in the given order.

Hint: next(thread, END) runs a generator up to its next yield, and returns END if there is none.
"""

import sys
from collections.abc import Generator, Sequence

import numpy as np
from checking import expect, report


def run_block(threads: Sequence[Generator], order: Sequence[int]) -> int:
    """Run all threads to their end, between two barriers one after the other in this order of their numbers.

    Returns how many barriers there were. Raises RuntimeError if some threads end while others wait at a barrier.
    """
    raise NotImplementedError


def reverse(thread, a, shared):
    shared[thread] = a[thread]
    yield
    a[thread] = shared[len(a) - 1 - thread]


def careless(thread, a, shared):
    shared[thread] = a[thread]
    a[thread] = shared[len(a) - 1 - thread]
    yield


def add_up(thread, a, shared):
    shared[thread] = a[thread]
    yield
    half = len(a) // 2
    while half:
        if thread < half:
            shared[thread] += shared[thread + half]
        yield
        half //= 2
    a[thread] = shared[0]


def stuck(thread, a, shared):
    if thread < 3:
        yield
    a[thread] = 0


def launch(kernel, n, backwards):
    """What the kernel makes of 1, 2, ..., n, and how many barriers it took."""
    a, shared, order = np.arange(1, n + 1), np.zeros(n, int), range(n)
    barriers = run_block([kernel(thread, a, shared) for thread in range(n)], order[::-1] if backwards else order)
    return a.tolist(), barriers


def check() -> None:
    """Raise an error that says what is missing, unless `run_block` is right."""
    for backwards in (False, True):
        found, barriers = launch(reverse, 8, backwards)
        expect(found == [8, 7, 6, 5, 4, 3, 2, 1], f"1 ... 8 reversed became {found}")
        expect(barriers == 1, f"reversing has 1 barrier, found {barriers}")
        found, barriers = launch(add_up, 16, backwards)
        expect(found == [136] * 16, f"the sum of 1 ... 16 is 136, found {found}")
        expect(barriers == 5, f"adding up 16 numbers has 5 barriers, found {barriers}")
        try:
            launch(stuck, 8, backwards)
            said = "nothing"
        except RuntimeError:
            said = "RuntimeError"
        expect(said == "RuntimeError", "three threads of eight wait at a barrier: that is a RuntimeError")
    there, back = launch(careless, 8, False)[0], launch(careless, 8, True)[0]
    expect(there != back, "a kernel with a barrier too late should show: both orders gave the same")


if __name__ == "__main__":
    sys.exit(report(check))
