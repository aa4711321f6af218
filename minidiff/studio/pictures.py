"""The pictures that a browser uploaded: to start from, masks, drawings and references.

Idea: a picture that comes in is decoded at once, by the reader that the commands use, and written as a plain PNG: the
first frame, upright, at most 1024 pixels a side, with its transparency and without its metadata.  From then on it is an
ordinary input file, whose name is the hash of its content.  So the same picture is stored once, and its id leads to the
file and to nothing else.
`shown` gives what the network will see of a picture, by the same functions as for drawing.
Leaves out decoding (images/read.py) and what maps are (data/control.py).
"""

import io
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from minidiff.data.control import read_control
from minidiff.data.maps import Kind
from minidiff.errors import MinidiffError
from minidiff.files import read_bytes, sha256, write_atomically
from minidiff.images.read import is_transparent, load, quiet, read_image, read_mask, why_unreadable
from minidiff.studio.ids import DIGITS, UnknownIdError, id_of, is_file

Use = Literal["init", "mask", "control", "reference"]

MAX_UPLOAD = 32 << 20  # bytes of a file that comes in
LONGER_SIDE = 1024  # pixels of a stored picture; networks here take far smaller ones
MOST_PICTURES, MOST_BYTES = 2000, 1 << 30  # that one session stores
_MOST_STORED = 16 << 20  # bytes of a stored PNG

_ID = re.compile(rf"p-[0-9a-f]{{{DIGITS}}}")


@dataclass(frozen=True)
class Picture:
    """A stored picture: its id, and its size in pixels."""

    id: str
    width: int
    height: int


class PictureStore:
    """The pictures in a folder, which is made for the first one.  Its methods may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = self.bytes = 0  # of what this session has stored
        self._lock = threading.Lock()

    def add(self, data: bytes) -> Picture:
        """Store the picture in a file's bytes.

        Raises MinidiffError if there are too many bytes, if they are no picture that can be read, or if this session
        has stored too much; OSError if it cannot be written.
        """
        if len(data) > MAX_UPLOAD:
            raise MinidiffError(f"the picture's file holds {len(data)} bytes; expected at most {MAX_UPLOAD}")
        image = _decoded(data)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        stored = buffer.getvalue()
        picture = Picture(id_of("p", stored), image.width, image.height)
        path = self._file(picture.id)
        with self._lock:
            if is_file(path) and path.stat().st_size == len(stored) and read_bytes(path, _MOST_STORED) == stored:
                return picture
            if self.count >= MOST_PICTURES or self.bytes + len(stored) > MOST_BYTES:
                raise MinidiffError(
                    f"this session has stored {self.count} pictures of {self.bytes} bytes; expected at most "
                    f"{MOST_PICTURES} pictures of {MOST_BYTES} bytes: start the studio again to store more"
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, stored)
            self.count, self.bytes = self.count + 1, self.bytes + len(stored)
        return picture

    def path(self, id: object) -> Path:
        """Return the file of a picture.  Raises UnknownIdError for anything that is not the id of one."""
        if isinstance(id, str) and _ID.fullmatch(id) and is_file(path := self._file(id)):
            return path
        raise UnknownIdError("picture", id)

    def find(self, digest: str) -> str | None:
        """Return the id of the stored picture whose file has this SHA-256, None if there is none."""
        id = f"p-{digest[:DIGITS]}"
        try:
            return id if sha256(self.path(id)) == digest else None
        except (MinidiffError, OSError):
            return None

    def _file(self, id: str) -> Path:
        return self.folder / f"{id}.png"


def shown(path: Path, use: Use, model_shape: tuple[int, int, int], kind: Kind = "edges") -> np.ndarray:
    """Return what a network sees of a picture: (H, W, c) uint8.

    use: what the picture is for.  model_shape: (H, W, C) of the network's images.  kind: of map, if `use` is "control".
    A mask is white where the image is drawn anew.  Raises MinidiffError if the picture cannot be used for that.
    """
    height, width, channels = model_shape
    if use == "mask":
        return np.rint(read_mask(path, height, width) * 255).astype(np.uint8)
    if use == "control":
        return read_control(path, height, width, kind)
    if use in ("init", "reference"):
        return read_image(path, height, width, channels)
    raise MinidiffError(f"a picture is for init, mask, control or reference, got {use!r}")


def inverted(mask: Path) -> bytes:
    """Return a stored mask as a PNG that keeps what this one draws anew; see `read_mask`."""
    with Image.open(mask) as image:
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        grey = image.convert("L") if alpha is None or alpha.getextrema()[0] == 255 else alpha
    white = 1 if grey.getextrema()[1] == 1 else 255
    buffer = io.BytesIO()
    grey.point([max(0, white - value) * 255 // white for value in range(256)]).save(buffer, "PNG")
    return buffer.getvalue()


def _decoded(data: bytes) -> Image.Image:
    """Return a picture as it is stored: of mode L, RGB or RGBA, reduced, with nothing beside its pixels."""
    try:
        with quiet():
            image = load(io.BytesIO(data))
            if is_transparent(image):
                image = image.convert("RGBA")
            elif image.mode not in ("L", "RGB"):
                image = image.convert("L" if image.mode == "1" else "RGB")
            scale = LONGER_SIDE / max(image.size)
            if scale < 1:
                width, height = (max(1, round(scale * side)) for side in image.size)
                image = image.resize((width, height), Image.Resampling.LANCZOS)
    except Exception as error:  # a decoder may raise anything at all on a damaged file
        raise MinidiffError(f"the picture cannot be used: {why_unreadable(error)}") from error
    image.info = {}  # a colour profile, a comment, where it was taken
    return image
