"""The order of the images: all of them, each once an epoch, as a pure function of seed and step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.data.dataset import ImageDataset, hold_out, order
from minidiff.errors import MinidiffError
from minidiff.nn.tokenizer import build_tokenizer
from minidiff.random import Key, Stream, permutation
from minidiff.scenes import Scenes
from minidiff.scenes.alike import Alike


def dataset_of(n, labelled=False):
    images = np.broadcast_to(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), (n, 2, 3, 1))
    labels = np.arange(n) % 2 if labelled else None
    return ImageDataset("numbers", images, labels, ("even", "odd") if labelled else ())


class Endless:
    endless = True


def test_batch():
    data = dataset_of(5, labelled=True)
    images, labels = data.batch(np.array([4, 1, 1]))
    assert images.shape == (3, 2, 3, 1) and images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [4, 1, 1]
    assert labels.tolist() == [0, 1, 1] and labels.dtype == np.int64
    assert dataset_of(5).batch(np.array([0]))[1] is None
    assert (data.height, data.width, data.channels, len(data), data.endless) == (2, 3, 1, 5, False)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**64 - 1))
def test_each_epoch_is_a_permutation_whatever_the_batch(n, batch, seed):
    steps = -(-3 * n // batch)  # three epochs, rounded up
    numbers = np.concatenate([order(dataset_of(n), seed, step, batch) for step in range(steps)])
    assert numbers.dtype == np.int64
    for epoch in range(3):
        here = numbers[epoch * n : (epoch + 1) * n]
        assert sorted(here) == list(range(n))
        assert here.tolist() == permutation(Key(seed, Stream.ORDER, epoch, 0), n).tolist()


def test_steps_can_be_asked_in_any_order():
    data = dataset_of(10)
    forward = [order(data, 3, step, 4).tolist() for step in range(20)]
    backward = [order(data, 3, step, 4).tolist() for step in reversed(range(20))]
    assert forward == backward[::-1]
    assert forward != [order(data, 4, step, 4).tolist() for step in range(20)]


def test_endless_data_are_counted_through():
    assert order(Endless(), 0, 0, 3).tolist() == [0, 1, 2]
    assert order(Endless(), 7, 5, 3).tolist() == [15, 16, 17]


@pytest.mark.parametrize("step, batch", [(-1, 4), (0, 0)])
def test_order_refuses(step, batch):
    with pytest.raises(ValueError, match=f"got {step} and {batch}"):
        order(dataset_of(4), 0, step, batch)


def test_what_is_longer_than_keys_count_begins_again():
    """2^32 images or epochs on; and no step that training may take ends in an error."""
    step = (1 << 32) // 64
    assert order(Endless(), 0, step, 64).tolist() == order(Endless(), 0, 0, 64).tolist()
    crossing = order(Endless(), 0, step * 64 // 48, 48)
    assert set(np.diff(crossing)) == {1, 1 - (1 << 32)}
    assert order(dataset_of(3), 7, 1 << 32, 3).tolist() == order(dataset_of(3), 7, 0, 3).tolist()
    assert order(Endless(), 0, (1 << 32) - 1, 1 << 10).max() < 1 << 32


def levels(data):
    return data.images[:, 0, 0, 0].tolist()


def test_a_tenth_is_held_out():
    """Of 250 different images 25, give or take four standard deviations; every one is in one part, with its label."""
    data = dataset_of(250, labelled=True)
    train, test = hold_out(data, "train"), hold_out(data, "test")
    assert sorted(levels(train) + levels(test)) == list(range(250)) and 6 <= len(test) <= 44
    for part in (train, test):
        assert part.labels.tolist() == [level % 2 for level in levels(part)] and part.classes == ("even", "odd")
        assert np.array_equal(part.contents, data.contents[levels(part)])
    assert train.found == f"{len(train)} images, {len(test)} more held out"


def test_what_is_held_out_does_not_depend_on_the_other_images():
    """Images come, go, and change places and names: none of those that stay passes from one part to the other."""
    before = set(levels(hold_out(dataset_of(200), "test")))
    for numbers in (np.arange(250), np.arange(200)[::-1], np.arange(0, 200, 2), np.repeat(np.arange(200), 2)):
        data = ImageDataset("other", dataset_of(250).images[numbers])
        train, test = levels(hold_out(data, "train")), levels(hold_out(data, "test"))
        assert not before & set(train) and not set(test) & (set(range(200)) - before)


def test_of_ten_one_is_held_out_whatever_they_are():
    for first in range(0, 250, 10):
        data = ImageDataset("ten", dataset_of(250).images[first : first + 10])
        assert 1 <= len(hold_out(data, "test")) <= 9
        assert len(hold_out(data, "train")) + len(hold_out(data, "test")) == 10


def test_too_few_to_hold_out():
    assert len(hold_out(dataset_of(9), "train")) == 9
    with pytest.raises(MinidiffError, match="at least 10 different ones are needed; there are 9"):
        hold_out(dataset_of(9), "test")
    copies = ImageDataset("copies", np.zeros((20, 2, 2, 1), np.uint8))
    assert len(hold_out(copies, "train")) == 20
    with pytest.raises(MinidiffError, match="at least 10 different ones are needed; there are 20"):
        hold_out(copies, "test")


def test_a_digest_changes_with_all_that_steps_depend_on():
    known = build_tokenizer(["a cat", "a dog, on the left"])
    captions = ["a cat", "a dog, on the left"]
    images = dataset_of(2).images

    def digest(images=images, captions=captions, known=known, classes=None, **others):
        if classes is not None:
            return ImageDataset("x", images, np.arange(2), classes).digest
        tokens, parts = known.encode(captions), known.caption_parts(captions)
        return ImageDataset("x", images, tokens, tokenizer=known, parts=parts, **others).digest

    other = [
        digest(), digest(images[::-1]), digest(images + np.uint8(1)), digest(captions=captions[::-1]),
        digest(captions=["a cat", "a dog on the left"]), digest(known=build_tokenizer(["a cat", "a dug, on the left"])),
        digest(classes=("a", "b")), digest(classes=("a", "c")), digest(content=np.zeros((2, 32), np.uint8)),
        ImageDataset("x", images).digest, ImageDataset("x", images.reshape(2, 3, 2, 1)).digest,
    ]  # fmt: skip
    assert len(set(other)) == len(other) and all(len(bytes.fromhex(each)) == 32 for each in other)
    assert digest() == digest(left_out=3) == ImageDataset("y", images, known.encode(captions), tokenizer=known,
                                                      parts=known.caption_parts(captions)).digest  # fmt: skip


def test_scenes_have_a_digest_and_no_number():
    assert Scenes(16).digest == Scenes(16, seed=3).digest != Scenes(32).digest and Scenes(16).found == ""
    assert Alike(16).digest != Scenes(16).digest


def test_more_images_than_can_be_shuffled():
    with pytest.raises(MinidiffError, match="16777217 images; at most 16777216 can be learnt from"):
        ImageDataset("many", np.broadcast_to(np.zeros(1, np.uint8), ((1 << 24) + 1, 1, 1, 1)))


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((np.zeros((2, 4, 4, 2), np.uint8),), r"\(N, H, W, 1 or 3\) uint8, got \(2, 4, 4, 2\) uint8"),
        ((np.zeros((2, 4, 4, 1)),), "uint8, got .* float64"),
        ((np.zeros((0, 4, 4, 1), np.uint8),), "no images"),
        ((np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64)), "come with classes or with a tokenizer"),
        ((np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int64), ("a",)), r"\(2,\) int64, got \(3,\)"),
        ((np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2]), ("a", "b")), "labels must be 0 to 1, got 0 to 2"),
        ((np.zeros((2, 4, 4, 1), np.uint8), np.array([-1, 0]), ("a", "b")), "labels must be 0 to 1, got -1 to 0"),
    ],
)
def test_images_are_checked(arguments, text):
    with pytest.raises(ValueError, match=text):
        ImageDataset("test", *arguments)
