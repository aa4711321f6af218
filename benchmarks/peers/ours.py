"""The problems as minidiff computes them, on the backend in use.

A job has two methods: `run()` does the work that is timed; `check()` returns what it computes, by name, in minidiff's
layout, for the comparison with the others.
"""

from typing import Any

import numpy as np

from benchmarks.peers.problems import (
    CHECKED_STEPS,
    Convolution,
    Decoding,
    Evaluation,
    Forward,
    Network,
    Problem,
    Sampling,
    random_weights,
    weights,
)
from minidiff import backend, cache_folders, ops
from minidiff.autograd import Tensor, no_grad
from minidiff.checkpoint.build import make_process
from minidiff.checkpoint.config import Config, DiffusionConfig, RunConfig
from minidiff.data.config import DataConfig
from minidiff.data.dataset import ImageDataset
from minidiff.data.training_data import Batch
from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.run import Noise, Run
from minidiff.diffusion.samplers import ddim
from minidiff.graphed import Graphed
from minidiff.nn import UNet, UNetConfig
from minidiff.scenes.factors import SUBJECTS
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer


def start(threads: int) -> None:
    """Load the kernels and give them so many threads."""
    backend.use("numba", threads)


def about() -> dict[str, Any]:
    """Say what computes: the BLAS libraries in this process, and the version of the kernels' sources."""
    import threadpoolctl

    blas = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return {
        "kernels": cache_folders.kernel_folder().name.removeprefix("kernels-"),
        "blas": [f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in blas],
    }


def make(problem: Problem) -> Any:
    """Return the problem's job."""
    kinds: dict[type, Any] = {
        Convolution: ConvolutionJob,
        Network: StepJob,
        Sampling: SamplingJob,
        Decoding: DecodingJob,
        Evaluation: EvaluationJob,
        Forward: ForwardJob,
    }
    return kinds[type(problem)](problem)


class ConvolutionJob:
    """One call of a kernel with raw weights: transforming the filter is part of it, as in a training step."""

    def __init__(self, problem: Convolution) -> None:
        k, stride = backend.current(), problem.stride
        x, w, gy = (backend.to_device(array) for array in problem.arrays())
        x, gy = k.add(x, 0 * x), k.add(gy, 0 * gy)  # memory as a network's own images have it: full cache lines
        self.run = {
            "forward": lambda: k.conv2d(x, w, None, stride),
            "grad_x": lambda: k.conv2d_grad_x(gy, w, x.shape, stride),
            "grad_w": lambda: k.conv2d_grad_w(gy, x, w.shape, stride),
        }[problem.direction]

    def check(self) -> dict[str, np.ndarray]:
        return {"result": backend.to_numpy(self.run())}


class InMemory(Trainer):
    """A training on latents that are there already: without an autoencoder, and without images."""

    def __init__(self, config: Config, network: Network, dataset: ImageDataset) -> None:
        self.given, sample = network, np.arange(network.batch)
        self.whole = Batch(network.x0(), network.labels(), None, sample)
        super().__init__(config, dataset)

    def _make_config(self) -> UNetConfig:
        return self.given.config

    def batches(self) -> list[Batch]:
        assert self.parts == 1
        return [self.whole]


