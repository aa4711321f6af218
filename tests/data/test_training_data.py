"""Batches: augmented by seed, step and place alone, whatever the parts are that they are made in."""

import numpy as np
import pytest

from minidiff import backend
from minidiff.data.dataset import ImageDataset, distinct_captions
from minidiff.data.training_data import TrainingData
from minidiff.errors import MinidiffError
from minidiff.images.files import to_float
from minidiff.nn.tokenizer import build_tokenizer
from minidiff.scenes import Scenes

CAPTIONS = ["red, small, square", "blue, large, bar, far left", "green", ""] * 3


@pytest.fixture
def captioned():
    """Twelve images with captions of several parts."""
    images = np.random.default_rng(0).integers(0, 256, (len(CAPTIONS), 8, 8, 3), dtype=np.uint8)
    tokenizer = build_tokenizer(CAPTIONS)
    return ImageDataset(
        "captioned", images, tokenizer.encode(CAPTIONS), tokenizer=tokenizer, parts=tokenizer.caption_parts(CAPTIONS)
    )


@pytest.mark.parametrize("conditioning", [None, "edges", "reference"])
def test_a_batch_in_parts_is_the_whole_batch(captioned, conditioning):
    data = TrainingData(captioned, seed=3, flip=True, conditioning=conditioning)
    (whole,), parts = data.batches(5, 8), data.batches(5, 8, 4)
    assert [len(part.x0) for part in parts] == [2, 2, 2, 2]
    for name in ("x0", "labels", "sample", *(["conditioning"] if conditioning else [])):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name)), name
    assert (whole.conditioning is None) == (conditioning is None)


def test_seed_and_step_decide_what_is_changed(captioned):
    index = np.arange(len(captioned))
    batch = lambda seed, step: TrainingData(captioned, seed, flip=True).batch(index, step, index)
    one, same = batch(0, 1), batch(0, 1)
    assert np.array_equal(one.x0, same.x0) and np.array_equal(one.labels, same.labels)
    for other in (batch(1, 1), batch(0, 2)):
        assert not np.array_equal(one.x0, other.x0) and not np.array_equal(one.labels, other.labels)
    plain = TrainingData(captioned, 0).batch(index, 1, index)
    assert np.array_equal(plain.x0, to_float(captioned.images)) and not np.array_equal(plain.labels, captioned.labels)


def test_a_reference_is_the_mirror_image_of_what_training_sees(captioned):
    index = np.arange(len(captioned))
    batch = TrainingData(captioned, 0, flip=True, conditioning="reference").batch(index, 0, index)
    assert np.array_equal(to_float(batch.conditioning), batch.x0[:, :, ::-1])


def test_scenes_have_exact_maps_that_cannot_be_mirrored():
    with backend.using("numpy"):
        scenes = Scenes(16, captions=True)
        (batch,) = TrainingData(scenes, 0, conditioning="segmentation").batches(0, 2)
        assert np.array_equal(batch.x0, to_float(scenes.batch(np.arange(2))[0])) and batch.conditioning.shape == (
            2,
            16,
            16,
            3,
        )
        with pytest.raises(MinidiffError, match=r"^--flip mirrors images, but not the maps of scenes"):
            TrainingData(scenes, 0, flip=True, conditioning="edges")


def test_distinct_captions_leave_out_repetitions_and_empty_ones(captioned):
    assert distinct_captions(captioned, 8).tolist() == [0, 1, 2]
    assert distinct_captions(captioned, 2).tolist() == [0, 1]
    assert distinct_captions(Scenes(16, captions=True), 3).tolist() == [0, 1, 2]
