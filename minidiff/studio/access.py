"""Who may speak to the studio: the right address, no foreign page, and the token if others can reach it.

Idea: a web server on this computer is reachable from every page that is open in its browser, wherever that page comes
from.  Three headers tell such pages apart, and no script can change them.  Host names the address that the page was
opened at: a name of an attacker's, which was made to lead to 127.0.0.1 ("DNS rebinding"), is none of ours.  Origin
names the page that sends a request which writes, or opens a WebSocket.  Sec-Fetch-Site tells whether a picture or a
script was asked for by a page of another site, for which no Origin is sent.  Programs such as curl send neither of
the last two and are let in: they do not act for a foreign page.
A server that other computers reach asks for a token as well.  A foreign page does not have it, so any Host is allowed
then.  Programs send it as a bearer or as a password; a browser opens /?token=... once and gets a cookie, which no
script can read and which is not sent with requests that come from other sites.
Leaves out encryption: who listens on the network learns the token.  A proxy that speaks HTTPS can stand before it.
"""

import base64
import binascii
import hmac
import ipaddress
import re
import secrets
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from minidiff.errors import MinidiffError, printable

Scope = MutableMapping[str, Any]  # what ASGI tells of a request

COOKIE = "minidiff_token"
MAX_TARGET = 8 << 10  # bytes of path and query
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,256}")  # what a cookie and an address carry unchanged
_HOST = re.compile(r"([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?")


class Answer(Exception):
    """What is answered instead of asking the app: a status, one sentence and further headers."""

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.headers = dict(headers or {})


def new_token() -> str:
    """Return a token of 192 random bits."""
    return secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches a server that listens on `host`; a name other than localhost may lead away."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def address_hosts(host: str, port: int) -> frozenset[str]:
    """Return the Host headers of a browser that opens a server on `host` and `port`."""
    hosts = {host.lower().strip("[]")}
    if is_loopback(host):
        hosts |= {"127.0.0.1", "localhost", "::1"}
    hosts = {f"[{name}]" if ":" in name else name for name in hosts}
    return frozenset({f"{name}:{port}" for name in hosts} | (hosts if port == 80 else set()))


class Access:
    """hosts: the allowed Host headers, of loopback only unless there is a token; with a token any Host is allowed.

    Raises MinidiffError for a token that is short or has other characters than letters, digits, - and _.
    """

    def __init__(self, hosts: frozenset[str], token: str | None) -> None:
        if token is not None and not _TOKEN.fullmatch(token):
            expected = "expected 16 to 256 letters, digits, - and _"
            raise MinidiffError(f"the token has {len(token)} characters: {expected}")
        if token is None and (foreign := [host for host in hosts if not is_loopback(re.sub(r":\d+$", "", host))]):
            raise ValueError(f"other computers reach {foreign[0]}: it needs a token")
        self.hosts = hosts
        self.token = None if token is None else token.encode()

    def check(self, scope: Scope) -> None:
        """Raise Answer if this request must not reach the app: 303, 400, 401, 403 or 414."""
        path = scope.get("raw_path") or scope["path"].encode()
        if len(path) + len(scope["query_string"]) >= MAX_TARGET:
            raise Answer(414, f"the address is too long: expected fewer than {MAX_TARGET} bytes")
        if not path.startswith(b"/"):
            raise Answer(400, "expected a request for a path of this server")
        headers = scope["headers"]
        host = self._host(_all(headers, b"host"))
        self._no_foreign_page(scope, host, _all(headers, b"origin"), headers)
        if self.token is not None:
            self._with_token(scope, self.token)

    def _host(self, hosts: list[str]) -> str:
        if len(hosts) != 1:
            raise Answer(403, f"expected one Host header, got {len(hosts)}")
        host = hosts[0].lower()
        if self.token is None and host not in self.hosts:
            expected = " or ".join(sorted(self.hosts))
            raise Answer(403, f"this server is not {printable(host, 80)}: open it at {expected}")
        if not _HOST.fullmatch(host):
            raise Answer(403, f"{printable(host, 80)} is no address")
        return host

    def _no_foreign_page(self, scope: Scope, host: str, origins: list[str], headers: Any) -> None:
        if self.token is None:
            ours = {f"http://{name}" for name in self.hosts}
        else:
            ours = {f"http://{host}", f"https://{host}"}  # https: a proxy in front of this server
        for origin in origins if len(origins) <= 1 else ["several origins"]:
            if origin.lower() not in ours:
                raise Answer(403, f"a page of {printable(origin, 80)} may not use this server")
        # A link to the studio may stand anywhere.  A frame, a picture or a script from here may not.
        opens = scope.get("method") == "GET" and scope["path"] == "/"
        opens = opens and _all(headers, b"sec-fetch-mode") == ["navigate"]
        opens = opens and _all(headers, b"sec-fetch-dest") in ([], ["document"])
        if not opens and not {*_all(headers, b"sec-fetch-site")} <= {"same-origin", "none"}:
            raise Answer(403, "a page of another site may not use this server")

    def _with_token(self, scope: Scope, token: bytes) -> None:
        signs_in = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=100) if signs_in else {}
        if _any_equals(query.get("token", []), token):
            cookie = f"{COOKIE}={token.decode()}; HttpOnly; SameSite=Strict; Path=/"
            raise Answer(303, "go to /", {"location": "/", "set-cookie": cookie})
        if not _any_equals(_tokens(scope["headers"]), token):
            how = "open the address that the command printed, or send the token as a bearer or as a password"
            raise Answer(401, f"this server asks for its token: {how}", {"www-authenticate": 'Bearer realm="minidiff"'})


def _all(headers: Any, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]


def _tokens(headers: Any) -> list[str]:
    """Return all that a request offers as the token."""
    found = []
    for value in _all(headers, b"authorization"):
        scheme, _, credentials = value.partition(" ")
        if scheme.lower() == "bearer":
            found.append(credentials.strip())
        elif scheme.lower() == "basic":
            try:
                pair = base64.b64decode(credentials.strip(), validate=True).decode("latin-1")
            except (binascii.Error, ValueError):
                continue
            found.append(pair.partition(":")[2])  # the password; any user name
    for cookies in _all(headers, b"cookie"):
        pairs = (cookie.strip().partition("=") for cookie in cookies.split(";"))
        found += [value for name, _, value in pairs if name == COOKIE]
    return found


def _any_equals(offered: list[str], token: bytes) -> bool:
    """Compare in a time that tells nothing about where the first difference is."""
    equal = [hmac.compare_digest(text.encode("utf-8", "replace"), token) for text in offered]
    return any(equal)
