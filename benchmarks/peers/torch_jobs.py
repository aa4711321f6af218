"""The problems as PyTorch computes them: contiguous or channels_last, eager or compiled, float32 or bfloat16.

Idea: each job is written as somebody who wants PyTorch to be fast writes it: fused AdamW, foreach clipping and
average, autocast for training, a network wholly in bfloat16 for sampling, `torch.compile` around what repeats.
Jobs have the methods of ours.py.  Leaves out settings that change what is computed.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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
from benchmarks.peers.torch_unet import TorchDecoder, TorchUNet, gradients, load
from minidiff import backend
from minidiff.checkpoint.build import make_process
from minidiff.checkpoint.config import DiffusionConfig, OptimizerConfig
from minidiff.diffusion.timesteps import trailing
from minidiff.interop.tensor_names import correspondence, to_theirs
from minidiff.training.optimizer import EPS, learning_rate

STEPS = 1_000_000  # where the learning rate would end


@dataclass(frozen=True)
class Variant:
    """How PyTorch is asked to compute."""

    channels_last: bool
    compiled: bool
    bfloat16: bool
    device: str = "cpu"

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.bfloat16 else torch.float32

    def tensor(self, array: np.ndarray) -> Tensor:
        """Images (N, H, W, C), as a float32 tensor (N, C, H, W) in this layout."""
        return self.plain(array).permute(0, 3, 1, 2).contiguous(memory_format=self.layout)

    def plain(self, array: np.ndarray) -> Tensor:
        """Numbers as they are, on the device."""
        return torch.from_numpy(array).to(self.device)

    def compile(self, function: Callable, **options: Any) -> Callable:
        return torch.compile(function, dynamic=False, **options) if self.compiled else function


def start(threads: int) -> None:
    """Give PyTorch so many threads; minidiff, of which it borrows shapes and schedules, must not start its own."""
    backend.use("numpy")
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")  # of torch.compile, about itself
    logging.getLogger("torch").setLevel(logging.ERROR)


def about() -> dict[str, Any]:
    """Say what computes."""
    return {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "mkldnn": torch.backends.mkldnn.is_available()}


def make(problem: Problem, variant: Variant) -> Any:
    """Return the problem's job."""
    kinds: dict[type, Any] = {
        Convolution: ConvolutionJob,
        Network: StepJob,
        Sampling: SamplingJob,
        Decoding: DecodingJob,
        Evaluation: EvaluationJob,
        Forward: ForwardJob,
    }
    return kinds[type(problem)](problem, variant)


