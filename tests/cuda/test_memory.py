"""A device whose memory is full: a command says so in one line."""

import pytest
import tiny_model
import toy_images

from minidiff import backend, sample, train
from minidiff.kernels import cuda_launch
from tests import mistakes
from tests.backends import ON_GPU


class OutOfMemoryError(MemoryError):
    """`cupy.cuda.memory.OutOfMemoryError`: of this kind, and with this text."""

    def __str__(self):
        return "Out of memory allocating 1,048,576 bytes (allocated so far: 6,291,456 bytes)."


@pytest.fixture(params=ON_GPU)
def full_device(request, monkeypatch):
    """The name of a backend whose device has memory for five results of kernels, and for no more."""
    honest, made = cuda_launch.device().empty, []

    def empty(*arguments):
        made.append(arguments)
        if len(made) > 5:
            raise OutOfMemoryError
        return honest(*arguments)

    monkeypatch.setattr(cuda_launch.device(), "empty", empty)
    monkeypatch.setattr(backend, "_stack", [])  # a command selects a backend for its whole process
    return request.param


def fails(capsys, command, *words):
    said = mistakes.printed(command.main, capsys, *words).err.splitlines()
    assert said[-1] == "error: out of memory: allocating 1,048,576 bytes (allocated so far: 6,291,456 bytes)."
    assert not any("Traceback" in line for line in said)


def test_while_drawing(full_device, tmp_path, capsys):
    checkpoint = tiny_model.write(tmp_path / "run")
    words = "--checkpoint", checkpoint, "--out", tmp_path / "out", "--count", 2, "--steps", 2
    fails(capsys, sample, *words, "--backend", full_device)


def test_while_training(full_device, tmp_path, capsys):
    toy_images.write(tmp_path / "toy.npz", 12)
    words = (
        "--data",
        "npz",
        "--data-dir",
        tmp_path / "toy.npz",
        "--out",
        tmp_path / "run",
        "--batch-size",
        4,
        "--steps",
        2,
    )
    fails(capsys, train, *words, "--backend", full_device)
