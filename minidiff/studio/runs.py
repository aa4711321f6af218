"""Trainings that other processes run: how far they are, their loss, their previews and checkpoints.

Idea: everything about a training is in its folder, so it can be followed from outside, while it runs and afterwards,
without talking to it and without disturbing it.  In particular the lock of the folder, which says whether a training is
running, is not tried, because a training that starts in that moment would find it taken.  Linux lists all locks in
/proc/locks; elsewhere the age of metrics.jsonl has to do.
Folders and files may vanish at any time, and a folder that is not a run is passed over.
Leaves out reading metrics.jsonl (metrics.py), and loading checkpoints (pipeline/loading.py).
"""

import math
import os
import re
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from minidiff import checkpoint as checkpoints
from minidiff.checkpoint.config import Config
from minidiff.checkpoint.settings import read_toml, to_dict
from minidiff.errors import MinidiffError, printable
from minidiff.files import read_bytes
from minidiff.studio.ids import UnknownIdError, id_of, is_file
from minidiff.studio.metrics import MetricsTail, last_line
from minidiff.training.run_dir import PREVIEWS

METRICS, SETTINGS = "metrics.jsonl", "config.toml"
LOCKS = Path("/proc/locks")
MOST_POINTS = 10_000
_ALIVE_SECONDS = 60.0  # where locks are not listed: a training has written a line since
_MOST_FOLLOWED = 16  # runs whose metrics are kept in memory
_MOST_LOCKS = 1 << 24  # bytes
_PREVIEW = re.compile(r"step_(\d{8,10})\.png", re.ASCII)

Listing: TypeAlias = list[dict[str, Any]]  # inside Runs, `list` is a method


class Runs:
    """The training runs in a folder.  Its methods may be called from any thread."""

    def __init__(self, folder: Path = Path("runs")) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}  # of the runs' folders, by id
        self._tails: dict[str, MetricsTail] = {}  # by id, the one that was asked for last at the end
        self._settings: dict[str, tuple[int, dict[str, Any]]] = {}  # by id, with the time stamp of the file

    def list(self) -> Listing:
        """Return what there is to know of every run at a glance, the one that was written last first."""
        held, found = held_folders(), []
        for id, name in self._scanned().items():
            run = self.folder / name
            try:
                line, updated = last_line(run / METRICS), (run / METRICS).stat().st_mtime
            except (OSError, MinidiffError):  # a training that has not made a step yet, or a folder that is gone
                line, updated = None, _time_of(run)
            settings = self._settings_of(id, run)
            about = {"id": id, "name": printable(name), "step": 0, "of": _steps(settings), "loss": None}
            if line is not None:
                about |= {"step": line["step"], "loss": line["loss"]}
            found.append((updated, {**about, "training": is_training(run, held), "updated": _iso(updated)}))
        return [about for _, about in sorted(found, key=lambda pair: pair[0], reverse=True)]

    def follow(self, id: str, after: int = 0, points: int = 400) -> dict[str, Any]:
        """Return a run's state, and its metrics of the steps later than `after`, thinned to `points`.

        "left" is the seconds that are left, None if the training does not run or that is not known.  "rewritten" counts
        how often --resume has written the metrics anew; when it changes, steps up to `after` may have changed as well.
        Raises UnknownIdError for any text that is not the id of a run.
        """
        run = self.path(id)
        with self._lock:
            kept = self._tails.pop(id) if id in self._tails else MetricsTail(run / METRICS)
            tail = self._tails[id] = kept  # at the end
            try:
                tail.read()
            except (OSError, MinidiffError):  # of a training that has not made a step yet, or of a folder that is gone
                tail.forget()
            while len(self._tails) > _MOST_FOLLOWED:
                del self._tails[next(iter(self._tails))]
            step, seconds, rate = tail.step, tail.seconds, tail.rate()
            metrics, rewritten = tail.thinned(after, min(points, MOST_POINTS)), tail.rewritten
        settings, training = self._settings_of(id, run), is_training(run, held_folders())
        of, left = _steps(settings), None
        minutes = settings.get("run", {}).get("minutes")
        if training and of is not None and rate:
            left = max(of - step, 0) / rate
        elif training and of is None and minutes is not None:  # until the speed is measured
            left = max(60 * minutes - seconds, 0.0)
        return {
            "id": id,
            "name": printable(run.name),
            "settings": settings,
            "step": step,
            "of": of,
            "rate": rate,
            "left": left,
            "training": training,
            "metrics": metrics,
            "rewritten": rewritten,
            "previews": sorted(_previews(run)),
            "checkpoints": _checkpoints(run),
        }

    def path(self, id: str) -> Path:
        """Return the folder of a run.  Raises UnknownIdError for any text that is not the id of one."""
        name = self._names.get(id) or self._scanned().get(id)
        if name is None or not _is_run(self.folder / name):
            raise UnknownIdError("run", id)
        return self.folder / name

    def preview(self, id: str, step: int) -> Path:
        """Return the file of a run's preview.  Raises UnknownIdError if there is no such run or preview."""
        found = _previews(self.path(id)).get(step)
        if found is None:
            raise UnknownIdError("preview of step", step)
        return found

    def _scanned(self) -> dict[str, str]:
        """Look for runs; return the names of their folders by id."""
        try:
            names = [entry.name for entry in os.scandir(self.folder) if _is_run(Path(entry.path))]
        except OSError:
            names = []
        self._names = {id_of("r", os.fsencode(name)): name for name in names}
        return self._names

    def _settings_of(self, id: str, run: Path) -> dict[str, Any]:
        """Return the settings of a run, {} if they cannot be read; the file is read again only if it has changed."""
        try:
            stamp = (run / SETTINGS).stat().st_mtime_ns
            kept = self._settings.get(id)
            if kept is None or kept[0] != stamp:
                kept = self._settings[id] = stamp, _finite(to_dict(read_toml(Config, run / SETTINGS)))
            return kept[1]
        except (OSError, MinidiffError):
            return {}


