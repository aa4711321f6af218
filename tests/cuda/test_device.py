"""minidiff on a device's arrays: what is sent there and what comes back, in training, drawing and judging.

Without a GPU these run on tests/cuda/device_array.py and emulated kernels, which refuse what a GPU would refuse.
"""

import numpy as np
import pytest

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.checkpoint.config import Config, ModelConfig, OptimizerConfig, RunConfig
from minidiff.data.config import DataConfig
from minidiff.data.dataset import ImageDataset
from minidiff.diffusion.guidance import denoiser
from minidiff.diffusion.run import Noise, Run
from minidiff.diffusion.samplers import ddim
from minidiff.graphed import Graphed
from minidiff.images.files import to_uint8
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer
from tests.backends import ON_GPU, WITH_A_GPU
from tests.cuda.device_array import DeviceArray

MODEL = ModelConfig(
    patch=1, model_channels=8, channel_mult=(1, 2), num_res_blocks=1, attention_at=(4,), heads=2, groups=4
)


LATER: list[pytest.MarkDecorator] = [] if WITH_A_GPU else [pytest.mark.release]


@pytest.fixture(params=[pytest.param(name, marks=LATER) for name in ON_GPU])
def network_on_gpu(request):
    """As `gpu_backend`, for what need not run on an emulated GPU every time."""
    with backend.using(request.param) as table:
        yield table


def config(**run):
    return Config(
        DataConfig(flip=True),
        MODEL,
        optimizer=OptimizerConfig(warmup=2),
        run=RunConfig(**{"steps": 4, "batch_size": 2, **run}),
    )


def images():
    rng = np.random.default_rng(0)
    return ImageDataset("toy", rng.integers(0, 256, (12, 8, 8, 3), np.uint8), np.arange(12) % 3, ("a", "b", "c"))


def trained(steps=3, **run):
    trainer = Trainer(config(**run), images())
    return trainer, [train_step(trainer) for _ in range(steps)]


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=LATER), 2])
def test_the_same_training_as_on_the_cpu(gpu_backend, accumulate):
    """Bound: float32 through some twenty operations, and three steps of Adam on top."""
    trainer, records = trained(accumulate=accumulate)
    with backend.using("numpy"):
        exact, expected = trained(accumulate=accumulate)
    for found, wanted in zip(records, expected, strict=True):
        assert found.loss == pytest.approx(wanted.loss, rel=1e-4)
        assert found.grad_norm == pytest.approx(wanted.grad_norm, rel=1e-3)
    assert np.abs(backend.to_numpy(trainer.parameters.w) - exact.parameters.w).max() < 1e-3


def test_the_same_seed_gives_the_same_bits(network_on_gpu):
    one, other = (backend.to_numpy(trained(2)[0].parameters.w) for _ in range(2))
    assert one.tobytes() == other.tobytes()


def test_a_step_brings_one_copy_to_the_host(gpu_backend, monkeypatch):
    """The loss and the norm, in one; nothing else, or the GPU would wait for the host and the host for the GPU."""
    if gpu_backend.xp.ndarray is not DeviceArray:
        pytest.skip("a GPU's arrays do not count how often they leave")
    trainer = Trainer(config(accumulate=2), images())
    for _ in range(2):  # the third call of the network is compared with a replay, on the host
        train_step(trainer)
    before = DeviceArray.leaves
    train_step(trainer)
    assert DeviceArray.leaves == before + 1


def test_a_checkpoint_goes_from_device_to_cpu_and_back(network_on_gpu, tmp_path):
    trainer, _ = trained(2)
    path = tmp_path / "step_00000002.safetensors"
    checkpoints.save(path, 2, trainer.config, trainer.network, trainer.dataset.classes, trainer.parameters)
    found = checkpoints.load(path)
    again = Trainer(trainer.config, images(), found)
    train_step(trainer), train_step(again)
    assert backend.to_numpy(trainer.parameters.w).tobytes() == backend.to_numpy(again.parameters.w).tobytes()
    with backend.using("numpy"):
        at_home = Trainer(trainer.config, images(), found)
        train_step(at_home)
    assert np.abs(backend.to_numpy(trainer.parameters.w) - at_home.parameters.w).max() < 1e-3


def test_drawing_is_the_same_as_on_the_cpu(network_on_gpu):
    trainer, _ = trained(1)
    samples = np.arange(3)

    def draw():
        ask = denoiser(trainer.model, samples % 3, 2.0)
        noise = Noise(0, samples)
        *_, last = ddim(Run(ask, trainer.process, 3, noise, clip="dynamic"), noise.start((8, 8, 3)), eta=0.5)
        return last.x_prev

    there = to_uint8(draw())
    weights = {name: backend.to_numpy(p.data) for name, p in trainer.model.named_parameters().items()}
    with backend.using("numpy"):
        for name, parameter in trainer.model.named_parameters().items():
            parameter.data = weights[name]
        here = to_uint8(draw())
    assert np.abs(there.astype(int) - here).max() <= 1


def test_what_is_not_finite_is_named(gpu_backend):
    trainer, _ = trained(1)
    trainer.model.middle[0].block.conv1.w.data[...] = np.inf
    with pytest.raises(Exception, match=r"at step 2; it arose in middle\.0"):
        train_step(trainer)


def test_steps_and_drawings_are_graphed(network_on_gpu):
    """Forward and backward pass are launched as one graph, from the fourth time on, and give the same bits."""
    graphed, in_python = (Trainer(config(steps=5), images()) for _ in range(2))
    in_python._backward.refused = True
    for trainer in (graphed, in_python):
        for _ in range(5):
            train_step(trainer)
    if network_on_gpu.capture is not None:
        (state,) = graphed._backward.states.values()
        assert state.graph is not None
    one, other = (backend.to_numpy(trainer.parameters.w) for trainer in (graphed, in_python))
    assert one.tobytes() == other.tobytes()


def test_what_waits_for_a_number_is_not_graphed(gpu_backend, capsys):
    if gpu_backend.capture is None:
        pytest.skip("this backend captures nothing")
    xp = gpu_backend.xp
    halved, counted = Graphed(lambda x: (x / float(x.sum()),)), Graphed(lambda x: (x + xp.asarray(np.ones(3)),))
    x = backend.to_device(np.arange(3, dtype=np.float32))
    for graphed, exact in ((halved, [0, 1 / 3, 2 / 3]), (counted, [1, 2, 3])):
        for _ in range(4):
            assert backend.to_numpy(graphed(x)[0]).tolist() == pytest.approx(exact)
    assert capsys.readouterr().err.count("nothing is replayed") == 2
