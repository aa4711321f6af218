"""The command that draws: `python -m minidiff.sample --checkpoint runs/my-run "a dog in a winter forest"`.

Idea: everything that decides what the images are goes, with the checkpoint's hash, into grid.png itself, so that
`--like grid.png` can draw them again to the bit.
Last but one in the reading order; pipeline.py is what it calls.  Leaves out nothing that draws: it only parses, shows
and writes.
"""

import contextlib
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from tqdm import tqdm

from minidiff import backend, command_line
from minidiff.command_line import BackendName
from minidiff.data.control import read_control
from minidiff.diffusion.clipping import Clip
from minidiff.diffusion.edit import Edit
from minidiff.diffusion.samplers import Step
from minidiff.diffusion.solvers import Sampler
from minidiff.diffusion.timesteps import Spacing
from minidiff.errors import MAX_PRINTED, MinidiffError, exit_with_one_line, printable
from minidiff.explain import Asked, Recording, most_frames, write_page
from minidiff.files import sha256
from minidiff.images.animation import ANIMATION_ZOOM, FRAME_MS, LAST_FRAME_MS, frame
from minidiff.images.files import make_grid, save_animation, save_png, to_float, to_uint8
from minidiff.images.read import read_image, read_mask
from minidiff.pipeline.loading import load, load_diffusers
from minidiff.pipeline.pipeline import Pipeline
from minidiff.sampling import like as repeat
from minidiff.sampling.outputs import new_folder, save_arrays, save_images, trace
from minidiff.sampling.viewer import Viewer

MAX_FRAMES = 100  # of an animation; a run of 1000 steps shows every tenth
MAX_COLUMNS = 16


@dataclass(frozen=True)
class SampleConfig:
    """Draw images with a trained model: grid.png, and on request the images one by one, as an array, as an
    animation of their making, or with every step written down."""

    prompt: tyro.conf.Positional[tuple[str, ...]] = ()
    """What to draw, in words between quotation marks; several prompts take turns."""
    checkpoint: Path | None = None
    """The model: a checkpoint file, or a training's folder for its newest checkpoint. None given: the weights that
    minidiff comes with, which draw scenes."""
    diffusers: Path | None = None
    """A model of others in its place: a folder with a UNet2DModel that the diffusers library has saved. Seeds are
    PyTorch's then, and the images those that diffusers would draw."""
    count: int = 16
    """Number of images."""
    label: tuple[str, ...] = ()
    """What to draw: names or numbers of labels, which take turns; none given: all in turn, or none for --init."""
    negative: str | None = None
    """What not to draw, in words: guidance leads away from it."""
    sampler: Sampler = "ddim"
    """The way from noise to image: ddim is plain and wants fifty steps, dpm-solver and unipc are content with ten;
    heun asks the network twice a step, and wants many steps on the cosine schedule; ddpm, euler-ancestral and
    dpm-solver-sde take fresh noise at every step."""
    steps: int | None = None
    """Steps from noise to image, from 1 to the length of the model's schedule. None given: 50, or that length where
    it is shorter."""
    spacing: Spacing | None = None
    """Where the steps lie: evenly over the times, from the last one (trailing), from the first one (leading) or between
    both (linspace); or closer to each other where little noise is left (karras). None given: trailing, or what a model
    of diffusers says, as for variance and clip."""
    eta: float = 0.0
    """Fresh noise in ddim, from 0, none, to 1, as much as ddpm."""
    churn: float = 0.0
    """Noise put back on before each step of euler and heun; 0 for none, tens for much."""
    variance: Literal["small", "large"] | None = None
    """How much fresh noise ddpm takes at every step. None given: small."""
    guidance_scale: float | None = None
    """How hard the prompt or label pulls; 1 is as learnt, 0 not at all. None given: 3, or 1 where none is given."""
    guidance_interval: tuple[float, float] | None = None
    """Between which amounts of noise to guide, as two sigma: noise over image, both on the scale of images from -1
    to 1. Guiding only in the middle, such as 0.2 2, keeps samples varied. None given: always."""
    clip: Clip | None = None
    """What becomes of guesses outside the range of images: cut off (clip), scaled into it (dynamic), or left (none).
    None given: clip."""
    seed: int = 0
    """Names the noise: same seed, same images."""
    batch: int = 64
    """Images drawn at once; fewer need less memory."""
    init: Path | None = None
    """An image to start from; its middle is taken and scaled to the model's size. Without further options it is drawn
    anew, with some likeness left."""
    strength: float | None = None
    """How much of the image --init may change, from 0, nothing, to 1. None given: 0.6, or 1 with a mask."""
    mask: Path | None = None
    """An image that is white where that of --init is drawn anew, black where it is kept; or painted where it is drawn
    anew, in any colour, and clear where it is kept."""
    resample: int = 1
    """Times that each part of the way is gone under a mask: more take longer and fit edges better."""
    noise_level: str | None = None
    """Remove the noise on an image, that of --init: its standard deviation in grey levels, or auto to estimate it."""
    to: Path | None = None
    """Another image: draw what lies between it and --init, in --count steps."""
    vary: float | None = None
    """Draw variations of the image, that of --init, from 0, itself, to 1, anything."""
    control: Path | None = None
    """A drawing that says where things are: lines on a plain ground, dark or light, or a photo, whose edges are taken;
    any size."""
    control_scale: float = 1.0
    """How much the drawing may say, from 0, nothing."""
    control_kind: Literal["edges", "segmentation", "depth"] = "edges"
    """What kind of map the drawing is; segmentation and depth as scenes have them."""
    reference: Path | None = None
    """An image whose look is to be taken over: its style and colours."""
    reference_scale: float = 0.6
    """How much of the look is taken over, from 0, nothing."""
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """What was trained to follow drawings or references: a checkpoint, or a training's folder. Those of the weights
    that minidiff comes with are there already."""
    backend: BackendName = "auto"
    threads: int | None = None
    """CPU threads that compute, for numpy those of its BLAS. None given: all that this process may use. They do not
    change the images, but for numpy's last bits."""
    like: Path | None = None
    """A grid.png of this command: repeat it to the bit. Settings given beside it change what they name."""
    out: Path | None = None
    """Folder for the files, by default a new one under runs/. Nothing in it is overwritten."""
    images: bool = False
    """Also write each image as a PNG of its own."""
    array: bool = False
    """Also write samples.npz: arr_0, uint8 (N, H, W, C), as evaluators read it, and the labels."""
    animation: Literal["none", "gif", "apng"] = "none"
    """Also write noise becoming image, x_t and the guess x0_hat side by side."""
    explain: bool = False
    """Also write explain.html, to open in a browser: every step of the first images, with what guidance and each word
    add, and the formulas with their numbers."""
    trace: bool = False
    """Also write trace.npz: t, x_t, x0_hat and eps_hat of every step."""
    watch: bool = False
    """Show the images emerging: in a terminal with true colour, else in watch.png, rewritten at each step."""


