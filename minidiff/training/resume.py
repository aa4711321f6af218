"""Checking whether a training can be resumed from a checkpoint.

Idea: a step depends on the weights and AdamW's moments, which the checkpoint contains.  It also depends on the
settings, the images, the network and, for an adapter, the base model, which the checkpoint describes.  These are
compared with those of the resumed run, except for the settings in `CHANGEABLE`.  The first difference is reported with
both values, because the result would no longer be that of one uninterrupted run.
Leaves out the shapes of the tensors: `checkpoint.restore`.
"""

from dataclasses import fields

from minidiff.checkpoint import Checkpoint
from minidiff.checkpoint.config import Config
from minidiff.data.dataset import Dataset
from minidiff.errors import MinidiffError, printable
from minidiff.nn import DenoiserConfig
from minidiff.nn.autoencoder import AutoencoderConfig

# The settings that may differ when a run is resumed.  steps and minutes change the learning rate of later steps,
# backend and threads the rounding; the others change nothing that a step computes.  The paths of the images and of an
# adapter's base model may change; their content is compared.
CHANGEABLE = {
    "data_dir", "download", "onto", "steps", "minutes", "backend", "threads", "save_every", "keep", "preview_every",
}  # fmt: skip


def check_resumable(
    checkpoint: Checkpoint,
    config: Config,
    network: DenoiserConfig | AutoencoderConfig,
    dataset: Dataset,
    base: Checkpoint | None,
) -> None:
    """Raise MinidiffError unless a training that goes on from `checkpoint` has the same settings, data and base.

    network: the shape that settings and data ask for.  base: the model below an adapter, None without one.
    """
    check_settings(checkpoint, config)
    _check_labels(checkpoint, dataset)
    if not isinstance(network, AutoencoderConfig):
        _check_captions(checkpoint, network, dataset)
    start = f"{checkpoint.path} was trained on"
    there, here = ((each.height, each.width, each.channels) for each in (checkpoint.trained, network))
    if there != here:
        theirs, ours = ("×".join(map(str, shape)) for shape in (there, here))
        raise MinidiffError(f"{start} images of {theirs}; the data has {ours}")
    now = dataset.digest
    if checkpoint.data and checkpoint.data != now:
        raise MinidiffError(
            f"{start} other images than {dataset.name} now holds: their digest was {checkpoint.data[:16]}, it is "
            f"{now[:16]}; put the images back as they were, or train anew"
        )
    if base is not None and checkpoint.base != base.identity:
        raise MinidiffError(
            f"{checkpoint.path} was added to the model with the digest {checkpoint.base[:16]}; that of {base.path} is "
            f"{base.identity[:16]}: name the former with --onto"
        )


def check_settings(checkpoint: Checkpoint, config: Config) -> None:
    """Raise MinidiffError if a resumed run has other settings than its checkpoint, except those in `CHANGEABLE`."""
    for concern in fields(Config):
        was, now = getattr(checkpoint.config, concern.name), getattr(config, concern.name)
        for name in (each.name for each in fields(was)):
            if name not in CHANGEABLE and getattr(was, name) != getattr(now, name):
                what = "is of another network" if concern.name == "model" else "was trained with other settings"
                option = name.replace("_", "-")
                raise MinidiffError(
                    f"{checkpoint.path} {what}: --{option} {_show(getattr(was, name))} there, "
                    f"{_show(getattr(now, name))} asked"
                )


def _check_labels(checkpoint: Checkpoint, dataset: Dataset) -> None:
    if checkpoint.classes != dataset.classes:
        theirs, ours = (printable(" ".join(names) or "none") for names in (checkpoint.classes, dataset.classes))
        raise MinidiffError(f"{checkpoint.path} was trained on the labels {theirs}; the data has {ours}")


def _check_captions(checkpoint: Checkpoint, network: DenoiserConfig, dataset: Dataset) -> None:
    """Raise MinidiffError unless the checkpoint has the vocabulary and the length of the captions of the data."""
    theirs, start = checkpoint.words, f"{checkpoint.path} was trained"
    ours = dataset.tokenizer.words if dataset.tokenizer else ()
    if bool(theirs) != bool(ours):
        has, lacks = ("on captions", "none") if theirs else ("without captions", "some")
        raise MinidiffError(f"{start} {has}; the data has {lacks}")
    if theirs != ours:
        other = min(set(theirs) ^ set(ours), default="their order")
        where = "there" if other in theirs else "in the data"
        raise MinidiffError(f"{start} on captions with other words than the data has; only {where} is {other!r}")
    there, here = checkpoint.network.max_tokens, network.max_tokens
    if there != here:
        raise MinidiffError(f"{start} on captions of up to {there} words; the data has up to {here}")


def _show(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
