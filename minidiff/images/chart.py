"""A line chart, drawn with Pillow: enough to watch a loss fall, without a plotting library.

It is drawn at twice its size and scaled down, which smooths the lines.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Series = Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]]

_SCALE = 2  # a chart is drawn larger by this factor and scaled down
_INK, _FAINT, _PAPER = (64, 64, 72), (228, 228, 234), (255, 255, 255)
# Colours that colour-blind people can distinguish. Source: Okabe and Ito 2008, "Color universal design".
_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))
_MAX_TICKS = 7


def line_chart(
    series: Series,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    *,
    log_x: bool = False,
    log_y: bool = False,
    legend_below: bool = False,
    smooth: int = 0,
    size: tuple[int, int] = (960, 540),
) -> np.ndarray:
    """Draw curves {name: (x, y)} into one image (height, width, 3) uint8; size is (width, height).

    log_x, log_y: logarithmic axes. legend_below: the legend is at the lower left, instead of the upper right.
    smooth: if more than 1, a curve is drawn pale, and over it its moving average over this number of points (at most a
    tenth of all points); the smallest and the largest 1% of the values may then be outside the chart.
    Points that are not finite (or, on a logarithmic axis, not positive) are left out.
    Raises ValueError if x and y of a curve differ in length.
    """
    curves, heights = {}, [np.empty(0)]
    for name, points in series.items():
        x, y = (np.asarray(values, np.float64) for values in points)
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(f"line_chart: {name}: x and y must be equally long, got {x.shape} and {y.shape}")
        fine = np.isfinite(x) & np.isfinite(y) & ((x > 0) | (not log_x)) & ((y > 0) | (not log_y))
        x, y = x[fine], y[fine]
        mean = _mean(y, min(smooth, len(y) // 10)) if smooth > 1 else y
        heights += [mean, np.quantile(y, (0.01, 0.99)) if smooth > 1 and len(y) else y]
        curves[name] = (x, y, mean)
    x_axis = _Axis(np.concatenate([np.empty(0), *(x for x, _, _ in curves.values())]), log=log_x, margin=0.0)
    y_axis = _Axis(np.concatenate(heights), log=log_y, margin=0.05)

    canvas = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), _PAPER)
    left, top, right, bottom = 82 * _SCALE, 60 * _SCALE, canvas.width - 26 * _SCALE, canvas.height - 62 * _SCALE
    _draw_axes(canvas, (left, top, right, bottom), x_axis, y_axis)
    _draw_words(canvas, (left, top, right, bottom), title, x_label, y_label)
    plot = canvas.crop((left, top, right, bottom))  # the border of this image clips the lines
    for i, (x, y, mean) in enumerate(curves.values()):
        across = x_axis.share(x) * (plot.width - 1)
        colour = _COLOURS[i % len(_COLOURS)]
        if smooth > 1:
            _draw_curve(plot, across, (1 - y_axis.share(y)) * (plot.height - 1), _pale(colour), 1)
        _draw_curve(plot, across, (1 - y_axis.share(mean)) * (plot.height - 1), colour, 2)
    if len(curves) > 1:
        _draw_legend(plot, list(curves), legend_below)
    canvas.paste(plot, (left, top))
    return np.asarray(canvas.resize(size, Image.Resampling.BOX))


class _Axis:
    """An axis: its range of values, the position of a value on it, and its ticks."""

    def __init__(self, values: np.ndarray, log: bool, margin: float):
        if len(values) == 0:
            values = np.array([1.0, 10.0])
        low, high = (math.log10(v) if log else float(v) for v in (values.min(), values.max()))
        if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):  # a single value gets some space around it
            room = 0.5 if log else max(abs(high), 1.0) / 2
            low, high = low - room, high + room
        self.log, self.low, self.high = log, low - margin * (high - low), high + margin * (high - low)

    def share(self, value: np.ndarray | float) -> np.ndarray:
        """Return the position of a value: 0 at the beginning of the axis, 1 at its end."""
        return ((np.log10(value) if self.log else np.asarray(value)) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return round numbers in the range of the axis; on a logarithmic axis 1, 2, 3, 5, 7 times powers of ten."""
        if not self.log:
            return _round_numbers(self.low, self.high)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        for digits in ((1, 2, 3, 5, 7), (1, 2, 5), (1,)):
            ticks = [d * 10.0**decade for decade in decades for d in digits]
            ticks = [tick for tick in ticks if self.low <= math.log10(tick) <= self.high]
            if len(ticks) <= _MAX_TICKS:
                break
        if len(ticks) < 3:  # within a small part of a decade a logarithmic axis is almost linear
            ticks = _round_numbers(10**self.low, 10**self.high)
        return ticks[:: math.ceil(len(ticks) / _MAX_TICKS)]


