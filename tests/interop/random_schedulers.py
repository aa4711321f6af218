"""Scheduler files drawn at random, all of their options at once, and the images that diffusers makes of them.

A draw is a number; from it follow the scheduler's class, its options, some of them senseless, the pipeline that draws
with it, and how many images in how many steps.  The network is as small as one can be: what is compared is where
the schedulers go.  `python -m tests.interop.random_schedulers 1000 1300` compares these draws with diffusers.
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.pipeline import loading as models
from tests.interop.foreign import THEIRS, golden, their_weights, write_folder

NETWORK = "one level, no middle"
SCHEDULED = Path(__file__).with_name("scheduled.npz")
# The draws whose images scheduled.npz has: chosen so that each option that is not honoured is seen in two or more.
KEPT = (7, 15, 17, 18, 19, 28, 37, 49, 54, 66, 110, 119, 127, 129, 137, 141, 145, 148, 152, 153)
BATCH = 2  # ours draws in batches, diffusers all images at once
# Of 255.  Both compute in float32, but diffusers its alpha_bar as well; rounding to whole levels alone makes 1.
LEVELS = 3
OPTIONS = (
    "_class_name", "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "rescale_betas_zero_snr", "clip_sample", "clip_sample_range", "thresholding", "dynamic_thresholding_ratio",
    "sample_max_value", "timestep_spacing", "steps_offset", "set_alpha_to_one", "variance_type",
)  # fmt: skip


def draw(number: int) -> dict:
    """What is drawn: {"scheduler": …, "sampler": …, "eta": …, "steps": …, "count": …, "seed": …}."""
    rng = np.random.RandomState(number)
    some = lambda *values: values[rng.randint(len(values))]
    often = lambda usual, *others: usual if rng.rand() < 0.7 else some(*others)
    mostly = lambda usual, *senseless: usual if rng.rand() < 0.98 else some(*senseless)
    T = some(1000, 1000, int(rng.randint(2, 60)), int(rng.randint(60, 1500)))
    start, end = sorted(rng.uniform((1e-5, 1e-3), (2e-3, 20 / max(T, 40)), 2).tolist())
    scheduler = {
        "_class_name": some("DDPMScheduler", "DDIMScheduler"),
        "num_train_timesteps": T,
        "beta_start": mostly(start, 0.0, -0.1, end * 2),
        "beta_end": mostly(end, 0.5, 0.9995, 1.0),
        "beta_schedule": mostly(some("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"), "laplace", "exp"),
        "trained_betas": mostly(None, np.linspace(start, end, T).tolist()),
        "prediction_type": mostly(some("epsilon", "sample", "v_prediction"), "flow_prediction"),
        "rescale_betas_zero_snr": bool(rng.rand() < 0.3),
        "clip_sample": bool(rng.rand() < 0.7),
        "clip_sample_range": mostly(some(float(rng.uniform(0.3, 2.5)), 1.0), 0.0, -1.0),
        "thresholding": bool(rng.rand() < 0.5),
        "dynamic_thresholding_ratio": mostly(some(float(rng.uniform(0, 1)), 0.995), 1.5),
        "sample_max_value": mostly(some(float(rng.uniform(0.3, 1)), float(rng.uniform(1, 3)), 1.0, 1e9), 0.0),
        "timestep_spacing": some("leading", "trailing", "linspace"),
        "steps_offset": often(0, 1, int(rng.randint(-1, max(3, T // 10)))),
        "set_alpha_to_one": bool(rng.rand() < 0.6),
        "variance_type": mostly(some("fixed_small", "fixed_small_log", "fixed_large"), "learned", "fixed_large_log"),
    }
    for name in rng.permutation(sorted(scheduler))[: rng.randint(8)]:  # what is missing has its default
        if name not in ("_class_name", "num_train_timesteps"):
            del scheduler[name]
    scheduler.pop("variance_type" if scheduler["_class_name"] == "DDIMScheduler" else "set_alpha_to_one", None)
    steps = int(min(T, some(1, 2, rng.randint(2, 14), rng.randint(2, 14), rng.randint(14, 70))))
    count, seed = int(rng.randint(1, 5)), int(rng.randint(1 << 30))
    return {
        "scheduler": scheduler,
        "sampler": some("ddpm", "ddim"),
        "eta": float(often(0.0, 0.5, 1.0)),
        "steps": steps,
        "count": count,
        "seed": seed,
    }


def weights(drawn: dict) -> dict[str, np.ndarray]:
    """Weights of the network with which a difference of 1e-6 does not become one of 1 within the steps."""
    calm = 1.0 if drawn["scheduler"].get("prediction_type") == "sample" else 0.3
    there = their_weights(golden("theirs", NETWORK)[1])
    return there | {"conv_out.weight": np.float32(calm) * there["conv_out.weight"]}


def ours(folder: Path, drawn: dict) -> np.ndarray:
    """Draw with minidiff: (count, H, W, C) uint8; raises MinidiffError for what it refuses."""
    write_folder(folder, THEIRS[NETWORK], weights(drawn))
    (folder / "scheduler_config.json").write_text(json.dumps(drawn["scheduler"]))
    model = models.load_diffusers(folder)
    eta = {"eta": drawn["eta"]} if drawn["sampler"] == "ddim" else {}
    how = {"sampler": drawn["sampler"], "steps": drawn["steps"], "seed": drawn["seed"], **eta}
    return model.sample(drawn["count"], batch_size=BATCH, **how)


def theirs(drawn: dict) -> np.ndarray | None:
    """Let diffusers' pipeline draw: (count, H, W, C) uint8; None where it fails, or draws what is no image."""
    import diffusers
    import torch

    diffusers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # more only wait for each other, in a network as small as this
    net = diffusers.UNet2DModel(**THEIRS[NETWORK]).eval()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights(drawn).items()})
    options = {name: value for name, value in drawn["scheduler"].items() if name[0] != "_"}
    if options.get("beta_schedule") == "sigmoid" and options.get("trained_betas") is None:
        # The one kind that DDIMScheduler does not know: it is given the numbers.
        about = {name: options[name] for name in ("num_train_timesteps", "beta_start", "beta_end") if name in options}
        options |= {"beta_schedule": "linear"}
        options["trained_betas"] = diffusers.DDPMScheduler(**about, beta_schedule="sigmoid").betas.tolist()
    ddim = drawn["sampler"] == "ddim"
    pipeline = diffusers.DDIMPipeline if ddim else diffusers.DDPMPipeline
    more = {"eta": drawn["eta"]} if ddim else {}
    try:
        noise = getattr(diffusers, drawn["scheduler"]["_class_name"])(**options)
        if not ddim:
            noise = diffusers.DDPMScheduler.from_config(noise.config)  # as DDIMPipeline does for its own
        pipeline = pipeline(unet=net, scheduler=noise)
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(drawn["seed"])
        images = pipeline(
            batch_size=drawn["count"],
            generator=generator,
            num_inference_steps=drawn["steps"],
            output_type="np",
            **more,
        ).images
    except (ArithmeticError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return None
    return np.rint(images * 255).astype(np.uint8) if np.isfinite(images).all() else None


def compare(folder: Path, number: int) -> str:
    """Draw it here and there, and say how it went: "equal"; "refused: beta_start, beta_end", the options that the
    refusal names; "diffusers fails", where it alone does; or what is wrong: "differs by 17", "refused without a name".
    """
    drawn = draw(number)
    try:
        mine = ours(folder, drawn)
    except MinidiffError as error:
        reason = str(error).replace("scheduler_config.json", "")
        named = [name for name in OPTIONS if name in reason]
        return f"refused: {', '.join(named)}" if named else "refused without a name"
    expected = theirs(drawn)
    if expected is None:
        return "diffusers fails"
    largest = np.abs(mine.astype(int) - expected).max()
    return "equal" if largest <= LEVELS else f"differs by {largest}"


def main(first: int, end: int) -> None:
    """Compare the draws first … end - 1 and print how many went how."""
    with tempfile.TemporaryDirectory() as folder, backend.using("numpy"):
        went = {number: compare(Path(folder), number) for number in range(first, end)}
    for number, how in went.items():
        if how.startswith("differs"):
            print(number, how, draw(number))
    for how, times in Counter(went.values()).most_common():
        print(f"{times:4d} {how}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
