"""A server on this machine that does what no server should: ends early or never, lies about sizes, leads astray."""

import hashlib
import socket
import threading
import time
from random import Random

LONG = 8  # seconds for which something is dripped or repeated; a client must give up before, or see through it


class Mirror:
    """Answers every request in one wrong way.

    way: one of WAYS.  files: what is to be had, name to content.
    """

    def __init__(self, random: Random, way: str, files: dict[str, bytes]) -> None:
        self.random, self.way, self.files = random, way, files
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def digest(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def _serve(self) -> None:
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        try:
            with client:
                request = client.recv(65536).decode("latin-1")
                name = request.split(" ")[1].split("/")[-1] if " " in request else ""
                content = self.files.get(name, b"")
                for part in _WAYS[self.way](self.random, content, self.url):
                    client.sendall(part)
        except OSError:
            pass  # whoever hangs up on this server is right


def _head(*lines: str, status: str = "200 OK") -> bytes:
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines, "")).encode("latin-1", "replace")


def _drip(data: bytes, again: bool = True):
    """Yield a byte at a time, for as long as anybody may wait."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        for byte in data:
            yield bytes([byte])
            time.sleep(0.02)
            if time.monotonic() > end:
                return
        if not again:
            return


def _endless(data: bytes):
    """Yield the same again and again, as fast as it is taken."""
    end = time.monotonic() + 2 * LONG
    while time.monotonic() < end:
        yield data


def _chunk(data: bytes, size: str | None = None) -> bytes:
    return f"{len(data):x}".encode() if size is None else size.encode() + b"\r\n" + data + b"\r\n"


def _whole(random, content, url):
    yield _head(f"Content-Length: {len(content)}") + content


def _cut_off(random, content, url):
    yield _head(f"Content-Length: {len(content)}") + content[: random.randrange(len(content) or 1)]


def _odd_length(random, content, url):
    lengths = ["-1", "0", "1e9", "99999999999999999999", "0x10", "", "\x1b[31m", "1, 2", str(len(content) + 1), "٣"]
    yield _head(f"Content-Length: {random.choice(lengths)}") + content


def _odd_chunks(random, content, url):
    sizes = ["-1", "-5", "ffffffffffffffff", "zz", "", "0x5", " 5", "5;x=\x1b", "+5", "1_0", "7fffffff", "9" * 5000]
    yield _head("Transfer-Encoding: chunked") + _chunk(content[:100], random.choice(sizes)) + b"0\r\n\r\n"


def _endless_body(random, content, url):
    yield _head(*random.choice([[], [f"Content-Length: {1 << 40}"], ["Content-Type: text/html"]]))
    yield from _endless(bytes(1 << 16))


def _endless_chunks(random, content, url):
    yield _head("Transfer-Encoding: chunked")
    yield from _endless(b"10000\r\n" + bytes(1 << 16) + b"\r\n")


def _dripping_body(random, content, url):
    yield _head(f"Content-Length: {len(content)}")
    yield from _drip(content)


def _dripping_head(random, content, url):
    yield b"HTTP/1.1 200 OK\r\n"
    yield from _drip(b"X-More: 1\r\n")


def _endless_head(random, content, url):
    yield b"HTTP/1.1 200 OK\r\n"
    yield from _endless(random.choice([b"X-More: " + b"a" * 1000 + b"\r\n", b"a" * 65536]))


def _dripping_trailer(random, content, url):
    yield _head("Transfer-Encoding: chunked") + b"%x\r\n" % len(content) + content + b"\r\n0\r\n"
    yield from random.choice([_drip, _endless])(b"X-More: 1\r\n")


def _continue(random, content, url):
    yield from random.choice([_drip, _endless])(b"HTTP/1.1 100 Continue\r\n\r\n")


def _silence(random, content, url):
    yield random.choice([b"", b"HTTP", _head(f"Content-Length: {len(content)}"), b"\r\n"])
    time.sleep(LONG)


def _redirect(random, content, url):
    places = [
        f"{url}/again",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://[",
        "//",
        "",
        "\x1b[31m",
        "http://:99999/",
    ]
    places += [
        "http://127.0.0.1:1/x",
        "data:,x",
        "http://\x00/",
        "a" * 60_000,
        "gopher://x",
        "HTTP://user:word@[::1]:x/",
    ]
    status = random.choice(
        ["301 Moved", "302 Found", "303 See", "307 Same", "308 Always", "300 Many", "304 Not Modified"]
    )
    yield _head(f"Location: {random.choice(places)}", status=status)
    if random.random() < 0.5:
        yield from _endless(bytes(1 << 16))


def _odd_status(random, content, url):
    reason = random.choice(["\x1b[31mred\x07", "a" * 60_000, "", "OK\x00", "\x9b2J", "é"])
    status = random.choice(["404", "500", "999", "-1", "99999999999", "abc", "206", "204", "101", "401", "407", "0200"])
    yield _head("Content-Length: 5", "WWW-Authenticate: Basic", status=f"{status} {reason}") + b"\x1b[31m"
    if random.random() < 0.3:
        yield from _endless(bytes(1 << 16))


def _noise(random, content, url):
    yield random.randbytes(random.choice([1, 100, 70_000]))


def _no_http(random, content, url):
    yield random.choice(
        [content, b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"ICY 200 OK\r\n\r\n", b"HTTP/1.1\r\n\r\n"]
    )


def _wrong_bytes(random, content, url):
    yield _head(f"Content-Length: {len(content)}") + bytes(len(content))


def _packed(random, content, url):
    yield _head("Content-Encoding: gzip", f"Content-Length: {len(content)}") + content


_WAYS = {
    function.__name__: function
    for function in (
        *(_whole, _cut_off, _odd_length, _odd_chunks, _endless_body, _endless_chunks, _dripping_body, _dripping_head),
        *(
            _endless_head,
            _dripping_trailer,
            _continue,
            _silence,
            _redirect,
            _odd_status,
            _noise,
            _no_http,
            _wrong_bytes,
        ),
        _packed,
    )
}
WAYS = sorted(_WAYS)
