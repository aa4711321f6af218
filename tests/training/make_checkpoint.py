"""Write checkpoint_v1.safetensors and what its network says: `python tests/training/make_checkpoint.py`.

Run once, when format version 1 was new.  The files stay as they are for as long as version 1 is read: a test loads
them ever after, so that no change of the code can silently orphan the checkpoints that users have.
"""

import json
from pathlib import Path

import numpy as np

from minidiff import backend
from minidiff import checkpoint as checkpoints
from minidiff.autograd import no_grad
from minidiff.checkpoint.config import Config, DiffusionConfig, ModelConfig, OptimizerConfig, RunConfig
from minidiff.data.dataset import ImageDataset
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer

HERE = Path(__file__).parent
CHECKPOINT, EXPECTED = HERE / "checkpoint_v1.safetensors", HERE / "checkpoint_v1.json"
CONFIG = Config(
    model=ModelConfig(
        patch=2,
        model_channels=4,
        channel_mult=(1, 1),
        num_res_blocks=1,
        attention_at=(2,),
        heads=2,
        groups=2,
        time="scale_shift",
    ),
    diffusion=DiffusionConfig("linear", 100, "eps", "min_snr", 4.0, 0.2),
    optimizer=OptimizerConfig(lr=0.01, warmup=2, beta1=0.8, beta2=0.9, weight_decay=0.1, clip=2.0, ema=0.5),
    run=RunConfig(steps=50, batch_size=4, accumulate=2, seed=3, backend="numpy", save_every=7, keep=2),
)


def question():
    """Images, times and labels to ask the network about; written without random numbers, so as never to change."""
    x = np.sin(np.arange(3 * 8 * 8, dtype=np.float64)).astype(np.float32).reshape(3, 8, 8, 1)
    return x, np.array([0, 40, 99], np.float32), np.array([0, 1, 2])  # 2 classes: label 2 is none


def main():
    images = (np.arange(16 * 64) % 251).astype(np.uint8).reshape(16, 8, 8, 1)
    data = ImageDataset("stripes", images, np.arange(16) % 2, ("even", "odd"))
    with backend.using("numpy"):
        trainer = Trainer(CONFIG, data)
        for _ in range(20):
            train_step(trainer)
        checkpoints.save(CHECKPOINT, trainer.step, CONFIG, trainer.network, data.classes, trainer.parameters)
        model = checkpoints.make_network(checkpoints.load(CHECKPOINT))
        with no_grad():
            x, t, labels = question()
            answer = model(x, t, model.condition(3, labels)).data
        # What the 21st step does: the moments are needed for it.
        record = train_step(trainer)
    expected = {"answer": answer[:, ::3, ::3, 0].tolist(), "loss": record.loss, "grad_norm": record.grad_norm}
    expected["weight_sum"] = float(np.abs(trainer.parameters.w, dtype=np.float64).sum())
    EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
