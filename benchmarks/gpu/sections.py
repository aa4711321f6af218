"""The sections, in their order: what is there, what it can do, do our kernels compile, are they right, how fast.

All compare with PyTorch on the same device, in float32 with TF32 switched off, as ours is exact float32.
"""

import importlib.metadata
import importlib.util
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.bench import Bench
from benchmarks.noised import noised
from benchmarks.peers import ours
from benchmarks.peers.problems import (
    DEFAULT,
    DIRECTIONS,
    OTHERS,
    PLAIN,
    USUAL,
    Convolution,
    Network,
    Sampling,
    made_small,
)
from benchmarks.peers.records import agree, compare, mean_record, row, show
from benchmarks.peers.workers import OURS
from minidiff import backend
from minidiff.checkpoint.config import ModelConfig
from minidiff.kernels import cuda_compile
from tests.cuda.cases import run as run_cases

TORCH = importlib.util.find_spec("torch") is not None
VERSIONS = ["minidiff", "numpy", "cupy-cuda13x", "cupy-cuda12x", "numba", "numba-cuda", "torch", "nvidia-cuda-nvrtc"]
ARCHITECTURES = ("sm_80", "sm_90")
BATCH = 128  # a GPU is idle with fewer images
LOSS_STEPS, LOSS_BOUND = 20, 1e-3
KERNELS = Path(cuda_compile.__file__).parent
BOUND = 30 * np.finfo(np.float32).eps


def machine(bench: Bench) -> None:
    """Versions, and which GPU it is."""
    found = {}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    about = {"python": platform.python_version(), **found, "gpu": "none: dry run"}
    if not bench.dry:
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(0)
        about["gpu"] = properties["name"].decode()
        about["memory_GiB"] = round(properties["totalGlobalMem"] / 2**30)
        about["driver"], about["runtime"] = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    bench.log.add({"what": "machine", **about})
    print("  " + ", ".join(f"{name} {value}" for name, value in about.items()))


def ceilings(bench: Bench) -> None:
    """How many bytes a second a copy moves, and how many multiply-adds a second a large float32 product makes."""
    xp, n = backend.current().xp, 64 if bench.dry else 8192
    a = xp.ones((n, n), dtype=np.float32)
    b = xp.ones((n, n), dtype=np.float32)

    def copy() -> None:
        b[...] = a

    times = {name: float(np.median(t)) for name, t in bench.in_turn({"copy": copy, "product": lambda: a @ b}).items()}
    rates = {"copy_GB_s": 2 * 4 * n * n / times["copy"] / 1e9, "product_TFLOP_s": 2 * n**3 / times["product"] / 1e12}
    bench.log.add({"what": "ceilings", **rates})
    print(f"  copy {rates['copy_GB_s']:.0f} GB/s, float32 product {rates['product_TFLOP_s']:.1f} TFLOP/s")


def compiling(bench: Bench) -> None:
    """Every .cu file for both architectures: seconds, registers, spills, shared memory."""
    cuda_compile.compiler()  # where there is none, that is said once
    for path in sorted(KERNELS.glob("*/*.cu")):
        for architecture in ARCHITECTURES:
            with bench.attempt(f"compile/{path.stem}/{architecture}"):
                start = time.perf_counter()
                _, log = cuda_compile.compile_source(path.read_text("utf-8"), path.name, architecture)
                seconds = time.perf_counter() - start
                usage = {name: vars(each) for name, each in cuda_compile.usage(log).items()}
                bench.log.add({"what": f"compile/{path.stem}/{architecture}", "seconds": seconds, "usage": usage})
                spilled = sum(each["spilled"] for each in usage.values())
                print(
                    f"  {path.name:20s} {architecture} {seconds:5.2f} s, {len(usage)} kernels, {spilled} bytes spilled"
                )


def correctness(bench: Bench) -> None:
    """Every function of both CUDA versions against float64."""
    for version in ("cupy_cuda",) if bench.dry else ("cupy_cuda", "numba_cuda"):
        with bench.attempt(f"correctness/{version}"):
            start = time.perf_counter()
            errors = dict(run_cases(version))
            wrong = {name: error for name, error in errors.items() if not error <= BOUND}
            seconds = time.perf_counter() - start
            bench.log.add({"what": f"correctness/{version}", "cases": len(errors), "seconds": seconds, "wrong": wrong})
            print(f"  {version}: {len(errors)} cases, {len(wrong)} wrong, {seconds:.1f} s with compiling")
            if wrong:
                raise AssertionError(f"{len(wrong)} cases are wrong: {wrong}")


def on(name: str, function: Callable[[], Any]) -> Callable[[], Any]:
    """`function`, computed by this backend."""

    def call() -> Any:
        with backend.using(name):
            return function()

    return call


