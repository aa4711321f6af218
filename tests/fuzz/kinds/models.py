"""Checkpoints and adapters: bytes that flipped, and files whose digest is right and whose content is absurd.

A digest keeps out accidents, not strangers: whoever writes a file can write its digest, too.  So most cases are spoilt
from the inside and signed anew.
"""

import json
from pathlib import Path
from random import Random

import numpy as np
from safetensors.numpy import load as from_safetensors

from minidiff import checkpoint as checkpoints
from tests.fuzz.case import Case, kind
from tests.fuzz.mutations import read_safetensors, spoil_bytes, spoil_json, write_safetensors
from tests.fuzz.samples import SAMPLE, Samples, tensors_file

_NUMBERS = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 65504.0, 65520.0, 0.0, 1e30]


@kind("checkpoint", weight=3)
def checkpoint(random: Random, folder: Path, samples: Samples) -> Case:
    """A checkpoint to draw with, to give away, to go on from, to add something to."""
    source = random.choice([samples.labels, samples.words, samples.plain, samples.dit, Path(samples.first)])
    path = folder / "run" / "checkpoints" / "step_00000001.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(spoil_checkpoint(random, source.read_bytes()))
    return random.choice([_draw, _draw, _export, _weights, _resume, _add, _judge])(path, samples)


@kind("adapter", weight=1.5)
def adapter(random: Random, folder: Path, samples: Samples) -> Case:
    """A ControlNet or a reference adapter that is not what it says."""
    source = random.choice([samples.edges, samples.reference])
    path = folder / "adapter.safetensors"
    path.write_bytes(spoil_checkpoint(random, source.read_bytes()))
    image = str(samples.images / "colour.png")
    shown = ["--control", image] if source == samples.edges else ["--reference", image]
    words = ["--checkpoint", str(samples.words), *SAMPLE, "--adapter", str(path), *shown]
    if random.random() < 0.2:
        return Case("export", ["--checkpoint", str(path), "--weights", "small.safetensors"])
    return Case("sample", [*words, "--out", "out"])


def spoil_checkpoint(random: Random, data: bytes) -> bytes:
    """Spoil a checkpoint's bytes, its header, or what its digest vouches for."""
    choice = random.randrange(8)
    if choice == 0:
        return spoil_bytes(random, data)
    if choice == 1:
        header, tensors = read_safetensors(data)
        return write_safetensors(spoil_json(random, header), tensors)
    header, _ = read_safetensors(data)
    about, tensors = json.loads(header["__metadata__"]["minidiff"]), from_safetensors(data)
    text = json.dumps(about)
    if choice <= 5:
        part = random.choice([about, about["config"], about["network"] or about["dit"], about["config"]["diffusion"]])
        spoilt = spoil_json(random, part)
        text = spoilt if part is about else text.replace(json.dumps(part), spoilt)
        text = text.encode("utf-8", "replace").decode()  # which safetensors cannot write otherwise
    else:
        _spoil_tensors(random, tensors)
    return tensors_file(tensors, {"minidiff": signed(text, tensors)})


def signed(text: str, tensors: dict[str, np.ndarray]) -> str:
    """Return the metadata with the digest that fits them and the tensors, where they can be read at all."""
    try:
        values = json.loads(text)
        digest = checkpoints.content_digest(values, tensors.items())
        return text.replace(values["digest"], digest) if values["digest"] else text
    except (ValueError, TypeError, KeyError, RecursionError):
        return text


def _spoil_tensors(random: Random, tensors: dict[str, np.ndarray]) -> None:
    name = random.choice(sorted(tensors))
    array, choice = tensors[name], random.randrange(6)
    if choice <= 1:
        array.reshape(-1)[random.randrange(array.size)] = random.choice(_NUMBERS)
    elif choice == 2:
        tensors[name] = np.full_like(array, random.choice(_NUMBERS))
    elif choice == 3:
        tensors[name] = array.reshape(random.choice([(-1,), array.shape[::-1], (1, *array.shape)]))
    elif choice == 4:
        tensors[random.choice([name + "x", "ema/", "model/../x", "\x1b[2J", "a" * 5000])] = tensors.pop(name)
    else:
        tensors[name] = array.astype(random.choice([np.float16, np.float64, np.int32, np.bool_]))


def _draw(path: Path, samples: Samples) -> Case:
    return Case("sample", ["--checkpoint", str(path), *SAMPLE, "--out", "out"])


def _export(path: Path, samples: Samples) -> Case:
    return Case("export", ["--checkpoint", str(path), "--out", "out"])


def _weights(path: Path, samples: Samples) -> Case:
    return Case("export", ["--checkpoint", str(path), "--weights", "small.safetensors"])


def _resume(path: Path, samples: Samples) -> Case:
    return Case("train", ["--resume", str(path), "--steps", "3", "--backend", "numpy"])


def _add(path: Path, samples: Samples) -> Case:
    more = ["--adapter", "edges", "--steps", "1", "--warmup", "10", "--batch-size", "2", "--backend", "numpy"]
    data = ["--data", "npz", "--data-dir", str(samples.npz)]
    return Case("train", ["--onto", str(path), *data, *more, "--out", "out"])


def _judge(path: Path, samples: Samples) -> Case:
    drawing = ["--count", "4", "--steps", "1", "--backend", "numpy", "--json", "judged.json"]
    return Case("evaluate", ["--checkpoint", str(path), "--data", "npz", "--data-dir", str(samples.npz), *drawing])