def _round_numbers(low: float, high: float) -> list[float]:
    """Return at most about 7 multiples of 1, 2 or 5 times a power of ten in [low, high]."""
    rough = (high - low) / _MAX_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    """Write a number in few characters: 0.05, 1.5, 2500 as 2.5k, 3e-07."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if factor <= abs(value) < 1000 * factor:
            return f"{value / factor:.5g}{letter}"
    return f"{value:.5g}"


def _mean(y: np.ndarray, window: int) -> np.ndarray:
    """Return the moving average over window // 2 points to each side, (n,); over fewer points at the ends."""
    i, half = np.arange(len(y)), window // 2
    low, high = np.maximum(i - half, 0), np.minimum(i + half + 1, len(y))
    total = np.concatenate([[0.0], np.cumsum(y)])
    return (total[high] - total[low]) / (high - low)


def _pale(colour: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple((c + 2 * paper) // 3 for c, paper in zip(colour, _PAPER, strict=True))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _SCALE)  # a font that is part of Pillow


def _draw_curve(plot: Image.Image, x: np.ndarray, y: np.ndarray, colour: tuple[int, ...], width: int) -> None:
    draw = ImageDraw.Draw(plot)
    y = np.clip(y, -plot.height, 2 * plot.height)  # Pillow is slow for lines that reach far outside the image
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    if len(points) == 1:
        draw.circle(points[0], 3 * _SCALE, fill=colour)
    draw.line(points, fill=colour, width=width * _SCALE, joint="curve")


def _draw_axes(canvas: Image.Image, box: tuple[int, int, int, int], x_axis: _Axis, y_axis: _Axis) -> None:
    draw, font, (left, top, right, bottom) = ImageDraw.Draw(canvas), _font(13), box
    for tick in y_axis.ticks():
        y = bottom - float(y_axis.share(tick)) * (bottom - top)
        draw.line([(left, y), (right, y)], fill=_FAINT, width=_SCALE)
        draw.text((left - 8 * _SCALE, y), _number(tick), fill=_INK, font=font, anchor="rm")
    for tick in x_axis.ticks():
        x = left + float(x_axis.share(tick)) * (right - left)
        draw.line([(x, bottom), (x, bottom + 5 * _SCALE)], fill=_INK, width=_SCALE)
        draw.text((x, bottom + 9 * _SCALE), _number(tick), fill=_INK, font=font, anchor="mt")
    draw.line([(left, bottom), (right, bottom)], fill=_INK, width=_SCALE)


def _draw_words(canvas: Image.Image, box: tuple[int, int, int, int], title: str, x_label: str, y_label: str) -> None:
    draw, (left, top, right, _) = ImageDraw.Draw(canvas), box
    draw.text((14 * _SCALE, 10 * _SCALE), title, fill=_INK, font=_font(18))
    draw.text((14 * _SCALE, top - 8 * _SCALE), y_label, fill=_INK, font=_font(13), anchor="lb")
    draw.text(((left + right) / 2, canvas.height - 12 * _SCALE), x_label, fill=_INK, font=_font(14), anchor="mb")


def _draw_legend(plot: Image.Image, names: list[str], below: bool) -> None:
    """Draw the legend in the upper right or the lower left corner."""
    draw, font, step = ImageDraw.Draw(plot), _font(13), 22 * _SCALE
    width = max(draw.textlength(name, font=font) for name in names) + 48 * _SCALE
    x, y = plot.width - width - 8 * _SCALE, 8 * _SCALE
    if below:
        x, y = 8 * _SCALE, plot.height - step * len(names) - 8 * _SCALE
    draw.rectangle((x, y, x + width, y + step * len(names)), fill=_PAPER, outline=_FAINT, width=_SCALE)
    for i, name in enumerate(names):
        middle = y + step * (i + 0.5)
        draw.line(
            [(x + 8 * _SCALE, middle), (x + 30 * _SCALE, middle)], fill=_COLOURS[i % len(_COLOURS)], width=3 * _SCALE
        )
        draw.text((x + 38 * _SCALE, middle), name, fill=_INK, font=font, anchor="lm")
