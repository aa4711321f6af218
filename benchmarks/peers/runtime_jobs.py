"""One evaluation of a network by programs that only run networks: ONNX Runtime and OpenVINO.

Both get PyTorch's network, and lay it out once for the processor that they find.
"""

import contextlib
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.problems import Evaluation, Problem, weights
from benchmarks.peers.torch_unet import TorchUNet, load
from minidiff import backend

_threads = 1


def start(threads: int) -> None:
    """Give the runtimes so many threads."""
    global _threads
    _threads = threads
    backend.use("numpy")
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def about() -> dict[str, Any]:
    """Say what computes."""
    return {}


def make(problem: Problem, engine: str) -> Any:
    """Return the problem's job; they run networks, and nothing else."""
    if not isinstance(problem, Evaluation):
        raise TypeError(f"{engine} only runs networks")
    return OnnxRuntimeJob(problem) if engine == "onnxruntime" else OpenVinoJob(problem, "bfloat16" in engine)


class Job:
    """What both have in common: PyTorch's network, and its inputs."""

    def __init__(self, problem: Evaluation) -> None:
        x, t, labels = problem.inputs()
        self.net = TorchUNet(problem.network.config)
        load(self.net, weights(problem.network.config))
        self.net.requires_grad_(False).eval()
        self.inputs = [np.ascontiguousarray(x.transpose(0, 3, 1, 2)), t, *([] if labels is None else [labels])]
        self.tensors = tuple(map(torch.from_numpy, self.inputs))

    def run(self) -> np.ndarray:
        """Return the output (N, C, H, W)."""
        raise NotImplementedError

    def check(self) -> dict[str, np.ndarray]:
        return {"output": self.run().astype(np.float32).transpose(0, 2, 3, 1)}


class OpenVinoJob(Job):
    """OpenVINO, told that one answer soon is better than many later."""

    def __init__(self, problem: Evaluation, bfloat16: bool) -> None:
        import openvino

        super().__init__(problem)
        model = openvino.convert_model(self.net, example_input=self.tensors)
        options = {
            "INFERENCE_NUM_THREADS": _threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        }
        self.request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def run(self) -> np.ndarray:
        return next(iter(self.request.infer(self.inputs).values()))


class OnnxRuntimeJob(Job):
    """ONNX Runtime, with all of its optimisations."""

    def __init__(self, problem: Evaluation) -> None:
        import onnxruntime

        super().__init__(problem)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = _threads, 1
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = Path(folder, "network.onnx")
            torch.onnx.export(self.net, self.tensors, path, dynamo=True, external_data=False)
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [each.name for each in self.session.get_inputs()]
        self.feed = dict(zip(names, self.inputs, strict=True))

    def run(self) -> np.ndarray:
        return self.session.run(None, self.feed)[0]
