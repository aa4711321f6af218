"""From files to models: your own runs, the bundled weights, and diffusers models.

Idea: whatever the format of the file, the result is a `Pipeline`.  For a diffusers model, its scheduler_config.json is
translated into a noise schedule and default settings of minidiff.
Leaves out how files are read and checked: checkpoint/, interop/.
"""

import functools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minidiff import checkpoint as checkpoints
from minidiff import interop
from minidiff.checkpoint import Checkpoint
from minidiff.checkpoint.build import make_process
from minidiff.diffusion.clipping import Clipping
from minidiff.diffusion.process import Process
from minidiff.diffusion.schedule import Schedule, make_schedule
from minidiff.errors import MAX_PRINTED, MinidiffError, printable
from minidiff.pipeline.pipeline import Pipeline
from minidiff.pipeline.settings import DEFAULTS, Defaults

WEIGHTS = Path(__file__).parents[1] / "weights" / "scenes128.safetensors"  # beside it scenes128-edges, …-reference
SMALL = WEIGHTS.with_name("scenes.safetensors")  # for 32 × 32 pixels; once the only ones, so old grids ask for them


def load(path: str | Path | None = None) -> Pipeline:
    """Load a checkpoint, or the newest one of a training's folder, to draw with its averaged weights.

    path: None for the weights that minidiff comes with, which draw scenes.  Those have their adapters with them.
    Raises MinidiffError in one line if there is none, or none that can be read.
    """
    if path is None and not WEIGHTS.is_file():
        raise MinidiffError(
            f"this minidiff comes without weights (there is no {WEIGHTS}); train some with python -m minidiff.train"
        )
    found = checkpoints.find(Path(path or WEIGHTS), warn=lambda line: print(line, file=sys.stderr))
    model = pipeline_of(found)
    if found.path.parent == WEIGHTS.parent:
        for adapter in sorted(WEIGHTS.parent.glob(f"{found.path.stem}-*.safetensors")):
            model = model.with_adapter(adapter)
    return model


def pipeline_of(found: Checkpoint) -> Pipeline:
    """Return the model of a checkpoint that is read.  Raises MinidiffError if it is an adapter or an autoencoder."""
    if found.adapter != "none":
        raise MinidiffError(
            f"{found.path} is an adapter ({found.adapter}); load the model that it is added to, then it"
        )
    tokenizer = found.tokenizer  # an autoencoder is refused here
    process = make_process(found.config.diffusion)
    network, space = checkpoints.make_network(found), checkpoints.make_space(found)
    return Pipeline(
        network,
        process,
        found.classes,
        found.config,
        found.path,
        found.step,
        replace(DEFAULTS, clip=space.clip),
        tokenizer=tokenizer,
        identity=found.identity,
        space=space,
    )


def load_diffusers(path: str | Path) -> Pipeline:
    """Load a `UNet2DModel` that the diffusers library has saved; the same seed gives the same images as in diffusers.

    path: see `interop.load_diffusers`.  Its scheduler_config.json has its noise schedule; where there is none, the
    assumed one is printed.
    Raises MinidiffError in one line if there is none, or one that minidiff does not know.
    """
    files, file = interop.files_of(path), interop.scheduler_file(path)
    options, network = interop.read_scheduler(path), interop.load_diffusers(path)
    if network.config.out_channels != network.config.in_channels:
        raise MinidiffError(
            f"{path}: out_channels must be in_channels, {network.config.in_channels}, as further ones are a predicted "
            f"variance, which no sampler here uses; got {network.config.out_channels}"
        )
    if file is None:
        print(
            f"{printable(path, MAX_PRINTED)} has no scheduler_config.json; assuming DDPM's linear schedule of "
            f"{options['num_train_timesteps']} timesteps, and that the network predicts the noise",
            file=sys.stderr,
        )
    spare = [each for each in (*files, file) if each not in (files[1], None)]
    return Pipeline(
        network,
        Process(_schedule(options, file or path), _TARGETS[options["prediction_type"]]),
        (),
        None,
        files[1],
        0,
        _defaults(options),
        interop.TorchNoise,
        beside={each.name: each for each in spare},
    )


_TARGETS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_LEAST = float(np.finfo(np.float32).tiny)  # below it, alpha_bar is 0 in diffusers' float32, or loses digits


def _schedule(options: dict[str, Any], where: str | Path) -> Schedule:
    """Return the noise schedule of a scheduler_config.json's options."""
    T, names = options["num_train_timesteps"], {"squaredcos_cap_v2": "cosine"}
    kind = names.get(options["beta_schedule"], options["beta_schedule"])
    betas = options["beta_start"] * T / 1000, options["beta_end"] * T / 1000  # ours are those at T = 1000
    last = make_schedule(kind, T, betas=betas).alpha_bar[-1]
    if last < _LEAST:
        raise MinidiffError(
            f"{where}: {T} times (num_train_timesteps) with betas up to {options['beta_end']:g} (beta_end) leave "
            f"nothing of the image: alpha_bar must end at {_LEAST:.3g} or more, got {last:.3g}"
        )
    return make_schedule(kind, T, zero_snr=options["rescale_betas_zero_snr"], betas=betas)


def _defaults(options: dict[str, Any]) -> Defaults:
    """Return how diffusers samples with the options of a scheduler_config.json."""
    if options["thresholding"]:  # has priority in diffusers; with sample_max_value 1 the threshold is always 1
        most = options["sample_max_value"]
        clip = Clipping("clip") if most == 1 else Clipping("dynamic", 1.0, options["dynamic_thresholding_ratio"], most)
    else:
        clip = Clipping("clip", options["clip_sample_range"]) if options["clip_sample"] else Clipping("none")
    return Defaults(
        spacing=options["timestep_spacing"],
        clip=clip,
        variance="large" if options["variance_type"] == "fixed_large" else "small",
        keep_eps=True,
        noisy_end=True,
        levels=functools.partial(interop.visited, offset=options["steps_offset"]),
        ends=functools.partial(interop.ends, to_one=options["set_alpha_to_one"]),
    )
