"""The command that evaluates a model: `python -m minidiff.evaluate --checkpoint runs/my-run`.

Idea: a claim that a model draws well needs a measurement.  This command makes one, prints it, and stores it with
everything that it depends on: the checkpoint, the data, the settings and the seeds.  A model that reads prompts is
evaluated by evaluation/scenes/, a model with class labels by evaluation/labels/, an autoencoder by
evaluation/autoencoder/; a model with neither prompts nor labels is refused.
Leaves out what is measured: the files judge.py in these folders are the places to start.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from minidiff import backend, command_line
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint import Checkpoint
from minidiff.command_line import BackendName
from minidiff.data.config import DataConfig, DataName
from minidiff.errors import MAX_PRINTED, MinidiffError, exit_with_one_line, printable
from minidiff.evaluation.autoencoder import report as autoencoder_report
from minidiff.evaluation.autoencoder.judge import judge_autoencoder
from minidiff.evaluation.cache import attribute_classifier_for, classifier_for
from minidiff.evaluation.labels.classifier import train_config_for
from minidiff.evaluation.labels.judge import check, judge
from minidiff.evaluation.labels.report import misread_sheet, summary, table
from minidiff.evaluation.reduce import at_size, judge_size
from minidiff.evaluation.samples import EvaluationSampling
from minidiff.evaluation.scenes import attributes
from minidiff.evaluation.scenes import report as scenes_report
from minidiff.evaluation.scenes.judge import check as check_scenes
from minidiff.evaluation.scenes.judge import judge_scenes
from minidiff.evaluation.split import held_out_images, train_and_test_sets
from minidiff.files import write_atomically
from minidiff.images.files import save_png
from minidiff.limits import check_limits
from minidiff.nn.autoencoder import AutoencoderConfig
from minidiff.pipeline.loading import load, pipeline_of
from minidiff.pipeline.pipeline import Pipeline
from minidiff.processes import world
from minidiff.processes.command import join
from minidiff.processes.nccl import select_gpu
from minidiff.training.console import progress_bar

SCENES_JUDGE, LABELS_JUDGE = 32, 64  # the height of the images that classifiers look at, by default at most
LEAST_SCENES_JUDGE, LEAST_LABELS_JUDGE = 16, 4
AUTOENCODER_IMAGES = 2000  # by default


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluate a model: the share of its samples that show their label or what their prompt says, their distance to
    real images, and the loss on images held out from training. Or an autoencoder: how close held-out images come back
    from their latents."""

    checkpoint: Path | None = None
    """The model: a checkpoint file, or the folder of a training run for its newest checkpoint. Default: the weights
    that minidiff comes with."""
    data: DataName | None = None
    """The real images. Default: the data that the model was trained on."""
    data_dir: Path | None = None
    """Folder or file of the real images. Default: that of training."""
    download: bool = False
    """Download the files that are missing in --data-dir (mnist, fashion-mnist, cifar10)."""
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Checkpoint of a ControlNet or an IP-Adapter of this model, which is evaluated with it. May be repeated."""
    judge_size: int | None = None
    """Height of the images that the classifiers look at; larger ones are reduced to it. A classifier of large images
    takes long to train, and models of different sizes can be compared only by the same one. Default: the height of the
    model's images, but at most 32 for a model that reads prompts, and 64 for one with labels."""
    sampling: EvaluationSampling = field(default_factory=EvaluationSampling)
    json: Path | None = None
    """New file for the results; misread.png, or reconstructions.png of an autoencoder, is written beside it. Default:
    evaluation.json beside the checkpoint, which replaces the results of an earlier evaluation."""
    backend: BackendName = "auto"
    threads: int | None = None
    """CPU threads, for numpy those of its BLAS. Default: all that this process may use."""