def held_folders() -> set[int] | None:
    """Return the inodes of all files and folders that a process has locked; None where the system has no list of them.

    The device is left out: on some file systems the list has another one than `os.stat`.
    """
    try:
        lines = read_bytes(LOCKS, _MOST_LOCKS).decode("ascii", "replace").splitlines()
    except (OSError, MinidiffError):
        return None
    held = set()
    for line in lines:  # "3: FLOCK  ADVISORY  WRITE 20854 fe:00:3555536 0 EOF"; "->" before FLOCK: waits for it
        words = line.split()
        if len(words) >= 6 and words[1] == "FLOCK" and words[3] == "WRITE":
            inode = words[5].rpartition(":")[2]
            held |= {int(inode)} if inode.isdigit() else set()
    return held


def is_training(run: Path, held: set[int] | None) -> bool:
    """Return whether another process holds the lock of a run's folder, as far as can be seen from outside.

    held: what `held_folders` returns.
    """
    try:
        if held is not None:
            return run.stat().st_ino in held
        return time.time() - (run / METRICS).stat().st_mtime < _ALIVE_SECONDS
    except OSError:
        return False


def _is_run(folder: Path) -> bool:
    try:
        return (folder / METRICS).is_file() or (folder / SETTINGS).is_file()
    except OSError:
        return False


def _previews(run: Path) -> dict[int, Path]:
    try:
        paths = list((run / PREVIEWS).iterdir())
    except OSError:
        return {}
    return {int(match[1]): path for path in paths if (match := _PREVIEW.fullmatch(path.name)) and is_file(path)}


def _checkpoints(run: Path) -> list[int]:
    try:
        return [checkpoints.step_of(path) for path in checkpoints.paths_in(run)]
    except OSError:
        return []


def _steps(settings: dict[str, Any]) -> int | None:
    return settings.get("run", {}).get("steps")


def _finite(value: Any) -> Any:
    """Return settings that can be sent as JSON, which has no infinity: the text "inf" in its place."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _iso(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):  # a time stamp of no year that there is
        return ""
