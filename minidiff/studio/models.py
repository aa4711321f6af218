"""The models that can be chosen in the studio, by ids: the one at its start, every run under runs/, diffusers folders.

Idea: an id is given out here and looked up here, so that no path ever comes from a browser.  A model is read when it is
first drawn with, and a run is read again when it has a newer checkpoint.
Loading runs kernels, so it belongs to the engine's thread (engine.py).
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from safetensors import SafetensorError, safe_open

from minidiff import checkpoint as checkpoints
from minidiff import interop
from minidiff.checkpoint.config import Config
from minidiff.checkpoint.settings import read_toml
from minidiff.diffusion.clipping import Clip
from minidiff.diffusion.solvers import SAMPLERS
from minidiff.errors import MinidiffError, printable
from minidiff.files import check_regular, parse_json, sha256
from minidiff.pipeline.loading import SMALL, WEIGHTS, load, load_diffusers
from minidiff.pipeline.pipeline import Pipeline
from minidiff.sampling.request import SampleRequest
from minidiff.studio.config import StudioConfig
from minidiff.studio.runs import SETTINGS

MAX_LOADED = 3  # models in memory; of more, the one that was used longest ago is dropped
MAX_RUNS = 200  # runs that are offered


@dataclass
class ModelEntry:
    """A model that can be chosen.  kind: shipped, file, run or diffusers.  path: None for the shipped weights."""

    id: str
    name: str
    kind: str
    path: Path | None
    adapters: tuple[Path, ...] = ()
    pipeline: Pipeline | None = field(default=None, repr=False)
    about: Mapping[str, Any] = field(default_factory=dict)  # what a client may know, once it is loaded
    version: Any = None  # of its files, when they were read
    digest: str = ""  # the SHA-256 of the file that was read

    def request(self) -> SampleRequest:
        """Return the request that names this model, as the command line would."""
        if self.kind == "diffusers":
            return SampleRequest(diffusers=self.path)
        return SampleRequest(checkpoint=self.path, adapter=self.adapters)


class Models:
    """All models, in the order in which they are offered; the first one is that of the command line."""

    def __init__(self, config: StudioConfig, runs: Path = Path("runs")) -> None:
        self.runs = runs
        self._used: list[str] = []
        self._lock = threading.Lock()  # of entries: the web server scans, the engine loads
        self.entries: dict[str, ModelEntry] = {}
        kind = "shipped" if config.checkpoint is None else "run" if config.checkpoint.is_dir() else "file"
        name = WEIGHTS.stem if config.checkpoint is None else config.checkpoint.name
        self._add(name, kind, config.checkpoint, config.adapter)
        for path in config.diffusers:
            self._add(path.name, "diffusers", path)
        if config.checkpoint is None and SMALL.is_file():
            self._add(SMALL.stem, "file", SMALL)

    def _add(self, name: str, kind: str, path: Path | None, adapters: tuple[Path, ...] = ()) -> None:
        id = f"m{len(self.entries)}"
        self.entries[id] = ModelEntry(id, printable(name, 60), kind, path, adapters)

    def scan(self) -> list[ModelEntry]:
        """Look for new runs, and return all entries."""
        found = sorted(self.runs.glob(f"*/{checkpoints.CHECKPOINTS}/step_*.safetensors"), reverse=True)
        with self._lock:
            known = {entry.path for entry in self.entries.values()}
            for folder in list(dict.fromkeys(path.parent.parent for path in found))[:MAX_RUNS]:
                if folder not in known and len(self.entries) <= MAX_RUNS and not _is_adapter(folder):
                    self._add(folder.name, "run", folder)
            return list(self.entries.values())

    def of_run(self, folder: Path) -> str | None:
        """Return the id of the model of a run, None without a checkpoint."""
        return next((entry.id for entry in self.scan() if entry.path == folder), None)

    def entry(self, id: object) -> ModelEntry:
        """Return the entry with an id.  Raises MinidiffError if there is none."""
        with self._lock:
            found = self.entries.get(id) if isinstance(id, str) else None
        if found is None:
            raise MinidiffError(f"there is no model {printable(id, 30)!r} here; choose one of those that are offered")
        return found

    def load(self, id: object) -> tuple[ModelEntry, Pipeline]:
        """Return a model that is ready to draw; on the engine's thread only.

        Raises MinidiffError if it cannot be read, or is an adapter.
        """
        entry = self.entry(id)
        version = _version(entry)
        if entry.pipeline is None or entry.version != version:
            pipeline = load_diffusers(entry.path) if entry.kind == "diffusers" and entry.path else load(entry.path)
            for path in entry.adapters:
                pipeline = pipeline.with_adapter(path)
            entry.digest = digest(pipeline.path)
            if _version(entry) != version:
                raise MinidiffError(f"the files of the model {entry.name} changed while they were read; try again")
            entry.pipeline, entry.about, entry.version = pipeline, describe(pipeline), version
        self._used = [*(each for each in self._used if each != entry.id), entry.id]
        for old in self._used[:-MAX_LOADED]:
            self.entries[old].pipeline = None
        self._used = self._used[-MAX_LOADED:]
        return entry, entry.pipeline

    def with_digest(self, digest: str) -> str | None:
        """Return the id of the model whose file has this SHA-256, None if there is none."""
        return next((entry.id for entry in self.scan() if _digest_of(entry) == digest), None)

    def views(self) -> list[dict[str, Any]]:
        """Return what a client may know of all models."""
        return [view(entry) for entry in self.scan()]


def view(entry: ModelEntry) -> dict[str, Any]:
    """Return what a client may know of a model."""
    return {"id": entry.id, "name": entry.name, "kind": entry.kind, "loaded": bool(entry.about), **entry.about}


def describe(pipeline: Pipeline) -> dict[str, Any]:
    """Return what a page needs to offer only what a model can do."""
    height, width, channels = pipeline.shape
    tokenizer, defaults = pipeline.tokenizer, pipeline.defaults
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "latent": None if pipeline.space.autoencoder_config is None else list(pipeline.noise_shape),
        "prompts": tokenizer is not None,
        "words": sorted(tokenizer.words) if tokenizer else [],
        "max_tokens": tokenizer.max_tokens if tokenizer else 0,
        "classes": list(pipeline.classes),
        "adapters": list(pipeline.adapters),
        "max_steps": pipeline.process.schedule.T,
        "steps": pipeline.steps_of(None),
        "guidance_scale": pipeline.guidance(None),
        "reference_scale": SampleRequest().reference_scale,
        "sampler": SampleRequest().sampler,
        "samplers": list(SAMPLERS),
        "spacing": defaults.spacing,
        "clip": defaults.clip if isinstance(defaults.clip, str) else defaults.clip.kind,
        "clips": ["none"] if pipeline.space.clip == "none" else list(get_args(Clip)),
        "step": pipeline.step,
    }


@lru_cache(2 * MAX_RUNS)
def _is_adapter(folder: Path) -> bool:
    """Whether a run trains an adapter, which cannot draw alone."""
    try:
        return read_toml(Config, folder / SETTINGS).addition.adapter != "none"
    except (OSError, MinidiffError):
        return False


def reads_prompts(folder: Path) -> bool | None:
    """Return whether the model of a run reads prompts; None if there is no checkpoint that tells."""
    newest = _newest(folder)
    return None if newest is None else _has_words(newest)


@lru_cache(2 * MAX_RUNS)
def _has_words(path: Path) -> bool | None:
    """Whether a checkpoint has a vocabulary; only its metadata is read."""
    try:
        check_regular(path)
        with safe_open(path, framework="numpy") as file:
            about = parse_json((file.metadata() or {}).get(checkpoints.KEY, ""), f"{path}: its metadata")
    except (OSError, MinidiffError, SafetensorError):
        return None
    return bool(about.get("words")) if isinstance(about, dict) else None


def _newest(folder: Path | None) -> Path | None:
    paths = [] if folder is None else checkpoints.paths_in(folder)
    return paths[-1] if paths else None


def _version(entry: ModelEntry) -> Any:
    """Return what changes when the files of a model do; files that are gone do not count, as what was read stays."""
    path = WEIGHTS if entry.path is None else entry.path
    files = [path, *entry.adapters] if entry.kind != "run" else [_newest(path) or path, *entry.adapters]
    found = []
    for file in files:
        try:
            status = file.stat()
            found.append((file, status.st_mtime_ns if file.is_file() else 0, status.st_size if file.is_file() else 0))
        except OSError:
            return entry.version
    return found


def stored(request: SampleRequest, entry: ModelEntry, pipeline: Pipeline) -> SampleRequest:
    """Return the request as it is stored: with the checkpoint that was read, not the folder that it was found in."""
    return request if entry.kind in ("shipped", "diffusers") else replace(request, checkpoint=pipeline.path)


def digest(file: Path) -> str:
    """Return the SHA-256 of a file; it is read again only if it has changed."""
    status = file.stat()
    return _digest(file, status.st_mtime_ns, status.st_size)


@lru_cache(256)
def _digest(file: Path, changed: int, size: int) -> str:
    return sha256(file)


def _digest_of(entry: ModelEntry) -> str | None:
    """Return the SHA-256 of the file of a model, None if it has none that can be read."""
    path = entry.path
    try:
        if entry.kind == "shipped":
            path = WEIGHTS
        elif entry.kind == "diffusers" and path is not None:
            path = interop.files_of(path)[1]
        elif path is not None and path.is_dir():
            path = _newest(path)
        return None if path is None else digest(path)
    except (OSError, MinidiffError):
        return None
