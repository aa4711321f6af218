"""The page of a sampling run: one HTML file that opens from disk, without an internet connection or a library.

Idea: the file contains everything that it shows: the images as PNG in data URIs, the rest as one block of JSON.  A
little JavaScript shows the step that is selected with the slider.  Only as many steps and images are included as keep
the images at about 3 MB.
The template page.html names the files that are put into it.  inside.html, inside.css and inside.js show one step from
inside, on this page or on another that has `step_content` of a step.  page.css and page.js are this page's own.
Leaves out recording the run (recording.py) and the formulas (formulas.py).
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
SHOWN = 6  # images of the full size at each step, for an estimate of the bytes
MAX_FRAMES, FEWEST_FRAMES = 100, 10
FILES = ("page.css", "inside.css", "inside.html", "inside.js", "page.js")  # page.html has a place for each


@dataclass(frozen=True)
class Caption:
    """What an image was conditioned on.  text: for people, "" for nothing.  words: those of a prompt, in their order.

    negative: the negative prompt, "" without.
    """

    text: str = ""
    words: tuple[str, ...] = ()
    negative: str = ""


def weight(shape: Sequence[int]) -> int:
    """Return about how many bytes a page takes for a step of one image of shape (H, W, C).

    Of a latent model, H and W are those of its latents: a preview's pixels are repeated, which takes almost no bytes.
    """
    return int(np.prod(shape)) * SHOWN * 4 // 3  # base64 writes three bytes as four letters


def most_frames(shape: Sequence[int]) -> int:
    """Return how many steps fit a page, of images of shape (H, W, C); see `weight`."""
    return max(FEWEST_FRAMES, min(MAX_FRAMES, BUDGET // weight(shape)))


def write_page(
    path: Path,
    frames: Sequence[Frame],
    captions: Sequence[Caption],
    process: Process,
    sampler: str,
    guidance_scale: float,
    facts: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page of a run, of its first images, as many as keep the file small.

    captions: of every image, or more.  facts: names and values to stand on the page, such as the seed.
    """
    content = data(frames, captions, process, sampler, guidance_scale, facts)
    write_atomically(path, render(content).encode())


def page_file(name: str) -> str:
    """Return the text of a file that the page is made of, such as "inside.js"."""
    return resources.files("minidiff.explain").joinpath(name).read_text("utf-8")


def render(content: dict[str, Any]) -> str:
    """Put the data, the styles and the scripts into the template."""
    title = content["images"][0]["caption"] or "an image"
    block = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    block = block.replace("<", "\\u003c")  # or a text with </script> would end the block
    texts = {"title": html.escape(title), "data": block} | {name: page_file(name) for name in FILES}
    # All at once, as a text may name a place.
    return re.sub(r"{{([\w.]+)}}", lambda place: texts[place[1]], page_file("page.html"))


def data(
    frames: Sequence[Frame],
    captions: Sequence[Caption],
    process: Process,
    sampler: str,
    guidance_scale: float,
    facts: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return the content of the page, ready for JSON.

    steps: index, t, a, s, sigma and those after the step, sigma None where it is infinite.  images: each with its
    caption, its words, and frames, one a step.  latent: height and width of the latents, None for a model of pixels.
    """
    shape = frames[0].shown.x_t.shape
    fit = BUDGET // (weight((*frames[0].step.x_t.shape[1:3], shape[3])) * len(frames))
    count = max(1, min(fit, shape[0], len(captions), MAX_IMAGES))
    contents = [
        [
            step_content(frame, k, captions[k], process, sampler, guidance_scale, after)
            for frame, after in zip(frames, [*frames[1:], None])
        ]
        for k in range(count)
    ]
    return {
        "facts": [list(fact) for fact in facts],
        "sampler": sampler,
        "guidance": guidance_scale,
        "height": shape[1],
        "width": shape[2],
        "latent": list(frames[0].step.x_t.shape[1:3]) if frames[0].latent else None,
        "steps": [content["step"] for content in contents[0]],
        "images": [
            {
                "caption": captions[k].text,
                "words": list(captions[k].words),
                "negative": captions[k].negative,
                "result": png(frames[-1].shown.x_prev[k]),
                "frames": [content["frame"] for content in contents[k]],
            }
            for k in range(count)
        ],
    }


def step_content(
    frame: Frame,
    k: int,
    caption: Caption,
    process: Process,
    sampler: str,
    guidance_scale: float,
    after: Frame | None = None,
) -> dict[str, Any]:
    """Return what a page shows of a step of image k, ready for JSON: {"step": its levels, "frame": the rest}.

    after: the next step, if the page shows it too; its x_t is then left out here, where it is called x_prev.
    """
    shown = _frame(frame, after, k, caption, process, sampler, guidance_scale)
    return {"step": _levels(frame), "frame": shown}


def _levels(frame: Frame) -> dict[str, Any]:
    step = frame.step
    finite = lambda x: float(x) if np.isfinite(x) else None
    level, prev = step.level, step.prev
    return {"index": step.index, "of": step.steps, "t": float(level.t), "a": float(level.a), "s": float(level.s),
            "sigma": finite(level.sigma), "t_prev": float(prev.t), "a_prev": float(prev.a), "s_prev": float(prev.s),
            "sigma_prev": finite(prev.sigma)}  # fmt: skip


def _frame(
    frame: Frame, after: Frame | None, k: int, caption: Caption, process: Process, sampler: str, guidance_scale: float
) -> dict[str, Any]:
    step, outputs = frame.shown, frame.outputs
    without = "n" if caption.negative else "∅"
    found: dict[str, Any] = {"x_t": png(step.x_t[k]), "x0": png(step.x0_hat[k])}
    if after is None or not np.array_equal(step.x_prev[k], after.shown.x_t[k]):  # else it is the next x_t
        found["x_prev"] = png(step.x_prev[k])
    if outputs is not None and outputs.x0_uncond is not None:
        each = [array[k : k + 1] for array in (outputs.x0_cond, outputs.x0_uncond, outputs.x0_guided)]
        cond, uncond, guided = (frame.preview(array)[0] for array in each)
        difference = cond - uncond
        scale = float(np.abs(difference).max()) or 1.0
        found |= {"cond": png(cond), "uncond": png(uncond), "guided": png(guided)}
        found |= {"difference": png(difference / scale), "scale": scale}
    if outputs is not None and outputs.attention and caption.words:
        words = len(caption.words)
        found["attention"] = {str(height): _attention(maps[k], words) for height, maps in outputs.attention.items()}
    found["lines"] = lines(frame, k, process, sampler, guidance_scale, without)
    return found


def _attention(weights: np.ndarray, words: int) -> list[dict[str, Any]]:
    """Return a map for each word, from weights (h, w, M), and a last one for all tokens after the words."""
    maps = [*np.moveaxis(weights[..., :words], -1, 0), weights[..., words:].sum(-1)]
    return [_map(each) for each in maps]


def _map(weights: np.ndarray) -> dict[str, Any]:
    """Return one word's map: white is the largest weight.  share: the mean weight, most: the largest."""
    most = float(weights.max())
    return {"map": png(2 * weights[..., None] / (most or 1.0) - 1), "share": float(weights.mean()), "most": most}


def png(x: np.ndarray) -> str:
    """Return an image (H, W, 1 or 3) float in [-1, 1] as a data URI."""
    u8, buffer = to_uint8(x), io.BytesIO()
    Image.fromarray(u8[..., 0] if u8.shape[2] == 1 else u8).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
