"""The command that trains: `python -m minidiff.train --help`.

Everything that it does stands in training/; loop.py is the place to start.
"""

import sys
from collections.abc import Sequence

from tqdm import tqdm

from minidiff import backend
from minidiff.errors import exit_with_one_line
from minidiff.training.cli import parse
from minidiff.training.loop import train


@exit_with_one_line
def main(words: Sequence[str] | None = None) -> None:
    """Parse and train; exits with 0 at the end, 2 for a user's mistake, or with what `loop.train` returns."""
    request = parse(sys.argv[1:] if words is None else words)
    backend.on_compile(lambda line: tqdm.write(line, file=sys.stderr))
    backend.use(request.config.run.backend, request.config.run.threads)
    if code := train(request.config, request.out, request.resume):
        raise SystemExit(code)


if __name__ == "__main__":
    main()
