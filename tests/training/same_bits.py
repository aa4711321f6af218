"""Train in a process of its own: `python -m tests.training.same_bits FOLDER begin|end`; see test_same_bits.py.

begin: on 1 and on 2 threads, stop a training after 20 steps of 50.  end: go on with these two, make two that are not
stopped, and print of all four the SHA-256 of the last checkpoint's tensors.
"""

import dataclasses
import hashlib
import signal
import sys
from pathlib import Path

import numba

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint.config import Config, ModelConfig, RunConfig
from minidiff.data.config import DataConfig
from minidiff.training import preview
from minidiff.training.loop import TrainingRun, train

STEPS, STOP = 50, 20
# Large enough that each kernel of a default training is used: Winograd's convolutions, fused and alone, words, two
# levels, and enough work for two threads.
CONFIG = Config(
    data=DataConfig(data="scenes", size=(16,)),
    model=ModelConfig(model_channels=16, channel_mult=(1, 2), patch=1, heads=2, text_width=32),
    run=RunConfig(steps=STEPS, batch_size=8, backend="numba", preview_every=10**6, save_every=10**6),
)


def run(folder, threads, stop=None, resume=None):
    """Train until the end, or until Ctrl-C after step `stop`; return the checkpoint that is left."""
    backend.use("numba", threads)
    log = TrainingRun.log

    def until(run, record):
        if record.step == stop:
            signal.raise_signal(signal.SIGINT)
        log(run, record)

    TrainingRun.log = until
    try:
        config = dataclasses.replace(CONFIG, run=dataclasses.replace(CONFIG.run, threads=threads))
        train(config, None if resume else folder, resume)
    finally:
        TrainingRun.log = log
    return checkpoints.find(folder)


def digest(checkpoint):
    sha256 = hashlib.sha256()
    for group, tensors in sorted(checkpoint.tensors.items()):
        for name, array in sorted(tensors.items()):
            sha256.update(f"{group}/{name}".encode() + array.tobytes())
    return sha256.hexdigest()


def main(work, what):
    preview.FINAL = preview.SampleGrid(count=1, steps=1)
    for threads in range(1, min(2, numba.config.NUMBA_NUM_THREADS) + 1):
        stopped = work / f"stopped-{threads}"
        if what == "begin":
            run(stopped, threads, stop=STOP)
        else:
            print(f"step {checkpoints.find(stopped).step}")
            resumed = run(stopped, threads, resume=checkpoints.find(stopped))
            whole = run(work / f"whole-{threads}", threads)
            print(f"digests {threads} {resumed.step} {digest(resumed)} {digest(whole)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
