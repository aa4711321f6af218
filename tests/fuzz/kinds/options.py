"""The command line: every option of every command with values that nobody expects, twice, empty, without a value."""

import dataclasses
import typing
from pathlib import Path
from random import Random
from types import NoneType

from minidiff.checkpoint.config import Config
from minidiff.evaluate import EvaluateConfig
from minidiff.evaluation.samples import EvaluationSampling
from minidiff.export import ExportConfig
from minidiff.limits import LIMITS
from minidiff.sample import SampleConfig
from minidiff.training.cli import Files
from tests.fuzz import odd
from tests.fuzz.case import Case, kind
from tests.fuzz.samples import SAMPLE, Samples

# What a number within its limits may ask for: hours of work, or all the memory there is.  That is no fault.
WORK = {
    *(
        "steps",
        "count",
        "batch_size",
        "size",
        "model_channels",
        "num_res_blocks",
        "hidden_size",
        "num_layers",
        "text_layers",
        "text_width",
        "channel_mult",
        "resample",
    ),
    *("heads", "groups", "patch", "minutes", "accumulate", "threads", "num_timesteps"),
}
MUCH = 8
NEVER = {"download", "help"}  # nothing is fetched from the world
WRITTEN = {"out", "json", "weights"}


def options(*classes: type) -> dict[str, typing.Any]:
    """Return the names of all settings in dataclasses and those inside them, with their types."""
    found: dict[str, typing.Any] = {}
    for each in classes:
        hints = typing.get_type_hints(each)
        for field in dataclasses.fields(each):
            hint = hints[field.name]
            if dataclasses.is_dataclass(hint):
                found |= options(hint)  # type: ignore[arg-type]
            elif field.name not in NEVER | {"prompt"}:
                found[field.name] = hint
    return found


TRAIN_OPTIONS = options(Config, Files)
SAMPLE_OPTIONS = options(SampleConfig)
EVALUATE_OPTIONS = options(EvaluateConfig, EvaluationSampling)
EXPORT_OPTIONS = options(ExportConfig)


def words_for(random: Random, known: dict[str, typing.Any], folder: Path, samples: Samples) -> list[str]:
    """Return one to three options with odd values, for the end of a command line."""
    words: list[str] = []
    for _ in range(random.choice([1, 1, 2, 3])):
        name = random.choice(sorted(known))
        option = f"--{name.replace('_', '-')}"
        count = 1 if "tuple" not in str(known[name]) else random.choice([0, 1, 2, 3])
        values = [value(random, name, known[name], folder, samples) for _ in range(count)]
        choice = random.randrange(12)
        if choice == 0:
            words += [option]
        elif choice == 1 and values:
            words += [f"{option}={values[0]}"]
        elif choice == 2:
            words += [option, *values, option, *values]
        elif choice == 3:
            words += [option[: random.randrange(3, len(option) + 1)], *values]
        else:
            words += [option, *values]
    return words


def value(random: Random, name: str, hint: typing.Any, folder: Path, samples: Samples) -> str:
    """Return an odd value for one option; sometimes a good one, so that what comes after it is reached."""
    kinds = [each for each in (typing.get_args(hint) or (hint,)) if each not in (NoneType, ...)]
    if Path in kinds:
        (folder / "odd").mkdir(exist_ok=True)
        inside = folder / "odd" / str(random.randrange(10**9))
        inside.mkdir()
        return odd.to_write(random, inside) if name in WRITTEN else odd.to_read(random, inside, samples.files)
    literals = [each for each in typing.get_args(hint) if isinstance(each, str)]
    literals += [each for inner in typing.get_args(hint) for each in typing.get_args(inner) if isinstance(each, str)]
    if literals and random.random() < 0.5 and name != "data":
        return random.choice(literals)
    for _ in range(100):
        word = odd.typed(random)
        if not is_work(name, word) and not (name == "backend" and word in ("", "auto")):
            return word
    return "-1"


def is_work(name: str, word: str) -> bool:
    """Whether a value is allowed and asks for much."""
    try:
        number = float(word.replace("_", ""))
    except (ValueError, OverflowError):
        return False
    return name in WORK and (1e-3 if name == "minutes" else MUCH) < number <= LIMITS[name].most


def _scattered(random: Random, words: list[str], more: list[str]) -> list[str]:
    return [*words, *more] if random.random() < 0.8 else [*more, *words]


@kind("train options", weight=3)
def train_options(random: Random, folder: Path, samples: Samples) -> Case:
    words = [*samples.training(), "--steps", "1", "--out", "out"]
    return Case("train", _scattered(random, words, words_for(random, TRAIN_OPTIONS, folder, samples)))


@kind("sample options", weight=3)
def sample_options(random: Random, folder: Path, samples: Samples) -> Case:
    model = random.choice([samples.labels, samples.words, samples.plain, samples.dit])
    words = ["--checkpoint", str(model), *SAMPLE, "--out", "out"]
    if random.random() < 0.3:
        words += ["--init", str(samples.images / "colour.png")]
    if random.random() < 0.2:
        words += random.choice(
            [["--explain"], ["--trace"], ["--images"], ["--array"], ["--animation", "gif"], ["--watch"]]
        )
    if random.random() < 0.3:
        words += [random.choice([*odd.TEXTS, "a dog", "a big cat"]) for _ in range(random.choice([1, 1, 2]))]
    return Case("sample", _scattered(random, words, words_for(random, SAMPLE_OPTIONS, folder, samples)))


@kind("evaluate options")
def evaluate_options(random: Random, folder: Path, samples: Samples) -> Case:
    words = [
        "--checkpoint",
        str(samples.labels),
        "--data",
        "npz",
        "--data-dir",
        str(samples.npz),
        "--json",
        "judged.json",
    ]
    words += ["--count", "4", "--steps", "1", "--backend", "numpy"]
    return Case("evaluate", _scattered(random, words, words_for(random, EVALUATE_OPTIONS, folder, samples)))


@kind("export options", weight=0.5)
def export_options(random: Random, folder: Path, samples: Samples) -> Case:
    words = ["--checkpoint", str(random.choice([samples.labels, samples.plain, samples.run, samples.edges]))]
    words += random.choice([["--out", "out"], ["--weights", "small.safetensors"]])
    return Case("export", _scattered(random, words, words_for(random, EXPORT_OPTIONS, folder, samples)))


@kind("gradcheck options", weight=0.3)
def gradcheck_options(random: Random, folder: Path, samples: Samples) -> Case:
    """Never a right command: the check itself takes long and reads nothing."""
    more = random.choice([["--threads", odd.typed(random)], ["--backend", odd.typed(random)], [odd.typed(random)]])
    more = more if more[-1] not in ("1", "2", "") else ["--threads", "0"]
    return Case(
        "gradcheck",
        ["--backend", "numpy", "--threads", "0", *more]
        if more[0] == "--backend"
        else ["--backend", "numpy", *more]
        if more[0] != "--threads"
        else ["--backend", "numpy", "--threads", "x", *more],
    )
