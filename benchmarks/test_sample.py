"""Sampling with the default network: 16 guided images of 32×32 in 10 DDIM steps, 32 images a pass.

The time is proportional to the steps: 50 take five times as long.
"""

from functools import cache

import numpy as np
from conftest import float32

from minidiff import backend
from minidiff.checkpoint.build import make_process, network_config
from minidiff.checkpoint.config import Config
from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.run import Noise, Run
from minidiff.diffusion.samplers import ddim
from minidiff.nn import UNet
from minidiff.scenes.factors import SUBJECTS

COUNT, STEPS = 16, 10
LABELS = np.arange(COUNT) % len(SUBJECTS)
SAMPLES = np.arange(COUNT)


def network():
    """The default network with weights that answer something: an untrained one answers 0."""
    model = UNet(network_config(Config().model, 32, 32, 3, len(SUBJECTS)))
    model.initialize(0)
    for number, parameter in enumerate(model.named_parameters().values()):
        parameter.data += 0.02 * float32(*parameter.shape, seed=number)
    return model


def draw(model):
    process = make_process(Config().diffusion)
    noise = Noise(0, SAMPLES)
    *_, last = ddim(Run(denoiser(model, LABELS, 3.0), process, STEPS, noise), noise.start((32, 32, 3)))
    return last.x_prev


@cache
def expected():
    with backend.using("numpy"):
        return draw(network())


def test_ddim(table, measure):
    model = network()
    # each of the steps adds float32's rounding, which guidance triples; a grey level is 8e-3
    assert np.abs(draw(model) - expected()).max() < 1e-3
    measure(f"ddim, {COUNT} × 32×32×3, {STEPS} steps, guided", lambda: draw(model))