@exit_with_one_line
@np.errstate(all="ignore")  # the pipeline reports infinities and NaN once
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the process."""
    with join():
        evaluate(command_line.read(EvaluateConfig, "evaluate", sys.argv[1:] if arguments is None else arguments))


def evaluate(config: EvaluateConfig) -> None:
    """Evaluate a model with these settings."""
    backend.on_compile(log)
    backend.use(config.backend, config.threads)
    select_gpu(world.current())
    model = opened(config.checkpoint)
    if isinstance(model, Checkpoint):
        evaluate_autoencoder(config, model)
        return
    for path in config.adapter:
        model = model.with_adapter(path)
    if model.tokenizer is None and not model.classes:
        raise MinidiffError(f"{model.path} was trained without labels: nothing is known that its samples should show")
    config = replace(config, sampling=settled(config.sampling, model))
    if model.tokenizer is not None:
        evaluate_scenes(config, model)
    else:
        evaluate_labels(config, model)


def opened(path: Path | None) -> Pipeline | Checkpoint:
    """Return the model in a checkpoint, None for that which minidiff comes with; of an autoencoder the checkpoint."""
    if path is None:
        return load()
    found = checkpoints.find(path, warn=log)
    return found if isinstance(found.trained, AutoencoderConfig) else pipeline_of(found)


def settled(sampling: EvaluationSampling, model: Pipeline) -> EvaluationSampling:
    """Return the settings with the model's defaults in the place of None, as the report states them."""
    names = ("spacing", "clip", "variance") if sampling.sampler == "ddpm" else ("spacing", "clip")
    defaults = {name: getattr(model.defaults, name) for name in names if getattr(sampling, name) is None}
    scale = model.guidance(sampling.guidance_scale)
    return replace(
        sampling, count=sampling.number, steps=model.steps_of(sampling.steps), guidance_scale=scale, **defaults
    )


def evaluate_labels(config: EvaluateConfig, model: Pipeline) -> None:
    """Evaluate a model with class labels."""
    target, sampling = json_path(config), config.sampling
    assert model.config is not None  # as it is for checkpoints
    size = judge_size(config.judge_size, model.shape, LEAST_LABELS_JUDGE, LABELS_JUDGE)
    data = data_config(config, model.config.data, model.shape, model.classes)
    train_set, test_set = world.current().one_first(lambda: train_and_test_sets(data))  # which may download them
    check(model, test_set, sampling)

    train_set = at_size(train_set, *size)
    training = train_config_for(train_set)
    with progress_bar("training the classifier", total=training.steps, unit="step", leave=False, delay=1.0) as bar:
        classifier = classifier_for(train_set, training, log=log, on_step=lambda loss: bar.update())
    total = sampling.number * model.steps_of(sampling.steps)
    with progress_bar("sampling", total=total, unit="image step", leave=False) as bar:
        results = judge(model, classifier, test_set, sampling, bar.update, train_set)
    if world.current().rank:
        return

    result = summary(model, test_set, classifier, sampling, results)
    show(table(result))
    sheet = misread_sheet(results, model.classes)
    write(target, result, new=config.json is not None)
    if sheet is not None:
        path = target.with_name("misread.png")
        save_png(path, sheet, {"command": "evaluate", "checkpoint_sha256": result["checkpoint"]["sha256"]})
        show(f"                 {path}")


def evaluate_scenes(config: EvaluateConfig, model: Pipeline) -> None:
    """Evaluate a model that reads prompts about scenes, with its adapters."""
    if config.data is not None or config.data_dir is not None:
        raise MinidiffError(f"{model.path} reads prompts and is evaluated on scenes; --data is for models with labels")
    target, sampling = json_path(config), config.sampling
    check_scenes(model, sampling)
    size, _ = judge_size(config.judge_size, model.shape, LEAST_SCENES_JUDGE, SCENES_JUDGE)
    trainings = [attributes.train_config_for(seed) for seed in (1, 2)]
    steps = sum(training.steps for training in trainings)
    with progress_bar("training the classifiers", total=steps, unit="step", leave=False, delay=1.0) as bar:
        classifiers = [
            attribute_classifier_for(size, training, log=log, on_step=lambda loss: bar.update()).model
            for training in trainings
        ]
    sets = 2 + 2 * sum(kind in model.adapters for kind in ("edges", "reference"))
    total = sets * sampling.number * model.steps_of(sampling.steps)
    with progress_bar("sampling", total=total, unit="image step", leave=False) as bar:
        result = judge_scenes(model, classifiers, sampling, bar.update)
    if world.current().rank:
        return
    show(scenes_report.table(result))
    write(target, result, new=config.json is not None)


