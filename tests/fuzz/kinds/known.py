"""Cases that once failed, each as small as it can be: they are tried in every run of the tests."""

import gzip
import io
import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import load as from_safetensors

from tests.fuzz.case import Case, kind
from tests.fuzz.kinds.data import training, zeros
from tests.fuzz.kinds.devices import bent, download_from
from tests.fuzz.kinds.models import signed
from tests.fuzz.mutations import read_safetensors
from tests.fuzz.samples import SAMPLE, Samples, tensors_file

KNOWN: list[str] = []


def known(name: str) -> Callable:
    """Enter a case that needs no randomness."""

    def enter(make: Callable[[Path, Samples], Case]) -> Callable:
        @kind(f"known: {name}", weight=0)
        def case(random: Random, folder: Path, samples: Samples) -> Case:
            return make(folder, samples)

        KNOWN.append(f"known: {name}")
        return make

    return enter


def each(name: str, values: list) -> Callable:
    """Enter a case for each value."""

    def enter(make: Callable) -> Callable:
        for value in values:
            known(f"{name}, {str(value)[:30]!r}")(lambda folder, samples, value=value: make(folder, samples, value))
        return make

    return enter


# -- options ----------------------------------------------------------------------------------------------------------


def draw(samples: Samples, *words: str) -> Case:
    """A drawing with these words more."""
    return Case("sample", ["--checkpoint", str(samples.words), *SAMPLE, "--out", "out", *words])


@each("a scale of control", ["nan", "1e300"])
def _(folder: Path, samples: Samples, value: str) -> Case:
    shown = ["--adapter", str(samples.edges), "--control", str(samples.images / "colour.png")]
    return draw(samples, *shown, "--control-scale", value)


@known("guidance without bound, explained")
def _(folder: Path, samples: Samples) -> Case:
    return draw(samples, "--guidance-scale", "1e300", "--clip", "none", "--explain", "a dog")


@each("a prompt", ["犬\udcff", "\0", "\x1b[31mred", "a" * 100_000])
def _(folder: Path, samples: Samples, value: str) -> Case:
    return draw(samples, value)


@each("the number of something", ["--text-layers", "--num-res-blocks", "--batch-size"])
def _(folder: Path, samples: Samples, value: str) -> Case:
    return Case("train", [*samples.training(), "--steps", "1", "--out", "out", value, "1" + 30 * "0"])


# -- files that are none ----------------------------------------------------------------------------------------------


@each("a pipe to read from", ["--checkpoint", "--init", "--control", "--like"])
def _(folder: Path, samples: Samples, value: str) -> Case:
    os.mkfifo(folder / "pipe")
    return draw(samples, value, str(folder / "pipe"))


@each("settings from a device", ["--config", "--resume"])
def _(folder: Path, samples: Samples, value: str) -> Case:
    return Case("train", [value, "/dev/zero", "--backend", "numpy"])


@each("a scheduler's options", ["device", "pipe"])
def _(folder: Path, samples: Samples, value: str) -> Case:
    path = Path(shutil.copytree(samples.diffusers, folder / "model")) / "scheduler_config.json"
    path.unlink()
    os.mkfifo(path) if value == "pipe" else path.symlink_to("/dev/zero")
    return Case("sample", ["--diffusers", str(folder / "model"), *SAMPLE, "--out", "out"])


@known("a pipe in place of metrics")
def _(folder: Path, samples: Samples) -> Case:
    path = Path(shutil.copytree(samples.run, folder / "run")) / "metrics.jsonl"
    path.unlink()
    os.mkfifo(path)
    return Case("export", ["--checkpoint", str(folder / "run"), "--weights", "small.safetensors"])


# -- settings, metrics, checkpoints -----------------------------------------------------------------------------------


@each(
    "TOML",
    ["a = " + "[" * 100_000, "a = " + "9" * 5000, "[run]\nseed = 0x" + "f" * 5000, "[optimizer]\nlr = 1" + "0" * 400],
)
def _(folder: Path, samples: Samples, value: str) -> Case:
    (folder / "config.toml").write_text(value)
    return Case("train", ["--config", "config.toml", "--backend", "numpy"])


_LINES = ['{"step": 2}', '{"step": 2, "seconds": "1", "loss": [1]}', '{"step": 2, "loss": "\\u0000"}']
_LINES += ['{"step": ' + "9" * 5000 + "}", '{"step": 2, "loss": ' + "[" * 100_000]


@each("the last line of metrics", _LINES)
def _(folder: Path, samples: Samples, value: str) -> Case:
    path = Path(shutil.copytree(samples.run, folder / "run")) / "metrics.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n" + value + "\n")
    return Case("train", ["--resume", str(folder / "run"), "--steps", "3", "--backend", "numpy"])


