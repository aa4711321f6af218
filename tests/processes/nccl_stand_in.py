"""What stands in for cupy.cuda.nccl where there are no GPUs: the same calls, on the memory of the host, through MPI."""

import ctypes

import numpy as np

NCCL_FLOAT32 = 7
SIZE_OF = {NCCL_FLOAT32: 4}


class StandIn:
    """The functions of the module, for processes under MPI.  comm: a communicator that nobody else uses."""

    NCCL_FLOAT32 = NCCL_FLOAT32

    def __init__(self, comm):
        self.comm, self.waiting, self.depth, self.calls = comm, [], 0, 0

    def get_unique_id(self):
        return tuple(range(-64, 64))

    def NcclCommunicator(self, size, unique_id, rank):  # its name
        assert unique_id == tuple(range(-64, 64)) and (size, rank) == (self.comm.Get_size(), self.comm.Get_rank())
        return self

    def groupStart(self):
        self.depth += 1

    def groupEnd(self):
        """Do everything that was asked for since `groupStart`; return when it is done, as a stream would show it."""
        self.depth -= 1
        requests = [start(memory, peer) for start, memory, peer in self.waiting]
        self.waiting.clear()
        for request in requests:
            request.Wait()

    def send(self, pointer, count, dtype, peer, stream):
        self._later(self.comm.Isend, pointer, count, dtype, peer, stream)

    def recv(self, pointer, count, dtype, peer, stream):
        self._later(self.comm.Irecv, pointer, count, dtype, peer, stream)

    def _later(self, start, pointer, count, dtype, peer, stream):
        assert self.depth == 1 and stream == 0 and isinstance(count, int)
        self.calls += 1
        memory = np.frombuffer((ctypes.c_byte * (count * SIZE_OF[dtype])).from_address(pointer), np.uint8)
        self.waiting.append((start, memory, peer))
