"""A whole diffusion model that draws digits, in one file of NumPy: a U-Net, its training and its sampling.

    python docs/chapter2/mini.py data/mnist --minutes 10    # trains; writes mini.npz and digits.png
    python docs/chapter2/mini.py --labels 2048              # draws with mini.npz: a row of ten for each digit

Images are arrays (N, H, W, C). A layer has two methods. `forward` computes its output, and keeps what `backward` will
need. `backward` takes gy, the gradient of the loss with respect to that output, keeps the gradients of the layer's
weights, and returns the gradient with respect to its input. NumPy's matrix products use all cores.
"""

import argparse
import gzip
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

GROUPS = 8  # groups of channels; each group is normalised by itself
NONE = 10  # the label that says: any digit


class Weight:
    """An array that training changes: its value, its gradient, Adam's two running means, and the averaged weights."""

    def __init__(self, weights, shape, std):
        rng = np.random.default_rng(len(weights))  # its place in the list is its seed
        self.value = rng.normal(0, std, shape).astype(np.float32)
        self.gradient, self.mean, self.square = (np.zeros_like(self.value) for _ in range(3))
        self.ema = self.value.copy()
        weights.append(self)


def product(x, w):
    """The channels of every pixel times the matrix w, as one large product: (..., inputs) to (..., outputs)."""
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[1])


class Linear:
    """y = x w + b: (..., inputs) to (..., outputs). zero: w starts at zero."""

    def __init__(self, weights, inputs, outputs, zero=False):
        self.w = Weight(weights, (inputs, outputs), 0 if zero else inputs**-0.5)
        self.b = Weight(weights, outputs, 0)

    def forward(self, x):
        self.x = x
        return product(x, self.w.value) + self.b.value

    def backward(self, gy):
        self.backward_weights(gy)
        return product(gy, self.w.value.T)

    def backward_weights(self, gy):
        gy = gy.reshape(-1, gy.shape[-1])
        self.w.gradient, self.b.gradient = self.x.reshape(len(gy), -1).T @ gy, gy.sum(axis=0)


