"""The weights that minidiff comes with: small, of known making, and they draw what is asked for."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import minidiff
from minidiff.evaluation.scenes.hue import hue, hue_error
from minidiff.evaluation.scenes.steering import judge_control, judge_reference
from minidiff.pipeline import loading as models

FILES = sorted(models.WEIGHTS.parent.iterdir())
RESULTS = Path(__file__).parents[1] / "docs" / "results.md"


@pytest.fixture(scope="module", params=[None, models.SMALL], ids=["128", "32"])
def model(request):
    return minidiff.load(request.param)


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
    def paint(texts, **shown):
        return model.sample(8, prompt=texts, sampler="unipc", steps=8, **shown)

    assert judge_control(paint, model.shape[0], 32, 0, np.arange(8)).edges.score > 0.8


def test_they_take_over_a_look(model):
    def paint(texts, **shown):
        return model.sample(8, prompt=texts, sampler="unipc", steps=8, **shown)

    found = judge_reference(paint, model.shape[0], 0, np.arange(8))
    assert np.median(found.error) < 20 < np.median(hue_error(hue(found.with_), hue(found.without)))
