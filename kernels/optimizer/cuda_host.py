"""AdamW, the average of the weights and the gradient's norm on a GPU, the host's side: checks and launches."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minidiff.kernels.cuda_launch import blocks, check_counts, empty, float32
from minidiff.kernels.optimizer.checks import check_adamw_ema, check_flat

MOST_BLOCKS = 256


class Optimizer:
    """The functions of `reference.py` for float32 arrays of a device.

    launch: runs the kernels update, square_sums and add_sums. threads: how many a block has.
    """

    def __init__(self, launch: Callable, threads: int) -> None:
        self.launch, self.threads = launch, threads

    def square_sum(self, x: Any) -> Any:
        """`reference.square_sum`, but the sum stays on the device: an array of one float64 number.

        First one sum a block, always of the same numbers in the same order, then their sum.
        """
        check_flat("square_sum", x=x)
        check_counts("square_sum", numbers=x.size)
        (x,) = float32("square_sum", x=x)
        count = min(MOST_BLOCKS, max(1, blocks(x.size, self.threads)))
        sums, total = empty((count,), np.float64), empty((1,), np.float64)
        self.launch("square_sums", (count,), x, sums, x.size)
        self.launch("add_sums", (1,), sums, total, count)
        return total

    def adamw_ema(self, w: Any, g: Any, m: Any, v: Any, ema: Any, n_decay: int, hyper: np.ndarray) -> None:
        """`reference.adamw_ema`."""
        check_adamw_ema(w, g, m, v, ema, n_decay, hyper)
        for what, a in {"w": w, "m": m, "v": v, "ema": ema}.items():
            if not a.flags.c_contiguous:
                raise ValueError(f"adamw_ema: {what} is updated in place and must be C-contiguous")
        check_counts("adamw_ema", weights=w.size)
        w, g, m, v, ema = float32("adamw_ema", w=w, g=g, m=m, v=v, ema=ema)
        lr, beta1, beta2, eps, weight_decay, correction1, correction2, grad_scale, ema_decay = map(float, hyper)
        numbers = (  # differences and quotients of numbers near 1 in float64: float32 would lose half their digits
            beta1, 1 - beta1, beta2, 1 - beta2, lr * weight_decay, lr / correction1, 1 / correction2, eps, grad_scale,
            1 - ema_decay,
        )  # fmt: skip
        self.launch("update", (blocks(w.size, self.threads),), w, g, m, v, ema, w.size, n_decay, numbers)
