"""A network of the diffusers library: its two files of options and its weights."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from random import Random

from minidiff.limits import LIMITS
from tests.fuzz import odd
from tests.fuzz.case import Case, kind
from tests.fuzz.mutations import read_safetensors, spoil_bytes, spoil_json, spoil_text, write_safetensors
from tests.fuzz.samples import Samples


@kind("diffusers", weight=2)
def diffusers(random: Random, folder: Path, samples: Samples) -> Case:
    """The options of the network, or its weights."""
    place = _copy(folder, samples)
    config, weights = place / "config.json", place / "diffusion_pytorch_model.safetensors"
    choice = random.randrange(7)
    if choice <= 3:
        config.write_bytes(spoil_json(random, json.loads(config.read_text())).encode("utf-8", "surrogatepass"))
    elif choice == 4:
        config.write_bytes(spoil_text(random, config.read_text(), odd.JSON))
    elif choice == 5:
        weights.write_bytes(spoil_bytes(random, weights.read_bytes()))
    else:
        header, tensors = read_safetensors(weights.read_bytes())
        weights.write_bytes(write_safetensors(spoil_json(random, header), tensors))
    return _draw(place)


@kind("scheduler", weight=2)
def scheduler(random: Random, folder: Path, samples: Samples) -> Case:
    """The options of the noise."""
    place = _copy(folder, samples)
    path = place / "scheduler_config.json"
    choice = random.randrange(6)
    if choice <= 3:
        path.write_bytes(spoil_json(random, json.loads(path.read_text())).encode("utf-8", "surrogatepass"))
    elif choice == 4:
        path.write_bytes(spoil_text(random, path.read_text(), odd.JSON))
    else:
        path.unlink()
        if random.random() < 0.5:
            os.mkfifo(path)
        else:
            path.symlink_to(random.choice([*odd.DEVICES, "missing", "."]))
    return _draw(place)


def _copy(folder: Path, samples: Samples) -> Path:
    return Path(shutil.copytree(samples.diffusers, folder / "model"))


def _draw(place: Path) -> Case:
    """Draw once; a size that is allowed and large would only show how long a large image takes."""
    config = place / "config.json"
    with contextlib.suppress(ValueError, RecursionError):
        options = json.loads(config.read_bytes())
        size = options.get("sample_size") if isinstance(options, dict) else None
        if type(size) is int and 64 < size <= LIMITS["size"].most:
            config.write_text(json.dumps(options | {"sample_size": 64}))
    words = ["--diffusers", str(place), "--backend", "numpy", "--count", "1", "--steps", "1", "--out", "out"]
    return Case("sample", words)
