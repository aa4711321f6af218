"""Guard lets our own page and honest programs through, and bounds and explains all else.  Asked directly, as ASGI."""

import asyncio
import base64
import contextlib
import errno
import json
import logging
import re

import pytest

pytest.importorskip("starlette", reason="the studio needs the extra studio")

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute

from minidiff.errors import MinidiffError
from minidiff.studio.access import Access, address_hosts, is_loopback, new_token
from minidiff.studio.guard import Guard, GuardLimits, max_body

HOST = "127.0.0.1:7860"
HOSTS = address_hosts("127.0.0.1", 7860)
TOKEN = "0123456789abcdef"
OPENED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def scope_of(kind, path, headers, method="GET"):
    path, _, query = path.partition("?")
    pairs = headers.items() if isinstance(headers, dict) else headers
    found = {"type": kind, "path": path, "raw_path": path.encode(), "query_string": query.encode(), "headers": []}
    found["headers"] = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
    return found | ({"method": method} if kind == "http" else {"extensions": {"websocket.http.response": {}}})


async def exchange(app, scope, receive):
    sent = []

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


def ask(app, path="/", headers=None, method="GET", pieces=(b"",), ends=True):
    """Send a request; return its status, headers and body.  ends: False if the rest of the body never comes."""
    scope = scope_of("http", path, {"host": HOST} if headers is None else headers, method)
    left = list(pieces)

    async def receive():
        if not left:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left) or not ends}

    sent = asyncio.run(exchange(app, scope, receive))
    assert [m["type"] for m in sent] == ["http.response.start"] + (len(sent) - 1) * ["http.response.body"]
    assert not sent[-1].get("more_body")
    body = b"".join(m.get("body", b"") for m in sent[1:])
    return sent[0]["status"], {n.decode(): v.decode() for n, v in sent[0]["headers"]}, body


def error(answered):
    status, headers, body = answered
    assert headers["content-type"] == "application/json"
    (text,) = json.loads(body).values()
    return status, text


async def hello(scope, receive, send):
    """An app that reads the whole body and tells how long it was, or accepts and closes a WebSocket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return await send({"type": "websocket.close"})
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        length, more = length + len(message["body"]), message["more_body"]
    headers = [(b"access-control-allow-origin", b"*"), (b"X-Frame-Options", b"SAMEORIGIN"), (b"x-mine", b"1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"%d" % length})


def shake_hands(app, headers, path="/api/watch", extensions=True):
    """Open a WebSocket; return what is sent first, after Starlette's or our own handshake."""
    scope = scope_of("websocket", path, headers)
    scope["extensions"] = scope["extensions"] if extensions else {}

    async def receive():
        return {"type": "websocket.connect"}

    return asyncio.run(exchange(app, scope, receive))


def test_addresses():
    assert address_hosts("127.0.0.1", 7860) == {"127.0.0.1:7860", "localhost:7860", "[::1]:7860"}
    assert address_hosts("::1", 80) >= {"[::1]", "[::1]:80", "localhost", "localhost:80"}
    assert address_hosts("studio.lan", 7860) == {"studio.lan:7860"}
    assert address_hosts("fe80::1", 7860) == {"[fe80::1]:7860"}
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1", "[::1]"]))
    assert not any(map(is_loopback, ["0.0.0.0", "", "::", "10.0.0.1", "localhost.evil.org", "127.0.0.1.nip.io"]))


@pytest.mark.parametrize("host", [*sorted(HOSTS), "LocalHost:7860"])
def test_our_own_addresses_are_let_in(host):
    assert ask(Guard(hello, HOSTS), headers={"host": host, "origin": f"http://{host}"})[0] == 200


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "expected one Host header, got 0"),
        ([("host", HOST), ("host", HOST)], "expected one Host header, got 2"),
        ({"host": "evil.org"}, "this server is not evil.org: open it at 127.0.0.1:7860 or "),
        ({"host": "evil.org:7860"}, "this server is not evil.org:7860"),
        ({"host": "127.0.0.1"}, "this server is not 127.0.0.1:"),
        ({"host": "127.0.0.1:7861"}, "this server is not 127.0.0.1:7861"),
        ({"host": "localhost.:7860"}, "this server is not localhost.:7860"),
        ({"host": "a\r\nb"}, r"this server is not a\r\nb"),
    ],
)
def test_another_host_is_refused(headers, told):
    for answer in (ask(Guard(hello, HOSTS), headers=headers), socket_answer(Guard(hello, HOSTS), headers)):
        status, text = error(answer)
        assert status == 403
        assert told in text


