"""The figures of chapter 7: samplers on two moons, where the best estimate is known exactly and nothing is trained.

make_figures.py calls them.  A point is an image of one row and two columns, so minidiff's own samplers draw it.
"""

import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minidiff.diffusion import SAMPLERS, Level, Noise, Process, Run, Schedule, Step, levels, make_schedule
from minidiff.images.chart import line_chart

SPREAD = 0.06  # of each of the sixty bumps that the moons are made of
HALF = (430, 360)  # a chart that shares the page's width with another
NAMES = ("ddim", "heun", "dpm-solver", "unipc")


class Moons:
    """The ideal denoiser of two half moons: sixty equally likely normal distributions at mu_i.

        x0_hat = sum over i of  w_i (mu_i + a SPREAD^2 / S^2 (x_t - a mu_i)),        S^2 = a^2 SPREAD^2 + s^2
        w_i proportional to exp(-|x_t - a mu_i|^2 / (2 S^2))

    that is exercise 1 with bumps instead of points.
    """

    def __init__(self, schedule: Schedule) -> None:
        angle = np.linspace(0, np.pi, 30)
        moon = np.stack([2 * np.cos(angle) - 1, 0.5 - 2 * np.sin(angle)], axis=1)
        both = np.concatenate([moon, -moon])
        self.mu = both / both.std(axis=0) / 2  # (60, 2)
        self.schedule, self.log_sigma = schedule, np.log(schedule.all.sigma)

    def __call__(self, x_t: np.ndarray, t: float) -> np.ndarray:
        """The prediction of a perfect network with target x0: (N, 1, 1, 2) to the same."""
        level = self.schedule.at_sigma(np.exp(np.interp(t, np.arange(self.schedule.T), self.log_sigma)))
        a, x = level.a, x_t.reshape(-1, 1, 2)
        variance = a**2 * SPREAD**2 + level.s**2
        d = ((x - a * self.mu) ** 2).sum(axis=2) / (2 * variance)  # (N, 60)
        w = np.exp(-(d - d.min(axis=1, keepdims=True)))
        each = self.mu + a * SPREAD**2 / variance * (x - a * self.mu)  # (N, 60, 2)
        return ((w / w.sum(axis=1, keepdims=True))[..., None] * each).sum(axis=1).reshape(x_t.shape)

    def points(self, n: int) -> np.ndarray:
        """Draw n of the data's points: (n, 2)."""
        rng = np.random.default_rng(0)
        return self.mu[rng.integers(0, len(self.mu), n)] + SPREAD * rng.normal(size=(n, 2))


def walk(kind: str, name: str, path: int | Sequence[Level], n: int = 300, spacing: str = "trailing", **how) -> list:
    """Draw n points with a sampler, in this number of steps or along these levels; return all its steps."""
    schedule, moons = known(kind)
    path = levels(schedule, path, spacing) if isinstance(path, int) else path
    noise = Noise(1, np.arange(n))
    x_T = noise.start((1, 1, 2)).astype(np.float64)
    return list(SAMPLERS[name](Run(moons, Process(schedule, "x0"), path, noise, clip="none"), x_T, **how))


@functools.cache
def known(kind: str) -> tuple[Schedule, Moons]:
    """A schedule, and the denoiser that knows the moons on it."""
    return make_schedule(kind), Moons(make_schedule(kind))


