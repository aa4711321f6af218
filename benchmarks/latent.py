"""Pictures of 128 pixels from latents beside pictures of 32 pixels: `python -m benchmarks.latent`.

What is measured, in rounds in which the two models take turns:
    drawing    16 pictures in 50 guided steps of DDIM, the decoder included
    decoder    its share of the time of a drawing in latents
    training   a step of 32, the rendering of its scenes and their encoding included
    data       seconds of rendering and of encoding in such a step
The ratios are medians over the rounds.

The models are the default networks for captions, with random weights: their speed does not depend on what they have
learnt.  First, with fewer pictures and steps, NumPy's backend must come to the same images, latents, losses and
gradients.
Latents are trained as in the middle of a long training, where only every fourth image is new (data/encoded.py): the
latents that the steps before would have left are encoded before anything is timed.  Scenes are rendered, and in
latents encoded, for eight steps at a time: a round has 32 steps of each, so that it holds all of that work.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.peers import machine
from benchmarks.peers.problems import random_weights
from benchmarks.peers.records import agree, paired_ratio
from benchmarks.peers.workers import OURS
from minidiff import backend
from minidiff.checkpoint import Checkpoint
from minidiff.checkpoint.build import make_process, network_config
from minidiff.checkpoint.config import Config, ModelConfig, RunConfig
from minidiff.data.encoded import GROUP, LAG, USES
from minidiff.errors import MinidiffError, exit_with_one_line
from minidiff.images.files import to_float, to_uint8
from minidiff.latent.space import PIXELS, Latents, Space, fit
from minidiff.nn import Module, UNet
from minidiff.nn.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.pipeline import Pipeline, load
from minidiff.pipeline.settings import DEFAULTS, Inputs, SamplingSettings
from minidiff.scenes import Scenes
from minidiff.scenes.captions import TOKENIZER
from minidiff.scenes.scenes import Rendering
from minidiff.training.loop import train_step
from minidiff.training.trainer import Trainer

PROMPT, GUIDANCE_SCALE = "a dog", 3.0
LATENT, PIXEL = KINDS = "latents", "pixels"


@dataclass(frozen=True)
class Work:
    """How much is done in a round: pictures and their steps; images of a training step, and the number of such."""

    count: int = 16
    steps: int = 50
    batch: int = 32
    trained: int = 32


CHECKED = Work(count=2, steps=2)  # where NumPy computes it too
QUICK = Work(count=2, steps=2, batch=8, trained=2)

# ---- clocks ---------------------------------------------------------------------------------------------------------


@dataclass
class Stopwatch:
    """The seconds, and the number, of the blocks that it has timed."""

    seconds: float = 0.0
    times: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds, self.times = self.seconds + time.perf_counter() - start, self.times + 1


class TimedScenes(Scenes):
    """Scenes with captions, and the time that they take."""

    def __init__(self, size: int) -> None:
        super().__init__(size, captions=True)
        self.watch = Stopwatch()

    def _render(self, index: np.ndarray, depth: bool) -> tuple[Rendering, np.ndarray]:
        with self.watch.running():
            return super()._render(index, depth)


@dataclass(frozen=True, eq=False)
class TimedLatents(Latents):
    """Latents, and the time that encoding takes."""

    watch: Stopwatch = field(default_factory=Stopwatch)

    def encode(self, images: Any) -> Any:
        with self.watch.running():
            return super().encode(images)


# ---- models ---------------------------------------------------------------------------------------------------------


def untrained(size: int, autoencoder: AutoencoderConfig | None = None, model: ModelConfig | None = None) -> Pipeline:
    """Return a model of images size × size with random weights, as the default settings make it.

    autoencoder: that in whose latents it works; None for pixels.
    """
    space: Space = PIXELS
    if autoencoder is not None:
        made = filled(Autoencoder(autoencoder))
        space = Latents(made, fit(made, lambda k: to_float(Scenes(size).batch(np.arange(GROUP))[0]), 1))
    config = Config(model=ModelConfig() if model is None else model)
    shape = (size, size, 3) if autoencoder is None else autoencoder.latent_shape
    network = filled(UNet(network_config(config.model, *shape, tokenizer=TOKENIZER)))
    return Pipeline(
        network,
        make_process(config.diffusion),
        (),
        config,
        Path("untrained"),
        0,
        replace(DEFAULTS, clip=space.clip),
        tokenizer=TOKENIZER,
        space=space,
    )


def filled(module: Any) -> Any:
    """Return a network with random weights, none of them zero."""
    weights = random_weights(module)
    for name, parameter in module.named_parameters().items():
        parameter.data = backend.to_device(weights[name])
    return module


def trained(path: Path, kind: str) -> Pipeline:
    """Return the model of a checkpoint.  Raises MinidiffError if it is not of that kind, or not for square images."""
    model = load(path)
    found = LATENT if isinstance(model.space, Latents) else PIXEL
    if found != kind:
        raise MinidiffError(f"{path}: expected a model that works with {kind}, got one that works with {found}")
    height, width, channels = model.shape
    if height != width or channels != 3:
        raise MinidiffError(f"{path}: expected square RGB images, as scenes are, got {height}×{width}×{channels}")
    return model


class InSpace(Trainer):
    """A training in given latents, or in pixels."""

    def __init__(self, config: Config, dataset: Scenes, given: Space) -> None:
        self.given = given
        super().__init__(config, dataset)

    def _make_space(self, found: Checkpoint | None) -> Space:
        return self.given


def make_trainer(model: Pipeline, batch: int) -> Trainer:
    """Return a training on scenes of a network like the model's, from new weights, none of them zero."""
    settings = ModelConfig() if model.config is None else model.config.model
    config = Config(model=settings, run=RunConfig(steps=1_000_000, batch_size=batch))
    scenes, space = TimedScenes(model.shape[0]), model.space
    space = TimedLatents(space.autoencoder, space.statistics) if isinstance(space, Latents) else space
    made = InSpace(config, scenes, space)
    noise = np.random.default_rng(4).standard_normal(made.parameters.w.shape, np.float32)
    made.parameters.w += backend.to_device(0.02 * noise)
    return made


