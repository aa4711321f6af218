"""The problems as JAX computes them: float32, `jax.jit` around the whole of each.

Idea: each job is written as somebody who wants JAX to be fast writes it: a training step is one compiled function whose
old state may be overwritten, a sampling run another with the loop inside.
Jobs have the methods of ours.py.  Leaves out GPUs.
"""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks.peers.jax_unet import convolve, decoder, unet
from benchmarks.peers.problems import (
    CHECKED_STEPS,
    Convolution,
    Decoding,
    Network,
    Problem,
    Sampling,
    random_weights,
    weights,
)
from minidiff import backend
from minidiff.checkpoint.build import make_process
from minidiff.checkpoint.config import DiffusionConfig, OptimizerConfig
from minidiff.diffusion.timesteps import trailing
from minidiff.training.optimizer import EPS, learning_rate

STEPS = 1_000_000  # where the learning rate would end


def start(threads: int) -> None:
    """Give JAX so many threads: it starts one for each core that it may use."""
    backend.use("numpy")
    jax.config.update("jax_platforms", "cpu")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def about() -> dict[str, Any]:
    """Say what computes."""
    return {"jax": jax.__version__}


def make(problem: Problem) -> Any:
    """Return the problem's job."""
    kinds: dict[type, Any] = {
        Convolution: ConvolutionJob,
        Network: StepJob,
        Sampling: SamplingJob,
        Decoding: DecodingJob,
    }
    return kinds[type(problem)](problem)


class ConvolutionJob:
    """One call of the operation; gradients as `jax.vjp` has them, one at a time."""

    def __init__(self, problem: Convolution) -> None:
        x, w, gy = (jnp.asarray(array) for array in problem.arrays())
        stride = problem.stride
        function, arguments = {
            "forward": (lambda x, w: convolve(x, w, stride), (x, w)),
            "grad_x": (lambda gy, w: jax.vjp(lambda x: convolve(x, w, stride), x)[1](gy)[0], (gy, w)),
            "grad_w": (lambda gy, x: jax.vjp(lambda w: convolve(x, w, stride), w)[1](gy)[0], (gy, x)),
        }[problem.direction]
        self.function, self.arguments = jax.jit(function), arguments

    def run(self) -> Array:
        return self.function(*self.arguments).block_until_ready()

    def check(self) -> dict[str, np.ndarray]:
        return {"result": np.asarray(self.run())}


