"""What a step of training gets before the network: for whoever makes the same step by other means."""

import numpy as np

from minidiff import backend
from minidiff.random import Stream
from minidiff.training.trainer import Trainer


def noised(trainer: Trainer) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the next step's x_t and target (N, H, W, C) float32, t (N,) int64, labels (N,) int64 or None, on the host.

    They are drawn as `Process.training_examples` draws them, by the same keys.
    """
    run, process = trainer.config.run, trainer.process
    sample = np.arange(run.batch_size)
    (batch,) = trainer.training_data.batches(trainer.step, run.batch_size)
    level = process.draw_level(run.seed, trainer.step, sample, run.batch_size)
    labels = process.drop_labels(batch.labels, trainer.model, run.seed, trainer.step, sample)
    parts = (batch.x0, level.a, level.s)
    x0, a, s = (backend.to_device(part.astype(np.float32)) for part in parts)
    x_t, eps = backend.current().add_noise(x0, a, s, (run.seed, Stream.NOISE, trainer.step), sample)
    return backend.to_numpy(x_t), backend.to_numpy(process.target_of(x0, eps, level)), level.t, labels