def reach_steady_state(trainer: Trainer) -> None:
    """Go to the first step that finds all but the new latents encoded: those of all steps before are encoded here."""
    encoded = trainer.training_data.encoded
    if encoded is None:
        return
    trainer.step = LAG * (USES - 1)
    encoded.fill(trainer.step, trainer.config.run.batch_size)


# ---- what is timed --------------------------------------------------------------------------------------------------


def draw(model: Pipeline, work: Work) -> tuple[Any, float, float]:
    """Draw pictures of one prompt; return them, (N, H, W, C) float32, the seconds of all, and those of the decoder."""
    start = time.perf_counter()
    plan = model.prepare(SamplingSettings(steps=work.steps, guidance_scale=GUIDANCE_SCALE), Inputs(prompt=PROMPT))
    *_, last = plan.steps(0, work.count)
    middle = time.perf_counter()
    images = plan.images(last.x_prev)
    decoded = time.perf_counter()
    to_uint8(images)
    return images, time.perf_counter() - start, decoded - middle


def train(trainer: Trainer, steps: int) -> dict[str, float]:
    """Make steps; return the seconds of one: all of it, rendering alone, and encoding alone."""
    watches = {"rendering": trainer.dataset.watch}  # type: ignore[attr-defined]
    if isinstance(trainer.space, TimedLatents):
        watches["encoding"] = trainer.space.watch
    before, start = {name: watch.seconds for name, watch in watches.items()}, time.perf_counter()
    for _ in range(steps):
        train_step(trainer)
    took = {"step": time.perf_counter() - start}
    took |= {name: watch.seconds - before[name] for name, watch in watches.items()}
    return {name: seconds / steps for name, seconds in took.items()}


def first_step(trainer: Trainer, batches: Sequence[Any]) -> dict[str, np.ndarray]:
    """Return the loss of the next step, and its gradients by name."""
    flat = trainer.parameters
    flat.g[:] = 0
    loss = trainer.loss(batches[0])
    loss.backward()
    found = flat.split(backend.to_numpy(flat.g).copy())
    flat.g[:] = 0
    return {"loss": np.array([float(loss.data)]), **{f"gradient of {name}": g for name, g in found.items()}}


def check(model: Pipeline, trainer: Trainer, kind: str, work: Work) -> dict[str, float]:
    """Compare with NumPy what is going to be timed; return the largest differences, relative to the largest number."""
    few = replace(CHECKED, count=min(CHECKED.count, work.count))
    batches = trainer.batches()
    computed: dict[str, Callable[[], dict[str, np.ndarray]]] = {
        "drawing": lambda: {"images": backend.to_numpy(draw(model, few)[0])},
        "training": lambda: first_step(trainer, batches),
    }
    if kind == LATENT:
        images = to_float(trainer.dataset.batch(np.arange(GROUP))[0])
        computed["encoding"] = lambda: {"latents": backend.to_numpy(model.space.encode(backend.to_device(images)))}
    found = {}
    for name, compute in computed.items():
        mine = compute()
        with backend.using("numpy"):
            exact = compute()
        found[f"{name}, {kind}"] = agree(f"{name} in {kind}", {OURS: mine, "numpy": exact})["numpy"][0]
        say(f"{name} in {kind}: NumPy's differs by {found[f'{name}, {kind}']:.1e}")
    return found


