"""One convolution up the ladder, from seven loops to one fused operation: `python -m benchmarks.ladder`.

Idea: what makes a convolution fast is a handful of ideas, and each is a rung: the function here differs from the one
before it in that idea alone. The last rungs are the kernels themselves. Every rung is held against the definition,
kernels/conv2d/reference.py in float64, on the numbers that are then timed.
Reading order: with docs/chapter16.md, which tells why each rung is faster. Leaves out gradients and other shapes:
`pytest benchmarks/test_conv2d.py` and `python -m benchmarks.peers conv` have those.
"""

import contextlib
import importlib.util
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from numba import njit, prange

with contextlib.suppress(ModuleNotFoundError):  # `main` says so
    import scipy.linalg.cython_blas  # noqa: F401  the BLAS of Numba's np.dot: there when its threads are set to one

from benchmarks.peers import machine
from benchmarks.peers.problems import Convolution
from benchmarks.peers.records import Log, Record, paired_ratio
from benchmarks.peers.workers import Worker, calls_for, require_torch
from minidiff import backend, cache_folders
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.kernels.conv2d.ladder import im2col, naive, reordered
from minidiff.kernels.conv2d.reference import conv2d as define
from minidiff.kernels.norm_silu_conv2d.reference import norm_silu_conv2d as define_fused

PROBLEM, TINY = Convolution(32, 32, 64, 64), Convolution(4, 8, 16, 16)
SHARE = 8  # the naive rung gets every eighth picture, and its time is multiplied
DEPTH, TIMES = 128, 20_000  # the roof: products of (8, 128) and (128, 32), 20 KiB, so many times
BOUND = 5e-5  # of the largest number: Winograd's way is off by 1.5e-5 at most, a wrong formula by 1e-1 or more
PEER = "torch channels_last"


# ---- the rungs that are kernels -------------------------------------------------------------------------------------


def gemm(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Implicit GEMM: the same product without the rows, by a micro-kernel that keeps its sums in registers."""
    return backend.get("numba-gemm").conv2d(x, w)


def winograd(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """A quarter of the multiplications; the filter's transform is part of the time."""
    return backend.get("numba").conv2d(x, w)


@dataclass(frozen=True)
class Block:
    """What half a residual block computes: conv2d(silu(group_norm(x)), w) + b + add."""

    x: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    groups: int
    eps: float
    w: np.ndarray
    b: np.ndarray
    add: np.ndarray

    def separate(self) -> np.ndarray:
        """Four operations, one after the other: each writes an image that the next one reads."""
        k = backend.get("numba")
        a, _, _ = k.group_norm(self.x, self.scale, self.shift, self.groups, self.eps, True)
        return k.conv2d(a, self.w, self.b) + self.add

    def fused(self) -> np.ndarray:
        """One operation: pixels are normalised where they are packed, and the rest is added where y is written."""
        return backend.get("numba").norm_silu_conv2d(*vars(self).values())[0]


# ---- measuring ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rung:
    """A name, what is called, what it must return (float64), and by what its time is multiplied."""

    name: str
    run: Callable[[], np.ndarray]
    exact: np.ndarray
    share: float = 1
    of: str = ""  # the rung that it is compared with


def rungs(problem: Convolution) -> list[Rung]:
    """The ladder for a 3x3 convolution with stride 1: five rungs, and a pair."""
    x, w, add = problem.arrays()
    exact = define(x.astype(np.float64), w.astype(np.float64))
    few = x[::SHARE].copy()
    rng, C_in, C_out = np.random.default_rng(1), problem.inputs, problem.outputs
    scale, shift, b = (rng.standard_normal(n, np.float32) for n in (C_in, C_in, C_out))
    block = Block(x, scale, shift, math.gcd(8, C_in), 1e-5, w, b, add)
    in_float64 = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in vars(block).values()]
    exact_block, _, _ = define_fused(*in_float64)
    return [
        Rung("naive", lambda: naive(few, w), exact[::SHARE], share=problem.batch / len(few)),
        Rung("reordered", lambda: reordered(x, w), exact, of="naive"),
        Rung("im2col", lambda: im2col(x, w), exact, of="reordered"),
        Rung("gemm", lambda: gemm(x, w), exact, of="im2col"),
        Rung("winograd", lambda: winograd(x, w), exact, of="gemm"),
        Rung("separate", block.separate, exact_block),
        Rung("fused", block.fused, exact_block, of="separate"),
    ]