@each(
    "in a signed checkpoint",
    [
        '"text_layers": 1000000000',
        '"num_timesteps": 100000000',
        '"height": 4096',
        '"num_res_blocks": 100000',
        '"model_channels": 1e400',
    ],
)
def _(folder: Path, samples: Samples, value: str) -> Case:
    data = samples.words.read_bytes()
    header, _ = read_safetensors(data)
    text, name = header["__metadata__"]["minidiff"], value.split(":")[0]
    before, _, after = text.rpartition(name + ":") if name != '"num_timesteps"' else text.partition(name + ":")
    text = before + value + after[after.index(",") :]
    tensors = from_safetensors(data)
    (folder / "spoilt.safetensors").write_bytes(tensors_file(tensors, {"minidiff": signed(text, tensors)}))
    return Case("sample", ["--checkpoint", "spoilt.safetensors", *SAMPLE, "--out", "out"])


@each("signed weights", [np.nan, 3e38])
def _(folder: Path, samples: Samples, value: float) -> Case:
    data = samples.words.read_bytes()
    header, _ = read_safetensors(data)
    tensors = {name: np.full_like(array, value) for name, array in from_safetensors(data).items()}
    text = signed(header["__metadata__"]["minidiff"], tensors)
    (folder / "spoilt.safetensors").write_bytes(tensors_file(tensors, {"minidiff": text}))
    return Case("export", ["--checkpoint", "spoilt.safetensors", "--weights", "small.safetensors"])


# -- images ---------------------------------------------------------------------------------------------------------


def _npy(descr: str, shape: str, content: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@each(
    "classes in an .npz",
    [("'<U0'", "(100000000,)"), ("'<U1'", "(1000000000000,)"), ("'<U1'", "(0,)"), ("'<U1", "((((")],
)
def _(folder: Path, samples: Samples, value: tuple[str, str]) -> Case:
    shutil.copy(samples.npz, folder / "in.npz")
    result = io.BytesIO()
    with zipfile.ZipFile(folder / "in.npz") as source, zipfile.ZipFile(result, "w") as archive:
        for name in ("images.npy", "labels.npy"):
            archive.writestr(name, source.read(name))
        archive.writestr("classes.npy", _npy(*value))
    (folder / "in.npz").write_bytes(result.getvalue())
    return training("npz", folder / "in.npz")


@known("labels that unpack to far more than there are images")
def _(folder: Path, samples: Samples) -> Case:
    place = Path(shutil.copytree(samples.idx, folder / "in"))
    claim = struct.pack(">4BI", 0, 0, 8, 1, 1 << 32 - 1)
    (place / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(claim, mtime=0) + zeros(1 << 31))
    return training("mnist", place)


@known("names of classes with control characters")
def _(folder: Path, samples: Samples) -> Case:
    place = Path(shutil.copytree(samples.cifar, folder / "in"))
    (place / "batches.meta.txt").write_bytes(b"a\0b\x1b[2J\n" * 10)
    return training("cifar10", place)


@known("an image's name with a control character")
def _(folder: Path, samples: Samples) -> Case:
    place = Path(shutil.copytree(samples.captioned, folder / "in"))
    (place / "a-dog_00.txt").unlink()
    (place / "a-dog_00.png").rename(place / "\x9b2J\x1b[31m.png")
    return training("folder", place, "--size", "8", "--text-width", "8", "--captions", "txt")


@each("settings of a grid", ["[" * 100_000, "9" * 5000, '"\\u001b[31m"'])
def _(folder: Path, samples: Samples, value: str) -> Case:
    from PIL import Image, PngImagePlugin

    from minidiff.images.files import METADATA_KEY

    with Image.open(samples.grid) as grid:
        about = json.loads(grid.info[METADATA_KEY])
        text = json.dumps({**about, "settings": {**about["settings"], "seed": "@"}}).replace('"@"', value)
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text(METADATA_KEY, text, zip=True)
        grid.save(folder / "grid.png", pnginfo=chunks)
    return Case("sample", ["--like", "grid.png", "--out", "out"])


# -- streams and servers ----------------------------------------------------------------------------------------------


@each("streams", [("narrow", "cp437"), ("narrow", "ascii"), ("closed", "utf-8"), ("full", "utf-8")])
def _(folder: Path, samples: Samples, value: tuple[str, str]) -> Case:
    return bent(draw(samples, "a dog"), {"stdout": value[0], "stderr": value[0]}, value[1])


@each("help", ["cp437", "ascii"])
def _(folder: Path, samples: Samples, value: str) -> Case:
    return bent(Case("train", ["--help"]), {"stdout": "narrow", "stderr": "narrow"}, value)


@each("a server with", ["_endless_body", "_continue"])
def _(folder: Path, samples: Samples, value: str) -> Case:
    return download_from(Random(0), value, samples)
