"""Latents of a dataset: each image is encoded once, with the same neighbours; an endless one's are used again."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from minidiff import backend
from minidiff.data import encoded
from minidiff.data.dataset import KEYS, ImageDataset, order
from minidiff.data.encoded import GROUP, LAG, USES, EncodedImages, order_of_latents
from minidiff.data.training_data import TrainingData
from minidiff.images.files import to_float
from minidiff.nn.tokenizer import build_tokenizer
from minidiff.scenes import Scenes
from minidiff.scenes import scenes as scenes_module
from tests.processes.threads_as_processes import in_threads

COUNT = 21  # two whole groups, and one of five


class Counting:
    """A stand-in for latents, a quarter as high and wide, that depend slightly on which images are encoded together.

    calls: of each call, the images that it was given.
    """

    def __init__(self):
        self.calls = []

    def encode(self, images):
        self.calls.append(images)
        n, height, width, channels = images.shape
        small = images.reshape(n, height // 4, 4, width // 4, 4, channels)[:, :, 1, :, 2]
        return small + np.float32(1e-3) * images.mean()


@pytest.fixture(autouse=True)
def plain_backend():
    with backend.using("numpy"):
        yield


@pytest.fixture
def space():
    return Counting()


@pytest.fixture
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 12, 3), dtype=np.uint8)
    return ImageDataset("images", pixels, np.arange(COUNT) % 4, ("a", "left", "right", "b"))


def plain(n):
    return np.zeros(n, bool)


def test_each_image_is_encoded_once(images, space):
    latents = EncodedImages(images, space)
    encoded = []
    latents.fill(0, 8, lambda: encoded.append(len(space.calls)))
    assert encoded == [1, 2, 3] and list(latents.groups_before(0, 8)) == [0, 1, 2]
    assert [len(call) for call in space.calls] == [8, 8, 5]
    np.testing.assert_array_equal(np.concatenate(space.calls), to_float(images.images))
    for step in range(6):
        TrainingData(images, 0, encoded=latents).batches(step, 8, 2)
    assert len(space.calls) == 3


def test_only_the_groups_that_are_asked_for_are_encoded(images, space):
    latents = EncodedImages(images, space)
    assert latents.labels(np.array([17, 16])).tolist() == [1, 0]
    assert latents.latents(np.array([20]), plain(1)).shape == (1, 2, 3, 3)
    assert [len(call) for call in space.calls] == [5]


def test_the_same_bits_whatever_was_asked_before(images):
    every = np.arange(COUNT)
    whole = EncodedImages(images, Counting()).latents(every, plain(COUNT))
    for asked in ([20, 3, 11], [0], [9, 9, 8], every[::-1]):
        latents = EncodedImages(images, Counting())
        np.testing.assert_array_equal(latents.latents(np.array(asked), plain(len(asked))), whole[asked])
        np.testing.assert_array_equal(latents.latents(every, plain(COUNT)), whole)
    assert not np.array_equal(whole[:3], Counting().encode(to_float(images.images[:3])))  # the stand-in would show it


def test_mirrored_latents_are_those_of_the_mirrored_image(images, space):
    latents = EncodedImages(images, space, flip=True)
    mirror = ImageDataset("mirror", images.images[:, :, ::-1], images.labels, images.classes)
    index, chosen = np.array([2, 19, 2, 7]), np.array([True, True, False, False])
    found = latents.latents(index, chosen)
    np.testing.assert_array_equal(found[:2], EncodedImages(mirror, Counting()).latents(index[:2], plain(2)))
    np.testing.assert_array_equal(found[2:], EncodedImages(images, Counting()).latents(index[2:], plain(2)))
    assert not np.array_equal(found[0, :, ::-1], found[2])  # to mirror latents would be something else


def test_a_batch_is_what_it_is_with_pixels(images):
    """The same images in the same order, mirrored and labelled alike, in any parts."""
    pixels = TrainingData(images, 3, flip=True)
    data = TrainingData(images, 3, flip=True, encoded=EncodedImages(images, Counting(), flip=True))
    for step in range(3):
        (expected,), found = pixels.batches(step, 8), data.batches(step, 8, 4)
        np.testing.assert_array_equal(np.concatenate([part.labels for part in found]), expected.labels)
        x0 = np.concatenate([part.x0 for part in found])
        # 2e-3: the part of the stand-in's latents that depends on the neighbours
        assert np.abs(x0 - expected.x0[:, 1::4, 2::4]).max() < 2e-3
        assert all(part.conditioning is None for part in found)


def test_captions_and_an_adapters_inputs_follow():
    texts = ["red, small", "blue, left", "green", ""] * 4
    pixels, known = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8), build_tokenizer(texts)
    data = ImageDataset("captioned", pixels, known.encode(texts), (), known, parts=known.caption_parts(texts))
    for kind in ("edges", "reference"):
        (expected,) = TrainingData(data, 5, conditioning=kind).batches(2, 16)
        (found,) = TrainingData(data, 5, conditioning=kind, encoded=EncodedImages(data, Counting())).batches(2, 16)
        for name in ("labels", "conditioning", "sample"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert found.x0.shape == (16, 2, 2, 3)


def test_images_without_labels_have_none(images, space):
    bare = ImageDataset("bare", images.images)
    assert EncodedImages(bare, space).labels(np.array([3, 12])) is None


# -- endless datasets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3])
def test_an_endless_dataset_keeps_what_later_steps_need_and_each_group_is_encoded_once(monkeypatch, size):
    """By one of the processes, however many there are; none takes another turn than the others."""
    monkeypatch.setattr(scenes_module, "_AHEAD", 16)
    monkeypatch.setattr(encoded, "LAG", 8)
    monkeypatch.setattr(encoded, "STEPS_AHEAD", 4)
    batch_size, steps, encoded_by, local = 8, 60, [[] for _ in range(size)], threading.local()
    monkeypatch.setattr(encoded.world, "current", lambda: local.here)

    class Drawn:  # cheap images, each of another colour
        endless = True

        def __len__(self):
            return KEYS

        def batch(self, index):
            return np.broadcast_to((index % 251).astype(np.uint8)[:, None, None, None], (len(index), 8, 8, 3)), None

    def run(here):
        local.here = here
        latents = EncodedImages(Drawn(), Counting())
        encode = latents._encode
        latents._encode = lambda group, later=(): encoded_by[here.rank].append(group) or encode(group, later)
        latents.fill(0, batch_size)
        found = []
        for step in range(steps):
            latents.prepare(0, step, batch_size)
            index = order_of_latents(latents.dataset, 0, step, batch_size)
            found.append(latents.latents(index, plain(batch_size)))
        assert len(latents._groups) <= 8 * batch_size // USES + 3 * size + 2
        return np.stack(found)

    found = in_threads(size, run)
    groups = sorted(group for each in encoded_by for group in each)
    assert groups == sorted(set(groups)) and all(encoded_by)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


@pytest.mark.parametrize("batch_size", [1, 6, 8, 33])
def test_each_image_of_an_endless_dataset_is_used_again_later(batch_size):
    """Four times; 32 steps apart, or 33 where a batch ends between the uses of an image."""
    endless, used = SimpleNamespace(endless=True), {}
    for step in range(12 * LAG):
        numbers = order_of_latents(endless, 0, step, batch_size)
        assert numbers.shape == (batch_size,) and numbers.dtype == np.int64
        for number in numbers.tolist():
            used.setdefault(number, []).append(step)
    assert min(used) >= 0 and max(used) < KEYS
    most = 2 * LAG * USES * batch_size // USES
    whole = {number: steps for number, steps in used.items() if number < most}
    assert sorted(whole) == list(range(most))
    later = USES * LAG * batch_size // USES  # what was new once all four uses are possible
    for number, steps in whole.items():
        if number >= later:
            gaps = set(np.diff(steps).tolist())
            assert len(steps) == USES and gaps <= ({LAG} if batch_size % USES == 0 else {LAG, LAG + 1})
    assert max(map(len, used.values())) == USES * (USES + 1) // 2  # that of the first images: 4, 3, 2 and 1


def test_what_steps_before_left_is_encoded_at_once_and_a_step_then_encodes_what_is_new(monkeypatch, space):
    """Also where a training goes on: else each of its first steps would render images from four far places."""
    monkeypatch.setattr(scenes_module, "_AHEAD", 16)
    monkeypatch.setattr(encoded, "LAG", 8)
    scenes, batch_size, step = Scenes(16), 32, 40
    latents = EncodedImages(scenes, space)
    latents.fill(step, batch_size)
    before = len(space.calls)
    for k in range(step, step + 4):
        latents.latents(order_of_latents(scenes, 0, k, batch_size), plain(batch_size))
        assert len(space.calls) - before == (k + 1 - step) * batch_size // USES // GROUP


def test_a_finite_dataset_keeps_its_order(images):
    for step in range(5):
        np.testing.assert_array_equal(order_of_latents(images, 4, step, 8), order(images, 4, step, 8))
