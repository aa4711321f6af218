"""minidiff: a diffusion model from scratch, to read, to train and to benchmark.

    import minidiff
    images = minidiff.load("runs/my-run").sample(8, prompt="a dog in a winter forest")  # (8, 32, 32, 3) uint8

docs/reading_order.md lists all files, each after those that it needs.
"""

import sys
from pathlib import Path

from minidiff.start import prepare

if Path(*sys.argv[:1]).stem in ("-m", "minidiff"):  # started by `python -m minidiff.…` or as the script `minidiff`
    prepare()

__version__ = "0.2.0"  # the only place: pyproject.toml reads it from here

_here = Path(__file__).parent
if not (_here / "kernels").is_dir():  # a checkout without symbolic links: use the folder beside this one
    __path__.append(str(_here.parent))

from minidiff.pipeline.loading import load  # noqa: E402  after the path above, which it needs
from minidiff.pipeline.pipeline import Pipeline  # noqa: E402

__all__ = ["Pipeline", "load"]
