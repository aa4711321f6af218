"""Following metrics.jsonl while another process writes it.

Idea: a training appends a line after each step, so only what was added since the last look has to be read.  Two things
need care.  The last line may be half written: it is left until its end is there.  And --resume writes the file anew, up
to its checkpoint: that shows as another file, as a shorter one, or as other bytes before the place where reading
stopped, and then all is read again.
A curve of thousands of points is thinned for a screen.  Each part keeps its lowest and its highest loss, so that no
spike is lost, as it would be if every tenth point was taken.
Leaves out where such files are: runs.py.  A line's form is checked in training/run_dir.py.
"""

import os
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from minidiff.files import open_regular
from minidiff.training.run_dir import MAX_LINE, MAX_METRICS, parse_line

COLUMNS = ("step", "loss", "lr", "grad_norm", "images_per_second", "seconds")  # what is kept of a line
RECENT_SECONDS = 60.0  # of training, over which its speed is measured
_MOST_RECENT = 5000  # lines, likewise
_CHUNK = 1 << 20  # bytes that are read at once


class MetricsTail:
    """The lines of a growing metrics.jsonl, column by column.

    rewritten: how often the file was found to be another one.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rewritten = path, 0
        self._file: tuple[int, int] | None = None  # its device and inode
        self._start(None)

    def _start(self, file: tuple[int, int] | None) -> None:
        self.columns = {name: array("d") for name in COLUMNS}
        self._file = file
        self._offset = 0  # where the line begins that is not complete yet
        self._last = b""  # the line before it, to recognise the file; b"" if it was too long
        self._skipping = False  # in a line that is longer than any that a training writes

    def forget(self) -> None:
        """Drop what was read, of a file that is gone or cannot be read."""
        self.rewritten += self._file is not None
        self._start(None)

    def read(self) -> None:
        """Read the lines that were added.  Raises OSError or MinidiffError if the file cannot be read, or is gone."""
        with open_regular(self.path, MAX_METRICS) as file:
            status = os.fstat(file.fileno())
            identity = status.st_dev, status.st_ino
            file.seek(self._offset - len(self._last))
            same = identity == self._file and status.st_size >= self._offset
            if not same or file.read(len(self._last)) != self._last:
                self.forget()
                self._start(identity)
                file.seek(0)
            rest = b""
            while chunk := file.read(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._add(line + b"\n")
                if len(rest) > MAX_LINE:
                    self._last, self._skipping, rest = b"", True, b""
                self._offset = file.tell() - len(rest)

    def _add(self, text: bytes) -> None:
        proper = len(text) <= MAX_LINE and not self._skipping
        self._last, self._skipping = text if proper else b"", False
        steps = self.columns["step"]
        line = parse_line(text) if proper else None
        if line is not None and (not steps or line["step"] > steps[-1]):
            for name, column in self.columns.items():
                column.append(line.get(name, np.nan))

    @property
    def step(self) -> int:
        """The last step, 0 before the first."""
        steps = self.columns["step"]
        return int(steps[-1]) if steps else 0

    @property
    def seconds(self) -> float:
        """Seconds of training up to the last step."""
        seconds = self.columns["seconds"]
        return seconds[-1] if seconds else 0.0

    def rate(self) -> float | None:
        """Return the steps per second of the last minute of training; None if they are too few to tell."""
        steps, seconds = self.columns["step"], self.columns["seconds"]
        first = last = len(steps) - 1
        while first > max(0, last - _MOST_RECENT) and seconds[first] > seconds[last] - RECENT_SECONDS:
            first -= 1
        passed = seconds[last] - seconds[first] if steps else 0.0
        return (steps[last] - steps[first]) / passed if passed > 0 else None

    def thinned(self, after: int, points: int) -> dict[str, list[Any]]:
        """Return the columns of at most `points` lines (2 at least) of steps later than `after`.

        Numbers that a line does not have are None.
        """
        steps = np.array(self.columns["step"])
        first = int(np.searchsorted(steps, after, side="right"))
        rows = first + chosen(np.array(self.columns["loss"])[first:], points)
        result: dict[str, list[Any]] = {}
        for name, column in self.columns.items():
            values = np.array(column)[rows]
            if name == "step":
                result[name] = values.astype(np.int64).tolist()
            elif not np.isnan(values).all() or name == "loss":
                result[name] = [None if np.isnan(value) else value for value in values.tolist()]
        return result


def chosen(values: np.ndarray, points: int) -> np.ndarray:
    """Return the indices of at most `points` of the values, in order, that draw nearly the same curve: (n,) int64.

    They are the first one, the last one, and of equal parts between them the lowest and the highest.
    """
    n, points = len(values), max(points, 2)
    if n <= points:
        return np.arange(n)
    edges = np.linspace(1, n - 1, (points - 2) // 2 + 1).astype(np.int64)
    rows = {0, n - 1}
    for low, high in pairwise(edges):
        part = values[low:high]
        rows |= {int(low + part.argmin()), int(low + part.argmax())}
    return np.array(sorted(rows))


def last_line(path: Path) -> dict[str, Any] | None:
    """Return the last complete line of a metrics.jsonl without reading the rest; None if there is none."""
    with open_regular(path, MAX_METRICS) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 2 * MAX_LINE))
        lines = file.read(2 * MAX_LINE).split(b"\n")[:-1]
    return next((line for text in reversed(lines) if (line := parse_line(text)) is not None), None)
