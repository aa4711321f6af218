"""The gallery: files that repeat their drawing, a folder with anything in it, ids that lead nowhere else."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest
import tiny_model
from PIL import Image

from minidiff import backend
from minidiff import sample as command
from minidiff.errors import MinidiffError
from minidiff.images.files import read_metadata, to_uint8
from minidiff.pipeline.loading import load
from minidiff.sampling.inputs import files_of
from minidiff.sampling.like import check
from minidiff.sampling.request import SampleRequest
from minidiff.studio import gallery as module
from minidiff.studio.gallery import Gallery
from minidiff.studio.ids import UnknownIdError, id_of
from minidiff.studio.parameters import parse

RNG = np.random.default_rng(0)
REQUEST = SampleRequest(prompt=("a dog",), steps=4, guidance_scale=3.0, count=3, backend="numpy")
DIGESTS = {"checkpoint": "0123456789abcdef" * 4}


def images(n=3, channels=3):
    return RNG.integers(0, 256, (n, 8, 8, channels), np.uint8)


@pytest.fixture(autouse=True)
def own_backend(monkeypatch):
    """The command selects a backend for its whole process, which here is the tests'."""
    monkeypatch.setattr(backend, "_stack", [])
    backend.use("numpy")


@pytest.fixture
def gallery(tmp_path):
    return Gallery(tmp_path / "out")


def names(entries):
    return [entry.name for entry in entries]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_saved_in_its_own_size_with_its_settings(gallery, channels):
    drawn = images(channels=channels)
    entries = gallery.save(drawn, REQUEST, DIGESTS, "scenes", {"branches": []})
    for k, entry in enumerate(entries):
        path = gallery.path(entry.id)
        with Image.open(path) as image:
            assert np.array_equal(np.asarray(image).reshape(8, 8, channels), drawn[k])
            text = image.info["parameters"]
        assert path == gallery.folder / entry.name and entry.about["image"] == k
        assert read_metadata(path) == entry.about == gallery.settings(entry.id)
        assert entry.about["settings"]["prompt"] == ["a dog"] and entry.about["branches"] == []
        assert parse(text)["Prompt"] == "a dog" and parse(text)["Model hash"] == "0123456789"
        assert time.strptime(entry.drawn, "%Y-%m-%dT%H:%M:%S")
    assert gallery.list() == entries[::-1]
    assert Gallery(gallery.folder).list() == entries[::-1]  # another session gives the same ids


def test_texts_in_any_script_are_kept(gallery):
    (entry,) = gallery.save(images(1), replace(REQUEST, prompt=("un été — 犬",), negative="ночь"), DIGESTS, "m")
    with Image.open(gallery.path(entry.id)) as image:
        assert image.text["parameters"].startswith("un été — 犬\nNegative prompt: ночь\n")


def test_a_saved_image_repeats_its_drawing_to_the_bit(gallery, tmp_path, capsys):
    checkpoint = tiny_model.write(tmp_path / "run")
    photo = tmp_path / "photo.png"
    Image.fromarray(RNG.integers(0, 256, (20, 20, 3), np.uint8)).save(photo)
    kinds = {
        "labels": {"label": ("dog", "owl"), "seed": 7, "guidance_interval": (0.1, float("inf"))},
        "edit": {"init": photo, "sampler": "euler-ancestral"},
        "branch": {"label": ("dog",), "branch": ('step = 2, label = ["cat"], sampler = "euler"',)},
    }
    for kind, changes in kinds.items():
        model = load(checkpoint)
        request = SampleRequest(checkpoint=checkpoint, steps=4, count=3, backend="numpy")
        request, plan = command.plan_of(replace(request, **changes), model)
        for step in plan.steps(0, request.count):
            last = step
        drawn = to_uint8(last.x_prev)
        digests = check(None, {}, files_of(request, model))
        entry = gallery.save(drawn, request, digests, model.path.stem)[1]
        out = tmp_path / f"again {kind}"
        command.main(["--like", str(gallery.path(entry.id)), "--out", str(out), "--array"])
        with np.load(out / "samples.npz") as arrays:
            assert np.array_equal(arrays["arr_0"], drawn)
    capsys.readouterr()


def test_nothing_is_overwritten(gallery, monkeypatch):
    class Frozen(module.datetime):
        @classmethod
        def now(cls):
            return cls(2026, 11, 28, 14, 30, 5)

    monkeypatch.setattr(module, "datetime", Frozen)
    first = gallery.save(images(2), REQUEST, DIGESTS, "m")
    assert names(first) == ["2026-11-28_14-30-05_001_000.png", "2026-11-28_14-30-05_001_001.png"]
    (gallery.folder / "2026-11-28_14-30-05_002_000.png").symlink_to("nowhere")
    before = {path: path.read_bytes() for path in gallery.folder.glob("*001_*")}
    second = Gallery(gallery.folder).save(images(1), REQUEST, DIGESTS, "m")
    assert names(second) == ["2026-11-28_14-30-05_003_000.png"]
    assert {path: path.read_bytes() for path in before} == before
    assert names(gallery.list()) == names([*second, *first[::-1]])


