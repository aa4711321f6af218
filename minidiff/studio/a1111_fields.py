"""The fields of a request to AUTOMATIC1111's web UI, and what becomes of each of them here.

Idea: one table, FIELDS, says for every field of txt2img and img2img what its default is and what it does here.  A field
that would change the image there, and cannot here, is refused in one sentence; one that could not change an image of
these models is ignored, as is a field that nobody knows.  docs/chapter13.md quotes the table.
Two defaults are not theirs, because theirs are for other models: without cfg_scale it is the model's own, and so is the
number of steps where the model has fewer than 50.  Width and height do not matter: an image has its model's size, which
the reply names.
Leaves out the routes (automatic1111.py) and decoding pictures (clients.py).
"""

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from minidiff.errors import MinidiffError, did_you_mean, printable
from minidiff.studio.parameters import AUTOMATIC, SAMPLERS, SCHEDULES, sampler_of
from minidiff.studio.settings import MAX_COUNT

SEEDS = 1 << 32  # a seed that nobody has chosen is below it
HUGE = 1e300  # beyond every limit, and below what a float holds
PICTURES = ("init_images", "mask", "alwayson_scripts")  # fields that hold pictures


@dataclass(frozen=True)
class Field:
    """A field: its default, what it does here, and which values it may have; None is the default.

    kind: the type of a value that is used.  only: the values of a field that would do something that is not here.
    Without either, the field is ignored.
    """

    default: Any
    here: str
    kind: type | tuple[type, ...] | None = None
    only: tuple[Any, ...] | None = None


_HIRES = "ignored without enable_hr"
_SIZE = "ignored: an image has its model's size"
_AREA = "ignored: a mask is used as it is, at the model's size"

FIELDS: dict[str, Field] = {
    # what is drawn
    "prompt": Field("", "the prompt, in plain words; of a model with labels, the label", str),
    "negative_prompt": Field("", "the negative prompt; nothing without guidance", str),
    "seed": Field(-1, "the seed; -1 takes one by chance, which the reply names", int),
    "steps": Field(None, "steps; default: 50, or as many as the model has", int),
    "cfg_scale": Field(None, "guidance scale; default: the model's", float),
    "sampler_name": Field(None, "the sampler, by their name or ours", str),
    "sampler_index": Field("Euler", "the sampler, without sampler_name", str),
    "scheduler": Field(AUTOMATIC, "the spacing of the steps", str),
    "batch_size": Field(1, "images that are drawn together, from one seed", int),
    "n_iter": Field(1, "how often so many are drawn, each time with a seed of its own", int),
    "eta": Field(None, "eta of DDIM; of Euler a and DPM++ 2M SDE only 1; of others nothing", float),
    "s_churn": Field(0.0, "churn of Euler and Heun; of others nothing", float),
    "width": Field(512, _SIZE),
    "height": Field(512, _SIZE),
    "override_settings": Field({}, "sd_model_checkpoint in it chooses the model; others are ignored", dict),
    "override_settings_restore_afterwards": Field(True, "whether that is for this request only", bool),
    "alwayson_scripts": Field({}, "ControlNet: a drawing or a reference to follow; others are refused", dict),
    # img2img
    "init_images": Field(None, "the image to start from: one", list),
    "denoising_strength": Field(0.75, "strength; of txt2img ignored", float),
    "mask": Field(None, "the mask: white where the image is drawn anew", str),
    "inpainting_mask_invert": Field(0, "1: the mask is white where the image stays", (int, bool)),
    "include_init_images": Field(False, "whether the reply repeats the pictures that were sent", bool),
    "mask_blur": Field(4, _AREA),
    "mask_blur_x": Field(4, _AREA),
    "mask_blur_y": Field(4, _AREA),
    "mask_round": Field(True, _AREA),
    "inpaint_full_res": Field(True, _AREA),
    "inpaint_full_res_padding": Field(0, _AREA),
    "inpainting_fill": Field(0, "ignored: noise fills what is drawn anew"),
    "resize_mode": Field(0, "ignored: the middle of a picture is scaled to the model's size"),
    "image_cfg_scale": Field(None, "ignored: it is for models that are edited by instructions"),
    "initial_noise_multiplier": Field(None, "the noise added to the image is not scaled", only=(1,)),
    # where images go
    "send_images": Field(True, "whether the reply holds the images", bool),
    "save_images": Field(False, "whether they are kept in the gallery", bool),
    "do_not_save_samples": Field(False, "ignored: save_images says it"),
    "do_not_save_grid": Field(False, "ignored: there are no grids"),
    # what is not here
    "enable_hr": Field(False, "there is no second pass at a higher resolution", only=(False,)),
    "restore_faces": Field(False, "there is no restoring of faces", only=(False,)),
    "tiling": Field(False, "images that tile are not drawn", only=(False,)),
    "styles": Field([], "there are no stored styles", only=([], [""])),
    "subseed_strength": Field(0, "there is no second seed to mix in", only=(0,)),
    "seed_resize_from_h": Field(-1, "there is no other size to take the noise of", only=(-1, 0)),
    "seed_resize_from_w": Field(-1, "there is no other size to take the noise of", only=(-1, 0)),
    "s_tmin": Field(0, "churn is added at all noise levels", only=(0,)),
    "s_noise": Field(1, "the noise that a sampler adds is not scaled", only=(1,)),
    "script_name": Field(None, "there are no scripts", only=("", "None")),
    "infotext": Field(None, "settings are not taken from a text", only=("",)),
    "refiner_checkpoint": Field(None, "there is no second model to refine with", only=("", "None")),
    # what means nothing here, or nothing without the above
    "subseed": Field(-1, "ignored without subseed_strength"),
    "s_tmax": Field(None, "ignored: churn is added at all noise levels"),
    "script_args": Field([], "ignored without script_name"),
    "refiner_switch_at": Field(None, "ignored without refiner_checkpoint"),
    "s_min_uncond": Field(None, "ignored: guidance is used at every step"),
    "disable_extra_networks": Field(False, "ignored: there are none"),
    "force_task_id": Field(None, "ignored"),
    "comments": Field(None, "ignored"),
    "firstpass_image": Field(None, _HIRES),
    "firstphase_width": Field(0, _HIRES),
    "firstphase_height": Field(0, _HIRES),
    "hr_scale": Field(2.0, _HIRES),
    "hr_upscaler": Field(None, _HIRES),
    "hr_second_pass_steps": Field(0, _HIRES),
    "hr_resize_x": Field(0, _HIRES),
    "hr_resize_y": Field(0, _HIRES),
    "hr_checkpoint_name": Field(None, _HIRES),
    "hr_sampler_name": Field(None, _HIRES),
    "hr_scheduler": Field(None, _HIRES),
    "hr_prompt": Field("", _HIRES),
    "hr_negative_prompt": Field("", _HIRES),
}


