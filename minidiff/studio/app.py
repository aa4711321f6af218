"""The web application of the studio: all routes, behind the guard.

Leaves out the server: __main__.py and serve.py.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from minidiff.explain.page import page_file
from minidiff.studio.api import Api
from minidiff.studio.automatic1111 import Automatic1111
from minidiff.studio.guard import Guard
from minidiff.studio.openai_api import OpenAI
from minidiff.studio.service import Service
from minidiff.studio.watch import Watch

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
INSIDE = ("inside.js", "inside.css", "inside.html")  # of the page that `sample --explain` writes


def make_app(service: Service, hosts: frozenset[str], token: str | None) -> Starlette:
    """Return the application.  hosts, token: see `access.Access`."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        rounds = asyncio.ensure_future(service.hub.rounds())
        yield
        rounds.cancel()

    routes: list[BaseRoute] = [
        *Api(service).routes(),
        WebSocketRoute("/api/watch", Watch(service).__call__),
        *Automatic1111(service).routes(),
        *OpenAI(service).routes(),
        *_page(),
    ]
    guard = Middleware(Guard, hosts=hosts, token=token)
    return Starlette(routes=routes, lifespan=lifespan, middleware=[guard], exception_handlers={HTTPException: _nothing})


async def _nothing(request: Request, error: Exception) -> Response:
    """Answer a request for an address that no route has, or a method that it has not."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = "there is nothing at this address" if status == 404 else "this address is not asked for in that way"
    return JSONResponse({"error": said}, status)


def _page() -> list[Route]:
    """Return a route for each file of the page: they are listed and read once, so no request names a file."""
    folder = resources.files("minidiff.studio").joinpath("page")
    files = (
        {f"/{each.name}": each.read_bytes() for each in folder.iterdir() if each.is_file()} if folder.is_dir() else {}
    )
    files |= {f"/explain/{name}": page_file(name).encode() for name in INSIDE}
    files["/"] = files.pop("/index.html", b"")
    return [_file(path, content) for path, content in sorted(files.items())]


def _file(path: str, content: bytes) -> Route:
    kind = next((kind for end, kind in TYPES.items() if path.endswith(end)), "text/html")

    async def send(request: Request) -> Response:
        return Response(content, media_type=kind)

    return Route(path, send, methods=["GET"])
