"""The command that judges: `python -m minidiff.evaluate --checkpoint runs/my-run`.

Idea: whoever says that a model draws well says how that was measured, so this prints and keeps the measurement with
everything that it depends on.  Everything that it does stands in evaluation/; judge.py is the place to start.
Last in the reading order.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from minidiff import backend, command_line
from minidiff.command_line import BackendName
from minidiff.data.config import DataConfig, DataName
from minidiff.errors import MAX_PRINTED, MinidiffError, exit_with_one_line, printable
from minidiff.evaluation.cache import attributes_for, classifier_for
from minidiff.evaluation.labels.classifier import train_config_for
from minidiff.evaluation.labels.judge import Drawing, check, judge
from minidiff.evaluation.labels.report import misread_sheet, summary, table
from minidiff.evaluation.scenes import attributes as facts
from minidiff.evaluation.scenes import report as scenes_report
from minidiff.evaluation.scenes.judge import check as check_scenes
from minidiff.evaluation.scenes.judge import judge_scenes
from minidiff.evaluation.split import train_and_test_sets
from minidiff.files import write_atomically
from minidiff.images.files import save_png
from minidiff.pipeline.loading import load
from minidiff.pipeline.pipeline import Pipeline
from minidiff.training.console import progress_bar


@dataclass(frozen=True)
class EvaluateConfig:
    """Judge a model: the share of its samples that classifiers read as what was asked for, by label or in words, their
    distance to real images, and the loss on images held out from training."""

    checkpoint: Path | None = None
    """The model: a checkpoint file, or a training's folder for its newest checkpoint. None given: the weights that
    minidiff comes with."""
    data: DataName | None = None
    """The real images. None given: those that the model was trained on."""
    data_dir: Path | None = None
    """Where the real images lie. None given: where they lay for training."""
    download: bool = False
    """Fetch what is missing in --data-dir (mnist, fashion-mnist, cifar10)."""
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """What was trained onto the model to follow drawings or references: judged, too."""
    drawing: Drawing = field(default_factory=Drawing)
    json: Path | None = None
    """New file for the results; misread.png goes beside it. None given: evaluation.json beside the checkpoint, which
    replaces that of the evaluation before."""
    backend: BackendName = "auto"
    threads: int | None = None
    """CPU threads that compute, for numpy those of its BLAS. None given: all that this process may use."""


@exit_with_one_line
@np.errstate(all="ignore")  # what leaves the range of numbers is said once, by the pipeline
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default the process's."""
    config = command_line.read(EvaluateConfig, "evaluate", sys.argv[1:] if arguments is None else arguments)
    backend.on_compile(say)
    backend.use(config.backend, config.threads)
    model = load(config.checkpoint)
    for path in config.adapter:
        model = model.with_adapter(path)
    config = replace(config, drawing=replace(config.drawing, steps=model.steps_of(config.drawing.steps)))
    if model.tokenizer is not None:
        return listen_to(config, model)
    if not model.classes:
        raise MinidiffError(f"{model.path} was trained without labels, so no sample of it is asked to show anything")
    target = json_path(config)
    study, exam = train_and_test_sets(data_config(config, model))
    check(model, exam, config.drawing)

    lesson = train_config_for(study)
    with progress_bar("training the classifier", total=lesson.steps, unit="step", leave=False, delay=1.0) as bar:
        kept = classifier_for(study, lesson, say=say, tell=lambda loss: bar.update())
    drawing = config.drawing
    total = drawing.count * model.steps_of(drawing.steps)
    with progress_bar("drawing", total=total, unit="image step", leave=False) as bar:
        verdict = judge(model, kept, exam, drawing, tell=bar.update, study=study)

    result = summary(model, exam, kept, drawing, verdict)
    show(table(result))
    sheet = misread_sheet(verdict, model.classes)
    write(target, result, new=config.json is not None)
    if sheet is not None:
        path = target.with_name("misread.png")
        save_png(path, sheet, {"command": "evaluate", "checkpoint_sha256": result["checkpoint"]["sha256"]})
        show(f"                 {path}")


def listen_to(config: EvaluateConfig, model: Pipeline) -> None:
    """Judge a model that reads prompts about scenes, and its adapters."""
    if config.data is not None or config.data_dir is not None:
        raise MinidiffError(f"{model.path} reads prompts and is judged by scenes; --data is for models with labels")
    target, drawing = json_path(config), config.drawing
    check_scenes(model, drawing)
    lessons = [facts.train_config_for(seed) for seed in (1, 2)]
    with progress_bar("training the judges", total=2 * facts.STEPS, unit="step", leave=False, delay=1.0) as bar:
        judges = [attributes_for(model.shape[0], lesson, say=say, tell=lambda loss: bar.update()) for lesson in lessons]
    sets = 2 + 2 * sum(kind in model.adapters for kind in ("edges", "reference"))
    total = sets * drawing.count * model.steps_of(drawing.steps)
    with progress_bar("drawing", total=total, unit="image step", leave=False) as bar:
        result = judge_scenes(model, [kept.model for kept in judges], drawing, tell=bar.update)
    show(scenes_report.table(result))
    write(target, result, new=config.json is not None)


def json_path(config: EvaluateConfig) -> Path:
    """Return the file for the results; that its folder is missing is said now, not after minutes of work."""
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
    """Write the results; new: no file may be there, not even one that came meanwhile."""
    write_atomically(target, json.dumps(result, indent=1, allow_nan=False).encode(), new)
    show(f"written          {target}")


def data_config(config: EvaluateConfig, model: Pipeline) -> DataConfig:
    """Return which real images judge: the training's or those asked for, in the model's size and colours."""
    assert model.config is not None  # as it is for checkpoints
    trained = model.config.data
    data = trained.data if config.data is None else config.data
    height, _, channels = model.shape
    return DataConfig(
        data=data,
        data_dir=config.data_dir or (trained.data_dir if data == trained.data else None),
        size=height if data in ("scenes", "folder") else None,
        grey=channels == 1 and data != "scenes",
        background=trained.background,
        folder_labels=data == "folder" and bool(model.classes),
        captions="none" if model.classes else trained.captions,
        download=config.download,
    )


def show(text: str) -> None:
    """Print lines, in which there are names from files."""
    print("\n".join(printable(line, MAX_PRINTED) for line in text.split("\n")))


def say(line: str) -> None:
    """Print a line above the progress bar."""
    tqdm.write(printable(line, MAX_PRINTED), file=sys.stderr)


if __name__ == "__main__":
    main()