# What decides the images, and so goes into grid.png.
REPEATED = (
    "prompt", "checkpoint", "diffusers", "count", "label", "negative", "sampler", "steps", "spacing", "eta", "churn",
    "variance", "guidance_scale", "guidance_interval", "clip", "seed", "batch", "init", "strength", "mask", "resample",
    "noise_level", "to", "vary", "control", "control_scale", "control_kind", "reference", "reference_scale", "adapter",
    "backend",
)  # fmt: skip
IMAGES = ("init", "mask", "to", "control", "reference")  # of these, the files that must still be what they were


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default the process's."""
    config, was = parse(sys.argv[1:] if arguments is None else arguments)
    backend.on_compile(lambda line: tqdm.write(line, file=sys.stderr))
    backend.use(config.backend, config.threads)
    if config.checkpoint is not None and config.diffusers is not None:
        raise MinidiffError("which model? give --checkpoint or --diffusers, not both")
    model = load(config.checkpoint) if config.diffusers is None else load_diffusers(config.diffusers)
    for path in config.adapter:
        model = model.with_adapter(path)
    shown, edit = shown_of(config, model), edit_of(config, model)
    files = {"checkpoint": model.path, **model.beside}
    files |= {name: path for name in IMAGES if (path := getattr(config, name))}
    files |= {f"adapter for {kind}": path for kind, path in model.files.items() if config.control or config.reference}
    digests = {name: sha256(path) for name, path in files.items()}
    repeat.check(config.like, was, files, digests)
    nothing = asked(model, config, edit, 1) is None and config.reference is None
    config = dataclasses.replace(
        config,
        steps=model.steps_of(config.steps),
        guidance_scale=model.guidance(config.guidance_scale, nothing),
        backend=backend.current().name,
    )
    draw(model, config, edit, shown, digests)


