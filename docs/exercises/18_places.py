"""Exercise 18: places in memory.

A list of calls needs some arrays. Of each array you know its size, and the first and the last call that need it. All
are to lie in one block of memory. Two arrays may have places that overlap only if no call needs both.

Write `place`, which chooses where each array begins. All beside one another is right, and takes too much memory.

Hint: let the largest array choose first. Each takes the lowest place at which it overlaps none of those that were
placed before and are needed at the same time as it.
"""

import sys

import numpy as np
from checking import expect, report

Array = tuple[int, int, int]  # size, first call, last call


def place(arrays: list[Array]) -> list[int]:
    """Return the offset of each array."""
    raise NotImplementedError


def at_once(arrays: list[Array]) -> int:
    """Return the size of all arrays that some call needs together: no block of memory can be smaller."""
    last = max(last for _, _, last in arrays)
    return max(sum(size for size, first, end in arrays if first <= call <= end) for call in range(last + 1))


def check() -> None:
    """Raise an error that says what is missing, unless `place` saves memory and no array loses its numbers."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 20, 60):
        for _ in range(5):
            calls = np.sort(rng.integers(0, 2 * n, (n, 2)), axis=1)
            arrays = [(int(size), int(a), int(b)) for size, (a, b) in zip(rng.integers(1, 100, n), calls)]
            offsets = list(place(list(arrays)))
            expect(len(offsets) == n and min(offsets) >= 0, f"expected {n} offsets of 0 or more, got {offsets}")
            for i in range(n):
                for j in range(i):
                    (size, a, b), (other, c, d) = arrays[i], arrays[j]
                    apart = offsets[i] + size <= offsets[j] or offsets[j] + other <= offsets[i]
                    expect(apart or b < c or d < a, f"{arrays[i]} at {offsets[i]} overlaps {arrays[j]} at {offsets[j]}")
            used, least = max(offset + size for offset, (size, _, _) in zip(offsets, arrays)), at_once(arrays)
            expect(used <= 1.3 * least, f"{n} arrays take {used}, although {least} are needed at once")


if __name__ == "__main__":
    sys.exit(report(check))
