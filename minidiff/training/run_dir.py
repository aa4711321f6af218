"""The folder of a run: what a training writes into it, and how a resumed run continues in it.

    config.toml                         all settings
    metrics.jsonl                       one line for each step
    checkpoints/step_00000500.safetensors
    previews/step_00000500.png          samples during the training
    grid.png, noise_to_image.gif, loss.png     at the end

Idea: one process at a time locks the folder.  A killed process may leave half-written files, damaged checkpoints, and
metrics of steps after its last checkpoint.  They are removed or renamed when the run is resumed.
Of these files, only metrics.jsonl is written here.
Leaves out all others: checkpoint/, preview.py, images/animation.py.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from minidiff import checkpoint as checkpoints
from minidiff.checkpoint import CHECKPOINTS, Checkpoint
from minidiff.errors import MinidiffError
from minidiff.files import claimed, new_folder, open_regular, parse_json, remove_temporary, write_atomically
from minidiff.limits import LIMITS

PREVIEWS = "previews"
MAX_METRICS = 1 << 30  # bytes of metrics.jsonl: about ten million steps
MAX_LINE = 1 << 12  # bytes that are read as one line; a step takes about a hundred


@contextmanager
def created(out: Path | None) -> Iterator[Path]:
    """Make the folder of a new run, by default runs/<date and time>, and lock it against other processes.

    Raises MinidiffError if something is there already, or the folder cannot be made or written.
    """
    with new_folder(out, instead=f"take another --out, or go on with --resume {out}") as run:
        for folder in (run / CHECKPOINTS, run / PREVIEWS):
            folder.mkdir()
        yield run


@contextmanager
def reopened(resume: Checkpoint) -> Iterator[Path]:
    """Open the folder of a run that goes on from a checkpoint, and lock it against other processes."""
    run = of_checkpoint(resume.path)
    with claimed(run):
        reopen(run, resume.step)
        yield run


def of_checkpoint(path: Path) -> Path:
    """Return the folder of the run that wrote a checkpoint.  Raises MinidiffError if the file lies elsewhere."""
    if path.parent.name != CHECKPOINTS:
        raise MinidiffError(f"{path} does not lie in a run's folder; expected RUN/{CHECKPOINTS}/{path.name}")
    return path.parent.parent


def reopen(run: Path, step: int) -> None:
    """Make a run's folder ready to go on after `step`.

    Files that a killed process left half written are removed; damaged checkpoints after `step` are renamed.
    Raises MinidiffError if there are good ones after `step`: the run would then have two of the same step.
    """
    for folder in (run, run / CHECKPOINTS, run / PREVIEWS):
        folder.mkdir(exist_ok=True)
        remove_temporary(folder)
    for path in checkpoints.paths_in(run):
        if checkpoints.step_of(path) <= step:
            continue
        try:
            checkpoints.load(path)
        except MinidiffError:
            path.rename(path.with_name(f"{path.name}.damaged"))
        else:
            raise MinidiffError(f"{path} is newer than step {step}; to go on from there, move the newer ones away")


class Metrics:
    """metrics.jsonl: one JSON object for each step, appended after the step.

    after: the step that the run goes on from; later lines are removed, as these steps are computed again.
    """

    def __init__(self, run: Path, after: int = 0) -> None:
        self.path = run / "metrics.jsonl"
        self.kept = [line for line in read_metrics(self.path) if line["step"] <= after]
        write_atomically(self.path, _lines(self.kept).encode())
        self.file = self.path.open("a", encoding="utf-8")

    @property
    def seconds(self) -> float:
        """Seconds of training before this process."""
        return self.kept[-1]["seconds"] if self.kept else 0.0

    def write(self, **values: Any) -> None:
        """Append one line and flush it, so that a killed run keeps it."""
        self.file.write(_lines([values]))
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl, [] if there is none.

    Lines that are incomplete, not valid, or not of a later step than the line before are skipped: a killed run may
    leave half a line.  Raises MinidiffError for a file of more than MAX_METRICS bytes.
    """
    lines: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError), open_regular(path, MAX_METRICS) as file:
        for text in iter(partial(file.readline, MAX_LINE), b""):
            line = parse_line(text)
            if line is not None and (not lines or line["step"] > lines[-1]["step"]):
                lines.append(line)
    return lines


def parse_line(text: bytes) -> dict[str, Any] | None:
    """Return a line of metrics.jsonl; None if it is incomplete or not valid."""
    try:
        line = parse_json(text.decode(), "it")
    except ValueError:  # of other bytes than UTF-8, or a MinidiffError
        return None
    return line if _is_step(line) else None


def _is_step(line: Any) -> bool:
    """Return whether a line of metrics holds only numbers, among them a step, a loss and the seconds."""
    if not isinstance(line, dict) or not {"step", "loss", "seconds"} <= line.keys():
        return False
    numbers = all(type(value) in (int, float) and abs(value) < 1e300 for value in line.values())  # NaN is not
    return numbers and type(line["step"]) is int and LIMITS["step"].holds(line["step"])


def _lines(values: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in values)
