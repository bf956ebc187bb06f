"""The host's HTTP face (PROTOCOL section 6). Nothing else is reachable on the public port.

`GET /v1/host`
    ``{"root", "roots", "chain", "token", "nonce"}``, the same for everybody.
`GET /v1/status`
    The publisher's status list as the host holds it: its head's bundle as one line of JSON, then its body, with an
    ``ETag``; `not-found` if it holds none.
`POST /v1/leases`
    Takes a check-in ``{"token", "jwk"}``; answers a lease's bundle ``{"token", "chain", "roots"}``.

Every refusal is a problem document, `application/problem+json`. A body is read within 5 s and has at most 16 KiB:
a check-in's token has at most 8 KiB, its key 200 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from volact import http
from volact.grouping import GroupCommit
from volact.kmshost import statuslist
from volact.kmshost.checkins import Sent
from volact.protocol.problems import Refusal
from volact.sources import Networks

if TYPE_CHECKING:
    from volact.http import App, Receive, Scope, Send
    from volact.kmshost.kmshost import KmsHost

MAX_BODY = 16 * 1024


class Bundle(msgspec.Struct, forbid_unknown_fields=True):
    """What a check-in is sent as."""

    token: str
    jwk: dict[str, Any]


_decode = msgspec.json.Decoder(Bundle).decode


def read_sent(body: bytes) -> Sent | Refusal:
    """Read the body of a check-in; nothing of it is verified yet."""
    try:
        read = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refusal("request-malformed", "A check-in is a JSON object of token and jwk, and nothing else.")
    return Sent(read.token, read.jwk)


Answer = Callable[[Sequence[tuple[Sent, str]]], Sequence[bytes | Refusal]]


class Face:
    """The host's routes."""

    def __init__(self, host: KmsHost, answer: Answer | None = None) -> None:
        """Answer with `host`; `answer` is its way of answering a batch where somebody measures that."""
        self._host = host
        self._group: GroupCommit[Sent] = GroupCommit(answer or host.answer)
        self._networks = Networks()

    def serve_only(self, networks: tuple[str, ...]) -> None:
        """Answer only who calls from these networks; with none, everybody (PROTOCOL section 6)."""
        self._networks = Networks(networks)

    async def between(self, work: Callable[[], None]) -> None:
        """Do `work` on the role between two batches of check-ins."""
        await self._group.between(work)

    async def close(self) -> None:
        """Finish what is in flight."""
        await self._group.close()

    def app(self) -> App:
        """The ASGI application: three routes, and without a framework between, which would cost the hot one."""
        routes = {
            "/v1/leases": ("POST", self._leases),
            "/v1/host": ("GET", self._introduction),
            "/v1/status": ("GET", self._status),
        }

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                method, handle = routes.get(scope["path"], ("", None))
                if self._networks and not self._networks.hold(scope["client"][0]):
                    response = http.problem(
                        Refusal("machine-not-entitled", "This host serves other networks.")
                    )
                elif handle is None:
                    response = http.problem(Refusal("not-found"))
                elif scope["method"] != method:
                    refusal = Refusal("method-not-allowed", f"Use {method}.", (("allow", method),))
                    response = http.problem(refusal)
                else:
                    response = await handle(scope, receive)
            except Exception as error:  # noqa: BLE001 - translated here, once
                response = http.problem(http.refusal_of(error))
            await response.send(send)

        return application

    async def _leases(self, scope: Scope, receive: Receive) -> http.Response:
        body = await http.read_body(scope, receive, limit=MAX_BODY)
        sent = body if isinstance(body, Refusal) else read_sent(body)
        if isinstance(sent, Refusal):
            return http.problem(sent)
        answer = await self._group.submit(sent, scope["client"][0])
        return http.problem(answer) if isinstance(answer, Refusal) else http.json_answer(answer)

    async def _introduction(self, _scope: Scope, _receive: Receive) -> http.Response:
        answer = self._host.introduction()
        return http.problem(answer) if isinstance(answer, Refusal) else http.json_answer(answer)

    async def _status(self, scope: Scope, _receive: Receive) -> http.Response:
        held = self._host.blocks
        if held.pair == statuslist.NONE:
            return http.problem(Refusal("not-found", "This host holds no status list."))
        return http.status_list(http.header(scope, b"if-none-match"), held.etag, held.content)
