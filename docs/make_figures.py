"""Make every figure of the book with the code of this repository: `python docs/make_figures.py [name ...]`.

Each function below, and in figures_sampling.py (chapter 7), figures_graphed.py (chapter 18), figures_flow.py (chapter
23) and figures_evaluation.py (chapter 22), makes one file in docs/figures; together they take a few minutes.  Those of
figures_editing.py (chapter 8), figures_latent.py (chapter 9) and figures_conditioning.py (chapters 10 to 12) are made
with the weights that minidiff comes with, some with those for small images; of figures_studio.py (chapter 13),
`branches` likewise, while `studio` needs a Chromium.
Six are not from here, as a training or a benchmark draws them (scenes_grid.png, mnist_grid.png, emoji.png,
noise_to_image.gif, growth.png, scaling.png): see docs/results.md.
"""

import argparse
import functools
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import figures_conditioning
import figures_editing
import figures_evaluation
import figures_flow
import figures_graphed
import figures_latent
import figures_sampling
import figures_studio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import minidiff
from minidiff import backend, ops
from minidiff.autograd import Tensor, no_grad
from minidiff.checkpoint.build import network_config
from minidiff.checkpoint.config import ModelConfig, OptimizerConfig
from minidiff.data.folder import folder
from minidiff.diffusion import Noise, Process, Run, ddim, make_schedule
from minidiff.images.chart import line_chart
from minidiff.images.files import make_grid, save_png, to_float, to_uint8
from minidiff.nn import UNet, on_forward, sinusoidal
from minidiff.nn.attention import SelfAttention
from minidiff.pipeline.loading import SMALL
from minidiff.random import Key, Stream, normal
from minidiff.scenes import Scenes
from minidiff.training.optimizer import learning_rate

HERE = Path(__file__).parent
SIZE = (860, 430)


def two_moons() -> None:
    """Points that flow out of noise: what chapter 1's own program draws."""
    subprocess.run([sys.executable, HERE / "chapter1" / "two_moons.py", HERE / "figures" / "two_moons.png"], check=True)


def difference_error() -> np.ndarray:
    """How far (f(x + h) - f(x - h)) / 2h is from the gradient that the tape computes, for many h."""
    x = np.random.default_rng(0).normal(size=50)
    leaf = Tensor(x, requires_grad=True)
    ops.sum(ops.silu(leaf)).backward()
    steps = np.logspace(-12, 0, 121)
    with no_grad():
        errors = [
            np.abs((ops.silu(Tensor(x + h)).data - ops.silu(Tensor(x - h)).data) / (2 * h) - leaf.grad).max()
            for h in steps
        ]
    curve = {"float64": (np.log10(steps), np.array(errors))}
    return line_chart(curve, "Central differences against the tape", "log10 h", "largest error", log_y=True, size=SIZE)


def halved(image: Image.Image) -> np.ndarray:
    """What was drawn at twice its size, with smooth edges."""
    return np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS))


