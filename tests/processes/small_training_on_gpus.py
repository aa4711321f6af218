"""small_training.py on the emulated GPU, whose gradients travel through what stands in for NCCL."""

import sys

from minidiff import train
from minidiff.processes.mpi import MpiWorld, import_mpi
from minidiff.processes.nccl import NcclWorld
from minidiff.training import preview
from tests import backends  # puts the emulated GPU in the place of one
from tests.processes.nccl_stand_in import StandIn

if __name__ == "__main__":
    assert not backends.WITH_A_GPU
    preview.FINAL = preview.PREVIEW = preview.SampleGrid(count=1, steps=1)
    used: list[StandIn] = []

    def on_gpus(here):
        if not isinstance(here, MpiWorld):
            return here
        used.append(StandIn(import_mpi().COMM_WORLD.Dup()))
        return NcclWorld(here, used[0])

    setattr(train, "on_gpus", on_gpus)  # noqa: B010
    setattr(train, "select_gpu", lambda here: None)  # noqa: B010
    train.main(sys.argv[1:])
    print("exchanges:", sum(each.calls for each in used))
