"""Images of every kind, each beside what it should look like; and files that are none."""

import hashlib
import logging
import os
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from minidiff.data import folder as folder_module
from minidiff.data.folder import find, folder
from minidiff.errors import MinidiffError
from minidiff.images.files import save_png
from minidiff.images.read import decode

WHITE = (255, 255, 255)
RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


def quarters(size=64):
    """Red, green above blue, black: shows whether an image is turned or mirrored, or its colours exchanged."""
    image = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    image[:half, :half], image[:half, half:], image[half:, :half] = RED, GREEN, BLUE
    return Image.fromarray(image)


def corners(array):
    """The colours in the middle of the four quarters."""
    a, b = array.shape[0] // 4, array.shape[0] * 3 // 4
    return np.stack([array[a, a], array[a, b], array[b, a], array[b, b]]).astype(int)


def read(path, size=16, grey=False, background=WHITE):
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        return decode(file, size, size, grey, background)


@pytest.mark.parametrize(
    "name, save, tolerance",
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.webp", {"quality": 90}, 6),  # lossy: a few levels in flat colour
        ("a.jpg", {"quality": 95}, 6),
        ("a.gif", {}, 0),
        ("a.tiff", {}, 0),
    ],
)
def test_formats(tmp_path, name, save, tolerance):
    quarters().save(tmp_path / name, **save)
    array = read(tmp_path / name)
    assert array.shape == (16, 16, 3) and array.dtype == np.uint8
    assert np.abs(corners(array) - [RED, GREEN, BLUE, BLACK]).max() <= tolerance


def test_the_first_frame_counts(tmp_path):
    other = Image.new("RGB", (64, 64), "orange")
    for name in ("a.gif", "a.webp", "a.png"):
        quarters().save(tmp_path / name, save_all=True, append_images=[other], lossless=True)
        assert np.array_equal(corners(read(tmp_path / name)), [RED, GREEN, BLUE, BLACK]), name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_exif_orientation(tmp_path, orientation, name):
    """Store the image as a camera held that way would, with the note that says so: it comes out upright."""
    T = Image.Transpose
    undo = [
        None,
        T.FLIP_LEFT_RIGHT,
        T.ROTATE_180,
        T.FLIP_TOP_BOTTOM,
        T.TRANSPOSE,
        T.ROTATE_90,
        T.TRANSVERSE,
        T.ROTATE_270,
    ]
    stored = quarters().resize((640, 640), Image.Resampling.NEAREST)  # large enough for a JPEG to be read at an eighth
    stored = stored if orientation == 1 else stored.transpose(undo[orientation - 1])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / name, exif=exif)
    assert np.abs(corners(read(tmp_path / name)) - [RED, GREEN, BLUE, BLACK]).max() <= 8  # JPEG at quality 75


@pytest.mark.parametrize("background, colour", [("white", WHITE), ("#102030", (16, 32, 48)), ("black", BLACK)])
def test_transparency_shows_the_background(tmp_path, background, colour):
    image = np.zeros((32, 32, 4), np.uint8)
    image[:, 16:] = (200, 100, 0, 255)
    image[16:, :, 3] = 128  # the lower half is half transparent: black over colour, and orange over colour
    Image.fromarray(image).save(tmp_path / "rgba.png")
    Image.fromarray(image).save(tmp_path / "rgba.webp", lossless=True, exact=True)
    half = [(0.5 * np.array(c) + 0.5 * np.array(colour)) for c in (BLACK, (200, 100, 0))]
    images = folder(tmp_path, (16, 16), background=background).images
    for array in images:
        assert np.abs(corners(array) - [colour, (200, 100, 0), *half]).max() <= 2  # 128 is not quite one half


def test_transparency_of_other_modes(tmp_path):
    grey = np.full((32, 32, 2), 255, np.uint8)
    grey[:, :, 0], grey[:, :16, 1] = 90, 0
    Image.fromarray(grey, "LA").save(tmp_path / "la.png")
    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([255, 0, 0, 90, 90, 90])
    palette.paste(0, (0, 0, 16, 32))
    palette.save(tmp_path / "p.png", transparency=0)
    palette.save(tmp_path / "p.gif", transparency=0)
    palette.save(tmp_path / "bytes.png", transparency=b"\x00\xff")
    Image.fromarray(np.where(grey[..., 1] == 0, 7, 90).astype(np.uint8)).save(tmp_path / "l.png", transparency=7)
    rgb = np.where(grey[..., 1:] == 0, np.array([1, 2, 3]), 90).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "rgb.png", transparency=(1, 2, 3))
    for path in sorted(tmp_path.iterdir()):
        array = read(path, background=(0, 0, 255))
        assert array[8, 2].tolist() == [0, 0, 255] and array[8, 13].tolist() == [90, 90, 90], path.name


