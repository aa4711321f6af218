"""What a command sees to before NumPy is imported, in its first moment.

Idea: libraries take memory and time as they are loaded, before a command's own code runs.  If the process may not have
that memory, they abort it in words of their own; if somebody presses Ctrl-C meanwhile, Python prints where it stood.
First of all, called by minidiff/__init__.py; errors.py takes over from here.
"""

import signal
import sys

LEAST_MEMORY = 1200 << 20  # bytes of addresses; NumPy's and Numba's libraries take 900 MiB of them on two cores


def prepare() -> None:
    """Let Ctrl-C end the process without a word, and end it in one line if it may not have enough memory."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # errors.py turns it into KeyboardInterrupt again
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
        shown = f"{limit >> 20} MiB of memory (ulimit -v); at least {LEAST_MEMORY >> 20} are needed"
        print(f"error: this process may use {shown}", file=sys.stderr)
        sys.exit(2)
