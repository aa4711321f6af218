"""Reading image files (PNG, JPEG, WebP, GIF, BMP, TIFF) as arrays of the size that a network takes.

Idea: photographs come rotated by an EXIF tag, with an alpha channel, a palette, 16 bits or four inks (CMYK).  All of
them become upright, opaque uint8 arrays, cropped to the middle and resized.  Inpainting masks are read here, too.
Files are not trusted: the size of a file and the memory to decode it are limited, and any error of a decoder
becomes one message.
Leaves out writing images: files.py.
"""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from minidiff.errors import MinidiffError, printable
from minidiff.files import open_regular

FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
)  # formats whose decoders run no code from the file and need no other program
MAX_FILE = 1 << 29  # bytes in a file
MAX_MEMORY = 1 << 30  # bytes of memory to read one image
_QUIET = threading.RLock()
_PIXEL_BYTES = {
    "1": 2,
    "L": 2,
    "P": 6,
    "I;16": 6,
    "I;16B": 6,
    "I;16L": 6,
    "RGB": 8,
}  # bytes of memory per pixel, with all copies
_OTHER_BYTES = 16  # the same for images with transparency and for all other modes


def read_image(file: Path, height: int, width: int, channels: int) -> np.ndarray:
    """Read an image file: (height, width, channels) uint8, channels 3 or 1; transparent pixels become white.

    Raises MinidiffError with the reason if it cannot be read.
    """
    with open_image(file) as stream:
        return decode(stream, height, width, channels == 1, (255, 255, 255))


def read_mask(file: Path, height: int, width: int) -> np.ndarray:
    """Read an inpainting mask: (height, width, 1) float32, from 0 (keep) to 1 (draw).

    White is 1 and black is 0.  If the image has transparent pixels, its alpha channel is the mask, and its colours do
    not matter.  A mask of the values 0 and 1, which some programs write, is read like one of 0 and 255.
    Raises MinidiffError with the reason if it cannot be read.
    """
    with open_image(file) as stream:
        image = load(stream)
        alpha = image.convert("RGBA").getchannel("A") if is_transparent(image) else None
        image = image.convert("L") if alpha is None or alpha.getextrema()[0] == 255 else alpha
        if image.getextrema()[1] == 1:
            image = image.point([0] + [255] * 255)
        image = center_crop(image, height, width).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(image)[..., None] / np.float32(255)


@contextmanager
def open_image(file: Path) -> Iterator[BinaryIO]:
    """Open an image file; any error while it is read becomes a MinidiffError with the reason."""
    try:
        with quiet(), open_regular(file, MAX_FILE) as stream:
            yield stream
    except MinidiffError:
        raise
    except Exception as error:  # a decoder may raise anything at all on a damaged file
        raise MinidiffError(f"{file}: {why_unreadable(error)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the decoders' warnings about unusual files, including what C libraries print on stderr.

    Pillow's warning about an image that is far too large becomes an error.
    Only one thread at a time is inside: stderr and the filters of warnings belong to the whole process, and two threads
    could leave them suppressed for ever.
    """
    with _QUIET:
        try:
            stderr = os.dup(2)
        except OSError:  # there is no stderr
            stderr = -1
        else:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                yield
        finally:
            if stderr >= 0:
                os.dup2(stderr, 2)
                os.close(stderr)


def decode(file: BinaryIO, height: int, width: int, grey: bool, background: tuple[int, ...]) -> np.ndarray:
    """Read an image upright and opaque, crop it to the middle and resize it: (height, width, 3 or 1) uint8.

    The resampling filter is Pillow's bicubic, whose support grows when it shrinks an image, which prevents aliasing.
    """
    side = 3 * max(height, width)  # both ways, since the image in the file may lie on its side
    image = opaque(center_crop(load(file, (side, side)), height, width), background)
    image = image.convert("L" if grey or image.mode in ("1", "L") else "RGB")
    image = image.resize((width, height), Image.Resampling.BICUBIC).convert("L" if grey else "RGB")
    return np.asarray(image).reshape(height, width, -1)


def load(file: BinaryIO, enough: tuple[int, int] | None = None) -> Image.Image:
    """Read an image upright and with 8 bits per channel; transparency is kept.

    enough: (width, height) down to which the decoder may shrink a large JPEG.
    Raises ValueError before decoding if it would take more than MAX_MEMORY.
    """
    with Image.open(file, formats=FORMATS) as source:  # the first frame of an animation
        if enough is not None:
            source.draft(None, enough)  # a JPEG decodes faster at a half, a quarter or an eighth
        _check_memory(source)
        source.load()
        image = _eight_bit(source)
        ImageOps.exif_transpose(image, in_place=True)
        return image


def _check_memory(image: Image.Image) -> None:
    plain = not is_transparent(image) and image.format != "WEBP"  # the WebP decoder keeps two frames
    takes = _PIXEL_BYTES.get(image.mode, _OTHER_BYTES) if plain else _OTHER_BYTES
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    tile = [int(tags.get(tag, 1)) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)]
    if max(image.width * image.height, tile[0] * tile[1]) * takes > MAX_MEMORY:
        raise ValueError(f"more than {MAX_MEMORY // takes} pixels of the kind {image.mode}")


def is_transparent(image: Image.Image) -> bool:
    """Return whether an image has transparency."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def opaque(image: Image.Image, background: tuple[int, ...]) -> Image.Image:
    """Composite an image over a background colour."""
    if not is_transparent(image):
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)


def center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """Crop an image to the largest part in its middle that has the aspect ratio of height and width."""
    scale = min(image.width / width, image.height / height)
    crop = max(1, round(scale * width)), max(1, round(scale * height))
    left, top = (image.width - crop[0]) // 2, (image.height - crop[1]) // 2
    return image if crop == image.size else image.crop((left, top, left + crop[0], top + crop[1]))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's conversion would clip everything above 255."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose value for white is not known")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("more than 16 bits a pixel")
    eight = np.empty(values.shape, np.uint8)
    for row in range(len(values)):  # by rows, because the products take four bytes each
        eight[row] = (values[row].astype(np.uint32) * 255 + 32767) // 65535
    scaled = Image.fromarray(eight)
    scaled.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return scaled


def why_unreadable(error: Exception) -> str:
    """Return a short reason why an image could not be decoded."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        return "not an image that can be read"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels"
    return printable(" ".join(str(error).split()) or type(error).__name__)
