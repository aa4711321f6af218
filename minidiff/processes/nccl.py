"""Gradients that travel from GPU to GPU by NCCL, through CuPy; MPI carries everything else.

Idea: on a GPU, an exchange is one more piece of work in the queue of the device.  It begins when what was queued before
it is done, and what is queued after it waits for it.  So nothing needs to be asked whether it has ended.
Each process computes on one GPU: process k of a machine takes its k-th.
Not run on several GPUs so far: tests run it on the CPU, with a stand-in for NCCL.
Source: NVIDIA, NCCL documentation, "Point-to-point communication".
"""

from typing import Any

import numpy as np

from minidiff import backend
from minidiff.processes.world import Done, World

DEFAULT_STREAM = 0


class NcclWorld(World):
    """The processes of `inner`, whose arrays lie on GPUs.

    nccl: cupy.cuda.nccl, or what stands in for it.
    """

    def __init__(self, inner: World, nccl: Any) -> None:
        self.rank, self.size, self.place, self._inner, self._nccl = inner.rank, inner.size, inner.place, inner, nccl
        own = nccl.get_unique_id() if inner.rank == 0 else ()
        ((first,), *_) = inner.share([np.array(own, np.int64)])
        self._communicator = nccl.NcclCommunicator(inner.size, tuple(first.tolist()), inner.rank)

    def exchange(self, peer: int, give: Any, take: Any, tag: int) -> Done:
        """As `World.exchange`; both processes must start their exchanges in the same order, whatever their tags."""
        self._nccl.groupStart()  # so that neither of the two waits for the other
        for array, call in ((give, self._communicator.send), (take, self._communicator.recv)):
            if array is not None:
                pointer = array.__cuda_array_interface__["data"][0]
                call(pointer, array.size, self._nccl.NCCL_FLOAT32, peer, DEFAULT_STREAM)
        self._nccl.groupEnd()
        return lambda: True

    def gather(self, row: np.ndarray) -> np.ndarray:
        return self._inner.gather(row)

    def wait(self, done: Done) -> None:
        self._inner.wait(done)


def select_gpu(here: World) -> None:
    """Let this process compute on the GPU of its place, if the backend computes on GPUs and there are processes beside.

    Call it before anything is put on the device.
    """
    if here.size > 1 and backend.current().xp is not np:
        from cupy import cuda

        cuda.Device(here.place % cuda.runtime.getDeviceCount()).use()


def on_gpus(here: World) -> World:
    """Return the same processes, with gradients that stay on the GPUs if the backend computes on them."""
    if here.size == 1 or backend.current().xp is np:
        return here
    from cupy.cuda import nccl

    return NcclWorld(here, nccl)