def socket_answer(guard, headers):
    start, body = shake_hands(guard, headers)
    assert (start["type"], body["type"]) == ("websocket.http.response.start", "websocket.http.response.body")
    return start["status"], {n.decode(): v.decode() for n, v in start["headers"]}, body["body"]


@pytest.mark.parametrize(
    "headers",
    [
        [("origin", "null")],
        [("origin", "http://evil.org")],
        [("origin", f"https://{HOST}")],
        [("origin", "http://127.0.0.1:8888")],
        [("origin", f"http://{HOST}.evil.org")],
        [("origin", f"http://{HOST}"), ("origin", "http://evil.org")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
        [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")],
    ],
)
def test_a_foreign_page_is_refused(headers):
    headers = [("host", HOST), *headers]
    guard = Guard(hello, HOSTS)
    answers = [ask(guard, path, headers, method) for path in ("/", "/api/state") for method in ("GET", "POST")]
    for status, text in map(error, [*answers, socket_answer(guard, headers)]):
        assert status == 403
        assert "may not use this server" in text


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else():
    guard, headers = Guard(hello, HOSTS), {"host": HOST, **OPENED}
    assert ask(guard, "/?prompt=a+dog", headers)[0] == 200
    assert ask(guard, "/api/gallery/g-1.png", headers)[0] == 403
    assert ask(guard, "/", headers, "POST")[0] == 403
    assert ask(guard, "/", {**headers, "sec-fetch-dest": "iframe"})[0] == 403
    assert socket_answer(guard, headers)[0] == 403
    assert ask(guard, "/api/state", {"host": HOST, "sec-fetch-site": "same-origin"})[0] == 200
    assert ask(guard, "/api/state", {"host": HOST, "sec-fetch-site": "none"})[0] == 200


def test_a_websocket_of_ours_and_of_a_program_is_accepted():
    for headers in ({"host": HOST}, {"host": HOST, "origin": "http://" + HOST}):
        assert shake_hands(Guard(hello, HOSTS), headers)[0]["type"] == "websocket.accept"


def test_a_server_without_the_extension_closes_the_websocket():
    (sent,) = shake_hands(Guard(hello, HOSTS), {"host": "evil.org"}, extensions=False)
    assert sent == {"type": "websocket.close", "code": 1008}
    full = Guard(hello, HOSTS, limits=GuardLimits(sockets=0))
    (sent,) = shake_hands(full, {"host": HOST}, extensions=False)
    assert sent == {"type": "websocket.close", "code": 1013}


def basic(text):
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "welcome"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, True),
        ({"authorization": f"bearer {TOKEN}"}, True),
        (basic(f"anybody:{TOKEN}"), True),
        ({"cookie": f"other=1; minidiff_token={TOKEN}"}, True),
        ({}, False),
        ({"authorization": f"Bearer {TOKEN}x"}, False),
        ({"authorization": "Bearer"}, False),
        ({"authorization": "Bearer \xe9"}, False),
        ({"authorization": "Basic ***"}, False),
        (basic(f"{TOKEN}:"), False),
        ({"cookie": f"minidiff_tokens={TOKEN}"}, False),
        ({"cookie": "minidiff_token="}, False),
    ],
)
def test_the_token(headers, welcome):
    guard = Guard(hello, address_hosts("0.0.0.0", 7860), TOKEN)
    headers = {"host": "studio.lan:7860", **headers}
    if welcome:
        assert ask(guard, "/api/state", headers)[0] == 200
        assert shake_hands(guard, headers)[0]["type"] == "websocket.accept"
        return
    for answer in (ask(guard, "/api/state", headers), socket_answer(guard, headers)):
        status, text = error(answer)
        assert status == 401
        assert text.startswith("this server asks for its token: open the address that the command printed")
        assert answer[1]["www-authenticate"].startswith("Bearer")  # for which no browser asks a name and a password
        assert TOKEN not in text


