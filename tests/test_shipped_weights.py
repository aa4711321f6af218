"""The weights that minidiff comes with: small, of known making, and they draw what is asked for."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import minidiff
from minidiff.data.maps import maps
from minidiff.evaluation.scenes.edges import edge_control
from minidiff.evaluation.scenes.hue import hue, hue_error
from minidiff.evaluation.scenes.steering import judge_reference
from minidiff.pipeline import loading as models
from minidiff.scenes import Scenes
from minidiff.scenes.captions import caption

FILES = sorted(models.WEIGHTS.parent.iterdir())
RESULTS = Path(__file__).parents[1] / "docs" / "results.md"


@pytest.fixture(scope="module")
def model():
    return minidiff.load()


def test_they_are_small_and_the_book_says_how_they_were_made():
    assert [path.name for path in FILES] == [
        "autoencoder.safetensors",
        "scenes-edges.safetensors",
        "scenes-reference.safetensors",
        "scenes.safetensors",
        "scenes128-edges.safetensors",
        "scenes128-reference.safetensors",
        "scenes128.safetensors",
    ]
    assert sum(path.stat().st_size for path in FILES) <= 40e6
    said = RESULTS.read_text(encoding="utf-8")
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() in said for path in FILES)


def test_they_hear_words(model):
    """Red is red, blue is blue, and night is dark: means over images tell."""
    draw = lambda prompt: model.sample(8, prompt=prompt, sampler="unipc", steps=8).astype(float).mean(axis=(0, 1, 2))
    (red, _, blue), (red2, _, blue2) = draw("a big red car"), draw("a big blue car")
    assert red - blue > red2 - blue2 + 10
    assert draw("a house by day").mean() > draw("a house at night").mean() + 50


def test_they_follow_a_drawing(model):
    scenes, sample = Scenes(split="test", captions=True), np.arange(8)
    texts, wanted = caption(scenes.factors(sample), 0, "test", sample).texts, maps(scenes, sample, "edges")
    drawn = model.sample(8, prompt=texts, control=wanted, sampler="unipc", steps=8)
    assert edge_control(wanted, drawn, scenes.batch(sample)[0]).score > 0.8


def test_they_take_over_a_look(model):
    def paint(texts, **shown):
        return model.sample(8, prompt=texts, sampler="unipc", steps=8, **shown)

    found = judge_reference(paint, 32, 0, np.arange(8))
    assert np.median(found.error) < 20 < np.median(hue_error(hue(found.with_), hue(found.without)))