@functools.cache
def exact(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The exact paths (1001, 300, 2) and their ends (300, 2), by DPM-Solver++ at all thousand timesteps.

    On these schedules its ends are within 0.0001 of Heun's, in the median.
    """
    path = places(walk(kind, "dpm-solver", 1000))
    return path, path[-1]


def places(steps: Sequence[Step]) -> np.ndarray:
    """Return where the points are at each step, and at the end: (steps + 1, n, 2)."""
    return np.array([*(step.x_t for step in steps), steps[-1].x_prev]).reshape(len(steps) + 1, -1, 2)


def off(kind: str, steps: Sequence[Step]) -> float:
    """Return how far points end from where their exact paths do, in the median."""
    return float(np.median(np.linalg.norm(places(steps)[-1] - exact(kind)[1], axis=1)))


# ---- paths ----------------------------------------------------------------------------------------------------------

PALE, COLOURS = "#e4e6ec", ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def panel(title: str, paths: Sequence[tuple[np.ndarray, str, bool]], half: float = 3.0) -> Image.Image:
    """The data in pale grey, paths (steps, 2) in colours, with dots at the steps if so said; half: how far it shows."""
    size = 572
    image = Image.new("RGB", (size, size + 40), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(26)
    place = lambda points: (np.asarray(points) / (2 * half) + 0.5) * size + [0, 40]
    for x, y in place(known("karras")[1].points(1500)):
        pen.circle((x, y), 2.5, fill=PALE)
    for points, colour, dots in paths:
        xy = place(points)
        pen.line([tuple(p) for p in xy], fill=colour, width=3, joint="curve")
        if dots:
            for x, y in xy:
                pen.circle((x, y), 4.5, fill=colour)
            pen.circle(tuple(xy[-1]), 9, outline="#202028", width=3)
    pen.text((size // 2, 8), title, "#40404a", font, "ma")
    return image


def page(panels: Sequence[Image.Image], columns: int = 3) -> np.ndarray:
    """Panels row by row, at half their size."""
    width, height = panels[0].size
    image = Image.new("RGB", (columns * width, len(panels) // columns * height), "white")
    for i, each in enumerate(panels):
        image.paste(each, (i % columns * width, i // columns * height))
    return np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS))


SHOWN = (268, 176, 109, 271, 124, 16)  # points with a long way to go, whose paths do not hide each other


def paths() -> np.ndarray:
    """Six points on their way to the moons, by each sampler in about ten network evaluations; grey: the exact paths."""
    way, _ = exact("karras")
    true = [(way[:, k], "#9aa0ae", False) for k in SHOWN]
    panels = [panel("exact", [(way[:, k], c, False) for k, c in zip(SHOWN, COLOURS)])]
    for name, steps in (("ddim", 10), ("heun", 5), ("ddim", 40), ("dpm-solver", 10), ("unipc", 10)):
        drawn = walk("karras", name, steps)
        asked = drawn[-1].evaluations
        title = f"{name}, {steps} steps, {asked} evaluations: {off('karras', drawn):.2f}"
        mine = [(places(drawn)[:, k], c, True) for k, c in zip(SHOWN, COLOURS)]
        panels.append(panel(title, true + mine))
    return page([panels[i] for i in (0, 1, 3, 2, 4, 5)])


def random_paths() -> np.ndarray:
    """One point, six times, from sigma 1 on: without fresh noise all take one path, with it each ends elsewhere."""
    schedule, moons = known("karras")
    path = [level for level in levels(schedule, 100) if level.sigma < 1]
    start, panels = np.broadcast_to(np.array([0.1, -0.2]), (6, 1, 1, 2)), []
    for name, how in (("ddim", {}), ("euler", {"churn": 3}), ("ddpm", {})):
        draw = SAMPLERS[name](
            Run(moons, Process(schedule, "x0"), path, Noise(1, np.arange(6)), clip="none"), start, **how
        )
        way = places(list(draw))
        lines = [(way[:, k], COLOURS[k], True) for k in range(6)]
        title = " ".join([name, *(f"{setting} {value}" for setting, value in how.items())])
        panels.append(panel(f"{title}, {len(path) - 1} steps", lines, half=1.5))
    return page(panels)


# ---- numbers --------------------------------------------------------------------------------------------------------


def log_chart(
    curves: dict[str, tuple[list, list]], title: str, x_label: str, y_label: str, below: bool = True
) -> np.ndarray:
    """Half a page of curves on two logarithmic axes."""
    return line_chart(curves, title, x_label, y_label, log_x=True, log_y=True, legend_below=below, size=HALF)


def orders() -> np.ndarray:
    """Error between sigma 40 and 0.05, against steps and evaluations: straight lines, whose slope is the order."""
    schedule, _ = known("exponential")
    between = lambda n: [*map(schedule.at_sigma, np.geomspace(40, 0.05, n + 1)), levels(schedule, 1)[-1]]
    true = walk("exponential", "unipc", between(4096), 60)[-1].x_t
    by_steps, by_calls = {}, {}
    for name in NAMES:
        counts, asked, errors = [8, 16, 32, 64, 128, 256, 512], [], []
        for n in counts:
            last = walk("exponential", name, between(n), 60)[-1]
            errors.append(np.median(np.linalg.norm((last.x_t - true).reshape(-1, 2), axis=1)))
            asked.append(last.evaluations - 1)  # the last step, to the clean image, is not part of the measurement
        slope = np.log2(errors[-2] / errors[-1])
        by_steps[f"{name}: {slope:.2f}"], by_calls[name] = (counts, errors), (asked, errors)
    one = log_chart(by_steps, "Error against steps", "steps", "median distance from the exact path")
    two = log_chart(by_calls, "Error against evaluations", "network evaluations", "median distance from the exact path")
    return np.concatenate([one, two], axis=1)


def whole_way() -> np.ndarray:
    """From noise to the clean point: how far points end from where they should, against evaluations, two schedules."""
    charts = []
    for kind in ("karras", "cosine"):
        curves = {}
        for name in NAMES:
            drawn = [walk(kind, name, n) for n in ((3, 5, 10, 20, 40) if name == "heun" else (5, 10, 20, 40, 80))]
            curves[name] = [steps[-1].evaluations for steps in drawn], [off(kind, steps) for steps in drawn]
        y = "median distance from the exact end"
        charts.append(log_chart(curves, f"Schedule {kind}", "network evaluations", y, below=kind == "karras"))
    return np.concatenate(charts, axis=1)


def spacings() -> np.ndarray:
    """Ten levels of each spacing, as dots along ln(a / s), from noise on the left to the image: two schedules."""
    image = Image.new("RGB", (1720, 720), "white")
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(26), ImageFont.load_default(22)
    across = lambda log_snr: 260 + (log_snr + 10) / 16 * 1380
    for row, kind in enumerate(("cosine", "linear")):
        top = 40 + 310 * row
        pen.text((20, top), f"schedule {kind}", "#40404a", font, "lm")
        for i, spacing in enumerate(("trailing", "leading", "linspace", "karras")):
            y = top + 58 * (i + 1)
            pen.text((240, y), spacing, "#40404a", font, "rm")
            pen.line([(across(-10), y), (across(6), y)], fill="#d4d6de", width=2)
            for level in levels(make_schedule(kind), 10, spacing)[:-1]:
                x = across(level.log_snr)
                pen.circle((x, y), 9, fill=COLOURS[i])
    for tick in range(-10, 7, 2):
        pen.text((across(tick), 650), str(tick), "#40404a", small, "mm")
    pen.text((across(-2), 692), "ln(a / s): noise on the left, the image on the right", "#40404a", small, "mm")
    return np.asarray(image.resize((860, 360), Image.Resampling.LANCZOS))


def spacing_error() -> np.ndarray:
    """How far UniPC's points end from where they should, one curve per spacing, on two schedules."""
    charts = []
    for kind in ("cosine", "linear"):
        curves = {}
        for spacing in ("trailing", "leading", "linspace", "karras"):
            counts = [5, 7, 10, 14, 20, 28, 40]
            curves[spacing] = counts, [off(kind, walk(kind, "unipc", n, spacing=spacing)) for n in counts]
        y = "median distance from the exact end"
        charts.append(log_chart(curves, f"UniPC, schedule {kind}", "steps", y, below=kind == "linear"))
    return np.concatenate(charts, axis=1)


def sliced_distance(x: np.ndarray, y: np.ndarray) -> float:
    """How far two clouds of n points (n, 2) are apart: how far points must move, seen along a line, mean of 64 lines.

    Source: the sliced Wasserstein distance, Rabin et al. 2011, doi:10.1007/978-3-642-24785-9_37.
    """
    angle = np.arange(64) * np.pi / 64
    line = np.stack([np.cos(angle), np.sin(angle)])  # (2, 64)
    return float(np.abs(np.sort(x @ line, axis=0) - np.sort(y @ line, axis=0)).mean())


def clouds() -> np.ndarray:
    """How far 5000 drawn points are, as a cloud, from the moons: with fresh noise and without."""
    data, again = np.split(known("karras")[1].points(10000), 2)
    counts, curves = [5, 7, 10, 20, 40, 80], {}
    for name in ("ddim", "unipc", "ddpm", "dpm-solver-sde"):
        ends = [places(walk("karras", name, n, 5000)[-1:])[-1] for n in counts]
        curves[name] = counts, [sliced_distance(end, data) for end in ends]
    curves["the moons again"] = counts, [sliced_distance(again, data)] * len(counts)
    title, y = "How far the drawn cloud is from the moons", "sliced Wasserstein distance"
    return line_chart(curves, title, "steps", y, log_x=True, log_y=True, size=(860, 430))


FIGURES = [paths, random_paths, orders, whole_way, spacings, spacing_error, clouds]
