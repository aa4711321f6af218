"""The command.

    python -m benchmarks.gpu --out gpu-results               on a GPU, in nine minutes
    python -m benchmarks.gpu --out /tmp/dry --dry-run        all of it at tiny shapes, on the CPU (needs g++)

It needs Python 3.12, NumPy, CuPy, Numba, SciPy, Pillow, tqdm, safetensors, pytest and PyTorch for CUDA, which brings
NVIDIA's compiler, and no network.
"""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.gpu.bench import Bench, open_bench
from minidiff import backend, cache_folders

ORDER = ("machine", "ceilings", "compiling", "correctness", "convolutions", "operations", "networks")


def main(words: list[str] | None = None) -> int:
    """Run all sections; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n\n")[0])
    parser.description = "minidiff's CUDA kernels beside PyTorch on the same GPU: right first, then how fast."
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json, which grows with every record")
    parser.add_argument("--deadline", type=float, default=540, help="seconds after which nothing new begins")
    parser.add_argument("--dry-run", action="store_true", help="everything at tiny shapes, without a GPU")
    arguments = parser.parse_args(words)
    if arguments.dry_run:
        emulate()
    bench = open_bench(arguments.out, arguments.dry_run, arguments.deadline)
    backend.use("cupy")
    import_peers()
    for name in ORDER:
        if bench.left() < 0:
            bench.failures.append(f"{name}: no time left")
            continue
        print(f"\n==== {name} ({bench.left():.0f} s left)", flush=True)
        with bench.attempt(name):
            section(name)(bench)
    summary(bench)
    return 1 if bench.failures else 0


def emulate() -> None:
    """Let the CPU run the CUDA kernels, as the tests do."""
    from minidiff.kernels import cuda_launch
    from tests.cuda.emulated import Emulated

    cuda_launch.use(Emulated(cache_folders.user_folder() / "cuda" / "emulated"))


def import_peers() -> None:
    """PyTorch, with products in whole float32."""
    start = time.perf_counter()
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: a dry run goes on without it")
        return

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True  # let cuDNN choose its fastest
    print(f"PyTorch {torch.__version__} loaded in {time.perf_counter() - start:.1f} s")


def section(name: str):
    from benchmarks.gpu import sections

    return getattr(sections, name)


def summary(bench: Bench) -> None:
    """A short table, last: what a reader of the end of the output should see."""
    print("\n==== summary: times of PyTorch's best float32 by ours (above 1: ours is faster)")
    for record in bench.log.records:
        if "ratio_best_float32" in record:
            ours_ms = 1e3 * record["ours_s"]
            print(f"  {record['what']:44s}{ours_ms:10.3f} ms   ratio {record['ratio_best_float32']:.2f}")
    for failure in bench.failures:
        print(f"  FAILED {failure}")
    print(f"  {len(bench.log.records)} records, {len(bench.failures)} failures")


if __name__ == "__main__":
    sys.exit(main())
