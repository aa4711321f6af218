"""A mirrored image is said to be what it is: its sides change their words, or it stays as it was."""

import numpy as np

from minidiff.data.dataset import ImageDataset
from minidiff.data.flip import flipped, flipped_labels
from minidiff.nn.tokenizer import build_tokenizer
from minidiff.scenes import Scenes
from minidiff.scenes.factors import POSITIONS


def stripes(n):
    return np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None], (n, 4, 4, 1))


def turned(images):
    """Which images of stripes(n) are mirrored."""
    return [not np.array_equal(image, stripes(1)[0]) for image in images]


def captioned(*texts):
    known = build_tokenizer(texts)
    return ImageDataset(
        "captioned", stripes(len(texts)), known.encode(texts), tokenizer=known, parts=known.caption_parts(texts)
    )


def flip(data, chosen=None):
    images, labels = data.batch(np.arange(len(data)))
    chosen, labels = flipped_labels(data, labels, np.ones(len(data), bool) if chosen is None else chosen)
    return flipped(images, chosen), labels


def test_captions_change_their_sides():
    """Whole words only, in any order and number; what is no side stays, and so does what is not chosen."""
    data = captioned(
        "a cat, left of a dog", "on the RIGHT", "right left right", "a bright cleft", "leftmost or rightmost"
    )
    images, labels = flip(data)
    assert [data.tokenizer.decode(row) for row in labels] == [
        "a cat right of a dog", "on the left", "left right left", "a bright cleft", "rightmost or leftmost",
    ]  # fmt: skip
    assert turned(images) == [True] * 5
    images, labels = flip(data, np.array([True, False, False, True, False]))
    assert turned(images) == [True, False, False, True, False]
    assert [data.tokenizer.decode(row) for row in labels][1:3] == ["on the right", "right left right"]
    assert np.array_equal(labels == 0, data.labels == 0)


def test_a_side_without_a_word_for_the_other_keeps_its_image():
    data = captioned("a left shoe", "a shoe", "a left hand leftmost")
    images, labels = flip(data)
    assert turned(images) == [False, True, False]
    assert np.array_equal(labels, data.labels)


def test_classes_change_their_sides():
    classes = ("dog", "left-hand", "left_shoe", "right hand", "right-hand")
    data = ImageDataset("shoes", stripes(5), np.arange(5), classes)
    images, labels = flip(data)
    assert [classes[i] for i in labels] == ["dog", "right hand", "left_shoe", "left-hand", "left-hand"]
    assert turned(images) == [True, True, False, True, True]


def test_images_without_labels_are_mirrored():
    images, labels = flip(ImageDataset("plain", stripes(3)), np.array([True, False, True]))
    assert labels is None and turned(images) == [True, False, True]


def test_what_a_dataset_keeps_is_not_touched():
    data = captioned("left right")
    before, mine = data.images.copy(), data.batch(np.arange(1))
    flipped_labels(data, mine[1], np.ones(1, bool))
    flipped(mine[0], np.ones(1, bool))
    assert np.array_equal(data.images, before) and np.array_equal(mine[0], before)


def test_a_mirrored_scene_says_where_things_are():
    """Of each caption that names a side, the mirrored image's names the other, and it is where the subject is."""
    data, index = Scenes(16, captions=True), np.arange(300)
    images, labels = data.batch(index)
    chosen, said = flipped_labels(data, labels, np.ones(len(index), bool))
    after = flipped(images, chosen)
    assert np.array_equal(after, images[:, :, ::-1])
    position = data.factors(index).position
    told = 0
    for i, (row, new) in enumerate(zip(labels, said, strict=True)):
        side = POSITIONS[position[i]]
        text, mirror = data.tokenizer.decode(row).split(), data.tokenizer.decode(new).split()
        if side != "middle" and side in text:
            told += 1
            assert {"left": "right", "right": "left"}[side] in mirror and side not in mirror
        else:
            assert text == mirror
    assert told > 5