def neighbours(x):
    """The nine pixels around each pixel side by side, zeros beyond the border: (N, H, W, C) to (N, H, W, 9 C)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # (N, H, W, C, 3, 3), a view
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(*x.shape[:3], -1)


class Conv(Linear):
    """A 3 x 3 convolution: a linear layer that sees the nine pixels around each pixel."""

    def __init__(self, weights, inputs, outputs, zero=False):
        super().__init__(weights, 9 * inputs, outputs, zero)

    def forward(self, x):
        return super().forward(neighbours(x))

    def backward(self, gy):
        self.backward_weights(gy)
        turned = self.w.value.reshape(3, 3, -1, gy.shape[-1])[::-1, ::-1].swapaxes(2, 3)  # (3, 3, outputs, inputs)
        return product(neighbours(gy), turned.reshape(9 * gy.shape[-1], -1))


class SiLU:
    """y = u sigmoid(u)."""

    def forward(self, u):
        self.u, self.gate = u, 1 / (1 + np.exp(-u))
        return u * self.gate

    def backward(self, gy):
        return gy * self.gate * (1 + self.u * (1 - self.gate))


def group_mean(x):
    """Each image's mean over all pixels and over each group of channels: (N, H, W, C) to (N, 1, 1, C)."""
    means = x.mean(axis=(1, 2)).reshape(len(x), GROUPS, -1).mean(axis=2)
    return means.repeat(x.shape[-1] // GROUPS, axis=1)[:, None, None]


class GroupNorm:
    """Mean 0 and variance 1 for each group of channels of each image (Wu and He 2018, arXiv:1803.08494)."""

    def forward(self, x):
        x = x - group_mean(x)
        self.factor = 1 / np.sqrt(group_mean(x * x) + 1e-5)
        self.y = x * self.factor
        return self.y

    def backward(self, gy):
        return self.factor * (gy - group_mean(gy) - self.y * group_mean(gy * self.y))


class Chain(list):
    """Layers one after the other. If there are none, the output is the input."""

    def forward(self, x):
        for layer in self:
            x = layer.forward(x)
        return x

    def backward(self, gy):
        for layer in reversed(self):
            gy = layer.backward(gy)
        return gy


class Block:
    """A residual block: its input, plus what two convolutions make of it. cond scales and shifts the channels."""

    def __init__(self, weights, inputs, outputs, cond_width):
        self.first = Chain([GroupNorm(), SiLU(), Conv(weights, inputs, outputs), GroupNorm()])
        self.scale_and_shift = Linear(weights, cond_width, 2 * outputs)
        self.second = Chain([SiLU(), Conv(weights, outputs, outputs, zero=True)])
        self.shortcut = Chain() if inputs == outputs else Linear(weights, inputs, outputs)

    def forward(self, x, cond):
        self.h = self.first.forward(x)
        scale, shift = np.split(self.scale_and_shift.forward(cond)[:, None, None], 2, axis=-1)
        self.factor = 1 + scale
        return self.shortcut.forward(x) + self.second.forward(self.h * self.factor + shift)

    def backward(self, gy):
        gh = self.second.backward(gy)
        g_scale, g_shift = (gh * self.h).sum(axis=(1, 2)), gh.sum(axis=(1, 2))
        gx = self.shortcut.backward(gy) + self.first.backward(gh * self.factor)
        return gx, self.scale_and_shift.backward(np.concatenate([g_scale, g_shift], axis=1))


def enlarge(x):
    """Each pixel becomes 2 x 2 equal ones: (N, H, W, C) to (N, 2 H, 2 W, C)."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def shrink(x):
    """Each 2 x 2 pixels become their sum, (N, 2 H, 2 W, C) to (N, H, W, C): the backward pass of `enlarge`."""
    return x[:, ::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, ::2] + x[:, 1::2, 1::2]


def waves_and_label(t, label):
    """The network's input beside the image: the noise level as twelve waves, and the label. (N, 23)"""
    phase = np.pi * t[:, None] * [0.5, 1, 2, 4, 8, 16]
    return np.concatenate([np.cos(phase), np.sin(phase), np.eye(NONE + 1)[label]], axis=1)


class UNet:
    """The network: it estimates v from noisy images x_t (N, 14, 14, 4), their noise levels t (N,) and labels (N,)."""

    def __init__(self, channels=64):
        self.weights = weights = []
        double = 2 * channels  # the channels at 7 x 7, and the width of cond
        self.embed = Chain([Linear(weights, 23, double), SiLU()])
        self.conv_in = Conv(weights, 4, channels)
        self.encoder = Block(weights, channels, channels, double)
        self.middle = [Block(weights, *pair, double) for pair in pairwise((channels, double, double, channels))]
        self.decoder = Block(weights, 2 * channels, channels, double)
        self.out = Chain([GroupNorm(), SiLU(), Conv(weights, channels, 4, zero=True)])

    def forward(self, x_t, t, label):
        cond = self.embed.forward(waves_and_label(t, label).astype(x_t.dtype))
        skip = self.encoder.forward(self.conv_in.forward(x_t), cond)
        h = shrink(skip) / 4
        for block in self.middle:
            h = block.forward(h, cond)
        h = np.concatenate([enlarge(h), skip], axis=-1)
        return self.out.forward(self.decoder.forward(h, cond))

    def backward(self, gy):
        gh, g_cond = self.decoder.backward(self.out.backward(gy))
        g_enlarged, g_skip = np.split(gh, 2, axis=-1)
        gh = shrink(g_enlarged)
        for block in reversed(self.middle):
            gh, g_more = block.backward(gh)
            g_cond = g_cond + g_more
        gh, g_more = self.encoder.backward(g_skip + enlarge(gh) / 4)
        self.embed.backward(g_cond + g_more)
        return self.conv_in.backward(gh)


def save(network, file):
    """Write the values of all weights into an .npz file."""
    with Path(file).open("wb") as stored:
        np.savez(stored, *(weight.value for weight in network.weights))


def load(network, file):
    """Read them. Raises ValueError if there are other arrays, or Python objects, which could run code when read."""
    with np.load(file, allow_pickle=False) as stored:
        for weight, value in zip(network.weights, stored.values(), strict=True):
            weight.value[...] = value


def read_idx(folder, name):
    """An array of bytes from a file in MNIST's format, unpacked or as .gz (LeCun et al. 1998)."""
    path = Path(folder) / name
    with path.open("rb") if path.is_file() else gzip.open(f"{path}.gz") as file:
        dimensions = file.read(4)[3]
        shape = np.frombuffer(file.read(4 * dimensions), ">u4")
        return np.frombuffer(file.read(), np.uint8).reshape(shape)


def to_patches(images):
    """Each 2 x 2 pixels become one with four channels: (N, 28, 28) uint8 to (N, 14, 14, 4) float32 in [-1, 1]."""
    return images.reshape(-1, 14, 2, 14, 2).swapaxes(2, 3).reshape(-1, 14, 14, 4) / np.float32(127.5) - 1


def to_images(x):
    """The way back: (N, 14, 14, 4) float32 in [-1, 1] to (N, 28, 28) uint8."""
    return np.rint(127.5 * (x.reshape(-1, 14, 14, 2, 2).swapaxes(2, 3).reshape(-1, 28, 28) + 1)).astype(np.uint8)


def noise_level(t):
    """a and s, how much of the image and of the noise is in x_t: from t = 0, the image, to t = 1, noise alone."""
    return np.cos(np.pi / 2 * t).astype(np.float32), np.sin(np.pi / 2 * t).astype(np.float32)


def adam(weights, step, lr):
    """One step of Adam (Kingma and Ba 2015, arXiv:1412.6980), and of the running average of the weights."""
    lr *= (1 - 0.99**step) ** 0.5 / (1 - 0.9**step)
    decay = min(0.998, (1 + step) / (10 + step))
    for weight in weights:
        weight.mean += 0.1 * (weight.gradient - weight.mean)
        weight.square += 0.01 * (weight.gradient**2 - weight.square)
        weight.value -= lr * weight.mean / (np.sqrt(weight.square) + 1e-8)
        weight.ema += (1 - decay) * (weight.value - weight.ema)


def train(network, images, labels, minutes=10.0, steps=None, batch_size=32, lr=4e-3, seed=0):
    """Add noise, let the network estimate v, change the weights a little, repeat: for so many steps or minutes."""
    rng, start, losses = np.random.default_rng(seed), time.perf_counter(), []
    while (done := len(losses) / steps if steps else (time.perf_counter() - start) / (60 * minutes)) < 1:
        chosen = rng.integers(len(images), size=batch_size)
        x0, eps = to_patches(images[chosen]), rng.standard_normal((batch_size, 14, 14, 4), np.float32)
        label = np.where(rng.random(batch_size) < 0.1, NONE, labels[chosen])  # one in ten is hidden
        t = (np.arange(batch_size) + rng.random()) / batch_size  # spread evenly from 0 to 1
        a, s = noise_level(t[:, None, None, None])
        x_t, v = a * x0 + s * eps, a * eps - s * x0
        error = network.forward(x_t, t, label) - v
        network.backward(2 * error / error.size)
        losses.append(float((error**2).mean()))
        adam(network.weights, len(losses), lr * min(len(losses) / 100, 1 - done))
        if len(losses) % 20 == 0:
            print(f"step {len(losses)}, loss {np.mean(losses[-100:]):.4f}, {done:.0%} done", end="\r", flush=True)
    for weight in network.weights:
        weight.value[...] = weight.ema
    return losses


def sample(network, label, steps=30, guidance_scale=2.0, seed=0):
    """Start with noise and remove a little of it, again and again (DDIM). label: (N,). Returns (N, 28, 28) uint8."""
    x_t = np.random.default_rng(seed).standard_normal((len(label), 14, 14, 4), np.float32)
    both = np.concatenate([label, np.full(len(label), NONE)])
    for t, t_prev in pairwise(np.linspace(1, 0, steps + 1)):
        (a, s), (a_prev, s_prev) = noise_level(t), noise_level(t_prev)
        v_label, v_none = np.split(network.forward(np.concatenate([x_t, x_t]), np.full(len(both), t), both), 2)
        v_hat = v_none + guidance_scale * (v_label - v_none)
        x0_hat = np.clip(a * x_t - s * v_hat, -1, 1)
        eps_hat = (x_t - a * x0_hat) / s
        x_t = a_prev * x0_hat + s_prev * eps_hat  # a little less noise
    return to_images(x_t)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Train a small diffusion model on MNIST, and draw digits with it.")
    parser.add_argument("folder", nargs="?", help="with MNIST's files, to train; without it, digits are drawn")
    parser.add_argument("--minutes", type=float, default=10, help="how long to train")
    parser.add_argument("--weights", default="mini.npz", help="the file that training writes and drawing reads")
    parser.add_argument("--labels", default="0123456789", help="the digits to draw: a row of ten for each")
    parser.add_argument("--out", default="digits.png", help="the picture")
    asked, network = parser.parse_args(arguments), UNet()
    if asked.folder:
        images, labels = (read_idx(asked.folder, f"train-{part}-ubyte") for part in ("images-idx3", "labels-idx1"))
        losses = train(network, images, labels, asked.minutes)
        print(f"\n{len(losses)} steps, loss {np.mean(losses[-100:]):.4f}")
        save(network, asked.weights)
    load(network, asked.weights)
    rows = [list(sample(network, np.full(10, int(label)), seed=row)) for row, label in enumerate(asked.labels)]
    Image.fromarray(np.block(rows).repeat(2, axis=0).repeat(2, axis=1)).save(asked.out)


if __name__ == "__main__":
    main()
