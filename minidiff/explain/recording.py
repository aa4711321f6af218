"""What happens inside a sampling run, kept for who wants to look at it afterwards.

Idea: a sampler's step shows x_t and the guess x0_hat.  Where the guess comes from is known to others: guidance knows
what the network says with the prompt and without, cross-attention knows where each word is looked up.  A recording
listens to all three, and brings together what belongs to one step:

    recording = Recording(model.model, model.process)
    with recording:
        for step in model.generate(1, prompt="a dog", observe=recording.observe):
            recording.take(step)
    recording.frames[0].uncond                              # (1, H, W, C)

It only listens: the images are the same with it and without.
First file of explain/; formulas.py and page.py make of it what people see.
"""

from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.diffusion.guidance import Answer
from minidiff.diffusion.process import Process
from minidiff.diffusion.run import Step
from minidiff.nn import CrossAttention, Module, on_attention

MAX_IMAGES = 4


@dataclass(frozen=True)
class Said:
    """What the network said, as its output and read as images: (N, H, W, C) float32 each.

    cond, uncond, guided: see `guidance.Answer`.  x0_cond, x0_uncond, x0_guided: the images, before they are clipped.
    looks: from the height of a level to where each word is looked up there: (N, h, w, M) float32, over the M words 1.
    """

    cond: np.ndarray
    uncond: np.ndarray | None
    guided: np.ndarray
    x0_cond: np.ndarray
    x0_uncond: np.ndarray | None
    x0_guided: np.ndarray
    looks: dict[int, np.ndarray]


@dataclass(frozen=True)
class Frame:
    """A step, of its first images: arrays on the host.  said: None where nobody listened to the network."""

    step: Step
    said: Said | None


class Recording:
    """Listens to a sampling run.  frames: the steps that were taken in, in their order.

    network: the model whose words are watched, inside a `with` block.  process: reads its outputs.  images: how many,
    the first ones of the batch.
    """

    def __init__(self, network: Any, process: Process, images: int = MAX_IMAGES) -> None:
        self.network, self.process, self.images = network, process, images
        self.frames: list[Frame] = []
        modules = [module for _, module in network.named_modules()] if isinstance(network, Module) else []
        self._looks: deque[np.ndarray] = deque(maxlen=sum(isinstance(module, CrossAttention) for module in modules))
        self._answers: dict[float, tuple[Answer, dict[int, np.ndarray]]] = {}
        self._watching = ExitStack()

    def __enter__(self) -> "Recording":
        if self._looks.maxlen:
            self._watching.enter_context(on_attention(self.network, self._look))
        return self

    def __exit__(self, *error: object) -> None:
        self._watching.close()

    def _look(self, p: Any) -> None:
        """Take in where one cross-attention looks, (N, heads, h, w, M): the mean over its heads."""
        self._looks.append(backend.to_numpy(p[: self.images].mean(axis=1)))

    def observe(self, answer: Answer) -> None:
        """Take in what the network says; to be given to `guidance.denoiser`."""
        layers: dict[int, list[np.ndarray]] = {}
        for look in self._looks:  # at most those of one pass through the network, the last
            layers.setdefault(look.shape[1], []).append(look)
        n = len(answer.x_t)  # of more rows, the others are those without the prompt
        looks = {height: np.mean(several, axis=0)[:n] for height, several in sorted(layers.items())}
        arrays = {name: self._first(getattr(answer, name)) for name in ("x_t", "cond", "uncond", "guided")}
        self._answers[answer.t] = Answer(t=answer.t, **arrays), looks  # type: ignore[arg-type]

    def take(self, step: Step, keep: bool = True) -> None:
        """Take in a step, with the answer that it is based on.  keep: False passes over it."""
        heard = self._answers.get(self.process.network_t(step.level))  # heun asks at the step's end, too
        self._answers.clear()
        if not keep:
            return
        names = ("x_t", "x0_hat", "eps_hat", "x_prev")
        arrays = {name: self._first(getattr(step, name)) for name in names}
        own = Step(index=step.index, level=step.level, prev=step.prev, steps=step.steps, mix=step.mix,
                   evaluations=step.evaluations, **arrays)  # type: ignore[arg-type]  # fmt: skip
        self.frames.append(Frame(own, None if heard is None else self._read(*heard, step)))

    def _read(self, answer: Answer, looks: dict[int, np.ndarray], step: Step) -> Said:
        x_t = self.process.x_t_of(answer.x_t, step.level)
        image = lambda output: self.process.to_x0_eps(output, x_t, step.level)[0]
        return Said(
            cond=answer.cond,
            uncond=answer.uncond,
            guided=answer.guided,
            x0_cond=image(answer.cond),
            x0_uncond=None if answer.uncond is None else image(answer.uncond),
            x0_guided=image(answer.guided),
            looks=looks,
        )

    def _first(self, array: Any) -> np.ndarray | None:
        """Copy the first images to the host: some samplers and backends use their arrays again."""
        return None if array is None else np.array(backend.to_numpy(array[: self.images]))
