"""From choices to images; choices that contradict each other are refused before anything is read."""

import gzip
import struct
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minidiff.data.config import DataConfig
from minidiff.data.dataset import ImageDataset, hold_out
from minidiff.data.open import open_data, to_grey
from minidiff.errors import MinidiffError

RGB = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), np.uint8)


def test_scenes_are_the_default():
    data = open_data(DataConfig())
    assert (data.name, data.height, data.width, data.channels, data.endless) == ("scenes", 32, 32, 3, True)
    assert open_data(DataConfig(size=(64,))).height == open_data(DataConfig(size=(64, 64))).width == 64


def test_scenes_follow_seed_and_split():
    first = open_data(DataConfig(), "train", seed=1).batch(np.arange(2))[0]
    assert np.array_equal(first, open_data(DataConfig(), "train", seed=1).batch(np.arange(2))[0])
    assert not np.array_equal(first, open_data(DataConfig(), "train", seed=2).batch(np.arange(2))[0])
    assert not np.array_equal(first, open_data(DataConfig(), "test", seed=1).batch(np.arange(2))[0])


def make_npz(folder):
    np.savez(folder / "a.npz", images=RGB, labels=np.arange(20) % 3)
    return folder / "a.npz"


def make_folder(folder):
    for i, image in enumerate(RGB):
        path = folder / "images" / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder / "images"


def make_mnist(folder):
    for prefix in ("train", "t10k"):
        for suffix, shape in (("images-idx3", (3, 28, 28)), ("labels-idx1", (3,))):
            header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)
            data = header + np.zeros(shape, np.uint8).tobytes()
            (folder / f"{prefix}-{suffix}-ubyte.gz").write_bytes(gzip.compress(data))
    return folder


def test_npz(tmp_path):
    path = make_npz(tmp_path)
    train, test = (open_data(DataConfig("npz", path), split) for split in ("train", "test"))
    held_out = hold_out(ImageDataset("a", RGB), "test").images
    chosen = (RGB[:, None] == held_out).all((2, 3, 4)).any(1)
    assert np.array_equal(test.images, held_out) and test.labels.tolist() == (np.flatnonzero(chosen) % 3).tolist()
    assert np.array_equal(train.images, RGB[~chosen]) and train.classes == ("0", "1", "2")
    assert train.found == f"{20 - chosen.sum()} images, {chosen.sum()} more held out"


def test_folder(tmp_path):
    config = DataConfig("folder", make_folder(tmp_path), size=(6,), folder_labels=True)
    train, test = (open_data(config, split) for split in ("train", "test"))
    assert train.classes == ("a", "b") and train.name == "images" and len(train) + len(test) == 20
    for part in (train, test):
        number = [int((image == RGB).all((1, 2, 3)).argmax()) for image in part.images]
        assert [n % 2 for n in number] == part.labels.tolist()
        assert number == sorted(number, key=lambda n: (n % 2, n))  # a/00, a/02, ... b/01, ...
    grey = open_data(DataConfig("folder", tmp_path / "images", grey=True))  # of the default size
    assert grey.images.shape == (len(train), 32, 32, 1) and np.array_equal(grey.contents, train.contents)


def test_a_folder_of_wide_images(tmp_path):
    """Height comes first; the two parts of the split hold the same images whatever their size."""
    path = make_folder(tmp_path)
    wide, square = (
        [open_data(DataConfig("folder", path, size), split) for split in ("train", "test")] for size in ((4, 6), (6,))
    )
    assert [data.images.shape[1:] for data in wide] == [(4, 6, 3)] * 2
    for a, b in zip(wide, square):
        np.testing.assert_array_equal(a.contents, b.contents)
        np.testing.assert_array_equal(a.images, b.images[:, 1:5])  # the images are 6×6: two rows are cropped


def test_settings_of_the_same_size_are_equal():
    assert DataConfig(size=(64, 64)) == DataConfig(size=(64,)) != DataConfig(size=(64, 65))


