"""Settings in TOML, and the folder of a run that is to go on."""

import os
import shutil
from pathlib import Path
from random import Random

from tests.fuzz import odd
from tests.fuzz.case import Case, kind
from tests.fuzz.kinds.models import spoil_checkpoint
from tests.fuzz.mutations import spoil_bytes, spoil_text
from tests.fuzz.samples import Samples

_NAMES = ["step_٣.safetensors", f"step_{'9' * 200}.safetensors", "step_-1.safetensors", "step_.safetensors"]
_NAMES += ["step_2.safetensors", "step_00000002.safetensors\n", "step_4294967296.safetensors", ".x.01234567.tmp"]


@kind("toml", weight=2)
def toml(random: Random, folder: Path, samples: Samples) -> Case:
    """A config.toml by other hands."""
    path = folder / "config.toml"
    text = (samples.run / "config.toml").read_text()
    if random.random() < 0.6:
        lines = text.splitlines()
        for _ in range(random.choice([1, 1, 2, 3])):
            at = random.choice([k for k, line in enumerate(lines) if "=" in line])
            name, _, value = lines[at].partition(" = ")
            value = random.choice(odd.TOML) if random.random() < 0.8 else value
            lines[at] = f"{name if random.random() < 0.9 else random.choice(odd.TEXTS)} = {value}"
        path.write_bytes("\n".join(lines).encode("utf-8", "replace"))
    else:
        path.write_bytes(spoil_text(random, text, odd.TOML))
    return Case(
        "train", ["--config", str(path), "--backend", "numpy", "--steps", "1", "--batch-size", "2", "--out", "out"]
    )


@kind("run", weight=2)
def run(random: Random, folder: Path, samples: Samples) -> Case:
    """A run's folder in which something is wrong: metrics, settings, checkpoints, names, what lies beside them."""
    place = folder / "run"
    shutil.copytree(samples.run, place)
    newest = place / "checkpoints" / "step_00000002.safetensors"
    choice = random.randrange(8)
    if choice <= 2:
        metrics = place / "metrics.jsonl"
        metrics.write_bytes(spoil_text(random, metrics.read_text(), odd.JSON))
    elif choice == 3:
        newest.write_bytes(spoil_checkpoint(random, newest.read_bytes()))
    elif choice == 4:
        (place / "config.toml").write_bytes(spoil_bytes(random, (place / "config.toml").read_bytes()))
    elif choice == 5:
        other = place / "checkpoints" / random.choice(_NAMES)
        _put(random, other, newest)
    elif choice == 6:
        name = random.choice(["metrics.jsonl", "config.toml", "previews", "checkpoints", "grid.png", "loss.png"])
        _remove(place / name)
        _put(random, place / name, samples.run / "checkpoints" / newest.name)
    else:
        _remove(newest)
        _put(random, newest, samples.npz)
    command = random.randrange(4)
    if command <= 1:
        return Case("train", ["--resume", str(place), "--steps", "3", "--backend", "numpy"])
    if command == 2:
        words = ["--checkpoint", str(place), "--backend", "numpy", "--count", "1", "--steps", "1", "--out", "out"]
        return Case("sample", words)
    return Case("export", ["--checkpoint", str(place), "--weights", "small.safetensors"])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _put(random: Random, path: Path, other: Path) -> None:
    """Put at a place: a file, nothing in it, a folder, a pipe, a link."""
    choice = random.randrange(6)
    if choice == 0:
        shutil.copy(other, path)
    elif choice == 1:
        path.touch()
    elif choice == 2:
        path.mkdir()
    elif choice == 3:
        os.mkfifo(path)
    elif choice == 4:
        path.symlink_to(random.choice(["/dev/zero", "/dev/null", "missing", path.name, "/"]))
    else:
        path.write_bytes(random.randbytes(100))
