"""A copy of the checkout, a fault planted into it, and the tests that run there.

The copy always has the same place, and its files keep their times: Numba tells compiled kernels apart by both, so
kernels that no fault changes are compiled once for all faults, and are there for the next run.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minidiff import cache_folders
from minidiff.errors import MinidiffError
from minidiff.files import claimed
from tests.mutations.faults import Fault

ROOT = Path(__file__).parents[2]
FOLDER = Path(tempfile.gettempdir()) / f"minidiff-mutations-{os.getuid() if os.name == 'posix' else ''}"
WITHOUT = "mutations"  # of tests/: the test of the list of faults fails wherever one is planted
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
_FIRST = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)  # of pytest's summary


@dataclass(frozen=True)
class Outcome:
    """How some tests ended.

    failed: the first test that failed, or the signal that ended them; None if there was none.
    problem: why nothing is known, such as a time limit; "" if they ran to their end.
    said: what they printed.
    """

    failed: str | None
    problem: str
    seconds: float
    said: str


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """Copy the checkout, without what git ignores, for use inside the `with` block.

    Raises MinidiffError if another process uses the place of the copy, which TMPDIR changes.
    """
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    if os.name == "posix" and FOLDER.lstat().st_uid != os.getuid():
        raise MinidiffError(f"{FOLDER} belongs to another user")
    copy = FOLDER / "minidiff"
    ignored = [line.strip("/").rpartition("/")[2] for line in (ROOT / ".gitignore").read_text("utf-8").split()]
    with claimed(FOLDER):
        shutil.rmtree(copy, ignore_errors=True)  # what a killed process left
        try:
            leave_out = shutil.ignore_patterns(".git", WITHOUT, *ignored)
            shutil.copytree(ROOT, copy, symlinks=True, ignore=leave_out)  # minidiff/kernels is a link
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)


@contextlib.contextmanager
def planted(fault: Fault, copy: Path) -> Iterator[None]:
    """Plant a fault into the copy inside the `with` block; remove it again, and what was compiled of it."""
    path = copy / fault.file
    before, status = path.read_bytes(), path.stat()
    try:
        path.write_bytes(fault.planted_into(before.decode()).encode())
        known = _compiled_of(fault, copy)
        try:
            yield
        finally:
            for each in _compiled_of(fault, copy) - known:
                shutil.rmtree(each) if each.is_dir() else each.unlink()
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _compiled_of(fault: Fault, copy: Path) -> set[Path]:
    """Return what is kept of kernels that were compiled with the fault: the folder of Numba's, or files of CUDA's."""
    if not fault.file.startswith("kernels/"):
        return set()
    cuda = cache_folders.user_folder() / "cuda"
    return {
        *filter(Path.exists, [cache_folders.kernel_folder(copy / "kernels")]),
        *cuda.rglob(f"{Path(fault.file).stem}-*"),
    }


def run(copy: Path, words: Sequence[str], seconds: float) -> Outcome:
    """Run pytest with these words in the copy; end it, with all that it has started, after so many seconds."""
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)  # there a fault and the code without it would share their kernels
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:  # a pipe would stay open as long as a process that a test left
        process = subprocess.Popen(
            [*PYTEST, *words], cwd=copy, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.returncode is None:  # also after Ctrl-C
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    return Outcome(*_verdict(code, said, seconds), time.perf_counter() - start, said)


def _verdict(code: int | None, said: str, seconds: float) -> tuple[str | None, str]:
    """Return the first failed test and the problem of an `Outcome`.  code: None for tests that were ended."""
    first = _FIRST.search(said)
    if code is None:
        return None, f"not ended after {seconds:g} s"
    if code < 0:
        return f"a crash ({signal.Signals(-code).name})", ""
    if first is not None:
        return first[1], ""
    return None, "" if code == 0 else f"pytest ended with {code}"