def test_opening_the_address_with_the_token_sets_a_cookie():
    guard, headers = Guard(hello, address_hosts("0.0.0.0", 7860), TOKEN), {"host": "10.0.0.5:7860"}
    status, got, _ = ask(guard, f"/?token={TOKEN}", headers)
    assert (status, got["location"]) == (303, "/")
    assert got["set-cookie"] == f"minidiff_token={TOKEN}; HttpOnly; SameSite=Strict; Path=/"
    assert ask(guard, "/", {**headers, "cookie": got["set-cookie"].split(";")[0]})[0] == 200
    assert ask(guard, "/?token=wrong", headers)[0] == 401
    assert ask(guard, f"/api/state?token={TOKEN}", headers)[0] == 401
    assert ask(guard, f"/?token={TOKEN}", headers, "POST")[0] == 401


def test_with_a_token_the_origin_must_be_the_host():
    guard = Guard(hello, address_hosts("0.0.0.0", 7860), TOKEN)
    headers = {"authorization": f"Bearer {TOKEN}", "host": "studio.lan:7860"}
    assert ask(guard, headers={**headers, "origin": "http://studio.lan:7860"})[0] == 200
    assert ask(guard, headers={**headers, "origin": "https://studio.lan:7860"})[0] == 200
    assert ask(guard, headers={**headers, "origin": "http://evil.org"})[0] == 403
    assert ask(guard, headers={**headers, "host": "a b"})[0] == 403


def test_tokens_are_long_and_of_plain_characters():
    assert len({new_token() for _ in range(10)}) == 10
    Access(HOSTS, new_token())
    for token in ("short", "", "0123456789abcde;", "x" * 257):
        with pytest.raises(MinidiffError, match=f"the token has {len(token)} characters: expected 16 to 256"):
            Access(HOSTS, token)
    with pytest.raises(ValueError, match=r"other computers reach 0.0.0.0:7860: it needs a token"):
        Guard(hello, address_hosts("0.0.0.0", 7860))


def test_every_response_has_the_headers():
    guard = Guard(hello, HOSTS)
    for _, headers, _ in (ask(guard), ask(guard, headers={"host": "evil.org"})):
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"
        assert not [name for name in headers if name.startswith("access-control")]
    assert ask(guard)[1]["x-mine"] == "1"


def test_the_app_may_say_what_is_cached():
    async def picture(request):
        return PlainTextResponse("", headers={"Cache-Control": "max-age=60"})

    guard = Guard(Starlette(routes=[Route("/", picture)]), HOSTS)
    assert ask(guard)[1]["cache-control"] == "max-age=60"


def test_long_addresses_and_other_targets():
    guard = Guard(hello, HOSTS)
    assert ask(guard, "/" + 8190 * "a")[0] == 200
    assert error(ask(guard, "/" + 8191 * "a")) == (414, "the address is too long: expected fewer than 8192 bytes")
    assert ask(guard, "/?" + 8190 * "a")[0] == 200
    assert ask(guard, "/?" + 8191 * "a")[0] == 414
    assert ask(guard, "*", method="OPTIONS")[0] == ask(guard, "http://evil.org/")[0] == 400


SMALL = GuardLimits(max_body=lambda path: 10, seconds=0.05, linger=0.01)


def post(guard, pieces, ends=True, **headers):
    headers = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return ask(guard, "/", headers, "POST", pieces, ends)


def test_the_table_of_bodies():
    assert max_body("/api/pictures") == max_body("/api/settings") == 64 << 20
    assert max_body("/sdapi/v1/img2img") == max_body("/v1/images/edits") == 128 << 20
    assert max_body("/api/drawings") == max_body("/") == 1 << 20


