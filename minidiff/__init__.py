"""minidiff: a diffusion model from scratch, to read, to train and to benchmark.

    import minidiff
    pictures = minidiff.load("runs/my-run").sample(8, prompt="a dog in a winter forest")  # (8, 32, 32, 3) uint8

Reading order: backend, random, autograd, ops, nn, gradcheck, diffusion, conditioning, data, pictures, training,
evaluation.
"""

import signal
import sys
from pathlib import Path

if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # As `python -m minidiff.…` begins: until there is a command to catch it, Ctrl-C ends the process without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # errors.py turns it into KeyboardInterrupt again

__version__ = "0.1.0"

_here = Path(__file__).parent
if not (_here / "kernels").is_dir():  # a checkout without symbolic links: the folder beside this one serves
    __path__.append(str(_here.parent))

from minidiff.models import load  # noqa: E402  after the path above, by which it finds its parts
from minidiff.pipeline import Pipeline  # noqa: E402

__all__ = ["Pipeline", "load"]
