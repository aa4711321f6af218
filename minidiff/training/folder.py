"""A run's folder: where it is, and what a training writes into it.

    config.toml                         all settings
    metrics.jsonl                       a line a step
    checkpoints/step_00000500.safetensors
    previews/step_00000500.png          samples on the way
    grid.png, noise_to_image.gif, loss.png     at the end

In training/ before loop.py.  Leaves out what the files hold: settings.py, checkpoint.py, preview.py.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from minidiff.errors import MinidiffError
from minidiff.files import remove_temporary, write_atomically
from minidiff.training import checkpoint as checkpoints
from minidiff.training.checkpoint import CHECKPOINTS

PREVIEWS = "previews"


def create(out: Path | None) -> Path:
    """Make the folder of a new run, by default runs/<date and time>.

    Raises MinidiffError if something is there already, or the folder cannot be made or written.
    """
    chosen = out or _dated()
    if chosen.exists() and not chosen.is_dir():
        raise MinidiffError(f"--out {chosen} is a file; expected a folder, or a name that is free")
    if chosen.is_dir() and any(chosen.iterdir()):
        raise MinidiffError(f"{chosen} is not empty; take another --out, or go on with --resume {chosen}")
    try:
        for folder in (chosen / CHECKPOINTS, chosen / PREVIEWS):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MinidiffError(f"cannot make the folder {chosen}: {error.strerror}") from error
    return chosen


def of_checkpoint(path: Path) -> Path:
    """Return the run's folder that a checkpoint lies in."""
    if path.parent.name != CHECKPOINTS:
        raise MinidiffError(f"{path} does not lie in a run's folder; expected RUN/{CHECKPOINTS}/{path.name}")
    return path.parent.parent


def reopen(run: Path, step: int) -> None:
    """Make a run's folder ready to go on after `step`.

    What a killed process left half written is removed; checkpoints after `step` that are damaged get a name that says
    so.  Raises MinidiffError if there are good ones: going on would leave two futures in one folder.
    """
    for folder in (run, run / CHECKPOINTS, run / PREVIEWS):
        folder.mkdir(exist_ok=True)
        remove_temporary(folder)
    for path in checkpoints.listed(run):
        if checkpoints.step_of(path) <= step:
            continue
        try:
            checkpoints.load(path)
        except MinidiffError:
            path.rename(path.with_name(f"{path.name}.damaged"))
        else:
            raise MinidiffError(f"{path} is newer than step {step}; to go on from there, move the newer ones away")


def _dated() -> Path:
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    number, path = 1, Path("runs") / name
    while path.exists():  # two runs within a second
        number += 1
        path = Path("runs") / f"{name}_{number}"
    return path


class Metrics:
    """metrics.jsonl: one JSON object a step, appended as it happens.

    after: the step that the run goes on from; later lines, of a future that is about to be computed again, go.
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
        """Append one line; it is in the file when this returns, so that a killed run keeps it."""
        self.file.write(_lines([values]))
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl, [] if there is none; a line that a killed run left half ends it."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            break
        lines.append(line)
    return lines


def _lines(values: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in values)
