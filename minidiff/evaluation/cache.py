"""Trained classifiers are kept in files, so that each is trained once.

Idea: the name of a file contains a hash of the images and labels (of an endless dataset, the first 1,000), of the code
of the network and of its training loop, and of the training settings.  When any of these changes, the name changes and
a new classifier is trained.  Each file also contains a digest of its parameters: if it does not match, the file is
damaged, and the classifier is trained again.
Leaves out changes in the layers and in the optimiser, whose code is not hashed.
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
from minidiff.evaluation import convnet
from minidiff.evaluation.convnet import TrainConfig
from minidiff.evaluation.labels import classifier
from minidiff.evaluation.scenes import attributes
from minidiff.files import check_regular, write_atomically
from minidiff.nn import Module
from minidiff.scenes import Scenes

FORMAT = "minidiff-classifier"
FINGERPRINT_IMAGES = 1000  # images of an endless dataset that its fingerprint is made of


@dataclass(frozen=True, eq=False)
class CachedClassifier:
    """A classifier, the file that keeps it, and the seconds that its training took (None if the file was read)."""

    model: Any
    path: Path
    seconds: float | None


def default_folder() -> Path:
    """Return the folder of the classifiers: beside the compiled kernels, in the user's cache folder."""
    return cache_folders.user_folder() / "classifiers"


def classifier_for(
    dataset: Numbered,
    config: TrainConfig,
    folder: Path | None = None,
    log: Callable[[str], Any] = print,
    on_step: Callable[[float], Any] = lambda loss: None,
) -> CachedClassifier:
    """Return the classifier of a dataset: read from its file, or trained if the file is missing or damaged.

    folder: where the files are, by default `default_folder()`.  log: called with a line of text when a classifier is
    trained or cannot be written.  on_step: called after each training step with its loss.
    """
    path = (folder or default_folder()) / name(dataset, config)
    make, train = partial(classifier.make_classifier, dataset), partial(classifier.train, dataset)
    return load_or_train(path, f"classifier of {dataset.name}", config, make, train, log, on_step)


def attribute_classifier_for(
    size: int,
    config: TrainConfig,
    folder: Path | None = None,
    log: Callable[[str], Any] = print,
    on_step: Callable[[float], Any] = lambda loss: None,
) -> CachedClassifier:
    """Return the classifier of the facts of scenes of size × size pixels; arguments as in `classifier_for`."""
    sha256 = _hash_of(attributes.__file__, config, Scenes(size, "test"))
    path = (folder or default_folder()) / f"facts_of_scenes-{sha256[:16]}.safetensors"
    make, train = partial(attributes.AttributeClassifier, size, size), partial(attributes.train, size)
    return load_or_train(path, "classifier of the facts of scenes", config, make, train, log, on_step)


def load_or_train(
    path: Path,
    what: str,
    config: TrainConfig,
    make: Callable[[], Module],
    train: Callable[[TrainConfig, Callable[[float], Any]], Module],
    log: Callable[[str], Any],
    on_step: Callable[[float], Any],
) -> CachedClassifier:
    """Return the classifier in the file `path`; if it is missing or damaged, train one and write it there."""
    try:
        if path.exists():
            return CachedClassifier(_read(path, make(), what), path, None)
    except MinidiffError as error:
        log(f"{error}: training it again")
    log(f"training a {what}: {config.steps} steps of {config.batch_size} images, kept in {path}")
    start = time.perf_counter()
    model = train(config, on_step)
    seconds = time.perf_counter() - start
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, model)
    except OSError as error:  # a home folder that cannot be written to costs time at the next evaluation, no more
        log(f"the classifier is not kept: {one_line(error)}")
    return CachedClassifier(model, path, seconds)


def name(dataset: Numbered, config: TrainConfig) -> str:
    """Return the file name of a classifier: the name of its dataset, and the hash of all that it depends on."""
    sha256 = _hash_of(classifier.__file__, config, dataset)
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', dataset.name)[:40]}-{sha256[:16]}.safetensors"


def _hash_of(code: str, config: TrainConfig, dataset: Numbered) -> str:
    """Return the SHA-256 of a classifier's code, training settings and data.  code: the file of its network."""
    sha256 = hashlib.sha256(Path(code).read_bytes() + Path(convnet.__file__).read_bytes())
    sha256.update(repr(sorted(asdict(config).items())).encode())
    sha256.update(fingerprint(dataset).encode())
    return sha256.hexdigest()


def fingerprint(dataset: Numbered) -> str:
    """Return the SHA-256 of all images, labels and class names; of an endless dataset, of the first 1,000 images.

    It hashes pixels.  `Dataset.digest` will not do: it hashes image files, and one file has other pixels on another
    background.
    """
    sha256 = hashlib.sha256(repr((dataset.height, dataset.width, dataset.channels, dataset.classes)).encode())
    count = FINGERPRINT_IMAGES if dataset.endless else len(dataset)
    for first in range(0, count, 1000):
        images, labels = dataset.batch(np.arange(first, min(first + 1000, count)))
        sha256.update(images.tobytes())
        if labels is not None:
            sha256.update(labels.tobytes())
    return sha256.hexdigest()


def save(path: Path, model: Module) -> None:
    """Write a classifier's parameters as a safetensors file with their digest."""
    tensors = {name: backend.to_numpy(p.data) for name, p in model.named_parameters().items()}
    write_atomically(path, to_safetensors(tensors, {"format": FORMAT, "digest": _digest(tensors)}))


def _read(path: Path, model: Any, what: str) -> Any:
    """Fill the parameters of a classifier from a file.

    Raises MinidiffError in one line if the file cannot be read, is damaged, or holds another kind of classifier.
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
