"""Branches of a request: from one step on, some of its settings are others, `--branch 'step = 20, prompt = "a cat"'`.

Idea: a branch is one line of TOML, a step and the settings that change there.  It reads well on a command line, and it
is stored in grid.png as it is.  Several branches follow each other; each one changes the settings of those before.
Leaves out what the sampler does: pipeline/branch.py.
"""

import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from minidiff.checkpoint.settings import from_dict, to_dict
from minidiff.errors import MinidiffError, did_you_mean, one_line, printable
from minidiff.limits import LIMITS
from minidiff.sampling.request import SampleRequest

CHANGEABLE = (
    "prompt",
    "negative",
    "label",
    "guidance_scale",
    "guidance_interval",
    "sampler",
    "eta",
    "churn",
    "variance",
    "clip",
    "control",
    "control_kind",
    "control_scale",
    "reference",
    "reference_scale",
)  # the settings that a branch may change; the noise and its levels stay
NONE = "default"  # what stands for None, which TOML has not
MAX_BRANCHES = 100


def stages(request: SampleRequest) -> list[tuple[int, SampleRequest]]:
    """Return the requests that a request with branches follows in turn, each with the number of its first step.

    Raises MinidiffError for a branch that cannot be read, or whose step is before that of the branch before it.
    """
    if len(request.branch) > MAX_BRANCHES:
        raise MinidiffError(f"expected at most {MAX_BRANCHES} branches, got {len(request.branch)}")
    found = [(0, replace(request, branch=()))]
    for line in request.branch:
        step, changes = parse(line)
        if step < found[-1][0]:
            raise MinidiffError(f"branches must be in the order of their steps, got step {step} after {found[-1][0]}")
        found.append((step, changed(found[-1][1], changes, "--branch")))
    return found


def parse(line: str) -> tuple[int, dict[str, Any]]:
    """Return the step of a branch and the settings that change there, as TOML gives them.

    The line is read as an inline table that something follows, so it can neither end the table nor hide its end.
    """
    try:
        if "\n" in line or "\r" in line:
            raise ValueError("it has several lines")
        table = tomllib.loads(f"branch = [ {{ {line} }}, 1 ]")
    except (ValueError, RecursionError) as error:
        example = 'step = 20, prompt = "a cat"'
        raise MinidiffError(f"--branch expects settings such as {example}; {printable(line, 80)!r} is not: "
                            f"{one_line(error).partition(' (at ')[0]}") from error  # fmt: skip
    changes = table["branch"][0]
    step = changes.pop("step", None)
    if type(step) is not int or not LIMITS["step"].holds(step):
        raise MinidiffError(f"--branch needs the step at which it begins, step = 20; got {printable(line, 80)!r}")
    for name, value in changes.items():
        if not all(isinstance(each, str | int | float) for each in (value if isinstance(value, list) else [value])):
            expected, came = "must be a text, a number or a list of them", printable(value, 60)
            raise MinidiffError(f"--branch: {printable(name, 60)} {expected}, got {came}")
    return step, changes


def changed(request: SampleRequest, changes: Mapping[str, Any], where: str) -> SampleRequest:
    """Return a request with other settings, given by names and JSON's types; where: their source, for messages."""
    for name in changes:
        if name not in CHANGEABLE:
            hint = did_you_mean(name, CHANGEABLE) or f"it may change {', '.join(CHANGEABLE)}"
            raise MinidiffError(f"{where}: a branch cannot change {printable(name, 60)!r}; {hint}")
    defaults = to_dict(SampleRequest())
    values = {name: None if value == NONE and defaults[name] is None else value for name, value in changes.items()}
    for name in ("prompt", "label"):
        if isinstance(values.get(name), str) or type(values.get(name)) is int:
            values[name] = [str(values[name])]
    return from_dict(SampleRequest, to_dict(request) | values, where)


def line_of(step: int, before: SampleRequest, after: SampleRequest) -> str:
    """Return the branch, as text, that makes one request of another; `parse` and `changed` read it."""
    parts = [f"step = {step}"]
    for name in CHANGEABLE:
        value = to_dict(after)[name]
        if value != to_dict(before)[name]:
            parts.append(f"{name} = {_toml(NONE if value is None else value)}")
    return ", ".join(parts)


def _toml(value: Any) -> str:
    """Write a text, a number or a list of them: JSON's way is TOML's way, but for one character and infinity."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


def files(request: SampleRequest) -> Iterator[tuple[str, Path]]:
    """Yield the images that branches name, each with a name for messages."""
    for number, line in enumerate(request.branch, 1):
        for name, value in parse(line)[1].items():
            if name in PATHS and isinstance(value, str) and value != NONE:
                yield f"{name} of branch {number}", Path(value)


def relocated(request: SampleRequest, found: Callable[[Path, str], Path]) -> SampleRequest:
    """Return the request with each path in its branches replaced by found(path, its name of `files`)."""
    lines = []
    for number, line in enumerate(request.branch, 1):
        step, changes = parse(line)
        for name in PATHS & changes.keys():
            if isinstance(changes[name], str) and changes[name] != NONE:
                changes[name] = found(Path(changes[name]), f"{name} of branch {number}").as_posix()
        lines.append(", ".join([f"step = {step}", *(f"{name} = {_toml(value)}" for name, value in changes.items())]))
    return replace(request, branch=tuple(lines))


PATHS = {field.name for field in fields(SampleRequest) if field.name in CHANGEABLE and field.type == Path | None}
