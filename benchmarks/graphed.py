"""What replay gains: `python -m benchmarks.graphed`.

Measured, in rounds in which both take turns: a training step of the default and of the plain network, a drawing of 16
pictures and one of a single picture with guidance, each replayed and in Python.  The ratios are medians of the rounds'
own ratios.  First both must come to the same bits.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro

from benchmarks.peers import machine, ours
from benchmarks.peers.problems import DEFAULT, PLAIN, made_small
from benchmarks.peers.records import paired_ratio
from minidiff import backend
from minidiff.checkpoint.build import make_process
from minidiff.checkpoint.config import DiffusionConfig
from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.run import Noise, Run
from minidiff.diffusion.samplers import ddim
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.nn.module import watching

CALLS = 5  # after which everything is replayed
STEPS = 20  # of a drawing that is timed


DESCRIPTION = "Measure training steps and drawings, replayed and in Python, in turns; print the results as JSON."


@dataclass(frozen=True)
class Arguments:
    """rounds: of each problem.  threads: of the kernels, all by default.  quick: two images, one round, to try it."""

    rounds: int = 21
    threads: int | None = None
    quick: bool = False


class Step:
    """A training step."""

    def __init__(self, network: Any) -> None:
        self.job = ours.StepJob(network)

    def run(self) -> None:
        self.job.run()

    def result(self) -> np.ndarray:
        return self.job.trainer.parameters.w

    def graph(self) -> Any:
        return next(iter(self.job.trainer._backward.states.values())).graph


class Drawing:
    """STEPS steps of DDIM with guidance; `count` pictures of the default network."""

    def __init__(self, network: Any, count: int) -> None:
        self.model = ours.StepJob(network).trainer.model
        self.process, self.samples = make_process(DiffusionConfig()), np.arange(count)
        labels = np.arange(count) % network.classes
        self.noise, self.predict = Noise(0, self.samples), denoiser(self.model, labels, 3.0)
        config = self.model.config
        self.x_T = self.noise.start((config.height, config.width, config.channels))

    def run(self) -> None:
        *_, last = ddim(Run(self.predict, self.process, STEPS, self.noise, "clip"), self.x_T)
        self.drawn = last.x_prev

    def result(self) -> np.ndarray:
        return self.drawn


def measure(make: Callable[[], Any], rounds: int) -> dict[str, Any]:
    """Return milliseconds of both, and how many times as fast a replay is."""
    replayed, in_python = make(), make()

    def python() -> None:
        with watching():
            in_python.run()

    for _ in range(CALLS):
        replayed.run()
        python()
    if replayed.result().tobytes() != in_python.result().tobytes():
        raise MinidiffError("a replay gave other bits than Python")
    times = np.array([[timed(replayed.run), timed(python)] for _ in range(rounds)]) * 1000
    found = {"replayed_ms": float(np.median(times[:, 0])), "python_ms": float(np.median(times[:, 1]))}
    found["ratio"] = paired_ratio(times[:, 0], times[:, 1])
    if isinstance(replayed, Step):
        graph = replayed.graph()
        found |= {"calls": len(graph.calls), "memory_mib": graph.size / 2**20}
    return found


def timed(run: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@exit_with_one_line
def main(words: Sequence[str] | None = None) -> None:
    """Check, measure, print; exits with 2 for a mistake or a disagreement."""
    arguments = tyro.cli(Arguments, args=words, prog="python -m benchmarks.graphed", description=DESCRIPTION)
    if arguments.rounds < 1:
        raise MinidiffError(f"--rounds must be 1 or more, got {arguments.rounds}")
    threads = backend.use("numba", arguments.threads).threads()
    small = made_small if arguments.quick else lambda network: network
    problems: dict[str, Callable[[], Step | Drawing]] = {
        "step/default": lambda: Step(small(DEFAULT)),
        "step/plain": lambda: Step(small(PLAIN)),
        "drawing/16": lambda: Drawing(small(DEFAULT), 16),
        "drawing/1": lambda: Drawing(small(DEFAULT), 1),
    }
    results = {
        "machine": {"cpu": machine.processor(), "versions": machine.versions()},
        "environment": machine.environment(os.environ),
        "settings": {"threads": threads, "rounds": arguments.rounds},
        **{name: measure(make, 1 if arguments.quick else arguments.rounds) for name, make in problems.items()},
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
