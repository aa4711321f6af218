"""minidiff's U-Net and decoder written in JAX: functions of their weights by name, in minidiff's own layouts.

Idea: read it beside minidiff/nn/unet.py and autoencoder.py. JAX computes with (N, H, W, C) and (K, K, C_in, C_out) as
minidiff does, so weights and gradients go over as they are; which parts a network has is read off their names.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from minidiff.nn import UNetConfig
from minidiff.nn.autoencoder import AutoencoderConfig

Weights = Mapping[str, Array]


def convolve(x: Array, w: Array, stride: int = 1) -> Array:
    """x (N, H, W, C_in), w (K, K, C_in, C_out); zeros K // 2 wide around x."""
    around = [(size // 2, size // 2) for size in w.shape[:2]]
    return jax.lax.conv_general_dilated(x, w, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def unet(w: Weights, config: UNetConfig, x: Array, t: Array, labels: Array | None) -> Array:
    """x (N, H, W, C), t (N,) float32, labels (N,) or None; returns (N, H, W, C)."""
    embedding = _time_embedding(w, config, t, labels)
    h = _convolution(w, "conv_in", _stack(x, config.patch))
    skips = [h]
    for name in _parts(w, "down"):
        h = _convolution(w, name, h, stride=2) if f"{name}.w" in w else _stage(w, name, config, h, embedding)
        skips.append(h)
    for name in _parts(w, "middle"):
        h = _stage(w, name, config, h, embedding)
    for name in _parts(w, "up"):
        if f"{name}.w" in w:
            h = _convolution(w, name, h.repeat(2, axis=1).repeat(2, axis=2))
        else:
            h = _stage(w, name, config, jnp.concatenate([h, skips.pop()], axis=3), embedding)
    return _unstack(_convolution(w, "conv_out", jax.nn.silu(_norm(w, "norm", config, h))), config.patch)


def decoder(w: Weights, config: AutoencoderConfig, z: Array) -> Array:
    """From latents z (N, h, w, c) to images (N, H, W, C)."""
    h = _convolution(w, "conv_in", z)
    for name in _parts(w, "layers"):
        if f"{name}.w" in w:
            h = _convolution(w, name, h.repeat(2, axis=1).repeat(2, axis=2))
        else:
            first = _convolution(w, f"{name}.conv1", jax.nn.silu(_norm(w, f"{name}.norm1", config, h)))
            h = h + _convolution(w, f"{name}.conv2", jax.nn.silu(_norm(w, f"{name}.norm2", config, first)))
    h = jax.nn.silu(_norm(w, "norm", config, h))
    return _unstack(_convolution(w, "conv_out", h), config.autoencoder_patch)


def _parts(w: Weights, name: str) -> list[str]:
    count = 1 + max(int(key.split(".")[1]) for key in w if key.startswith(f"{name}."))
    return [f"{name}.{i}" for i in range(count)]


def _stage(w: Weights, name: str, config: UNetConfig, x: Array, embedding: Array) -> Array:
    """A residual block, followed by attention where the level has it."""
    block = f"{name}.block"
    h = _convolution(w, f"{block}.conv1", jax.nn.silu(_norm(w, f"{block}.norm1", config, x)))
    shift = _linear(w, f"{block}.shift", embedding)[:, None, None]
    if config.time == "scale_shift":
        scale = _linear(w, f"{block}.scale", embedding)[:, None, None]
        h = _norm(w, f"{block}.norm2", config, h) * (1 + scale) + shift
    else:
        h = _norm(w, f"{block}.norm2", config, h + shift)
    shortcut = _convolution(w, f"{block}.shortcut", x) if f"{block}.shortcut.w" in w else x
    h = shortcut + _convolution(w, f"{block}.conv2", jax.nn.silu(h))
    return _attention(w, f"{name}.attention", config, h) if f"{name}.attention.q.w" in w else h


def _attention(w: Weights, name: str, config: UNetConfig, x: Array) -> Array:
    """x + out(attention) over pixels."""
    n, height, width, c = x.shape
    tokens = _norm(w, f"{name}.norm", config, x).reshape(n, height * width, c)
    q, k, v = (_linear(w, f"{name}.{part}", tokens).reshape(n, height * width, config.heads, -1) for part in "qkv")
    mixed = jax.nn.dot_product_attention(q, k, v).reshape(n, height * width, c)
    return x + _linear(w, f"{name}.out", mixed).reshape(x.shape)


def _time_embedding(w: Weights, config: UNetConfig, t: Array, labels: Array | None) -> Array:
    half = config.model_channels // 2
    angle = t[:, None] * jnp.exp(jnp.arange(half) * (-math.log(10000.0) / (half - 1)))
    waves = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)
    out = _linear(w, "embedding.linear2", jax.nn.silu(_linear(w, "embedding.linear1", waves)))
    return jax.nn.silu(out if labels is None else out + w["embedding.class_embedding.table"][labels])


def _linear(w: Weights, name: str, x: Array) -> Array:
    return x @ w[f"{name}.w"] + w[f"{name}.b"]


def _convolution(w: Weights, name: str, x: Array, stride: int = 1) -> Array:
    return convolve(x, w[f"{name}.w"], stride) + w[f"{name}.b"]


def _norm(w: Weights, name: str, config: UNetConfig | AutoencoderConfig, x: Array) -> Array:
    n, height, width, c = x.shape
    grouped = x.reshape(n, height, width, math.gcd(config.groups, c), -1)
    mean, variance = grouped.mean((1, 2, 4), keepdims=True), grouped.var((1, 2, 4), keepdims=True)
    return ((grouped - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape) * w[f"{name}.gain"] + w[f"{name}.bias"]


def _stack(x: Array, p: int) -> Array:
    """p × p pixels into channels, in minidiff's order (row, column, channel)."""
    n, h, w, c = x.shape
    return x.reshape(n, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // p, w // p, p * p * c)


def _unstack(x: Array, p: int) -> Array:
    n, h, w, c = x.shape
    return x.reshape(n, h, w, p, p, c // p**2).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * p, w * p, c // p**2)
