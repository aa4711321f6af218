"""Downloads from servers on loopback: whole, wrong, missing, silent, hostile; and archives that want to escape."""

import gzip
import hashlib
import http.server
import io
import itertools
import socketserver
import struct
import tarfile
import threading
import time
import tracemalloc
from urllib.parse import urlsplit

import numpy as np
import pytest

from minidiff.data.download import REMOTES, Remote, fetch, unpack
from minidiff.data.standard import cifar10, fashion_mnist, mnist
from minidiff.errors import MinidiffError

CONTENT = np.random.default_rng(0).bytes(200_000)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        kind, _, name = urlsplit(self.path).path.strip("/").partition("/")
        content = server.files.get(name, b"")
        if kind == "missing":
            return self.send_error(404)
        self.send_response(200)
        if kind != "endless":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if kind == "cut":
            self.wfile.write(content[: len(content) // 2])
        elif kind == "wrong":
            self.wfile.write(content[:-1] + bytes([content[-1] ^ 1]))
        elif kind == "endless":
            for _ in range(100):
                self.wfile.write(bytes(1 << 16))
        elif kind == "silent":
            time.sleep(1.5)
        else:
            self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.asked, server.files = True, [], {"a.bin": CONTENT}
        server.handle_error = lambda *args: None  # a client that hangs up is expected
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def remote(server, *kinds, name="a.bin"):
    content = server.files[name]
    mirrors = tuple(f"{server.url}/{kind}" for kind in kinds)
    return Remote(name, len(content), hashlib.sha256(content).hexdigest(), mirrors)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_whole(server, tmp_path):
    path = fetch(remote(server, "whole"), tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT and names(path.parent) == ["a.bin"]


@pytest.mark.parametrize(
    "kind, reason",
    [
        ("cut", "cut off after 100000 of 200000 bytes .peer closed connection"),
        ("wrong", "wrong SHA-256 [0-9a-f]{16}..., published is " + hashlib.sha256(CONTENT).hexdigest()[:16]),
        ("missing", "HTTP 404 Not Found"),
        ("endless", "longer than the published 200000 bytes"),
        ("silent", "timed out"),
    ],
)
def test_each_failure_is_named_and_leaves_nothing(server, tmp_path, kind, reason):
    with pytest.raises(MinidiffError, match=f"^cannot download a.bin: {server.url}/{kind}/a.bin: .*{reason}"):
        fetch(remote(server, kind), tmp_path, patience=0.3)
    assert names(tmp_path) == []


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"x" * (1 << 16)
FOUND = b"HTTP/1.1 302 Found\r\nLocation: "


def slowly(text):
    """Yield a byte at a time, so that each comes before a client's patience with silence is at an end."""
    for i in itertools.count():
        time.sleep(0.02)
        yield text[i % len(text) : i % len(text) + 1]


# What the server sends, and what is said of it; {} is the server's own address.
HOSTILE = {
    "a redirect with an endless body": ([FOUND + b"{}/b\r\n\r\n", *[LONG] * 10**4], "redirects more than 5 times"),
    "redirects in a circle": ([FOUND + b"{}/again\r\nContent-Length: 0\r\n\r\n"], "redirects more than 5 times"),
    "a redirect to a file": ([FOUND + b"file:///etc/passwd\r\n\r\n"], "redirects to file:///etc/passwd, which is"),
    "a redirect to no address": ([FOUND + b"http://[x\r\n\r\n"], "Invalid IPv6 URL"),
    "a redirect to nowhere": ([b"HTTP/1.1 302 Found\r\n\r\n"], "HTTP 302 without a Location header"),
    "a chunk of -1 bytes": ([CHUNKED + b"-1\r\n", *[LONG] * 10**4], "illegal chunk header"),
    "a chunk of -5 bytes": ([CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n"], "illegal chunk header"),
    "a chunk's size without end": ([CHUNKED, *[LONG] * 10**4], "Receive buffer too long"),
    "chunks without end": ([CHUNKED, *[b"10000\r\n" + LONG + b"\r\n"] * 10**4], "longer than the published 200000"),
    "chunks with long notes": (
        [CHUNKED, *[b"1;a=" + LONG + b"\r\nx\r\n"] * 10**3],
        "cut off after .* more than 1273576 b",
    ),
    "trailers without end": ([CHUNKED + b"0\r\n", *[b"a: " + LONG[:9] + b"\r\n"] * 10**6], "Receive buffer too long"),
    "headers without end": ([OK, *[b"a: " + LONG + b"\r\n"] * 10**4], "Receive buffer too long"),
    "a header without end": ([OK + b"a: ", *[LONG] * 10**4], "Receive buffer too long"),
    "a status without end": ([b"HTTP/1.1 200 ", *[LONG] * 10**4], "Receive buffer too long"),
    "answers before the answer": ([b"HTTP/1.1 100 Continue\r\n\r\n" * 1000] * 10**5, "sends more than|timed out"),
    "a dripping status": (lambda: slowly(b"HTTP/1.1 200 OOOOOOO"), "timed out: [0-9]+ bytes in 0 seconds"),
    "dripping headers": (lambda: itertools.chain([OK], slowly(b"a: b\r\n")), "timed out"),
    "a dripping body": (lambda: itertools.chain([OK + b"\r\n"], slowly(b"x")), "cut off after .* bytes .timed out"),
    "dripping chunks": (lambda: itertools.chain([CHUNKED], slowly(b"1\r\nx\r\n")), "timed out"),
    "dripping trailers": (lambda: itertools.chain([CHUNKED + b"0\r\n"], slowly(b"a: b\r\n")), "timed out"),
    "dripping answers": (lambda: slowly(b"HTTP/1.1 100 Continue\r\n\r\n"), "timed out"),
    "silence": ([], "timed out: 0 bytes"),
    "no HTTP": ([b"\x00\xff" * 50 + b"\r\n\r\n"], "illegal status line"),
    "an escape in the reason": ([b"HTTP/1.1 404 \xff\xfe\r\n\r\n"], "HTTP 404 ÿþ"),
}


class Hostile(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1 << 16)
        parts = self.server.parts
        for part in parts() if callable(parts) else parts:
            self.request.sendall(part.replace(b"{}", self.server.url.encode()))
        self.server.over.wait()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_takes_little_time_and_memory(tmp_path, monkeypatch, name):
    """It ends in one line while the server still sends; a thousandth of what it sends is kept."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Hostile) as server:
        server.daemon_threads, server.over, server.block_on_close = True, threading.Event(), False
        server.handle_error = lambda *args: None  # a client that hangs up is expected
        server.url, (server.parts, said) = f"http://127.0.0.1:{server.server_address[1]}", HOSTILE[name]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        tracemalloc.start()
        try:
            with pytest.raises(MinidiffError, match=said) as caught:
                fetch(Remote("a.bin", 200_000, "", (server.url,)), tmp_path, patience=0.2, speed=1e6)
            assert tracemalloc.get_traced_memory()[1] < 10 << 20
        finally:
            tracemalloc.stop()
            server.over.set()
            server.shutdown()
    assert names(tmp_path) == [] and "\n" not in str(caught.value)


def test_a_redirect_is_followed(server, tmp_path):
    """A few of them, relative ones too; what stands in them is not read."""

    class Redirect(Handler):
        def do_GET(self):
            self.server.asked.append(self.path)
            place = {"/a.bin": "/2", "/2": f"{server.url}/whole/a.bin"}[self.path]
            self.send_response(301)
            self.send_header("Location", place)
            self.end_headers()
            self.wfile.write(b"moved")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirect) as other:
        other.asked = []
        threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        one = Remote(
            "a.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), (f"http://127.0.0.1:{other.server_port}",)
        )
        assert fetch(one, tmp_path).read_bytes() == CONTENT
        other.shutdown()
    assert other.asked == ["/a.bin", "/2"]


def test_a_proxy_is_asked_where_one_is_named(server, tmp_path, monkeypatch):
    """As urllib reads the environment: http_proxy, with a name and a password, and no_proxy."""
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:secret@"))
    monkeypatch.setenv("no_proxy", "")
    one = Remote("a.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), ("http://data.invalid/whole",))
    assert fetch(one, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["http://data.invalid/whole/a.bin"]


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    nobody = Remote("a.bin", 1, "", ("http://127.0.0.1:9", "http://host.invalid:port"))
    with pytest.raises(MinidiffError, match=r"refused.*; http://host.invalid:port/a.bin: .*port"):
        fetch(nobody, tmp_path)


def test_mirrors_are_tried_in_turn(server, tmp_path):
    fetch(remote(server, "missing", "cut", "wrong", "whole", "unused"), tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and names(tmp_path) == ["a.bin"]
    assert server.asked == ["/missing/a.bin", "/cut/a.bin", "/wrong/a.bin", "/whole/a.bin"]


def test_all_mirrors_fail(server, tmp_path):
    with pytest.raises(MinidiffError, match=r"missing/a.bin: HTTP 404 Not Found; .*cut/a.bin: cut off") as caught:
        fetch(remote(server, "missing", "cut"), tmp_path)
    assert "\n" not in str(caught.value)


def test_a_good_file_is_left_alone_and_a_bad_one_replaced_only_when_the_new_is_whole(server, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(CONTENT)
    before = path.stat()
    assert fetch(remote(server, "whole"), tmp_path) == path
    assert server.asked == [] and path.stat().st_mtime_ns == before.st_mtime_ns
    path.write_bytes(b"bad")
    with pytest.raises(MinidiffError):
        fetch(remote(server, "wrong"), tmp_path)
    assert path.read_bytes() == b"bad"
    fetch(remote(server, "whole"), tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_full_disk_is_not_blamed_on_the_mirror(server, tmp_path, monkeypatch):
    def full(chunks, file):
        next(iter(chunks))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minidiff.data.download._write", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(remote(server, "whole", "unused"), tmp_path)
    assert names(tmp_path) == [] and server.asked == ["/whole/a.bin"]


@pytest.mark.parametrize("read", [mnist, fashion_mnist])
def test_download_of_mnist(server, tmp_path, read):
    images, labels = (
        np.arange(3 * 784, dtype=np.uint16).astype(np.uint8).reshape(3, 28, 28),
        np.arange(3, dtype=np.uint8),
    )
    for prefix in ("train", "t10k"):
        server.files[f"{prefix}-images-idx3-ubyte.gz"] = gzip.compress(idx(images))
        server.files[f"{prefix}-labels-idx1-ubyte.gz"] = gzip.compress(idx(labels))
    remotes = {name: remote(server, "whole", name=name) for name in REMOTES["mnist"]}
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels + 1))  # there already, unpacked: it stays
    data = read(tmp_path, "train", True, remotes)
    assert np.array_equal(data.images[..., 0], images) and data.labels.tolist() == [1, 2, 3]
    assert len(server.asked) == 3
    assert read(tmp_path, "test", True, remotes).labels.tolist() == [0, 1, 2]
    assert len(server.asked) == 3  # everything was fetched the first time


def tar(members):
    """members: {name: bytes, or the target of a link}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_download_of_cifar10(server, tmp_path):
    files = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    records = np.random.default_rng(0).integers(0, 10, (6, 2, 3073), np.uint8)  # six files with two records each
    members = {f"cifar-10-batches-bin/{name}": data.tobytes() for name, data in zip(files, records, strict=True)}
    meta = "\n".join("abcdefghij").encode()
    members |= {"cifar-10-batches-bin/readme.html": b"<html>", "cifar-10-batches-bin/batches.meta.txt": meta}
    server.files["cifar-10-binary.tar.gz"] = tar(members)
    remotes = {"cifar-10-binary.tar.gz": remote(server, "whole", name="cifar-10-binary.tar.gz")}
    for _ in range(2):  # the second time nothing is fetched
        data = cifar10(tmp_path / "new", "train", True, remotes)
        assert np.array_equal(data.images[..., 0], records[:5, :, 1:1025].reshape(10, 32, 32))  # red
        assert np.array_equal(data.labels, records[:5, :, 0].reshape(10)) and data.classes == tuple("abcdefghij")
    assert len(server.asked) == 1
    assert names(tmp_path / "new") == ["cifar-10-batches-bin"]  # the archive is gone
    assert "readme.html" not in names(tmp_path / "new" / "cifar-10-batches-bin")


@pytest.mark.parametrize(
    "members",
    [
        {"../a.bin": b"x"},
        {"/a.bin": b"x"},
        {"in/../../a.bin": b"x"},
        {"in/a.bin": "../../secret"},
        {"in/a.bin": b"too long!"},
        {"in/b.bin": b"x"},
        {},
    ],
)
def test_only_expected_members_are_unpacked(tmp_path, members):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(tar(members))
    with pytest.raises(MinidiffError, match=r"a.tar.gz: the archive lacks in/a.bin"):
        unpack(archive, {"in/a.bin": 4}, tmp_path / "to" / "here")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == ["a.tar.gz", "to", "to/here"]


def test_unpacking(tmp_path):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(tar({"in/a.bin": CONTENT, "in/b.bin": b"b", "in/c.bin": b"c"}))
    unpack(archive, {"in/a.bin": 1 << 20, "in/b.bin": 1}, tmp_path / "here")
    assert names(tmp_path / "here") == ["a.bin", "b.bin"]
    assert (tmp_path / "here" / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("damage", [lambda d: b"", lambda d: b"no archive", lambda d: d[: len(d) // 2]])
def test_damaged_archives(tmp_path, damage):
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(damage(tar({"in/a.bin": CONTENT})))
    with pytest.raises(MinidiffError, match=r"a.tar.gz: damaged archive \(.+\)"):
        unpack(archive, {"in/a.bin": 1 << 20}, tmp_path / "here")
    assert names(tmp_path / "here") == []


def test_the_published_table_is_well_formed():
    for data, remotes in REMOTES.items():
        for name, one in remotes.items():
            assert one.name == name and one.size > 0 and len(one.mirrors) == 2, data
            assert len(bytes.fromhex(one.sha256)) == 32
            assert all(url.startswith("http") and url.endswith(f"/{name}") and "//" not in url[8:] for url in one.urls)
