"""What stands between the network and the studio: it refuses, bounds and covers up.

Idea: the app behind it is written as if every request were honest.  So `Guard` lets through only requests of our own
page and of programs on this computer, or with the token (access.py); it counts the bytes of a body while they come
and the seconds that they take; it bounds how many requests and WebSockets there are at once; it gives every response
headers by which a browser runs no foreign script and shows the studio in no foreign frame; and it turns an exception
into one sentence, whose traceback is on the log only.
It is ASGI middleware and knows no framework's requests: Starlette(routes, middleware=[Middleware(Guard, hosts=...)]).
There, inside Starlette, exceptions reach it before Starlette answers them in its own way.
Leaves out what comes before a request is complete up to its body: serve.py bounds that.
"""

import asyncio
import contextlib
import errno
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

from minidiff.errors import MinidiffError, one_line, printable
from minidiff.studio.access import Access, Answer, Scope

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

MAX_PICTURE = 64 << 20  # bytes of an uploaded image file
_MAX_BODIES = {  # by the beginning of the path
    "/api/pictures": MAX_PICTURE,
    "/api/settings": MAX_PICTURE,
    "/sdapi/": 2 * MAX_PICTURE,  # pictures in base64, 4/3 as long, in JSON
    "/v1/images/": 2 * MAX_PICTURE,
}
_MAX_JSON = 1 << 20  # bytes of any other body
_LINGER = 8 << 20  # bytes of a refused body that are read nevertheless
_log = logging.getLogger("minidiff.studio")

HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"x-frame-options": b"DENY",
}


def max_body(path: str) -> int:
    """Return how many bytes the body of a request for this path may have."""
    return next((most for start, most in _MAX_BODIES.items() if path.startswith(start)), _MAX_JSON)


@dataclass(frozen=True)
class GuardLimits:
    """max_body: bytes of a body, from its path.  seconds: until a body is complete.

    bodies: bytes of all bodies that are held at once.  requests, sockets: how many at once.
    linger: seconds for which a refused body is read nevertheless.
    """

    max_body: Callable[[str], int] = max_body
    seconds: float = 60.0
    bodies: int = 512 << 20
    requests: int = 256
    sockets: int = 2000
    linger: float = 1.0


class Guard:
    """The app behind its guard.  hosts, token: as of `Access`, whose errors it raises."""

    def __init__(
        self, app: App, hosts: frozenset[str], token: str | None = None, limits: GuardLimits = GuardLimits()
    ) -> None:
        self.app = app
        self.access = Access(hosts, token)
        self.limits = limits
        self.requests = 0
        self.sockets = 0
        self.bodies = 0  # bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, _Exchange(self, scope, receive, send))
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:  # the app starts and ends
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, exchange: "_Exchange") -> None:
        try:
            self.access.check(scope)
            if self.requests >= self.limits.requests:
                raise _busy(f"{self.requests} requests are being answered")
            exchange.check_length()
        except Answer as answer:
            return await exchange.answer(answer)
        self.requests += 1
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:  # the client went away, or was answered for the app
            pass
        except Exception as error:
            if not exchange.answered:
                await exchange.answer(_failure(error, scope))
        finally:
            self.requests -= 1
            self.bodies -= exchange.bytes

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        accepted = False

        async def send_and_note(message: Message) -> None:
            nonlocal accepted
            accepted = accepted or message["type"] == "websocket.accept"
            try:
                await send(message)
            except OSError as error:  # so says uvicorn
                raise WebSocketDisconnect(1006) from error

        try:
            self.access.check(scope)
            if self.sockets >= self.limits.sockets:
                raise _busy(f"{self.sockets} pages are watching")
        except Answer as answer:
            return await _refuse_socket(answer, scope, send)
        self.sockets += 1
        try:
            await self.app(scope, receive, send_and_note)
        except WebSocketDisconnect:  # which is how it ends
            pass
        except Exception as error:
            failure = _failure(error, scope)
            if not accepted:
                return await _refuse_socket(failure, scope, send)
            reason = failure.error.encode()[:123].decode(errors="ignore")  # a frame of control holds 125 bytes
            with contextlib.suppress(OSError, RuntimeError):  # it is closed already
                await send({"type": "websocket.close", "code": 1011, "reason": reason})
        finally:
            self.sockets -= 1


