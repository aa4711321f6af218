"""What a client may know: of a drawing as JSON, of a step as images, of the inside of a step.

Leaves out who asks: api.py, watch.py, automatic1111.py.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minidiff.explain.page import Caption, step_content
from minidiff.images.files import to_png
from minidiff.studio.drawing import Drawing, Film, Node, picture_of
from minidiff.studio.gallery import Entry
from minidiff.studio.settings import changes_of, settings_of

IdOf = Callable[[Path], str | None]  # from the path of a picture to its id


def drawing_view(drawing: Drawing, place: int | None, id_of: IdOf) -> dict[str, Any]:
    """Return what a client may know of a drawing.  place: in the queue, from 0."""
    height, width, channels = drawing.active.plan.model.shape
    return {
        "id": drawing.id,
        "state": drawing.state,
        "error": drawing.error,
        "place": place,
        "model": drawing.model,
        "count": drawing.active.request.count,
        "width": width,
        "height": height,
        "channels": channels,
        "latent": drawing.active.plan.model.space.autoencoder_config is not None,  # steps are previews: see decoding.py
        "active": drawing.active.id,
        "inside": drawing.inside,
        "nodes": [_node_view(drawing, node, id_of) for node in drawing.nodes],
    }


def _node_view(drawing: Drawing, node: Node, id_of: IdOf) -> dict[str, Any]:
    before = node.parent.request if node.parent else node.request
    return {
        "id": node.id,
        "parent": node.parent.id if node.parent else None,
        "start": node.start,
        "settings": settings_of(node.request, drawing.model, id_of),
        "changed": changes_of(before, node.request, id_of),
        "done": node.done,
        "of": node.of or node.plan.settings.steps,
        "levels": [[film.t, film.sigma] for film in list(node.films)],
        "recorded": len(node.frames),
        "pictures": node.pictures,
    }


def entry_view(entry: Entry) -> dict[str, Any]:
    """Return what a client may know of a picture of the gallery."""
    about = {"id": entry.id, "url": f"/api/gallery/{entry.id}.png", "name": entry.name, "drawn": entry.drawn}
    return {**about, "settings": entry.about.get("settings")}


def inside_view(node: Node, k: int) -> dict[str, Any] | None:
    """Return what explains step k of a node, for its first image; None if that was not recorded."""
    frame = node.frames.get(k)
    if frame is None:
        return None
    owner = next(each for each in reversed(node.path()) if each.start <= k)
    request, model = owner.request, owner.plan.model
    prompt = request.prompt[0] if request.prompt else ""
    names = model.names(owner.plan.labels_of(1))
    words = tuple(model.names(model.prompts(prompt))[0].split()) if prompt else ()
    caption = Caption(prompt or (names[0] if names else ""), words, request.negative or "")
    scale = owner.plan.settings.guidance_scale or 0.0
    content = step_content(frame, 0, caption, model.process, request.sampler, scale)
    return {
        **content,
        "caption": caption.text,
        "words": list(words),
        "negative": caption.negative,
        "guidance": scale,
        "sampler": request.sampler,
        "height": model.shape[0],
        "width": model.shape[1],
        "latent": list(model.noise_shape[:2]) if frame.latent else None,
    }


def sheet(images: np.ndarray) -> bytes:
    """Return images (N, H, W, C) uint8 as one PNG, one below another."""
    return to_png(images.reshape(-1, *images.shape[2:]))


def preview(about: dict[str, Any], film: Film) -> bytes:
    """Return a step for the WebSocket: the length of a JSON text, uint32, the text, and two PNGs."""
    sheets = [sheet(found) for what in ("x_t", "x0_hat") if (found := film.picture(what)) is not None]
    text = json.dumps({**about, "sizes": [len(each) for each in sheets]}, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(text)), text, *sheets])


def step_sheet(node: Node, k: int, what: str) -> bytes | None:
    """Return x_t, x0_hat or x_prev of a step as a PNG, None if there is none."""
    images = picture_of(node, k, what)
    return None if images is None else sheet(images)
