"""From arrays to files that people look at, and back."""

import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from minidiff.errors import MinidiffError
from minidiff.images.files import half_blocks, make_grid, read_metadata, save_animation, save_png, to_float, to_uint8

RNG = np.random.default_rng(0)


def test_every_byte_survives_the_way_in_and_out():
    every = np.arange(256, dtype=np.uint8)
    x = to_float(every)
    assert x.dtype == np.float32 and (x[0], x[255]) == (-1, 1)
    assert np.array_equal(to_uint8(x), every)


def test_to_uint8_rounds_and_cuts_off():
    x = np.array([-np.inf, -7, -1, 0, 1 / 127.5 * 0.49, 1, 1.5, np.inf, np.nan], np.float32)
    assert to_uint8(x).tolist() == [0, 0, 0, 128, 128, 255, 255, 255, 128]  # 127.5 rounds to even


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_every_image(channels):
    images = RNG.integers(0, 256, (5, 4, 6, channels), np.uint8)
    sheet = make_grid(images, columns=3, zoom=2, gap=1)
    assert sheet.shape == (2 * (2 * 5 + 1), 2 * (3 * 7 + 1), 3) and sheet.dtype == np.uint8
    small = sheet[::2, ::2]
    assert np.array_equal(small.repeat(2, 0).repeat(2, 1), sheet)  # zoom repeats pixels and mixes none
    for i, image in enumerate(images):
        top, left = 1 + i // 3 * 5, 1 + i % 3 * 7
        assert np.array_equal(small[top : top + 4, left : left + 6], np.broadcast_to(image, (4, 6, 3)))
    assert np.all(small[:, 0] == 255) and np.all(small[6:, 15:] == 255)  # the gaps and the empty place are white


@pytest.mark.parametrize("n, size", [(1, 32), (16, 32), (16, 28), (100, 32), (1000, 32), (3, 500), (1, 4)])
def test_grid_chooses_a_size_that_can_be_seen(n, size):
    sheet = make_grid(np.zeros((n, size, size, 1), np.uint8))
    zoom = len(sheet) // (int(np.ceil(n / np.ceil(np.sqrt(n)))) * (size + 2) + 2)
    assert 1 <= zoom <= 4 and (max(sheet.shape) <= 1000 or zoom == 1)
    assert n * size > 600 or zoom == 4


@pytest.mark.parametrize("shape, dtype", [((0, 4, 4, 3), np.uint8), ((4, 4, 3), np.uint8), ((1, 4, 4, 3), np.float32)])
def test_grid_refuses(shape, dtype):
    with pytest.raises(ValueError, match=re.escape(f"got {shape} {np.dtype(dtype)}")):
        make_grid(np.zeros(shape, dtype))


IMAGE = RNG.integers(0, 256, (5, 7, 3), np.uint8)


@pytest.mark.parametrize("image", [IMAGE, IMAGE[..., :1], IMAGE[:, ::-1]])
def test_png_keeps_pixels_and_settings(tmp_path, image):
    settings = {"seed": 2**64 - 1, "label": "Äpfel ☺\n", "scale": 0.1, "list": [1, None, True], "deep": {"a": {}}}
    save_png(tmp_path / "a.png", image, settings)
    with Image.open(tmp_path / "a.png") as read:
        assert np.array_equal(np.asarray(read).reshape(image.shape), image)
    assert read_metadata(tmp_path / "a.png") == settings
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_settings_are_one_plain_text_chunk(tmp_path):
    """Other programs find them: a tEXt chunk, keyword "minidiff", JSON in ASCII."""
    save_png(tmp_path / "a.png", IMAGE, {"label": "ä"})
    assert b'tEXtminidiff\x00{"label": "\\u00e4"}' in (tmp_path / "a.png").read_bytes()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=9), json_values, max_size=4))
def test_any_settings_come_back(tmp_path, values):
    save_png(tmp_path / "a.png", IMAGE, values)
    assert read_metadata(tmp_path / "a.png") == values


