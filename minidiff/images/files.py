"""Writing arrays to files and to the terminal: grids of images, PNGs that contain their settings, animations.

Idea: inside the model an image is float32 in [-1, 1]; here and in files it is uint8, (H, W, 3) or (H, W, 1).  A PNG
contains the settings that it was made with, as JSON, so that they can be read again and the image repeated.
Leaves out reading images (read.py), and which frames an animation has (animation.py).
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from minidiff.backend import to_numpy
from minidiff.errors import MinidiffError, printable
from minidiff.files import open_regular, parse_json, write_atomically
from minidiff.images.read import MAX_FILE

METADATA_KEY = "minidiff"
MAX_METADATA = 1 << 20  # characters
_GAP = 255  # white


def to_uint8(x: np.ndarray) -> np.ndarray:
    """Map [-1, 1] to 0 ... 255 and round. Values outside are clipped, and NaN becomes mid-grey. Any shape."""
    x = to_numpy(x)
    return np.rint((np.clip(np.nan_to_num(x, nan=0.0), -1, 1) + 1) * 127.5).astype(np.uint8)


def to_float(u8: np.ndarray) -> np.ndarray:
    """Map 0 ... 255 to [-1, 1], float32; `to_uint8` gives the same bytes back."""
    return u8.astype(np.float32) / np.float32(127.5) - np.float32(1)


def make_grid(images: np.ndarray, columns: int | None = None, zoom: int | None = None, gap: int = 2) -> np.ndarray:
    """Arrange images (N, H, W, 1 or 3) uint8 row by row in one image (height, width, 3) uint8.

    columns: default about as many as rows. zoom: each pixel becomes zoom × zoom pixels; the default is at most 4, and
    keeps the grid within about 1000 pixels. gap: white pixels around each image, zoomed as well.
    Raises ValueError for another shape or dtype.
    """
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8 or len(images) == 0:
        raise ValueError(f"grid: expected (N, H, W, 1 or 3) uint8, got {images.shape} {images.dtype}")
    n, height, width, _ = images.shape
    columns = min(n, columns or math.ceil(math.sqrt(n)))
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), _GAP, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image  # grey is broadcast to three channels
    zoom = zoom or max(1, min(4, 1000 // max(canvas.shape)))
    return canvas.repeat(zoom, axis=0).repeat(zoom, axis=1)


def save_png(
    path: str | Path,
    image: np.ndarray,
    metadata: dict[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
    new: bool = False,
) -> None:
    """Write one image, (H, W, 1 or 3) uint8, with its settings as JSON in a tEXt chunk named "minidiff".

    texts: further chunks, by their names: tEXt, or iTXt for a text that is not all Latin-1.
    new: raise MinidiffError if a file of that name exists.
    """
    chunks = _chunks(metadata, texts or {})
    write_atomically(path, lambda file: _as_pillow(image).save(file, "PNG", pnginfo=chunks), new)


def described_png(image: np.ndarray, metadata: dict[str, Any], texts: Mapping[str, str]) -> bytes:
    """Return the bytes of the file that `save_png` writes."""
    buffer = io.BytesIO()
    _as_pillow(image).save(buffer, "PNG", pnginfo=_chunks(metadata, texts))
    return buffer.getvalue()


def _chunks(metadata: dict[str, Any] | None, texts: Mapping[str, str]) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    if metadata is not None:
        chunks.add_text(METADATA_KEY, json.dumps(metadata, allow_nan=False))  # ASCII, as a tEXt chunk requires
    for name, text in texts.items():
        chunks.add_text(name, text)
    return chunks


def to_png(image: np.ndarray) -> bytes:
    """Return one image, (H, W, 1 or 3) uint8, as the bytes of a PNG that is soon made rather than small."""
    buffer = io.BytesIO()
    _as_pillow(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the settings that `save_png` stored in an image. The file is not trusted.

    Raises MinidiffError if it is not a PNG, or if its settings are missing, invalid or over a million characters long.
    """
    try:
        with open_regular(path, MAX_FILE) as file, Image.open(file, formats=("PNG",)) as image:
            text = image.info.get(METADATA_KEY)
    except (FileNotFoundError, PermissionError, MinidiffError):
        raise
    except Exception as error:  # a decoder may raise anything at all on a damaged file
        raise MinidiffError(f"{path}: not a PNG that can be read") from error
    if text is None:
        raise MinidiffError(f"{path}: holds no settings: it was not written by minidiff, or was edited since")
    try:
        if len(text) > MAX_METADATA:
            raise ValueError(f"{len(text)} characters")
        metadata = parse_json(text, "it")
        if not isinstance(metadata, dict):
            raise ValueError("not a JSON object")
    except ValueError as error:
        raise MinidiffError(f"{path}: its settings cannot be read ({printable(error, 80)})") from error
    return metadata