def parse(arguments: Sequence[str]) -> tuple[SampleConfig, dict[str, str]]:
    """Read the command line, on top of what `--like` says; return it with the hashes that its files must have."""
    config = command_line.read(SampleConfig, "sample", arguments)
    if config.like is None:
        return config, {}
    start, digests = repeat.read(config.like, SampleConfig, REPEATED)
    if config.adapter:
        start = dataclasses.replace(start, adapter=())  # those that are typed take their place
    return command_line.read(SampleConfig, "sample", arguments, start), digests


def edit_of(config: SampleConfig, model: Pipeline) -> Edit | None:
    """Read the images that are to be edited, and say what is to be done with them."""
    asked = {name: getattr(config, name) for name in ("strength", "mask", "noise_level", "to", "vary")}
    if config.init is None:
        if given := [name for name, value in asked.items() if value is not None]:
            raise MinidiffError(f"--{given[0].replace('_', '-')} needs an image to work on: give --init")
        return None
    height, width, channels = model.shape
    read = lambda path: to_float(read_image(path, height, width, channels))
    return Edit(
        image=read(config.init),
        strength=config.strength,
        mask=read_mask(config.mask, height, width) if config.mask else None,
        resample=config.resample,
        sigma=None if config.noise_level is None else noise_level(config.noise_level),
        to=read(config.to) if config.to else None,
        vary=config.vary,
        frames=max(config.count, 2),
    )


def shown_of(config: SampleConfig, model: Pipeline) -> dict[str, Any]:
    """Read the drawing and the reference, and return what `Pipeline.generate` is told of them."""
    height, width, channels = model.shape
    shown: dict[str, Any] = {}
    if config.control is not None:
        shown["control"] = read_control(config.control, height, width, config.control_kind)
        shown |= {"control_kind": config.control_kind, "control_scale": config.control_scale}
    if config.reference is not None:
        shown["reference"] = read_image(config.reference, height, width, channels)
        shown["reference_scale"] = config.reference_scale
    return shown


def noise_level(text: str) -> float | str:
    """Read --noise-level: from grey levels to the scale of images, which are 2 wide."""
    if text == "auto":
        return "estimate"
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not 0 < level < math.inf:
        raise MinidiffError(f"--noise-level must be auto or a number of grey levels above 0, got {text!r}")
    return level * 2 / 255


@dataclass
class Drawn:
    """What drawing leaves behind: the images x0 (N, H, W, C) float32, and the steps that were asked for."""

    x0: list[np.ndarray] = field(default_factory=list)  # batch by batch
    traced: list[list[Step]] = field(default_factory=list)  # batch by batch, every step
    animated: list[Step] = field(default_factory=list)  # at most a hundred steps of the first batch
    labels: np.ndarray | None = None  # (N,) int64
    recording: Recording | None = None  # of the first batch


