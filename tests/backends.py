"""Which backends the tests run on: those of the CPU, and those of a GPU or, where there is none, an emulated one."""

from minidiff import backend
from minidiff.kernels import cuda_launch
from tests.cuda.emulated import Emulated

try:
    cuda_launch.start()
    ON_GPU = WITH_A_GPU = ("cupy", "numba-cuda")
except (ImportError, OSError):  # the CPU runs the same .cu files; Numba CUDA has its simulator for itself
    cuda_launch.use(Emulated(backend.user_folder() / "cuda" / "emulated"))
    ON_GPU, WITH_A_GPU = ("cupy",), ()

BACKENDS = ("numpy", "numba")
RUN_HERE = (*BACKENDS, "numba-gemm", *ON_GPU)