def check(name: str, found: np.ndarray, exact: np.ndarray) -> float:
    """Return the largest error relative to the largest number; raise MinidiffError in one line above the bound."""
    if found.shape != exact.shape:
        raise MinidiffError(f"ladder: {name} has shape {found.shape}, expected {exact.shape}")
    error = float(np.abs(found - exact).max() / np.abs(exact).max())
    if not error <= BOUND:
        raise MinidiffError(f"ladder: {name} is off by {error:.1e} of the largest number, at most {BOUND} is expected")
    return error


def seconds(run: Callable[[], object], calls: int) -> float:
    """Seconds for one call, the mean over so many; one more goes before them, to fetch its data back into cache."""
    run()
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / calls


def roof(threads: int, times: int) -> Callable[[], int]:
    """Return a function that does nothing but multiply and add, and returns how many of these operations it did.

    The inner product of the kernels, on the same few numbers over and over: what a convolution could reach if
    everything else cost nothing.
    """
    # only now: the backend says where compiled kernels are kept before it imports them
    from minidiff.kernels.numba_product import ROWS, WIDE, multiply_wide
    from minidiff.kernels.numba_vector import pointer

    @njit
    def multiply(a, b, c):
        for _ in range(times):
            multiply_wide(pointer(a), DEPTH, 1, pointer(b), WIDE, pointer(c), WIDE, DEPTH, False)

    @njit(parallel=True)
    def multiply_everywhere(a, b, c):
        for worker in prange(len(a)):
            multiply(a[worker], b[worker], c[worker])

    shapes = (threads, ROWS, DEPTH), (threads, DEPTH, WIDE), (threads, ROWS, WIDE)
    a, b, c = (np.ones(shape, np.float32) for shape in shapes)

    def run() -> int:
        multiply_everywhere(a, b, c)
        return 2 * threads * times * ROWS * DEPTH * WIDE

    return run


@dataclass(frozen=True)
class Arguments:
    """How often to measure, and where to write it."""

    json: Path | None = None
    """File for the records, replaced."""
    rounds: int = 9
    """Timings of each rung; more help on a machine that is not quiet."""
    threads: int | None = None
    """CPU threads of every rung; None: all that the process may use."""
    quick: bool = False
    """A tiny convolution, once: tries the benchmark and measures nothing."""


DESCRIPTION = f"""\
One 3x3 convolution, from seven loops to one fused operation: {PROBLEM.name} (pictures x height x width x channels).

Every rung is first held against the definition. Then they take turns, round after round; medians are printed, and how \
many times as fast each is as the rung before it, the median of the rounds' ratios. GFLOP/s are effective: the \
operations of the definition by the time, however few are made. Leave the machine alone meanwhile.

  python -m benchmarks.ladder --json ladder.json"""


@exit_with_one_line
def main(words: Sequence[str] | None = None) -> None:
    """Check, measure, print; exits with 2 for a mistake or a rung that computes something else."""
    arguments = tyro.cli(Arguments, args=words, prog="python -m benchmarks.ladder", description=DESCRIPTION)
    if arguments.rounds < 1:
        raise MinidiffError(f"--rounds must be 1 or more, got {arguments.rounds}")
    if importlib.util.find_spec("scipy") is None:
        raise MinidiffError("the rung im2col takes SciPy's BLAS, which is not installed: pip install -e '.[test]'")
    threads = backend.use("numba", arguments.threads).threads()
    problem = TINY if arguments.quick else PROBLEM
    measure(problem, threads, 1 if arguments.quick else arguments.rounds, arguments.quick, Log(arguments.json))


