"""The guarded server under raw sockets: huge, slow, silent, broken and foreign clients do it no harm."""

import contextlib
import json
import os
import resource
import select
import socket
import struct
import threading
import time

import pytest

pytest.importorskip("starlette", reason="the studio needs the extra studio")
pytest.importorskip("websockets", reason="the studio needs the extra studio")
pytest.importorskip("uvicorn", reason="the studio needs the extra studio")

import uvicorn
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from minidiff.studio.access import address_hosts
from minidiff.studio.guard import Guard, GuardLimits
from minidiff.studio.serve import server_config

PATIENCE = 20  # seconds until a test gives up
ANSWER = b"x" * (32 << 20)  # more than the sockets of both sides hold
PIECE = 1 << 18


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    body = ANSWER if scope["path"] in ("/much", "/pieces") else b"%d" % length
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    if scope["path"] == "/pieces":
        for _ in range(0, len(body), PIECE):
            await send({"type": "http.response.body", "body": body[:PIECE], "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


class Running:
    """A server in a thread, on a free port."""

    def __init__(self, connections=50):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        limits = GuardLimits(max_body=lambda path: 1 << 20, seconds=0.5, sockets=2, linger=0.2)
        guarded = Guard(app, address_hosts("127.0.0.1", self.port), limits=limits)
        self.server = uvicorn.Server(server_config(guarded, seconds=0.3, connections=connections))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    @property
    def connections(self):
        return len(self.server.server_state.connections)

    def open(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def ask(self, *lines, body=b""):
        """Send these lines and a body; return all that comes until the server closes."""
        with self.open() as client:
            client.sendall("".join(f"{line}\r\n" for line in (*lines, "")).encode() + body)
            return everything(client)

    def get(self, path="/"):
        return self.ask(f"GET {path} HTTP/1.1", f"Host: {self.host}", "Connection: close")


def everything(client):
    """Return what the server sends until it closes the connection; a socket that times out fails the test."""
    pieces = []
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while piece := client.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def answered(response):
    """Return the status and the error of a response."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert body.startswith(b"{"), response
    return int(head.split()[1]), json.loads(body)["error"]


def until(holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextlib.contextmanager
def run(**options):
    running = Running(**options)
    running.thread.start()
    try:
        until(lambda: running.server.started)
        yield running
        assert running.get().endswith(b"\r\n\r\n0"), "it still serves after all that a test did"
    finally:
        running.server.should_exit = True
        running.thread.join(PATIENCE)
        assert not running.thread.is_alive()


@pytest.fixture(scope="module")
def running():
    with run() as server:
        yield server


def memory():
    """Bytes that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)


def test_a_gigabyte_that_is_announced_is_refused_unread(running):
    lines = ("POST / HTTP/1.1", f"Host: {running.host}", "Content-Length: 1000000000")
    assert answered(running.ask(*lines)) == (413, "the body has 1000000000 bytes or more: expected at most 1048576")


def test_a_gigabyte_that_comes_in_chunks_is_cut_off(running):
    piece = b"%x\r\n" % (1 << 20) + bytes(1 << 20) + b"\r\n"
    before, sent = memory(), 0
    with running.open() as client:
        client.sendall(f"POST / HTTP/1.1\r\nHost: {running.host}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(1000):
                client.sendall(piece)
                sent += 1
        # A client that reads while it sends gets the answer; this one may be reset first.
        response = everything(client)
    assert response == b"" or answered(response)[0] == 413
    assert sent < 100
    assert memory() - before < 100 << 20


def test_a_client_that_expects_to_be_asked_is_refused_before_it_sends(running):
    lines = ("POST / HTTP/1.1", f"Host: {running.host}", "Content-Length: 2000000", "Expect: 100-continue")
    response = running.ask(*lines)
    assert answered(response)[0] == 413
    assert b"100 Continue" not in response


def test_a_body_a_little_too_long_is_answered(running):
    lines = ("POST / HTTP/1.1", f"Host: {running.host}", "Content-Length: 3000000")
    assert answered(running.ask(*lines, body=bytes(3000000)))[0] == 413


def drip(client, text):
    """Send a byte now and then, until the server answers or has closed the connection; return what it sent."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for letter in text * 1000:
            client.sendall(letter.encode())
            if select.select([client], [], [], 0.05)[0]:
                break
    return everything(client)


def test_headers_that_come_slowly_are_timed_out(running):
    with running.open() as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {running.host}\r\n".encode())
        assert answered(drip(client, "X-A: b\r\n")) == (408, "the headers took more than 0.3 s to arrive")


def test_the_headers_of_a_second_request_are_timed_out_too(running):
    with running.open() as client:
        client.sendall(f"GET / HTTP/1.1\r\nHost: {running.host}\r\n\r\n".encode())
        first = b""
        while not first.endswith(b"\r\n\r\n0"):
            first += client.recv(1 << 16)
        assert answered(drip(client, "GET / HTTP/1.1\r\n" + 30 * "X: y\r\n"))[0] == 408


def test_a_body_that_comes_slowly_is_timed_out(running):
    with running.open() as client:
        client.sendall(f"POST / HTTP/1.1\r\nHost: {running.host}\r\nContent-Length: 5000\r\n\r\n".encode())
        assert answered(drip(client, "b")) == (408, "the request took more than 0.5 s to arrive")


def test_a_silent_connection_is_closed(running):
    with running.open() as client:
        assert everything(client) == b""


def test_a_client_that_does_not_read_is_given_up(running):
    with running.open() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(f"GET /much HTTP/1.1\r\nHost: {running.host}\r\n\r\n".encode())
        until(lambda: running.connections == 1)
        until(lambda: running.connections == 0 and not running.server.server_state.tasks)


@pytest.mark.parametrize("path", ["/much", "/pieces"])
def test_a_client_that_reads_slowly_gets_all(running, path):
    with running.open() as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {running.host}\r\nConnection: close\r\n\r\n".encode())
        length = 0
        while piece := client.recv(1 << 20):
            length += len(piece)
            time.sleep(0.02)  # in all, longer than the server waits for one that reads nothing
    assert length > len(ANSWER)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),  # as if it were HTTPS
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: %s\r\nX: " + 100_000 * b"a",
        b"GET /" + 9_000 * b"a" + b" HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
        b"GET /%%00/..%%2f..%%5c\\ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
def test_garbage_is_answered_or_cut_off(running, garbage):
    with running.open() as client:
        client.sendall(garbage.replace(b"%s", running.host.encode()))
        response = everything(client)
    assert response == b"" or response.startswith(b"HTTP/1.1 ")
    assert b"Traceback" not in response
    assert not response.startswith(b"HTTP/1.1 5")
    until(lambda: running.connections == 0)


def test_clients_that_vanish_leave_nothing_behind(running):
    for halves in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 9\r\n\r\n1234"):
        for reset in (False, True):
            client = running.open()
            client.sendall(halves.replace(b"%s", running.host.encode()))
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
    with running.open() as client:  # half of it is closed
        client.sendall(b"GET / HTTP/1.1\r\nHo")
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b""
    until(lambda: running.connections == 0)


def test_a_foreign_host_is_refused(running):
    status, text = answered(running.ask("GET / HTTP/1.1", "Host: evil.org", "Connection: close"))
    assert (status, text.split(":")[0]) == (403, "this server is not evil.org")


def test_the_websocket(running):
    url = f"ws://{running.host}/api/watch"
    for origin in (None, f"http://{running.host}"):
        with connect(url, origin=origin) as ours:
            ours.send("hello")
            assert ours.recv(PATIENCE) == "hello"
    for origin in ("http://evil.org", "null", "http://localhost:1"):
        with pytest.raises(InvalidStatus) as refused, connect(url, origin=origin):
            pass
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body)["error"] == f"a page of {origin} may not use this server"
    with (
        pytest.raises(InvalidStatus) as refused,
        connect("ws://evil.org/api/watch", sock=running.open()),
    ):
        pass
    assert refused.value.response.status_code == 403


def test_websockets_are_counted(running):
    url = f"ws://{running.host}/api/watch"
    with connect(url), connect(url):
        with pytest.raises(InvalidStatus) as refused, connect(url):
            pass
        assert refused.value.response.status_code == 429
    until(lambda: running.connections == 0)
    with connect(url):
        pass


def test_a_long_message_closes_the_websocket(running):
    with connect(f"ws://{running.host}/api/watch") as watching:
        with pytest.raises(ConnectionClosed) as closed:
            watching.send(100_000 * "x")
            watching.recv(PATIENCE)
        assert closed.value.rcvd.code == 1009


def test_a_websocket_outlives_the_clock_of_requests(running):
    with connect(f"ws://{running.host}/api/watch") as watching:
        time.sleep(1.0)  # three times the time for headers
        watching.send("still here")
        assert watching.recv(PATIENCE) == "still here"


def test_too_many_connections_are_closed():
    with run(connections=3) as running:
        with contextlib.ExitStack() as opened:
            kept = [opened.enter_context(running.open()) for _ in range(3)]
            until(lambda: running.connections == 3)
            with running.open() as one_more:
                assert everything(one_more) == b""
            for client in kept:
                client.sendall(f"GET / HTTP/1.1\r\nHost: {running.host}\r\n\r\n".encode())
                assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
        until(lambda: running.connections == 0)


def test_the_log_never_shows_the_token():
    config = server_config(app)
    assert not config.access_log
    assert not config.proxy_headers