def test_not_a_number_is_no_setting(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save_png(tmp_path / "a.png", IMAGE, {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def png_with(text):
    """A PNG of one pixel with this in its "minidiff" chunk, put together by hand."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [chunk(b"IHDR", struct.pack(">2I5B", 1, 1, 8, 0, 0, 0, 0)), chunk(b"tEXt", b"minidiff\x00" + text)]
    parts += [chunk(b"IDAT", zlib.compress(b"\x00\x00")), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    "text, reason",
    [
        (b"{", "Expecting property name"),
        (b"", "Expecting value"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "Expecting value"),
        (b"[" * 500_000, "nested too deeply"),
        (b'"' + b"x" * (1 << 20) + b'"', "1048578 characters"),
        (b"9" * 10_000, "Exceeds the limit"),
    ],
    ids=["brace", "empty", "list", "bytes", "deep", "long", "digits"],
)
def test_settings_from_elsewhere_are_not_trusted(tmp_path, text, reason):
    (tmp_path / "a.png").write_bytes(png_with(text))
    with pytest.raises(MinidiffError, match=rf"a.png: its settings cannot be read \(.*{reason}") as caught:
        read_metadata(tmp_path / "a.png")
    assert len(str(caught.value)) < len(str(tmp_path)) + 150 and "\n" not in str(caught.value)


def test_a_image_without_settings(tmp_path):
    save_png(tmp_path / "a.png", IMAGE)
    with pytest.raises(MinidiffError, match=r"a.png: holds no settings: it was not written by minidiff, or was edited"):
        read_metadata(tmp_path / "a.png")


@pytest.mark.parametrize("data", [b"", b"no image", png_with(b"{}")[:30], png_with(b"{}")[:50] + b"x" * 99])
def test_no_png(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(MinidiffError, match=r"a.png: not a PNG that can be read|holds no settings"):
        read_metadata(tmp_path / "a.png")
    Image.fromarray(IMAGE).save(tmp_path / "b.gif")
    with pytest.raises(MinidiffError, match=r"b.gif: not a PNG that can be read"):
        read_metadata(tmp_path / "b.gif")
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "c.png")


def frames_of(path):
    with Image.open(path) as image:
        frames, durations = [], []
        for i in range(image.n_frames):
            image.seek(i)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
        return np.stack(frames), durations, image.info.get("loop")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".PNG"])
@pytest.mark.parametrize("channels", [1, 3])
def test_animations_are_lossless(tmp_path, suffix, channels):
    frames = RNG.integers(0, 256, (4, 12, 9, channels), np.uint8)
    save_animation(tmp_path / f"a{suffix}", frames, [40, 50, 60, 1000])
    read, durations, loop = frames_of(tmp_path / f"a{suffix}")
    assert np.array_equal(read, np.broadcast_to(frames, (4, 12, 9, 3)))
    # WebP tells a frame's end rather than its length
    assert loop == 0 and (suffix == ".webp" or durations == [40, 50, 60, 1000])


def test_gif_keeps_grey_and_few_colours_exactly(tmp_path):
    grey = RNG.integers(0, 256, (3, 16, 16, 1), np.uint8)
    save_animation(tmp_path / "a.gif", grey, 50)
    read, durations, loop = frames_of(tmp_path / "a.gif")
    assert np.array_equal(read, np.broadcast_to(grey, (3, 16, 16, 3)))
    assert durations == [50, 50, 50] and loop == 0


def test_each_gif_frame_has_its_own_colours(tmp_path):
    """Three frames with 225 colours each, none in common: one palette for all could not show them exactly."""
    frames = np.zeros((3, 15, 15, 3), np.uint8)
    frames[..., 0], frames[..., 1] = np.indices((15, 15)) * 17
    frames[..., 2] = np.array([10, 120, 250]).reshape(3, 1, 1)
    save_animation(tmp_path / "a.gif", frames, 40)
    assert np.abs(frames_of(tmp_path / "a.gif")[0].astype(int) - frames).mean() < 2  # levels; median cut joins a few


def test_gif_of_colour_noise_stays_close(tmp_path):
    """The hardest frame there is: 256 colours for noise that fills the colour cube."""
    frames = RNG.integers(0, 256, (2, 64, 64, 3), np.uint8)
    save_animation(tmp_path / "a.gif", frames, 40)
    # 256 boxes in the cube have sides of about 40 levels: a mean distance of a quarter of that a channel
    assert np.abs(frames_of(tmp_path / "a.gif")[0].astype(int) - frames).mean() < 15


def test_animations_are_checked(tmp_path):
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(MinidiffError, match=r"a.mp4: an animation is a .gif, .png or .webp file, got .mp4"):
        save_animation(tmp_path / "a.mp4", frames, 40)
    with pytest.raises(ValueError, match="2 frames, but 1 durations"):
        save_animation(tmp_path / "a.gif", frames, [40])
    with pytest.raises(ValueError, match="no frames"):
        save_animation(tmp_path / "a.gif", [], 40)
    with pytest.raises(ValueError, match=r"got \(4, 4, 2\) uint8"):
        save_animation(tmp_path / "a.gif", frames[..., :2], 40)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_image(tmp_path, monkeypatch):
    save_png(tmp_path / "a.png", IMAGE)
    before = (tmp_path / "a.png").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minidiff.files.os.fsync", full)
    for save in (
        lambda: save_png(tmp_path / "a.png", 255 - IMAGE),
        lambda: save_animation(tmp_path / "a.png", [IMAGE], 9),
    ):
        with pytest.raises(OSError, match=r"No space left on device: '.*a\.png'"):
            save()
    assert (tmp_path / "a.png").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def pixels_of(text):
    """Read half blocks back as a terminal would: (2 lines, columns, 3)."""
    rows = []
    for line in text.split("\n"):
        assert line.endswith("\x1b[0m")  # no colour leaks into what follows
        upper, lower, colours = [], [], None
        for code, blocks in re.findall(r"\x1b\[([\d;]+)m(▀+)", line):
            numbers = [int(part) for part in code.split(";")]
            assert numbers[:2] == [38, 2] and numbers[5:7] == [48, 2]
            colours = numbers[2:5], numbers[7:10]
            upper += [colours[0]] * len(blocks)
            lower += [colours[1]] * len(blocks)
        rows += [upper, lower]
    return np.array(rows)


@pytest.mark.parametrize("height", [6, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_half_blocks_show_every_pixel(height, channels):
    image = RNG.integers(0, 256, (height, 5, channels), np.uint8)
    image[2:4, 1:4] = 7  # a run of one colour
    shown = pixels_of(half_blocks(image))
    assert np.array_equal(shown[:height], np.broadcast_to(image, (height, 5, 3)))
    assert shown.shape == (height + height % 2, 5, 3) and np.all(shown[height:] == 0)


def test_half_blocks_fit_the_columns():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 200
    assert pixels_of(half_blocks(image, 4)).tolist() == [[[0] * 3] * 2 + [[200] * 3] * 2] * 4
    assert pixels_of(half_blocks(image, 16)).shape == (16, 16, 3)
    stripes = np.zeros((8, 8, 1), np.uint8)
    stripes[:, ::2] = 200
    assert np.all(pixels_of(half_blocks(stripes, 4)) == 100)  # the mean, not every second pixel


def test_flat_colour_is_short():
    assert half_blocks(np.zeros((2, 50, 3), np.uint8)).count("\x1b") == 2