def measure(problem: Convolution, threads: int, rounds: int, quick: bool, log: Log) -> None:
    """Check all rungs, let them take turns, print and write what came out."""
    log.add(describe(threads, rounds))
    ladder, least = rungs(problem), 0.0 if quick else 0.05
    errors = {rung.name: check(rung.name, rung.run(), rung.exact) for rung in ladder}  # and compiles
    work = 18 * problem.batch * problem.size**2 * problem.inputs * problem.outputs
    multiply = roof(threads, 100 if quick else TIMES)
    operations = multiply()
    runs = {rung.name: rung.run for rung in ladder} | {"roof": multiply}
    calls = {name: calls_for(seconds(run, 1), least) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    peer = ask_peer(problem, threads, ladder[1].exact)
    try:
        peer_calls = calls_for(peer.ask("time", 1), least) if peer else 0
        for _ in range(rounds):
            for name, run in runs.items():
                times[name].append(seconds(run, calls[name]))
            if peer:
                times.setdefault(PEER, []).append(peer.ask("time", peer_calls))
    finally:
        if peer:
            peer.close()
    for rung in ladder:
        times[rung.name] = [rung.share * t for t in times[rung.name]]

    print(f"\n{f'{problem.name}, {threads} threads, {rounds} rounds':40s}   median ms   GFLOP/s   times as fast as")
    show(log.add(record("roof", times["roof"], operations)))
    for rung in ladder:
        before = times.get(rung.of, [])
        found = record(rung.name, times[rung.name], work, rung.of, before) | {"difference": errors[rung.name]}
        show(log.add(found), f"  ({len(rung.exact)} pictures, times {rung.share:g})" if rung.share > 1 else "")
    if peer:
        show(log.add(record(PEER, times[PEER], work, "winograd", times["winograd"])))


def ask_peer(problem: Convolution, threads: int, exact: np.ndarray) -> Worker | None:
    """Return PyTorch in a process of its own, which has agreed; None, and a line that says so, where it is absent."""
    try:
        require_torch()
    except MinidiffError as absent:
        print(f"left out: {absent}")
        return None
    worker = Worker(PEER, threads)
    try:
        worker.ask("make", problem)
        check(PEER, worker.ask("check")["result"], exact)
    except BaseException:
        worker.close()
        raise
    return worker


def describe(threads: int, rounds: int) -> Record:
    """Return, and print, the record of the machine."""
    versions, environment = machine.versions(), machine.environment(os.environ)
    print(f"machine      {machine.processor()}")
    print(f"versions     {', '.join(f'{name} {version}' for name, version in versions.items())}")
    print(f"environment  {' '.join(f'{key}={value}' for key, value in environment.items())}")
    return {
        "what": "machine",
        "cpu": machine.processor(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **versions},
        "kernels": cache_folders.kernel_folder().name.removeprefix("kernels-"),
        "environment": environment,
        "settings": {"threads": threads, "rounds": rounds},
    }


def record(name: str, times: Sequence[float], work: int, of: str = "", before: Sequence[float] = ()) -> Record:
    """Return the record of one rung.  work: operations of a call.  of, before: what it is compared with."""
    made: Record = {"what": f"ladder/{name}", "ours_s": float(np.median(times)), "rounds": len(times)}
    made["spread"] = [float(q) for q in np.quantile(times, (0.25, 0.75))]
    made["gflops"] = work / made["ours_s"] / 1e9
    if of:
        made |= {"of": of, "ratio": paired_ratio(times, before)}
    return made


def show(found: Record, note: str = "") -> None:
    """Print a record in one line."""
    factor = f"{found['ratio']:8.2f}  {found['of']}" if "of" in found else ""
    name = found["what"].removeprefix("ladder/")
    print(f"{name:40s}{1e3 * found['ours_s']:12.2f}{found['gflops']:10.1f}{factor}{note}")


if __name__ == "__main__":
    main()