def test_a_listing_goes_page_by_page(gallery):
    saved = [entry for _ in range(3) for entry in gallery.save(images(3), REQUEST, DIGESTS, "m")][::-1]
    saved.sort(key=lambda entry: entry.name, reverse=True)
    found, before = [], None
    while page := gallery.list(before, 4):
        assert len(page) <= 4
        found, before = [*found, *page], page[-1].id
    assert found == saved
    gallery.path(saved[3].id).unlink()  # while somebody scrolls
    assert gallery.list(saved[3].id, 2) == saved[4:6]
    with pytest.raises(UnknownIdError, match="there is no image g-0000"):
        gallery.list("g-0000")


def test_what_does_not_belong_here_is_passed_over(gallery, tmp_path):
    good = gallery.save(images(1), REQUEST, DIGESTS, "m")
    folder, stem = gallery.folder, "2031-01-01_00-00-00_001_00"
    whole = gallery.path(good[0].id).read_bytes()
    (folder / f"{stem}0.png").write_bytes(whole[:60])
    (folder / f"{stem}1.png").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(folder / f"{stem}2.png")  # of another program
    (tmp_path / "secret.png").write_bytes(whole)
    (folder / f"{stem}3.png").symlink_to(tmp_path / "secret.png")
    (folder / f"{stem}4.png").mkdir()
    (folder / f".{stem}5.png.01234567.tmp").write_bytes(whole)
    (folder / "holiday.png").write_bytes(whole)
    (folder / "inputs").mkdir()
    os.mkfifo(folder / f"{stem}6.png")
    (folder / f"{stem}7.png").write_bytes(whole.replace(b'"settings"', b'"sottings"'))
    for k, odd in enumerate((b"NaN, ", b'"\\ud800"')):  # what could not be sent to a browser
        (folder / f"{stem}{8 + k}.png").write_bytes(whole.replace(b'"a dog"', odd))
    assert gallery.list() == Gallery(folder).list() == good
    with pytest.raises(MinidiffError, match=f"{stem}0.png: damaged, or not written by minidiff"):
        gallery.settings(id_of("g", f"{stem}0.png".encode()))
    for name in (f"{stem}3.png", f"{stem}4.png", f"{stem}6.png", "holiday.png", "../secret.png"):
        with pytest.raises(UnknownIdError):
            gallery.path(id_of("g", name.encode()))
    for id in ("", "../secret.png", good[0].name, "g-", good[0].id + "\n"):
        with pytest.raises(UnknownIdError):
            gallery.path(id)


def test_files_come_and_go(gallery):
    assert gallery.list() == []
    other = Gallery(gallery.folder)  # another process, such as a second studio
    for _ in range(3):
        first = other.save(images(1), REQUEST, DIGESTS, "m")
        assert gallery.list()[0] == first[0] and gallery.settings(first[0].id) == first[0].about
    gallery.path(first[0].id).unlink()
    assert first[0] not in gallery.list() and first[0] not in other.list()
    with pytest.raises(UnknownIdError):
        other.path(first[0].id)
    replacement = gallery.list()[0]
    gallery.path(replacement.id).write_bytes(b"damaged since")
    assert replacement not in gallery.list()


def test_a_listing_of_ten_thousand_files_reads_only_those_it_shows(gallery, monkeypatch):
    (entry,) = gallery.save(images(1), REQUEST, DIGESTS, "m")
    source = gallery.path(entry.id)
    for k in range(10_000):
        os.link(source, gallery.folder / f"2027-01-01_00-00-00_{k // 100:03d}_{k % 100:03d}.png")
    settled = time.time() - 60
    os.utime(gallery.folder, (settled, settled))
    reads, scans = [], []
    monkeypatch.setattr(module, "read_metadata", lambda path: reads.append(path) or read_metadata(path))
    real = os.scandir
    monkeypatch.setattr(module.os, "scandir", lambda path: scans.append(path) or real(path))
    page = gallery.list(count=60)
    assert len(page) == 60 == len(reads) and page[0].name == "2027-01-01_00-00-00_099_099.png"
    for _ in range(3):
        assert gallery.list(count=60) == page
    gallery.path(page[30].id)
    assert len(reads) == 60 and len(scans) == 1
    assert gallery.list(page[-1].id, 60)[0].name == "2027-01-01_00-00-00_099_039.png" and len(reads) == 120


def test_a_full_disk_leaves_whole_images_only(gallery, monkeypatch):
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 2:  # the first image and its folder are synced
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("minidiff.files.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*_001\.png'"):
        gallery.save(images(3), REQUEST, DIGESTS, "m")
    assert len(list(gallery.folder.iterdir())) == 1 == len(gallery.list())


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        Gallery(tmp_path / "file").save(images(1), REQUEST, DIGESTS, "m")
    assert Gallery(tmp_path / "file").list() == [] == Gallery(tmp_path / "none").list()
