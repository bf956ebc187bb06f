"""VAMT's API over a real VAMT in a folder of a test's own: the app itself, called as ASGI, without sockets."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import unquote

from volact.vamt import sealing, setup
from volact.vamt.api.app import Api, own_names
from volact.vamt.api.desk import ApiDesk
from volact.vamt.api.works import Works
from volact.vamt.people import Person
from world import HandClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


ADA = Person("ada", "key-administrator")
ROLES = ("viewer", "operator", "key-administrator", "auditor")
PASSPHRASE = "a passphrase that nobody prints"


class Answered(NamedTuple):
    """An answer: status, headers in lower case, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self
        return str(self.json["code"])


class ApiSite:
    """The app over a VAMT that is set up in a folder, with a token of each role. Use as a context."""

    def __init__(self, home: Path, template: Path, *, sealed: bool = False, database: str = "") -> None:
        shutil.copytree(template, home)
        self.environ = {"VOLACT_HOME": str(home)}
        if database:
            self.environ["VOLACT_VAMT_DATABASE"] = database
        self._opening = setup.opened(self.environ)
        self._sealed = sealed

    def __enter__(self) -> Self:
        opened = self._opening.__enter__()
        self.clock = HandClock()
        self.opened = opened._replace(clock=self.clock)
        self.vamt = self.opened.vamt()
        sealer = sealing.set_up(self.opened.folder, PASSPHRASE) if self._sealed else None
        self.works = Works(self.vamt.office, secrets.token_bytes)
        self.app = Api(ApiDesk(self.opened, self.vamt, self.works, sealer), own_names(""))
        self.tokens = {role: self.vamt.access.admit(ADA, role, role) for role in ROLES}
        return self

    def __exit__(self, *_: object) -> None:
        self.works.close()
        self._opening.__exit__(None, None, None)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        role: str = "key-administrator",
        headers: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> Answered:
        """Call the app as somebody of a role; with an empty one nobody."""
        said = {"host": "localhost:1689", **(headers or {})}
        if role and "authorization" not in said:
            said["authorization"] = f"Bearer {self.tokens[role]}"
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return asyncio.run(self._call(method, path, data, said, address))

    def ended(self, begun: Answered) -> Any:
        """An undertaking once it is over."""
        assert begun.status == 202, begun
        until = time.monotonic() + 60
        while (found := self.call("GET", begun.headers["location"]).json)["state"] in ("waiting", "running"):
            assert time.monotonic() < until, found
            time.sleep(0.01)
        return found

    async def _call(
        self, method: str, path: str, data: bytes, headers: Mapping[str, str], address: str
    ) -> Answered:
        target, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": unquote(target),
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [
                *[
                    (name.lower().encode(), value.encode("latin-1"))
                    for name, value in headers.items()
                    if value
                ],
                (b"content-length", str(len(data)).encode()),
            ],
            "client": (address, 50000),
            "server": ("127.0.0.1", 1689),
            "state": {},
        }
        incoming = [{"type": "http.request", "body": data, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            if not incoming:
                await asyncio.Event().wait()  # the caller stays
            return incoming.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        found = {bytes(name).decode().lower(): bytes(value).decode() for name, value in sent[0]["headers"]}
        return Answered(sent[0]["status"], found, b"".join(one.get("body", b"") for one in sent[1:]))
