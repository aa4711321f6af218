"""One step of the default training on scenes of 32×32: forward, backward, AdamW and the average of the weights.

The images lie in memory; what drawing them adds to a step is measured beside it.
"""

from functools import cache, partial

import numpy as np
from conftest import float32

from minidiff import backend
from minidiff.checkpoint.config import Config, RunConfig
from minidiff.data.dataset import ImageDataset
from minidiff.scenes import Scenes
from minidiff.scenes.factors import SUBJECTS
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer

CONFIG = Config(run=RunConfig(steps=1000))
BATCH = CONFIG.run.batch_size


def trainer():
    """A training at its first step, with weights of which none is zero: an untrained network's last layers are."""
    with backend.using("numba"):
        images, labels = Scenes(32).batch(np.arange(2 * BATCH))
    made = Trainer(CONFIG, ImageDataset("scenes", images, labels, SUBJECTS))
    made.parameters.w += 0.02 * float32(len(made.parameters.w))
    return made


@cache
def expected():
    """The loss and the gradients of NumPy's first step."""
    with backend.using("numpy"):
        return first_step(trainer())


def first_step(made):
    loss = train_step(made).loss
    return loss, made.parameters.g.copy()


def test_training_step(table, measure):
    made = trainer()
    loss, g = first_step(made)
    # float32: a loss is a mean of 200,000 squares, a gradient a sum over the batch and the layers above
    assert abs(loss - expected()[0]) < 1e-5 * expected()[0]
    assert np.abs(g - expected()[1]).max() < 1e-4 * np.abs(expected()[1]).max()
    million = len(made.parameters.w) / 1e6
    measure(f"training step, {BATCH} × 32×32×3, {million:.2f} M weights", partial(train_step, made))


def test_drawing_a_batch(table, measure):
    numbers = np.arange(256)  # at once, as training does

    def draw():
        return Scenes(32).batch(numbers)[0]

    with backend.using("numpy"):
        exact = draw()
    np.testing.assert_array_equal(draw(), exact)
    measure(f"drawing 256 scenes, for {256 // BATCH} steps", draw)
