"""What a training consists of: the network, the data, the noising process, and the state of the optimizer.

Idea: every random number in a step is a function of the seed and the number of the step.  So with the same settings and
images, a step depends only on its number, the weights and AdamW's moments.  A training that continues from these ends
with the same weights, to the bit, as one that was not interrupted.
With several processes, each computes some of the parts of a batch.
What is trained is a denoiser, or an adapter of a U-Net whose weights are frozen; either may work with the latents of an
autoencoder, whose weights are frozen too.  A `Trainer` also returns the batch and the loss of the next step, and finds
out where a loss or a gradient that is not finite arose.
Leaves out the loop over the steps (loop.py), the update of the weights (optimizer.py), and the training of an
autoencoder (autoencoder.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.autograd import Tensor
from minidiff.checkpoint import Checkpoint
from minidiff.checkpoint.build import check_memory, denoiser_config, make_model, make_process, patch_of, size_divisor
from minidiff.checkpoint.config import NO_ADAPTER, Config
from minidiff.data.dataset import KEYS, Dataset
from minidiff.data.encoded import GROUP, encoded_images
from minidiff.data.training_data import Batch, TrainingData
from minidiff.diffusion.process import Examples, loss_of
from minidiff.errors import MinidiffError
from minidiff.graphed import Graphed
from minidiff.images.files import to_float
from minidiff.latent.space import PIXELS, Latents, Space, fit
from minidiff.nn import DenoiserConfig, DiTConfig
from minidiff.nn.adapted_unet import AdaptedUNet, ControlInput, ReferenceInput
from minidiff.nn.autoencoder import AutoencoderConfig
from minidiff.nn.controlnet import ControlNet
from minidiff.nn.flat_parameters import FlatParameters
from minidiff.processes import world
from minidiff.processes.gradients import GradientSum
from minidiff.processes.report import Report
from minidiff.processes.tree import parts_of
from minidiff.training.nonfinite import first_gradient, first_layer
from minidiff.training.resume import check_resumable


@dataclass(frozen=True)
class Record:
    """What a step did: its number 1, 2, …, loss, learning rate, the norm of the gradients before clipping, seconds."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    seconds: float = field(default=0.0, compare=False)


