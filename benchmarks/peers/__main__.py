"""The command: `python -m benchmarks.peers --help`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tyro

from benchmarks.peers import conv, ddpm, growth, latent, machine, network, start
from benchmarks.peers.records import Log
from benchmarks.peers.settings import Settings
from benchmarks.peers.workers import cores, require_torch
from minidiff.errors import MinidiffError, exit_with_one_line

Section = Literal["all", "conv", "step", "sample", "latency", "latent", "growth", "start", "ddpm"]
SECTIONS = {
    "conv": conv.measure,
    "step": network.measure_steps,
    "sample": network.measure_sampling,
    "latency": network.measure_latency,
    "latent": latent.measure_latents,
    "growth": growth.measure,
    "start": start.measure,
    "ddpm": ddpm.measure,
}
assert set(SECTIONS) == set(get_args(Section)) - {"all"}

DESCRIPTION = """\
Measure minidiff beside PyTorch: convolutions, training steps, sampling, one evaluation (beside ONNX Runtime and \
OpenVINO too), latent diffusion, how cost grows, how long a start takes, a known network beside diffusers.

Results are first compared, and a disagreement ends the run. Then every engine, in a process of its own, has its turn \
round after round; medians, quartiles and the medians of the ratios by round are printed. Ratios above 1 mean that \
minidiff is faster. Leave the machine alone meanwhile.

  python -m benchmarks.peers --json peers.json
  python -m benchmarks.peers conv --rounds 5"""

AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",  # beyond those that the name implies
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}


@dataclass(frozen=True)
class Arguments:
    """What to measure, and where to write it."""

    section: tyro.conf.Positional[Section] = "all"
    """One of the sections, or all of them one after another."""
    json: Path | None = None
    """File for the records, replaced; growth draws its curves beside it, as .png."""
    rounds: int = 9
    """Timings of each engine; more help on a machine that is not quiet."""
    threads: int | None = None
    """Threads of each engine; None: as many as there are cores."""
    instructions: Literal["all", "avx2"] = "all"
    """avx2: no engine may use AVX-512, to learn on an x86 machine that has it how one without it compares."""
    quick: bool = False
    """Tiny problems, once: tries the benchmark in a minute or two and measures nothing."""


@exit_with_one_line
def main(words: Sequence[str] | None = None) -> None:
    """Parse and measure; exits with 2 for a mistake, a disagreement or a missing PyTorch, 130 after Ctrl-C."""
    arguments = tyro.cli(Arguments, args=words, prog="python -m benchmarks.peers", description=DESCRIPTION)
    threads = cores() if arguments.threads is None else arguments.threads
    if arguments.rounds < 1:
        raise MinidiffError(f"--rounds must be 1 or more, got {arguments.rounds}")
    if not 1 <= threads <= cores():
        raise MinidiffError(f"--threads must be from 1 to {cores()}, the cores, got {threads}")
    require_torch()
    if arguments.instructions == "avx2":
        os.environ.update(AVX2)  # which the engines' processes inherit
    settings = Settings(1 if arguments.quick else arguments.rounds, threads, arguments.quick)
    log = Log(arguments.json)
    machine.show_machine(log.add(machine.describe(settings)))
    for name, measure in SECTIONS.items():
        if arguments.section in ("all", name):
            print(f"\n==== {name}")
            measure(settings, log)


if __name__ == "__main__":
    main()
