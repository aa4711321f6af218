"""Our training, its steps made by PyTorch: `python -m benchmarks.quality.torch_train ENGINE OPTIONS`.

ENGINE is a name of `PEERS` in benchmarks/peers, OPTIONS are those of minidiff.train.

Idea: a `Trainer` whose `advance` is PyTorch's, inside minidiff's own loop.  So the weights that it starts from, the
images of each step, their times, noise and hidden labels, the learning rate and the average are the same numbers, the
minutes become steps by the same rule, and the checkpoint is minidiff's.  Two trainings of equal length differ by
rounding alone.
What is left to PyTorch is written as somebody writes it who wants it fast: channels_last, autocast, fused AdamW,
foreach clipping and average, torch.compile where the engine says so.  Numba draws the noise, with one thread, in half a
millisecond a step.  No images are drawn: all of the minutes are for training, where ours draws previews and
a final sheet within them.
Leaves out gradient accumulation, and going on with a run that was stopped.
"""

import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

# Before Numba is imported: its threads would only be in the way, and through OpenMP it sets the number of PyTorch's.
os.environ.update(NUMBA_NUM_THREADS="1", NUMBA_THREADING_LAYER="workqueue")

import torch
from torch import Tensor

from benchmarks.noised import noised
from benchmarks.peers import torch_jobs
from benchmarks.peers.torch_jobs import Variant
from benchmarks.peers.torch_unet import TorchUNet, _to_ours, _torch_name, load
from benchmarks.peers.workers import PEERS, cores
from minidiff import backend
from minidiff.checkpoint.config import Config
from minidiff.data.dataset import Dataset
from minidiff.data.open import open_data
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.training import run_dir as folders
from minidiff.training.cli import parse
from minidiff.training.loop import TrainingRun
from minidiff.training.optimizer import EPS, ema_decay, learning_rate
from minidiff.training.trainer import Record, Trainer


class TorchTrainer(Trainer):
    """minidiff's Trainer with PyTorch's steps; `write_back` brings the weights home, `fetch` takes them from there."""

    def __init__(self, config: Config, dataset: Dataset, variant: Variant) -> None:
        if config.run.accumulate != 1:
            raise MinidiffError(f"--accumulate must be 1 for PyTorch here, got {config.run.accumulate}")
        if config.model.network != "unet":
            raise MinidiffError(f"--network must be unet for PyTorch here, got {config.model.network}")
        super().__init__(config, dataset)
        self.variant, settings = variant, config.optimizer
        self.net = TorchUNet(self.network)
        self.net.to(memory_format=variant.layout)  # type: ignore[call-overload]  # it takes this one alone as well
        self.compute = variant.compile(self._loss)
        named = dict(self.net.named_parameters())
        self.names = {name: named[_torch_name(name)] for name in self.parameters.parameters}  # ours to PyTorch's
        self.weights = list(self.names.values())
        groups = [
            {"params": [p for p in self.weights if p.dim() >= 2], "weight_decay": settings.weight_decay},
            {"params": [p for p in self.weights if p.dim() < 2], "weight_decay": 0.0},
        ]
        betas = (settings.beta1, settings.beta2)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=EPS, fused=True)
        self.fetch()

    # -- a step -----------------------------------------------------------------------------------------------------

    def _loss(self, x_t: Tensor, target: Tensor, t: Tensor, labels: Tensor | None, weight: Tensor) -> Tensor:
        error = (self.net(x_t, t, labels).float() - target).square()
        return (weight * error.mean(dim=(1, 2, 3))).mean()

    def backward(self) -> float:
        """Return this step's loss, its gradients in the network's parameters."""
        x_t, target, t, labels = noised(self)
        run = self.config.run
        sample = np.arange(run.batch_size)
        level = self.process.draw_level(run.seed, self.step, sample, run.batch_size)  # as `noised` drew it
        weight = torch.from_numpy(self.process.loss_weight(level).astype(np.float32))
        asked = None if labels is None else torch.from_numpy(labels)
        times = torch.from_numpy(t.astype(np.float32))
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.variant.bfloat16):
            loss = self.compute(self.variant.tensor(x_t), self.variant.tensor(target), times, asked, weight)
        loss.backward()
        return loss.item()

    def advance(self) -> Record:
        """Make one step.  Raises MinidiffError if the loss or a gradient is not finite."""
        settings = self.config.optimizer
        loss = self.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights, settings.clip, foreach=True).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise MinidiffError(f"the loss is {loss}, the gradients' norm {norm} at step {self.step + 1}")
        lr = learning_rate(settings, self.step + 1, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, self.weights, 1 - ema_decay(self.step + 1, settings.ema))
        self.step += 1
        return Record(self.step, loss, lr, norm)

    # -- there and back ---------------------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Load minidiff's weights into PyTorch's network, and let the average start from them."""
        load(self.net, {name: view.copy() for name, view in self.parameters.split(self.parameters.w).items()})
        self.ema = [p.detach().clone() for p in self.weights]

    def write_back(self) -> None:
        """Copy weights, average and moments into minidiff's arrays, where they are saved from."""
        flat, state = self.parameters, self.optimizer.state
        moments = [[state[p].get(name) for p in self.weights] for name in ("exp_avg", "exp_avg_sq")]
        for array, tensors in zip((flat.w, flat.ema, flat.m, flat.v), (self.weights, self.ema, *moments)):
            for (name, view), tensor in zip(flat.split(array).items(), tensors):
                view[...] = 0 if tensor is None else _to_ours(name, tensor.detach())  # no moments before the first step


