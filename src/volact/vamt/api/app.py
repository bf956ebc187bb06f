"""VAMT's HTTP API (V6): what the commands do, for pages and programs, through the same use cases.

Every request passes these steps, each before the next:

1. It called us by a name that we have, and no page of another site made it (DNS rebinding, T31).
2. It brings a bearer token that is good (`signin`); only the description of the API is for everybody.
3. Its body comes whole, fast enough and is not too large; nowhere does it hold a NUL.
4. With an ``Idempotency-Key`` it is done once (`repeats`).
5. Its route reads it into a type, calls one use case as the token's person, and answers a type.

Every refusal is a problem document. No answer says more of a product key than its label.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request, Response, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

from volact import http
from volact.protocol.problems import Refusal, UsageError
from volact.vamt.api import actions as apiactions
from volact.vamt.api import discover as apidiscover
from volact.vamt.api import keys as apikeys
from volact.vamt.api import lists as apilists
from volact.vamt.api import machines as apimachines
from volact.vamt.api import openapi
from volact.vamt.api import people as apipeople
from volact.vamt.api import work as apiwork
from volact.vamt.api.desk import ApiDesk, as_response, is_clean
from volact.vamt.api.repeats import Repeats
from volact.vamt.api.signin import Signed, SignIn
from volact.vamt.people import Person  # noqa: TC001 - Litestar reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from volact.http import Receive, Scope, Send

PREFIX = "/v1"
DOCUMENT = f"{PREFIX}/openapi.json"
_STREAMED = f"{PREFIX}/imports"
_BODY_SECONDS = 20.0
_SAFE = ("GET", "HEAD", "OPTIONS")
_CALLER = "volact.person"
_ALLOWED = "allowed"
_OF_A_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^:\[\]]+)(?::[0-9]{1,5})?", re.IGNORECASE)
_HEADERS = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_NUL = Refusal("request-malformed", "A NUL character is no part of any text here.")
_TOO_LARGE, _FAILED = 413, 500
_TOLD_ONCE = re.compile(r"/v1/people/[^/]+/tokens/?")
_QUOTED = re.compile("['\"]")
_MOST_DETAIL = 500
_NO_STORE = (b"cache-control", b"no-store")
ROUTES = (
    *apimachines.ROUTES, *apikeys.ROUTES, *apiwork.ROUTES, *apiactions.ROUTES, *apidiscover.ROUTES, *apilists.ROUTES, *apipeople.ROUTES,
)  # fmt: skip


def own_names(setting: str) -> frozenset[str]:
    """The names by which the service may be called: the machine's own, and those of the setting `names`."""
    own = {"localhost", socket.gethostname(), socket.getfqdn()}
    return frozenset(one.strip().lower() for one in (*own, *setting.split(",")) if one.strip())