def ours_on(name: str, problem: Any) -> Any:
    """Our job of a problem on a backend: `run` and `check`."""
    with backend.using(name):
        job = ours.make(problem)
    job.run, job.check = on(name, job.run), on(name, job.check)
    return job


def peers(bench: Bench, problem: Any, compiled: bool) -> dict[str, Any]:
    """PyTorch's jobs of a problem, by name; in a dry run without PyTorch our own reference stands in."""
    if bench.dry and not TORCH:
        return {"numpy": ours_on("numpy", problem)}
    from benchmarks.peers import torch_jobs
    from benchmarks.peers.torch_jobs import Variant

    device = "cpu" if bench.dry else "cuda"
    variants = {
        "torch eager": Variant(False, False, False, device),
        "torch channels_last": Variant(True, False, False, device),
        **({"torch compile": Variant(True, True, False, device)} if compiled else {}),
    }
    jobs = {}
    for name, variant in variants.items():
        with bench.attempt(f"{name} cannot be made"):
            jobs[name] = torch_jobs.make(problem, variant)
    return jobs


def measure(bench: Bench, what: str, jobs: dict[str, Any]) -> dict[str, Any]:
    """Check that all jobs compute the same, then time them in turn; returns the record."""
    found = agree(what, {name: job.check() for name, job in jobs.items()})
    record = compare(what, bench.in_turn({name: job.run for name, job in jobs.items()}))
    record["difference"] = {name: error for name, (error, _) in found.items()}
    return bench.log.add(record)


def convolutions(bench: Bench) -> None:
    """Each shape and direction: ours beside cuDNN; the ladder (naive, Numba's tiles) on the first shape."""
    shapes = [Convolution(2, 8, 8, 8), Convolution(2, 8, 5, 3, 3, 2)] if bench.dry else [*USUAL, *OTHERS]
    for direction in DIRECTIONS:
        of_mean = []
        for number, shape in enumerate(shapes):
            if bench.left() < 0:
                raise TimeoutError("no time left")
            problem = replace(shape, batch=shape.batch if bench.dry else BATCH, direction=direction)
            what = f"conv/{direction}/{problem.name}"
            with bench.attempt(what):
                rungs = {} if number or bench.dry else {"numba-cuda": ours_on("numba-cuda", problem)}
                if not number:
                    rungs["naive"] = NaiveJob(problem)
                record = measure(bench, what, {OURS: ours_on("cupy", problem), **peers(bench, problem, False), **rungs})
                row(record)
                if shape in USUAL:
                    of_mean.append(record)
        if len(of_mean) == len(USUAL):
            common = [{**r, "peers": {n: s for n, s in r["peers"].items() if n.startswith("torch")}} for r in of_mean]
            row(bench.log.add(mean_record(f"conv/{direction}", common)))


class NaiveJob:
    """The ladder's first rung in CUDA C++."""

    def __init__(self, problem: Convolution) -> None:
        from minidiff.kernels.conv2d.cupy_cuda import naive

        x, w, gy = (backend.to_device(array) for array in problem.arrays())
        self.run = {
            "forward": lambda: naive.conv2d(x, w, None, problem.stride),
            "grad_x": lambda: naive.conv2d_grad_x(gy, w, x.shape, problem.stride),
            "grad_w": lambda: naive.conv2d_grad_w(gy, x, w.shape, problem.stride),
        }[problem.direction]

    def check(self) -> dict[str, np.ndarray]:
        return {"result": backend.to_numpy(self.run())}


