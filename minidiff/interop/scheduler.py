"""The noise schedule in files of diffusers: scheduler_config.json.

Idea: a network can only be used with the noise schedule and the prediction target of its training.  diffusers stores
both in a file beside the network.  This module reads that file and refuses options that it does not know.  For a
schedule of minidiff it returns the contents of such a file, which diffusers_write.py writes.

    beta_schedule   linear: beta rises linearly from beta_start to beta_end;  scaled_linear: sqrt(beta) does
                    sigmoid: along the logistic function over [-6, 6];  squaredcos_cap_v2: minidiff's cosine
    prediction_type epsilon, sample (x0) or v_prediction

The file also has settings of the samplers, such as clipping and the spacing of the timesteps.  They are read too, and
pipeline/loading.py makes them the defaults of the model.
Leaves out the computation of the schedule, which is in diffusion/, and schedulers other than DDPM and DDIM.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from minidiff.checkpoint.settings import from_dict
from minidiff.diffusion.schedule import BETA_MAX
from minidiff.errors import MinidiffError, printable
from minidiff.files import read_json
from minidiff.interop.diffusers_read import locate
from minidiff.limits import LIMITS

SCHEDULER = "scheduler_config.json"
CLASSES = ("DDPMScheduler", "DDIMScheduler")
PIPELINE = "model_index.json"  # in the folder of a pipeline, beside its folders unet and scheduler

_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2", "sigmoid": "sigmoid"}
_TARGETS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


@dataclass(frozen=True)
class _Options:
    """The options of DDPMScheduler and DDIMScheduler, with their names and defaults (diffusers 0.42)."""

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"] = "linear"
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    rescale_betas_zero_snr: bool = False
    # For the samplers; these do not depend on the training:
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    timestep_spacing: Literal["leading", "trailing", "linspace"] = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large"] = "fixed_small"

    def __post_init__(self) -> None:
        if not LIMITS["num_timesteps"].holds(self.num_train_timesteps):
            raise MinidiffError(
                f"num_train_timesteps must be {LIMITS['num_timesteps']}, got {self.num_train_timesteps}"
            )
        if self.beta_schedule != "squaredcos_cap_v2" and not 0 < self.beta_start <= self.beta_end <= BETA_MAX:
            raise MinidiffError(
                f"expected 0 < beta_start <= beta_end <= {BETA_MAX}, got {self.beta_start} and {self.beta_end}"
            )
        if self.rescale_betas_zero_snr and self.prediction_type == "epsilon":
            raise MinidiffError(
                "rescale_betas_zero_snr must be false with prediction_type epsilon: the last x_t is only noise, and "
                "predicting the noise says nothing about the image"
            )
        # As in diffusers, options that have no effect may have any value.
        if not self.thresholding and self.clip_sample and not self.clip_sample_range > 0:
            raise MinidiffError(f"clip_sample_range must be above 0, got {self.clip_sample_range}")
        if self.thresholding and not 0 <= self.dynamic_thresholding_ratio <= 1:
            raise MinidiffError(
                f"dynamic_thresholding_ratio must be from 0 to 1, got {self.dynamic_thresholding_ratio}"
            )
        if self.thresholding and not self.sample_max_value > 0:
            raise MinidiffError(f"sample_max_value must be above 0, got {self.sample_max_value}")
        if self.timestep_spacing == "leading" and not 0 <= self.steps_offset < self.num_train_timesteps:
            raise MinidiffError(
                f"steps_offset must be from 0 to {self.num_train_timesteps - 1}, got {self.steps_offset}"
            )


def scheduler_file(path: str | Path) -> Path | None:
    """Return the path of the scheduler_config.json of a network, None if there is none.

    path: as in `load_diffusers`.  The file is beside config.json, or in a folder `scheduler` there; in a pipeline, the
    folder `scheduler` is beside the folder `unet`.
    """
    path = Path(path)
    folder = locate(path)
    places = [folder / SCHEDULER, (path if path.is_dir() else folder) / "scheduler" / SCHEDULER]
    if (
        folder.resolve().name == "unet" and (folder / ".." / PIPELINE).exists()
    ):  # else a folder beside it does not belong to it
        places.append(folder.resolve().parent / "scheduler" / SCHEDULER)
    return next((place for place in places if place.exists()), None)


def read_scheduler(path: str | Path) -> dict[str, Any]:
    """Return the options in the scheduler_config.json of a network, with defaults for missing ones.

    path: as in `load_diffusers`; `scheduler_file` finds the file.
    Returns the fields of `_Options`, with the names and values of diffusers.  If there is no file, they are the
    defaults of DDPMScheduler.
    Raises MinidiffError if the file cannot be parsed, or has an option or value that minidiff does not support.
    """
    file = scheduler_file(path)
    if file is None:
        return asdict(_Options())
    return options_from_json(read_json(file), str(file))


def options_from_json(values: Any, where: str) -> dict[str, Any]:
    """Return the checked options of a parsed scheduler_config.json.  where: the name of the file, for messages."""
    if not isinstance(values, dict):
        raise MinidiffError(f"{where} must be a table of options")
    kind = values.get("_class_name", CLASSES[0])
    if kind not in CLASSES:
        raise MinidiffError(
            f"{where} is of a {printable(kind, 60)!r}; of diffusers' schedulers minidiff reads {', '.join(CLASSES)}"
        )
    options = {name: value for name, value in values.items() if not name.startswith("_")}
    if options.pop("trained_betas", None) is not None:
        raise MinidiffError(f"{where}: trained_betas must be null, as betas that are listed one by one are not read")
    for name in ("tensor_format", "timestep_values"):  # options of early versions without effect here
        options.pop(name, None)
    if options.pop("predict_epsilon", True) is False:  # the option of early versions before prediction_type
        options.setdefault("prediction_type", "sample")
    try:
        return asdict(from_dict(_Options, options, "options"))
    except MinidiffError as error:
        raise MinidiffError(f"{where}: {str(error).removeprefix('options: ')}") from error


def scheduler_options(schedule: str, T: int, target: str, zero_snr: bool = False) -> dict[str, Any]:
    """Return the content of a scheduler_config.json for a training with minidiff, for `json.dumps`.

    schedule: "linear", "scaled_linear", "cosine" or "sigmoid".  T: number of timesteps.  target: "eps", "x0" or "v".
    zero_snr: whether the last timestep is pure noise.
    minidiff multiplies beta of all schedules but cosine by 1000 / T, so that the last alpha_bar hardly depends on T;
    beta_start and beta_end in the file therefore depend on T.  Spacing "trailing" starts at the largest timestep, as
    minidiff does.
    Raises MinidiffError for a schedule or target that diffusers does not have.
    """
    for name, value, known in (("schedule", schedule, _SCHEDULES), ("target", target, _TARGETS)):
        if value not in known:
            raise MinidiffError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    stretch = 1000 / T if T > 0 else 0.0
    if T < 2 or (schedule != "cosine" and 0.02 * stretch > 0.999):
        raise MinidiffError(
            f"diffusers has no {schedule} schedule of {T} timesteps as in minidiff; train with --num-timesteps 1000"
        )
    options = _Options(
        num_train_timesteps=T,
        beta_start=1e-4 if schedule == "cosine" else 1e-4 * stretch,
        beta_end=0.02 if schedule == "cosine" else 0.02 * stretch,
        beta_schedule=_SCHEDULES[schedule],  # type: ignore[arg-type]
        prediction_type=_TARGETS[target],  # type: ignore[arg-type]
        rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing",
    )
    known = asdict(options)
    ddpm = schedule == "sigmoid"  # DDIMScheduler does not support it
    del known["set_alpha_to_one" if ddpm else "variance_type"]
    return {"_class_name": CLASSES[0] if ddpm else CLASSES[1], **known, "trained_betas": None}
