"""A recording of what happens inside a sampling run.

Idea: what happens at a step is known in three places.  The sampler yields x_t and the prediction x0_hat.  Guidance has
the network's outputs with the prompt and without.  Cross-attention has the weight of each word at each position.  The
caller passes the first to `take`; callbacks receive the other two.  A recording combines what belongs to one step:

    recording = Recording(model.model, model.process)
    with recording:
        for step in model.generate(1, prompt="a dog", on_prediction=recording.on_prediction):
            recording.take(step)
    recording.frames[0].outputs.uncond                              # (1, H, W, C)

A recording does not change the images.
Leaves out showing it: page.py.
"""

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.diffusion.guidance import Prediction
from minidiff.diffusion.process import Process
from minidiff.diffusion.run import Step
from minidiff.latent.space import PIXELS, Space
from minidiff.nn import CrossAttention, Module, on_attention

MAX_IMAGES = 4


@dataclass(frozen=True)
class NetworkOutputs:
    """The outputs of the network at one step, and the images that they predict: (N, H, W, C) float32 each.

    cond, uncond, guided: see `guidance.Prediction`.  x0_cond, x0_uncond, x0_guided: the images, before clipping.
    attention: from the height of a feature map to its attention weights, (N, h, w, M) float32; they add up to 1 over
    the M words.
    """

    cond: np.ndarray
    uncond: np.ndarray | None
    guided: np.ndarray
    x0_cond: np.ndarray
    x0_uncond: np.ndarray | None
    x0_guided: np.ndarray
    attention: dict[int, np.ndarray]


@dataclass(frozen=True)
class Frame:
    """The first images of a step: arrays on the host.

    outputs: None if the network's were not recorded.
    shown: the step to look at, with images in the place of latents; the same step for a model that works with pixels.
    preview: makes images of the arrays in `outputs`, see `latent.space.Space`.
    """

    step: Step
    outputs: NetworkOutputs | None
    shown: Step
    preview: Callable[[np.ndarray], np.ndarray]

    @property
    def latent(self) -> bool:
        """Whether the step is one of latents, so that images of it are previews."""
        return self.shown is not self.step


class Recording:
    """Records a sampling run.  frames: the recorded steps, in order.

    network: the model whose attention is recorded, inside a `with` block.  process: converts its outputs to images.
    images: how many, the first ones of the batch.  space: what the network denoises.
    """

    def __init__(self, network: Any, process: Process, images: int = MAX_IMAGES, space: Space = PIXELS) -> None:
        self.network, self.process, self.images, self.space = network, process, images, space
        self.frames: list[Frame] = []
        modules = [module for _, module in network.named_modules()] if isinstance(network, Module) else []
        self._attention: deque[np.ndarray] = deque(maxlen=sum(isinstance(module, CrossAttention) for module in modules))
        self._predictions: dict[float, tuple[Prediction, dict[int, np.ndarray]]] = {}
        self._watching = ExitStack()

    def __enter__(self) -> "Recording":
        if self._attention.maxlen:
            self._watching.enter_context(on_attention(self.network, self._on_attention))
        return self

    def __exit__(self, *error: object) -> None:
        self._watching.close()

    def _on_attention(self, p: Any) -> None:
        """Take in the weights of one cross-attention, (N, heads, h, w, M): the mean over its heads."""
        self._attention.append(backend.to_numpy(p[: self.images].mean(axis=1)))

    def on_prediction(self, prediction: Prediction) -> None:
        """Record a prediction; to be passed to `Pipeline.generate` or `guidance.denoiser`."""
        layers: dict[int, list[np.ndarray]] = {}
        for weights in self._attention:  # at most those of one pass through the network, the last
            layers.setdefault(weights.shape[1], []).append(weights)
        n = len(prediction.x_t)  # further rows are those without the prompt
        attention = {height: np.mean(several, axis=0)[:n] for height, several in sorted(layers.items())}
        arrays = {name: self._first(getattr(prediction, name)) for name in ("x_t", "cond", "uncond", "guided")}
        self._predictions[prediction.t] = Prediction(t=prediction.t, **arrays), attention  # type: ignore[arg-type]

    def take(self, step: Step, keep: bool = True, shown: Step | None = None) -> None:
        """Record a step, with the prediction that it is based on.

        keep: False skips it.  shown: the step to look at, see `Plan.shown`; None for the step itself.
        """
        prediction = self._predictions.get(
            self.process.network_t(step.level)
        )  # heun predicts at the end of the step, too
        self._predictions.clear()
        if not keep:
            return
        own = self._on_host(step)
        outputs = None if prediction is None else self._outputs(*prediction, step)
        shown = own if shown is None or shown.x_t is step.x_t else self._on_host(shown)
        self.frames.append(Frame(own, outputs, shown, self._preview))

    def _on_host(self, step: Step) -> Step:
        arrays: dict[str, Any] = {
            name: self._first(getattr(step, name)) for name in ("x_t", "x0_hat", "eps_hat", "x_prev")
        }
        return replace(step, **arrays)

    def _preview(self, x: np.ndarray) -> np.ndarray:
        return backend.to_numpy(self.space.preview(backend.to_device(x)))

    def _outputs(self, prediction: Prediction, attention: dict[int, np.ndarray], step: Step) -> NetworkOutputs:
        x_t = self.process.x_t_of(prediction.x_t, step.level)
        image = lambda output: self.process.to_x0_eps(output, x_t, step.level)[0]
        return NetworkOutputs(
            cond=prediction.cond,
            uncond=prediction.uncond,
            guided=prediction.guided,
            x0_cond=image(prediction.cond),
            x0_uncond=None if prediction.uncond is None else image(prediction.uncond),
            x0_guided=image(prediction.guided),
            attention=attention,
        )

    def _first(self, array: Any) -> np.ndarray | None:
        """Copy the first images to the host: some samplers and backends reuse their arrays."""
        return None if array is None else np.array(backend.to_numpy(array[: self.images]))
