"""The command that gives a model away: `python -m minidiff.export --checkpoint runs/my-run --out for-diffusers`.

Idea: what was trained here can be drawn with elsewhere.  The averaged weights, which draw, go into a folder that the
diffusers library loads as a `UNet2DModel` and a scheduler.
Beside sample.py in the reading order; interop/ does the work.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from minidiff import backend, interop
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.nn import UNet
from minidiff.pipeline import load


@dataclass(frozen=True)
class ExportConfig:
    """Write a model without labels as the diffusers library reads it: config.json, diffusion_pytorch_model.safetensors
    and scheduler_config.json."""

    checkpoint: Path | None = None
    """The model: a checkpoint file, or a training's folder for its newest checkpoint."""
    out: Path | None = None
    """Folder for the files; new or empty, nothing in it is overwritten."""


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default the process's."""
    config = tyro.cli(
        ExportConfig,
        prog="python -m minidiff.export",
        args=list(sys.argv[1:] if arguments is None else arguments),
        config=(tyro.conf.HelptextFromCommentsOff,),
    )
    if config.checkpoint is None or config.out is None:
        raise MinidiffError("which model, and where to? give --checkpoint and --out")
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise MinidiffError(f"--out {config.out} is not empty, and nothing is overwritten; name another folder")
    backend.use("numpy")  # nothing is computed
    model = load(config.checkpoint)
    assert isinstance(model.model, UNet) and model.config is not None  # as they are for checkpoints
    diffusion = model.config.diffusion
    scheduler = interop.scheduler_options(diffusion.schedule, diffusion.times, diffusion.target, diffusion.zero_snr)
    interop.save_as_diffusers(model.model, config.out, scheduler)
    for path in sorted(config.out.iterdir()):
        print(path)


if __name__ == "__main__":
    main()