class StepJob:
    """One step of minidiff's own Trainer: t and noise drawn, forward, backward, clipping, AdamW, average of weights."""

    def __init__(self, network: Network, accumulate: int = 1) -> None:
        self.network = network
        run = RunConfig(steps=1_000_000, batch_size=network.batch, accumulate=accumulate)
        config = Config(DataConfig(flip=False), network.model, run=run)
        names = SUBJECTS if network.classes == len(SUBJECTS) else tuple(map(str, range(network.classes)))
        dataset = ImageDataset("in memory", network.images(), network.labels(), names)
        self.trainer = InMemory(config, network, dataset) if network.latent else Trainer(config, dataset)
        flat, made = self.trainer.parameters, weights(network.config)
        for name, view in flat.split(flat.w).items():
            view[...] = backend.to_device(made[name])
        flat.ema[:] = flat.w

    def run(self) -> float:
        return train_step(self.trainer).loss

    def check(self) -> dict[str, np.ndarray]:
        """The output at given x_t and t, and the gradients of its mean squared error against v."""
        x_t, v, t, labels = self.network.noised()
        flat = self.trainer.parameters
        model = self.trainer.model
        output = model(backend.to_device(x_t), t.astype(np.float32), model.condition(len(t), labels))
        flat.g[:] = 0
        ops.mean(ops.square(output - Tensor(backend.to_device(v)))).backward()
        gradients = flat.split(backend.to_numpy(flat.g).copy())
        found = {f"gradient of {name}": gradient for name, gradient in gradients.items()}
        return {"output": backend.to_numpy(output.data), **found}


class SamplingJob:
    """minidiff's own DDIM."""

    def __init__(self, problem: Sampling) -> None:
        self.problem, self.x_T, network = problem, backend.to_device(problem.start()), problem.network
        self.process = make_process(DiffusionConfig())
        self.model = UNet(network.config)
        made = weights(network.config)
        for name, parameter in self.model.named_parameters().items():
            parameter.data = backend.to_device(made[name])
        self.samples, self.clip = np.arange(network.batch), "none" if network.latent else "clip"

    def run(self) -> Any:
        return self.draw(self.problem.steps)

    def check(self) -> dict[str, np.ndarray]:
        return {"images": backend.to_numpy(self.draw(CHECKED_STEPS))}

    def draw(self, steps: int) -> Any:
        *_, last = ddim(Run(denoiser(self.model), self.process, steps, Noise(0, self.samples), self.clip), self.x_T)
        return last.x_prev


class EvaluationJob:
    """A network as `denoiser` asks it: the condition encoded once, replayed, what is made of a filter kept."""

    def __init__(self, problem: Evaluation) -> None:
        x, t, labels = problem.inputs()
        self.inputs, model = (backend.to_device(x), backend.to_device(t)), UNet(problem.network.config)
        made = weights(problem.network.config)
        for name, parameter in model.named_parameters().items():
            parameter.data = backend.to_device(made[name])
        self.constant = backend.current().constant_filters()
        with no_grad():
            cond = model.condition(len(x), labels)
        self.network = Graphed(lambda x, t: (model(x, t, cond).data,))

    def run(self) -> Any:
        with no_grad(), self.constant:
            return self.network(*self.inputs)[0]

    def check(self) -> dict[str, np.ndarray]:
        return {"output": backend.to_numpy(self.run())}


class DecodingJob:
    """A decoder as `Latents.decode` asks it: without a tape, what is made of a filter kept."""

    def __init__(self, problem: Decoding) -> None:
        self.z, self.decoder = backend.to_device(problem.latents()), problem.decoder()
        made = random_weights(self.decoder)
        for name, parameter in self.decoder.named_parameters().items():
            parameter.data = backend.to_device(made[name])
        self.constant = backend.current().constant_filters()

    def run(self) -> Any:
        with no_grad(), self.constant:
            return self.decoder(self.z).data

    def check(self) -> dict[str, np.ndarray]:
        return {"images": backend.to_numpy(self.run())}


class ForwardJob:
    """diffusers' network of minidiff's parts, as a sampler asks it: without a tape, what is made of a filter kept."""

    def __init__(self, problem: Forward) -> None:
        x, self.t = problem.inputs()
        self.x, self.model = backend.to_device(x), problem.network()
        made = random_weights(self.model)
        for name, parameter in self.model.named_parameters().items():
            parameter.data = backend.to_device(made[name])
        self.constant = backend.current().constant_filters()

    def run(self) -> Any:
        with no_grad(), self.constant:
            return self.model(self.x, self.t).data

    def check(self) -> dict[str, np.ndarray]:
        return {"output": backend.to_numpy(self.run())}
