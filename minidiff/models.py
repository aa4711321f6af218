"""From files to models: a training's, those that minidiff comes with, and those of others.

Idea: whatever a file holds, a `Pipeline` is what one draws with.
After pipeline.py.  Leaves out how files are read and checked: training/checkpoint.py, interop/.
"""

import sys
from pathlib import Path
from typing import Any

from minidiff import interop
from minidiff.diffusion.process import Process
from minidiff.diffusion.schedule import make_schedule
from minidiff.errors import MinidiffError
from minidiff.pipeline import Pipeline, Usual
from minidiff.training import checkpoint as checkpoints
from minidiff.training.build import make_process

WEIGHTS = Path(__file__).parent / "weights" / "scenes.safetensors"  # beside it scenes-edges, scenes-reference, …


def load(path: str | Path | None = None) -> Pipeline:
    """Load a checkpoint, or the newest one of a training's folder, to draw with its averaged weights.

    path: None for the weights that minidiff comes with, which draw scenes, and their adapters.
    Raises MinidiffError in one line if there is none, or none that can be read.
    """
    if path is None:
        return _shipped()
    found = checkpoints.find(Path(path), say=lambda line: print(line, file=sys.stderr))
    if found.adapter != "none":
        raise MinidiffError(
            f"{found.path} is an adapter ({found.adapter}); load the model that it is added to, then it"
        )
    process = make_process(found.config.diffusion)
    network = checkpoints.make_network(found)
    return Pipeline(
        network,
        process,
        found.classes,
        found.config,
        found.path,
        found.step,
        vocabulary=found.vocabulary,
        identity=found.identity,
    )


def _shipped() -> Pipeline:
    if not WEIGHTS.is_file():
        raise MinidiffError(
            f"this minidiff comes without weights (there is no {WEIGHTS}); train some with python -m minidiff.train"
        )
    model = load(WEIGHTS)
    for path in sorted(WEIGHTS.parent.glob(f"{WEIGHTS.stem}-*.safetensors")):
        model = model.with_adapter(path)
    return model


def load_diffusers(path: str | Path) -> Pipeline:
    """Load a `UNet2DModel` that the diffusers library has saved, to draw as diffusers would: same seed, same pictures.

    path: see `interop.load_diffusers`.  Its scheduler_config.json, where there is one, says which noise it knows.
    Raises MinidiffError in one line if there is none, or one that minidiff does not know.
    """
    network, said = interop.load_diffusers(path), interop.read_scheduler(path)
    if network.config.out_channels != network.config.in_channels:
        raise MinidiffError(
            f"{path}: out_channels must be in_channels, {network.config.in_channels}, as more say how sure the network "
            f"is, which no sampler here asks; got {network.config.out_channels}"
        )
    for name, ours in (("set_alpha_to_one", True), ("clip_sample_range", 1.0), ("dynamic_thresholding_ratio", 0.995)):
        if said[name] != ours:
            raise MinidiffError(f"{path}: of {name} minidiff's samplers know {ours} only, got {said[name]}")
    T, names = said["num_train_timesteps"], {"squaredcos_cap_v2": "cosine"}
    kind = names.get(said["beta_schedule"], said["beta_schedule"])
    betas = said["beta_start"] * T / 1000, said["beta_end"] * T / 1000  # ours are those at T = 1000
    schedule = make_schedule(kind, T, zero_snr=said["rescale_betas_zero_snr"], betas=betas)
    process = Process(schedule, {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}[said["prediction_type"]])
    usual = Usual(
        spacing=said["timestep_spacing"],
        offset=said["steps_offset"],
        clip=_clip(said),
        variance="large" if said["variance_type"] == "fixed_large" else "small",
        keep_eps=True,
    )
    return Pipeline(network, process, (), None, interop.weights_of(path), 0, usual, interop.TorchNoise)


def _clip(said: dict[str, Any]) -> str:
    """What diffusers does with x0_hat: thresholding comes first, and with its usual limit of 1 it is clipping."""
    if said["thresholding"] and said["sample_max_value"] > 1:
        return "dynamic"
    return "clip" if said["thresholding"] or said["clip_sample"] else "none"
