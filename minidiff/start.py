"""What a command does before NumPy is imported: it handles Ctrl-C, and checks the memory limit.

Idea: importing the libraries takes time and memory before any code of a command runs.  If Ctrl-C is pressed during the
imports, Python prints a traceback.  If the process may not use enough memory, a library aborts it with a message that
does not name the cause.  So minidiff/__init__.py calls `prepare` before its other imports: then Ctrl-C ends the process
silently, and too low a memory limit ends it with one line that names the limit.
Leaves out what happens after the imports: errors.py.
"""

import signal
import sys

LEAST_MEMORY = 1200 << 20  # bytes of address space; the libraries of NumPy and Numba use 900 MiB on two cores


def prepare() -> None:
    """Let Ctrl-C end the process silently, and exit with one line if the process may not use enough memory."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # errors.py restores KeyboardInterrupt
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
        shown = f"{limit >> 20} MiB of memory (ulimit -v); at least {LEAST_MEMORY >> 20} are needed"
        print(f"error: this process may use {shown}", file=sys.stderr)
        sys.exit(2)
