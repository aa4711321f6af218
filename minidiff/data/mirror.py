"""Downloading from a mirror, a server that is not trusted: over HTTP, within bounds of time, speed and size.

Idea: a server can send without end, or one byte a minute, wherever HTTP allows it: in headers, in the body, in chunks,
in redirects.  All bytes pass through the connection, so they are counted there, against the clock and a maximum.  Of an
encrypted connection the decrypted bytes are counted; the handshake, which OpenSSL does, is bounded by the clock only.
httpcore2 parses the bytes; its parser h11 is strict and buffers no more than 100 KiB of an incomplete message.
Leaves out which files there are, and whether the right bytes came: download.py.
"""

import time
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import httpcore2

from minidiff.errors import printable

MAX_REDIRECTS = 5


def most(size: int) -> int:
    """Return how many bytes a server may send in all for `size` bytes of content, with headers and chunk sizes."""
    return size + size // 8 + (1 << 20)


class MirrorError(Exception):
    """An error of a server; another mirror may work."""


@dataclass
class Bounds:
    """The bounds for a server.

    most: bytes in all.  patience: seconds without any byte.  speed: the least number of bytes a
    second, on average, after `patience` seconds.
    """

    most: int
    patience: float
    speed: float
    received: int = 0
    began: float = field(default_factory=time.monotonic)

    def wait(self) -> float:
        """Return the seconds to wait for the next bytes.  Raises MirrorError if the server is too slow."""
        left = self.patience + self.received / self.speed - (time.monotonic() - self.began)
        if left <= 0:
            raise self.late()
        return min(left, self.patience)

    def late(self) -> MirrorError:
        """Return the error for a server that is too slow."""
        return MirrorError(f"timed out: {self.received} bytes in {time.monotonic() - self.began:.0f} seconds")

    def count(self, data: bytes) -> bytes:
        """Count received bytes, and return them.  Raises MirrorError if there are too many."""
        self.received += len(data)
        if self.received > self.most:
            raise MirrorError(f"sends more than {self.most} bytes")
        return data


class _Stream(httpcore2.NetworkStream):
    """A connection whose received bytes are counted; of an encrypted one, the decrypted bytes."""

    def __init__(self, stream: httpcore2.NetworkStream, bounds: Bounds) -> None:
        self.stream, self.bounds = stream, bounds

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.bounds.count(self.stream.read(max_bytes, self.bounds.wait()))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, self.bounds.wait())

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> "_Stream":
        return _Stream(self.stream.start_tls(ssl_context, server_hostname, self.bounds.wait()), self.bounds)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


class _Backend(httpcore2.SyncBackend):
    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds

    def connect_tcp(self, host: str, port: int, *_: Any, **options: Any) -> _Stream:
        options["timeout"] = self.bounds.wait()
        return _Stream(super().connect_tcp(host, port, **options), self.bounds)


def content(url: str, bounds: Bounds) -> Generator[bytes, None, None]:
    """Yield what `url` holds, in parts; closing the generator closes the connection.

    Up to MAX_REDIRECTS redirects are followed, to http and https only; their bodies are not read.
    Raises MirrorError, in one line, for every error of a server.
    """
    try:
        for _ in range(MAX_REDIRECTS + 1):
            with (
                httpcore2.ConnectionPool(proxy=_proxy(url), network_backend=_Backend(bounds)) as pool,
                # some servers refuse a client without a name
                pool.stream("GET", url, headers={"User-Agent": "minidiff", "Accept-Encoding": "identity"}) as answer,
            ):
                if answer.status == 200:
                    yield from answer.iter_stream()
                    return
                if answer.status not in (301, 302, 303, 307, 308):
                    reason = answer.extensions.get("reason_phrase", b"").decode("latin-1")
                    raise MirrorError(f"HTTP {answer.status} {printable(reason, 60)}".rstrip())
                url = _target(url, answer)
    # httpcore2 raises the last three for an address that is not valid.
    except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, httpcore2.ProxyError,
            httpcore2.UnsupportedProtocol, OSError, ValueError, TypeError) as error:  # fmt: skip
        if isinstance(error, httpcore2.TimeoutException):
            raise bounds.late() from error
        raise MirrorError(printable(error) if str(error) else type(error).__name__) from error
    raise MirrorError(f"redirects more than {MAX_REDIRECTS} times")


def _target(url: str, answer: httpcore2.Response) -> str:
    """Return where a redirect leads."""
    places = [value for name, value in answer.headers if name.lower() == b"location"]
    if not places:
        raise MirrorError(f"HTTP {answer.status} without a Location header")
    target = urljoin(url, places[0].decode("ascii"))
    if urlsplit(target).scheme not in ("http", "https"):
        raise MirrorError(f"redirects to {printable(target, 60)}, which is neither http nor https")
    return target


def _proxy(url: str) -> httpcore2.Proxy | None:
    """Return the proxy that the environment or the system names for this address, as other programs read it."""
    parts = urlsplit(url)
    named = urllib.request.getproxies().get(parts.scheme)
    if not named or (parts.hostname and urllib.request.proxy_bypass(parts.hostname)):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    if proxy.scheme not in ("http", "https"):
        raise MirrorError(f"the proxy {printable(proxy.scheme, 30)}://… is not http")
    user = (unquote(proxy.username), unquote(proxy.password or "")) if proxy.username else None
    return httpcore2.Proxy(urlunsplit((proxy.scheme, proxy.netloc.rpartition("@")[2], "/", "", "")), auth=user)
