"""A run: a training in a folder and its judging, each by a command in a process of its own, neither made twice.

Idea: what stands in a run's folder says what is done.  `training.json` is written when the training's process has
ended well, `evaluation.json` by `minidiff.evaluate`; where both are there and were made as now asked, nothing is done.
Leaves out which runs there are: __main__.py.
"""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.machine import environment, processor
from benchmarks.peers.workers import cores
from minidiff import __version__, cache_folders
from minidiff import checkpoint as checkpoints
from minidiff.errors import MinidiffError, one_line
from minidiff.files import write_atomically
from minidiff.training.run_dir import read_metrics

Record = dict[str, Any]

OURS = ("-m", "minidiff.train")
TORCH = ("-m", "benchmarks.quality.torch_train")
FIRST_STEPS = 3  # compile and touch memory; a speed is taken after them


@dataclass(frozen=True)
class Judging:
    """How `minidiff.evaluate` judges: the number of samples, their guidance, and the threads that compute."""

    count: int
    guidance_scale: float
    threads: int | None = None

    def words(self, folder: Path) -> list[str]:
        """The command's words after `python`."""
        given = ["--count", self.count, "--guidance-scale", f"{self.guidance_scale:g}"]
        given += [] if self.threads is None else ["--threads", self.threads]
        return ["-m", "minidiff.evaluate", "--checkpoint", str(folder), *map(str, given)]


