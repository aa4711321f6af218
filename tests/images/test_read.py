"""One image from a file that somebody names: masks of every kind, and files that would take the machine with them."""

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from minidiff.data.control import read_control
from minidiff.errors import MinidiffError
from minidiff.images.files import read_metadata
from minidiff.images.read import quiet, read_image, read_mask

LEFT = np.zeros((32, 32), np.uint8)
LEFT[:, :16] = 255  # white on the left: there something is to be drawn


def paint(colour, ground=(0, 0, 0, 0)):
    """A mask whose left is painted, on a ground that may be clear."""
    image = Image.new("RGBA", (32, 32), ground)
    image.paste((*colour, 255), (0, 0, 16, 32))
    return image


MASKS = {
    "grey": Image.fromarray(LEFT),
    "one bit": Image.fromarray(LEFT).convert("1"),
    "0 and 1": Image.fromarray(LEFT // 255),
    "0 and 1 in colour": Image.fromarray(np.stack([LEFT // 255] * 3, -1)),
    "0 and 1 of a palette": Image.fromarray(LEFT // 255).convert("P"),
    "16 bits": Image.fromarray(LEFT.astype(np.uint16) * 257),
    "opaque": paint((255, 255, 255), (0, 0, 0, 255)),
    "white on clear": paint((255, 255, 255)),
    "black on clear": paint((0, 0, 0)),
    "red on clear white": paint((255, 0, 0), (255, 255, 255, 0)),
    "grey on clear": paint((90, 90, 90)).convert("LA"),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("size", [32, 8])
def test_a_mask_means_what_is_painted(tmp_path, name, size):
    MASKS[name].save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", size, size)
    assert mask.shape == (size, size, 1) and mask.dtype == np.float32
    third = size // 3
    assert np.all(mask[:, :third] == 1) and np.all(mask[:, -third:] == 0)


def test_masks_of_one_colour(tmp_path):
    for level, expected in ((0, 0), (1, 1), (255, 1), (128, 128 / 255)):
        Image.new("L", (8, 8), level).save(tmp_path / "mask.png")
        assert np.all(read_mask(tmp_path / "mask.png", 8, 8) == np.float32(expected))
    Image.new("RGBA", (8, 8), (255, 255, 255, 0)).save(tmp_path / "mask.png")
    assert not read_mask(tmp_path / "mask.png", 8, 8).any()  # nothing is painted


READERS = {
    "image": lambda path: read_image(path, 8, 8, 3),
    "mask": lambda path: read_mask(path, 8, 8),
    "control": lambda path: read_control(path, 8, 8, "edges"),
    "metadata": read_metadata,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", READERS)
def test_only_regular_files_are_read(tmp_path, name):
    """A pipe would be waited for and a device read for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for file, kind in {"pipe": "a pipe", "zero": "a device", "folder": "a folder"}.items():
        with pytest.raises(MinidiffError, match=f"{file}.png is {kind}; expected a regular file"):
            READERS[name](tmp_path / f"{file}.png")
    for odd in ("a\0b.png", "a" * 5000):
        with pytest.raises((MinidiffError, OSError)):
            READERS[name](tmp_path / odd)


@pytest.mark.parametrize("name", READERS)
def test_a_file_beyond_measure_is_not_read(tmp_path, monkeypatch, name):
    with (tmp_path / "long.png").open("wb") as file:
        file.truncate((1 << 29) + 1)  # takes no place on the disk
    with pytest.raises(MinidiffError, match=r"long.png holds 536870913 bytes; expected at most"):
        READERS[name](tmp_path / "long.png")


def png(width, height, depth, colour):
    """A PNG's header, and nothing to decode."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def tiled_tiff(side):
    """A TIFF of 16 x 16 pixels in one tile of side x side."""
    tags = {256: 16, 257: 16, 258: 8, 259: 5, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: 3}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    "data, pixels",
    [
        (png(9400, 9400, 8, 6), "67108864 pixels of the kind RGBA"),
        (png(9400, 9400, 8, 4), "67108864 pixels of the kind LA"),
        (tiled_tiff(46_000), "536870912 pixels of the kind L"),
    ],
)
def test_what_would_take_too_much_memory_is_not_decoded(tmp_path, monkeypatch, data, pixels):
    (tmp_path / "bomb").write_bytes(data)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(MinidiffError, match=f"bomb: more than {pixels}$"):
        read_image(tmp_path / "bomb", 8, 8, 3)


def test_decoders_keep_their_remarks_to_themselves(tmp_path, capfd):
    """libtiff writes to stderr by itself; afterwards stderr is what it was."""
    Image.new("L", (64, 64)).save(tmp_path / "a.tiff", compression="tiff_lzw")
    data = bytearray((tmp_path / "a.tiff").read_bytes())
    data[8:40] = b"\xff" * 32
    (tmp_path / "a.tiff").write_bytes(data)
    with pytest.raises(MinidiffError):
        read_image(tmp_path / "a.tiff", 8, 8, 3)
    with quiet():
        os.write(2, b"a remark")
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


@pytest.mark.skipif(sys.platform == "win32", reason="closes a descriptor as a shell does")
def test_reading_needs_no_stderr(tmp_path):
    Image.new("L", (8, 8), 7).save(tmp_path / "a.png")
    code = "import os; os.close(2); from minidiff.images.read import read_image as r; from pathlib import Path; "
    code += "print(r(Path('a.png'), 8, 8, 1)[0, 0, 0])"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout == "7\n"