@np.errstate(all="ignore")  # what leaves the range of numbers is said once, by the pipeline
def draw(
    model: Pipeline, config: SampleConfig, edit: Edit | None, shown: dict[str, Any], digests: dict[str, str]
) -> None:
    """Draw the images, show them on the way as asked, and write the files."""
    recording = Recording(model.model, model.process) if config.explain else None
    heard = shown if recording is None else shown | {"observe": recording.observe}
    run = generate(model, config, edit, heard, 0, min(config.batch, config.count))  # finds mistakes before a folder
    with new_folder(config.out) as out:
        drawn = Drawn(recording=recording)
        batches = -(-config.count // config.batch)
        with Viewer(out, config.watch, batches) as viewer, recording or contextlib.nullcontext():
            for first in range(0, config.count, config.batch):
                drawn.traced.append([])
                if first:
                    run = generate(model, config, edit, shown, first, min(config.batch, config.count - first))
                for step in run:
                    viewer.show(step)
                    if config.trace:
                        drawn.traced[-1].append(step)
                    if recording is not None and first == 0:
                        recording.take(step, is_shown(step, most_frames(model.shape)))
                    if config.animation != "none" and first == 0 and is_shown(step):
                        drawn.animated.append(step)
                drawn.x0.append(backend.to_numpy(step.x_prev))
        drawn.labels = asked(model, config, edit, config.count)
        write(out, model, config, digests, drawn)
    steps, evaluations = (
        f"{n} {what}{'s' * (n != 1)}" for n, what in ((step.steps, "step"), (step.evaluations, "evaluation"))
    )
    print(f"{config.sampler}: {steps}, {evaluations} of the network", file=sys.stderr)


def name_of(model: Pipeline, labels: np.ndarray | None) -> list[str]:
    """Return what each image was to show, for people; [] where nothing was asked for."""
    if labels is None:
        return []
    if model.tokenizer is not None:
        return [model.tokenizer.decode(row) for row in labels]
    return [model.classes[label] for label in labels]


def is_shown(step: Step, most: int = MAX_FRAMES) -> bool:
    """Whether the step is in an animation: all are, or, of many, `most` evenly among them with the last one."""
    most = min(step.steps, most)
    return (step.index + 1) * most // step.steps > step.index * most // step.steps


def write(out: Path, model: Pipeline, config: SampleConfig, digests: dict[str, str], drawn: Drawn) -> None:
    """Write the files that were asked for, and say where they are."""
    x0 = np.concatenate(drawn.x0)
    images, labels = to_uint8(x0), drawn.labels
    given = {} if labels is None else {"labels": labels}
    names = name_of(model, labels)
    values = {name: getattr(config, name) for name in REPEATED} | (
        {"checkpoint": model.path} if config.checkpoint else {}
    )
    values["adapter"] = [path.as_posix() for path in config.adapter]
    settings = {name: value.as_posix() if isinstance(value, Path) else value for name, value in values.items()}
    about = repeat.describe(settings, digests)
    turns = 0 if labels is None else len(config.prompt or config.label or model.classes)  # columns
    save_png(out / "grid.png", make_grid(images, turns if 1 < turns <= MAX_COLUMNS else None), about)
    if config.images:
        save_images(out / "images", images, names)
    if config.array:
        save_arrays(out / "samples.npz", {"arr_0": images, **given})
    if config.trace:
        save_arrays(out / "trace.npz", {**trace(drawn.traced), "x0": x0, **given})
    if config.animation != "none":
        frames = [frame(step, zoom=ANIMATION_ZOOM) for step in drawn.animated]
        result = dataclasses.replace(drawn.animated[-1], x_t=drawn.animated[-1].x_prev)
        frames.append(frame(result, zoom=ANIMATION_ZOOM))
        path = out / ("steps.gif" if config.animation == "gif" else "steps.png")
        save_animation(path, frames, [FRAME_MS] * len(drawn.animated) + [LAST_FRAME_MS])
    if drawn.recording is not None:
        write_explanation(out / "explain.html", model, config, drawn.recording, names)
    for path in sorted(out.iterdir()):
        print(printable(path, MAX_PRINTED))


def write_explanation(
    path: Path, model: Pipeline, config: SampleConfig, recording: Recording, names: list[str]
) -> None:
    """Write the page that shows the run from inside.  names: what each image was to show, [] for nothing."""
    shows = []
    for k in range(len(recording.frames[0].step.x_t)):
        text = config.prompt[k % len(config.prompt)] if config.prompt else names[k] if names else ""
        words = tuple(names[k].split()) if config.prompt else ()
        shows.append(Asked(text, words, config.negative or ""))
    settings = {"steps": config.steps, "seed": config.seed, "guidance": f"{config.guidance_scale:g}"}
    facts = [(config.sampler, "")] + [(name, str(value)) for name, value in settings.items()]
    facts.append(("model", f"{model.path.name}, predicts {model.process.target}"))
    scale = 1.0 if config.guidance_scale is None else config.guidance_scale
    write_page(path, recording.frames, shows, model.process, config.sampler, scale, facts)


def asked(model: Pipeline, config: SampleConfig, edit: Edit | None, count: int) -> np.ndarray | None:
    """Return what the images are to show: labels (N,), captions (N, L), or None."""
    return model.asked(count, config.label, config.prompt or None, edits=edit is not None)


def generate(
    model: Pipeline, config: SampleConfig, edit: Edit | None, shown: dict[str, Any], first: int, count: int
) -> Iterator[Step]:
    """Return the generator of the steps of images first … first + count - 1."""
    return model.generate(
        count,
        config.label,
        prompt=config.prompt or None,
        negative=config.negative,
        sampler=config.sampler,
        steps=config.steps,
        spacing=config.spacing,
        eta=config.eta,
        churn=config.churn,
        variance=config.variance,
        guidance_scale=config.guidance_scale,
        guidance_interval=config.guidance_interval,
        clip=config.clip,
        seed=config.seed,
        first=first,
        of=config.count,
        edit=edit,
        **shown,
    )


if __name__ == "__main__":
    main()
