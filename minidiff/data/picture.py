"""One picture from a file, whatever it is: to an array of the size that a network takes.

Photographs turn up in every shape: turned by an EXIF note, with an alpha channel, a palette, 16 bits, four inks.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from minidiff.errors import MinidiffError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")  # decoders that run no code and need no other program


def read_picture(file: Path, height: int, width: int, channels: int) -> np.ndarray:
    """Read a picture that somebody names: (height, width, channels) uint8, channels 3 or 1; white behind what is clear.

    Raises MinidiffError, with the reason, if it cannot be read.
    """
    with named(file):
        return decode(file, height, width, channels == 1, (255, 255, 255))


@contextmanager
def named(file: Path) -> Iterator[None]:
    """While reading a picture that somebody names: whatever goes wrong becomes a MinidiffError with the reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # remarks about odd metadata: the pixels are what counts
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except Exception as error:  # a decoder may raise anything at all on a damaged file
            raise MinidiffError(f"{file}: {why_unreadable(error)}") from error


def decode(file: Path, height: int, width: int, grey: bool, background: tuple[int, ...]) -> np.ndarray:
    """Read one picture: upright, opaque, its middle in this shape, (height, width, 3 or 1) uint8.

    Source of the resizing filter: Pillow's bicubic, which widens when it shrinks and so does not alias.
    """
    image = opaque(load(file, (3 * width, 3 * height)), background).convert("L" if grey else "RGB")
    image = middle(image, height, width).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(height, width, -1)


def load(file: Path, enough: tuple[int, int] | None = None) -> Image.Image:
    """Read a picture upright and with 8 bits; transparent still.  A large JPEG is shrunk to no less than `enough`."""
    with Image.open(file, formats=FORMATS) as picture:  # an animation's first frame
        if enough is not None:
            picture.draft(None, enough)  # decoded at a half, a quarter or an eighth
        picture.load()
        return ImageOps.exif_transpose(_eight_bit(picture))


def is_transparent(image: Image.Image) -> bool:
    """Tell whether a picture says of its pixels how opaque they are."""
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def opaque(image: Image.Image, background: tuple[int, ...]) -> Image.Image:
    """Lay a picture on a background."""
    if not is_transparent(image):
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (*background, 255)), image)


def middle(image: Image.Image, height: int, width: int) -> Image.Image:
    """Crop a picture to the largest middle part that has the proportions of height and width."""
    scale = min(image.width / width, image.height / height)
    crop = max(1, round(scale * width)), max(1, round(scale * height))
    left, top = (image.width - crop[0]) // 2, (image.height - crop[1]) // 2
    return image.crop((left, top, left + crop[0], top + crop[1]))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's own conversion would cut everything above 255 off."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose white nobody states")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("more than 16 bits a pixel")
    scaled = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    scaled.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return scaled


def why_unreadable(error: Exception) -> str:
    """Return in some words why a picture could not be decoded."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, Image.UnidentifiedImageError):
        return "no picture that can be read"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS} pixels"
    return " ".join(str(error).split()) or type(error).__name__
