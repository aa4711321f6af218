"""The command that trains, with pictures that cost nothing: `python -m tests.processes.small_training OPTIONS`.

Words of the form NAME=VALUE before the options plant a fault: see `plant`.
"""

import math
import os
import signal
import sys
import time

from minidiff import train
from minidiff.processes import world
from minidiff.training import loop, preview
from minidiff.training.trainer import Trainer


def at(step, rank, do):
    """Call do(trainer) in process `rank` when step `step` begins."""
    batches = Trainer.batches

    def planted(self):
        if self.step + 1 == step and world.current().rank == rank:
            do(self)
        return batches(self)

    Trainer.batches = planted


def spoil_weights(trainer):
    trainer.parameters.w[:] *= 1.000001


def spoil_loss(trainer):
    def spoilt(batch):
        *others, weight = Trainer.examples(trainer, batch)
        return *others, weight * math.nan

    trainer.examples = spoilt


def full_disk(trainer):
    def fail(*_):
        raise OSError(28, "No space left on device")

    loop.checkpoints.save = fail


FAULTS = {
    "kill": lambda trainer: os.kill(os.getpid(), signal.SIGKILL),
    "stand": lambda trainer: os.kill(os.getpid(), signal.SIGSTOP),
    "interrupt": lambda trainer: os.kill(os.getpid(), signal.SIGINT),
    "terminate": lambda trainer: os.kill(os.getpid(), signal.SIGTERM),
    "exit": lambda trainer: os._exit(3),
    "bug": lambda trainer: [][0],
    "nan": spoil_loss,
    "drift": spoil_weights,
    "disk": full_disk,
    "wait": lambda trainer: time.sleep(3),
}


def plant(text):
    """kill=5,1: process 1 kills itself when step 5 begins."""
    name, _, where = text.partition("=")
    at(*map(int, where.split(",")), FAULTS[name])


if __name__ == "__main__":
    preview.FINAL = preview.PREVIEW = preview.SampleGrid(count=1, steps=1)
    words = sys.argv[1:]
    while "=" in words[0]:
        plant(words.pop(0))
    train.main(words)
