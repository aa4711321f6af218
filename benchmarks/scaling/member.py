"""A process of a group that trains together: `mpiexec -n 2 python -m benchmarks.scaling.member ours default 32 1 1 0`.

The words are the engine (ours or torch), the network, the images of a batch on all processes, the threads of a process,
the parts that a batch is computed in at least, and microseconds by which messages are late (see `Late`).
Process 0 reads a line at a time from standard input, tells the others, and answers with a line of JSON:

    check FILE       write the gradients of a batch that leaves nothing to chance, as .npz
    steps N early    make N steps; "late" instead of "early": gradients are added up when all of them are there
    sums N NUMBERS   add up so many numbers N times, with nothing else to do

minidiff and PyTorch's DistributedDataParallel with gloo do the same, with the same weights and numbers.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.problems import DEFAULT, PLAIN, Network
from minidiff.processes import cores, mpi, world
from minidiff.processes.command import join
from minidiff.processes.tree import add_up

NETWORKS = {"default": DEFAULT, "plain": PLAIN}


class Late(world.World):
    """The processes of `inner`, whose exchanges end no sooner than `seconds` after they have begun: a latency."""

    def __init__(self, inner: world.World, seconds: float) -> None:
        self.rank, self.size, self.gather, self.wait = inner.rank, inner.size, inner.gather, inner.wait  # type: ignore[method-assign]
        self.inner, self.seconds = inner, seconds

    @property
    def sent(self) -> int:
        return getattr(self.inner, "sent", 0)

    def exchange(self, peer: int, give: Any, take: Any, tag: int) -> world.Done:
        due, done = time.perf_counter() + self.seconds, self.inner.exchange(peer, give, take, tag)
        return lambda: done() and time.perf_counter() >= due


class Ours:
    """minidiff's own trainer."""

    def __init__(self, network: Network, threads: int, accumulate: int) -> None:
        from benchmarks.peers import ours

        ours.start(threads)
        self.network, self.trainer, self.here = network, ours.StepJob(network, accumulate).trainer, world.current()

    def tell(self, line: str) -> str:
        """Return the line of process 0."""
        return self.here.texts(line)[0]

    def check(self) -> dict[str, np.ndarray]:
        """Return the gradients of the mean squared error of a batch against v."""
        from minidiff import backend, ops
        from minidiff.autograd import Tensor

        trainer, model = self.trainer, self.trainer.model
        gradients, flat = trainer.gradients, trainer.parameters
        gradients.clear()
        for part in np.split(np.arange(self.network.batch), trainer.parts)[gradients.own]:
            x_t, v, t, labels = self.network.noised()
            condition = model.condition(len(part), None if labels is None else labels[part])
            output = model(backend.to_device(x_t[part]), t[part].astype(np.float32), condition)
            loss = ops.mean(ops.square(output - Tensor(backend.to_device(v[part]))))
            with gradients.adding():
                loss.backward()
        gradients.finish()
        return {f"gradient of {name}": g / trainer.parts for name, g in flat.split(backend.to_numpy(flat.g)).items()}

    def steps(self, number: int, early: bool) -> dict[str, float]:
        """Return, of a step: its seconds, those spent waiting for gradients, and the bytes sent."""
        from minidiff.training.loop import train_step

        self.trainer.gradients.early = early
        waited, sent, start = 0.0, getattr(self.here, "sent", 0), time.perf_counter()
        for _ in range(number):
            train_step(self.trainer)
            waited += self.trainer.gradients.waited
        seconds, sent = time.perf_counter() - start, getattr(self.here, "sent", 0) - sent
        return {"seconds": seconds / number, "waited": waited / number, "sent": sent / number}

    def sums(self, number: int, numbers: int) -> dict[str, float]:
        """Return the seconds of a sum of so many float32 numbers over the processes."""
        x = np.zeros(numbers, np.float32)
        spare, start = np.empty_like(x), time.perf_counter()
        for _ in range(number):
            for done in add_up(self.here, x, spare, 0):
                self.here.wait(done)
        return {"seconds": (time.perf_counter() - start) / number}


class Torch:
    """PyTorch: channels_last, eager, float32; its DistributedDataParallel with gloo, if there are several processes."""

    def __init__(self, network: Network, threads: int) -> None:
        import torch
        from torch import distributed
        from torch.nn.parallel import DistributedDataParallel

        from benchmarks.peers import torch_jobs

        self.distributed, (self.rank, self.size) = distributed, mpi.launched()
        if self.size > 1:  # the same share of the cores as ours
            share = cores.share_of([cores.available()] * self.size, self.rank)
            os.sched_setaffinity(0, share)
            file = os.environ["SCALING_FILE"]
            distributed.init_process_group("gloo", f"file://{file}", world_size=self.size, rank=self.rank)
        torch_jobs.start(threads)
        self.torch, own = torch, np.array_split(np.arange(network.batch), self.size)[self.rank]
        self.job = job = torch_jobs.StepJob(network, torch_jobs.Variant(True, False, False))
        job.x0, job.labels = (
            job.x0[own].contiguous(memory_format=torch.channels_last),
            (None if job.labels is None else job.labels[own]),
        )
        self.network, self.own = network, own
        if self.size > 1:
            job.net = DistributedDataParallel(job.net)

    def tell(self, line: str) -> str:
        if self.size == 1:
            return line
        said = [line]
        self.distributed.broadcast_object_list(said, src=0)
        return said[0]

    def check(self) -> dict[str, np.ndarray]:
        from benchmarks.peers.problems import weights
        from benchmarks.peers.torch_unet import gradients

        x_t, v, t, labels = self.network.noised()
        job, variant = self.job, self.job.variant
        asked = None if labels is None else variant.plain(labels[self.own])
        job.backward(variant.tensor(x_t[self.own]), variant.tensor(v[self.own]), variant.plain(t[self.own]), asked)
        net = job.net.module if self.size > 1 else job.net
        found = gradients(net, weights(self.network.config))
        return {f"gradient of {name}": gradient for name, gradient in found.items()}

    def steps(self, number: int, early: bool) -> dict[str, float]:
        start = time.perf_counter()
        for _ in range(number):
            self.job.run()
        return {"seconds": (time.perf_counter() - start) / number}


def serve(engine: Any, rank: int, write: Callable[[str], object]) -> None:
    """Answer until standard input ends."""
    while True:
        question, *rest = engine.tell(sys.stdin.readline() if rank == 0 else "").split() or ["end"]
        if question == "end":
            return
        answer: Any = {}
        if question == "check":
            found = engine.check()
            if rank == 0:
                np.savez(rest[0], **found)
        elif question == "steps":
            answer = engine.steps(int(rest[0]), rest[1] == "early")
        else:
            answer = engine.sums(int(rest[0]), int(rest[1]))
        if rank == 0:
            write(json.dumps(answer) + "\n")


def main(words: list[str]) -> None:
    """Serve as a process of a group."""
    from dataclasses import replace

    name, network, batch, threads, accumulate, late = words
    problem = replace(NETWORKS[network], batch=int(batch))
    rank, _ = mpi.launched()
    out = os.fdopen(os.dup(1), "w", buffering=1)
    if name == "torch":
        serve(Torch(problem, int(threads)), rank, out.write)
        return
    with join() as here, world.using(Late(here, float(late) / 1e6)):
        serve(Ours(problem, int(threads), int(accumulate)), rank, out.write)


if __name__ == "__main__":
    main(sys.argv[1:])
