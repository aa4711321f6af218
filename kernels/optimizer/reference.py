"""AdamW and the moving average of the weights, defined, over flat arrays that hold the whole network.

`adamw_ema` changes 1-D arrays in place, so that a fast version can do all of it in one pass over memory. `square_sum`
is for the clipping of the gradient.

Reading order: with `minidiff/training/optimizer.py`, which clips and schedules. `minidiff/nn/flat_parameters.py` puts
all weights into one flat array.
"""

import numpy as np

from minidiff.kernels.optimizer.checks import check_adamw_ema, check_flat


def square_sum(x: np.ndarray) -> float:
    """The sum of the squares of a flat array, added up in float64: the square of its norm, for gradient clipping.

    x: (n,), any float dtype. The same array gives the same bits every time.
    """
    check_flat("square_sum", x=x)
    return float(np.square(x, dtype=np.float64).sum())


def adamw_ema(
    w: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    ema: np.ndarray,
    n_decay: int,
    hyper: np.ndarray,
) -> None:
    """Take one AdamW step and move the average towards the new weights; w, m, v and ema change in place.

        g <- grad_scale g
        m <- beta1 m + (1 - beta1) g,   v <- beta2 v + (1 - beta2) g^2
        w <- w - lr weight_decay w                                               the first n_decay weights only
        w <- w - lr (m / bias_correction1) / (sqrt(v / bias_correction2) + eps)
        ema <- ema + (1 - ema_decay) (w - ema)

    w, g, m, v, ema: (n,), any float dtype; g does not change.
    hyper: nine float64 numbers (lr, beta1, beta2, eps, weight_decay, bias_correction1, bias_correction2, grad_scale,
    ema_decay), where at step t = 1, 2, ... bias_correction1 = 1 - beta1^t and bias_correction2 = 1 - beta2^t.
    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2, with lr in front of the decay as well (as PyTorch
    has it); moments: Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1.
    """
    check_adamw_ema(w, g, m, v, ema, n_decay, hyper)
    # Python floats: a float64 scalar from the array would turn float32 arithmetic into float64.
    lr, beta1, beta2, eps, weight_decay, bias_correction1, bias_correction2, grad_scale, ema_decay = map(float, hyper)
    g = grad_scale * g
    m[:] = beta1 * m + (1 - beta1) * g
    v[:] = beta2 * v + (1 - beta2) * np.square(g)
    w[:n_decay] -= lr * weight_decay * w[:n_decay]
    w -= lr * (m / bias_correction1) / (np.sqrt(v / bias_correction2) + eps)
    ema += (1 - ema_decay) * (w - ema)
