"""The figure of chapter 18: where the arrays of a training step lie in memory, and when."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minidiff import backend
from minidiff.autograd import Tensor
from minidiff.checkpoint.build import network_config
from minidiff.checkpoint.config import ModelConfig
from minidiff.kernels import graph
from minidiff.nn import UNet

BATCH, LONG = 32, 0.05  # images; share of the calls beyond which an array counts as kept for the backward pass


def step_memory() -> np.ndarray:
    """The arrays of one step of the default network: calls from left to right, addresses from bottom to top."""
    with backend.using("numba") as table:
        threads = table.threads()
        table.threads(1)  # the memory of each thread would be there several times
        captured = one_step()
        table.threads(threads)
    size, calls = graph.Graph(captured).size, len(captured.calls)
    arrays = [each for each in captured.allocations if each.first >= 0]
    image = Image.new("RGB", (1720, 900), "white")
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(26), ImageFont.load_default(22)
    left, top, right, bottom = 130, 90, 1680, 800
    across, up = (right - left) / calls, (bottom - top) / size
    for each in sorted(arrays, key=lambda each: each.first):
        box = (
            left + across * each.first, bottom - up * (each.offset + each.size),
            left + across * (each.last + 1), bottom - up * each.offset,
        )  # fmt: skip
        kept = each.last - each.first > LONG * calls
        pen.rectangle(box, fill="#9ec5e0" if kept else "#d97a3b", outline="white", width=1)
    mebibytes = lambda size: f"{size / 2**20:.0f} MiB"
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - top)
        pen.text((left - 16, y), mebibytes(share * size), "#40404a", small, "rm")
    pen.line((left, bottom, right, bottom), fill="#40404a", width=2)
    pen.text((left, bottom + 30), "first call", "#40404a", small, "lm")
    pen.text((right, bottom + 30), f"call {calls:,}", "#40404a", small, "rm")
    pen.text(((left + right) // 2, bottom + 30), "forward pass, then backward pass", "#40404a", small, "mm")
    total = sum(each.size for each in arrays)
    title = f"{len(arrays):,} arrays: {mebibytes(total)} side by side, {mebibytes(size)} in shared places"
    pen.text((left, 42), title, "#202028", font, "lm")
    pen.rectangle((left, bottom + 58, left + 28, bottom + 80), fill="#9ec5e0")
    pen.text((left + 40, bottom + 69), "kept for the backward pass", "#40404a", small, "lm")
    pen.rectangle((left + 380, bottom + 58, left + 408, bottom + 80), fill="#d97a3b")
    pen.text((left + 420, bottom + 69), "needed for a moment", "#40404a", small, "lm")
    return np.asarray(image.resize((860, 450), Image.Resampling.LANCZOS))


def one_step() -> graph.Captured:
    """Forward and backward pass of the default network for ten classes, captured."""
    model = UNet(network_config(ModelConfig(), 32, 32, 3, 10))
    model.initialize(0)

    def step(x, t, labels):
        output = model(x, t, model.condition(BATCH, labels))
        loss = (output * Tensor(x)).mean()
        loss.backward()
        return (loss.data,)

    x = np.zeros((BATCH, 32, 32, 3), np.float32)
    return graph.capture(step, [x, np.zeros(BATCH, np.float32), np.zeros(BATCH, np.int64)])[1]


FIGURES = [step_memory]
