"""The command that trains a model: `python -m minidiff.train --help`.

training/ does the work; start with its loop.py.
"""

import sys
from collections.abc import Sequence

from tqdm import tqdm

from minidiff import backend, compile_beside
from minidiff.errors import exit_with_one_line
from minidiff.processes import world
from minidiff.processes.command import join
from minidiff.processes.nccl import on_gpus, select_gpu
from minidiff.training.cli import parse
from minidiff.training.loop import train


@exit_with_one_line
def main(words: Sequence[str] | None = None) -> None:
    """Parse the arguments and train; exit with what `loop.train` returns, or 2 for a user's mistake."""
    with join() as processes:
        request = parse(sys.argv[1:] if words is None else words)
        backend.on_compile(lambda line: tqdm.write(line, file=sys.stderr))
        backend.use(request.config.run.backend, request.config.run.threads)
        compile_beside.start(compile_beside.TRAINING)
        select_gpu(processes)
        with world.using(on_gpus(processes)):
            code = train(request.config, request.out, request.resume)
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    main()
