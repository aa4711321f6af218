"""Sections `step` and `sample`: a whole training step, its memory, and a whole sampling run."""

import sys
from dataclasses import replace

from benchmarks.peers.problems import DEFAULT, PLAIN, Decoding, Evaluation, Network, Sampling, made_small
from benchmarks.peers.records import Log, agree, bound_of, compare, show
from benchmarks.peers.settings import Settings
from benchmarks.peers.workers import OURS, Worker, Workers, peers, runtimes

NETWORKS = {"plain": PLAIN, "default": DEFAULT}
MEMORY_PEERS = ("torch eager", "torch channels_last")
MEMORY_STEPS = 5


def measure_steps(settings: Settings, log: Log) -> None:
    """Measure time and memory of a training step of both networks; short steps are easily disturbed: more of them."""
    for name, network in NETWORKS.items():
        rounds = settings.rounds if network is PLAIN or settings.quick else 3 * settings.rounds
        measure(f"step/{name}", network, rounds, settings, log)
    for name, network in NETWORKS.items():
        measure_memory(f"memory/{name}", network, settings, log)


def measure_sampling(settings: Settings, log: Log) -> None:
    """Measure 50 steps of DDIM; a run takes many seconds, so half the rounds do."""
    measure("sample/plain", Sampling(PLAIN), (settings.rounds + 1) // 2, settings, log)


def measure_latency(settings: Settings, log: Log) -> None:
    """Measure one evaluation of two images: a step of a drawing of one image with guidance."""
    for name, network in NETWORKS.items():
        problem = Evaluation(replace(network, batch=2))
        measure(f"latency/{name}", problem, 3 * settings.rounds, settings, log, runtimes())


def measure(
    what: str,
    problem: Network | Sampling | Evaluation | Decoding,
    rounds: int,
    settings: Settings,
    log: Log,
    more: tuple[str, ...] = (),
) -> None:
    """Measure one problem: every engine makes it, and those in `more`; they agree, they take turns."""
    with Workers((OURS, *peers(compiled=not settings.quick), *more), settings.threads) as workers:
        print(f"\n{what}: checking, and compiling what is to be compiled")
        workers.make(made_small(problem) if settings.quick else problem)
        found = agree(what, workers.check())
        for peer, (error, where) in found.items():
            print(f"  {peer:24s}differs by {error:.1e} in {where} (at most {bound_of(peer):.0e})")
        record = compare(what, workers.in_turn(rounds, settings.least))
    record["difference"] = {peer: error for peer, (error, _) in found.items()}
    show(log.add(record))


def measure_memory(what: str, problem: Network, settings: Settings, log: Log) -> None:
    """Measure by how much 5 steps raise a process above what it has when model and optimiser stand.

    Before the measurement a step with one image has been made and dropped, with model and optimiser of its own: it
    loads compiled kernels and starts threads.  Weights, gradients, moments and average exist on both sides before the
    first step; what is measured is therefore what a step itself needs.
    """
    if not sys.platform.startswith("linux"):
        print(f"\n{what}: left out, because only Linux tells a process its peak and lets it be set back")
        return
    problem, peaks = made_small(problem) if settings.quick else problem, {}
    for engine in (OURS, *MEMORY_PEERS):
        worker = Worker(engine, settings.threads)
        try:
            worker.ask("make", replace(problem, batch=1))
            worker.ask("time", 1)
            worker.ask("make", problem)
            peaks[engine] = [worker.ask("grown", MEMORY_STEPS)]
        finally:
            worker.close()
    show(log.add(compare(what, peaks, unit="MiB")))
