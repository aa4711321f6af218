"""Drawings that diffusers' own pipelines have made, and how they are made again: a network, a scheduler, a seed.

All options of a scheduler at random, on one small network: random_schedulers.py.
"""

import json
from pathlib import Path

import numpy as np

from minidiff.pipeline import loading as models
from tests.interop.foreign import THEIRS, golden, their_weights, write_folder

IMAGES = Path(__file__).with_name("images.npz")
COUNT, STEPS, SEED = 3, 50, 2**33 + 5

DDIM, DDPM = {"_class_name": "DDIMScheduler"}, {"_class_name": "DDPMScheduler"}
# A network of THEIRS that gives out as many channels as it takes, a sampler, and what its scheduler says.
DRAWN = {
    "ddim": ("plain", "ddim", DDIM),
    "ddim of ddpm's network": ("ddpm", "ddim", DDIM | {"steps_offset": 1}),
    "ddim, v, zero terminal snr": (
        "oblong, uneven sizes",
        "ddim",
        DDIM | {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True},
    ),
    "ddim, x0, cosine, grey": (
        "grey, centred, no attention in the middle",
        "ddim",
        DDIM | {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"},
    ),
    "ddim, not clipped, scaled betas": (
        "scale and shift, nothing normalised in the middle",
        "ddim",
        DDIM | {"clip_sample": False, "beta_schedule": "scaled_linear", "beta_start": 0.001, "beta_end": 0.012},
    ),
    "ddim, trailing": ("one level, no middle", "ddim", DDIM | {"timestep_spacing": "trailing"}),
    "ddim, thresholding that only clips": (
        "scale and shift, other groups in the middle",
        "ddim",
        DDIM | {"thresholding": True, "clip_sample": False, "prediction_type": "v_prediction"},
    ),
    "ddim, dynamic thresholding": ("ddpm", "ddim", DDIM | {"thresholding": True, "sample_max_value": 1e9}),
    "ddpm, small": ("plain", "ddpm", DDPM | {"timestep_spacing": "trailing"}),
    "ddpm, large, v": ("ddpm", "ddpm", DDPM | {"variance_type": "fixed_large", "prediction_type": "v_prediction"}),
}


def calm_weights(network: str, scheduler: dict) -> dict[str, np.ndarray]:
    """Weights with which a network answers, but does not make of a difference of 1e-6 one of 1 within fifty steps."""
    weights = their_weights(golden("theirs", network)[1])
    loud = 1.0 if scheduler.get("prediction_type") == "sample" else 0.05  # the answer is the image there
    return weights | {"conv_out.weight": np.float32(loud) * weights["conv_out.weight"]}


def ours(folder: Path, network: str, sampler: str, scheduler: dict, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Draw the images with minidiff: (COUNT, H, W, C) uint8."""
    write_folder(folder, THEIRS[network], weights)
    (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    return models.load_diffusers(folder).sample(COUNT, sampler=sampler, steps=STEPS, seed=SEED)


def theirs(network: str, sampler: str, scheduler: dict, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Let diffusers' pipeline draw them."""
    import diffusers
    import torch

    torch.set_num_threads(1)  # more only wait for each other, in networks as small as these
    net = diffusers.UNet2DModel(**THEIRS[network]).eval()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    noise = getattr(diffusers, scheduler["_class_name"])(**{k: v for k, v in scheduler.items() if k[0] != "_"})
    pipeline = (diffusers.DDIMPipeline if sampler == "ddim" else diffusers.DDPMPipeline)(unet=net, scheduler=noise)
    pipeline.scheduler = noise  # DDIMPipeline makes one of its own of it, which forgets nothing but is another
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(SEED)
    drawn = pipeline(batch_size=COUNT, generator=generator, num_inference_steps=STEPS, output_type="np").images
    return np.rint(drawn * 255).astype(np.uint8)
