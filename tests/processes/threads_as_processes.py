"""Worlds whose processes are threads of the test, for what does not depend on how arrays travel."""

import queue
import threading
import time
from collections import defaultdict

import numpy as np

from minidiff.processes.world import World


class ThreadWorld(World):
    """A process of a world in which each is a thread.  sent: how many bytes it has given away."""

    def __init__(self, rank, size, boxes, barrier, rows):
        self.rank, self.size = rank, size
        self._boxes, self._barrier, self._rows = boxes, barrier, rows
        self.sent = 0

    def exchange(self, peer, give, take, tag):
        if give is not None:
            self._boxes[self.rank, peer, tag].put(np.array(give))
            self.sent += give.nbytes
        box, arrived = self._boxes[peer, self.rank, tag], [take is None]

        def done():
            if not arrived[0]:
                try:
                    take[:] = box.get_nowait()
                except queue.Empty:
                    return False
                arrived[0] = True
            return True

        return done

    def gather(self, row):
        self._rows[self.rank] = np.array(row)
        self._barrier.wait(30)
        rows = np.stack([self._rows[rank] for rank in range(self.size)])
        self._barrier.wait(30)
        return rows

    def wait(self, done):
        while not done():
            time.sleep(1e-5)


def in_threads(size, run):
    """Return what run(world) returns in each of so many processes, by rank; raise the first error."""
    boxes, lock = defaultdict(queue.Queue), threading.Lock()

    class Boxes:
        def __getitem__(self, key):
            with lock:
                return boxes[key]

    barrier, rows, results, errors = threading.Barrier(size), {}, [None] * size, []

    def work(rank):
        try:
            results[rank] = run(ThreadWorld(rank, size, Boxes(), barrier, rows))
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results
