"""Exercise 19: adding up in a ring.

n processes stand in a ring, each with an array of n pieces. In n - 1 rounds, each process sends one piece to its right
neighbour and adds the piece that its left neighbour sends to its own. Then each knows the sum of one piece. In n - 1
more rounds these sums go around, and every process knows all of them.

Write what process `rank` does, as a generator. It yields the number of the piece that it sends to its right neighbour
and that piece's content, and receives from `yield` the piece that has come from the left:

    arrived = yield piece, x[piece].copy()

Hint: in the first round, process r sends piece r. What arrives then is piece r - 1 (modulo n), which it adds to its own
and sends on in the next round.
"""

import sys
from collections.abc import Generator

import numpy as np
from checking import expect, report


def ring(rank: int, n: int, x: np.ndarray) -> Generator[tuple[int, np.ndarray], np.ndarray, None]:
    """x: (n, k), the array of this process, whose rows are its pieces. Leaves in x the sum over all processes."""
    raise NotImplementedError
    yield


def run(n: int, arrays: list[np.ndarray]) -> int:
    """Let the processes work side by side; return how many numbers each has sent."""
    processes = [ring(rank, n, x) for rank, x in enumerate(arrays)]
    sent = [next(process, None) for process in processes]
    numbers = 0
    while any(message is not None for message in sent):
        expect(all(message is not None for message in sent), "some processes have ended, and others still send")
        numbers += len(sent[0][1])
        expect(numbers < 100 * n, "the processes do not end")
        answers = []
        for rank, process in enumerate(processes):
            try:
                answers.append(process.send(sent[(rank - 1) % n][1]))
            except StopIteration:
                answers.append(None)
        sent = answers
    return numbers


def check() -> None:
    """Raise an error that says what is missing, unless `ring` adds up."""
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 8):
        arrays = [rng.integers(-9, 10, (n, 4)).astype(float) for _ in range(n)]
        total = np.sum(arrays, axis=0)
        numbers = run(n, arrays)
        for rank, x in enumerate(arrays):
            expect(np.array_equal(x, total), f"process {rank} of {n} has not got the sum of all arrays")
        most = 2 * (n - 1) * 4
        expect(numbers == most, f"each of {n} processes should send {most} numbers, and sent {numbers}")


if __name__ == "__main__":
    sys.exit(report(check))
