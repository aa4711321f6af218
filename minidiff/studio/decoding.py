"""The decoder, for whoever looks closer at a step of a latent model.

Idea: all steps are sent as previews, and one that somebody stays at is decoded.  Decoding runs kernels, so the engine
does it, between two steps.  Only the newest wish matters, as with previews (hub.py): a wish takes the place of an older
one that still waits for a picture of the same drawing, and whoever had that one is told.  So however fast somebody
moves over the steps, the engine decodes what is looked at and nothing else.
Leaves out previews: latent/space.py.
"""

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from minidiff.backend import to_device
from minidiff.images.files import to_uint8
from minidiff.studio.drawing import Drawing, Node, picture_of, place_of
from minidiff.studio.engine import Conflict, Engine


@dataclass(frozen=True, eq=False)
class Wish:
    """To see x_t, x0_hat or x_prev, `what`, of step k of a node.  image: its number.  future: see `Decoding.ask`."""

    node: Node
    k: int
    what: str
    image: int
    future: "Future[np.ndarray | None]" = field(default_factory=Future)


class Decoding:
    """The wishes that wait, at most one for each kind of picture of each drawing."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._waiting: dict[tuple[str, str], Wish] = {}
        self._lock = threading.Lock()

    def ask(self, drawing: Drawing, wish: Wish) -> "Future[np.ndarray | None]":
        """Return the picture to come, None for one that is not drawn; on any thread.

        It raises Conflict if a newer wish takes its place.  Raises Full if too many calls wait for the engine.
        """
        key = drawing.id, wish.what
        with self._lock:
            older = self._waiting.get(key)
            if older is None:
                self.engine.call(lambda: self._grant(key))
            self._waiting[key] = wish
        if older is not None and older.future.set_running_or_notify_cancel():
            older.future.set_exception(Conflict("another step of this drawing has been asked for since"))
        return wish.future

    def _grant(self, key: tuple[str, str]) -> None:
        """Decode what is wished now; on the engine's thread."""
        with self._lock:
            wish = self._waiting.pop(key)
        if wish.future.set_running_or_notify_cancel():
            try:
                wish.future.set_result(decoded(wish.node, wish.k, wish.what, wish.image))
            except Exception as error:  # it belongs to whoever has asked
                wish.future.set_exception(error)


def decoded(node: Node, k: int, what: str, image: int) -> np.ndarray | None:
    """Return a picture of a step, (H, W, C) uint8, decoded if it is kept as latents; None if there is none.

    what: x_t, x0_hat or x_prev.
    """
    film, what = place_of(node, k, what)
    if film is not None and what in film.latents:
        latents = film.latents[what][image : image + 1]
        return to_uint8(node.plan.images(to_device(latents)))[0] if len(latents) else None
    pictures = picture_of(node, k, what)
    return None if pictures is None or image >= len(pictures) else pictures[image]


def guess(drawing: Drawing) -> np.ndarray | None:
    """Return the images (N, H, W, C) uint8 that a drawing's newest step predicts; on the engine's thread."""
    film = drawing.newest
    if film is None or "x0_hat" not in film.latents:
        return None if film is None else film.x0_hat
    return to_uint8(drawing.active.plan.images(to_device(film.latents["x0_hat"])))
