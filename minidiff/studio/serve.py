"""How uvicorn is set up: bounds for what happens before and after a request is in the app's hands.

Idea: a client may be slow, silent or gone.  One that opens connections and sends half a request, or asks for pictures
and does not read them, must not occupy the server: uvicorn waits for both for ever.  `PunctualProtocol` is uvicorn's
HTTP protocol with a clock.  `server_config` lists all other settings, each with its reason.
Leaves out what needs a whole request, such as the bounds of bodies: guard.py.
"""

import asyncio
import json
import resource

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from minidiff.studio.guard import HEADERS, App

CONNECTIONS = 2300  # 2,000 WebSockets, 256 requests, and some more
_OTHER_FILES = 100  # weights, pictures, the log


def server_config(app: App, seconds: float = 10.0, connections: int = CONNECTIONS) -> uvicorn.Config:
    """Return the settings for uvicorn.Server(...).run(sockets=[...]).

    seconds: until the headers of a request must be complete, and how long a client may read nothing of its response.
    """

    class Protocol(PunctualProtocol):
        pass

    Protocol.seconds = seconds
    Protocol.most = _open_files(connections + _OTHER_FILES) - _OTHER_FILES
    return uvicorn.Config(
        app,
        http=Protocol,
        loop="asyncio",  # the same everywhere, whatever else is installed
        ws="websockets-sansio",  # reads one message at a time: what the app has not taken stays with the client
        ws_max_size=64 << 10,  # bytes; a page sends {"watch": "d1"}
        ws_ping_interval=20.0,  # a page whose computer sleeps or is gone is given up after 40 s
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,  # previews are PNGs, which do not shrink; and nothing can be inflated here
        h11_max_incomplete_event_size=64 << 10,  # bytes of all headers: other servers on localhost set cookies, too
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,  # Ctrl-C ends pages that watch
        backlog=128,
        proxy_headers=False,  # nobody may tell us in a header who they are
        server_header=False,
        access_log=False,  # it would print the token of /?token=...
        log_config=None,  # the command decides
        log_level="error",  # a client that sends garbage does not fill the log
    )


def _open_files(most: int) -> int:
    """Let this process open `most` files, if it may; return how many it may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return most
    if soft < most:
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(soft, most)


class PunctualProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which closes connections that are too many, too slow to ask, or do not read.

    uvicorn itself has a clock only for connections that wait for a next request.
    """

    seconds = 10.0
    most = CONNECTIONS

    _headers_due: asyncio.TimerHandle | None = None
    _paused = False  # as much is written as the client's side and ours hold
    _unread: int | None = None  # bytes that were left at the last look

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._headers_due = self.loop.call_later(self.seconds, self._no_headers)
        self.loop.call_later(self.seconds, self._look_whether_read)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP at all, as h11 says, in the form of all other errors."""
        body = json.dumps({"error": "expected a request in HTTP/1.1 with one Host and one length"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [*HEADERS.items(), (b"connection", b"close")]
        self._answer(h11.Response(status_code=400, headers=headers, reason=b"Bad Request"), body)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:  # the headers are complete, or wrong
            self._stop_clock()
        elif self._headers_due is None:
            self._headers_due = self.loop.call_later(self.seconds, self._no_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def _stop_clock(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _no_headers(self) -> None:
        self._headers_due = None
        if self.transport.is_closing():
            return
        if self.conn.trailing_data[0]:  # silent connections, which browsers keep in reserve, are closed silently
            body = json.dumps({"error": f"the headers took more than {self.seconds:g} s to arrive"}).encode()
            names = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            self._answer(h11.Response(status_code=408, headers=list(names.items()), reason=b"Request Timeout"), body)
        else:
            self.transport.close()

    def _answer(self, response: h11.Response, body: bytes) -> None:
        """Send a response in one piece, and close the connection."""
        events = response, h11.Data(data=body), h11.EndOfMessage()
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._paused = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self._paused, self._unread = False, None

    def _look_whether_read(self) -> None:
        """Give up a connection of which nothing was read since the last look; goes on when it has become a WebSocket.

        Only while it is paused or closing: then nothing is added to what is left, so that it must have shrunk.
        """
        left = self.transport.get_write_buffer_size()
        closing = self.transport.is_closing()
        if closing and left == 0:
            return
        waits = closing or self._paused
        if waits and self._unread is not None and left >= self._unread:
            self.transport.abort()
            return
        self._unread = left if waits else None
        self.loop.call_later(self.seconds, self._look_whether_read)
