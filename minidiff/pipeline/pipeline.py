"""A trained model, ready to draw: what `minidiff.load` returns.

Idea: whoever wants images has a checkpoint, a number and a wish, in words or as a label; everything between is
settled here.

    model = minidiff.load("runs/my-run")
    images = model.sample(8, prompt="a dog in a winter forest")        # (8, H, W, C) uint8

After training/ in the reading order; models.py makes one of a file, sample.py is this file as a command.  Leaves out
files and screens.
"""

import functools
import inspect
import math
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from minidiff import interop
from minidiff.backend import to_numpy
from minidiff.checkpoint import file as checkpoints
from minidiff.checkpoint.config import Config
from minidiff.diffusion.clipping import Clipping
from minidiff.diffusion.edit import Edit
from minidiff.diffusion.guidance import Observe, denoiser
from minidiff.diffusion.process import Process
from minidiff.diffusion.samplers import Noise, Step
from minidiff.diffusion.schedule import Level, Schedule
from minidiff.diffusion.solvers import SAMPLERS
from minidiff.diffusion.timesteps import levels
from minidiff.errors import MinidiffError, did_you_mean, listed
from minidiff.images.files import to_float, to_uint8
from minidiff.limits import check_limits
from minidiff.nn import UNet
from minidiff.nn.adapted_unet import AdaptedUNet, ControlInput, ReferenceInput
from minidiff.nn.tokenizer import Tokenizer

Label = str | int | Sequence[str | int] | np.ndarray | None
Prompt = str | Sequence[str] | None

CHANNELS = (1, 3)  # that images have; what has others, such as the latent images of an autoencoder, is not drawn
STEPS = 50  # unless asked otherwise, where the schedule has as many
GUIDANCE_SCALE = 3.0  # unless asked otherwise, where something is asked for: clearly what was asked, still varied


@dataclass(frozen=True)
class Usual:
    """How a model draws where nothing else is asked for, and what models of others do in their own way.

    keep_eps: of ddim.  noisy_end: of ddpm.  path: a function like `spacing.levels`.  ends: of ddim, from the schedule
    and the path to where each step ends; None: at the next level.
    """

    spacing: str = "trailing"
    clip: str | Clipping = "clip"
    variance: str = "small"
    keep_eps: bool = False
    noisy_end: bool = False
    path: Callable[[Schedule, int, str], list[Level]] = levels
    ends: Callable[[Schedule, Sequence[Level]], list[Level]] | None = None