def save_animation(
    path: str | Path, frames: np.ndarray | Sequence[np.ndarray], milliseconds: int | Sequence[int]
) -> None:
    """Write frames, each (H, W, 1 or 3) uint8, as an endless .gif, .png (APNG) or .webp.

    milliseconds: the duration of a frame, one number or one for each frame. A GIF has 256 colours per frame, chosen for
    each frame, because noise and the image that it becomes share few colours. The other formats are lossless.
    Raises MinidiffError for another suffix, ValueError for no frames or a wrong number of durations.
    """
    suffix, images = Path(path).suffix.lower(), [_as_pillow(frame) for frame in frames]
    if not images:
        raise ValueError("save_animation: no frames")
    durations = [milliseconds] * len(images) if isinstance(milliseconds, int) else list(milliseconds)
    if len(durations) != len(images):
        raise ValueError(f"save_animation: {len(images)} frames, but {len(durations)} durations")
    options: dict[str, Any] = {"save_all": True, "duration": durations, "loop": 0}
    if suffix == ".gif":
        method, dither = Image.Quantize.MEDIANCUT, Image.Dither.NONE  # dithering would flicker from frame to frame
        images = [p if p.mode == "L" else p.quantize(256, method=method, dither=dither) for p in images]
    elif suffix == ".webp":
        options["lossless"] = True
    elif suffix != ".png":
        raise MinidiffError(f"{path}: an animation is a .gif, .png or .webp file, got {suffix or 'no suffix'}")
    first, rest = images[0], images[1:]
    buffer = io.BytesIO()
    first.save(buffer, suffix[1:].upper(), append_images=rest, **options)
    write_atomically(path, buffer.getvalue())


def _as_pillow(image: np.ndarray) -> Image.Image:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"an image is (H, W, 1 or 3) uint8, got {image.shape} {image.dtype}")
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def half_blocks(image: np.ndarray, columns: int | None = None) -> str:
    """Return an image (H, W, 1 or 3) uint8 as lines of text for a terminal with true colour.

    Each character is an upper half block, which shows two pixels: the upper one in the foreground colour, the lower one
    in the background colour. columns: characters in a line, by default the width of the image.
    """
    pillow = _as_pillow(image).convert("RGB")
    if columns is not None and columns != pillow.width:
        lines = max(1, round(pillow.height * columns / pillow.width))
        larger = columns > pillow.width
        pillow = pillow.resize((columns, lines), Image.Resampling.NEAREST if larger else Image.Resampling.BOX)
    pixels = np.asarray(pillow)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
    text_lines = []
    for upper, lower in zip(pixels[0::2].tolist(), pixels[1::2].tolist(), strict=True):
        text, colours = "", None
        for ink, paper in zip(upper, lower, strict=True):
            if (ink, paper) != colours:  # write the colour code only when the colour changes
                text += "\x1b[38;2;{};{};{};48;2;{};{};{}m".format(*ink, *paper)
                colours = (ink, paper)
            text += "▀"
        text_lines.append(text + "\x1b[0m")
    return "\n".join(text_lines)
