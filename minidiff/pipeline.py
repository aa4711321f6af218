"""A trained model, ready to draw: what `minidiff.load` returns.

Idea: whoever wants pictures has a checkpoint, a number and perhaps a label; everything between is settled here.

    model = minidiff.load("runs/my-run")
    pictures = model.sample(8, label="dog")        # (8, H, W, C) uint8

After training/ in the reading order; sample.py is this file as a command.  Leaves out files and screens.
"""

import difflib
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.process import Process
from minidiff.diffusion.samplers import SAMPLERS, Step, start_noise
from minidiff.errors import MinidiffError
from minidiff.nn import UNet
from minidiff.pictures import to_uint8
from minidiff.training import checkpoint as checkpoints
from minidiff.training.build import make_process
from minidiff.training.config import Config

Label = str | int | Sequence[str | int] | None

GUIDANCE_SCALE = 3.0  # unless asked otherwise, for models that know labels: clearly what was asked, still varied


def load(path: str | Path) -> "Pipeline":
    """Load a checkpoint, or the newest one of a training's folder, to draw with its averaged weights.

    Raises MinidiffError in one line if there is none, or none that can be read.
    """
    found = checkpoints.find(Path(path), say=lambda line: print(line, file=sys.stderr))
    process = make_process(found.config.diffusion)
    return Pipeline(checkpoints.make_network(found), process, found.classes, found.config, found.path, found.step)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A network, its noising process, and the names of its labels.

    classes: names of the labels 0, 1, …; () for a model without labels.
    config: the settings that it was trained with.  path, step: the checkpoint, and how long it had been trained.
    """

    model: UNet
    process: Process
    classes: tuple[str, ...]
    config: Config
    path: Path
    step: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of its pictures."""
        network = self.model.config
        return network.height, network.width, network.channels

    def sample(
        self,
        count: int = 1,
        label: Label = None,
        *,
        sampler: str = "ddim",
        steps: int = 50,
        eta: float = 0.0,
        guidance_scale: float | None = None,
        clip: str = "clip",
        seed: int = 0,
        batch: int = 64,
    ) -> np.ndarray:
        """Draw pictures: (count, H, W, C) uint8.

        batch: how many at once; the rest as in `generate`.  Picture k is the same whatever count and batch are, but
        for the last bits: matrix products of another size may add up in another order.
        """
        if batch < 1:
            raise MinidiffError(f"batch must be 1 or more, got {batch}")
        parts = []
        for first in range(0, max(count, 1), batch):
            *_, last = self.generate(
                min(batch, count - first),
                label,
                sampler=sampler,
                steps=steps,
                eta=eta,
                guidance_scale=guidance_scale,
                clip=clip,
                seed=seed,
                first=first,
            )
            parts.append(to_uint8(last.x_prev))
        return np.concatenate(parts)

    def generate(
        self,
        count: int = 1,
        label: Label = None,
        *,
        sampler: str = "ddim",
        steps: int = 50,
        eta: float = 0.0,
        guidance_scale: float | None = None,
        clip: str = "clip",
        seed: int = 0,
        first: int = 0,
    ) -> Iterator[Step]:
        """Draw pictures in one batch and yield every step on the way; the last one's `x_prev` are the pictures.

        label: a name, a number, or several, which take turns; None goes round all the labels.
        sampler: "ddim" or "ddpm".  steps: from 1 to the T of the model's schedule.  eta: fresh noise in ddim, 0 to 1.
        guidance_scale: 3 by default if the model knows labels; 1 follows the label as learnt, 0 forgets it.
        clip: what becomes of x0_hat beyond [-1, 1]: "clip", "dynamic" or "none".
        seed: names the noise.  first: number of the first picture; picture k has noise of its own, named by k.
        Raises MinidiffError, before the first step, for what makes no sense.
        """
        if count < 1:
            raise MinidiffError(f"count must be 1 or more, got {count}")
        if not 0 <= seed < 1 << 64:
            raise MinidiffError(f"seed must be from 0 to 2^64 - 1, got {seed}")
        if sampler not in SAMPLERS:
            raise MinidiffError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
        if sampler != "ddim" and eta != 0:
            raise MinidiffError(f"eta is a setting of ddim; {sampler} has none, got {eta:g}")
        extra = {"eta": eta} if sampler == "ddim" else {}
        samples = np.arange(first, first + count)
        denoise = denoiser(self.model, self.labels(count, label, first), self.guidance(guidance_scale))
        x_T = start_noise(seed, samples, self.shape)
        return SAMPLERS[sampler](denoise, self.process, x_T, steps, seed, samples, clip, **extra)

    def labels(self, count: int, label: Label = None, first: int = 0) -> np.ndarray | None:
        """Return the labels of pictures first … first + count - 1, (count,) int64, or None for a model without."""
        if label is None or (isinstance(label, Sequence) and len(label) == 0):
            turns = list(range(len(self.classes)))
        else:
            several = label if isinstance(label, Sequence) and not isinstance(label, str) else [label]
            turns = [self._number(one) for one in several]
        if not turns:
            return None
        return np.array(turns, dtype=np.int64)[np.arange(first, first + count) % len(turns)]

    def guidance(self, guidance_scale: float | None = None) -> float:
        """Return the guidance scale that is meant: what was asked for, else the default."""
        if guidance_scale is None:
            return GUIDANCE_SCALE if self.classes else 1.0
        if not math.isfinite(guidance_scale):
            raise MinidiffError(f"guidance_scale must be a finite number, got {guidance_scale}")
        if guidance_scale != 1 and not self.classes:
            raise MinidiffError(
                f"guidance_scale must be 1 for this model, which was trained without labels, got {guidance_scale:g}"
            )
        return float(guidance_scale)

    def _number(self, label: str | int) -> int:
        """Return the number of a label given by name, or by number, also written as text where no name is like it."""
        if not self.classes:
            raise MinidiffError(f"this model was trained without labels; it cannot draw {label!r}")
        if label in self.classes:
            return self.classes.index(label)  # type: ignore[arg-type]
        if not isinstance(label, str) or label.isdecimal():
            if 0 <= int(label) < len(self.classes):
                return int(label)
            raise MinidiffError(f"a label's number must be from 0 to {len(self.classes) - 1}, got {label}")
        close = difflib.get_close_matches(label, self.classes, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise MinidiffError(f"no label {label!r}{hint}; known are {_listed(self.classes)}")


def _listed(names: Sequence[str], most: int = 30) -> str:
    """Join names for a message, the first 30 of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
