"""Groups of processes that train together, seen from outside."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minidiff.errors import MinidiffError


@dataclass(frozen=True)
class Kind:
    """What a group is: see member.py.  batch: on all processes.  late: microseconds."""

    engine: str
    network: str
    batch: int
    processes: int
    threads: int
    accumulate: int = 1
    late: float = 0.0

    @property
    def name(self) -> str:
        """Such as "ours 2 × 1": two processes of one thread."""
        parts = f", {self.accumulate} parts" if self.accumulate > 1 else ""
        return f"{self.engine} {self.processes} × {self.threads}{parts}, batch {self.batch}"


class Group:
    """The processes of a group; they are ended with the `with` block.

    launcher: starts the program on several processes; of one, it is left out.
    """

    def __init__(self, kind: Kind, launcher: Sequence[str] = ()) -> None:
        self.kind, self._folder = kind, tempfile.TemporaryDirectory()
        start = [*(launcher or (mpiexec(), "-n", str(kind.processes)))] if kind.processes > 1 or launcher else []
        words = [kind.engine, kind.network, str(kind.batch), str(kind.threads)]
        words += [str(kind.accumulate), str(kind.late)]
        self._process = subprocess.Popen(
            [*start, sys.executable, "-m", "benchmarks.scaling.member", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"SCALING_FILE": f"{self._folder.name}/meet"},
        )

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        self._folder.cleanup()

    def ask(self, line: str) -> dict[str, float]:
        """Return the answer.  Raises MinidiffError if the group has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise MinidiffError(f"{self.kind.name}: its processes ended with {self._process.wait(20)}")
        return json.loads(answer)

    def check(self) -> dict[str, Any]:
        """Return the gradients of the batch that leaves nothing to chance."""
        path = Path(self._folder.name) / "check.npz"
        self.ask(f"check {path}")
        with np.load(path) as found:
            return dict(found)


def mpiexec() -> str:
    """Return the launcher beside this Python, or the first on the path.  Raises MinidiffError if there is none."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise MinidiffError("there is no mpiexec here: pip install -e '.[mpi]'")
    return found