def in_turn(rounds: int, measure: Callable[[str], dict[str, float]], what: str) -> dict[str, list[dict[str, float]]]:
    """Measure both kinds in every round, and begin each round with the one that ended the round before."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for number in range(rounds):
        for kind in KINDS[:: 1 if number % 2 == 0 else -1]:
            found[kind].append(measure(kind))
        parts = [
            f"{kind} " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in found[kind][-1].items())
            for kind in KINDS
        ]
        say(f"{what}, round {number + 1} of {rounds}: {'; '.join(parts)}")
    return found


def measure(latent: Pipeline, pixels: Pipeline, work: Work, rounds: int) -> dict[str, Any]:
    """Check, warm up, let the two take turns, and return what came out."""
    models = {LATENT: latent, PIXEL: pixels}
    trainers = {kind: make_trainer(model, work.batch) for kind, model in models.items()}
    say("encoding the latents of the steps before the first one")
    reach_steady_state(trainers[LATENT])
    difference: dict[str, float] = {}
    for kind in KINDS:
        difference |= check(models[kind], trainers[kind], kind, work)
        draw(models[kind], replace(work, steps=2))
        train(trainers[kind], 2)

    def drawing(kind: str) -> dict[str, float]:
        _, whole, decoder = draw(models[kind], work)
        return {"drawing": whole, **({"decoder": decoder} if kind == LATENT else {})}

    drawn = in_turn(rounds, drawing, "drawing")
    steps = in_turn(rounds, lambda kind: train(trainers[kind], work.trained), "a training step")
    return {
        "models": {kind: about(models[kind], trainers[kind]) for kind in KINDS},
        "difference": difference,
        "drawing": compared(drawn, "drawing"),
        "decoder": {"share": median(each["decoder"] / each["drawing"] for each in drawn[LATENT])},
        "training": compared(steps, "step"),
        "data": {
            kind: {name: median(each[name] for each in steps[kind]) for name in steps[kind][0] if name != "step"}
            for kind in KINDS
        },
        "rounds": {"drawing": drawn, "training": steps},
    }


# ---- what comes out -------------------------------------------------------------------------------------------------


def median(values: Any) -> float:
    return float(np.median(list(values)))


def compared(found: dict[str, list[dict[str, float]]], name: str) -> dict[str, float]:
    """Return the median seconds of both, and how many times as long latents take, the median of the rounds' ratios."""
    latent, pixels = ([each[name] for each in found[kind]] for kind in KINDS)
    return {LATENT: median(latent), PIXEL: median(pixels), "ratio": paired_ratio(pixels, latent)}


def about(model: Pipeline, trainer: Trainer) -> dict[str, Any]:
    """Say what was measured."""
    counted: dict[str, Module] = {"network": model.model, "trained network": trainer.model}
    if isinstance(model.space, Latents):
        counted["decoder"] = model.space.autoencoder.decoder
    weights = {name: module.count_parameters() for name, module in counted.items()}
    return {"model": str(model.path), "images": model.shape, "noise": model.noise_shape, "weights": weights}


def say(line: str) -> None:
    """Print progress, beside the results, which are all that stdout gets."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    latent: Path | None = None
    """A trained model that works with latents; None: an untrained one of the default settings, for 128 pixels."""
    pixels: Path | None = None
    """A trained model that works with pixels; None: an untrained one of the default settings, for 32 pixels."""
    rounds: int = 5
    """Timings of each; more help on a machine that is not quiet."""
    threads: int | None = None
    """Threads; None: as many as there are cores."""
    quick: bool = False
    """Tiny networks and few steps, once: tries the benchmark and measures nothing."""


DESCRIPTION = """\
Measure latent diffusion at 128 pixels beside diffusion at 32 pixels: 16 pictures in 50 guided steps, the decoder's \
share of them, training steps, and rendering and encoding within these.

NumPy's results are compared first. Progress goes to stderr, the results to stdout as JSON. Leave the machine alone \
meanwhile.

  python -m benchmarks.latent > latent.json"""


@exit_with_one_line
def main(words: Sequence[str] | None = None) -> None:
    """Check, measure, print; exits with 2 for a mistake or a disagreement."""
    arguments = tyro.cli(Arguments, args=words, prog="python -m benchmarks.latent", description=DESCRIPTION)
    if arguments.rounds < 1:
        raise MinidiffError(f"--rounds must be 1 or more, got {arguments.rounds}")
    threads = backend.use("numba", arguments.threads).threads()
    rounds = 1 if arguments.quick else arguments.rounds
    work, (latent, pixels) = QUICK if arguments.quick else Work(), models(arguments)
    results = {
        "machine": {"cpu": machine.processor(), "versions": machine.versions()},
        "environment": machine.environment(os.environ),
        "settings": {"threads": threads, "rounds": rounds, **vars(work)},
        **measure(latent, pixels, work, rounds),
    }
    print(json.dumps(results, indent=2))


def models(arguments: Arguments) -> tuple[Pipeline, Pipeline]:
    """Return the model of latents and that of pixels which the options name."""
    tiny = ModelConfig(model_channels=8) if arguments.quick else None
    few = {"encoder_channels": (8, 8, 8), "decoder_channels": (8, 8, 8)} if arguments.quick else {}
    size = 64 if arguments.quick else 128
    latent = untrained(size, AutoencoderConfig(size, size, **few), tiny) if arguments.latent is None else None
    pixels = untrained(size // 4, None, tiny) if arguments.pixels is None else None
    return latent or trained(arguments.latent, LATENT), pixels or trained(arguments.pixels, PIXEL)


if __name__ == "__main__":
    main()
