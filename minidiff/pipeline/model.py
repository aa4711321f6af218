"""A trained model: the network, its noising process, what its labels and words mean, and its adapters.

Idea: labels and prompts become the numbers that the network was trained with.  Control images and reference images
become inputs of its adapters.  Whatever does not fit this model is refused here.
Leaves out reading files: loading.py.
"""

import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from minidiff import checkpoint as checkpoints
from minidiff import interop
from minidiff.checkpoint.config import NO_ADAPTER, Config
from minidiff.diffusion.process import Process
from minidiff.diffusion.run import Noise
from minidiff.errors import MinidiffError, did_you_mean, listed
from minidiff.images.files import to_float
from minidiff.latent.space import PIXELS, Space
from minidiff.limits import check_limits
from minidiff.nn import DiT, UNet
from minidiff.nn.adapted_unet import AdaptedUNet, ControlInput, ReferenceInput
from minidiff.nn.tokenizer import Tokenizer
from minidiff.pipeline.settings import DEFAULTS, Defaults, Inputs, Label

CHANNELS = (1, 3)  # of images; a model of others, such as latents without their decoder, is refused
STEPS = 50  # by default, where the schedule has as many


def own_noise(seed: int, samples: np.ndarray, total: int) -> Noise:
    """Return the noise of minidiff's own models: that of an image depends on its number, not on `total`."""
    return Noise(seed, samples)


