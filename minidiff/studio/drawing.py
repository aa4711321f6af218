"""A drawing of the studio: a tree of sampling runs, each of which leaves another one at some step.

Idea: what a browser may come back to is kept: of each step x_t and x0_hat as bytes, and the outputs of the network.
Of a latent model, those bytes are small previews, and the latents are kept beside them, so that a step can be decoded
when somebody looks closer (decoding.py).
With the outputs, the run can be repeated up to any step without evaluating the network (`Replay`), and go on from there
to the bit, with the same settings or others.  A branch shares with its parent everything before the step where it
begins.
Leaves out when a step is drawn: engine.py.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from minidiff.backend import to_numpy
from minidiff.diffusion.run import Step
from minidiff.explain.recording import Frame, Recording
from minidiff.images.files import to_uint8
from minidiff.pipeline.model import Model
from minidiff.pipeline.plan import Plan, Replay
from minidiff.sampling.request import SampleRequest

State = Literal["queued", "running", "paused", "done", "failed", "cancelled"]
LAST_STEPS = 16  # whose mean is the speed of a drawing
ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Film:
    """What is kept of a step for viewers: images (N, H, W, C) uint8, and its place on the way.

    x_prev: only of the last step; of another one it is the next x_t, or is drawn anew.
    sigma: of x_t; None where it is infinite.
    latents: of a latent model, x_t and x0_hat themselves, (N, h, w, c) float32.  What is in it is kept beside it as a
    preview that is `factor` times smaller than the images; of the last step, only x_t is.
    """

    index: int
    t: float
    sigma: float | None
    x_t: np.ndarray
    x0_hat: np.ndarray
    x_prev: np.ndarray | None
    latents: Mapping[str, np.ndarray] = field(default_factory=dict)
    factor: int = 1

    @staticmethod
    def of(step: Step, shown: Step) -> "Film":
        """Return what is kept of a step.  shown: the step to look at, see `Plan.shown`."""
        sigma, last = float(step.level.sigma), step.index + 1 == step.steps
        pixels, factor = shown.x_t is step.x_t, shown.x_t.shape[1] // step.x_t.shape[1]
        names = () if pixels else ("x_t",) if last else ("x_t", "x0_hat")
        latents = {name: np.array(to_numpy(getattr(step, name))) for name in names}  # a copy: they are used again
        x_t, x0_hat = (
            to_uint8(x[:, ::factor, ::factor] if name in names else x)
            for name, x in (("x_t", shown.x_t), ("x0_hat", shown.x0_hat))
        )
        x_prev = to_uint8(shown.x_prev) if last else None
        return Film(step.index, float(step.t), sigma if np.isfinite(sigma) else None, x_t, x0_hat, x_prev, latents,
                    factor)  # fmt: skip

    def picture(self, what: str) -> np.ndarray | None:
        """Return x_t, x0_hat or x_prev in the size of the model's images; None if it is not kept."""
        kept: np.ndarray | None = getattr(self, what)
        if kept is None or what not in self.latents:
            return kept
        return kept.repeat(self.factor, 1).repeat(self.factor, 2)

    @property
    def bytes(self) -> int:
        """The memory that it takes, about."""
        return sum(each.nbytes for each in (self.x_t, self.x0_hat, *self.latents.values()))


@dataclass(eq=False)
class Node:
    """A sampling run of a drawing, or a branch of one.

    start: the step at which it leaves its parent.  request: its settings; of a branch, those that hold from there on.
    films: of all steps from the first one on; marks: how many outputs of the network belong to the steps before each.
    frames: what was recorded of the network, by step.  of: the number of steps, 0 before the first.
    digests: the SHA-256 of the files that decide its images, by the names of `files_of`.
    pictures: the gallery's ids; saving: they are on their way to the disk.
    images: (N, H, W, C) uint8 once it is finished.
    """

    id: int
    parent: "Node | None"
    start: int
    request: SampleRequest
    plan: Plan
    films: list[Film] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    marks: list[int] = field(default_factory=lambda: [0])
    frames: dict[int, Frame] = field(default_factory=dict)
    of: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    saving: bool = False
    images: np.ndarray | None = None

    @property
    def done(self) -> int:
        """How many steps are drawn, counted from the first step of the root."""
        return len(self.films)

    def path(self) -> list["Node"]:
        """Return the nodes from the root to this one."""
        return [*(self.parent.path() if self.parent else []), self]

    def inherit(self) -> None:
        """Take over the parent's steps before `start`."""
        if self.parent is not None:
            parent, self.of = self.parent, self.parent.of
            self.films, self.marks = parent.films[: self.start], parent.marks[: self.start + 1]
            self.outputs = parent.outputs[: self.marks[-1]]
            self.frames = {k: frame for k, frame in parent.frames.items() if k < self.start}

    @property
    def bytes(self) -> int:
        """The memory that its own steps take, about."""
        first = self.start if self.parent else 0
        films = sum(film.bytes for film in self.films[first:])
        outputs = sum(output.nbytes for output in self.outputs[self.marks[min(first, len(self.marks) - 1)] :])
        return films + outputs + len(self.frames) * bytes_of_frame(self.plan.model)