def test_a_body_is_bounded():
    guard = Guard(hello, HOSTS, limits=SMALL)
    assert post(guard, [b"12345", b"67890"], content_length="10")[2] == b"10"
    assert post(guard, [b"12345", b"67890"], transfer_encoding="chunked")[2] == b"10"
    answer = post(guard, [], False, content_length="1000000000")
    assert error(answer) == (413, "the body has 1000000000 bytes or more: expected at most 10")
    assert answer[1]["connection"] == "close"
    answer = post(guard, [b"12345", b"678901"], False, transfer_encoding="chunked")
    assert error(answer) == (413, "the body has 11 bytes or more: expected at most 10")
    assert answer[1]["connection"] == "close"
    for length in ("-1", "ten", "1e3", "9" * 30):
        assert error(post(guard, [b"1"], content_length=length)) == (400, "Content-Length must be one number")
    assert guard.requests == guard.bodies == 0


def test_a_body_that_does_not_come_is_given_up():
    answer = post(Guard(hello, HOSTS, limits=SMALL), [b"123"], False, content_length="10")
    assert error(answer) == (408, "the request took more than 0.05 s to arrive")
    assert answer[1]["connection"] == "close"


def test_a_refused_body_is_read_for_a_moment():
    """A server that closes a connection while bytes arrive resets it, and the client may never see the answer."""
    pieces, guard = [bytes(20), bytes(20), bytes(20)], Guard(hello, HOSTS, limits=SMALL)
    scope = scope_of("http", "/", {"host": HOST, "content-length": "60"}, "POST")

    async def receive():
        return {"type": "http.request", "body": pieces.pop(), "more_body": bool(pieces)}

    sent = asyncio.run(exchange(guard, scope, receive))
    assert (sent[0]["status"], pieces) == (413, [])
    pieces = [bytes(1 << 20) for _ in range(20)]
    asyncio.run(exchange(guard, scope, receive))
    assert len(pieces) == 12


def test_an_answer_may_take_longer_than_the_body():
    async def slow(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        with contextlib.suppress(TimeoutError):  # it waits for the client to leave, as responses in pieces do
            await asyncio.wait_for(receive(), 3 * SMALL.seconds)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"drawn"})

    assert post(Guard(slow, HOSTS, limits=SMALL), [b"123"], content_length="3")[::2] == (200, b"drawn")


def test_what_the_app_sends_after_it_was_cut_off_is_dropped():
    async def stubborn(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"all of it"})

    assert post(Guard(stubborn, HOSTS, limits=SMALL), [b"1", b"234567890ab"], False, content_length="9")[0] == 413


def test_the_app_may_answer_before_the_body_was_read():
    async def at_once(scope, receive, send):
        await send({"type": "http.response.start", "status": 404, "headers": [(b"connection", b"keep-alive")]})
        await send({"type": "http.response.body"})

    assert post(Guard(at_once, HOSTS, limits=SMALL), [], False, content_length="9")[1]["connection"] == "close"
    assert post(Guard(at_once, HOSTS, limits=SMALL), [], content_length="0")[1]["connection"] == "keep-alive"


def test_all_bodies_together_are_bounded():
    guard = Guard(hello, HOSTS, limits=GuardLimits(bodies=8))
    assert error(post(guard, [b"123456789"], content_length="9"))[0] == 429
    assert post(guard, [b"12345678"], content_length="8")[0] == 200
    assert guard.bodies == 0


def test_requests_and_watchers_are_counted():
    inside, leave = [], asyncio.Event()

    async def waits(scope, receive, send):
        inside.append(scope["type"])
        await leave.wait()
        await hello(scope, receive, send)

    async def run():
        guard = Guard(waits, HOSTS, limits=GuardLimits(requests=2, sockets=1))

        async def nothing_more():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def one(kind):
            return await exchange(guard, scope_of(kind, "/", {"host": HOST}), nothing_more)

        first = [asyncio.create_task(one(kind)) for kind in ("http", "http", "websocket")]
        while len(inside) < 3:
            await asyncio.sleep(0)
        refused, unseen = await one("http"), await one("websocket")
        leave.set()
        assert [sent[0].get("status", sent[0]["type"]) for sent in await asyncio.gather(*first)] == [
            200,
            200,
            "websocket.accept",
        ]
        again = await one("http"), await one("websocket")
        return refused, unseen, again, (guard.requests, guard.sockets)

    refused, unseen, again, left = asyncio.run(run())
    assert refused[0]["status"] == unseen[0]["status"] == 429
    assert (b"retry-after", b"1") in refused[0]["headers"]
    assert json.loads(refused[1]["body"])["error"] == "2 requests are being answered: try again in a moment"
    assert (again[0][0]["status"], again[1][0]["type"], left) == (200, "websocket.accept", (0, 0))


