"""AdamW, the average of the weights and the gradient's norm on a GPU in CUDA C++: `optimizer.cu`."""

from pathlib import Path

from minidiff.kernels.cuda_launch import Source
from minidiff.kernels.optimizer.cuda_host import Optimizer

_optimizer = Optimizer(Source(Path(__file__).with_name("optimizer.cu")), threads=256)

square_sum, adamw_ema = _optimizer.square_sum, _optimizer.adamw_ema
