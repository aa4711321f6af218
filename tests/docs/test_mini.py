"""Chapter 2's file: every gradient is right, it learns, and its digits follow their labels."""

import gzip
import importlib.util
import re
import struct
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from minidiff import backend
from minidiff.data.dataset import ImageDataset
from minidiff.diffusion import Level, Process, make_schedule
from minidiff.evaluation.labels.classifier import make_classifier
from minidiff.kernels.conv2d import reference as conv_reference
from minidiff.kernels.norm import reference as norm_reference
from minidiff.kernels.optimizer import reference as adam_reference

CHAPTER = Path(__file__).parents[2] / "docs" / "chapter2"
STEP = 1e-5
# Central differences at this step are off by about STEP² from curvature and 1e-16 / STEP from rounding, 1e-9 and less
# of a gradient's norm for one layer, and up to some 1e-7 through a whole network.
BOUND = 1e-6


def load(name):
    spec = importlib.util.spec_from_file_location(name, CHAPTER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def mini():
    return load("mini")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_chapter_reads_one_file_of_numpy():
    text = (CHAPTER / "mini.py").read_text(encoding="utf-8")
    lines, page = len(text.splitlines()), (CHAPTER.parent / "chapter2.md").read_text(encoding="utf-8")
    assert lines <= 300
    assert f"one file of {lines} lines" in page
    imported = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
    assert imported == ["argparse", "gzip", "time", "itertools", "pathlib", "numpy", "PIL"]
    for name in re.findall(r"^(?:def|class) (\w+)", text, re.MULTILINE):
        assert f":pyobject: {name}\n" in page, f"the chapter does not read {name}"


# ---- gradients ------------------------------------------------------------------------------------------------------


def in_float64(weights, rng):
    """Give weights values in float64, none of them zero, as those that start at zero would hide wrong gradients."""
    for weight in weights:
        weight.value = rng.normal(scale=0.5, size=weight.value.shape)


def error_of(forward, backward, inputs, weights, rng):
    """The largest error of gradients along random directions, relative to the norm of each gradient.

    forward(): the output from the arrays `inputs` and the values of `weights`, all in float64. backward(gy): a list of
    the gradients of the inputs. Some gradients are zero in theory, such as that of a bias before a normalisation: their
    errors are relative to a thousandth of the largest norm.
    """
    gy = rng.normal(size=forward().shape)
    gradients = [*backward(gy), *(weight.gradient for weight in weights)]
    arrays = [*inputs, *(weight.value for weight in weights)]
    norms, errors = [np.linalg.norm(gradient) for gradient in gradients], []
    for array, gradient, norm in zip(arrays, gradients, norms, strict=True):
        assert gradient.shape == array.shape and gradient.dtype == np.float64
        direction = rng.choice((-1.0, 1.0), array.shape) * rng.uniform(0.5, 1.5, array.shape)
        exact, values = array.copy(), []
        for step in (STEP, -STEP):
            array[...] = exact + step * direction
            values.append((forward() * gy).sum())
        array[...] = exact
        off = abs((gradient * direction).sum() - (values[0] - values[1]) / (2 * STEP))
        errors.append(off / max(norm, 1e-3 * max(norms)))
    return max(errors)


def error_of_layer(layer, weights, x, rng):
    in_float64(weights, rng)
    return error_of(lambda: layer.forward(x), lambda gy: [layer.backward(gy)], [x], weights, rng)


LAYERS = {
    "Linear, vectors": (lambda mini, weights: mini.Linear(weights, 5, 3), (4, 5)),
    "Linear, images": (lambda mini, weights: mini.Linear(weights, 5, 3), (2, 3, 4, 5)),
    "Conv": (lambda mini, weights: mini.Conv(weights, 5, 3), (2, 7, 4, 5)),
    "Conv of one row": (lambda mini, weights: mini.Conv(weights, 2, 3), (2, 1, 4, 2)),
    "SiLU": (lambda mini, weights: mini.SiLU(), (2, 3, 4, 5)),
    "GroupNorm": (lambda mini, weights: mini.GroupNorm(), (2, 3, 5, 24)),
    "Chain": (lambda mini, ws: mini.Chain([mini.Conv(ws, 3, 8), mini.GroupNorm(), mini.SiLU()]), (2, 3, 4, 3)),
    "Chain of none": (lambda mini, weights: mini.Chain(), (2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_each_layer(mini, rng, name):
    make, shape = LAYERS[name]
    weights = []
    assert error_of_layer(make(mini, weights), weights, 2 * rng.normal(size=shape), rng) < BOUND


@pytest.mark.parametrize("name", ["Linear, images", "Conv", "SiLU", "GroupNorm"])
def test_a_wrong_gradient_is_noticed(mini, rng, name):
    """The largest number of gx is wrong by a tenth of itself."""
    make, shape = LAYERS[name]
    weights = []
    layer = make(mini, weights)
    right = layer.backward

    def wrong(gy):
        gx = right(gy)
        gx.reshape(-1)[np.abs(gx).argmax()] *= 1.1
        return gx

    layer.backward = wrong
    # one of some hundred numbers, the largest, is off by a tenth: more than 0.1 / sqrt(720) of the norm, and its
    # direction is at least 0.5
    assert error_of_layer(layer, weights, 2 * rng.normal(size=shape), rng) > 1e-3


@pytest.mark.parametrize("outputs", [8, 16])
def test_gradients_of_a_block(mini, rng, outputs):
    weights = []
    block = mini.Block(weights, 8, outputs, 5)
    in_float64(weights, rng)
    x, cond = rng.normal(size=(2, 3, 4, 8)), rng.normal(size=(2, 5))
    assert error_of(lambda: block.forward(x, cond), block.backward, [x, cond], weights, rng) < BOUND


def test_gradients_of_the_whole_network(mini, rng):
    network = mini.UNet(channels=8)
    in_float64(network.weights, rng)
    x, t, label = rng.normal(size=(3, 4, 8, 4)), np.array([0.01, 0.4, 1.0]), np.array([3, mini.NONE, 9])
    forward = lambda: network.forward(x, t, label)
    assert error_of(forward, lambda gy: [network.backward(gy)], [x], network.weights, rng) < BOUND


def test_enlarge_and_shrink_are_each_others_backward_pass(mini, rng):
    x, y = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 6, 8, 5))
    assert mini.enlarge(x).shape == y.shape and mini.shrink(y).shape == x.shape
    # float64, sums of some hundred products
    assert np.isclose((mini.enlarge(x) * y).sum(), (x * mini.shrink(y)).sum(), rtol=0, atol=1e-11)
    assert np.array_equal(mini.shrink(mini.enlarge(x)), 4 * x)


# ---- the same as in the package -------------------------------------------------------------------------------------


def test_convolution_and_normalisation_are_those_of_the_package(mini, rng):
    weights = []
    layer = mini.Conv(weights, 16, 3)
    in_float64(weights, rng)
    w, b = (weight.value for weight in weights)
    x = rng.normal(size=(2, 5, 4, 16))
    # float64, sums of 144 products of numbers of order one
    np.testing.assert_allclose(layer.forward(x), conv_reference.conv2d(x, w.reshape(3, 3, 16, 3), b), atol=1e-12)
    y, _, _ = norm_reference.group_norm(x, np.ones(16), np.zeros(16), mini.GROUPS, 1e-5, False)
    np.testing.assert_allclose(mini.GroupNorm().forward(x), y, atol=1e-12)


def test_adam_is_that_of_the_package(mini, rng):
    weights = []
    weight = mini.Weight(weights, 50, 1.0)
    w, ema, m, v = weight.value.astype(float), weight.ema.astype(float), np.zeros(50), np.zeros(50)
    for step in range(1, 31):
        g = rng.normal(size=50) * np.geomspace(0.1, 1e3, 50)
        weight.gradient = g.astype(np.float32)
        mini.adam(weights, step, 0.01)
        decay = min(0.998, (1 + step) / (10 + step))
        hyper = np.array([0.01, 0.9, 0.99, 1e-8, 0.0, 1 - 0.9**step, 1 - 0.99**step, 1.0, decay])
        adam_reference.adamw_ema(w, g, m, v, ema, 0, hyper)
    # float32 rounds values of about 1 by 1e-7 at each of thirty steps; and eps stands in another place, which changes a
    # step of 0.01 by 1e-6 of itself where gradients are 0.1
    np.testing.assert_allclose(weight.value, w, rtol=0, atol=1e-5)
    np.testing.assert_allclose(weight.ema, ema, rtol=0, atol=1e-5)


def test_the_estimates_are_those_of_the_package(mini, rng):
    """v and what follows from it, by chapter 3's two equations at the same a and s."""
    x_t, v = rng.normal(size=(2, 1, 4, 4, 1))
    for t in (0.0, 0.3, 1.0):
        a, s = (float(each) for each in mini.noise_level(np.float64(t)))
        assert abs(a * a + s * s - 1) < 1e-6  # float32
        level = Level(t, a, s)
        x0_hat, eps_hat = Process(make_schedule("cosine"), "v").to_x0_eps(v, x_t, level)
        # a and s are float32 numbers whose squares add up to 1 with seven digits
        np.testing.assert_allclose(x0_hat, a * x_t - s * v, atol=1e-5)
        np.testing.assert_allclose(eps_hat, s * x_t + a * v, atol=1e-5)


# ---- images ---------------------------------------------------------------------------------------------------------


def test_patches_are_two_by_two_pixels_and_lead_back(mini, rng):
    images = rng.integers(0, 256, (3, 28, 28), np.uint8)
    x = mini.to_patches(images)
    assert x.shape == (3, 14, 14, 4) and x.dtype == np.float32 and x.min() >= -1 and x.max() <= 1
    assert np.array_equal(mini.to_images(x), images)
    corner = mini.to_images(x[:, :1, :1].repeat(14, 1).repeat(14, 2))  # every patch is the first one
    assert np.array_equal(corner, np.tile(images[:, :2, :2], (1, 14, 14)))


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path, rng):
    """A folder like MNIST's, with twenty images: one file is packed, the other is not."""
    images, labels = rng.integers(0, 256, (20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 10
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_files_of_mnists_format_are_read(mini, folder):
    images = mini.read_idx(folder, "train-images-idx3-ubyte")
    labels = mini.read_idx(folder, "train-labels-idx1-ubyte")
    assert images.shape == (20, 28, 28) and np.array_equal(labels, np.arange(20) % 10)
    assert np.array_equal(images, np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8))


# ---- training and sampling ------------------------------------------------------------------------------------------


class Watched:
    """A network without weights that keeps what it is asked, and estimates v for images that it knows.

    known: what images of each label look like, and those of none: (11,) numbers in [-1, 1], for all pixels of them.
    """

    def __init__(self, mini, known):
        self.mini, self.known, self.weights, self.asked = mini, known, [], []

    def forward(self, x_t, t, label):
        self.asked.append((x_t, t, label))
        assert x_t.dtype == np.float32
        a, s = self.mini.noise_level(t[:, None, None, None])
        return (a * x_t - self.known[label][:, None, None, None].astype(np.float32)) / s

    def backward(self, gy):
        assert gy.dtype == np.float32


def test_a_training_draws_noise_evenly_and_hides_one_label_in_ten(mini):
    network, labels = Watched(mini, np.zeros(11)), np.arange(10, dtype=np.uint8)
    images = np.full((10, 28, 28), 255, np.uint8)
    losses = mini.train(network, images, labels, steps=300)
    assert len(losses) == len(network.asked) == 300
    for x_t, t, _ in network.asked:
        assert x_t.shape == (32, 14, 14, 4)
        assert np.array_equal(np.floor(32 * t), np.arange(32)), "one time in each 32nd of 0 to 1"
    x_t, t, label = (np.concatenate(each) for each in zip(*network.asked))
    # 9600 labels, of which each is hidden with probability 0.1: the deviation is 0.003, and this is five of it
    assert abs((label == mini.NONE).mean() - 0.1) < 0.015
    assert set(np.unique(label)) == set(range(11))
    # images that are all 1: x_t is normal with mean a and deviation s; 784 numbers each, of which 5 / sqrt(784) is 0.18
    a, s = mini.noise_level(t)
    assert np.abs(x_t.mean(axis=(1, 2, 3)) - a).max() < 0.18
    assert np.abs(x_t.std(axis=(1, 2, 3)) - s).max() < 0.18


def test_a_training_ends_with_the_minutes(mini, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(mini, "time", SimpleNamespace(perf_counter=lambda: next(clock)))  # a second for each question
    network = Watched(mini, np.zeros(11))
    mini.train(network, np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8), minutes=0.2)
    assert len(network.asked) == 11  # those that begin after 1, 2, ..., 11 seconds of 12


def test_the_sampler_ends_with_the_image_that_the_network_knows(mini):
    known = np.linspace(-1, 1, 11)
    known[mini.NONE] = 0.1
    network = Watched(mini, known)
    label = np.array([0, 3, 9, 9])
    images = mini.sample(network, label, steps=7, guidance_scale=1.0)
    assert images.shape == (4, 28, 28) and images.dtype == np.uint8
    expected = np.rint(127.5 * (known[label] + 1)).astype(int)
    # rounded to one of 256 levels, on which float32 decides only if the number lies between two
    assert np.abs(images.reshape(4, -1).astype(int) - expected[:, None]).max() <= 1
    times = [t[0] for _, t, _ in network.asked]
    np.testing.assert_allclose(times, np.arange(7, 0, -1) / 7)
    assert all(np.array_equal(asked, [0, 3, 9, 9, *[mini.NONE] * 4]) for _, _, asked in network.asked)

    guided = mini.sample(network, label, steps=7, guidance_scale=2.0)
    estimate = np.clip(0.1 + 2 * (known[label] - 0.1), -1, 1)
    assert np.abs(guided.reshape(4, -1) - 127.5 * (estimate + 1)[:, None]).max() <= 1


def strokes(count, rng):
    """Images of three labels: a line across, a line down, and a square, each somewhere. (N, 28, 28), (N,) uint8"""
    images, labels = np.zeros((count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 3
    for image, label in zip(images, labels):
        y, x = rng.integers(4, 16, 2)
        image[[np.s_[y : y + 4], np.s_[:, x : x + 4], np.s_[y : y + 9, x : x + 9]][label]] = 255
    return images, labels


def test_it_learns_a_few_images_by_heart(mini, rng):
    images, labels = strokes(3, rng)
    network = mini.UNet(channels=16)
    losses = mini.train(network, images, labels, steps=200, batch_size=16, lr=1e-2)
    assert np.isfinite(losses).all()
    # an untrained network estimates 0, and its loss is the mean square of v, about 1
    assert 0.7 < losses[0] < 1.3
    assert np.mean(losses[-20:]) < losses[0] / 4
    drawn = mini.sample(network, np.array([0, 1, 2]), steps=10).astype(float)
    distances = np.abs(drawn[:, None] - images).mean(axis=(2, 3))
    assert (distances.argmin(axis=1) == labels).all()


def test_the_same_seed_draws_the_same_images(mini, rng):
    network = mini.UNet(channels=8)
    network.weights[-2].value[...] = rng.normal(size=network.weights[-2].value.shape)  # the last layer begins at zero
    label = np.array([1, 2, 3])
    first, again, other = (mini.sample(network, label, steps=3, seed=seed) for seed in (5, 5, 6))
    assert first.shape == (3, 28, 28) and first.dtype == np.uint8 and first.std() > 5
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_saved_weights_draw_the_same_images(mini, rng, tmp_path):
    network, images = mini.UNet(channels=8), strokes(6, rng)
    mini.train(network, *images, steps=5, batch_size=4)
    mini.save(network, tmp_path / "weights")
    other = mini.UNet(channels=8)
    before = mini.sample(other, np.arange(3), steps=3)
    mini.load(other, tmp_path / "weights")
    after, expected = (mini.sample(each, np.arange(3), steps=3) for each in (other, network))
    assert np.array_equal(after, expected) and not np.array_equal(before, expected)


def test_other_files_are_refused(mini, tmp_path):
    network = mini.UNet(channels=8)
    mini.save(mini.UNet(channels=16), tmp_path / "larger.npz")
    with pytest.raises(ValueError, match="could not broadcast"):
        mini.load(network, tmp_path / "larger.npz")
    np.savez(tmp_path / "fewer.npz", network.weights[0].value)
    with pytest.raises(ValueError, match="shorter"):
        mini.load(network, tmp_path / "fewer.npz")
    np.savez(tmp_path / "objects.npz", np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        mini.load(network, tmp_path / "objects.npz")


def test_the_command_trains_and_draws_again(mini, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(mini, "UNet", partial(mini.UNet, channels=8))
    monkeypatch.setattr(mini, "sample", partial(mini.sample, steps=2))
    mini.main([".", "--minutes", "0.01", "--labels", "70"])
    assert re.search(r"\n\d+ steps, loss \d\.\d{4}\n$", capsys.readouterr().out)
    first = np.asarray(Image.open("digits.png"))
    assert first.shape == (2 * 2 * 28, 2 * 10 * 28)
    mini.main(["--labels", "70", "--out", "again.png"])
    assert np.array_equal(np.asarray(Image.open("again.png")), first)


def test_the_classifier_counts_digits_that_are_read_as_their_label(monkeypatch):
    monkeypatch.syspath_prepend(CHAPTER)
    reading = load("read_digits")
    known = np.linspace(-1, 1, 11)
    network = Watched(reading.mini, known)
    blank = np.zeros((10, 28, 28, 1), np.uint8)
    dataset = ImageDataset("blank", blank, np.arange(10), tuple("0123456789"))
    with backend.using("numpy"):
        classifier = make_classifier(dataset)
        classifier.initialize(0)  # its last layer begins at zero, so it reads 0 from everything
        assert reading.read(network, classifier, each=7, guidance_scale=1.0) == 7
    drawn = np.concatenate([label[: len(label) // 2] for _, t, label in network.asked if t[0] == 1])
    assert np.array_equal(drawn, np.repeat(np.arange(10), 7))


# ---- does it follow labels? -----------------------------------------------------------------------------------------


def digit(label, x, y):
    """A printed digit with its middle at (x, y): (28, 28) uint8."""
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).text((x, y), str(label), 255, ImageFont.load_default(22), anchor="mm")
    return np.asarray(image)


@pytest.mark.release
def test_digits_follow_their_labels(mini, rng):
    """Printed digits instead of MNIST's, which would have to be downloaded, and the nearest of all that were learnt."""
    places = [(x, y) for x in range(11, 18) for y in range(11, 18)]
    templates = np.array([digit(label, *place) for label in range(10) for place in places])
    labels = np.repeat(np.arange(10), len(places))
    network = mini.UNet(channels=32)
    mini.train(network, templates, labels, steps=1300)

    asked = np.repeat(np.arange(10), 10)
    drawn = np.concatenate([mini.sample(network, part, seed=i) for i, part in enumerate(np.split(asked, 5))])
    known = templates.reshape(len(templates), -1).astype(float)
    distances = np.array([((known - image) ** 2).mean(axis=1) for image in drawn.reshape(100, -1)])
    found = labels[distances.argmin(axis=1)]
    assert (found == asked).mean() >= 0.9
    # a digit differs from an image of black by the mean square of its own pixels: what is drawn is much nearer to one
    assert np.median(distances.min(axis=1)) < (known**2).mean() / 2
