"""Bytes from a server that is not trusted: over HTTP, within bounds of time, speed and size.

Idea: a server may send without end, or a byte a minute, wherever HTTP lets it: in headers, in the body, in chunks, in
answers that come before the answer.  A client cannot know all those places, but every byte passes through one: the
connection.  There each byte is counted, against the clock and against a most; of an encrypted connection those that
come out of it, while its handshake, with the certificates, is held to the clock and else left to OpenSSL.  What the
bytes mean is left to httpcore2, whose parser h11 is strict and keeps no more than 100 KiB of what is unfinished.
Before download.py, which says what should have come.
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
    """Return how many bytes may come in all where `size` are wanted: headers and chunks' sizes as well."""
    return size + size // 8 + (1 << 20)


class MirrorError(Exception):
    """What is wrong with a server; another may do better."""


@dataclass
class Bounds:
    """What a server may take.

    most: bytes in all.  patience: seconds of silence.  speed: bytes a second that must come on average, once the
    patience is at an end.
    """

    most: int
    patience: float
    speed: float
    received: int = 0
    began: float = field(default_factory=time.monotonic)

    def wait(self) -> float:
        """Return for how many seconds the next bytes may be waited for."""
        left = self.patience + self.received / self.speed - (time.monotonic() - self.began)
        if left <= 0:
            raise self.late()
        return min(left, self.patience)

    def late(self) -> MirrorError:
        """Return what is said of a server that is too slow."""
        return MirrorError(f"timed out: {self.received} bytes in {time.monotonic() - self.began:.0f} seconds")

    def count(self, data: bytes) -> bytes:
        """Take note of received bytes, and return them."""
        self.received += len(data)
        if self.received > self.most:
            raise MirrorError(f"sends more than {self.most} bytes")
        return data


class _Stream(httpcore2.NetworkStream):
    """A connection whose every byte is bounded, of an encrypted one those that are read out of it."""

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

    Up to MAX_REDIRECTS redirects are followed, to http and https only; what else stands in such an answer is not read.
    Raises MirrorError, in one line, for all that a server can do wrong.
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
    # The rest is what httpcore2 says of an address that is none.
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
        raise MirrorError(f"HTTP {answer.status} without a place to look at")
    target = urljoin(url, places[0].decode("ascii"))
    if urlsplit(target).scheme not in ("http", "https"):
        raise MirrorError(f"redirects to {printable(target, 60)}, which is not http")
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