class StepJob:
    """One training step, with minidiff's settings: t and noise drawn, forward, backward, clip, AdamW, average."""

    def __init__(self, network: Network) -> None:
        self.network, self.config, self.step = network, network.config, 0
        self.settings, diffusion = OptimizerConfig(), DiffusionConfig()
        self.cond_dropout = diffusion.cond_dropout
        alpha_bar = jnp.asarray(make_process(diffusion).schedule.alpha_bar)
        self.a, self.s = jnp.sqrt(alpha_bar), jnp.sqrt(1 - alpha_bar)
        self.x0, labels = jnp.asarray(network.x0()), network.labels()
        self.labels = None if labels is None else jnp.asarray(labels)
        w = {name: jnp.asarray(array) for name, array in weights(self.config).items()}
        zeros = {name: jnp.zeros_like(array) for name, array in w.items()}
        copy = {name: array.copy() for name, array in w.items()}
        self.state = w, zeros, {name: array.copy() for name, array in zeros.items()}, copy, jax.random.key(0)
        self.advance = jax.jit(self._advance, donate_argnums=0)

    def _loss(self, w: dict, x_t: Array, v: Array, t: Array, labels: Array | None) -> Array:
        return jnp.mean((unet(w, self.config, x_t, t.astype(jnp.float32), labels) - v) ** 2)

    def _advance(self, state: tuple, x0: Array, labels: Array | None, rate: Array, step: Array) -> tuple:
        w, m, v, ema, key = state
        key, for_t, for_eps, for_labels = jax.random.split(key, 4)
        t, eps = jax.random.randint(for_t, (len(x0),), 0, len(self.a)), jax.random.normal(for_eps, x0.shape)
        a, s = self.a[t].reshape(-1, 1, 1, 1), self.s[t].reshape(-1, 1, 1, 1)
        if labels is not None:
            hidden = jax.random.uniform(for_labels, (len(x0),)) < self.cond_dropout
            labels = jnp.where(hidden, self.network.classes, labels)
        loss, g = jax.value_and_grad(self._loss)(w, a * x0 + s * eps, a * eps - s * x0, t, labels)
        use = self.settings
        clip = jnp.minimum(1.0, use.clip / jnp.sqrt(sum(jnp.vdot(array, array) for array in g.values())))
        for name in w:
            g_name = clip * g[name]
            m[name] = use.beta1 * m[name] + (1 - use.beta1) * g_name
            v[name] = use.beta2 * v[name] + (1 - use.beta2) * g_name**2
            m_hat, v_hat = m[name] / (1 - use.beta1**step), v[name] / (1 - use.beta2**step)
            decay = use.weight_decay if w[name].ndim >= 2 else 0.0
            w[name] = w[name] - rate * (m_hat / (jnp.sqrt(v_hat) + EPS) + decay * w[name])
            ema[name] = use.ema * ema[name] + (1 - use.ema) * w[name]
        return (w, m, v, ema, key), loss

    def run(self) -> float:
        self.step += 1
        rate = learning_rate(self.settings, self.step, STEPS)
        self.state, loss = self.advance(self.state, self.x0, self.labels, rate, self.step)
        return float(jax.block_until_ready((self.state, loss))[1])

    def check(self) -> dict[str, np.ndarray]:
        """The output at given x_t and t, and the gradients of its mean squared error against v."""
        x_t, v, t, labels = self.network.noised()
        w = self.state[0]
        output = unet(w, self.config, x_t, jnp.asarray(t, jnp.float32), labels)
        found = jax.jit(jax.grad(self._loss))(w, x_t, v, t, labels)
        self.run()  # compiles the step
        gradients = {f"gradient of {name}": np.asarray(gradient) for name, gradient in found.items()}
        return {"output": np.asarray(output), **gradients}


class SamplingJob:
    """DDIM with eta 0 for a network that predicts v; x0_hat of images is cut at -1 and 1."""

    def __init__(self, problem: Sampling) -> None:
        self.steps, self.x_T, config = problem.steps, jnp.asarray(problem.start()), problem.network.config
        self.alpha_bar = make_process(DiffusionConfig()).schedule.alpha_bar
        self.w = {name: jnp.asarray(array) for name, array in weights(config).items()}

        def step(x_t: Array, line: Array) -> tuple[Array, None]:
            t, a, s, a_prev, on_x_t = line
            v = unet(self.w, config, x_t, jnp.full(len(x_t), t), None)
            x0_hat = a * x_t - s * v
            x0_hat = x0_hat if problem.network.latent else jnp.clip(x0_hat, -1, 1)
            return on_x_t * x_t + (a_prev - a * on_x_t) * x0_hat, None

        self.function = jax.jit(lambda x_T, lines: jax.lax.scan(step, x_T, lines)[0])

    def run(self) -> Array:
        return self.draw(self.steps)

    def check(self) -> dict[str, np.ndarray]:
        return {"images": np.asarray(self.draw(CHECKED_STEPS))}

    def draw(self, steps: int) -> Array:
        times = np.asarray(trailing(len(self.alpha_bar), steps))
        alpha_bar = self.alpha_bar[times]
        alpha_bar_prev = np.append(alpha_bar[1:], 1.0)
        a, s, on_x_t = np.sqrt(alpha_bar), np.sqrt(1 - alpha_bar), np.sqrt((1 - alpha_bar_prev) / (1 - alpha_bar))
        lines = np.stack([times, a, s, np.sqrt(alpha_bar_prev), on_x_t], axis=1).astype(np.float32)
        return self.function(self.x_T, lines).block_until_ready()


class DecodingJob:
    """The decoder, compiled as a whole; its weights are constants of the compiled function."""

    def __init__(self, problem: Decoding) -> None:
        self.z = jnp.asarray(problem.latents())
        w = {name: jnp.asarray(array) for name, array in random_weights(problem.decoder()).items()}
        self.function = jax.jit(lambda z: decoder(w, problem.config, z))

    def run(self) -> Array:
        return self.function(self.z).block_until_ready()

    def check(self) -> dict[str, np.ndarray]:
        return {"images": np.asarray(self.run())}
