"""Everything that a network can be asked to predict is learnt, from the command line's own words."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.checkpoint.build import make_process
from minidiff.errors import MinidiffError
from minidiff.scenes import Scenes, scenes
from minidiff.training.cli import parse
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer

STEPS, BATCH = 40, 8
SMALL = (
    f"--model-channels 8 --channel-mult 1 2 --groups 4 --heads 2 --steps {STEPS} --batch-size {BATCH} --warmup 5 "
    "--backend numba"
)
WAYS = {
    "eps, plainly": "--target eps --schedule linear",
    "x0, sigmoid": "--target x0 --schedule sigmoid --timestep-sampling stratified",
    "v, zero snr, min-snr": "--target v --schedule scaled_linear --zero-snr --weighting min_snr",
    "rectified flow": "--target flow --schedule flow --timestep-sampling lognormal --sigma-mean 0 --sigma-std 1",
    "flow with shift": "--target flow --schedule flow --shift 3",
    "edm": "--target edm --schedule karras --timestep-sampling lognormal",
    "edm's weights for eps": "--target eps --schedule exponential --weighting edm --timestep-sampling lognormal",
}
SIMILAR = ("eps, plainly", "flow with shift", "edm's weights for eps")  # to another one, in what they compute


@pytest.fixture
def few_scenes_ahead(monkeypatch):
    """All scenes that a training sees are rendered at once, so that the next training finds them."""
    monkeypatch.setattr(scenes, "_AHEAD", STEPS * BATCH)


@pytest.fixture(scope="module")
def data():
    return Scenes(size=16)


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.release if way in SIMILAR else []) for way in WAYS]
)
def test_a_network_learns_it(data, few_scenes_ahead, way):
    config = parse(f"{SMALL} {WAYS[way]}".split()).config
    with backend.using("numba"):
        trainer = Trainer(config, data)
        losses = [train_step(trainer).loss for _ in range(STEPS)]
    assert all(np.isfinite(losses))
    # A new network says nothing, which costs what the first steps cost.  Means over 5 steps of 8 images are known to
    # some 5%; EDM's F, of which most is never predictable, falls least, by 13%.
    assert np.mean(losses[-15:]) < 0.95 * np.mean(losses[:5])


@pytest.mark.parametrize(
    "words", ["--target eps --zero-snr", "--target eps --schedule flow", "--target edm --zero-snr"]
)
def test_what_makes_no_sense_is_refused_with_its_reason(words):
    config = parse(f"{SMALL} {words}".split()).config
    with pytest.raises(MinidiffError, match=r"needs a schedule that leaves a trace of the image .* use v, x0 or flow"):
        make_process(config.diffusion)


def test_shift_is_the_flows_alone():
    config = parse(f"{SMALL} --shift 3".split()).config
    with pytest.raises(MinidiffError, match="shift is a setting of the flow schedule; cosine has none, got 3"):
        make_process(config.diffusion)