def evaluate_autoencoder(config: EvaluateConfig, checkpoint: Checkpoint) -> None:
    """Evaluate an autoencoder on held-out images."""
    network, sampling = checkpoint.trained, config.sampling
    assert isinstance(network, AutoencoderConfig)  # `opened` saw it
    check_autoencoder(config, checkpoint)
    target = json_path(config)
    shape = network.height, network.width, network.channels
    data = data_config(config, checkpoint.config.data, shape)
    count = sampling.count or AUTOENCODER_IMAGES
    dataset, index = world.current().one_first(lambda: held_out_images(data, count, sampling.seed))
    theirs = dataset.height, dataset.width, dataset.channels
    if theirs != shape:
        raise MinidiffError(
            f"{checkpoint.path} was trained on images of {shape}; those of {dataset.name} have {theirs}"
        )

    model = checkpoints.make_network(checkpoint)
    with progress_bar("encoding and decoding", total=len(index), unit="image", leave=False) as bar:
        results = judge_autoencoder(model, dataset, index, bar.update)
    if world.current().rank:
        return

    step, seed = checkpoint.step, sampling.seed
    result = autoencoder_report.summary(checkpoint.path, step, network, dataset.name, seed, results)
    show(autoencoder_report.table(result))
    write(target, result, new=config.json is not None)
    path = target.with_name("reconstructions.png")
    about = {"command": "evaluate", "checkpoint_sha256": result["checkpoint"]["sha256"]}
    save_png(path, autoencoder_report.sheet(results), about)
    show(f"                 {path}")


def check_autoencoder(config: EvaluateConfig, checkpoint: Checkpoint) -> None:
    """Raise MinidiffError for settings that have a meaning only for models that draw, or are out of their range."""
    sampling, default = config.sampling, EvaluationSampling()
    used = {"count": sampling.count, "seed": sampling.seed}
    given = [each.name for each in fields(sampling) if getattr(sampling, each.name) != getattr(default, each.name)]
    given += [name for name in ("adapter", "judge_size") if getattr(config, name) not in ((), None)]
    for name in given:
        if name not in used:
            option = name.replace("_", "-")
            raise MinidiffError(f"{checkpoint.path} is an autoencoder; --{option} is for models that draw")
    check_limits(used, "--{}")


def json_path(config: EvaluateConfig) -> Path:
    """Return the file for the results.  Raises MinidiffError, before minutes of work, if it cannot be written there."""
    if config.checkpoint is None:
        beside = Path()
    else:
        beside = config.checkpoint if config.checkpoint.is_dir() else config.checkpoint.parent
    target = config.json or beside / "evaluation.json"
    if not target.parent.is_dir():
        raise MinidiffError(f"--json {target}: there is no folder {target.parent}")
    if (target.exists() or target.is_symlink()) and not target.is_file():
        raise MinidiffError(f"--json {target} is a folder, a device or a link to nothing; expected a file")
    if config.json is not None and target.exists():
        raise MinidiffError(f"--json {target} exists, and nothing is overwritten; name another file")
    return target


def write(target: Path, result: dict[str, Any], new: bool) -> None:
    """Write the results.  new: raise MinidiffError if the file exists, even if it was created during the evaluation."""
    write_atomically(target, json.dumps(result, indent=1, allow_nan=False).encode(), new)
    show(f"written          {target}")


def data_config(
    config: EvaluateConfig, trained: DataConfig, shape: tuple[int, int, int], classes: tuple[str, ...] = ()
) -> DataConfig:
    """Return the settings of the real images: the training's or the requested ones, in the model's size and colours.

    trained: the settings of the training.  shape: of the model's images.  classes: of the model.
    """
    data = trained.data if config.data is None else config.data
    height, width, channels = shape
    return DataConfig(
        data=data,
        data_dir=config.data_dir or (trained.data_dir if data == trained.data else None),
        size={"scenes": (height,), "folder": (height, width)}.get(data),
        grey=channels == 1 and data != "scenes",
        background=trained.background,
        folder_labels=data == "folder" and bool(classes),
        captions="none" if classes or data != trained.data else trained.captions,
        download=config.download,
    )


def show(text: str) -> None:
    """Print lines; names from files in them are escaped."""
    print("\n".join(printable(line, MAX_PRINTED) for line in text.split("\n")))


def log(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(printable(line, MAX_PRINTED), file=sys.stderr)


if __name__ == "__main__":
    main()