@dataclass(frozen=True)
class Run:
    """One training.

    engine: what tells it from the runs beside it, as the table names it.
    program: the words after `python` that name the command.  words: its options, those of `minidiff.train`, but --out.
    """

    folder: Path
    engine: str
    seed: int
    program: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The training's words after `python`."""
        return [*self.program, *self.words, "--out", str(self.folder)]

    # -- what is there already --------------------------------------------------------------------------------------

    def training(self) -> Record | None:
        """Return the training's `training.json`, None if it is not finished.

        Raises MinidiffError if the folder holds a finished training with other options.
        """
        about = _read(self.folder / "training.json")
        if about is None or not checkpoints.paths_in(self.folder):
            return None
        wanted = [*self.program, *self.words]
        if about["words"] != wanted:
            there = shlex.join(_differing(about["words"], wanted))
            raise MinidiffError(f"{self.folder} holds a training with other options ({there}); take another --out")
        return about

    def evaluation(self, judging: Judging) -> Record | None:
        """Return the `evaluation.json` of the newest checkpoint, None if it was not judged, or not in this way."""
        result = _read(self.folder / "evaluation.json")
        if result is None or result["checkpoint"]["step"] != self.steps():
            return None
        asked = {"count": judging.count, "guidance_scale": judging.guidance_scale}
        return result if all(result["settings"][name] == value for name, value in asked.items()) else None

    def steps(self) -> int:
        """How many steps were made."""
        return checkpoints.step_of(checkpoints.paths_in(self.folder)[-1])

    # -- what is done -----------------------------------------------------------------------------------------------

    def train(self) -> Record:
        """Train in a fresh process and return what `training` then does; an unfinished folder is put aside first."""
        put_aside(self.folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        begin = time.perf_counter()
        said = call(self.command, f"the training in {self.folder}")
        about = {
            "words": [*self.program, *self.words],
            "seconds": round(time.perf_counter() - begin, 1),
            "kernels": kernels(),
            "machine": machine(),
        }
        write_atomically(self.folder / "train.log", said)
        write_atomically(self.folder / "training.json", json.dumps(about, indent=1).encode())
        return about

    def judge(self, judging: Judging) -> Record:
        """Judge the newest checkpoint in a fresh process and return its `evaluation.json`."""
        call(judging.words(self.folder), f"the judging of {self.folder}")
        result = self.evaluation(judging)
        assert result is not None
        return result

    def record(self, comparison: str, judging: Judging) -> Record:
        """Return what the table and the JSON file hold of a run that is trained and judged."""
        about, result, steps = self.training(), self.evaluation(judging), read_metrics(self.folder / "metrics.jsonl")
        assert about is not None and result is not None
        frechet = result["frechet"]
        distance = {} if frechet is None else frechet["samples_to_real"]
        return {
            "what": f"{comparison}/seed{self.seed}/{self.engine}",
            "seed": self.seed,
            "engine": self.engine,
            "steps": self.steps(),
            "seconds": about["seconds"],  # of the whole process
            "training_seconds": steps[-1]["seconds"],  # from the start of the clock to the last step
            "step_seconds": step_seconds(steps),
            "held_out_loss": result["held_out_loss"]["mean"],
            "held_out_loss_error": result["held_out_loss"]["standard_error"],
            "frechet": distance.get("distance"),
            "frechet_deviation": distance.get("deviation"),
            "frechet_real": None if frechet is None else frechet["real_to_real"]["distance"],
            "read_as_asked": result["read_as_asked"]["share"],
            "count": judging.count,
            "guidance_scale": judging.guidance_scale,
            "classifier": Path(result["classifier"]["file"]).name,
            "evaluation_versions": result["versions"],
            **about,
        }


def put_aside(folder: Path) -> None:
    """Give an unfinished run's folder another name; nothing that somebody waited for is deleted."""
    if not folder.exists():
        return
    number = 1
    while (aside := folder.with_name(f"{folder.name}.unfinished-{number}")).exists():
        number += 1
    folder.rename(aside)
    print(f"unfinished, put aside: {aside}")


def call(words: Sequence[str], what: str) -> bytes:
    """Run Python with these words and return what it printed; what it says on stderr goes on to ours.

    Stopped by Ctrl-C or SIGTERM, it asks the process to end, which lets a training save, and waits for it.  The
    process has a session of its own: Ctrl-C would reach it from the terminal too, and the second signal is rude.
    """
    with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise MinidiffError(f"{what} ended with {process.returncode}")
    return said


# ---- speeds and times -----------------------------------------------------------------------------------------------


def step_seconds(metrics: Sequence[Record]) -> float:
    """Return the median seconds from one step's end to the next, of all but the first steps, from `metrics.jsonl`."""
    seconds = [line["seconds"] for line in metrics]
    between = np.diff(seconds[FIRST_STEPS:] if len(seconds) > FIRST_STEPS + 1 else [0.0, *seconds])
    return float(np.median(between))


def promised(metrics: Sequence[Record], minutes: float) -> float:
    """Return how many steps a training would make in so many minutes, from the metrics of a short one."""
    done = min(FIRST_STEPS, len(metrics))
    return done + max(0.0, 60 * minutes - metrics[done - 1]["seconds"]) / step_seconds(metrics)


def time_left(
    todo: Sequence[str], spent: Mapping[str, Sequence[float]], planned: Mapping[str, float]
) -> tuple[float, bool]:
    """Return the seconds that are left, of the work that they can be told of, and whether that is all of it.

    todo: the kinds of work to be done.  spent: seconds of each kind's work that is done; planned: what it is to take,
    where nothing is known yet.
    """
    means = {kind: float(np.mean(seconds)) for kind, seconds in spent.items()}
    known = {**planned, **means}
    return sum(known.get(kind, 0.0) for kind in todo), all(kind in known for kind in todo)


# ---- where and with what --------------------------------------------------------------------------------------------


def kernels() -> str:
    """The version of the kernels' sources."""
    return cache_folders.kernel_folder().name.removeprefix("kernels-")


def machine() -> Record:
    """Where a training ran: processor, cores, versions, environment variables that matter."""
    return {
        "cpu": processor(),
        "cores": cores(),
        "system": platform.platform(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {"minidiff": __version__, "python": platform.python_version(), "numpy": np.__version__},
        "environment": environment(os.environ),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _read(path: Path) -> Record | None:
    """Read a JSON file that was written whole, None if there is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = one_line(error) if isinstance(error, OSError) else "it is not JSON"
        raise MinidiffError(f"cannot read {path}: {reason}") from error


def _differing(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The words that one has and the other has not, for a message."""
    return [word for word in there if word not in wanted] or [word for word in wanted if word not in there]
