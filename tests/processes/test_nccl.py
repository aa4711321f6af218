"""Gradients on GPUs: the arrays of a device go to NCCL by their addresses, and nowhere else."""

import re

import pytest

from tests.backends import WITH_A_GPU
from tests.processes.test_mpi import run, weights

SMALL = "--size 16 --model-channels 8 --channel-mult 1 --patch 1 --heads 2 --text-width 16 --attention-at 16"
SMALL = f"{SMALL} --cross-attention-at 16 --batch-size 4 --accumulate 4 --threads 1 --steps 2 --backend cupy"


@pytest.mark.release
@pytest.mark.skipif(bool(WITH_A_GPU), reason="there is a GPU, and it is not emulated")
def test_an_emulated_gpu_trains_the_weights_of_one_process(tmp_path):
    exchanges = []
    for n in (1, 2):
        out, _, _ = run(n, "tests.processes.small_training_on_gpus", f"{SMALL} --out {tmp_path / str(n)}")
        exchanges.append(int(re.search(r"exchanges: (\d+)", out)[1]))
    assert exchanges[0] == 0 and exchanges[1] > 0
    assert weights(tmp_path / "2") == weights(tmp_path / "1")
