"""The order of the pictures: all of them, each once an epoch, as a pure function of seed and step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minidiff.data.dataset import Pictures, hold_out, order
from minidiff.errors import MinidiffError
from minidiff.random import Key, Stream, permutation


def pictures(n, labelled=False):
    images = np.broadcast_to(np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1), (n, 2, 3, 1))
    labels = np.arange(n) % 2 if labelled else None
    return Pictures("numbers", images, labels, ("even", "odd") if labelled else ())


class Endless:
    endless = True


def test_batch():
    data = pictures(5, labelled=True)
    images, labels = data.batch(np.array([4, 1, 1]))
    assert images.shape == (3, 2, 3, 1) and images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [4, 1, 1]
    assert labels.tolist() == [0, 1, 1] and labels.dtype == np.int64
    assert pictures(5).batch(np.array([0]))[1] is None
    assert (data.height, data.width, data.channels, len(data), data.endless) == (2, 3, 1, 5, False)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**64 - 1))
def test_each_epoch_is_a_permutation_whatever_the_batch(n, batch, seed):
    steps = -(-3 * n // batch)  # three epochs, rounded up
    numbers = np.concatenate([order(pictures(n), seed, step, batch) for step in range(steps)])
    assert numbers.dtype == np.int64
    for epoch in range(3):
        here = numbers[epoch * n : (epoch + 1) * n]
        assert sorted(here) == list(range(n))
        assert here.tolist() == permutation(Key(seed, Stream.ORDER, epoch, 0), n).tolist()


def test_steps_can_be_asked_in_any_order():
    data = pictures(10)
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
        order(pictures(4), 0, step, batch)


def test_what_is_longer_than_keys_count_begins_again():
    """2^32 pictures or epochs on; and no step that training may take ends in an error."""
    step = (1 << 32) // 64
    assert order(Endless(), 0, step, 64).tolist() == order(Endless(), 0, 0, 64).tolist()
    crossing = order(Endless(), 0, step * 64 // 48, 48)
    assert set(np.diff(crossing)) == {1, 1 - (1 << 32)}
    assert order(pictures(3), 7, 1 << 32, 3).tolist() == order(pictures(3), 7, 0, 3).tolist()
    assert order(Endless(), 0, (1 << 32) - 1, 1 << 10).max() < 1 << 32


def test_every_tenth_is_held_out():
    data = pictures(25, labelled=True)
    train, test = hold_out(data, "train"), hold_out(data, "test")
    assert test.images[:, 0, 0, 0].tolist() == [9, 19]
    assert train.images[:, 0, 0, 0].tolist() == [i for i in range(25) if i not in (9, 19)]
    assert test.labels.tolist() == [1, 1] and test.classes == train.classes == ("even", "odd")
    assert len(hold_out(pictures(9), "train")) == 9


def test_too_few_to_hold_out():
    with pytest.raises(MinidiffError, match="at least 10 are needed; there are 9"):
        hold_out(pictures(9), "test")


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((np.zeros((2, 4, 4, 2), np.uint8),), r"\(N, H, W, 1 or 3\) uint8, got \(2, 4, 4, 2\) uint8"),
        ((np.zeros((2, 4, 4, 1)),), "uint8, got .* float64"),
        ((np.zeros((0, 4, 4, 1), np.uint8),), "no pictures"),
        ((np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int64)), "come with classes or with a vocabulary"),
        ((np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int64), ("a",)), r"\(2,\) int64, got \(3,\)"),
        ((np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 2]), ("a", "b")), "labels must be 0 to 1, got 0 to 2"),
        ((np.zeros((2, 4, 4, 1), np.uint8), np.array([-1, 0]), ("a", "b")), "labels must be 0 to 1, got -1 to 0"),
    ],
)
def test_pictures_are_checked(arguments, text):
    with pytest.raises(ValueError, match=text):
        Pictures("test", *arguments)