@dataclass(frozen=True, eq=False)
class Model:
    """A network, its noising process, and the names of its labels.

    classes: names of the labels 0, 1, …; () for a model without labels.
    config: the settings that it was trained with, None for a diffusers model.
    path, step: the checkpoint, and for how many steps it was trained.
    tokenizer: encodes prompts; None for a model without text conditioning.
    identity: the digest by which adapters name the network that they were trained for.
    adapters: from their kind (edges, …, reference) to a ControlNet or IPAdapter; files: where those were read.
    noise: from a seed, the numbers of the images, (N,) int64, and their total in all batches, to their noise.
    beside: other files than `path` that decide what it draws, by name.
    space: what the network denoises, pixels or latents, and the way from there to images.
    Raises MinidiffError for a network whose images have neither 1 nor 3 channels.
    """

    model: UNet | DiT | interop.UNet2D
    process: Process
    classes: tuple[str, ...]
    config: Config | None
    path: Path
    step: int
    defaults: Defaults = DEFAULTS
    noise: Callable[[int, np.ndarray, int], Any] = own_noise
    tokenizer: Tokenizer | None = None
    identity: str = ""
    adapters: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    beside: Mapping[str, Path] = field(default_factory=dict)
    space: Space = PIXELS

    def __post_init__(self) -> None:
        if self.shape[2] not in CHANNELS:
            raise MinidiffError(
                f"{self.path} has images of {self.shape[2]} channels; expected 1, grey, or 3, red, green and blue"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of its images."""
        return self.space.image_shape(self.noise_shape)

    @property
    def noise_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what the network denoises: an image, or latents."""
        network = self.model.config
        return network.height, network.width, network.channels

    def with_adapter(self, path: str | Path) -> Self:
        """Return the model with an adapter that was trained for it: a checkpoint, or a training's folder.

        Raises MinidiffError if it is none, or one for another model.
        """
        self._check_takes_adapters()
        found = checkpoints.find(Path(path), warn=lambda line: print(line, file=sys.stderr))
        if found.adapter == "none":
            raise MinidiffError(f"{found.path} is no adapter but a model of its own")
        if found.base != self.identity:
            raise MinidiffError(f"{found.path} was trained onto another model than {self.path}")
        if found.network != self.model.config:  # the digest says so as well, but a file may say anything
            raise MinidiffError(f"{found.path} was trained onto a network of another shape than that of {self.path}")
        adapters = {**self.adapters, found.adapter: checkpoints.make_network(found)}
        return replace(self, adapters=adapters, files={**self.files, found.adapter: found.path})

    # -- words and labels in numbers ----------------------------------------------------------------------------------

    def conditioning(self, inputs: Inputs) -> np.ndarray | None:
        """Return what the images are conditioned on in turn: labels (n,), captions (n, L), or None for nothing."""
        if inputs.prompt is not None:
            if _several(inputs.label):
                raise MinidiffError("give a prompt or a label, not both")
            return self.prompts(inputs.prompt)
        return None if inputs.edit is not None and not _several(inputs.label) else self._labels(inputs.label)

    def prompts(self, prompt: str | Sequence[str]) -> np.ndarray:
        """Return the tokens of prompts, (n, L) int64."""
        if self.tokenizer is None:
            knows = f"it knows the labels {listed(self.classes, 30)}" if self.classes else "nor has it labels"
            raise MinidiffError(f"this model was trained without captions and cannot read a prompt; {knows}")
        several = [prompt] if isinstance(prompt, str) else list(prompt)
        if not several:
            raise MinidiffError("prompt is an empty list; give None for none")
        return np.stack([self.tokenizer.encode_prompt(one) for one in several])

    def labels(self, count: int, label: Label = None, first: int = 0) -> np.ndarray | None:
        """Return the labels of images first … first + count - 1, (count,) int64, or None for a model without."""
        turns = self._labels(label)
        return None if turns is None else in_turn(turns, first, count)

    def _labels(self, label: Label) -> np.ndarray | None:
        turns = [self._number(one) for one in _several(label)] or list(range(len(self.classes)))
        return np.array(turns, dtype=np.int64) if turns else None

    def _number(self, label: str | int) -> int:
        """Return the number of a label, given by its name or, where no name is like it, by its number."""
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

    def names(self, labels: np.ndarray | None) -> list[str]:
        """Return labels (N,) or captions (N, L) in words; [] for None."""
        if labels is None:
            return []
        if self.tokenizer is not None:
            return [self.tokenizer.decode(row) for row in labels]
        return [self.classes[label] for label in labels]

    # -- settings that the model decides ------------------------------------------------------------------------------

    def steps_of(self, steps: int | None) -> int:
        """Return the number of steps: the given one, else the default."""
        return min(STEPS, self.process.schedule.T) if steps is None else steps

    def guidance(self, guidance_scale: float | None = None, unconditional: bool = False) -> float:
        """Return the guidance scale: the given one, else the default.  unconditional: without prompt or label."""
        knows = bool(self.classes or self.tokenizer)
        if guidance_scale is None:
            return self.space.guidance_scale if knows and not unconditional else 1.0
        check_limits({"guidance_scale": guidance_scale})
        if guidance_scale != 1 and (unconditional or not knows):
            why = "without a prompt or label" if knows else "for this model, which was trained without labels"
            raise MinidiffError(f"guidance_scale must be 1 {why}, got {guidance_scale:g}")
        return float(guidance_scale)

    # -- adapters -----------------------------------------------------------------------------------------------------

    def adapted(self, inputs: Inputs, first: int, count: int) -> Any:
        """Return the network with the inputs of its adapters, for images first … first + count - 1.

        Raises MinidiffError for an input that no adapter is for, or that does not fit the images.
        """
        if inputs.control is None and inputs.reference is None:
            return self.model
        self._check_takes_adapters()
        assert isinstance(self.model, UNet)  # diffusers models have no adapters
        control = reference = None
        if inputs.control is not None:
            net = self._adapter(inputs.control_kind)
            drawing = self._maps("control", inputs.control, net.channels, first, count) / np.float32(255)
            control = ControlInput(net, drawing, inputs.control_scale)
        if inputs.reference is not None:
            net = self._adapter("reference")
            image = to_float(self._maps("reference", inputs.reference, self.shape[2], first, count))
            reference = ReferenceInput(net, image, inputs.reference_scale)
        return AdaptedUNet(self.model, control, reference)

    def _check_takes_adapters(self) -> None:
        """Raise MinidiffError for a transformer."""
        if isinstance(self.model, DiT):
            raise MinidiffError(f"{self.path}: {NO_ADAPTER}")

    def _adapter(self, kind: str) -> Any:
        if kind in self.adapters:
            return self.adapters[kind]
        there = f"it has those for {', '.join(self.adapters)}" if self.adapters else "it has none"
        raise MinidiffError(f"this model has no adapter for {kind}, {there}; train one with --adapter {kind}")

    def _maps(self, name: str, given: Any, channels: int, first: int, count: int) -> np.ndarray:
        """Return an adapter's input for each image, (count, H, W, c) uint8, of one or of several that take turns."""
        array = np.asarray(given)
        several, image = (array[None] if array.ndim == 3 else array), (*self.shape[:2], channels)
        if array.dtype != np.uint8 or several.ndim != 4 or several.shape[1:] != image or not len(several):
            raise MinidiffError(
                f"{name} must be an image {image} of uint8, or several that take turns, (N, …); got an array "
                f"{array.shape} of {array.dtype}"
            )
        return in_turn(several, first, count)


def in_turn(turns: np.ndarray, first: int, count: int) -> np.ndarray:
    """Return the entries for images first … first + count - 1, which use `turns` cyclically: (n, …) to (count, …)."""
    return turns[np.arange(first, first + count) % len(turns)]


def _several(label: Label) -> list[Any]:
    """Return labels as a list, [] for None; the label 0 and the label "" are labels like all others."""
    if label is None:
        return []
    if isinstance(label, np.ndarray):
        return label.reshape(-1).tolist()
    return list(label) if isinstance(label, Sequence) and not isinstance(label, str) else [label]


def _composed(name: str) -> str:
    """Return a name with each é as one character: it may be two, as macOS has it in the names of folders."""
    return unicodedata.normalize("NFC", name)
