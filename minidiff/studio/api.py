"""The studio's own interface: JSON over HTTP.  docs/chapter13.md lists the routes.

Idea: a route reads a request, has the engine run one function, and answers with what it returned.  An error is one
sentence, {"error": "…"}, with a status; guard.py makes it of a MinidiffError.
Leaves out the WebSocket (watch.py) and what the functions do (service.py, control.py).
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from minidiff import __version__
from minidiff.diffusion.solvers import SAMPLERS
from minidiff.errors import MinidiffError, printable
from minidiff.files import parse_json
from minidiff.images.files import to_png
from minidiff.studio import control
from minidiff.studio.access import Answer
from minidiff.studio.decoding import Wish
from minidiff.studio.drawing import Drawing, Node
from minidiff.studio.engine import Conflict, Full
from minidiff.studio.ids import UnknownIdError
from minidiff.studio.models import reads_prompts
from minidiff.studio.models import view as model_view
from minidiff.studio.pictures import MAX_UPLOAD, shown
from minidiff.studio.restore import restore
from minidiff.studio.service import Service
from minidiff.studio.settings import MAX_COUNT
from minidiff.studio.views import entry_view, inside_view, step_sheet

R = TypeVar("R")

FOREVER = {"cache-control": "private, max-age=31536000, immutable"}  # what an id names does not change
PATIENCE = 120.0  # seconds for an answer of the engine, which may be compiling


async def engine(service: Service, function: Callable[[], R]) -> R:
    """Run a function on the engine's thread, and return its result; its errors become answers.

    Raises Answer: 429 where there is no room, 409 where the state does not allow it, 404 for an unknown id.
    """
    return await promised(lambda: service.engine.call(function))


async def promised(ask: Callable[[], "Future[R]"]) -> R:
    """Return the result that the engine has promised to whoever calls `ask`; its errors become answers."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(ask()), PATIENCE)
    except MinidiffError as error:
        raise answer_of(error) from error
    except TimeoutError:
        raise Answer(503, "the engine has not answered in time; it may be compiling, so try again") from None


def answer_of(error: MinidiffError) -> Answer:
    """Return the answer for an error of a user."""
    status = {Full: 429, Conflict: 409, UnknownIdError: 404}.get(type(error), 400)
    return Answer(status, str(error), {"retry-after": "1"} if status == 429 else None)


