"""One step of training: images in, slightly better weights out.

Idea: take a batch, put noise on it, let the network say what the noise was, and move every weight a little in the
direction in which the answer gets better.  All that is random in step s is named by (seed, s), so the step is a pure
function of the weights, the optimiser's moments and s: whoever has these three can go on, to the bit.
The heart of training/; after checkpoint.py.  Leaves out everything around the steps: loop.py.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minidiff import backend, random
from minidiff.checkpoint import file as checkpoints
from minidiff.checkpoint.build import check_memory, make_model, make_process, network_config
from minidiff.checkpoint.config import Config
from minidiff.checkpoint.file import Checkpoint
from minidiff.data.companions import companions
from minidiff.data.dataset import Dataset, ImageDataset, order
from minidiff.data.flip import mirrored
from minidiff.errors import MinidiffError
from minidiff.images.files import to_float
from minidiff.nn.adapted_unet import AdaptedUNet, ControlInput, ReferenceInput
from minidiff.nn.controlnet import ControlNet
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.nn.tokenizer import drop_caption_parts
from minidiff.random import Key, Stream
from minidiff.scenes import Scenes
from minidiff.training.nonfinite import first_gradient, first_layer
from minidiff.training.optimizer import ema_decay, gradient_norm, learning_rate, update
from minidiff.training.resume import check_same


@dataclass(frozen=True)
class Record:
    """What a step did: its number 1, 2, …, loss, learning rate, and the norm of the gradients before clipping."""

    step: int
    loss: float
    lr: float
    grad_norm: float


class Trainer:
    """A network on its way, and everything that its next step depends on.

    step: updates made so far.  steps: the last one, None while it is not known (see pace.py).
    base, data: the digests of what is added to, "" for none, and of the images.
    """

    def __init__(self, config: Config, dataset: Dataset, checkpoint: Checkpoint | None = None) -> None:
        self.config, self.dataset = config, dataset
        self.process = make_process(config.diffusion)
        self.network = network_config(
            config.model, dataset.height, dataset.width, dataset.channels, len(dataset.classes), dataset.tokenizer
        )
        checkpoints.check_names((*dataset.classes, *self.words), f"{dataset.name}: ")
        self.adapter = config.addition.adapter
        self.unet: Any = None
        base = None
        if config.addition.onto is not None:
            base = checkpoints.find(config.addition.onto)
            self._check_base(base)
            if config.data.flip and isinstance(dataset, Scenes):
                raise MinidiffError("--flip mirrors images, but not the maps of scenes beside them: leave it out")
            self.unet = checkpoints.make_network(base)
            for parameter in self.unet.named_parameters().values():
                parameter.requires_grad = False
        self.base, self.data = base.identity if base else "", dataset.digest
        self.steps = config.run.steps
        if checkpoint is None:
            self.step = 0
            self.model = make_model(self.network, self.adapter)
            check_memory(self.model, self.network, config.run.batch // config.run.accumulate)
            self.model.initialize(config.run.seed)
            if isinstance(self.model, ControlNet):
                self.model.copy_weights(self.unet)
            self.parameters = FlatParameters(self.model)
        else:
            check_same(checkpoint, config, self.network, dataset, base)
            self.step = checkpoint.step
            self.model, self.parameters = checkpoints.restore(checkpoint, self.network)

    def _check_base(self, base: Checkpoint) -> None:
        """Raise MinidiffError unless what is added fits what it is added to."""
        if base.adapter != "none":
            raise MinidiffError(f"--onto {base.path} is an adapter itself; expected the model that it was added to")
        if base.network != self.network or (base.classes, base.words) != (self.dataset.classes, self.words):
            raise MinidiffError(f"--onto {base.path} was trained with other settings of the network or on other labels")

    @property
    def words(self) -> tuple[str, ...]:
        """Those that captions are written in, () without captions."""
        return self.dataset.tokenizer.words if self.dataset.tokenizer else ()

    def batch(self, index: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the images of these numbers, (N, H, W, C) uint8, and their labels.

        sample: (N,) their places in the step's whole batch, by which flips, and parts of captions, are drawn.
        """
        images, labels = self.dataset.batch(index)
        if isinstance(self.dataset, ImageDataset) and self.dataset.parts is not None and labels is not None:
            u = random.uniform(Key(self.config.run.seed, Stream.CAPTION, self.step, sample), 1 + labels.shape[1])
            labels = drop_caption_parts(labels, self.dataset.parts[index], u)
        if self.config.data.flip:
            chosen = random.uniform(Key(self.config.run.seed, Stream.FLIP, self.step, sample), ()) < 0.5
            images, labels = mirrored(self.dataset, images, labels, chosen)
        return images, labels

    def loss(self, index: np.ndarray, sample: np.ndarray) -> Any:
        """Return the loss of a part of this step's batch, a Tensor."""
        images, labels = self.batch(index, sample)
        run, model = self.config.run, self.shown(index, images)
        x0 = backend.to_device(to_float(images))
        return self.process.training_loss(model, x0, labels, run.seed, self.step, sample, run.batch)[0]

    def shown(self, index: np.ndarray, images: np.ndarray) -> Any:
        """Return the denoiser: the network itself or, with an adapter, the base model with the adapter's inputs.

        images: (N, H, W, C) uint8, numbered `index`, whose companions the adapter is shown.
        """
        if self.adapter == "none":
            return self.model
        beside = companions(self.dataset, self.adapter, index, images)
        if isinstance(self.model, ControlNet):
            return AdaptedUNet(self.unet, ControlInput(self.model, beside / np.float32(255)))
        return AdaptedUNet(self.unet, None, ReferenceInput(self.model, to_float(beside)))

    def advance(self) -> Record:
        """Make one step.

        A batch in `accumulate` parts has the same images, flips, t, noise and hidden labels as in one, since all of
        them are named by an image's place in the whole batch; gradients are sums over images, so only the order of
        their float32 summation differs, by a relative error of about 1e-6.
        Raises MinidiffError, and leaves the weights as they were, if the loss or a gradient is not finite.
        """
        run, optimizer = self.config.run, self.config.optimizer
        index = order(self.dataset, run.seed, self.step, run.batch)  # (batch,)
        parts = np.split(np.arange(run.batch), run.accumulate)
        self.parameters.g[:] = 0
        losses = []
        with np.errstate(all="ignore"):  # what overflows is reported once: the loss here, weights when they are saved
            for sample in parts:
                part = self.loss(index[sample], sample)
                part.backward()
                losses.append(part.data)
            norm, losses = gradient_norm(self.parameters, losses)
            for sample, loss in zip(parts, losses):
                if not math.isfinite(loss):
                    where = first_layer(self.model, partial(self.loss, index[sample], sample), self.unet)
                    raise MinidiffError(f"the loss is {loss} at step {self.step + 1}; it arose in {where}")
            if not math.isfinite(norm):
                where = first_gradient(self.model)
                raise MinidiffError(f"the gradient is {norm} at step {self.step + 1}; it arose in {where}")
            lr = learning_rate(optimizer, self.step + 1, self.steps)
            decay = ema_decay(self.step + 1, optimizer.ema)
            update(self.parameters, optimizer, self.step + 1, lr, norm, decay, run.accumulate)
        self.step += 1
        return Record(self.step, sum(losses) / len(losses), lr, norm)
