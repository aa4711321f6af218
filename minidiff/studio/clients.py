"""What the interfaces of other programs have in common: one request that waits for one or more drawings.

Idea: such a program sends its settings, keeps the connection open, and gets the images.  So its drawings keep no steps,
nothing of them is shown on the studio's page, and they are cancelled when it goes away.  It knows a model by its name.
Leaves out the fields and the errors of each interface: a1111_fields.py, automatic1111.py, openai_api.py.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from minidiff.errors import MinidiffError, printable
from minidiff.images.files import described_png
from minidiff.pipeline.pipeline import Pipeline
from minidiff.sampling import like
from minidiff.studio import control
from minidiff.studio.access import Answer
from minidiff.studio.api import engine
from minidiff.studio.decoding import guess
from minidiff.studio.drawing import ENDED, Drawing
from minidiff.studio.engine import Engine
from minidiff.studio.ids import UnknownIdError
from minidiff.studio.models import ModelEntry, Models
from minidiff.studio.parameters import PARAMETERS_KEY, infotext
from minidiff.studio.service import Service


@dataclass(eq=False)
class Job:
    """The drawings of one request, in the order in which they are drawn.

    futures: their images to come.  stopped: the ids of those that were stopped, whose images are taken as they are.
    """

    drawings: list[Drawing] = field(default_factory=list)
    futures: list["Future[np.ndarray]"] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)

    @property
    def done(self) -> int:
        """How many drawings have ended."""
        return sum(drawing.state in ENDED for drawing in self.drawings)

    @property
    def current(self) -> Drawing | None:
        """The drawing that is drawn, or will be next."""
        return next((drawing for drawing in self.drawings if drawing.state not in ENDED), None)


@dataclass(frozen=True)
class Result:
    """A drawing and its images (N, H, W, C) uint8; finished: whether all its steps are drawn."""

    drawing: Drawing
    images: np.ndarray
    finished: bool


async def draw(service: Service, request: Request, settings: Sequence[dict[str, Any]], jobs: list[Job],
               save: bool = False) -> list[Result]:  # fmt: skip
    """Draw, and return what was drawn, without drawings that were stopped before their first step.

    settings: of each drawing, as in settings.py, all of one model.  jobs: holds the job as long as it lasts.
    Raises MinidiffError or Answer if something does not fit or fails, ClientDisconnect if the client goes away.
    """
    job = await engine(service, lambda: _submit(service, settings, save))
    jobs.append(job)
    ends = asyncio.gather(*map(asyncio.wrap_future, job.futures), return_exceptions=True)
    gone = asyncio.ensure_future(_gone(request))
    either: list[asyncio.Future[Any]] = [ends, gone]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not ends.done():
            raise ClientDisconnect
        found = [await _result(service, drawing, end, job) for drawing, end in zip(job.drawings, ends.result())]
        return [each for each in found if each is not None]
    finally:
        jobs.remove(job)
        gone.cancel()
        if not ends.done():
            service.engine.call(lambda: stop(service.engine, job.drawings))
            ends.cancel()


def _submit(service: Service, settings: Sequence[dict[str, Any]], save: bool) -> Job:
    _, pipeline = service.models.load(settings[0]["model"])
    job = Job()
    try:
        for each in settings:
            drawing, future = service.submit(fitted(each, pipeline), keep=False, save=save)
            job.drawings.append(drawing)
            job.futures.append(future)
    except MinidiffError:
        stop(service.engine, job.drawings)
        raise
    return job


def fitted(settings: dict[str, Any], pipeline: Pipeline) -> dict[str, Any]:
    """Return settings without what these programs always send, where it means nothing for this model.

    A model that was trained with labels takes the prompt as a label.  Guidance is left out where there is nothing that
    it could follow, and a negative prompt where there is no guidance.
    """
    settings = dict(settings)
    if pipeline.tokenizer is None and pipeline.classes and settings["prompt"]:
        settings["label"], settings["prompt"] = settings["prompt"], []
    every_label = bool(pipeline.classes) and "init" not in settings
    if not (settings["prompt"] or settings.get("label") or settings.get("reference") or every_label):
        settings["guidance_scale"] = None
    if settings.get("guidance_scale") == 1:
        settings["negative"] = None
    return settings


def stop(engine: Engine, drawings: Sequence[Drawing]) -> None:
    """Cancel those drawings that have not ended; on the engine's thread."""
    for drawing in drawings:
        if drawing.state not in ENDED:
            control.cancel(engine, drawing)


async def _gone(request: Request) -> None:
    """Wait until the client has gone away; its request has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _result(service: Service, drawing: Drawing, end: np.ndarray | BaseException, job: Job) -> Result | None:
    if isinstance(end, np.ndarray):
        return Result(drawing, end, True)
    if drawing.id not in job.stopped:
        internal = drawing.state == "failed" and str(end).startswith("internal error")
        raise Answer(500, str(end)) if internal else end
    if drawing.active.images is not None:
        return Result(drawing, drawing.active.images, True)
    images = await engine(service, lambda: guess(drawing))
    return None if images is None else Result(drawing, images, False)


# -- what is sent and received ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Described:
    """The images of a drawing as files, each with its settings inside, and what those say.

    texts: see parameters.py.  digest: the SHA-256 of the model's file.
    """

    result: Result
    texts: list[str]
    pngs: list[str]
    model: str
    digest: str


async def describe(service: Service, results: Sequence[Result]) -> list[Described]:
    """Return the results of a job as PNGs in base64."""
    return await run_in_threadpool(lambda: [_described(service, result) for result in results])


def _described(service: Service, result: Result) -> Described:
    request, digests, name = service.described(result.drawing, result.drawing.active)
    about = like.describe(request, digests)
    if not result.finished and result.drawing.newest is not None:
        about["stopped_after"] = result.drawing.newest.index + 1  # steps: so `--like` draws what it would have become
    height, width = result.images.shape[1:3]
    texts, pngs = [], []
    for k, image in enumerate(result.images):
        texts.append(infotext(request, name, digests["checkpoint"], width, height, k))
        png = described_png(image, {**about, "image": k}, {PARAMETERS_KEY: texts[-1]})
        pngs.append(base64.b64encode(png).decode())
    return Described(result, texts, pngs, name, digests["checkpoint"])


def picture_bytes(text: Any, name: str) -> bytes:
    """Return the bytes of a picture that was sent in base64, with or without "data:image/png;base64," before it."""
    if not isinstance(text, str) or not text.strip():
        raise MinidiffError(f"{name}: expected a picture in base64, got {printable(repr(text), 40)}")
    if text.startswith(("http://", "https://")):
        raise MinidiffError(f"{name}: expected a picture in base64; addresses are not looked up")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise MinidiffError(f"{name}: not a picture in base64") from None


def titles(models: Models) -> dict[str, ModelEntry]:
    """Return all models by the names under which these programs choose them: of two with one name, the later has its id
    in it."""
    found: dict[str, ModelEntry] = {}
    for entry in models.scan():
        found[entry.name if entry.name not in found else f"{entry.name} ({entry.id})"] = entry
    return found


def model_of(models: Models, name: Any) -> ModelEntry:
    """Return the model of a title, or of an id.  Raises UnknownIdError, which names those that are there."""
    known = titles(models)
    if isinstance(name, str):
        if name in known:
            return known[name]
        for entry in known.values():
            if name == entry.id:
                return entry
    error = UnknownIdError("model", name)
    error.args = (f"there is no model {printable(repr(name), 60)} here; known are {', '.join(list(known)[:20])}",)
    raise error
