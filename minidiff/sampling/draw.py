"""What `python -m minidiff.sample` does after parsing: draw all batches, show progress, and write the files.

grid.png, which stores how it was drawn (like.py), is always written, the other files only on request.
Leaves out parsing (sample.py) and the contents of the page that explains the run (explain/).
"""

import contextlib
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from minidiff import backend
from minidiff.diffusion.run import Step
from minidiff.errors import MAX_PRINTED, printable
from minidiff.explain import Caption, Recording, most_frames, write_page
from minidiff.images.animation import FRAME_MS, LAST_FRAME_MS, animation_zoom, frame
from minidiff.images.files import make_grid, save_animation, save_png, to_uint8
from minidiff.pipeline.plan import Plan
from minidiff.processes import world
from minidiff.sampling import branches, like
from minidiff.sampling.outputs import new_folder, save_arrays, save_images, trace, traced_steps
from minidiff.sampling.request import SampleRequest
from minidiff.sampling.viewer import Viewer

MAX_FRAMES = 100  # of an animation; a run of 1000 steps shows every tenth
MAX_COLUMNS = 16


@dataclass(frozen=True)
class OutputOptions:
    """What is shown and written beside grid.png: the options of `SampleConfig` with these names."""

    images: bool
    array: bool
    animation: Literal["none", "gif", "apng"]
    explain: bool
    trace: bool
    watch: bool


@dataclass
class Drawn:
    """The result of drawing: the images x0 (N, H, W, C) float32, and the steps that outputs need."""

    x0: list[np.ndarray] = field(default_factory=list)  # batch by batch
    traced: list[list[np.ndarray]] = field(default_factory=list)  # batch by batch, what `outputs.traced_steps` returns
    animated: list[np.ndarray] = field(default_factory=list)  # frames, at most a hundred and one, of the first batch
    recording: Recording | None = None  # of the first batch
    numbers: tuple[int, int] = (0, 0)  # steps of the sampler, evaluations of the network


@np.errstate(all="ignore")  # the plan itself raises an error where numbers overflow
def draw(plan: Plan, request: SampleRequest, outputs: OutputOptions, out: Path | None, digests: dict[str, str]) -> None:
    """Draw the images, show progress, and write the files.  Several processes draw different batches, and the first one
    writes all files.

    request: goes into grid.png, with digests, the SHA-256 of its files.  out: the folder, None for a new one.
    """
    model, count, batch_size = plan.model, request.count, request.batch_size
    recording = Recording(model.model, model.process, space=model.space) if outputs.explain else None
    seen = (*model.noise_shape[:2], model.shape[2])  # the pixels of a picture that are not repeated
    callback = None if recording is None else recording.on_prediction
    first_run = plan.steps(0, min(batch_size, count), count, callback)  # mistakes are found before a folder is made
    drawn = Drawn(recording=recording)

    def draw_batch(first: int, viewer: Viewer) -> list[np.ndarray]:
        """Draw the images from number `first` on; return them and, if it is to be written, the trace of their steps."""
        steps: list[Step] = []
        for step in first_run if first == 0 else plan.steps(first, min(batch_size, count - first), count):
            shown = plan.shown(step)
            viewer.show(shown)
            if outputs.trace:
                steps.append(step)
            if recording is not None and first == 0:
                recording.take(step, is_shown(step, most_frames(seen)), shown)
            if outputs.animation != "none" and first == 0 and is_shown(step):
                drawn.animated.append(frame(shown, zoom=animation_zoom(shown.x_t)))
        if outputs.animation != "none" and first == 0:
            drawn.animated.append(frame(replace(shown, x_t=shown.x_prev), zoom=animation_zoom(shown.x_t)))
        drawn.numbers = step.steps, step.evaluations
        return [backend.to_numpy(shown.x_prev), *(traced_steps(steps) if outputs.trace else ())]

    here = world.current()
    with new_folder(out) if here.rank == 0 else contextlib.nullcontext() as folder:
        rounds = -(-count // (batch_size * here.size))
        with Viewer(folder, outputs.watch, rounds) as viewer, recording or contextlib.nullcontext():
            tasks = (partial(draw_batch, first, viewer) for first in range(0, count, batch_size))
            for x0, *traced in here.in_turn(tasks):
                if folder is not None:
                    drawn.x0.append(x0)
                    drawn.traced.append(traced)
        if folder is not None:
            write(folder, plan, request, outputs, digests, drawn)
    steps, evaluations = (f"{n} {what}{'s' * (n != 1)}" for n, what in zip(drawn.numbers, ("step", "evaluation")))
    print(f"{plan.settings.sampler}: {steps}, {evaluations} of the network", file=sys.stderr)


def is_shown(step: Step, most: int = MAX_FRAMES) -> bool:
    """Return whether a step is shown: each one, or, of more than `most`, `most` evenly spaced ones with the last."""
    most = min(step.steps, most)
    return (step.index + 1) * most // step.steps > step.index * most // step.steps


def write(
    out: Path, plan: Plan, request: SampleRequest, outputs: OutputOptions, digests: dict[str, str], drawn: Drawn
) -> None:
    """Write the files that were asked for, and print where they are."""
    x0, model = np.concatenate(drawn.x0), plan.model
    images, labels = to_uint8(x0), plan.labels_of(request.count)
    given = {} if labels is None else {"labels": labels}
    names = model.names(labels)
    stored = replace(request, checkpoint=model.path) if request.checkpoint else request
    final = branches.stages(request)[-1][1]
    turns = 0 if labels is None else len(final.prompt or final.label or model.classes)  # columns
    about = like.describe(stored, digests)
    save_png(out / "grid.png", make_grid(images, turns if 1 < turns <= MAX_COLUMNS else None), about)
    if outputs.images:
        save_images(out / "images", images, names)
    if outputs.array:
        save_arrays(out / "samples.npz", {"arr_0": images, **given})
    if outputs.trace:
        save_arrays(out / "trace.npz", {**trace(drawn.traced), "x0": x0, **given})
    if outputs.animation != "none":
        path = out / ("steps.gif" if outputs.animation == "gif" else "steps.png")
        save_animation(path, drawn.animated, [FRAME_MS] * (len(drawn.animated) - 1) + [LAST_FRAME_MS])
    if drawn.recording is not None:
        write_explanation(out / "explain.html", plan, final, drawn.recording, names)
    for path in sorted(out.iterdir()):
        print(printable(path, MAX_PRINTED))


def write_explanation(path: Path, plan: Plan, request: SampleRequest, recording: Recording, names: list[str]) -> None:
    """Write the page that explains the run.  names: of each image's label or caption, [] for none."""
    captions = []
    for k in range(len(recording.frames[0].step.x_t)):
        text = request.prompt[k % len(request.prompt)] if request.prompt else names[k] if names else ""
        words = tuple(names[k].split()) if request.prompt else ()
        captions.append(Caption(text, words, request.negative or ""))
    scale = 1.0 if request.guidance_scale is None else request.guidance_scale
    model = plan.model
    facts = [(request.sampler, ""), ("steps", str(request.steps)), ("seed", str(request.seed))]
    facts += [("guidance", f"{scale:g}"), ("model", f"{model.path.name}, predicts {model.process.target}")]
    write_page(path, recording.frames, captions, model.process, request.sampler, scale, facts)
