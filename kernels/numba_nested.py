"""One piece of machine code for each kernel: what it calls is compiled as a part of it, and not by itself as well.

Numba makes machine code of every function that it compiles.  A kernel of ours consists of some twenty functions that
call each other, and each of them would be optimised alone, and once more inside each function that calls it, up to the
kernel.  Only the kernel is ever called from Python, so the functions inside it are only translated to LLVM's language;
LLVM links them into the kernel, and optimises the whole once: a first picture took 20 s instead of 40 s on one machine.

Reading order: before `numba_compile.py`, whose `njit` and `kernel` say which function is which.
Source: Numba's `codegen.py`; what is replaced here is `CPUCodeLibrary.finalize`'s last two steps.
"""

import contextlib
from collections.abc import Iterator

from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target


class Nested(JITCodeLibrary):
    """A function in LLVM's language, to be linked into others; it cannot be called from Python."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class Codegen(JITCPUCodegen):
    """Numba's, which makes machine code only of kernels while one is compiled.

    compiling: what is being compiled, the innermost last: a kernel's name until it has its library, None for the rest.
    """

    compiling: list[str | None]

    def create_library(self, name: str, **options: object) -> JITCodeLibrary:
        """Return what will hold a function of that name."""
        if self.compiling and self.compiling[-1] != name:
            return Nested(self, name, **options)
        if self.compiling:
            self.compiling[-1] = None  # what follows belongs to its loops
        return super().create_library(name, **options)

    def set_env(self, env_name: str, env: object) -> None:
        """Tell machine code where its Python objects are; a nested function has no machine code."""
        if self._engine.is_symbol_defined(env_name):
            super().set_env(env_name, env)


@contextlib.contextmanager
def nested(kernel: str | None = None) -> Iterator[None]:
    """Inside, machine code is made of the kernel of that name alone, or of nothing.

    Raises TypeError if one kernel is compiled as a part of another.
    """
    with global_compiler_lock:
        codegen = cpu_target.target_context.codegen()
        if not isinstance(codegen, Codegen):
            codegen.__class__, codegen.compiling = Codegen, []
        if kernel and codegen.compiling:
            raise TypeError(f"{kernel} is a kernel, which only Python calls; give both an inner function to call")
        codegen.compiling.append(kernel)
        try:
            yield
        finally:
            codegen.compiling.pop()