def failing(error):
    async def fails(request_or_socket):
        raise error

    routes = [Route("/", fails), WebSocketRoute("/api/watch", fails)]
    return Starlette(routes=routes, middleware=[Middleware(Guard, hosts=HOSTS)])


def test_an_exception_becomes_a_number(caplog):
    app = failing(KeyError("secret"))
    status, text = error(ask(app))
    number = re.fullmatch(r"internal error ([0-9a-f]{8}); the log has it", text)[1]
    (record,) = caplog.records
    assert (status, record.levelno, record.name) == (500, logging.ERROR, "minidiff.studio")
    assert number in record.getMessage()
    assert "secret" in caplog.text
    assert "Traceback" in caplog.text
    status, text = error(socket_answer(app, {"host": HOST}))
    assert status == 500
    assert text.startswith("internal error ")


@pytest.mark.parametrize(
    ("raised", "status", "told", "logged"),
    [
        (MinidiffError("steps is 0;\n expected 1 or more"), 400, "steps is 0; expected 1 or more", False),
        (OSError(errno.ENOSPC, "x", "out/a.png"), 507, "no space left on the disk: out/a.png", False),
        (PermissionError(errno.EACCES, "No", "out"), 500, "not allowed (no): out", True),
        (MemoryError(), 500, "out of memory", True),
    ],
)
def test_what_a_user_can_correct_is_told(caplog, raised, status, told, logged):
    assert error(ask(failing(raised))) == (status, told)
    assert ("Traceback" in caplog.text) == logged


def test_a_client_that_leaves_is_no_error(caplog):
    async def reads(request):
        await request.body()

    guard = Guard(Starlette(routes=[Route("/", reads, methods=["POST"])]), HOSTS)

    async def left():
        return {"type": "http.disconnect"}

    scope = scope_of("http", "/", {"host": HOST, "content-length": "5"}, "POST")
    asyncio.run(exchange(guard, scope, left))
    assert caplog.text == ""


def test_an_exception_after_the_handshake_closes_the_websocket(caplog):
    async def accepts(socket):
        await socket.accept()
        raise MinidiffError(200 * "é")

    app = Starlette(routes=[WebSocketRoute("/api/watch", accepts)], middleware=[Middleware(Guard, hosts=HOSTS)])
    sent = shake_hands(app, {"host": HOST})
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert (sent[1]["code"], sent[1]["reason"]) == (1011, 61 * "é")


def test_an_exception_in_the_middle_of_a_response_ends_it(caplog):
    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise KeyError("secret")

    async def receive():
        raise AssertionError

    sent = asyncio.run(exchange(Guard(half, HOSTS), scope_of("http", "/", {"host": HOST}), receive))
    assert [message.get("body") for message in sent] == [None, b"half"]  # unfinished, so the server cuts it off
    assert "secret" in caplog.text


def test_starting_and_ending_reach_the_app():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(exchange(Guard(app, HOSTS), {"type": "lifespan"}, None))
    assert seen == ["lifespan"]


def test_a_client_of_another_interface_finds_the_sentence_where_it_looks():
    """`openai` shows error.message."""
    for path in ("/v1/models", "/v1/images/generations"):
        answered = ask(Guard(hello, HOSTS), path, {"host": "evil.example"})
        said = json.loads(answered[2])["error"]
        assert set(said) == {"message", "type", "param", "code"}
        assert "evil.example" in said["message"]
