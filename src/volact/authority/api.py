"""The authority's HTTP face (PROTOCOL section 2). No administrative verb is reachable here.

`POST /v1/requests`
    Takes a bundle ``{"token", "jwk", "proof"}`` (`extend` has ``usage`` in the place of ``proof``), or ``{"proof"}``
    for the remaining count; answers a bundle ``{"token", "chain", "roots"}``. Or takes ``{"requests": [...]}`` with
    1 to 100 of these and answers ``{"answers": [bundle or problem, ...]}`` in their order.
`GET /v1/status`
    The status list: its head's bundle as one line of JSON, then its body. ``ETag`` is ``"IAT.VER"``.
`GET /v1/root`
    ``{"root": {"token", "jwk"}, "roots": [...]}``.

Every refusal is a problem document, `application/problem+json`. The public pages for people, `/phone`, are handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException

from volact import http
from volact.authority import records, statuslist
from volact.authority.asks import Sent
from volact.authority.bodies import answers_json, read_batch
from volact.grouping import GroupCommit
from volact.protocol.problems import Refusal, Refused, VolactError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from volact.authority.authority import Authority
    from volact.authority.statuslist import Published
    from volact.http import App, Receive, Scope, Send

    Ask = Callable[[bytes, str], Awaitable[bytes | Refusal]]
    Pages = Callable[[Authority, Ask], Mapping[str, App]]
    """What people see: by the first word of its path, and it asks with one request's JSON and the caller's address."""

_TICK_SECONDS = 1.0


class Face:
    """The authority's routes and the work beside them."""

    def __init__(
        self, authority: Authority, reload_settings: Callable[[], None], pages: Pages | None = None
    ) -> None:
        """Answer with `authority`; `reload_settings` makes it look at its settings again."""
        self._authority = authority
        self._pages = pages(authority, self.ask) if pages else {}
        self._reload_settings = reload_settings
        self._group = GroupCommit(self._answer_batch)
        self._published: Published | None = None
        self._iat = 0
        self._looking = threading.Lock()
        self._ticking: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Read the status list and begin to keep it fresh.

        Raises:
            VolactError: if the store cannot be used. A status key past its end is no reason not to serve: the
                newest list goes on being given.
        """
        try:
            await asyncio.to_thread(self.refresh)
        except Refused as error:
            http.refusal_of(error)
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Finish what is in flight."""
        self._stopping.set()
        if self._ticking:
            await self._ticking
        await self._group.close()

    async def _tick(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TICK_SECONDS)
            try:
                await asyncio.to_thread(self._reload_settings)
                await asyncio.to_thread(self.refresh)
                await asyncio.to_thread(self._authority.store.checkpoint)
            except Exception as error:  # noqa: BLE001 - a full disk now must not stop the looks after it
                http.refusal_of(error)

    def refresh(self) -> None:
        """Look whether the status list has changed; write it anew when it is a day old.

        Raises:
            VolactError: if the store cannot be used.
        """
        self._take_newest()
        if self._authority.clock.now() - self._iat >= statuslist.RENEWED_EVERY:
            self._authority.renew_status_list()
            self._take_newest()

    def _take_newest(self) -> None:
        authority = self._authority
        with self._looking:
            with authority.store.reading() as tx:
                newest = records.newest_list(tx)
                if self._published and self._published.ver == newest:
                    return
                stored = records.status_list(tx, newest)
            self._published = statuslist.published(stored, authority.keyring)
            self._iat = stored.iat

    # --- POST /v1/requests --------------------------------------------------------------------------------

    async def requests(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The hot route."""
        try:
            response = await self._requests(scope, receive)
        except Exception as error:  # noqa: BLE001 - translated here, once
            response = http.problem(http.refusal_of(error))
        await response.send(send)

    async def _requests(self, scope: Scope, receive: Receive) -> http.Response:
        if scope["method"] != "POST":
            return http.problem(Refusal("method-not-allowed", "Use POST.", (("allow", "POST"),)))
        body = await http.read_body(scope, receive)
        if isinstance(body, Refusal):
            return http.problem(body)
        sent = read_batch(body)
        address = scope["client"][0]
        if isinstance(sent, Sent):
            answer = await self._answer(sent, address)
            return http.problem(answer) if isinstance(answer, Refusal) else http.json_answer(answer)
        if isinstance(sent, Refusal):
            return http.problem(sent)
        # Handed in one after the other before any is awaited: they keep their order and share a commit.
        answers = await asyncio.gather(*[self._answer_or_refuse(one, address) for one in sent])
        return http.json_answer(answers_json(answers))

    async def _answer_or_refuse(self, sent: Sent | Refusal, address: str) -> bytes | Refusal:
        if isinstance(sent, Refusal):
            return sent
        try:
            return await self._answer(sent, address)
        except Exception as error:  # noqa: BLE001 - one row's fault is that row's answer
            return http.refusal_of(error)

    def _answer_batch(self, asks: Sequence[tuple[Sent, str]]) -> Sequence[bytes | Refusal]:
        """Answer a batch; the status list that it made is given out before anybody hears of the return (M6)."""
        answers = self._authority.answer(asks)
        if self._published and self._published.ver < self._authority.newest_list:
            try:
                self._take_newest()
            except VolactError as error:
                http.refusal_of(error)  # the answers hold; the next look has the list
        return answers

    async def _answer(self, sent: Sent, address: str) -> bytes | Refusal:
        return await self._group.submit(sent, address)

    async def ask(self, body: bytes, address: str) -> bytes | Refusal:
        """What `POST /v1/requests` answers to one ask from this address, for a page; never raises."""
        sent = read_batch(body)
        if isinstance(sent, list):
            return Refusal("request-malformed", "One request is taken here.")
        return await self._answer_or_refuse(sent, address)

    # --- the rest -----------------------------------------------------------------------------------------

    def app(self) -> App:
        """The ASGI application."""
        face = self

        @get("/v1/root", sync_to_thread=False)
        def root() -> Response[bytes]:
            """The publisher's root documents."""
            roots = face._authority.keyring.roots
            body = msgspec.json.encode({"root": roots.first, "roots": list(roots.later)})
            return Response(body, media_type="application/json")

        others: Any = Litestar(
            [root],
            openapi_config=None,
            exception_handlers={HTTPException: _refused, Exception: _refused},
            logging_config=None,
        )

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            # Before the framework's routing, which would cost the hot route a seventh of its time, and would hold
            # a copy of the list for each caller who is slow to read it.
            if scope["path"] == "/v1/requests":
                await face.requests(scope, receive, send)
            elif scope["path"] == "/v1/status":
                await face.status(scope).send(send)
            else:
                page = face._pages.get("/" + scope["path"].split("/", 2)[1], others)
                await page(scope, receive, send)

        return application

    def status(self, scope: Scope) -> http.Response:
        """`GET /v1/status`: the status list, or 304 for who has it."""
        if scope["method"] != "GET":
            return http.problem(Refusal("method-not-allowed", "Use GET.", (("allow", "GET"),)))
        published = self._published
        if published is None:
            return http.problem(Refusal("busy"))
        return http.status_list(http.header(scope, b"if-none-match"), published.etag, published.content)


def _as_response(made: http.Response) -> Response[bytes]:
    headers = {name.decode(): value.decode() for name, value in made.headers}
    kind = headers.pop("content-type", None)
    return Response(made.body, status_code=made.status, media_type=kind, headers=headers)


def _refused(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, NotFoundException):
        return _as_response(http.problem(Refusal("not-found")))
    if isinstance(error, MethodNotAllowedException):
        return _as_response(http.problem(Refusal("method-not-allowed", "", (("allow", "GET"),))))
    if isinstance(error, HTTPException) and error.status_code < 500:  # noqa: PLR2004 - the caller's fault
        return _as_response(http.problem(Refusal("request-malformed")))
    return _as_response(http.problem(http.refusal_of(error)))
