"""The settings of a drawing as JSON, and as the request that `python -m minidiff.sample` would make of them.

Idea: a browser names models and pictures by ids that the studio has given out, never by paths.  Here ids become the
paths that a `SampleRequest` has, and paths become ids again.  Everything else keeps the names and the limits of the
command's options, so that a drawing of the studio is one of the command.
Leaves out what the ids stand for: models.py and pictures.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from minidiff.checkpoint.settings import from_dict, to_dict
from minidiff.errors import MinidiffError, did_you_mean, printable
from minidiff.sampling import branches, like
from minidiff.sampling.inputs import IMAGES
from minidiff.sampling.request import SampleRequest

OF_MODEL = ("checkpoint", "diffusers", "adapter", "backend", "branch", "batch_size")  # not for a browser to set
MAX_COUNT = 64  # images of a drawing
NAMES = tuple(name for name in to_dict(SampleRequest()) if name not in OF_MODEL)


def request_of(
    settings: Any, start: SampleRequest, path_of: Callable[[str], Path], known: tuple[str, ...] = NAMES
) -> SampleRequest:
    """Return `start` with the settings that a client has sent.

    path_of: from the id of a picture to its file; raises MinidiffError for an unknown one.  known: what may be set.
    Raises MinidiffError for a setting that is unknown, of another type, or beyond its limit.
    """
    if not isinstance(settings, dict):
        raise MinidiffError('settings must be a JSON object, such as {"prompt": ["a dog"]}')
    values = dict(settings)
    values.pop("model", None)
    for name in values:
        if name not in known:
            hint = did_you_mean(str(name), known) or f"known are {', '.join(known)}"
            raise MinidiffError(f"settings: {printable(name, 60)!r} cannot be set here; {hint}")
    for name in IMAGES:
        if values.get(name) is not None:
            if not isinstance(values[name], str):
                raise MinidiffError(f"settings: {name} must be the id of a picture, got {printable(values[name], 60)}")
            values[name] = str(path_of(values[name]))
    for name in ("prompt", "label"):
        if isinstance(values.get(name), str):
            values[name] = [values[name]] if values[name].strip() else []
    if isinstance(interval := values.get("guidance_interval"), list):
        values["guidance_interval"] = [math.inf if end == like.INFINITY else end for end in interval]
    if values.get("negative") == "":
        values["negative"] = None
    for name in ("prompt", "label"):
        if isinstance(values.get(name), list) and len(values[name]) > MAX_COUNT:
            raise MinidiffError(f"settings: expected at most {MAX_COUNT} of {name}, got {len(values[name])}")
    request = from_dict(SampleRequest, to_dict(start) | values, "settings")
    if request.count > MAX_COUNT:
        raise MinidiffError(f"settings: count must be from 1 to {MAX_COUNT} here, got {request.count}")
    return request


def settings_of(request: SampleRequest, model: str, id_of: Callable[[Path], str | None]) -> dict[str, Any]:
    """Return a request as settings for a client.  id_of: from a picture's path to its id, None if it has none."""
    values = {name: value for name, value in to_dict(request).items() if name in NAMES}
    if values["guidance_interval"]:
        values["guidance_interval"] = [like.INFINITY if end == math.inf else end for end in values["guidance_interval"]]
    for name in IMAGES:
        path = getattr(request, name)
        values[name] = None if path is None else id_of(path)
    return {"model": model, **values}


def changes_of(before: SampleRequest, after: SampleRequest, id_of: Callable[[Path], str | None]) -> dict[str, Any]:
    """Return the settings in which a branch differs from the request before it."""
    old, new = (settings_of(request, "", id_of) for request in (before, after))
    return {name: new[name] for name in branches.CHANGEABLE if new[name] != old[name]}


def portable(request: SampleRequest, folder: Path) -> SampleRequest:
    """Return a request whose pictures are named as seen from `folder`, if they lie in it: the folder may then move."""

    def seen(path: Path) -> Path:
        return path.relative_to(folder) if path.is_relative_to(folder) else path

    paths: Mapping[str, Any] = {name: seen(path) for name in IMAGES if (path := getattr(request, name)) is not None}
    return branches.relocated(replace(request, **paths), lambda path, _: seen(path))
