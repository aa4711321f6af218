"""An average of the weights over the last steps: the weights that draw.

Idea: the optimiser's weights jump about the valley that they go down in; their moving average walks in its middle,

    w_ema <- w_ema + (1 - decay) (w - w_ema)

and draws visibly better images.  The update itself is fused with the optimiser's (kernels/optimizer); here are the
decay and the way in and out of the average.
In training/ after optimizer.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from minidiff.training.optimizer import FlatParameters


def decay_at(step: int, decay: float) -> float:
    """Return the decay of step 1, 2, …: small at first, so that the random start is forgotten at once.

        min(decay, (1 + step) / (10 + step))

    Source: TensorFlow's `ExponentialMovingAverage` with `num_updates`; Song et al. 2020, arXiv:2006.09011, section 3.5,
    for the average in score-based models, Ho et al. 2020, arXiv:2006.11239, appendix B, in diffusion models.
    """
    return min(decay, (1 + step) / (10 + step))


@contextmanager
def averaged(parameters: FlatParameters) -> Iterator[None]:
    """Let the network carry the averaged weights inside a `with` block; afterwards it has its own, to the bit."""
    own = parameters.w.copy()
    parameters.w[:] = parameters.ema
    try:
        yield
    finally:
        parameters.w[:] = own