def unet() -> np.ndarray:
    """The default U-Net, each part as high as its image and as wide as its channels; lines are the skips."""
    model = UNet(network_config(ModelConfig(), 32, 32, 3, 11))
    model.initialize(0)
    names = {id(module): name for name, module in model.named_modules()}
    seen = []

    def look(module, output):
        name = names[id(module)]
        if name in ("conv_in", "conv_out") or (name.count(".") == 1 and name.split(".")[0] in ("down", "middle", "up")):
            attends = any(isinstance(part, SelfAttention) for _, part in module.named_modules())
            seen.append((name, output.shape[1:], type(module).__name__, attends))

    with on_forward(look), no_grad():
        model(np.zeros((1, 32, 32, 3), np.float32), np.zeros(1, np.float32), None)

    scale, pad, font = 2, 60, ImageFont.load_default(22)
    widths = [10 + shape[2] // 2 for _, shape, _, _ in seen]
    gap = 66
    left = np.cumsum([0, *[w * scale + gap for w in widths[:-1]]]) + pad
    image = Image.new("RGB", (int(left[-1]) + widths[-1] * scale + pad, 640), "white")
    pen = ImageDraw.Draw(image)
    boxes = []
    for x, w, (_, (height, _, _), _, _) in zip(left, widths, seen):
        level = int(np.log2(seen[0][1][0] // height))
        middle, half = 150 + 175 * level, 108 >> level
        boxes.append((x, middle - half, x + w * scale, middle + half))
    skips = []  # the boxes whose results wait to be laid beside something
    for i, (name, _, kind, _) in enumerate(seen):
        if name == "conv_in" or name.startswith("down"):
            skips.append(i)
        elif name.startswith("up") and kind == "Stage":
            source = boxes[skips.pop()]
            y = (max(source[1], boxes[i][1]) + min(source[3], boxes[i][3])) // 2 - 6 * len(skips) + 16
            pen.line([(source[2], y), (boxes[i][0], y)], fill="#c9cbd4", width=3)
    for a, b in pairwise(boxes):
        pen.line([(a[2], (a[1] + a[3]) // 2), (b[0], (b[1] + b[3]) // 2)], fill="#5c6070", width=4)
    for (x, top, right, bottom), (_, (height, _, channels), kind, attends) in zip(boxes, seen):
        colour = "#d55e00" if attends else "#0072b2" if kind == "Stage" else "#8a8f9c"
        pen.rounded_rectangle((x, top, right, bottom), 8, fill=colour)
        pen.text(((x + right) / 2, bottom + 8), f"{height}x{height}\n{channels}", "#40404a", font, "ma", align="center")
    for i, (colour, text) in enumerate(
        [("#0072b2", "residual block"), ("#d55e00", "residual block, attention"), ("#8a8f9c", "convolution")]
    ):
        pen.rounded_rectangle((pad, 470 + 44 * i, pad + 28, 498 + 44 * i), 6, fill=colour)
        pen.text((pad + 40, 484 + 44 * i), text, "#40404a", font, "lm")
    return halved(image)


def time_embedding() -> np.ndarray:
    """sinusoidal(t, 32): one row per wave, one column per timestep, from blue (-1) over white to orange (1)."""
    waves = sinusoidal(np.arange(1000, dtype=np.float32), 32).T[:, :, None]  # (32 waves, 1000 times, 1)
    blue, white, orange = (np.array(rgb) for rgb in ((0, 114, 178), (255, 255, 255), (213, 94, 0)))
    colours = np.where(waves < 0, white + (white - blue) * waves, white + (orange - white) * waves)
    return np.repeat(np.rint(colours).astype(np.uint8), 9, axis=0)


def schedules() -> np.ndarray:
    """All schedules: alpha_bar above, ln(a / s) below; on the left by shares of variance, on the right the others."""
    by_share = {kind: make_schedule(kind) for kind in ("linear", "scaled_linear", "cosine", "sigmoid")}
    by_share["linear, zero_snr"] = make_schedule("linear", zero_snr=True)
    others = {kind: make_schedule(kind) for kind in ("karras", "exponential", "flow")}
    others["flow, shift 3"] = make_schedule("flow", shift=3)
    t, rows = np.arange(1000) / 1000, []
    for title, y in (("Share of the image", "alpha_bar"), ("Log signal-to-noise ratio, halved", "ln(a / s)")):
        charts = []
        for part in (by_share, others):
            curves = {name: (t, one.alpha_bar if y == "alpha_bar" else one.all.log_snr) for name, one in part.items()}
            charts.append(line_chart(curves, title, "t / T", y, legend_below=y != "alpha_bar", size=(430, 380)))
        rows.append(np.concatenate(charts, axis=1))
    return np.concatenate(rows)


def noise_levels() -> np.ndarray:
    """One scene and one noise at t = 0, 111, ..., 999: one row per schedule."""
    x0, eps = to_float(Scenes().batch(np.array([8]))[0]), normal(Key(0, Stream.NOISE, 0, 0), (32, 32, 3))
    rows = []
    for kind in ("linear", "cosine", "sigmoid", "karras", "flow"):
        for t in np.linspace(0, 999, 10).astype(int):
            level = make_schedule(kind).level(t)
            rows.append(level.a * x0[0] + level.s * eps)
    return make_grid(to_uint8(np.array(rows)), columns=10, zoom=3)


def loss_weight() -> np.ndarray:
    """What an error in x0 costs at each t: with each target as it is, and with min-SNR for any target."""
    schedule, t = make_schedule("cosine"), np.arange(900)
    level, curves = schedule.level(t), {}
    for target in ("eps", "v", "edm", "x0"):
        g, h = Process(schedule, target).mixture(level)
        curves[target] = (t, ((level.a * h - level.s * g) / level.s) ** 2)
    curves["min_snr"] = (t, Process(schedule, "x0", "min_snr").loss_weight(level))
    return line_chart(curves, "What a squared error of x0_hat costs", "t", "weight", log_y=True, size=SIZE)


def draws_of_t() -> np.ndarray:
    """The timesteps of three batches of 32 images, one dot each, for each way of drawing timesteps; cosine schedule."""
    image = Image.new("RGB", (1720, 700), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(26)
    for i, (timestep_sampling, colour) in enumerate(
        (("uniform", "#0072b2"), ("stratified", "#d55e00"), ("lognormal", "#009e73"))
    ):
        process = Process(make_schedule("cosine"), timestep_sampling=timestep_sampling)
        pen.text((230, 110 + 200 * i), timestep_sampling, "#40404a", font, "rm")
        for step in range(3):
            y = 60 + 200 * i + 50 * step
            pen.line([(260, y), (1660, y)], fill="#e4e6ec", width=2)
            for t in process.draw_level(0, step, np.arange(32), 32).t:
                pen.circle((260 + 1.4 * float(t), y), 7, fill=colour)
    for t in range(0, 1001, 200):
        pen.text((260 + 1.4 * t, 650), f"t = {t}", "#40404a", font, "mm")
    return halved(image)


def learning_rates() -> np.ndarray:
    """The learning rate of 1000 steps with the default settings."""
    steps = np.arange(1, 1001)
    rates = np.array([learning_rate(OptimizerConfig(), step, 1000) for step in steps.tolist()])
    return line_chart({"lr": (steps, rates)}, "The learning rate of a run of 1000 steps", "step", "lr", size=SIZE)


def by_heart(known: np.ndarray, alpha_bar: np.ndarray):
    """The ideal denoiser of known images (k, H, W, C), in closed form: it predicts x0. Exercise 1 derives it."""
    flat = known.reshape(len(known), -1)

    def denoise(x_t: np.ndarray, t: int) -> np.ndarray:
        a, s = np.sqrt(alpha_bar[t]), np.sqrt(1 - alpha_bar[t])
        d = ((x_t.reshape(len(x_t), 1, -1) - a * flat) ** 2).sum(axis=2) / (2 * s * s)  # (N, k)
        w = np.exp(-(d - d.min(axis=1, keepdims=True)))
        return (w / w.sum(axis=1, keepdims=True) @ flat).reshape(x_t.shape).astype(np.float32)

    return denoise


def by_heart_sampling() -> np.ndarray:
    """Two images on their way by DDIM, x_t above the estimate x0_hat; the data are 200 known scenes."""
    process = Process(make_schedule("cosine"), "x0")
    denoise = by_heart(to_float(Scenes().batch(np.arange(200))[0]), process.schedule.alpha_bar)
    noise = Noise(0, np.array([1, 4]))
    shown = [
        step
        for step in ddim(Run(denoise, process, 50, noise), noise.start((32, 32, 3)))
        if step.index in (0, 2, 3, 4, 6, 8, 12, 20, 32, 49)
    ]
    rows = [[step.x_t[k] for step in shown] + [step.x0_hat[k] for step in shown] for k in range(2)]
    return make_grid(to_uint8(np.concatenate(rows)), columns=10, zoom=3)


def convergence() -> np.ndarray:
    """How far DDIM's result is from the exact solution, for data whose ideal denoiser is known: N(0.5, 0.3^2)."""
    schedule = make_schedule("cosine")
    process, mean, deviation = Process(schedule, "x0"), 0.5, 0.3

    def denoise(x_t: np.ndarray, t: int) -> np.ndarray:
        alpha_bar = schedule.alpha_bar[t]
        a = np.sqrt(alpha_bar)
        return mean + deviation**2 * a * (x_t - a * mean) / (alpha_bar * deviation**2 + 1 - alpha_bar)

    noise = Noise(0, np.arange(500))
    x_T = noise.start((1, 1, 1)).astype(np.float64)
    a2 = schedule.alpha_bar[-1]
    exact = mean + deviation * (x_T - np.sqrt(a2) * mean) / np.sqrt(a2 * deviation**2 + 1 - a2)
    counts, errors = np.array([2, 5, 10, 20, 50, 100, 200, 500, 1000]), []
    for steps in counts.tolist():
        *_, last = ddim(Run(denoise, process, steps, noise, clip="none"), x_T)
        errors.append(np.abs(last.x_prev - exact).max())
    curves = {"DDIM": (np.log10(counts), np.array(errors)), "1 / steps": (np.log10(counts), errors[2] * 10 / counts)}
    return line_chart(curves, "More steps, smaller error", "log10 steps", "largest error", log_y=True, size=SIZE)


def normals() -> np.ndarray:
    """A million normals in a histogram, and the density that they follow."""
    z = normal(Key(0, Stream.NOISE, 0, np.arange(1000)), 1000).ravel()
    counts, edges = np.histogram(z, bins=120, range=(-6, 6))
    middle = (edges[1:] + edges[:-1]) / 2
    share = counts / len(z) / (edges[1] - edges[0])
    density = np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi)
    curves = {"a million of ours": (middle, share), "the normal density": (middle, density)}
    return line_chart(curves, "Normal numbers from a counter", "z", "density", log_y=True, size=SIZE)


def scenes() -> np.ndarray:
    """Five scenes of each subject, one column per subject."""
    data, columns = Scenes(), []
    images, labels = data.batch(np.arange(400))
    columns = [images[labels == subject][:5] for subject in range(len(data.classes))]
    return make_grid(np.stack(columns, axis=1).reshape(-1, 32, 32, 3), columns=len(data.classes), zoom=2)


def scene_maps() -> np.ndarray:
    """Eight scenes at 64 pixels: the image, its outlines, and the object that each pixel shows."""
    rendering = Scenes(size=64).render(np.arange(20, 28))
    edge = np.repeat(to_uint8(rendering.edge * 2 - 1)[..., None], 3, axis=-1)
    hues = np.random.default_rng(4).integers(40, 235, (64, 3)).astype(np.uint8)
    return make_grid(np.concatenate([rendering.image, edge, hues[rendering.label]]), columns=8, zoom=2)


def own_images() -> np.ndarray:
    """What becomes of a tall, a wide and a transparent image: beside each, what training gets of it."""
    shapes = [(300, 460), (460, 300), (400, 400)]
    images = []
    for i, (width, height) in enumerate(shapes):
        image = Image.new("RGBA", (width, height), "#00000000" if i == 2 else ("#f2c14e", "#5b8e7d")[i])
        pen = ImageDraw.Draw(image)
        pen.ellipse((width / 2 - 120, height / 2 - 120, width / 2 + 120, height / 2 + 120), fill="#bc4b51")
        for x in range(0, width, 8):  # fine lines, which would alias in a careless resize
            pen.line([(x, height - 60), (x, height)], fill="#243b53", width=4)
        images.append(image)
    with tempfile.TemporaryDirectory() as place:
        for i, image in enumerate(images):
            image.save(Path(place) / f"{i}.png")
        seen = folder(Path(place), (32, 32)).images
    canvas = Image.new("RGB", (1500, 380), "white")
    for i, (image, small) in enumerate(zip(images, seen)):
        squares = np.indices((image.height, image.width)) // 20
        checks = np.uint8(squares.sum(axis=0) % 2 * 40 + 200)
        seen_through = Image.fromarray(np.stack([checks] * 3, axis=2))
        seen_through.paste(image, (0, 0), image)
        seen_through.thumbnail((300, 340), Image.Resampling.LANCZOS)
        canvas.paste(seen_through, (20 + 500 * i, (380 - seen_through.height) // 2))
        canvas.paste(Image.fromarray(small.repeat(4, axis=0).repeat(4, axis=1)), (350 + 500 * i, 126))
    return np.asarray(canvas.resize((900, 228), Image.Resampling.LANCZOS))


def winograd_points() -> np.ndarray:
    """A tile of pixels and a filter at six points either way, their product there, and the outputs that it gives."""
    image = Image.new("RGB", (1720, 760), "white")
    pen, font, cell = ImageDraw.Draw(image), ImageFont.load_default(24), 40
    points = ["0", "1", "-1", "2", "-2", "inf"]

    def squares(left: int, top: int, side: int, title: str, at_points: bool = False) -> tuple[int, int]:
        for i, j in np.ndindex(side, side):
            colour = "#9ec5e0" if at_points else "#e8e9ee"
            if at_points and 2 in (i, j):
                colour = "#f2c9ad"
            elif side == 6 and not at_points and 1 <= i <= 4 and 1 <= j <= 4:
                colour = "#c9cbd4"
            place = (left + cell * j, top + cell * i, left + cell * (j + 1), top + cell * (i + 1))
            pen.rectangle(place, fill=colour, outline="white", width=3)
        if at_points:
            for i, name in enumerate(points):
                pen.text((left + cell * i + cell // 2, top - 6), name, "#8a8f9c", font, "mb")
                pen.text((left - 10, top + cell * i + cell // 2), name, "#8a8f9c", font, "rm")
        pen.text((left + cell * side // 2, top + cell * side + 12), title, "#40404a", font, "ma", align="center")
        return left + cell * side, top + cell * side // 2

    def arrow(start: tuple[int, int], end: tuple[int, int], text: str = "") -> None:
        pen.line([start, end], fill="#5c6070", width=4)
        back = np.subtract(start, end) / np.hypot(*np.subtract(start, end))
        sides = [tuple(np.add(end, 18 * back + 9 * s * np.array([-back[1], back[0]]))) for s in (1, -1)]
        pen.polygon([end, *sides], fill="#5c6070")
        pen.text(((start[0] + end[0]) // 2 - 10, (start[1] + end[1]) // 2 - 12), text, "#40404a", font, "mb")

    pixels = squares(60, 60, 6, "d: 36 pixels")
    weights = squares(120, 500, 3, "w: 9 weights")
    pixels_there = squares(500, 60, 6, "d at the points", True)
    weights_there = squares(500, 440, 6, "w at the points", True)
    products = squares(960, 250, 6, "36 products", True)
    squares(1440, 290, 4, "Y: 16 outputs")
    arrow((pixels[0] + 14, pixels[1]), (445, pixels[1]), "B' d B")
    arrow((weights[0] + 14, weights[1]), (445, weights[1]), "G w G'")
    for there in (pixels_there, weights_there):
        arrow((there[0] + 14, there[1]), (900, products[1] + (there[1] - products[1]) // 5))
    arrow((products[0] + 14, products[1]), (1425, products[1]), "A' m A")
    return halved(image)


def registers() -> np.ndarray:
    """The inner product: 8 numbers of A, 2 vectors of B, and the 16 vectors of sums that they go into."""
    image = Image.new("RGB", (1720, 760), "white")
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(26), ImageFont.load_default(22)
    left, top, height, lane = 360, 180, 54, 36

    def vector(x: int, y: int, colour: str, text: str) -> None:
        for i in range(16):
            pen.rectangle(
                (x + lane * i, y, x + lane * (i + 1), y + height - 12), fill=colour, outline="#e8e9ee", width=1
            )
        pen.text((x + 8 * lane, y + (height - 12) // 2), text, "#202028", small, "mm")

    for v in range(2):
        x = left + v * (16 * lane + 24)
        vector(x, 70, "#f2c9ad", f"B[k, {16 * v}:{16 * v + 16}]")
        for r in range(8):
            vector(
                x,
                top + height * r,
                "#9ec5e0",
                f"C[{r}, {16 * v}:{16 * v + 16}]  +=  A[{r}, k] B[k, {16 * v}:{16 * v + 16}]",
            )
    for r in range(8):
        y = top + height * r
        pen.rectangle((left - 130, y, left - 40, y + height - 12), fill="#f2c9ad", outline="white", width=2)
        pen.text((left - 85, y + (height - 12) // 2), f"A[{r}, k]", "#202028", small, "mm")
    pen.text((left, 30), "2 loads: two vectors of B", "#40404a", font, "lm")
    pen.text((40, top - 24), "8 loads: a number of A each", "#40404a", font, "lm")
    below = top + 8 * height + 40
    pen.text(
        (left, below), "16 vectors of sums, in 16 registers for all k: 16 multiply-adds a step", "#40404a", font, "lm"
    )
    return halved(image.crop((0, 0, 1720, below + 40)))


FIGURES = [
    two_moons, difference_error, unet, time_embedding, schedules, noise_levels, loss_weight, draws_of_t,
    learning_rates, by_heart_sampling, convergence, normals, scenes, scene_maps, own_images, winograd_points,
    registers, *figures_sampling.FIGURES, *figures_studio.FIGURES, *figures_graphed.FIGURES,
    *figures_flow.FIGURES, *figures_evaluation.FIGURES,
]  # fmt: skip
OF_A_MODEL = [*figures_latent.FIGURES, *figures_conditioning.FIGURES]
OF_A_SMALL_MODEL = [  # of 32 × 32 pixels, whose latents are the pixels
    *figures_editing.FIGURES,
    *figures_conditioning.SMALL,
    *figures_studio.OF_A_MODEL,
]
ALL = FIGURES, OF_A_MODEL, OF_A_SMALL_MODEL


def main(arguments: list[str]) -> None:
    """Make the figures of these names, all by default."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args(arguments)
    backend.use("auto")
    for figures, weights in ((OF_A_MODEL, None), (OF_A_SMALL_MODEL, SMALL)):
        model = minidiff.load(weights)
        make_all([functools.partial(make, model) for make in figures], asked.names)
    backend.use("numpy")  # the reference: what it draws does not depend on a compiler
    make_all(FIGURES, asked.names)


def make_all(figures: list, names: list[str]) -> None:
    """Make those of the figures that are named, or all."""
    for make in figures:
        name = getattr(make, "func", make).__name__
        if not names or name in names:
            image = make()
            if image is not None:
                save_png(HERE / "figures" / f"{name}.png", image)
            print(f"docs/figures/{name}.png", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
