"""The page of a sampling run: one HTML file that opens from disk, without a network and without a library.

Idea: everything that the page shows is in the page, the images as PNG in data URIs, the rest as one block of JSON;
page.html, the template, has the little JavaScript that puts the step of the slider on the screen.
Last file of explain/.
"""

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from minidiff.diffusion.process import Process
from minidiff.explain.formulas import lines
from minidiff.explain.recording import MAX_IMAGES, Frame
from minidiff.files import write_atomically
from minidiff.images.files import to_uint8

BUDGET = 3_000_000  # bytes of images on a page, about
SHOWN = 6  # of the size of the image, at each step
MAX_FRAMES, FEWEST_FRAMES = 100, 10


@dataclass(frozen=True)
class Asked:
    """What an image was to show.  text: for people, "" for nothing.  words: those of a prompt, in their order.

    instead: the negative prompt, "" without.
    """

    text: str = ""
    words: tuple[str, ...] = ()
    instead: str = ""


def weight(shape: Sequence[int]) -> int:
    """Return about how many bytes a page takes for a step of one image of shape (H, W, C)."""
    return int(np.prod(shape)) * SHOWN * 4 // 3  # base64 writes three bytes as four letters


def most_frames(shape: Sequence[int]) -> int:
    """Return how many steps fit a page, of images of shape (H, W, C)."""
    return max(FEWEST_FRAMES, min(MAX_FRAMES, BUDGET // weight(shape)))


def write_page(
    path: Path,
    frames: Sequence[Frame],
    asked: Sequence[Asked],
    process: Process,
    sampler: str,
    guidance_scale: float,
    facts: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page of a run, of its first images, as many as keep the file small.

    asked: of every image, or more.  facts: names and values to stand on the page, such as the seed.
    """
    content = data(frames, asked, process, sampler, guidance_scale, facts)
    write_atomically(path, render(content).encode())


def render(content: dict[str, Any]) -> str:
    """Put the data into the template."""
    template = resources.files("minidiff.explain").joinpath("page.html").read_text("utf-8")
    title = content["images"][0]["asked"] or "an image"
    block = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    block = block.replace("<", "\\u003c")  # or a text with </script> would end the block
    places = {"{{title}}": html.escape(title), "{{data}}": block}
    return re.sub(r"{{title}}|{{data}}", lambda place: places[place[0]], template)  # at once: a text may name a place


def data(
    frames: Sequence[Frame],
    asked: Sequence[Asked],
    process: Process,
    sampler: str,
    guidance_scale: float,
    facts: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return what the page says, ready for JSON.

    steps: index, t, a, s, sigma and those after the step, sigma None where it is infinite.  images: each with what
    was asked, its words, and frames, one a step.
    """
    shape = frames[0].step.x_t.shape
    fit = BUDGET // (weight(shape[1:]) * len(frames))
    count = max(1, min(fit, shape[0], len(asked), MAX_IMAGES))
    return {
        "facts": [list(fact) for fact in facts],
        "sampler": sampler,
        "guidance": guidance_scale,
        "height": shape[1],
        "width": shape[2],
        "steps": [_levels(frame) for frame in frames],
        "images": [
            {
                "asked": asked[k].text,
                "words": list(asked[k].words),
                "instead": asked[k].instead,
                "result": png(frames[-1].step.x_prev[k]),
                "frames": [
                    _frame(frame, after, k, asked[k], process, sampler, guidance_scale)
                    for frame, after in zip(frames, [*frames[1:], None])
                ],
            }
            for k in range(count)
        ],
    }


def _levels(frame: Frame) -> dict[str, Any]:
    step = frame.step
    finite = lambda x: float(x) if np.isfinite(x) else None
    level, prev = step.level, step.prev
    return {"index": step.index, "of": step.steps, "t": float(level.t), "a": float(level.a), "s": float(level.s),
            "sigma": finite(level.sigma), "t_prev": float(prev.t), "a_prev": float(prev.a), "s_prev": float(prev.s),
            "sigma_prev": finite(prev.sigma)}  # fmt: skip


def _frame(
    frame: Frame, after: Frame | None, k: int, asked: Asked, process: Process, sampler: str, guidance_scale: float
) -> dict[str, Any]:
    step, said = frame.step, frame.said
    without = "n" if asked.instead else "∅"
    found: dict[str, Any] = {"x_t": png(step.x_t[k]), "x0": png(step.x0_hat[k])}
    if after is None or not np.array_equal(step.x_prev[k], after.step.x_t[k]):  # else it is the next x_t
        found["x_prev"] = png(step.x_prev[k])
    if said is not None and said.x0_uncond is not None:
        difference = said.x0_cond[k] - said.x0_uncond[k]
        scale = float(np.abs(difference).max()) or 1.0
        found |= {"cond": png(said.x0_cond[k]), "uncond": png(said.x0_uncond[k]), "guided": png(said.x0_guided[k])}
        found |= {"difference": png(difference / scale), "scale": scale}
    if said is not None and said.looks and asked.words:
        found["looks"] = {str(height): _looks(look[k], len(asked.words)) for height, look in said.looks.items()}
    found["lines"] = lines(frame, k, process, sampler, guidance_scale, without)
    return found


def _looks(look: np.ndarray, words: int) -> list[dict[str, Any]]:
    """Return the map of every word, (h, w, M) to one for each, and the last one for all places without a word."""
    maps = [*np.moveaxis(look[..., :words], -1, 0), look[..., words:].sum(-1)]
    return [_map(each) for each in maps]


def _map(look: np.ndarray) -> dict[str, Any]:
    """Return one word's map: white is where it gets most.  share: what it gets on average, most: there."""
    most = float(look.max())
    return {"map": png(2 * look[..., None] / (most or 1.0) - 1), "share": float(look.mean()), "most": most}


def png(x: np.ndarray) -> str:
    """Return an image (H, W, 1 or 3) float in [-1, 1] as a data URI."""
    u8, buffer = to_uint8(x), io.BytesIO()
    Image.fromarray(u8[..., 0] if u8.shape[2] == 1 else u8).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