class TorchRun(TrainingRun):
    """minidiff's loop around a TorchTrainer; what draws images is left out, and costs nothing in its plan."""

    def save(self) -> None:
        self.trainer.write_back()  # type: ignore[attr-defined]
        super().save()

    def steps(self) -> Iterator[Record]:
        """As `training_loop`, around PyTorch's step."""
        trainer = self.trainer
        while not self.signal() and trainer.step != trainer.steps:
            start = time.perf_counter()
            record = replace(trainer.advance(), seconds=time.perf_counter() - start)  # type: ignore[attr-defined]
            self.log(record)
            if trainer.steps is None:
                self.plan(record)
            self.save_when_due()
            yield record

    def preview(self) -> None:
        self.pass_seconds = 0.0

    def save_final_images(self) -> None:
        pass

    def print_summary(self) -> None:
        with_what = f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
        print(f"{len(self.trainer.parameters.w)} weights, trained by {with_what}, into {self.folder}", flush=True)

    def print_next_commands(self) -> None:
        print(f"done: {self.trainer.step} steps")


@exit_with_one_line
def main(words: Sequence[str] | None = None) -> None:
    """Train; words: a name of `PEERS`, then those of minidiff.train."""
    engine, *rest = sys.argv[1:] if words is None else words
    if engine not in PEERS:
        raise MinidiffError(f"engine {engine!r} is not known; expected one of {', '.join(PEERS)}")
    request = parse(rest)
    torch_jobs.start(request.config.run.threads or cores())
    backend.use("numba", 1)
    if code := train(request.config, request.out, Variant(*PEERS[engine])):
        raise SystemExit(code)


def train(config: Config, out: Path | None, variant: Variant) -> int:
    """Train as `minidiff.training.loop.train` does and return the exit code; its clock, too, starts before the data."""
    started, threads = time.perf_counter(), torch.get_num_threads()
    if config.run.steps is None and config.run.minutes is None:
        raise MinidiffError("how long? give --minutes or --steps")
    trainer = TorchTrainer(config, open_data(config.data, "train", config.run.seed), variant)
    noised(trainer)  # loads Numba; a step's numbers are the same whenever they are drawn
    if torch.get_num_threads() != threads:
        raise MinidiffError(f"PyTorch had {threads} threads, and has {torch.get_num_threads()} since Numba was loaded")
    with folders.created(out) as run:
        return TorchRun(trainer, run, started).train()


if __name__ == "__main__":
    main()
