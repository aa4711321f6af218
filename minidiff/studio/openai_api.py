"""OpenAI's interface for images, as far as it is about drawing from words: /v1/images/generations and /v1/models.

Idea: whatever can draw with OpenAI's models can draw with the studio, at another base address: its prompt, its number
of images, a PNG for each.  `seed`, `steps`, `guidance_scale`, `sampler` and `negative`, which OpenAI has not, may be
sent as well.  An error has OpenAI's form, so that its library raises BadRequestError with our sentence.
FIELDS says what becomes of each field.  An image has its model's size, which the reply names, whatever was asked for.
Leaves out editing images.
"""

import re
import secrets
import time
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from minidiff.errors import MinidiffError, did_you_mean, printable
from minidiff.studio.access import Answer
from minidiff.studio.api import answer_of, json_of
from minidiff.studio.clients import Job, describe, draw, model_of, titles
from minidiff.studio.ids import UnknownIdError
from minidiff.studio.service import Service

MOST_IMAGES = 10
SEEDS = 1 << 32
OURS = ("seed", "steps", "guidance_scale", "sampler", "negative")

FIELDS = {
    "prompt": "what to draw, in words that the model knows",
    "model": "the model, by one of the names in /v1/models; default: the first",
    "n": "the number of images, 1 to 10",
    "size": "auto, or a width and a height; ignored: an image has its model's size",
    "response_format": "b64_json; url is refused",
    "output_format": "png; others are refused",
    "stream": "false; true is refused",
    "partial_images": "0; others are refused",
    "background": "ignored",
    "moderation": "ignored",
    "output_compression": "ignored",
    "quality": "ignored",
    "style": "ignored",
    "user": "ignored",
    "seed": "the seed; default: one by chance, which is in the PNG",
    "steps": "the number of steps; default: the model's",
    "guidance_scale": "how strongly the prompt is followed; default: the model's",
    "sampler": "the sampler, by our name",
    "negative": "a negative prompt",
}
ONLY: dict[str, tuple[Any, str]] = {
    "response_format": ("b64_json", "nothing is kept that an address could lead to"),
    "output_format": ("png", "there is no other format"),
    "stream": (False, "images are sent when they are drawn"),
    "partial_images": (0, "images are sent when they are drawn"),
}


class Refused(MinidiffError):
    """A field of a request cannot be used."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


class OpenAI:
    """The routes below /v1."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.jobs: list[Job] = []

    def routes(self) -> list[Route]:
        """Return all routes."""
        return [
            Route("/v1/images/generations", self.generate, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{id:path}", self.model, methods=["GET"]),
        ]

    async def generate(self, request: Request) -> Response:
        """Draw, and answer with the images."""
        try:
            body = await json_of(request)
            settings = settings_of(body)
            if body.get("model") is not None:
                settings["model"] = (await run_in_threadpool(model_of, self.service.models, body["model"])).id
            results = await draw(self.service, request, [settings], self.jobs)
            (described,) = await describe(self.service, results)
        except MinidiffError as error:
            return failure(error)
        except Answer as answer:
            return failure(answer)
        height, width = described.result.images.shape[1:3]
        return JSONResponse({
            "created": int(time.time()),
            "data": [{"b64_json": png} for png in described.pngs],
            "output_format": "png",
            "size": f"{width}x{height}",
        })  # fmt: skip

    async def models(self, request: Request) -> Response:
        """Answer the list of models."""
        names = await run_in_threadpool(titles, self.service.models)
        return JSONResponse({"object": "list", "data": [model_view(name) for name in names]})

    async def model(self, request: Request) -> Response:
        """Answer one model."""
        name = request.path_params["id"]
        try:
            await run_in_threadpool(model_of, self.service.models, name)
        except UnknownIdError as error:
            return failure(error)
        return JSONResponse(model_view(name))


def model_view(name: str) -> dict[str, Any]:
    """Return what is told of a model."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "minidiff"}


def settings_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a request, but for its model.  Raises Refused for a field that cannot be used."""
    for name, value in body.items():
        if name not in FIELDS:
            hint = did_you_mean(name, FIELDS) or f"known are {', '.join(FIELDS)}"
            raise Refused(printable(name, 60), f"there is no such field here; {hint}")
        expected, why = ONLY.get(name, (None, ""))
        if why and value not in (expected, None):
            raise Refused(name, f"expected {expected!r}, as {why}; got {printable(repr(value), 60)}")
    prompt, n, size = body.get("prompt"), body.get("n"), body.get("size")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Refused("prompt", f"expected what to draw, in words, got {printable(repr(prompt), 60)}")
    n = 1 if n is None else n
    if type(n) is not int or not 1 <= n <= MOST_IMAGES:
        raise Refused("n", f"expected a whole number from 1 to {MOST_IMAGES}, got {printable(repr(n), 60)}")
    if size not in (None, "auto") and not (isinstance(size, str) and re.fullmatch(r"\d{1,5}x\d{1,5}", size)):
        raise Refused("size", f"expected auto or a size such as 32x32, got {printable(repr(size), 60)}")
    ours = {name: body[name] for name in OURS if body.get(name) is not None}
    return {"model": "m0", "seed": secrets.randbelow(SEEDS), **ours, "prompt": [prompt], "count": n}


def failure(error: MinidiffError | Answer) -> Response:
    """Return an error in OpenAI's form."""
    answer = answer_of(error) if isinstance(error, MinidiffError) else error
    kind = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}.get(
        answer.status, "invalid_request_error"
    )
    about = {"message": answer.error, "type": kind, "param": getattr(error, "field", None), "code": None}
    if isinstance(error, UnknownIdError):
        about |= {"param": "model", "code": "model_not_found"}
    return JSONResponse({"error": about}, answer.status, answer.headers)
