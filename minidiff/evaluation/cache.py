"""A classifier is trained once and kept.

Idea: a classifier is named by everything that it follows from: its images and labels, this package's code for it, and
how it was trained.  Whatever of it changes, the name changes and a new one is trained; so what is found under a name is
right, if it is whole.
After classifier.py.
"""

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from minidiff import backend, cache_folders
from minidiff.data.dataset import Numbered
from minidiff.errors import MinidiffError, one_line
from minidiff.evaluation.labels import classifier
from minidiff.evaluation.labels.classifier import TrainConfig, make_classifier
from minidiff.evaluation.scenes import attributes
from minidiff.files import check_regular, write_atomically
from minidiff.nn import Module
from minidiff.scenes import Scenes

FORMAT = "minidiff-classifier"
DRAWN = 1000  # images of an endless dataset that stand for all of them


@dataclass(frozen=True, eq=False)
class Kept:
    """A classifier, the file where it is kept, and the seconds of its training, None if it was there already."""

    model: Any
    path: Path
    seconds: float | None


def default_folder() -> Path:
    """Return where classifiers are kept: beside the compiled kernels, in the user's cache folder."""
    return cache_folders.user_folder() / "classifiers"


def classifier_for(
    dataset: Numbered,
    study: TrainConfig,
    folder: Path | None = None,
    say: Callable[[str], Any] = print,
    tell: Callable[[float], Any] = lambda loss: None,
) -> Kept:
    """Return the classifier of these images: the one that is kept or, if there is none or it is damaged, a new one.

    folder: where to keep it, by default `default_folder()`.  say: told in a line what is trained or cannot be kept.
    tell: called after each training step with its loss.
    """
    path = (folder or default_folder()) / name(dataset, study)
    what = f"classifier of {dataset.name}"
    return keep(path, what, study, partial(make_classifier, dataset), partial(classifier.train, dataset), say, tell)


def attributes_for(
    size: int,
    study: TrainConfig,
    folder: Path | None = None,
    say: Callable[[str], Any] = print,
    tell: Callable[[float], Any] = lambda loss: None,
) -> Kept:
    """Return the judge of the facts of scenes of size×size pixels: the one that is kept, or a new one."""
    sha256 = hashlib.sha256(Path(attributes.__file__).read_bytes() + Path(classifier.__file__).read_bytes())
    sha256.update(repr(sorted(asdict(study).items())).encode())
    sha256.update(fingerprint(Scenes(size, "test")).encode())
    path = (folder or default_folder()) / f"facts_of_scenes-{sha256.hexdigest()[:16]}.safetensors"
    make, train = partial(attributes.Attributes, size, size), partial(attributes.train, size)
    return keep(path, "judge of the facts of scenes", study, make, train, say, tell)


def keep(
    path: Path,
    what: str,
    study: TrainConfig,
    make: Callable[[], Module],
    train: Callable[[TrainConfig, Callable[[float], Any]], Module],
    say: Callable[[str], Any],
    tell: Callable[[float], Any],
) -> Kept:
    """Return what is kept at `path`; if there is nothing, or it is damaged, train it and keep it there."""
    try:
        if path.exists():
            return Kept(_read(path, make(), what), path, None)
    except MinidiffError as error:
        say(f"{error}: training it again")
    say(f"training a {what}: {study.steps} steps of {study.batch} images, kept in {path}")
    start = time.perf_counter()
    model = train(study, tell)
    seconds = time.perf_counter() - start
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, model)
    except OSError as error:  # a home that cannot be written: it only takes longer the next time
        say(f"the classifier is not kept: {one_line(error)}")
    return Kept(model, path, seconds)


def name(dataset: Numbered, study: TrainConfig) -> str:
    """Return the file name of a classifier: the name of its images, and the hash of all that it follows from."""
    sha256 = hashlib.sha256(Path(classifier.__file__).read_bytes())
    sha256.update(repr(sorted(asdict(study).items())).encode())
    sha256.update(fingerprint(dataset).encode())
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', dataset.name)[:40]}-{sha256.hexdigest()[:16]}.safetensors"


def fingerprint(dataset: Numbered) -> str:
    """Return the SHA-256 of all images, labels and names of classes; where images never end, of the first 1,000.

    Of the pixels: `Dataset.digest` knows an image by its file, whatever background it was laid on.
    """
    sha256 = hashlib.sha256(repr((dataset.height, dataset.width, dataset.channels, dataset.classes)).encode())
    count = DRAWN if dataset.endless else len(dataset)
    for first in range(0, count, 1000):
        images, labels = dataset.batch(np.arange(first, min(first + 1000, count)))
        sha256.update(images.tobytes())
        if labels is not None:
            sha256.update(labels.tobytes())
    return sha256.hexdigest()


def save(path: Path, model: Module) -> None:
    """Write a classifier's parameters as safetensors, with their digest."""
    tensors = {name: backend.to_numpy(p.data) for name, p in model.named_parameters().items()}
    write_atomically(path, to_safetensors(tensors, {"format": FORMAT, "digest": _digest(tensors)}))


def _read(path: Path, model: Any, what: str) -> Any:
    """Fill a classifier from a file.

    Raises MinidiffError in one line if the file cannot be read, is damaged, or is not that of such a classifier.
    """
    parameters = model.named_parameters()
    try:
        check_regular(path)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if metadata.get("format") != FORMAT or found != {n: p.planned_shape for n, p in parameters.items()}:
                raise MinidiffError(f"{path} is not a {what}")
            tensors = {name: file.get_tensor(name) for name in found}
    except OSError as error:
        raise MinidiffError(f"cannot read the classifier: {one_line(error)}") from error
    except SafetensorError as error:
        raise MinidiffError(f"the classifier {path} is damaged: {error}") from error
    if metadata.get("digest") != _digest(tensors):
        raise MinidiffError(f"the classifier {path} is damaged: its content does not match its digest")
    for name, parameter in parameters.items():
        parameter.data = backend.to_device(tensors[name]).copy()
    return model


def _digest(tensors: dict[str, np.ndarray]) -> str:
    sha256 = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        sha256.update(f"{name} {array.dtype} {array.shape}\0".encode())
        sha256.update(array.tobytes())
    return sha256.hexdigest()