async def json_of(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request, {} for an empty body."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Answer(415, "expected a body of Content-Type application/json")
    try:
        text = (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise Answer(400, "expected JSON in UTF-8") from error
    value = parse_json(text, "the body") if text else {}
    if not isinstance(value, dict):
        raise Answer(400, f"expected a JSON object, got {printable(text, 60)!r}")
    return value


def number_of(request: Request, name: str, default: int, most: int = 1 << 31) -> int:
    """Return a whole number of the query."""
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdecimal() or int(text[:12]) > most:
        raise Answer(400, f"{name} must be a whole number from 0 to {most}, got {printable(text, 40)!r}")
    return int(text)


def place_of(request: Request, name: str) -> int:
    """Return a whole number of the path; anything else is no address of ours."""
    text = request.path_params[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Answer(404, "there is nothing at this address")
    return int(text)


class Api:
    """The routes of the studio's own interface."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def routes(self) -> list[Route]:
        """Return all routes below /api."""
        get, post = partial(Route, methods=["GET"]), partial(Route, methods=["POST"])
        step = "/api/drawings/{id}/nodes/{node}/steps/{k}"
        return [
            get("/api/state", self.state),
            post("/api/models/{id}", self.model),
            post("/api/pictures", self.add_picture),
            get("/api/pictures/{id}.png", self.picture),
            get("/api/pictures/{id}/as/{use}.png", self.picture_as),
            post("/api/settings", self.settings),
            post("/api/drawings", self.draw),
            get("/api/drawings/{id}", self.drawing),
            post("/api/drawings/{id}/branches", self.branch),
            post("/api/drawings/{id}/{verb}", self.control),
            get(f"{step}/inside", self.inside),
            get(f"{step}/{{what}}.png", self.step),
            get(f"{step}/decoded/{{what}}.png", self.decoded),
            get("/api/gallery", self.gallery),
            get("/api/gallery/{id}.png", self.gallery_picture),
            get("/api/runs", self.runs),
            get("/api/runs/{id}", self.run),
            get("/api/runs/{id}/previews/{step}.png", self.preview),
        ]

    async def state(self, request: Request) -> Response:
        service = self.service
        models = await run_in_threadpool(service.models.views)
        kept = [drawing for drawing in list(service.engine.drawings.values()) if drawing.keep]
        drawings = [service.view(drawing) for drawing in reversed(kept)]
        return JSONResponse({
            "version": __version__,
            "samplers": list(SAMPLERS),
            "spacings": ["trailing", "leading", "linspace", "karras"],
            "models": models,
            "drawings": drawings,
            "compiling": service.line,
            "queue": len(service.engine.waiting),
            "limits": {"count": MAX_COUNT, "upload": MAX_UPLOAD},
        })  # fmt: skip

    async def model(self, request: Request) -> Response:
        entry, _ = await engine(self.service, lambda: self.service.models.load(request.path_params["id"]))
        return JSONResponse(model_view(entry))

    # -- pictures -----------------------------------------------------------------------------------------------------

    async def add_picture(self, request: Request) -> Response:
        added = await run_in_threadpool(self.service.pictures.add, await request.body())
        about = {"id": added.id, "url": f"/api/pictures/{added.id}.png", "width": added.width, "height": added.height}
        return JSONResponse(about, 201)

    async def picture(self, request: Request) -> Response:
        return FileResponse(found(self.service.pictures.path, request.path_params["id"]), headers=FOREVER)

    async def picture_as(self, request: Request) -> Response:
        path = found(self.service.pictures.path, request.path_params["id"])
        use, kind = request.path_params["use"], request.query_params.get("kind", "edges")
        if use not in ("init", "mask", "control", "reference") or kind not in ("edges", "segmentation", "depth"):
            raise Answer(404, "a picture is shown as init, mask, control or reference")
        _, pipeline = await engine(
            self.service, lambda: self.service.models.load(request.query_params.get("model", "m0"))
        )
        seen = await run_in_threadpool(shown, path, use, pipeline.shape, kind)  # type: ignore[arg-type]
        return Response(to_png(seen), media_type="image/png")

    async def settings(self, request: Request) -> Response:
        body, folder = await request.body(), await run_in_threadpool(tempfile.mkdtemp)

        def read() -> dict[str, Any]:
            path = Path(folder) / "dropped.png"
            try:
                path.write_bytes(body)
                return restore(path, self.service.models, self.service.pictures)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        try:
            return JSONResponse(await run_in_threadpool(read))
        except MinidiffError as error:
            raise Answer(400, str(error).replace(f"{folder}/", "")) from error

    # -- drawings -----------------------------------------------------------------------------------------------------

    async def draw(self, request: Request) -> Response:
        body, service = await json_of(request), self.service

        def submit() -> dict[str, Any]:
            drawing, _ = service.submit(
                body.get("settings", {}),
                body.get("branches", []),
                inside=body.get("inside") is True,
                paused=body.get("paused") is True,
            )
            return service.view(drawing)

        return JSONResponse(await engine(service, submit), 201)

    async def drawing(self, request: Request) -> Response:
        return JSONResponse(self.service.view(self._drawing(request)))

    async def control(self, request: Request) -> Response:
        verb, service, body = request.path_params["verb"], self.service, await json_of(request)

        def act() -> dict[str, Any]:
            drawing = service.drawing(request.path_params["id"])
            node = service.node(drawing, body.get("node"))
            acts: dict[str, Callable[[], None]] = {
                "pause": lambda: control.pause(service.engine, drawing),
                "cancel": lambda: control.cancel(service.engine, drawing),
                "resume": lambda: control.resume(service.engine, drawing, node),
                "step": lambda: control.resume(service.engine, drawing, node, 1),
                "inside": lambda: control.look_inside(service.engine, drawing, body.get("on") is not False),
            }
            if verb not in acts:
                raise UnknownIdError("action", verb)
            acts[verb]()
            return service.view(drawing)

        return JSONResponse(await engine(service, act))

    async def branch(self, request: Request) -> Response:
        service, body = self.service, await json_of(request)

        def act() -> dict[str, Any]:
            drawing: Drawing = service.drawing(request.path_params["id"])
            node = service.node(drawing, body.get("node"))
            new = service.new_node(drawing, node, body.get("step"), body.get("settings", {}))
            control.branch(service.engine, drawing, new, body.get("paused") is True)
            return service.view(drawing)

        return JSONResponse(await engine(service, act), 201)

    async def step(self, request: Request) -> Response:
        node = self._node(request)
        png = await run_in_threadpool(step_sheet, node, place_of(request, "k"), request.path_params["what"])
        if png is None:
            raise Answer(404, "that step is not drawn")
        return Response(png, media_type="image/png")

    async def decoded(self, request: Request) -> Response:
        k, what, image = place_of(request, "k"), request.path_params["what"], number_of(request, "image", 0, MAX_COUNT)
        drawing, wish = self._drawing(request), Wish(self._node(request), k, what, image)
        picture = await promised(lambda: self.service.decoding.ask(drawing, wish))
        if picture is None:
            raise Answer(404, "that step is not drawn")
        return Response(await run_in_threadpool(to_png, picture), media_type="image/png")

    async def inside(self, request: Request) -> Response:
        content = await run_in_threadpool(inside_view, self._node(request), place_of(request, "k"))
        if content is None:
            raise Answer(404, "what the network said at that step is not recorded")
        return JSONResponse(content)

    def _drawing(self, request: Request) -> Drawing:
        return found(self.service.drawing, request.path_params["id"])

    def _node(self, request: Request) -> Node:
        return found(partial(self.service.node, self._drawing(request)), place_of(request, "node"))

    # -- what was drawn, and what is being trained --------------------------------------------------------------------

    async def gallery(self, request: Request) -> Response:
        service, before = self.service, request.query_params.get("before")
        count = number_of(request, "count", 60, 200)
        entries = await run_in_threadpool(service.gallery.list, before, count + 1)
        pictures = [entry_view(each) for each in entries[:count]]
        return JSONResponse({"pictures": pictures, "more": len(entries) > count})

    async def gallery_picture(self, request: Request) -> Response:
        return FileResponse(found(self.service.gallery.path, request.path_params["id"]), headers=FOREVER)

    async def runs(self, request: Request) -> Response:
        return JSONResponse({"runs": await run_in_threadpool(self.service.runs.list)})

    async def run(self, request: Request) -> Response:
        id, after, points = request.path_params["id"], number_of(request, "after", 0), number_of(request, "points", 400)
        path = found(self.service.runs.path, id)
        about = await run_in_threadpool(self.service.runs.follow, id, after, points)
        model, prompts = await run_in_threadpool(lambda: (self.service.models.of_run(path), reads_prompts(path)))
        return JSONResponse({**about, "model": model, "prompts": prompts})

    async def preview(self, request: Request) -> Response:
        find = partial(self.service.runs.preview, request.path_params["id"])
        return FileResponse(found(find, place_of(request, "step")))


def found(look_up: Callable[[Any], R], id: Any) -> R:
    """Look an id up; an unknown one is answered with 404."""
    try:
        return look_up(id)
    except MinidiffError as error:
        raise answer_of(error) from error