def test_grey_is_the_same_for_a_folder_and_an_npz(tmp_path):
    """The same images in the same order; Pillow and `to_grey` weigh the colours alike, to the bit."""
    Image.fromarray(RGB.reshape(120, 6, 3)[:6]).save(tmp_path / "0.png")
    pillow = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in RGB])[..., None]
    assert np.array_equal(to_grey(ImageDataset("a", RGB)).images, pillow)
    npz = open_data(DataConfig("npz", make_npz(tmp_path), grey=True))
    colour = open_data(DataConfig("npz", make_npz(tmp_path)))
    chosen = (RGB[:, None] == colour.images).all((2, 3, 4)).any(1)
    assert npz.channels == 1 and np.array_equal(npz.images, pillow[chosen])
    assert npz.labels is not None
    assert to_grey(npz) is npz


def test_published(tmp_path):
    make_mnist(tmp_path)
    for name in ("mnist", "fashion-mnist"):
        assert open_data(DataConfig(name, tmp_path), "test").images.shape == (3, 28, 28, 1)
        assert open_data(DataConfig(name, tmp_path, size=(28,), grey=True)).images.shape == (3, 28, 28, 1)


@pytest.mark.parametrize(
    "choices, text",
    [
        ({"data": "imagenet"}, "data 'imagenet': expected one of scenes, mnist, fashion-mnist, cifar10, npz, folder"),
        ({"size": (0,)}, "--size must be from 1 to 4096, got 0"),
        ({"size": (32, 10**9)}, "--size must be from 1 to 4096, got 1000000000"),
        ({"size": ()}, "--size must be one number for a square, or a height and a width, got nothing"),
        ({"size": (8, 9, 3)}, "--size must be one number for a square, or a height and a width, got 8 9 3"),
        ({"size": (32, 48)}, "scenes are square: expected one number as their size, got 32×48"),
        ({"data_dir": Path("cats")}, "--data-dir cats: scenes read no files; did you mean --data folder?"),
        ({"grey": True}, "--grey: scenes are in colour; it works with cifar10, npz and folder"),
        (
            {"data": "mnist"},
            "--data mnist needs --data-dir DIR, the folder of its files (with --download an empty or new one will do)",
        ),
        ({"data": "folder"}, "--data folder needs --data-dir DIR, the folder of its files"),
        ({"data": "npz"}, "--data npz needs --data-dir FILE.npz"),
        (
            {"data": "folder", "data_dir": Path("cats"), "download": True},
            "--download: nothing to fetch for folder; it works with mnist, fashion-mnist, cifar10",
        ),
        ({"download": True}, "--download: nothing to fetch for scenes; it works with mnist, fashion-mnist, cifar10"),
        ({"folder_labels": True}, "--folder-labels: works with --data folder, not with scenes"),
        ({"data": "folder", "data_dir": Path("no/cats")}, f"{Path('no/cats')}: no such folder of images"),
        ({"data": "npz", "data_dir": Path("no.npz")}, "no.npz: no such .npz file"),
    ],
)
def test_contradictions(choices, text):
    with pytest.raises(MinidiffError) as caught:
        open_data(DataConfig(**choices))
    assert str(caught.value) == text


@pytest.mark.parametrize(("size", "shown"), [((32,), "32"), ((28, 32), "28×32"), ((32, 28), "32×28")])
def test_a_size_that_the_images_do_not_have(tmp_path, size, shown):
    make_mnist(tmp_path)
    with pytest.raises(MinidiffError) as caught:
        open_data(DataConfig("mnist", tmp_path, size=size))
    assert str(caught.value) == (
        f"size {shown}: the images of mnist are 28×28 and keep that size: leave the size out "
        "(scenes and folder can have any size)"
    )


def test_every_choice_explains_itself():
    """The command line's help comes from the strings under the fields; each field has one."""
    lines = Path(open_data.__code__.co_filename).with_name("config.py").read_text("utf-8").splitlines()
    for field in fields(DataConfig):
        (at,) = [i for i, line in enumerate(lines) if line.strip().startswith(f"{field.name}:")]
        last = next(line for line in lines[at + 1 :] if line.endswith('"""'))
        assert lines[at + 1].strip().startswith('"""') and last.endswith('."""'), field.name
