"""Exercise 13: reading a preview.

The studio sends a preview as one message of bytes: n as four bytes, unsigned and little-endian; n bytes of JSON; and
two PNGs, x_t and x0_hat, whose lengths in bytes are the JSON's "sizes". Each PNG shows all images, one below another.

Hint: struct.unpack or int.from_bytes for n, json.loads, and PIL's Image.open(io.BytesIO(...)). A PNG of grey images
becomes an array without an axis for channels.
"""

import sys
from dataclasses import replace

import numpy as np
from checking import expect, report

from minidiff.studio.drawing import Film
from minidiff.studio.views import preview


def read_preview(message: bytes, count: int) -> tuple[dict, np.ndarray, np.ndarray]:
    """message: a preview of `count` images. Returns the JSON, and x_t and x0_hat, each (count, H, W, C) uint8."""
    raise NotImplementedError


def check() -> None:
    """Raise an error that says what is missing, unless `read_preview` reads what the studio writes."""
    rng = np.random.default_rng(0)
    for count, height, width, channels in ((1, 8, 8, 3), (3, 8, 6, 3), (2, 5, 7, 1)):
        x_t, x0_hat = rng.integers(0, 256, (2, count, height, width, channels)).astype(np.uint8)
        film = Film(20, 599.0, 1.4, x_t, x0_hat, None)
        for sent in (film, replace(film, x_t=np.zeros_like(x_t))):  # a PNG of zeros is short
            about, *found = read_preview(preview({"drawing": "d1", "step": sent.index}, sent), count)
            expect((about["drawing"], about["step"]) == ("d1", 20), f"the JSON says d1 and 20, found {about}")
            for name, images, read in zip(("x_t", "x0_hat"), (sent.x_t, sent.x0_hat), found):
                expect(np.shape(read) == images.shape, f"{name} is {np.shape(read)}, expected {images.shape}")
                expect(np.array_equal(read, images), f"{name} has other pixels than those that were sent")


if __name__ == "__main__":
    sys.exit(report(check))