def read(body: dict[str, Any]) -> dict[str, Any]:
    """Return all fields of a request, with defaults.  Raises MinidiffError for a field that has no meaning here."""
    values = {}
    for name, field in FIELDS.items():
        value = body.get(name)
        if value is None:
            value = field.default
        elif name not in PICTURES and not _sendable(value):
            raise MinidiffError(f"{name}: expected numbers and texts, got {printable(repr(value), 60)}")
        elif field.only is not None and value not in field.only:
            said = f"expected {' or '.join(map(repr, field.only))}, got {printable(repr(value), 60)}"
            raise MinidiffError(f"{name}: {field.here}; {said}")
        elif field.kind is not None:
            value = _typed(name, value, field.kind)
        values[name] = value
    return values


def _sendable(value: Any) -> bool:
    """Whether a value, which the reply repeats, is JSON: JSON has no NaN, and UTF-8 no half characters."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _typed(name: str, value: Any, kind: type | tuple[type, ...]) -> Any:
    number = type(value) in (int, float) and abs(value) < HUGE
    if kind is float and number:
        return float(value)
    if kind is int and number and value == value // 1:
        return int(value)
    if kind not in (int, float) and isinstance(value, kind):
        return value
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
    expected = "an object" if kind is dict else names.get(kind, "0 or 1")  # type: ignore[arg-type]
    raise MinidiffError(f"{name}: expected {expected}, got {printable(repr(value), 60)}")


def settings_of(values: dict[str, Any], image: bool) -> list[dict[str, Any]]:
    """Return the settings of each drawing of a request, but for its model and pictures.  image: whether of img2img.

    A drawing has batch_size images, and there are n_iter of them.  As with AUTOMATIC1111, the seed grows by one for
    each image, so the next drawing's is greater by batch_size.
    """
    size, times = values["batch_size"], values["n_iter"]
    if size < 1 or times < 1 or size * times > MAX_COUNT:
        raise MinidiffError(f"batch_size times n_iter must be from 1 to {MAX_COUNT}, got {size} times {times}")
    seed = secrets.randbelow(SEEDS) if values["seed"] == -1 else values["seed"]
    sampler, spacing = _sampler(values)
    settings: dict[str, Any] = {
        "prompt": [prompt] if (prompt := _plain("prompt", values).strip()) else [],
        "negative": _plain("negative_prompt", values).strip() or None,
        "sampler": sampler,
        "spacing": spacing,
        "steps": values["steps"],
        "guidance_scale": values["cfg_scale"],
        "count": size,
    }
    if sampler == "ddim":
        settings["eta"] = values["eta"] or 0.0
    elif sampler in ("euler-ancestral", "dpm-solver-sde") and values["eta"] not in (None, 1):
        raise MinidiffError(f"eta: of {SAMPLERS[sampler]} expected 1, got {values['eta']:g}")
    if sampler in ("euler", "heun"):
        settings["churn"] = values["s_churn"]
    if image:
        settings["strength"] = values["denoising_strength"]
    return [{**settings, "seed": seed + size * number} for number in range(times)]


def _plain(name: str, values: dict[str, Any]) -> str:
    """Return a prompt.  Raises MinidiffError for what would be more than words there."""
    text: str = values[name]
    if found := re.search(r"[()\[\]{}<>|]|\b(AND|BREAK)\b", text):
        raise MinidiffError(
            f"{name}: {found[0]!r} is not understood; weights such as (word:1.2), alternatives and <lora:…> are not "
            f"here, so write plain words; got {printable(repr(text), 100)}"
        )
    return text


def _sampler(values: dict[str, Any]) -> tuple[str, str | None]:
    """Return our sampler and spacing."""
    name, schedule = values["sampler_name"] or values["sampler_index"], values["scheduler"] or AUTOMATIC
    found = sampler_of(name, schedule)
    if found is None:
        hint = did_you_mean(name, SAMPLERS.values()) or f"known are {', '.join(SAMPLERS.values())}"
        raise MinidiffError(f"sampler_name: there is no sampler {printable(repr(name), 60)} here; {hint}")
    if found[1] is None and schedule.strip().lower() != AUTOMATIC.lower():
        known = ", ".join([AUTOMATIC, *SCHEDULES.values()])
        raise MinidiffError(f"scheduler: there is no {printable(repr(schedule), 60)} here; known are {known}")
    return found


# -- ControlNet -------------------------------------------------------------------------------------------------------

CONTROLNET = "controlnet"
KINDS = ("edges", "segmentation", "depth")  # of maps: the names of their models
REFERENCE = "reference_only"  # the module that takes over an image's style
MODULES = ("none", "canny", REFERENCE)


def units(values: dict[str, Any]) -> list[tuple[dict[str, Any], str | None]]:
    """Return the settings of each enabled unit of ControlNet, and its picture in base64, None for the one to edit.

    Raises MinidiffError for other scripts, and for what our adapters cannot do.
    """
    found: list[tuple[dict[str, Any], str | None]] = []
    for name, script in values["alwayson_scripts"].items():
        if name.lower() != CONTROLNET:
            raise MinidiffError(
                f"alwayson_scripts: there is no script {printable(repr(name), 60)} here; only ControlNet"
            )
        arguments = script.get("args") if isinstance(script, dict) else None
        if not isinstance(arguments, list) or not all(isinstance(each, dict) for each in arguments):
            raise MinidiffError('ControlNet: expected {"args": [{"image": "…"}]}')
        for unit in arguments:
            if unit.get("enabled") is not False:
                found.append((_unit(unit), _picture(unit)))
    if len({"reference" in settings for settings, _ in found}) < len(found):
        raise MinidiffError(f"ControlNet: expected one drawing and one reference at most, got {len(found)} units")
    return found


def _unit(unit: dict[str, Any]) -> dict[str, Any]:
    module, model = (str(unit.get(key) or "none").lower() for key in ("module", "model"))
    weight = _typed("ControlNet: weight", unit.get("weight", 1.0), float)
    window = tuple(unit.get(key, default) for key, default in (("guidance_start", 0), ("guidance_end", 1)))
    if window != (0, 1):
        raise MinidiffError(
            f"ControlNet: expected guidance_start 0 and guidance_end 1, got {printable(repr(window), 60)}"
        )
    if (mode := unit.get("control_mode", 0)) not in (0, "Balanced"):
        raise MinidiffError(f"ControlNet: expected control_mode Balanced, got {printable(repr(mode), 60)}")
    if module not in MODULES:
        raise MinidiffError(
            f"ControlNet: there is no module {printable(repr(module), 60)} here; known are {', '.join(MODULES)}"
        )
    if module == REFERENCE:
        return {"reference": True, "reference_scale": weight}
    kind = "edges" if model == "none" or "canny" in model else model
    if kind not in KINDS or (module == "canny" and kind != "edges"):
        raise MinidiffError(
            f"ControlNet: there is no model {printable(repr(model), 60)} for module {module} here; "
            f"known are {', '.join(KINDS)}, and canny is for edges"
        )
    return {"control": True, "control_kind": kind, "control_scale": weight}


def _picture(unit: dict[str, Any]) -> str | None:
    image = unit.get("image") or unit.get("input_image")
    return image.get("image") if isinstance(image, dict) else image