def test_sixteen_bits(tmp_path):
    ramp = np.linspace(0, 65535, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    Image.fromarray(ramp).save(tmp_path / "a.tiff")
    Image.fromarray(ramp.astype(np.int32)).save(tmp_path / "b.tiff")
    for path in sorted(tmp_path.iterdir()):
        array = read(path, size=32, grey=True)
        assert np.abs(array[..., 0].astype(float) - ramp / 257).max() <= 0.5, path.name  # rounded to 8 bits
    Image.fromarray(ramp.astype(np.int32) * 1000).save(tmp_path / "c.tiff")
    with pytest.raises(ValueError, match="more than 16 bits a pixel"):
        read(tmp_path / "c.tiff")
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "d.tiff")
    with pytest.raises(ValueError, match="floating-point pixels"):
        read(tmp_path / "d.tiff")


def test_sixteen_bit_colour(tmp_path):
    """Pillow cannot write 48-bit PNGs, so this one is put together by hand: 2x2 pixels of orange."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\x00" + struct.pack(">3H", 0xFFFF, 0x8080, 0) * 2
    parts = [chunk(b"IHDR", struct.pack(">2I5B", 2, 2, 16, 2, 0, 0, 0)), chunk(b"IDAT", zlib.compress(row * 2))]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b""))
    assert read(tmp_path / "a.png", 2).reshape(-1, 3).tolist() == [[255, 128, 0]] * 4


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_modes(tmp_path, mode):
    image = Image.new("RGB", (32, 32), BLACK)
    image.paste(WHITE, (16, 0, 32, 32))
    path = tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png")
    image.convert(mode).save(path)
    array = read(path)
    assert array.shape == (16, 16, 3)
    assert np.abs(corners(array) - [BLACK, WHITE, BLACK, WHITE]).max() <= 3  # JPEG


def test_cmyk_colours(tmp_path):
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - RED).max() <= 6


def test_grey(tmp_path):
    quarters().save(tmp_path / "a.png")
    array = read(tmp_path / "a.png", grey=True)
    assert array.shape == (16, 16, 1)
    assert corners(array)[:, 0].tolist() == [76, 150, 29, 0]  # 0.299, 0.587, 0.114 of 255


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (20, 20), (3, 1000)])
def test_the_middle_square_is_kept(tmp_path, shape):
    height, width = shape
    image = Image.new("RGB", (width, height), "red")
    side, draw = min(shape), ImageDraw.Draw(image)
    left, top = (width - side) // 2, (height - side) // 2
    draw.rectangle((left, top, left + side - 1, top + side - 1), fill=(0, 0, 255))
    image.save(tmp_path / "a.png")
    array = read(tmp_path / "a.png", 10)
    assert np.all(array == BLUE)


@pytest.mark.parametrize("shape", [(40, 20), (20, 40), (20, 20)])
@pytest.mark.parametrize("size", [(6, 12), (12, 6), (5, 9)])
def test_the_middle_of_the_asked_shape_is_kept(tmp_path, shape, size):
    """Along one side the whole image is kept, along the other its middle: a ramp keeps these values at its ends."""
    ramps = [np.linspace(0, 255, n) for n in shape]
    image = np.stack([*np.meshgrid(*ramps, indexing="ij"), np.zeros(shape)], axis=2)
    Image.fromarray(image.round().astype(np.uint8)).save(tmp_path / "a.png")
    array = folder(tmp_path, size).images[0]
    assert array.shape == (*size, 3)
    scale = min(have / asked for have, asked in zip(shape, size))
    for axis, (have, asked) in enumerate(zip(shape, size)):
        values = array[..., axis].take(0, 1 - axis).astype(float)
        step = 255 / (have - 1)  # of the ramp, from pixel to pixel
        centres = (have - 1) / 2 + (np.arange(asked) - (asked - 1) / 2) * scale
        expected = centres * step
        # A crop is rounded to whole pixels, and the filter bends a ramp at an image's edge.
        assert np.abs(values - expected).max() <= 1.5 * step


def test_a_jpeg_on_its_side_is_read_as_finely_as_an_upright_one(tmp_path):
    """A decoder that shrinks must leave enough of a side that becomes the other one when the image is turned."""
    bands = Image.fromarray(np.repeat(np.random.default_rng(0).integers(0, 256, (1, 64), np.uint8), 64, axis=0))
    upright = bands.resize((1024, 8192), Image.Resampling.BICUBIC)  # of the height, little is kept
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.jpg", exif=exif, quality=95)
    upright.save(tmp_path / "b.png")
    turned, expected = folder(tmp_path, (16, 256)).images.astype(int)
    assert np.abs(turned - expected).max() <= 3  # levels of 255; JPEG's own loss included


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_resizing_is_antialiased(tmp_path, name):
    """A fine checkerboard must become flat grey; picking single pixels would give black or white."""
    board = np.indices((512, 512)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / name, quality=95)
    assert np.abs(read(tmp_path / name).astype(float) - 127.5).max() <= 2


def test_a_large_jpeg_is_read_like_a_small_one(tmp_path):
    """Decoding at an eighth is a shortcut; what comes out differs little from the long way (sides divide by 8)."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    large = small.resize((1280, 960), Image.Resampling.BICUBIC)
    large.save(tmp_path / "a.jpg", quality=95)
    large.save(tmp_path / "a.png")
    difference = read(tmp_path / "a.jpg", 32).astype(int) - read(tmp_path / "a.png", 32)
    assert np.abs(difference).max() <= 3  # levels of 255; JPEG's own loss included; measured: 1


