"""The host's HTTP face (PROTOCOL section 6). Nothing else is reachable on the public port.

`GET /v1/host`
    ``{"root", "roots", "chain", "token", "nonce"}``, the same for everybody.
`POST /v1/leases`
    Takes a check-in ``{"token", "jwk"}``; answers a lease's bundle ``{"token", "chain", "roots"}``.

Every refusal is a problem document, `application/problem+json`. A body is read within 5 s and has at most 16 KiB:
a check-in's token has at most 8 KiB, its key 200 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from volact import http
from volact.grouping import GroupCommit
from volact.kmshost.checkins import Sent
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Face:
    """The host's routes."""

    def __init__(self, host: KmsHost) -> None:
        """Answer with `host`."""
        self._host = host
        self._group: GroupCommit[Sent] = GroupCommit(host.answer)

    async def between(self, work: Callable[[], None]) -> None:
        """Do `work` on the role between two batches of check-ins."""
        await self._group.between(work)

    async def close(self) -> None:
        """Finish what is in flight."""
        await self._group.close()

    def app(self) -> App:
        """The ASGI application: two routes, and without a framework between, which would cost the hot one."""
        routes = {"/v1/leases": ("POST", self._leases), "/v1/host": ("GET", self._introduction)}

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                method, handle = routes.get(scope["path"], ("", None))
                if handle is None:
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
        body = await http.read_body(receive, limit=MAX_BODY)
        sent = body if isinstance(body, Refusal) else read_sent(body)
        if isinstance(sent, Refusal):
            return http.problem(sent)
        answer = await self._group.submit(sent, scope["client"][0])
        return http.problem(answer) if isinstance(answer, Refusal) else http.json_answer(answer)

    async def _introduction(self, _scope: Scope, _receive: Receive) -> http.Response:
        answer = self._host.introduction()
        return http.problem(answer) if isinstance(answer, Refusal) else http.json_answer(answer)