class _Exchange:
    """One request, whose body is bounded in bytes and seconds, and its response."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._path: str = scope["path"]
        self._receive = receive
        self._send = send
        self._most = guard.limits.max_body(scope["path"])
        self._deadline = asyncio.get_running_loop().time() + guard.limits.seconds
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        self._lengths = [value for name, value in headers if name == b"content-length"]
        chunked = any(name == b"transfer-encoding" for name, _ in headers)
        self._complete = not chunked and self._lengths in ([], [b"0"])
        self._started = False
        self.answered = False  # by the guard
        self.bytes = 0  # of the body, so far

    def check_length(self) -> None:
        """Raise Answer if the body is announced to be too long."""
        for length in self._lengths:
            if not length.isdigit() or len(length) > 15 or len(self._lengths) > 1:
                raise Answer(400, "Content-Length must be one number")
            if int(length) > self._most:
                raise self._too_long(int(length))

    def _too_long(self, length: int) -> Answer:
        return Answer(413, f"the body has {length} bytes or more: expected at most {self._most}")

    async def receive(self) -> Message:
        """Return a piece of the body.  For one that is too long or too slow, answer, and tell the app that it ended."""
        if self._complete or self.answered:
            return {"type": "http.disconnect"} if self.answered else await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
            if message["type"] == "http.request":
                self._complete = not message.get("more_body", False)
                self._count(len(message.get("body", b"")))
            return message
        except TimeoutError:
            await self.answer(Answer(408, f"the request took more than {self._guard.limits.seconds:g} s to arrive"))
        except Answer as answer:
            await self.answer(answer)
        return {"type": "http.disconnect"}

    def _count(self, length: int) -> None:
        self.bytes += length
        self._guard.bodies += length
        if self.bytes > self._most:
            raise self._too_long(self.bytes)
        if self._guard.bodies > self._guard.limits.bodies:
            raise _busy("too many pictures are being sent")

    async def send(self, message: Message) -> None:
        """Send a part of the app's response, with the headers that every response has."""
        if self.answered:
            return
        if message["type"] == "http.response.start":
            self._started = True
            message = {**message, "headers": self._secured(message.get("headers", []))}
        await self._send(message)

    def _secured(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        headers = [(name.lower(), value) for name, value in headers]
        kept = [(n, v) for n, v in headers if n not in HEADERS and not n.startswith(b"access-control-")]
        if not any(name == b"cache-control" for name, _ in kept):
            kept.append((b"cache-control", b"no-store"))
        if not self._complete:  # or the server would read all that is still to come, and throw it away
            kept = [*((n, v) for n, v in kept if n != b"connection"), (b"connection", b"close")]
        return kept + list(HEADERS.items())

    async def answer(self, answer: Answer) -> None:
        """Answer instead of the app; if it began to answer, the server closes the connection in the middle."""
        self.answered = True
        if self._started:
            return
        headers, body = _as_json(answer, self._path)
        await self._send({"type": "http.response.start", "status": answer.status, "headers": self._secured(headers)})
        # A connection that is closed while bytes arrive is reset, and then few clients read the answer.
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        left = _LINGER
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._guard.limits.linger):
                while not self._complete and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    self._complete = not message.get("more_body", False)
        await self._send({"type": "http.response.body", "body": b""})


def _busy(what: str) -> Answer:
    return Answer(429, f"{what}: try again in a moment", {"retry-after": "1"})


def _failure(error: Exception, scope: Scope) -> Answer:
    """Return what is told of an exception.  All but a mistake of the user's goes to the log, with its traceback."""
    if isinstance(error, Answer):
        return error
    if isinstance(error, MinidiffError):
        return Answer(400, one_line(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        _log.error("%s", one_line(error))
        return Answer(507, one_line(error))
    number = secrets.token_hex(4)
    _log.error("internal error %s at %s", number, printable(scope["path"]), exc_info=error)
    if isinstance(error, OSError | MemoryError):
        return Answer(500, one_line(error))
    return Answer(500, f"internal error {number}; the log has it")


def _as_json(answer: Answer, path: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return headers and body of an answer; other interfaces have the sentence elsewhere."""
    kind = "server_error" if answer.status >= 500 else "invalid_request_error"
    kind = "rate_limit_error" if answer.status == 429 else kind
    said: dict[str, Any] = {"error": answer.error}
    if path.startswith("/v1/"):
        said = {"error": {"message": answer.error, "type": kind, "param": None, "code": None}}
    elif path.startswith("/sdapi/"):
        said |= {"detail": answer.error, "errors": answer.error}
    body = json.dumps(said).encode()
    headers = {**answer.headers, "content-type": "application/json", "content-length": str(len(body))}
    return [(name.encode(), value.encode()) for name, value in headers.items()], body


async def _refuse_socket(answer: Answer, scope: Scope, send: Send) -> None:
    """Refuse the handshake; a server that cannot say why answers 403."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        return await send({"type": "websocket.close", "code": 1013 if answer.status == 429 else 1008})
    headers, body = _as_json(answer, scope["path"])
    headers = [each for each in headers if each[0] != b"content-length"] + list(HEADERS.items())  # uvicorn adds its own
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