def operations(bench: Bench) -> None:
    """Normalisation, attention, noise and the optimiser, each beside what PyTorch has for it."""
    if bench.dry and not TORCH:
        print("  left out: PyTorch is not installed")
        return
    import torch
    import torch.nn.functional as F

    k, device = backend.current(), "cpu" if bench.dry else "cuda"
    N, size, C = (2, 8, 16) if bench.dry else (BATCH, 32, 128)
    rng = np.random.default_rng(0)

    def both(*shape: int) -> tuple[Any, Any]:
        array = rng.standard_normal(shape, np.float32)
        return backend.to_device(array), torch.from_numpy(array).to(device)

    x, x_ = both(N, size, size, C)
    gy, gy_ = both(N, size, size, C)
    (scale, scale_), (shift, shift_) = both(C), both(C)
    x_, gy_ = (t.permute(0, 3, 1, 2) for t in (x_, gy_))  # channels_last

    def norm_(x: Any) -> Any:
        return F.silu(F.group_norm(x, 8, scale_, shift_, 1e-5))

    _, mean, rstd = k.group_norm(x, scale, shift, 8, 1e-5, True)
    asks = x_.detach().requires_grad_()
    kept = norm_(asks)

    tokens = 8 if bench.dry else 256
    (q, q_), (key, key_), (v, v_) = both(N, tokens, C), both(N, tokens, C), both(N, tokens, C)
    heads = [t.view(N, tokens, 4, C // 4).transpose(1, 2) for t in (q_, key_, v_)]

    n = 1000 if bench.dry else 10_000_000
    flat = [both(n) for _ in range(5)]
    hyper = np.array([1e-3, 0.9, 0.999, 1e-8, 0.01, 0.1, 0.001, 1.0, 0.999])
    weight = torch.nn.Parameter(flat[0][1])
    weight.grad = flat[1][1]
    adamw = torch.optim.AdamW([weight], lr=1e-3, fused=True)
    moving = flat[4][1]

    def update_() -> None:
        adamw.step()
        with torch.no_grad():
            moving.lerp_(weight, 0.001)

    samples = np.arange(N)
    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any], bool]] = {
        "group_norm + SiLU": (lambda: k.group_norm(x, scale, shift, 8, 1e-5, True)[0], lambda: norm_(x_), True),
        "its gradients": (
            lambda: k.group_norm_grad(gy, x, scale, shift, mean, rstd, 8, True)[0],
            lambda: torch.autograd.grad(kept, asks, gy_, retain_graph=True)[0],
            True,
        ),
        "attention, 4 heads": (
            lambda: k.attention(q, key, v, 4)[0],
            lambda: F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(N, tokens, C),
            True,
        ),
        "normal numbers": (
            lambda: k.normal((0, 1, 2), samples, size * size * C),
            lambda: torch.randn(N, size * size * C, device=device),
            False,  # other numbers, of the same distribution
        ),
        "AdamW + average": (lambda: k.adamw_ema(*(a for a, _ in flat), n, hyper), update_, False),  # in place
    }
    for what, (mine, theirs, same) in cases.items():
        with bench.attempt(f"op/{what}"):
            if same:
                here, there = backend.to_numpy(mine()), theirs().detach()
                there = (there.permute(0, 2, 3, 1) if there.ndim == 4 else there).cpu().numpy()
                agree(what, {OURS: {"result": here}, "torch": {"result": there}})
            else:
                mine(), theirs()
            row(bench.log.add(compare(f"op/{what}", bench.in_turn({OURS: mine, "torch": theirs}))))


def networks(bench: Bench) -> None:
    """A training step and a sampling run; and do the losses of 20 steps agree?"""
    tiny = Network(
        ModelConfig(patch=1, model_channels=8, channel_mult=(1, 2), attention_at=(4,)), size=8, batch=2, classes=3
    )
    several = {"tiny": tiny} if bench.dry else {"plain": PLAIN, "default": DEFAULT}
    for name, network in several.items():
        if not bench.dry:
            network = Network(network.model, network.size, BATCH, network.classes)
        with bench.attempt(f"losses/{name}"):
            losses(bench, name, network)
    for name, network in several.items():
        if not bench.dry:
            network = Network(network.model, network.size, BATCH, network.classes)
        for what, problem in ((f"step/{name}", network), (f"sample/{name}", Sampling(network))):
            if bench.left() < 0:
                raise TimeoutError("no time left")
            if bench.dry:
                problem = made_small(problem)
            if isinstance(problem, Sampling) and network.classes:
                continue  # guided drawing is not what PyTorch's job does
            with bench.attempt(what):
                jobs = {OURS: ours_on("cupy", problem), **peers(bench, problem, compiled=not bench.dry)}
                if not bench.dry and bench.left() > 120:
                    jobs["numba-cuda"] = ours_on("numba-cuda", problem)
                show(measure(bench, f"{what}, {network.batch} images", jobs))


def losses(bench: Bench, name: str, network: Network) -> None:
    """The losses of both, step by step, from the same weights with the same images, times, noise and labels."""
    if bench.dry and not TORCH:
        print("  left out: PyTorch is not installed")
        return
    from benchmarks.peers import torch_jobs
    from benchmarks.peers.torch_jobs import Variant

    mine = ours.StepJob(network)
    theirs = torch_jobs.StepJob(network, Variant(True, False, False, "cpu" if bench.dry else "cuda"))
    trainer, found = mine.trainer, []
    for _ in range(3 if bench.dry else LOSS_STEPS):
        x_t, target, t, labels = noised(trainer)
        asked = None if labels is None else theirs.variant.plain(labels)
        there = theirs.backward(
            theirs.variant.tensor(x_t), theirs.variant.tensor(target), theirs.variant.plain(t), asked
        )
        theirs.update()
        found.append((mine.run(), there))
    apart = max(abs(a - b) / b for a, b in found)
    bench.log.add({"what": f"losses/{name}", "ours_and_torch": found, "largest_relative_difference": apart})
    print(
        f"  losses of {len(found)} steps of {name}: apart by {apart:.1e} at most, "
        f"from {found[0][0]:.4f} to {found[-1][0]:.4f}"
    )
    if not apart < LOSS_BOUND:
        raise AssertionError(f"losses are apart by {apart:.1e}, at most {LOSS_BOUND:.0e} is expected: {found}")