class ConvolutionJob:
    """One call of the operation; gradients as autograd asks for them, one at a time."""

    def __init__(self, problem: Convolution, variant: Variant) -> None:
        self.direction, stride, padding = problem.direction, [problem.stride] * 2, [problem.kernel // 2] * 2
        x, w, gy = problem.arrays()
        x, gy = (variant.tensor(array).to(variant.dtype) for array in (x, gy))
        w = variant.plain(w).permute(3, 2, 0, 1).contiguous(memory_format=variant.layout).to(variant.dtype)

        def backward(*mask: bool) -> list[Tensor]:
            return torch.ops.aten.convolution_backward(
                gy, x, w, None, stride, padding, [1, 1], False, [0, 0], 1, [*mask, False]
            )

        self.run: Callable[[], Tensor] = {
            "forward": lambda: torch.conv2d(x, w, None, stride, padding),
            "grad_x": lambda: backward(True, False)[0],
            "grad_w": lambda: backward(False, True)[1],
        }[problem.direction]

    def check(self) -> dict[str, np.ndarray]:
        result = self.run().float().cpu()
        return {"result": result.permute(*((2, 3, 1, 0) if self.direction == "grad_w" else (0, 2, 3, 1))).numpy()}


class StepJob:
    """One training step, with minidiff's settings: t and noise drawn, forward, backward, clip, AdamW, average."""

    def __init__(self, network: Network, variant: Variant) -> None:
        self.network, self.variant, self.settings, self.step = network, variant, OptimizerConfig(), 0
        diffusion = DiffusionConfig()
        self.cond_dropout = diffusion.cond_dropout
        alpha_bar = variant.plain(make_process(diffusion).schedule.alpha_bar.copy())
        self.a, self.s = alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()
        self.x0, labels = variant.tensor(network.x0()), network.labels()
        self.labels = None if labels is None else variant.plain(labels)

        self.net = TorchUNet(network.config)
        load(self.net, weights(network.config))
        self.net.to(device=variant.device, memory_format=variant.layout)
        self.loss = variant.compile(self._loss)
        self.parameters = list(self.net.parameters())
        groups = [
            {"params": [p for p in self.parameters if p.dim() >= 2], "weight_decay": self.settings.weight_decay},
            {"params": [p for p in self.parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        betas = (self.settings.beta1, self.settings.beta2)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=EPS, fused=True)
        self.ema = [p.detach().clone() for p in self.parameters]
        for p in self.parameters:
            p.grad = torch.zeros_like(p)
        self.optimizer.step()  # makes the moments, as minidiff does before the first step; a rate of 0 moves nothing

    def _loss(self, x_t: Tensor, v: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return F.mse_loss(self.net(x_t, t, labels).float(), v)

    def backward(self, x_t: Tensor, v: Tensor, t: Tensor, labels: Tensor | None) -> float:
        self.optimizer.zero_grad()
        with torch.autocast(self.variant.device, torch.bfloat16, enabled=self.variant.bfloat16):
            loss = self.loss(x_t, v, t.float(), labels)
        loss.backward()
        return loss.item()

    def run(self) -> float:
        x0 = self.x0
        t = torch.randint(len(self.a), (len(x0),), device=x0.device)
        a, s, eps = self.a[t].view(-1, 1, 1, 1), self.s[t].view(-1, 1, 1, 1), torch.randn_like(x0)
        labels = self.labels
        if labels is not None:
            hidden = torch.rand(len(x0), device=x0.device) < self.cond_dropout
            labels = torch.where(hidden, self.network.classes, labels)
        loss = self.backward(a * x0 + s * eps, a * eps - s * x0, t, labels)
        self.update()
        return loss

    def update(self) -> None:
        """Clip the gradients, move the weights, and their average after them."""
        settings = self.settings
        torch.nn.utils.clip_grad_norm_(self.parameters, settings.clip, foreach=True)
        self.step += 1
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step, STEPS)
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.parameters, 1 - settings.ema)

    def check(self) -> dict[str, np.ndarray]:
        """The output at given x_t and t, and the gradients of its mean squared error against v."""
        x_t, v, t, labels = self.network.noised()
        noisy, times = self.variant.tensor(x_t), self.variant.plain(t)
        asked = None if labels is None else self.variant.plain(labels)
        with torch.no_grad(), torch.autocast(self.variant.device, torch.bfloat16, enabled=self.variant.bfloat16):
            output = self.net(noisy, times.float(), asked).float().cpu().permute(0, 2, 3, 1).numpy()
        self.backward(noisy, self.variant.tensor(v), times, asked)
        found = gradients(self.net, weights(self.network.config))
        return {"output": output, **{f"gradient of {name}": gradient for name, gradient in found.items()}}


class SamplingJob:
    """DDIM with eta 0 for a network that predicts v; x0_hat of images is cut at -1 and 1."""

    def __init__(self, problem: Sampling, variant: Variant) -> None:
        self.steps, self.dtype, config = problem.steps, variant.dtype, problem.network.config
        self.schedule = make_process(DiffusionConfig()).schedule
        self.x_T, self.cut = variant.tensor(problem.start()), not problem.network.latent
        net = TorchUNet(config)
        load(net, weights(config))
        net.requires_grad_(False).to(device=variant.device, memory_format=variant.layout).to(variant.dtype)
        # freezing lays the weights out for the kernels, once for all steps
        self.net = variant.compile(net, options={"freezing": True})

    def run(self) -> Tensor:
        return self.draw(self.steps)

    def check(self) -> dict[str, np.ndarray]:
        return {"images": self.draw(CHECKED_STEPS).cpu().permute(0, 2, 3, 1).numpy()}

    @torch.inference_mode()
    def draw(self, steps: int) -> Tensor:
        times, x_t = trailing(self.schedule.T, steps), self.x_T
        for t, t_prev in zip(times, [*times[1:], -1]):
            alpha_bar = float(self.schedule.alpha_bar[t])
            alpha_bar_prev = float(self.schedule.alpha_bar[t_prev]) if t_prev >= 0 else 1.0
            a, s = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
            times_t = torch.full((len(x_t),), float(t), device=x_t.device)
            v = self.net(x_t.to(self.dtype), times_t).float()
            x0_hat = a * x_t - s * v
            x0_hat = x0_hat.clamp_(-1, 1) if self.cut else x0_hat
            on_x_t = (1 - alpha_bar_prev) ** 0.5 / s
            x_t = on_x_t * x_t + (alpha_bar_prev**0.5 - a * on_x_t) * x0_hat
        return x_t


class EvaluationJob:
    """A network, laid out once for all calls."""

    def __init__(self, problem: Evaluation, variant: Variant) -> None:
        x, t, labels = problem.inputs()
        self.x, self.t = variant.tensor(x).to(variant.dtype), variant.plain(t)
        self.labels = None if labels is None else variant.plain(labels)
        net = TorchUNet(problem.network.config)
        load(net, weights(problem.network.config))
        net.requires_grad_(False).to(device=variant.device, memory_format=variant.layout).to(variant.dtype)
        self.net = variant.compile(net, options={"freezing": True})

    @torch.inference_mode()
    def run(self) -> Tensor:
        return self.net(self.x, self.t, self.labels)

    def check(self) -> dict[str, np.ndarray]:
        return {"output": self.run().float().cpu().permute(0, 2, 3, 1).numpy()}


class DecodingJob:
    """The decoder, laid out once for all calls."""

    def __init__(self, problem: Decoding, variant: Variant) -> None:
        self.z = variant.tensor(problem.latents()).to(variant.dtype)
        net = TorchDecoder(problem.config)
        load(net, random_weights(problem.decoder()))
        net.requires_grad_(False).to(device=variant.device, memory_format=variant.layout).to(variant.dtype)
        self.net = variant.compile(net, options={"freezing": True})

    @torch.inference_mode()
    def run(self) -> Tensor:
        return self.net(self.z)

    def check(self) -> dict[str, np.ndarray]:
        return {"images": self.run().float().cpu().permute(0, 2, 3, 1).numpy()}


class ForwardJob:
    """diffusers' own UNet2DModel, laid out once for all calls."""

    def __init__(self, problem: Forward, variant: Variant) -> None:
        from diffusers import UNet2DModel
        from diffusers.utils import logging as words

        words.set_verbosity_error()  # it warns of every cast, with nothing to warn of
        x, t = problem.inputs()
        self.x, self.t = variant.tensor(x).to(variant.dtype), variant.plain(t)
        net, ours = UNet2DModel(**problem.options).eval(), problem.network()
        made = random_weights(ours)
        tensors = {theirs: to_theirs([made[own] for own in owns]) for theirs, owns in correspondence(ours).items()}
        net.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
        net.requires_grad_(False).to(device=variant.device, memory_format=variant.layout).to(variant.dtype)
        self.net = variant.compile(net, options={"freezing": True})

    @torch.inference_mode()
    def run(self) -> Tensor:
        return self.net(self.x, self.t, return_dict=False)[0]

    def check(self) -> dict[str, np.ndarray]:
        return {"output": self.run().float().cpu().permute(0, 2, 3, 1).numpy()}