FRAME_ARRAYS = 14  # float32 arrays in a recorded step, with its attention maps, about
FRAME_IMAGES = 3  # and of a latent model, the images to look at


def bytes_of_film(model: Model) -> int:
    """Return the memory that a step of one image takes, about, without the outputs of the network."""
    previews = 2 * math.prod((*model.noise_shape[:2], model.shape[2]))
    return previews if model.space.autoencoder_config is None else previews + 2 * 4 * math.prod(model.noise_shape)


def bytes_of_frame(model: Model) -> int:
    """Return the memory that a recorded step takes, about."""
    images = 0 if model.space.autoencoder_config is None else FRAME_IMAGES * math.prod(model.shape)
    return 4 * (FRAME_ARRAYS * math.prod(model.noise_shape) + images)


@dataclass(eq=False)
class Drawing:
    """A drawing, its state, and the run that is drawn at the moment.

    keep: whether its steps are kept; a client that only wants the result needs no way back.  save: whether its images
    go to the gallery.  budget: how many new steps it may go before it pauses, None for all.
    rest: the state that it goes back to when its known steps are recorded, None if it goes on from there.
    """

    id: str
    model: str
    nodes: list[Node]
    keep: bool = True
    save: bool = True
    inside: bool = False
    state: State = "queued"
    error: str | None = None
    budget: int | None = None
    rest: State | None = None
    active: Node = field(init=False)
    run: Iterator[Step] | None = None
    replay: Replay | None = None
    recording: Recording | None = None
    newest: Film | None = None  # the step that was drawn last
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LAST_STEPS))  # that each of the last steps took

    def __post_init__(self) -> None:
        self.active = self.nodes[-1]

    def node(self, id: object) -> Node | None:
        """Return the node with an id, None if there is none."""
        return self.nodes[id] if type(id) is int and 0 <= id < len(self.nodes) else None

    def begin(self) -> int:
        """Start the run of the active node, or start it again; return how many of its steps need not be drawn again.

        With `inside`, the network's outputs are recorded; steps that were drawn without are drawn again.
        """
        node, on_prediction = self.active, None
        known = node.done if self.keep and not (self.inside and len(node.frames) < node.done) else 0
        if self.inside:
            model = node.plan.model
            self.recording = Recording(model.model, model.process, images=1, space=model.space)
            self.recording.__enter__()
            on_prediction = self.recording.on_prediction
        self.replay = Replay(node.outputs[: node.marks[known]]) if self.keep else None
        count = node.request.count
        self.run = node.plan.steps(0, count, count, on_prediction, self.replay)
        return known

    def end(self) -> None:
        """Drop the run; what is kept of its steps stays."""
        if self.run is not None:
            self.run.close()  # type: ignore[attr-defined]  # every run is a generator
        if self.recording is not None:
            self.recording.__exit__()
        self.run = self.replay = self.recording = None

    def take(self, step: Step) -> Film:
        """Keep a new step of the active node."""
        node = self.active
        shown = node.plan.shown(step)
        film = Film.of(step, shown)
        if self.recording is not None:
            self.recording.take(step, shown=shown)
            node.frames[step.index] = self.recording.frames.pop()
        node.of, self.newest = step.steps, film
        for each in node.path() if self.keep else []:  # what a branch draws before it begins is its parents', too
            if each is node or film.index < left_at(each, node):
                append(each, film, self.replay, step)
        if film.x_prev is not None:
            node.images = film.x_prev
        return film

    @property
    def rate(self) -> float:
        """Steps a second, of the last few: the first one may have waited for a compiler."""
        return len(self.seconds) / sum(self.seconds) if sum(self.seconds) else 0.0

    @property
    def bytes(self) -> int:
        """The memory that its steps take, about."""
        return sum(node.bytes for node in self.nodes)


def left_at(node: Node, leaf: Node) -> int:
    """Return the step at which the path to `leaf` leaves a node above it."""
    path = leaf.path()
    return path[path.index(node) + 1].start


def append(node: Node, film: Film, replay: Replay | None, step: Step) -> None:
    """Append a step to a node that has not got it."""
    if film.index != node.done:
        return
    node.of = step.steps
    node.films.append(film)
    if replay is not None:
        node.outputs.extend(replay.outputs[len(node.outputs) :])
        node.marks.append(len(node.outputs))


def picture_of(node: Node, k: int, what: str) -> np.ndarray | None:
    """Return images (N, H, W, C) uint8 of step k, for what = x_t, x0_hat or x_prev; None where there are none."""
    film, what = place_of(node, k, what)
    return None if film is None else film.picture(what)


def place_of(node: Node, k: int, what: str) -> tuple[Film | None, str]:
    """Return the film that holds x_t, x0_hat or x_prev of step k, None if there is none, and its name there."""
    films = node.films
    if not 0 <= k < len(films) or what not in ("x_t", "x0_hat", "x_prev"):
        return None, what
    return (films[k + 1], "x_t") if what == "x_prev" and k + 1 < len(films) else (films[k], what)