def own_noise(seed: int, samples: np.ndarray, of: int) -> Noise:
    """Return where our own models take their noise: each image's is named by its number, however many there are."""
    return Noise(seed, samples)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A network, its noising process, and the names of its labels.

    classes: names of the labels 0, 1, …; () for a model without labels.
    config: the settings that it was trained with, None for a model of others.
    path, step: the checkpoint, and how long it had been trained.
    tokenizer: what prompts are written in; None for a model without.
    identity: what adapters know its network by.  adapters: those that it has, from what they follow (edges, …,
    reference) to a ControlNet or IPAdapter; files: where those were read.
    noise: from a seed, the numbers of the images, (N,) int64, and how many there are in all batches, to where a
    drawing takes its noise.
    beside: other files than `path` that decide what it draws, by name.
    Raises MinidiffError for a network whose images are neither grey nor coloured.
    """

    model: UNet | interop.UNet2D
    process: Process
    classes: tuple[str, ...]
    config: Config | None
    path: Path
    step: int
    usual: Usual = Usual()
    noise: Callable[[int, np.ndarray, int], Any] = own_noise
    tokenizer: Tokenizer | None = None
    identity: str = ""
    adapters: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    beside: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.shape[2] not in CHANNELS:
            raise MinidiffError(
                f"{self.path} has images of {self.shape[2]} channels; expected 1, grey, or 3, red, green and blue"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of its images."""
        network = self.model.config
        return network.height, network.width, network.channels

    def with_adapter(self, path: str | Path) -> "Pipeline":
        """Return the model with an adapter that was trained onto it: a checkpoint, or a training's folder.

        Raises MinidiffError if it is none, or one for another model.
        """
        found = checkpoints.find(Path(path), say=lambda line: print(line, file=sys.stderr))
        if found.adapter == "none":
            raise MinidiffError(f"{found.path} is no adapter but a model of its own")
        if found.base != self.identity:
            raise MinidiffError(f"{found.path} was trained onto another model than {self.path}")
        if found.network != self.model.config:  # the digest says so as well, but a file may say anything
            raise MinidiffError(f"{found.path} was trained onto a network of another shape than that of {self.path}")
        adapters = {**self.adapters, found.adapter: checkpoints.make_network(found)}
        return replace(self, adapters=adapters, files={**self.files, found.adapter: found.path})

    def sample(self, count: int = 1, label: Label = None, *, batch: int = 64, **how: Any) -> np.ndarray:
        """Draw images: (count, H, W, C) uint8.

        batch: how many at once; the rest as in `generate`.  Image k is the same whatever count and batch are, but
        for the last bits: matrix products of another size may add up in another order.
        """
        check_limits({"count": count, "batch": batch})
        parts = []
        for first in range(0, count, batch):
            *_, last = self.generate(min(batch, count - first), label, first=first, of=count, **how)
            parts.append(to_uint8(last.x_prev))
        return np.concatenate(parts)

    def generate(
        self,
        count: int = 1,
        label: Label = None,
        *,
        prompt: Prompt = None,
        negative: Prompt = None,
        sampler: str = "ddim",
        steps: int | None = None,
        spacing: str | None = None,
        eta: float = 0.0,
        churn: float = 0.0,
        variance: str | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        clip: str | None = None,
        seed: int = 0,
        first: int = 0,
        of: int | None = None,
        edit: Edit | None = None,
        control: np.ndarray | None = None,
        control_kind: str = "edges",
        control_scale: float = 1.0,
        reference: np.ndarray | None = None,
        reference_scale: float = 0.6,
        observe: Observe | None = None,
    ) -> Iterator[Step]:
        """Draw images in one batch and yield every step on the way; the last one's `x_prev` are the images.

        label: a name, a number, or several, which take turns; None goes round all the labels, and edits without.
        prompt: what to draw in words, or several, which take turns; None draws anything.  negative: what not to.
        sampler: one of `SAMPLERS`.  steps: from 1 to the T of the model's schedule; None for 50, or T where it is less.
        spacing: see `spacing.levels`.
        What is None is the model's usual way: for minidiff's own spacing "trailing", variance "small", clip "clip".
        eta, churn, variance: settings of single samplers: fresh noise in ddim, noise put back on in euler and heun, how
        much fresh noise ddpm takes.
        guidance_scale: 3 by default if something is asked for; 1 follows the label as learnt, 0 forgets it.
        guidance_interval: between which sigma to guide, the standard deviation of noise on images in [-1, 1]; None:
        always.
        clip: what becomes of x0_hat beyond [-1, 1]: "clip", "dynamic" or "none".
        seed: names the noise.  first: number of the first image; image k has noise of its own, named by k.
        of: how many images there are in all batches, by default none after these; only models of others, whose noise
        is one stream for all images, draw others where it is another number.
        edit: an image to start from, and what to do with it.
        control: a map that says where things are, (H, W, c) uint8, or (N, H, W, c), one each: white lines on black, if
        its kind is "edges".  control_scale: how much it may say; 0 takes it away.
        reference: an image whose look is taken over, (H, W, C) uint8, or (N, H, W, C).  reference_scale: how much.
        observe: is shown what the network says at every step.
        Raises MinidiffError, before the first step, for what makes no sense; at the last, if the images are not
        finite.
        """
        numbers = {"count": count, "seed": seed, "eta": eta, "churn": churn, "guidance_interval": guidance_interval}
        check_limits(numbers | {"control_scale": control_scale, "reference_scale": reference_scale})
        if sampler not in SAMPLERS:
            raise MinidiffError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
        usual, settings = self.usual, {}
        takes = inspect.signature(SAMPLERS[sampler]).parameters
        for name, value, nothing in (("eta", eta, 0), ("churn", churn, 0), ("variance", variance, None)):
            if name in takes:
                settings[name] = getattr(usual, name) if value is None else value
            elif value != nothing:
                having = ", ".join(each for each in SAMPLERS if name in inspect.signature(SAMPLERS[each]).parameters)
                raise MinidiffError(f"{name} is a setting of {having}; {sampler} has none, got {value}")
        labels = self.asked(count, label, prompt, first, edit is not None)
        if labels is None and reference is not None and self.tokenizer is not None:
            labels = np.zeros((count, self.tokenizer.max_tokens), np.int64)  # what is asked for is the reference
        scale = self.guidance(guidance_scale, labels is None)
        model = self.steered(count, control, control_kind, control_scale, reference, reference_scale)
        away = None if negative is None else self.prompts(count, negative, first)
        if away is not None and (labels is None or scale == 1):
            raise MinidiffError(
                "a negative prompt needs a prompt, and a guidance scale other than 1, to lead away from it"
            )
        schedule = self.process.schedule
        path = usual.path(schedule, self.steps_of(steps), usual.spacing if spacing is None else spacing)
        settings |= {name: getattr(usual, name) for name in ("keep_eps", "noisy_end") if name in takes}
        if "ends" in takes and usual.ends is not None and edit is None:
            settings["ends"] = usual.ends(schedule, path)
        draw = functools.partial(
            SAMPLERS[sampler],
            denoiser(model, labels, scale, away, self.between(guidance_interval), observe),
            self.process,
            clip=usual.clip if clip is None else clip,
            **settings,
        )
        if edit is None:
            last = first + count if of is None else max(of, first + count)
            noise = self.noise(seed, np.arange(first, first + count), last)
            return self._finite(draw(noise.start(self.shape), path, noise))
        ask = denoiser(model, labels)  # a way back exists for what was learnt, not for what guidance makes of it
        noise = Noise(seed, np.arange(first, first + count))
        return self._finite(edit.start(draw, ask, self.process, path, noise, self.shape))

    def steps_of(self, steps: int | None) -> int:
        """Return the number of steps that is meant: what was asked for, else the default."""
        return min(STEPS, self.process.schedule.T) if steps is None else steps

    def _finite(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Pass steps on; the last one's images must be finite, as then are those on the way to them."""
        for step in steps:
            if step.index + 1 == step.steps and not np.isfinite(to_numpy(step.x_prev)).all():
                raise MinidiffError(
                    f"the images that {self.path} draws are not finite: either its weights are not, or the settings "
                    "lead out of the range of numbers; try a smaller guidance scale, and clip"
                )
            yield step

    def steered(
        self,
        count: int,
        control: np.ndarray | None,
        control_kind: str,
        control_scale: float,
        reference: np.ndarray | None,
        reference_scale: float,
    ) -> Any:
        """Return the network with what its adapters are shown, for `count` images.

        See `generate`.  Raises MinidiffError for what it has no adapter for, and for scales that are no numbers.
        """
        if control is None and reference is None:
            return self.model
        assert isinstance(self.model, UNet)  # models of others have no adapters
        drawn = referred = None
        if control is not None:
            drawing = self._each(control, count) / np.float32(255)
            drawn = ControlInput(self._adapter(control_kind), drawing, control_scale)
        if reference is not None:
            image = to_float(self._each(reference, count))
            referred = ReferenceInput(self._adapter("reference"), image, reference_scale)
        return AdaptedUNet(self.model, drawn, referred)

    def _adapter(self, kind: str) -> Any:
        if kind in self.adapters:
            return self.adapters[kind]
        there = f"it has those for {', '.join(self.adapters)}" if self.adapters else "it has none"
        raise MinidiffError(f"this model has no adapter for {kind}, {there}; train one with --adapter {kind}")

    def _each(self, shown: np.ndarray, count: int) -> np.ndarray:
        """Return what each image is shown: (count, H, W, c) uint8."""
        shown = shown[None] if shown.ndim == 3 else shown
        height, width, _ = self.shape
        if shown.shape[1:3] != (height, width) or len(shown) not in (1, count):
            raise MinidiffError(f"expected 1 or {count} of {height}×{width} pixels to be shown, got {shown.shape}")
        return np.broadcast_to(shown, (count, *shown.shape[1:]))

    def asked(self, count: int, label: Label, prompt: Prompt, first: int = 0, edits: bool = False) -> np.ndarray | None:
        """Return what the network is told: labels (N,), captions (N, L), or None for nothing in particular."""
        if prompt is not None:
            if _several(label):
                raise MinidiffError("give a prompt or a label, not both")
            return self.prompts(count, prompt, first)
        return None if edits and not _several(label) else self.labels(count, label, first)

    def prompts(self, count: int, prompt: str | Sequence[str], first: int = 0) -> np.ndarray:
        """Return prompts in numbers for images first … first + count - 1, (count, L) int64."""
        if self.tokenizer is None:
            knows = f"it knows the labels {listed(self.classes, 30)}" if self.classes else "nor has it labels"
            raise MinidiffError(f"this model was trained without captions and cannot read a prompt; {knows}")
        several = [prompt] if isinstance(prompt, str) else list(prompt)
        if not several:
            raise MinidiffError("prompt is an empty list; give None for none")
        rows = np.stack([self.tokenizer.encode_prompt(one) for one in several])
        return rows[np.arange(first, first + count) % len(rows)]

    def between(self, interval: tuple[float, float] | None) -> tuple[float, float]:
        """Return an interval of sigma as one of what the network is told as the time."""
        if interval is None:
            return -math.inf, math.inf
        low, high = interval
        if not 0 <= low < high:
            raise MinidiffError(f"guidance_interval must be two sigma, the lower one first, got {low:g} and {high:g}")
        schedule = self.process.schedule
        least, most = schedule.all.sigma[[0, -1]]
        if low > most or high < least:
            return math.inf, -math.inf  # it lies beyond all times: none is guided
        ends = self.process.told(schedule.at_sigma(np.clip([low, high], least, most)))
        return (float(ends[0]) if low > least else -math.inf), (float(ends[1]) if high < most else math.inf)

    def labels(self, count: int, label: Label = None, first: int = 0) -> np.ndarray | None:
        """Return the labels of images first … first + count - 1, (count,) int64, or None for a model without."""
        turns = [self._number(one) for one in _several(label)] or list(range(len(self.classes)))
        if not turns:
            return None
        return np.array(turns, dtype=np.int64)[np.arange(first, first + count) % len(turns)]

    def guidance(self, guidance_scale: float | None = None, unlabelled: bool = False) -> float:
        """Return the guidance scale that is meant: what was asked for, else the default.

        unlabelled: whether nothing in particular is to be drawn.
        """
        knows = bool(self.classes or self.tokenizer)
        if guidance_scale is None:
            return GUIDANCE_SCALE if knows and not unlabelled else 1.0
        check_limits({"guidance_scale": guidance_scale})
        if guidance_scale != 1 and (unlabelled or not knows):
            why = "where nothing is asked for" if knows else "for this model, which was trained without labels"
            raise MinidiffError(f"guidance_scale must be 1 {why}, got {guidance_scale:g}")
        return float(guidance_scale)

    def _number(self, label: str | int) -> int:
        """Return the number of a label given by name, or by number, also written as text where no name is like it."""
        if not self.classes:
            instead = "; it reads prompts" if self.tokenizer else ""
            raise MinidiffError(f"this model was trained without labels; it cannot draw {label!r}{instead}")
        names = [_composed(name) for name in self.classes]
        if isinstance(label, str) and _composed(label) in names:
            return names.index(_composed(label))
        if not isinstance(label, str) or label.isdecimal():
            if 0 <= int(label) < len(self.classes):
                return int(label)
            raise MinidiffError(f"a label's number must be from 0 to {len(self.classes) - 1}, got {label}")
        hint = did_you_mean(label, self.classes)
        raise MinidiffError(f"no label {label!r}; {hint and f'{hint}; '}known are {listed(self.classes, 30)}")


def _several(label: Label) -> list[Any]:
    """Return one label, several or None as a list, [] for nothing in particular: label 0 and label "" are something."""
    if label is None:
        return []
    if isinstance(label, np.ndarray):
        return label.reshape(-1).tolist()
    return list(label) if isinstance(label, Sequence) and not isinstance(label, str) else [label]


def _composed(name: str) -> str:
    """Return a name with each é as one character: it may be two, as macOS has it in the names of folders."""
    return unicodedata.normalize("NFC", name)
