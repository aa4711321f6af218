"""The `parameters` text of a PNG, in which other programs of the field look for the settings of an image.

    a dog in a forest
    Negative prompt: night
    Steps: 50, Sampler: DDIM, CFG scale: 3, Seed: 0, Size: 32x32, Model hash: 0123456789, Model: scenes

Idea: AUTOMATIC1111's web UI writes this text into every image, and galleries and viewers show it.  The prompt comes
first, then the negative prompt, and the last line has names and values.  A value that contains a comma, a colon or a
line end is written as a JSON string.  Samplers and the spacing of steps have other names there, and `SAMPLERS` and
`SCHEDULES` translate them.
The text is for other programs.  It does not hold all settings; images/files.py writes those, under another name.
Leaves out how the text gets into a PNG: gallery.py.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from minidiff import __version__
from minidiff.diffusion.edit import STRENGTH
from minidiff.sampling.request import SampleRequest

PARAMETERS_KEY = "parameters"  # the name of the text in a PNG
HASH_DIGITS = 10  # of a model's SHA-256 that the others write
NEGATIVE = "Negative prompt:"

# Our names and theirs.  DPM++ 2M is the multistep DPM-Solver++ of second order, and SDE its variant with fresh noise.
SAMPLERS = {
    "ddpm": "DDPM",
    "ddim": "DDIM",
    "euler": "Euler",
    "euler-ancestral": "Euler a",
    "heun": "Heun",
    "dpm-solver": "DPM++ 2M",
    "dpm-solver-sde": "DPM++ 2M SDE",
    "unipc": "UniPC",
}
# Uniform visits both ends of the timesteps; SGM Uniform leaves out the clean end and DDIM the noisy one.
SCHEDULES = {"trailing": "SGM Uniform", "leading": "DDIM", "linspace": "Uniform", "karras": "Karras"}
AUTOMATIC = "Automatic"  # the model's default

_LEAST = 3  # names with values that make a line the last one; fewer may occur in a prompt
_NAME = re.compile(r"\w[\w \-/]+")
_SIZE = re.compile(r"(\d{1,9})x(\d{1,9})")


def infotext(
    request: SampleRequest,
    model_name: str,
    model_sha256: str,
    width: int,
    height: int,
    image: int = 0,
    version: str = __version__,
) -> str:
    """Return the text for one image of a request, whose steps and guidance scale are filled in.

    model_sha256: of the checkpoint, in hexadecimal.  image: its number among the images of the request, from 0.
    White space in a prompt, which has no meaning, becomes single spaces, because a line end would.
    """
    prompt = request.prompt[image % len(request.prompt)] if request.prompt else ""
    edited = request.init is not None and request.noise_level is None and request.to is None and request.vary is None
    strength = (STRENGTH if request.mask is None else 1.0) if request.strength is None else request.strength
    several = request.count > 1
    values: dict[str, Any] = {
        "Steps": request.steps,
        "Sampler": SAMPLERS[request.sampler],
        "Schedule type": None if request.spacing is None else SCHEDULES[request.spacing],
        "CFG scale": request.guidance_scale,
        "Seed": request.seed,
        "Size": f"{width}x{height}",
        "Model hash": model_sha256[:HASH_DIGITS],
        "Model": model_name,
        "Label": request.label[image % len(request.label)] if request.label else None,
        "Batch size": request.count if several else None,
        "Batch pos": image if several else None,
        "Denoising strength": strength if edited else None,
        "Eta DDIM": request.eta or None,
        "Sigma churn": request.churn or None,
    }
    adapters = (
        (request.control, request.control_kind, request.control_scale),
        (request.reference, "reference", request.reference_scale),
    )
    units = [f"Module: {kind}, Weight: {_number(scale)}" for file, kind, scale in adapters if file is not None]
    values |= {f"ControlNet {i}": unit for i, unit in enumerate(units)}
    values |= {f"Branch {i}": line for i, line in enumerate(request.branch)}
    values["Version"] = f"minidiff {version}"
    lines = [" ".join(prompt.split())]
    if request.negative:
        lines.append(f"{NEGATIVE} {' '.join(request.negative.split())}")
    lines.append(", ".join(f"{name}: {_quoted(_number(value))}" for name, value in values.items() if value is not None))
    return "\n".join(lines).strip()


def parse(text: str) -> dict[str, str]:
    """Return the names and values of such a text, whoever wrote it, all of them as texts.

    "Prompt" and "Negative prompt" are always there; "Size" becomes "Size-1", the width, and "Size-2", the height.
    """
    *lines, last = text.strip().split("\n")
    pairs = list(_pairs(last))
    if len(pairs) < _LEAST:
        lines, pairs = [*lines, last], []
    prompts: tuple[list[str], list[str]] = ([], [])
    negative = False
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE):
            line, negative = line.removeprefix(NEGATIVE).strip(), True
        prompts[negative].append(line)
    values = {"Prompt": "\n".join(prompts[0]).strip(), "Negative prompt": "\n".join(prompts[1]).strip()}
    for name, value in pairs:
        if size := _SIZE.fullmatch(value):
            values |= {f"{name}-1": size[1], f"{name}-2": size[2]}
        else:
            values[name] = value
    return values


def sampler_of(name: str, schedule: str = AUTOMATIC) -> tuple[str, str | None] | None:
    """Return our sampler and spacing for their names, in any case: None for a sampler that is not here.

    name: "DPM++ 2M", our own "dpm-solver", or, as earlier versions wrote it, "DPM++ 2M Karras".
    The spacing is None, the model's default, for a schedule that is not here.
    """
    name, spacing = name.strip().lower(), _spacing(schedule)
    for ours, theirs in SAMPLERS.items():
        if name in (ours, theirs.lower()):
            return ours, spacing
        if name.startswith(f"{theirs.lower()} ") and (inside := _spacing(name[len(theirs) + 1 :])):
            return ours, inside
    return None


def _spacing(schedule: str) -> str | None:
    plain = schedule.strip().lower().replace("_", " ")
    return next((ours for ours, theirs in SCHEDULES.items() if plain in (ours, theirs.lower())), None)


def _number(value: Any) -> str:
    """Return a number in the fewest digits that give it back: 3, not 3.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _quoted(value: str) -> str:
    """Return a value as it is, or as a JSON string if it could not be read back: see `_pairs`."""
    plain = not re.search(r'[,:\n"]', value) and value == value.strip()
    return value if plain else json.dumps(value, ensure_ascii=False)


def _pairs(line: str) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a line, in time that grows with its length only.

    A value ends at a comma, unless it is a JSON string.  What has no proper name, or no value, is left out.
    """
    start, decoder = 0, json.JSONDecoder()
    while (colon := line.find(":", start)) >= 0:
        name = line[start:colon].rpartition(",")[2].strip()
        begin = colon + 2 if line.startswith(" ", colon + 1) else colon + 1
        value = None
        if line.startswith('"', begin):
            try:
                value, end = decoder.raw_decode(line, begin)
            except ValueError:
                value = None
            else:
                after = line[end : end + 1]
                proper = after in ("", ",") and not any("\ud800" <= letter <= "\udfff" for letter in value)
                value = value if proper else None
        if value is None:
            comma = line.find(",", begin)
            end = len(line) if comma < 0 else comma
            value = line[begin:end].strip()
        start = end + 1
        if value and _NAME.fullmatch(name):
            yield name, value
