"""A classifier is trained once, and again when anything that it depends on changes or its file is damaged."""

import re

import numpy as np
import pytest
import toy_images
from safetensors.numpy import save_file

from minidiff import backend
from minidiff.data.dataset import ImageDataset
from minidiff.evaluation import cache
from minidiff.evaluation.cache import classifier_for, fingerprint, name
from minidiff.evaluation.convnet import TrainConfig
from minidiff.evaluation.labels.classifier import classify
from minidiff.evaluation.split import Subset

TRAIN_CONFIG = TrainConfig(steps=2, batch_size=8)
DATA = toy_images.make(30)


@pytest.fixture(autouse=True)
def plain_backend(request):
    if "every_backend" in request.fixturenames:
        yield
        return
    with backend.using("numpy"):
        yield


def get(folder, data=DATA, config=TRAIN_CONFIG):
    """Return the classifier, the lines that were said, and the steps that were trained."""
    lines, losses = [], []
    kept = classifier_for(data, config, folder, lines.append, losses.append)
    return kept, lines, len(losses)


def test_trained_once(tmp_path):
    first, lines, steps = get(tmp_path / "new" / "folder")
    assert steps == 2 and first.seconds > 0 and first.path.is_file()
    assert lines == [f"training a classifier of toy: 2 steps of 8 images, kept in {first.path}"]
    second, lines, steps = get(tmp_path / "new" / "folder")
    assert (steps, lines, second.seconds, second.path) == (0, [], None, first.path)
    for one, other in zip(classify(first.model, DATA.images), classify(second.model, DATA.images)):
        np.testing.assert_array_equal(one, other)


def test_a_kept_one_reads_on_every_backend(every_backend, tmp_path):
    """Its weights come from a file, and the images from the host: both must be where the backend computes."""
    with backend.using("numpy"):
        first, _, _ = get(tmp_path)
        exact = classify(first.model, DATA.images[:2])
    second, _, steps = get(tmp_path)
    found = classify(second.model, DATA.images[:2])
    assert steps == 0
    np.testing.assert_array_equal(found[0], exact[0])
    np.testing.assert_allclose(found[1], exact[1], rtol=1e-4, atol=1e-5)


def test_whatever_changes_changes_the_name(tmp_path, monkeypatch):
    images, labels = DATA.images.copy(), DATA.labels.copy()
    images[7, 3, 2, 1] ^= 1
    labels[7] = (labels[7] + 1) % 3
    names = [
        name(DATA, TRAIN_CONFIG),
        name(ImageDataset("toy", images, DATA.labels, DATA.classes), TRAIN_CONFIG),
        name(ImageDataset("toy", DATA.images, labels, DATA.classes), TRAIN_CONFIG),
        name(ImageDataset("toy", DATA.images, DATA.labels, ("cat", "dog", "elk")), TRAIN_CONFIG),
        name(DATA, TrainConfig(steps=3, batch_size=8)),
        name(DATA, TrainConfig(steps=2, batch_size=8, seed=1)),
    ]
    other_code = tmp_path / "classifier.py"
    other_code.write_text("# another network\n")
    monkeypatch.setattr(cache.classifier, "__file__", str(other_code))
    names.append(name(DATA, TRAIN_CONFIG))
    assert len(set(names)) == len(names)


def test_the_name_is_one_for_any_file_system():
    odd = ImageDataset("../my: images*", DATA.images, DATA.labels, DATA.classes)
    assert re.fullmatch(r"_my_images_-[0-9a-f]{16}\.safetensors", name(odd, TRAIN_CONFIG))


def test_fingerprints():
    assert fingerprint(toy_images.make(30)) == fingerprint(DATA)
    assert fingerprint(toy_images.make(30, channels=1)) != fingerprint(DATA)
    endless = Subset(DATA, 0, 2**32, endless=True)  # asked for its first images only, here made to be 30
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "FINGERPRINT_IMAGES", 30)
        assert fingerprint(endless) == fingerprint(DATA)


def test_a_fingerprint_is_of_pixels():
    """One file on two backgrounds: to a training that is a setting, to a classifier they are other images."""
    white, black = (
        ImageDataset("x", np.full((1, 2, 2, 1), grey, np.uint8), content=np.zeros((1, 32), np.uint8))
        for grey in (255, 0)
    )
    assert white.digest == black.digest and fingerprint(white) != fingerprint(black)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": (flip_a_bit, "is damaged: its content does not match its digest"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is damaged: "),
    "empty": (lambda path: path.write_bytes(b""), "is damaged: "),
    "a foreign file": (lambda path: save_file({"x": np.zeros(3)}, path), "is not a classifier of toy"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_is_trained_again(tmp_path, damage):
    destroy, reason = DAMAGE[damage]
    whole = get(tmp_path)[0]
    destroy(whole.path)
    again, lines, steps = get(tmp_path)
    assert steps == 2 and len(lines) == 2
    assert str(whole.path) in lines[0] and reason in lines[0] and lines[0].endswith(": training it again")
    assert "\n" not in lines[0]
    for one, other in zip(classify(whole.model, DATA.images), classify(again.model, DATA.images)):
        np.testing.assert_array_equal(one, other)
    assert get(tmp_path)[2] == 0  # the new file is whole


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    kept, lines, steps = get(tmp_path / "file" / "inside")
    assert steps == 2 and kept.seconds is not None
    assert lines[1].startswith("the classifier is not kept: ") and str(tmp_path / "file") in lines[1]


def test_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "minidiff" / "classifiers"
