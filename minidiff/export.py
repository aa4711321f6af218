"""The command that exports a model: `python -m minidiff.export --checkpoint runs/my-run --out for-diffusers`.

Idea: a model that was trained here can be used elsewhere.  A U-Net without labels or captions is written, with its
averaged weights, into a folder that the diffusers library loads as a `UNet2DModel` and a scheduler (--out).  Of any
model or adapter, the averaged weights alone can be written into one small file for minidiff (--weights).
Leaves out the conversion to the format of diffusers: interop/.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minidiff import __version__, backend, command_line, interop
from minidiff import checkpoint as checkpoints
from minidiff.errors import MAX_PRINTED, MinidiffError, exit_with_one_line, printable
from minidiff.files import new_folder, sha256
from minidiff.nn import DiT, UNet
from minidiff.pipeline.loading import load
from minidiff.training import run_dir as folders


@dataclass(frozen=True)
class ExportConfig:
    """Export a model: one without labels or captions as the diffusers library reads it (config.json,
    diffusion_pytorch_model.safetensors and scheduler_config.json), or any model, or an adapter, as one small file to
    draw with."""

    checkpoint: Path | None = None
    """The model: a checkpoint file, or a training's folder for its newest checkpoint."""
    out: Path | None = None
    """Folder for diffusers' files; new or empty, nothing in it is overwritten."""
    weights: Path | None = None
    """In its place: the file for weights to draw with, in float16, such as dogs.safetensors."""


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default the process's."""
    config = command_line.read(ExportConfig, "export", sys.argv[1:] if arguments is None else arguments)
    if config.checkpoint is None or (config.out is None) == (config.weights is None):
        raise MinidiffError("which model, and where to? give --checkpoint, and --out or --weights")
    backend.use("numpy")  # nothing is computed
    if config.weights is not None:
        write_weights(config.checkpoint, config.weights)
    else:
        assert config.out is not None
        write_diffusers(config.checkpoint, config.out)


def write_weights(checkpoint: Path, file: Path) -> None:
    """Write a checkpoint's averaged weights in float16, with the seed, the steps and the time of their training."""
    if file.exists():
        raise MinidiffError(f"--weights {file} exists, and nothing is overwritten; name another file")
    if not file.parent.is_dir():
        raise MinidiffError(f"--weights {file}: there is no folder {file.parent}")
    found = checkpoints.find(checkpoint)
    metrics = folders.read_metrics(folders.of_checkpoint(found.path) / "metrics.jsonl")
    seconds = next((line["seconds"] for line in metrics if line["step"] == found.step), None)
    minutes = "" if seconds is None else f" in {seconds / 60:.0f} minutes"
    run = found.config.run
    made = f"minidiff {__version__}: {found.step} steps{minutes}, seed {run.seed}"
    checkpoints.save_for_sampling(file, found, f"{made}; checkpoint sha256 {sha256(found.path)}")
    print(f"{printable(file, MAX_PRINTED)}  {file.stat().st_size / 1e6:.2f} MB  {made}")


def write_diffusers(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint's averaged weights as a folder of the diffusers library."""
    model = load(checkpoint)
    if isinstance(model.model, DiT):
        raise MinidiffError(f"{model.path} is a transformer, and what diffusers gets is a U-Net; give --weights")
    assert isinstance(model.model, UNet) and model.config is not None  # as they are for checkpoints
    if model.space.autoencoder_config is not None:
        raise MinidiffError(f"{model.path} denoises latents, and diffusers has no decoder like theirs; give --weights")
    diffusion = model.config.diffusion
    scheduler = interop.scheduler_options(
        diffusion.schedule, diffusion.num_timesteps, diffusion.target, diffusion.zero_snr
    )
    with new_folder(out) as folder:
        interop.save_as_diffusers(model.model, folder, scheduler)
    for path in sorted(out.iterdir()):
        print(printable(path, MAX_PRINTED))


if __name__ == "__main__":
    main()
