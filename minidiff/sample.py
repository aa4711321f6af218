"""The command that draws images: `python -m minidiff.sample --checkpoint runs/my-run "a dog in a winter forest"`.

Idea: one object, `SampleRequest`, contains everything that decides the images.  It is stored in grid.png itself, with
the hashes of the files that were used, so that `--like grid.png` can draw the same images again, to the bit.
Leaves out all but parsing the command line and loading the model: sampling/inputs.py reads images, pipeline/prepare.py
encodes prompts, sampling/draw.py draws.  docs/chapter10.md has the whole way of a prompt, function by function.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from minidiff import backend, command_line, compile_beside
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.pipeline.branch import branch
from minidiff.pipeline.loading import load, load_diffusers
from minidiff.pipeline.model import Model
from minidiff.pipeline.plan import Plan
from minidiff.pipeline.prepare import prepare
from minidiff.processes import world
from minidiff.processes.command import join
from minidiff.processes.nccl import select_gpu
from minidiff.sampling import branches, like
from minidiff.sampling.draw import OutputOptions, draw
from minidiff.sampling.inputs import files_of, read_inputs
from minidiff.sampling.request import SampleRequest


@dataclass(frozen=True)
class SampleConfig:
    """Draw images with a trained model: grid.png, and on request the images one by one, as an array, as an
    animation of their making, or with every step written down."""

    request: SampleRequest = field(default_factory=SampleRequest)
    threads: int | None = None
    """CPU threads that compute, for numpy those of its BLAS. Default: all that this process may use. They do not change
    the images, but for numpy's last bits."""
    like: Path | None = None
    """A grid.png of this command: repeat it to the bit. Options given beside it replace its settings."""
    out: Path | None = None
    """Folder for the files, by default a new one under runs/. Nothing in it is overwritten."""
    images: bool = False
    """Also write each image as a PNG of its own."""
    array: bool = False
    """Also write samples.npz: arr_0, uint8 (N, H, W, C), as evaluators read it, and the labels."""
    animation: Literal["none", "gif", "apng"] = "none"
    """Also write noise becoming image, x_t and the prediction x0_hat side by side."""
    explain: bool = False
    """Also write explain.html, to open in a browser: every step of the first images, what guidance and each word
    contribute, and the formulas with their numbers."""
    trace: bool = False
    """Also write trace.npz: t, x_t, x0_hat and eps_hat of every step."""
    watch: bool = False
    """Show the images emerging: in a terminal with true colour, else in watch.png, rewritten at each step."""


@exit_with_one_line
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default the process's."""
    with join():
        run(*parse(sys.argv[1:] if arguments is None else arguments))


def run(config: SampleConfig, stored: dict[str, str]) -> None:
    """Draw; stored: the hashes that the files of --like must have."""
    request = config.request
    backend.on_compile(lambda line: tqdm.write(line, file=sys.stderr))
    backend.use(request.backend, config.threads)
    compile_beside.start(compile_beside.DRAWING)
    select_gpu(world.current())
    if request.checkpoint is not None and request.diffusers is not None:
        raise MinidiffError("which model? give --checkpoint or --diffusers, not both")
    model = load(request.checkpoint) if request.diffusers is None else load_diffusers(request.diffusers)
    for path in request.adapter:
        model = model.with_adapter(path)
    request, plan = plan_of(request, model)
    digests = like.check(config.like, stored, files_of(request, model))
    outputs = OutputOptions(config.images, config.array, config.animation, config.explain, config.trace, config.watch)
    draw(plan, request, outputs, config.out, digests)


def plan_of(request: SampleRequest, model: Model) -> tuple[SampleRequest, Plan]:
    """Read the images that a request names, and prepare its sampling run, with its branches; return both.

    The request comes back with the model's defaults filled in, as it is to be stored.
    """
    plan = prepare(model, request, read_inputs(request, model))
    steps, scale = plan.settings.steps, plan.settings.guidance_scale
    request = replace(request, steps=steps, guidance_scale=scale, backend=backend.current().name)
    for number, (step, stage) in enumerate(branches.stages(request)[1:], 1):
        try:
            plan = branch(plan, step, stage, read_inputs(stage, model))
        except MinidiffError as error:
            raise MinidiffError(f"branch {number}, step {step}: {error}") from error
    return request, plan


def parse(arguments: Sequence[str]) -> tuple[SampleConfig, dict[str, str]]:
    """Read the command line, on top of the request in `--like`; return it with the hashes that its files must have."""
    config = command_line.read(SampleConfig, "sample", arguments)
    if config.like is None:
        return config, {}
    start, digests = like.read(config.like)
    if config.request.adapter:
        start = replace(start, adapter=())  # those that are typed take their place
    return command_line.read(SampleConfig, "sample", arguments, SampleConfig(start)), digests


if __name__ == "__main__":
    main()