class Trainer:
    """A network that is being trained, and everything that its next step depends on.

    step: updates made so far.  steps: the last step, None while it is not known (see budget.py).
    model: what is trained, a denoiser or an adapter.  unet: the frozen U-Net below an adapter, else None.
    space: what the denoiser denoises, pixels or latents.  parts: of a batch, on all processes.  gradients: their sum.
    base_digest: of the base model, "" without an adapter.  data_digest: of the images.
    Raises MinidiffError if no network can be built from the settings, or if the checkpoint or the base model does not
    fit the settings and the data.
    """

    def __init__(self, config: Config, dataset: Dataset, checkpoint: Checkpoint | None = None) -> None:
        self.config, self.dataset = config, dataset
        self.process = make_process(config.diffusion)
        checkpoints.check_names((*dataset.classes, *self.words), f"{dataset.name}: ")
        self.adapter = config.addition.adapter
        base = None if config.addition.onto is None else checkpoints.find(config.addition.onto)
        self.space = self._make_space(base or checkpoint)
        self.network: DenoiserConfig | AutoencoderConfig = self._make_config()
        if base is not None:
            self._check_base(base)
        conditioning = None if self.adapter == "none" else self.adapter
        encoded = encoded_images(dataset, self.space, config.data.flip)
        self.training_data = TrainingData(dataset, config.run.seed, config.data.flip, conditioning, encoded)
        self.unet: Any = None if base is None else frozen_unet(base)
        self.base_digest, self.data_digest = base.identity if base else "", dataset.digest
        self.steps = config.run.steps
        self.parts = parts_of(config.run.batch_size, config.run.accumulate, world.current().size)
        if checkpoint is not None:
            check_resumable(checkpoint, config, self.network, dataset, base)
            self.step = checkpoint.step
            self.model, self.parameters = checkpoints.restore(checkpoint, self.network)
        else:
            self.step = 0
            self.model, self.parameters = self._new_model()
        self.gradients = GradientSum(self.parameters, world.current(), self.parts)
        frozen = [] if self.unet is None else self.unet.named_parameters().values()
        self._backward = Graphed(self._loss_and_gradients, [*self.parameters.parameters.values(), *frozen])

    def _new_model(self) -> tuple[Any, FlatParameters]:
        """Return what is to be trained, with its first weights."""
        model = make_model(self.network, self.adapter, self.space.autoencoder_config)
        check_memory(model, self.network, self.config.run.batch_size // self.parts)
        model.initialize(self.config.run.seed)
        if isinstance(model, ControlNet) and self.unet is not None:
            model.copy_weights(self.unet)
        return model, FlatParameters(model)

    def _make_space(self, found: Checkpoint | None) -> Space:
        """Return what the denoiser denoises: as in a checkpoint, latents of the autoencoder in the settings, or pixels.

        found: the checkpoint of the base model or of the run to go on with.
        """
        if found is not None:
            return checkpoints.make_space(found)
        path = self.config.autoencoder.autoencoder
        return PIXELS if path is None else new_latents(checkpoints.find(path), self.dataset)

    def _make_config(self) -> DenoiserConfig | AutoencoderConfig:
        """Return the configuration of what is trained, or of the U-Net below the adapter that is trained."""
        data, model = self.dataset, self.config.model
        height, width, channels = self.space.array_shape((data.height, data.width, data.channels))
        factor = data.height // height
        divisor = factor * size_divisor(model, height, width)
        if factor > 1 and (data.height % divisor or data.width % divisor):
            patch, levels = patch_of(model, height, width), len(model.channel_mult)
            cut = f"halved for {levels} levels of a U-Net"
            if model.network == "dit":
                cut = f"cut into patches of {patch}×{patch}"
            raise MinidiffError(
                f"latents of {height}×{width} cannot be {cut}: height and width of the images must be numbers that "
                f"{divisor} divides ({divisor}, {2 * divisor}, {3 * divisor}, …), got {data.height}×{data.width}"
            )
        return denoiser_config(model, height, width, channels, len(data.classes), data.tokenizer)

    def _check_base(self, base: Checkpoint) -> None:
        """Raise MinidiffError if the adapter that is trained does not fit the model below it."""
        if base.adapter != "none":
            raise MinidiffError(f"--onto {base.path} is an adapter itself; expected the model that it was added to")
        if isinstance(base.network, DiTConfig):
            raise MinidiffError(f"--onto {base.path}: {NO_ADAPTER}")
        if base.network != self.network or (base.classes, base.words) != (self.dataset.classes, self.words):
            raise MinidiffError(f"--onto {base.path} was trained with other settings of the network or on other labels")

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary of the captions, () without captions."""
        return self.dataset.tokenizer.words if self.dataset.tokenizer else ()

    def batches(self) -> list[Batch]:
        """Return the parts of the next step's batch that this process computes."""
        return self.training_data.batches(self.step, self.config.run.batch_size, self.parts, self.gradients.own)

    def add_gradients(self, batch: Batch) -> Any:
        """Add the gradients of the next step's batch, or of a part, to `parameters.g`; return the mean loss."""
        (loss,) = self._backward(*self.examples(batch))
        return loss

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch of the next step, or of a part of it."""
        return self.loss_of(*self.examples(batch))

    def examples(self, batch: Batch) -> tuple[Any, ...]:
        """Return what `loss_of` gets for a batch of the next step: arrays or None, with all that is drawn at random."""
        run, x0 = self.config.run, backend.to_device(batch.x0)
        examples = self.process.training_examples(
            self.model if self.unet is None else self.unet,
            x0, batch.labels, run.seed, self.step, batch.sample, run.batch_size,
        )  # fmt: skip
        conditioning = None if batch.conditioning is None else backend.to_device(batch.conditioning)
        return conditioning, *examples

    def loss_of(self, conditioning: Any, *examples: Any) -> Tensor:
        """Return the mean loss of examples."""
        return loss_of(self.denoiser(conditioning), Examples(*examples))[0]

    def _loss_and_gradients(self, *examples: Any) -> tuple[Any]:
        loss = self.loss_of(*examples)
        loss.backward()
        return (loss.data,)

    def denoiser(self, conditioning: np.ndarray | None) -> Any:
        """Return the denoiser: the network that is trained or, with an adapter, the U-Net with the adapter's inputs.

        conditioning: (N, H, W, c) uint8, the adapter's inputs; None without an adapter.
        """
        if conditioning is None:
            return self.model
        if isinstance(self.model, ControlNet):
            return AdaptedUNet(self.unet, ControlInput(self.model, conditioning / np.float32(255)))
        return AdaptedUNet(self.unet, None, ReferenceInput(self.model, to_float(conditioning)))

    def check_finite(self, batches: Sequence[Batch], reports: Sequence[Report], norm: float) -> None:
        """Raise MinidiffError, with the layer in which it arose, if a loss or the norm of the gradients is not finite.

        batches: of this process.  reports: of all processes.  Until the weights are updated, a loss can be computed
        again to find that layer.
        """
        if math.isfinite(norm) and all(math.isfinite(loss) for report in reports for loss in report.losses):
            return
        here = world.current()
        found = here.texts(self._first_not_finite(batches, reports[here.rank].losses))
        where = f"the gradient is {norm} at step {self.step + 1}; it arose in {first_gradient(self.model)}"
        raise MinidiffError(next(filter(None, found), where))

    def _first_not_finite(self, batches: Sequence[Batch], losses: Sequence[float]) -> str:
        """Return where the first loss of this process that is not finite arose, "" if all are finite."""
        for batch, loss in zip(batches, losses):
            if not math.isfinite(loss):
                where = first_layer(self.model, partial(self.loss, batch), self.unet)
                return f"the loss is {loss} at step {self.step + 1}; it arose in {where}"
        return ""


def frozen_unet(checkpoint: Checkpoint) -> Any:
    """Return the U-Net of a checkpoint, whose weights take no gradients."""
    unet = checkpoints.make_network(checkpoint)
    for parameter in unet.named_parameters().values():
        parameter.requires_grad = False
    return unet


STATISTICS = 64  # batches of EncodedImages' size that new latents are measured on


def new_latents(found: Checkpoint, dataset: Dataset) -> Latents:
    """Return the latents of a trained autoencoder, measured on images of the dataset.

    found: its checkpoint, or that of a model which works in its latents.
    The autoencoder may have been trained on images of another size: it has no layer that depends on it.
    Raises MinidiffError if the checkpoint has no autoencoder, or one for other images.
    """
    space = checkpoints.make_space(found)
    if isinstance(space, Latents):
        autoencoder = space.autoencoder
    elif isinstance(found.trained, AutoencoderConfig):
        autoencoder = checkpoints.make_network(found)
    else:
        raise MinidiffError(f"--autoencoder {found.path} has no autoencoder; train one with --network autoencoder")
    channels = autoencoder.config.channels
    if channels != dataset.channels:
        raise MinidiffError(
            f"--autoencoder {found.path} is for images of {channels} channels; those of {dataset.name} have "
            f"{dataset.channels}"
        )
    autoencoder.config = replace(autoencoder.config, height=dataset.height, width=dataset.width)
    count = STATISTICS if dataset.endless else min(STATISTICS, -(-len(dataset) // GROUP))
    number = KEYS if dataset.endless else len(dataset)
    images = lambda k: to_float(dataset.batch(np.arange(GROUP * k, min(GROUP * (k + 1), number)))[0])
    return Latents(autoencoder, fit(autoencoder, images, count))
