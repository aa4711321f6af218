"""Uploaded pictures: what is stored, what is refused, and what the network sees of them."""

import hashlib
import io
import os
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from minidiff.data.control import read_control
from minidiff.errors import MinidiffError
from minidiff.images.read import quiet, read_image, read_mask
from minidiff.studio import pictures
from minidiff.studio.ids import UnknownIdError
from minidiff.studio.pictures import PictureStore, inverted, shown

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (24, 36, 3), np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def store(tmp_path):
    return PictureStore(tmp_path / "inputs")


def stored(store, data):
    with Image.open(store.path(store.add(data).id)) as image:
        image.load()
        return image


def test_a_picture_is_stored_once_under_its_hash(store):
    picture = store.add(encoded(NOISE))
    path = store.path(picture.id)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.id == f"p-{digest[:16]}" and (picture.width, picture.height) == (36, 24)
    assert store.add(encoded(NOISE, "BMP")) == store.add(path.read_bytes()) == picture
    assert [each.name for each in store.folder.iterdir()] == [f"{picture.id}.png"] and store.count == 1
    assert np.array_equal(np.asarray(Image.open(path)), NOISE)
    assert store.find(digest) == picture.id
    assert store.find(digest[:16] + "0" * 48) is None and store.find("") is None
    again = PictureStore(store.folder)
    assert again.path(picture.id) == path and again.add(encoded(NOISE)) == picture and again.count == 0


def test_a_damaged_file_is_replaced(store):
    picture = store.add(encoded(NOISE))
    store.path(picture.id).write_bytes(b"damaged")
    assert store.add(encoded(NOISE)) == picture
    assert np.array_equal(np.asarray(Image.open(store.path(picture.id))), NOISE)


@pytest.mark.parametrize(
    "id", ["", None, 5, ["p-"], "p-", "../x", "p-../../../../etc/passwd", "p-0123456789abcdef", "g-0123456789abcdef"]
)
def test_only_ids_of_pictures_lead_to_files(store, id):
    store.add(encoded(NOISE))
    with pytest.raises(UnknownIdError, match="there is no picture"):
        store.path(id)


def test_neither_links_nor_line_ends_lead_out_of_the_folder(store, tmp_path):
    picture = store.add(encoded(NOISE))
    with pytest.raises(UnknownIdError):
        store.path(picture.id + "\n")
    (tmp_path / "secret.png").write_bytes(encoded(NOISE))
    (store.folder / "p-00112233445566aa.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UnknownIdError):
        store.path("p-00112233445566aa")


def test_metadata_is_gone_and_pictures_are_upright(store):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"  # to be turned by a quarter
    data = encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif, comment=b"secret", icc_profile=b"profile")
    image = stored(store, data)
    assert image.size == (20, 40) and image.info == {} and not image.getexif()
    assert b"secret" not in store.path(store.add(data).id).read_bytes()


def test_large_pictures_are_reduced(store):
    image = stored(store, encoded(Image.new("RGB", (3000, 1500), (10, 200, 30))))
    assert image.size == (1024, 512) and image.getpixel((500, 200)) == (10, 200, 30)
    assert stored(store, encoded(Image.new("L", (1, 5000)))).size == (1, 1024)
    assert stored(store, encoded(Image.new("L", (1024, 1024)))).size == (1024, 1024)


def test_transparency_is_kept_when_a_picture_is_reduced(store):
    clear = Image.new("RGBA", (2048, 2048), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 1024, 2048))
    pixels = np.asarray(stored(store, encoded(clear)))
    assert pixels.shape == (1024, 1024, 4) and tuple(pixels[5, 5]) == (0, 0, 255, 255) and pixels[5, 1000, 3] == 0
    assert not pixels[pixels[..., 3] > 0][:, 0].any()  # no red of the clear part in the rim


MODES = {
    "palette": (Image.fromarray(NOISE).quantize(16), "PNG", {}),
    "clear colour of a palette": (Image.fromarray(NOISE).quantize(16), "PNG", {"transparency": 3}),
    "clear colour": (Image.fromarray(NOISE), "PNG", {"transparency": (0, 0, 0)}),
    "one bit": (Image.fromarray(NOISE).convert("1"), "PNG", {}),
    "grey": (Image.fromarray(NOISE).convert("L"), "PNG", {}),
    "grey with alpha": (Image.fromarray(NOISE).convert("LA"), "PNG", {}),
    "16 bits": (Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "PNG", {}),
    "four inks": (Image.fromarray(NOISE).convert("CMYK"), "TIFF", {}),
    "lossless WebP": (Image.fromarray(NOISE), "WEBP", {"lossless": True}),
    "JPEG": (Image.fromarray(NOISE), "JPEG", {}),
}