def test_order_depth_and_hidden_files(tmp_path):
    for i, name in enumerate(["b/x.png", "a.png", "a/z.png", "a/b/c/d/e.PNG", "B.png", "a-b.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), i).save(tmp_path / name)
    for name in (".hidden.png", ".git/x.png", "a/.x/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), 99).save(tmp_path / name)
    files = [path.relative_to(tmp_path).as_posix() for path in find(tmp_path)]
    assert files == ["B.png", "a/b/c/d/e.PNG", "a/z.png", "a-b.png", "a.png", "b/x.png"]
    data = folder(tmp_path, (2, 2), grey=True)
    assert data.images[:, 0, 0, 0].tolist() == [4, 3, 2, 5, 1, 0]
    assert data.name == tmp_path.name and data.labels is None and data.classes == ()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    quarters().save(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "file.png").symlink_to(tmp_path / "a" / "x.png")
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    found = [path.relative_to(tmp_path).as_posix() for path in find(tmp_path)]
    assert found == ["a/x.png", "broken.png", "file.png", "pipe.png"]
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    assert len(folder(tmp_path, (8, 8))) == 2
    assert caplog.messages == [
        f"{tmp_path}: 3 of 5 not readable: broken.png (No such file or directory); pipe.png (is a pipe; expected a "
        "regular file); zero.png (is a device; expected a regular file)"
    ]


def test_folders_that_minidiff_wrote_are_left_out(tmp_path, caplog):
    """Known by what is in them, not by their names; who names one as the folder of images means it."""
    for name in ("a.png", "runs/b.png", "out/mine/previews/step_1.png", "runs/old/grid.png", "runs/x/images/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        quarters().save(tmp_path / name)
    (tmp_path / "out" / "mine" / "config.toml").write_text("")
    (tmp_path / "runs" / "config.toml").write_text("of something else")
    save_png(tmp_path / "runs" / "x" / "grid.png", np.asarray(quarters()), {"command": "sample"})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "grid.png").write_bytes(b"no image")
    files = [path.relative_to(tmp_path).as_posix() for path in find(tmp_path)]
    assert files == ["a.png", "broken/grid.png", "runs/b.png", "runs/config.toml", "runs/old/grid.png"]
    assert len(folder(tmp_path, (8, 8))) == 3
    assert f"{tmp_path}: 2 folders of trainings and of samples are left out: out/mine; runs/x" in caplog.messages
    assert (
        len(folder(tmp_path / "out" / "mine" / "previews", (8, 8)))
        == len(folder(tmp_path / "runs" / "x", (8, 8))) - 1
        == 1
    )


@pytest.mark.skipif(sys.platform == "win32", reason="names are Unicode on Windows")
def test_odd_names_are_printed_safely(tmp_path, caplog):
    for name in (b"a\x1b[2Jb\xff", b"c\nd"):
        where = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118  # no path of Unicode
        os.mkdir(where)  # noqa: PTH102
        quarters().save(where + b"/x.png")
        with open(where + b"/\x9bno.png", "wb"):  # noqa: PTH123
            pass
    data = folder(tmp_path, (8, 8), labels=True)
    assert data.classes == (r"a\x1b[2Jb\udcff", r"c\nd")
    (line,) = caplog.messages
    assert line.isprintable() and r"a\x1b[2Jb\udcff/\udc9bno.png (not an image that can be read)" in line


def test_found_says_how_many(tmp_path):
    quarters().save(tmp_path / "a.png")
    assert folder(tmp_path, (8, 8)).found == "1 image"
    quarters(32).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    assert folder(tmp_path, (8, 8)).found == "2 images, 1 unreadable"


def test_the_same_file_is_the_same_content_at_any_size(tmp_path):
    quarters().save(tmp_path / "a.png")
    one, other = folder(tmp_path, (8, 8)), folder(tmp_path, (16, 16), grey=True)
    assert one.contents.tobytes() == other.contents.tobytes()
    assert one.contents.tobytes() == hashlib.sha256((tmp_path / "a.png").read_bytes()).digest()


def test_labels_are_the_first_folders(tmp_path):
    for name in ("owl/1.png", "cat/deep/er/2.png", "cat/1.png", "Émile/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        quarters().save(tmp_path / name)
    (tmp_path / "empty").mkdir()
    data = folder(tmp_path, (8, 8), labels=True)
    assert data.classes == ("cat", "owl", "Émile") and data.labels.tolist() == [0, 0, 1, 2]
    quarters().save(tmp_path / "loose.png")
    with pytest.raises(MinidiffError, match=r"loose.png lies in no sub-folder, so it has no label"):
        folder(tmp_path, (8, 8), labels=True)
    assert len(folder(tmp_path, (8, 8))) == 5


def broken_files(root):
    """One file of each kind, cut in half, and others that are no images at all."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tiff"):
        path = root / f"half.{suffix}"
        noise.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (root / "empty.png").write_bytes(b"")
    (root / "notes.txt").write_text("no image")
    (root / "program.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


def test_what_cannot_be_read_is_counted_and_named(tmp_path, caplog):
    quarters().save(tmp_path / "good.png")
    broken_files(tmp_path)
    with caplog.at_level(logging.WARNING):
        data = folder(tmp_path, (8, 8))
    assert len(data) == 1
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(f"{tmp_path}: 9 of 10 not readable: empty.png (not an image that can be read); half.bmp (")
    assert line.endswith(" and 4 more") and line.count(";") == 4 and "\n" not in line


def test_nothing_readable_is_an_error(tmp_path):
    with pytest.raises(MinidiffError, match=r"no readable image \(PNG, JPEG, WEBP, GIF, BMP, TIFF\) in this folder"):
        folder(tmp_path)
    broken_files(tmp_path)
    with pytest.raises(MinidiffError, match="no readable image"):
        folder(tmp_path)
    with pytest.raises(MinidiffError, match="nowhere: no such folder of images"):
        folder(tmp_path / "nowhere")


@pytest.mark.parametrize("factor", [1.5, 3])  # Pillow warns beyond its limit and refuses beyond twice of it
def test_a_image_beyond_pillows_limit_is_named(tmp_path, monkeypatch, caplog, factor):
    quarters(16).save(tmp_path / "good.png")
    quarters(64).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(64 * 64 / factor))
    assert len(folder(tmp_path, (8, 8))) == 1
    assert f"1 of 2 not readable: huge.png (more than {int(64 * 64 / factor)} pixels)" in caplog.text


def test_memory_is_bounded(tmp_path, monkeypatch):
    for i in range(10):
        quarters(8).save(tmp_path / f"{i}.png")
    monkeypatch.setattr(folder_module, "MAX_BYTES", 10 * 32 * 32 * 3 - 1)
    with pytest.raises(MinidiffError, match=r"10 files at 32×32 pixels would take .* GiB of memory, the limit is"):
        folder(tmp_path)
    assert len(folder(tmp_path, (31, 31))) == 10
    assert len(folder(tmp_path, (32, 32), grey=True)) == 10


def test_a_wrong_colour(tmp_path):
    with pytest.raises(MinidiffError, match=r"^background 'whiet': not a colour; give a name or #rrggbb$"):
        folder(tmp_path, background="whiet")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that may not be read")
def test_a_forbidden_folder_is_named(tmp_path, caplog):
    quarters().save(tmp_path / "good.png")
    (tmp_path / "secret").mkdir(mode=0)
    try:
        assert len(folder(tmp_path, (8, 8))) == 1
    finally:
        (tmp_path / "secret").chmod(0o700)
    assert "1 of 2 not readable: secret (Permission denied)" in caplog.text
