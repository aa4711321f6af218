"""Streams that are closed, full or narrow; a server that means harm; a kernel cache that a power cut hit."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from random import Random

from minidiff import backend, sample
from minidiff.data.download import REMOTES, Remote, fetch
from tests.fuzz import odd
from tests.fuzz.case import Case, kind
from tests.fuzz.mirror import WAYS, Mirror
from tests.fuzz.mutations import spoil_bytes
from tests.fuzz.samples import SAMPLE, TRAIN, Samples

_ENCODINGS = ["ascii", "latin-1", "cp437", "cp1251", "utf-8"]
BROKEN_PIPE = 128 + 13  # what a shell reports for a command whose reader hung up


@kind("streams")
def streams(random: Random, folder: Path, samples: Samples) -> Case:
    """Any right command whose output goes nowhere, or into something narrow."""
    draw = ["--checkpoint", str(samples.words), *SAMPLE, "--out", "out"]
    command, words = random.choice([
        ("train", [*samples.training(), "--steps", "1", "--out", "out"]),
        ("sample", [*draw, random.choice(odd.TEXTS)]),
        ("sample", draw),
        ("sample", ["--help"]),
        ("train", ["--help"]),
        ("train", ["--resume", "犬\udcff"]),
        ("export", ["--checkpoint", str(samples.labels), "--weights", "犬.safetensors"]),
        ("export", ["--checkpoint", "é\x1b", "--out", "out"]),
    ])  # fmt: skip
    ways = {
        name: random.choice(["closed", "full", "pipe", "narrow", "narrow", "narrow"]) for name in ("stdout", "stderr")
    }
    return bent(Case(command, words), ways, random.choice(_ENCODINGS))


def bent(case: Case, ways: dict[str, str], encoding: str) -> Case:
    """Return the case with other streams.  ways: of stdout and stderr, "closed", "full", "pipe" (hung up), "narrow"."""

    def before() -> None:
        for name, way in ways.items():
            _bend(name, way, encoding)

    codes = (0, 2, BROKEN_PIPE) if "pipe" in ways.values() else (0, 2)
    heard, note = ways["stderr"] == "narrow", f"{ways}, {encoding}"
    return replace(case, before=before, codes=codes, encoding=encoding, note=note, heard=heard)


def _bend(name: str, way: str, encoding: str) -> None:
    """Make a standard stream what Python would have made of it."""
    descriptor, stream = {"stdout": 1, "stderr": 2}[name], getattr(sys, name)
    errors = "strict" if name == "stdout" else "backslashreplace"
    if way == "closed":
        os.close(descriptor)
        stream = None
    elif way in ("full", "pipe"):
        if way == "full":
            end = os.open("/dev/full", os.O_WRONLY)
        else:
            read, end = os.pipe()
            os.close(read)
        os.dup2(end, descriptor)
        os.close(end)
        stream = open(descriptor, "w", encoding=encoding, errors=errors, closefd=False)  # noqa: SIM115
    else:
        stream.reconfigure(encoding=encoding, errors=errors)
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


@kind("mirror", weight=1.5)
def mirror(random: Random, folder: Path, samples: Samples) -> Case:
    """A download from a server of one's own that does what no server should."""
    return download_from(random, random.choice(WAYS), samples)


def download_from(random: Random, way: str, samples: Samples) -> Case:
    """A download of MNIST's files from a server with one of the ways of mirror.py."""
    files = {path.name: path.read_bytes() for path in samples.idx.iterdir()}

    def before() -> None:
        server = Mirror(random, way, files)
        os.environ["no_proxy"] = "127.0.0.1"
        REMOTES["mnist"] = {
            name: Remote(name, len(data), server.digest(name), (server.url, f"{server.url}/second"))
            for name, data in files.items()
        }
        _be_impatient()

    words = ["--data", "mnist", "--data-dir", "in", "--download", *TRAIN, "--steps", "1", "--out", "out"]
    return Case("train", words, before, note=f"a server with {way}")


def _be_impatient() -> None:
    """Let a download give up after a second where it would after half a minute, or more: a case has twenty seconds."""
    _, *others = fetch.__defaults__ or (None,)
    fetch.__defaults__ = (1.0, *others)


def _with_numba(samples: Samples) -> list[str]:
    backend._stack.clear()
    return ["--checkpoint", str(samples.plain), "--count", "1", "--steps", "1", "--out", "out", "--backend", "numba"]


def compile_kernels(samples: Samples) -> None:
    """Fill samples.kernels, a cache of compiled kernels; takes a minute or two.  To be called in a fork."""
    os.environ["XDG_CACHE_HOME"] = str(samples.kernels)
    os.environ.pop("NUMBA_CACHE_DIR", None)
    quiet = contextlib.ExitStack()
    quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
    quiet.enter_context(contextlib.redirect_stderr(io.StringIO()))
    with quiet, tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        sample.main(_with_numba(samples))


@kind("kernel cache", weight=0.1)
def kernel_cache(random: Random, folder: Path, samples: Samples) -> Case:
    """Compiled kernels that were cut off, zeroed or changed on the disk.  What is spoilt is compiled again: minutes."""
    own = folder.parent / "cache"
    if samples.kernels.is_dir():
        shutil.copytree(samples.kernels, own)
    files = sorted(path for path in own.rglob("*") if path.suffix in (".nbi", ".nbc"))
    for path in random.sample(files, min(len(files), random.choice([1, 1, 2]))):
        data = path.read_bytes()
        path.write_bytes(random.choice([b"", data[: len(data) // 2], bytes(len(data)), spoil_bytes(random, data)]))
    return Case("sample", _with_numba(samples), seconds=300.0)
