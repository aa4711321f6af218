"""What the interfaces of the studio share: from settings to a drawing, and from a drawing to those who watch.

Idea: the studio's own interface and those that other programs speak are different words for the same few things:
submit a drawing, watch it, look something up.  They are here once.  Functions that read models or build sampling runs
are for the engine's thread, and are called through `Engine.call`.
Leaves out HTTP: api.py, watch.py, automatic1111.py, openai.py.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from minidiff import backend
from minidiff.errors import MinidiffError
from minidiff.pipeline.branch import branch
from minidiff.pipeline.plan import Plan
from minidiff.pipeline.prepare import prepare
from minidiff.sampling import branches
from minidiff.sampling.inputs import files_of, read_inputs
from minidiff.sampling.request import SampleRequest
from minidiff.studio import models as catalogue
from minidiff.studio.config import StudioConfig
from minidiff.studio.decoding import Decoding
from minidiff.studio.drawing import ENDED, Drawing, Film, Node, bytes_of_film
from minidiff.studio.engine import Engine
from minidiff.studio.gallery import Gallery
from minidiff.studio.hub import Hub
from minidiff.studio.ids import UnknownIdError
from minidiff.studio.models import Models
from minidiff.studio.pictures import PictureStore
from minidiff.studio.runs import Runs
from minidiff.studio.settings import portable, request_of
from minidiff.studio.views import drawing_view, entry_view, preview

MOST_BYTES = 1 << 28  # that the steps of one drawing may take, about


class Service:
    """Everything behind the interfaces, and what the engine tells of its drawings (`engine.Listener`)."""

    def __init__(self, config: StudioConfig, runs: Path = Path("runs")) -> None:
        self.config = config
        self.models = Models(config, runs)
        self.pictures = PictureStore(config.out / "inputs")
        self.gallery = Gallery(config.out)
        self.runs = Runs(runs)
        self.hub = Hub()
        self.engine = Engine(self)
        self.decoding = Decoding(self.engine)
        self.line: str | None = None  # what is being compiled
        self._saver = ThreadPoolExecutor(1, "saver")  # images are synced to the disk beside the drawing

    def close(self) -> None:
        """Wait until all finished images are saved."""
        self._saver.shutdown(wait=True)

    # -- on the engine's thread: from settings to a drawing -----------------------------------------------------------

    def submit(
        self, settings: Any, changes: Any = (), *, keep: bool = True, save: bool = True, inside: bool = False,
        paused: bool = False,
    ) -> tuple[Drawing, "Future[np.ndarray]"]:  # fmt: skip
        """Put a drawing into the queue; return it, and its images (N, H, W, C) uint8 to come.

        settings: see settings.py; "model" is the id of one.  changes: branches, [{"step": 20, "settings": {…}}, …].
        Raises MinidiffError for settings that do not fit, and `engine.Full` where there is no room.
        """
        self.engine.check_room()
        model = settings.get("model", "m0") if isinstance(settings, dict) else "m0"
        entry, pipeline = self.models.load(model)
        request = request_of(settings, entry.request(), self.pictures.path)
        plan = prepare(pipeline, request, read_inputs(request, pipeline))
        plan.denoisers(0, 1)  # whether the inputs of adapters fit
        request = replace(
            request,
            steps=plan.settings.steps,
            guidance_scale=plan.settings.guidance_scale,
            backend=backend.current().name,
        )
        takes = memory_of(request, plan)
        if keep:
            self.engine.check_room(takes)
        if keep and takes > MOST_BYTES:
            raise MinidiffError(
                f"to go back to each of {request.steps} steps of {request.count} images takes {takes >> 20} MiB, "
                f"and at most {MOST_BYTES >> 20} are kept: draw fewer images, or take fewer steps"
            )
        nodes = [Node(0, None, 0, request, plan)]
        self._add_digests(nodes[0], entry)
        for change in _branches(changes):
            step = change.get("step")
            if type(step) is not int or step < nodes[-1].start:
                raise MinidiffError(f"branches must be in the order of their steps, whole numbers; got {step!r}")
            nodes.append(self._branch_of(len(nodes), nodes[-1], step, change.get("settings", {})))
            self._add_digests(nodes[-1], entry)
        drawing = Drawing(self.engine.next_id(), entry.id, nodes, keep, save, inside)
        future = self.engine.add(drawing)
        if paused:
            self.engine.set(drawing, "paused")
        else:
            self.engine.enqueue(drawing)
        return drawing, future

    def warm_up(self) -> None:
        """Draw a step of the first model for nobody, so that its kernels are compiled before anybody waits."""
        entry, pipeline = self.models.load("m0")
        request = replace(entry.request(), prompt=pipeline.tokenizer.words[:1] if pipeline.tokenizer else (), count=1)
        plan = prepare(pipeline, request, read_inputs(request, pipeline))
        plan.images(next(plan.steps(0, 1)).x_prev)  # the decoder has kernels, too

    def new_node(self, drawing: Drawing, node: Node, step: Any, settings: Any) -> Node:
        """Return a node that leaves the run of another one at a step, with other settings; not yet drawn."""
        if type(step) is not int or not 0 <= step <= node.done or (node.of and step >= node.of):
            most = min(node.done, max(node.of - 1, 0))
            raise MinidiffError(f"a branch must begin after 0 to {most} drawn steps, got {step}")
        new = self._branch_of(len(drawing.nodes), node, step, settings)
        self.engine.check_room(drawing.bytes * (drawing.state in ENDED) + memory_of(new.request, new.plan))
        self._add_digests(new, self.models.entry(drawing.model))
        return new

    def _branch_of(self, id: int, node: Node, step: int, settings: Any) -> Node:
        request = request_of(settings, node.request, self.pictures.path, branches.CHANGEABLE)
        while node.parent is not None and step <= node.start:  # it leaves the run that drew the step before
            node = node.parent
        plan = branch(node.plan, step, request, read_inputs(request, node.plan.model))
        plan.denoisers(0, 1)
        return Node(id, node, step, request, plan)

    def _add_digests(self, node: Node, entry: catalogue.ModelEntry) -> None:
        """Note the SHA-256 of all files that decide the images, now that they have just been read."""
        known = node.parent.digests if node.parent else {"checkpoint": entry.digest}
        files = files_of(self._stored(node, entry), node.plan.model)
        node.digests = {name: known.get(name) or catalogue.digest(file) for name, file in files.items()}

    def _stored(self, node: Node, entry: catalogue.ModelEntry) -> SampleRequest:
        """Return the request that repeats a node, with its branches, as the command would."""
        path = node.path()
        lines = tuple(branches.line_of(after.start, before.request, after.request) for before, after in pairwise(path))
        request = catalogue.stored(path[0].request, entry, node.plan.model)  # type: ignore[arg-type]
        return replace(request, branch=lines)

    # -- on any thread ------------------------------------------------------------------------------------------------

    def drawing(self, id: str) -> Drawing:
        """Return a drawing.  Raises UnknownIdError if there is none, or no longer."""
        found = self.engine.drawings.get(id)
        if found is None or not found.keep:  # those of other programs are theirs
            raise UnknownIdError("drawing", id)
        return found

    def node(self, drawing: Drawing, id: Any) -> Node:
        """Return a node of a drawing; None for the active one."""
        found = drawing.active if id is None else drawing.node(id)
        if found is None:
            raise UnknownIdError("node", id)
        return found

    def view(self, drawing: Drawing) -> dict[str, Any]:
        """Return what a client may know of a drawing; the engine may be a step further by then."""
        place = next((k for k, each in enumerate(list(self.engine.waiting)) if each is drawing), None)
        return drawing_view(drawing, place, self.picture)

    def described(self, drawing: Drawing, node: Node) -> tuple[SampleRequest, dict[str, str], str]:
        """Return what the images of a node say of their making: its request, the SHA-256 of files, the model's name."""
        entry = self.models.entry(drawing.model)
        return self._stored(node, entry), node.digests, entry.name

    def picture(self, path: Path) -> str | None:
        """Return the id of a stored picture from its path."""
        return path.stem if path.parent == self.pictures.folder else None

    # -- engine.Listener: on the engine's thread ----------------------------------------------------------------------

    def changed(self, drawing: Drawing) -> None:
        """Publish the state of a drawing."""
        if drawing.keep:
            self.hub.event(("drawing", drawing.id), {"event": "drawing", "drawing": self.view(drawing)})

    def stepped(self, drawing: Drawing, film: Film) -> None:
        """Publish a step."""
        node = drawing.active
        rate = drawing.rate
        left = (node.of - film.index - 1) / rate if rate else None
        about = {"drawing": drawing.id, "node": node.id, "step": film.index, "of": node.of}
        about |= {"t": film.t, "sigma": film.sigma, "rate": rate, "left": left, "recorded": len(node.frames)}
        self.hub.preview(drawing.id, lambda: preview(about, film))

    def finished(self, drawing: Drawing, node: Node) -> "Future[list[str]]":
        """Save the images of a node; return the ids that they will have in the gallery."""
        assert node.images is not None
        images = node.images

        def save() -> list[str]:
            request, digests, name = self.described(drawing, node)
            entries = self.gallery.save(images, portable(request, self.gallery.folder), digests, name)
            for each in entries:
                self.hub.event(("gallery", each.id), {"event": "gallery", "picture": entry_view(each)})
            return [each.id for each in entries]

        return self._saver.submit(save)

    def compiling(self, line: str | None) -> None:
        """Publish what is being compiled, None for nothing."""
        self.line = line
        self.hub.event(("compiling", ""), {"event": "compiling", "line": line})


def memory_of(request: SampleRequest, plan: Plan) -> int:
    """Return about how many bytes all steps of a run take that are kept: two images and each output of the network."""
    evaluations = 2 if request.sampler == "heun" else 1
    outputs = 4 * evaluations * int(np.prod(plan.model.noise_shape))
    return request.count * (plan.settings.steps or 1) * request.resample * (bytes_of_film(plan.model) + outputs)


def _branches(changes: Any) -> list[dict[str, Any]]:
    if not isinstance(changes, list | tuple) or not all(isinstance(each, dict) for each in changes):
        raise MinidiffError('branches must be a list of objects, such as [{"step": 20, "settings": {}}]')
    if len(changes) > branches.MAX_BRANCHES:
        raise MinidiffError(f"expected at most {branches.MAX_BRANCHES} branches, got {len(changes)}")
    return list(changes)