class Api:
    """The API as an ASGI application."""

    def __init__(self, desk: ApiDesk, names: Collection[str]) -> None:
        """Work with `desk`, and answer who calls by one of `names` or by an address."""
        vamt = desk.vamt
        self._names = names
        self._sign_in = SignIn(vamt.access, vamt.office.clock)
        self.repeats = Repeats(vamt.office.store, vamt.office.clock)
        self._litestar = litestar(lambda: desk)
        self._document = openapi.written(self._litestar)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        send = _with_headers(send)
        try:
            response = await self._answer(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - translated here, once
            response = http.problem(http.refusal_of(error))
        if response:
            await response.send(send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> http.Response | None:
        """The answer of what the framework does not see; None if it answered."""
        refusal = self._place_refusal(scope)
        if refusal:
            return http.problem(refusal)
        if scope["path"] == DOCUMENT and scope["method"] in _SAFE:
            return http.json_answer(self._document)
        who = self._sign_in.identify(http.header(scope, b"authorization"), scope["client"][0])
        if isinstance(who, Refusal):
            return http.problem(who)
        scope[_CALLER] = who.person
        # Names in a path may hold slashes, escaped: a path is parted as it was sent, and decoded after (`name_in`).
        scope["path"] = scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")
        if not is_clean(scope["raw_path"]) or not is_clean(scope["query_string"]):
            return http.problem(_NUL)
        # The framework has pages of its own, with scripts of others; and reads "//" as "/", which the rules of paths here
        # would not know again.
        if not scope["path"].startswith(f"{PREFIX}/") or "//" in scope["path"]:
            return http.problem(Refusal("not-found"))
        if scope["path"] == _STREAMED:
            await self._litestar(scope, receive, send)  # type: ignore[arg-type]  # ASGI, said otherwise
            return None
        body = await http.read_body(scope, receive, seconds=_BODY_SECONDS)
        if isinstance(body, Refusal):
            return http.problem(body)
        if not is_clean(body):
            return http.problem(_NUL)
        if not _is_text(body):
            return http.problem(Refusal("request-malformed", "The body is not UTF-8 text."))
        key = http.header(scope, b"idempotency-key")
        if key and scope["method"] not in _SAFE:
            return await self._once(scope, who, key, body)
        await self._routed(scope, body, send)
        return None

    async def _routed(self, scope: Scope, body: bytes, send: Send) -> None:
        over = asyncio.Event()
        await self._litestar(scope, _again(body, over), _until_over(send, over))  # type: ignore[arg-type]  # as above

    def _place_refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is none for us: by its Host, or its Origin."""
        host = http.header(scope, b"host")
        found = _OF_A_HOST.fullmatch(host)
        name = found[1].lower().strip("[]") if found else ""
        if not _is_address(name) and name.rstrip(".") not in self._names:
            return Refusal("server-name-unknown", f"{host[:80]!r}.")
        origin = http.header(scope, b"origin")
        if origin and origin.lower() != f"https://{host}".lower():
            return Refusal("origin-refused", f"{origin[:80]!r}.")
        return None

    async def _once(self, scope: Scope, who: Signed, key: str, body: bytes) -> http.Response:
        """Do a request once, or answer it as it was answered."""
        if _TOLD_ONCE.fullmatch(scope["path"]):
            told_once = "A token is told once, so that no Idempotency-Key is taken here."
            return http.problem(Refusal("request-malformed", told_once))
        request = b"\n".join((scope["method"].encode(), scope["raw_path"], scope["query_string"], body))
        found = await asyncio.to_thread(self.repeats.begin, who, key, request)
        if isinstance(found, Refusal):
            return http.problem(found)
        if found is not None:
            return found
        kept = _Kept()
        try:
            await self._routed(scope, body, kept.send)
        finally:
            await asyncio.to_thread(self.repeats.end, who, key, kept.response())
        return kept.response()


def litestar(desk: Callable[[], ApiDesk]) -> Litestar:
    """The routes, over what `desk` gives."""

    def get_desk() -> ApiDesk:
        return desk()

    def get_person(request: Request[Any, Any, Any]) -> Person:
        found: Person = request.scope[_CALLER]  # type: ignore[literal-required]  # our own
        return found

    dependencies = {
        "desk": Provide(get_desk, sync_to_thread=False),
        "person": Provide(get_person, sync_to_thread=False),
    }
    made = Litestar(
        [Router(PREFIX, route_handlers=ROUTES, dependencies=dependencies)],
        openapi_config=openapi.CONFIG,
        exception_handlers={HTTPException: _refused, Exception: _refused},
        logging_config=None,
        request_max_body_size=http.MAX_BODY,
    )
    made.state[_ALLOWED] = _allowed(made)
    return made


def _allowed(app: Litestar) -> list[tuple[re.Pattern[str], str]]:
    """Which methods each path takes."""
    found = []
    for route in app.routes:
        parts = ["[^/]+" if part.startswith("{") else re.escape(part) for part in route.path.split("/")]
        found.append((re.compile("/".join(parts)), ", ".join(sorted(getattr(route, "methods", ())))))
    return found


def _refused(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """What an error is to the caller."""
    if isinstance(error, RecursionError):
        refusal = Refusal("request-malformed", "It is nested too deeply.")
    elif isinstance(error, UsageError):
        refusal = Refusal("request-malformed", error.refusal.detail)
    elif isinstance(error, NotFoundException):
        refusal = Refusal("not-found")
    elif isinstance(error, MethodNotAllowedException):
        path = request.scope["path"].rstrip("/")
        allow = next((one for pattern, one in request.app.state[_ALLOWED] if pattern.fullmatch(path)), "GET")
        refusal = Refusal("method-not-allowed", f"Use {allow}.", (("allow", allow),))
    elif isinstance(error, HTTPException) and error.status_code == _TOO_LARGE:
        refusal = Refusal("body-too-large")
    elif isinstance(error, HTTPException) and error.status_code < _FAILED:
        refusal = Refusal("request-malformed", _what_is_wrong(error))
    else:
        refusal = http.refusal_of(error)
    return as_response(http.problem(refusal))


def _what_is_wrong(error: HTTPException) -> str:
    """Which members of a request are wrong and how, without what was sent: it may be a key (M8)."""
    found = error.extra if isinstance(error.extra, list) else []
    said = [
        f"{one.get('key', 'body')}: {one.get('message', 'wrong')}"
        for one in found
        if isinstance(one, dict) and not _QUOTED.search(str(one.get("message", "")))
    ]
    return "; ".join(said)[:_MOST_DETAIL]


def _is_text(body: bytes) -> bool:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _again(body: bytes, over: asyncio.Event) -> Receive:
    """A body that was received already, for the framework to receive; then, once the answer is `over`, the end.

    The framework listens for the end while it sends a file, and would go on listening after it.
    """
    given = False

    async def receive() -> Any:  # noqa: ANN401 - an ASGI message
        nonlocal given
        if given:
            await over.wait()
            return {"type": "http.disconnect"}
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _until_over(send: Send, over: asyncio.Event) -> Send:
    """Send, and note when the answer is over."""

    async def sent(message: Any) -> None:  # noqa: ANN401 - an ASGI message
        try:
            await send(message)
        finally:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                over.set()

    return sent


def _with_headers(send: Send) -> Send:
    """Send with the headers that every answer has."""

    async def sent(message: Any) -> None:  # noqa: ANN401 - an ASGI message
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *_HEADERS]
            if not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append(_NO_STORE)
            message = {**message, "headers": headers}
        await send(message)

    return sent


class _Kept:
    """Keeps what would be sent."""

    def __init__(self) -> None:
        self._status = _FAILED
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    async def send(self, message: Any) -> None:  # noqa: ANN401 - an ASGI message
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [
                (bytes(name), bytes(value))
                for name, value in message["headers"]
                if name.lower() != b"content-length"
            ]
        else:
            self._body += message.get("body", b"")

    def response(self) -> http.Response:
        """All of it."""
        return http.Response(self._status, self._headers, self._body)