@pytest.mark.parametrize("name", MODES)
def test_the_stored_picture_is_read_as_the_original(store, tmp_path, name):
    image, kind, options = MODES[name]
    data = encoded(image, kind, **options)
    (tmp_path / "original").write_bytes(data)
    path = store.path(store.add(data).id)
    assert np.array_equal(read_image(path, 24, 36, 3), read_image(tmp_path / "original", 24, 36, 3))
    assert np.array_equal(read_mask(path, 24, 36), read_mask(tmp_path / "original", 24, 36))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(store, kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    image = stored(store, data)
    assert image.size == (16, 16) and image.convert("RGB").getpixel((8, 8))[:2] == pytest.approx((255, 0), abs=4)
    assert getattr(image, "n_frames", 1) == 1


def png_header(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


REFUSED = {
    "nothing": (b"", "not an image that can be read"),
    "text": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image that can be read"),
    "a cut PNG": (encoded(NOISE)[:900], "."),
    "a cut JPEG": (encoded(NOISE, "JPEG")[:300], "."),
    "a bomb": (png_header(50_000, 50_000), "more than .* pixels"),
    "a smaller bomb": (png_header(12_000, 12_000), "more than .* pixels"),
    "floating point": (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "floating-point"),
    "a format with a program inside": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_in_one_line(store, name):
    data, why = REFUSED[name]
    with pytest.raises(MinidiffError, match=f"^the picture cannot be used: .*{why}") as caught:
        store.add(data)
    assert "\n" not in str(caught.value) and not store.folder.exists()


def test_a_file_beyond_measure_is_not_decoded(store, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_UPLOAD", 100)
    with pytest.raises(MinidiffError, match="the picture's file holds 101 bytes; expected at most 100"):
        store.add(b"\0" * 101)


def test_a_session_stores_so_much_and_no_more(store, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PICTURES", 2)
    first = store.add(encoded(NOISE))
    store.add(encoded(255 - NOISE))
    with pytest.raises(MinidiffError, match="this session has stored 2 pictures"):
        store.add(encoded(NOISE[::-1]))
    assert store.add(encoded(NOISE)) == first  # it is there already
    monkeypatch.setattr(pictures, "MOST_PICTURES", 9)
    monkeypatch.setattr(pictures, "MOST_BYTES", store.bytes + 10)
    with pytest.raises(MinidiffError, match="expected at most 9 pictures"):
        store.add(encoded(NOISE[::-1]))
    assert len(list(store.folder.iterdir())) == 2


def test_a_full_disk_leaves_nothing(store, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minidiff.files.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*p-[0-9a-f]{16}\.png'"):
        store.add(encoded(NOISE))
    assert not list(store.folder.iterdir()) and store.count == 0


def test_pictures_come_in_from_several_threads(store, capfd):
    """Decoders' messages are suppressed for the whole process, so one thread must not undo what another does."""
    images = [encoded(np.roll(NOISE, k, 0)) for k in range(8)]
    threads = [threading.Thread(target=store.add, args=(images[k % 8],)) for k in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.count == 8 == len(list(store.folder.iterdir()))
    with quiet():
        pass
    os.write(2, b"still heard")
    assert capfd.readouterr().err == "still heard"


def test_what_the_network_sees(store):
    photo = store.path(store.add(encoded(NOISE)).id)
    for use in ("init", "reference"):
        assert np.array_equal(shown(photo, use, (8, 8, 3)), read_image(photo, 8, 8, 3))
        assert shown(photo, use, (8, 8, 1)).shape == (8, 8, 1)
    drawing = Image.new("L", (200, 200), 255)
    drawing.paste(0, (60, 20, 66, 180))
    lines = store.path(store.add(encoded(drawing)).id)
    seen = shown(lines, "control", (32, 32, 3), "edges")
    assert np.array_equal(seen, read_control(lines, 32, 32, "edges")) and seen.shape == (32, 32, 1) and seen.max() > 150
    assert shown(lines, "control", (32, 32, 3), "depth").shape == (32, 32, 1)
    mask = shown(lines, "mask", (8, 8, 3))
    assert mask.shape == (8, 8, 1) and mask.dtype == np.uint8 and mask.max() == 255
    blank = store.path(store.add(encoded(Image.new("L", (64, 64), 255))).id)
    with pytest.raises(MinidiffError, match="blank"):
        shown(blank, "control", (32, 32, 3), "edges")
    with pytest.raises(MinidiffError, match="for init, mask, control or reference, got 'x'"):
        shown(photo, "x", (8, 8, 3))


@pytest.mark.parametrize("kind", ["grey", "of 0 and 1", "colour", "opaque", "painted"])
def test_an_inverted_mask_keeps_what_the_mask_draws_anew(store, tmp_path, kind):
    grey = NOISE[..., 0]
    alpha = np.full_like(grey, 255) if kind == "opaque" else NOISE[..., 1]
    mask = {"grey": grey, "of 0 and 1": (grey > 99).astype(np.uint8), "colour": NOISE}.get(
        kind, np.dstack([NOISE, alpha])
    )
    path = store.path(store.add(encoded(mask)).id)
    (tmp_path / "inverted.png").write_bytes(inverted(path))
    there_and_back = read_mask(path, *grey.shape) + read_mask(tmp_path / "inverted.png", *grey.shape)
    assert np.abs(there_and_back - 1).max() < 1e-6
