"""The record that says where all others were measured."""

import importlib.util
import os
import platform
import time
from importlib import metadata
from pathlib import Path

from benchmarks.peers.records import Record
from benchmarks.peers.settings import Settings
from benchmarks.peers.workers import OURS, Workers, cores

PACKAGES = ("minidiff", "numpy", "scipy", "numba", "llvmlite", "torch", "diffusers", "jax")
# what changes which instructions and how many threads the libraries use, or how memory comes and goes
PREFIXES = (
    "OPENBLAS",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "NUMBA_",
    "TORCH",
    "ATEN_",
    "ONEDNN_",
    "DNNL_",
    "XLA_",
    "MALLOC_",
)
NAMES = ("LD_PRELOAD", "GLIBC_TUNABLES")
SIMD = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")


def describe(settings: Settings) -> Record:
    """Return the record "machine": processor, instructions, versions, and environment variables that matter."""
    with Workers((OURS, "torch eager"), 1) as workers:
        engines = {name: worker.ask("about") for name, worker in workers.items()}
    flags = _cpuinfo("flags").split() or _cpuinfo("Features").split()
    return {
        "what": "machine",
        "cpu": processor(),
        "cores": cores(),
        "simd": [flag for flag in SIMD if flag in flags],
        "system": platform.platform(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version(), **versions()},
        "engines": engines,
        "environment": environment(os.environ),
        "settings": {"rounds": settings.rounds, "threads": settings.threads, "quick": settings.quick},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def versions() -> dict[str, str]:
    """Those of the packages that compute, of what is installed."""
    return {name: metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)}


def processor() -> str:
    """What the processor calls itself."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def environment(variables: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    """Those of the environment variables that change how the libraries compute."""
    return {name: variables[name] for name in sorted(variables) if name.startswith(PREFIXES) or name in NAMES}


def show_machine(record: Record) -> None:
    """Print it."""
    settings, load = record["settings"], record["load"]
    busy = "" if load is None else f", load {load:.2f}"
    print(f"machine      {record['cpu']}, {record['cores']} cores{busy}; {' '.join(record['simd'])}")
    print(f"versions     {', '.join(f'{name} {version}' for name, version in record['versions'].items())}")
    ours, torch = record["engines"][OURS], record["engines"]["torch eager"]
    print(f"ours         kernels {ours['kernels']}; {'; '.join(ours['blas'])}")
    print(f"torch        {torch['cpu_capability']}, oneDNN {'on' if torch['mkldnn'] else 'off'}")
    shown = " ".join(f"{name}={value}" for name, value in record["environment"].items())
    print(f"environment  {shown or 'nothing that matters'}")
    print(f"settings     {settings['threads']} threads an engine, {settings['rounds']} rounds, float32")


def _cpuinfo(entry: str) -> str:
    """The first such line of Linux' /proc/cpuinfo, "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(entry)), "")
