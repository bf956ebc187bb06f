"""VAMT as it really runs: its own commands and its own `serve` process, called over HTTPS by a client of the standard library."""

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

from authority_process import TIMEOUT, RoleHome, Serving


class Home(RoleHome):
    """A VOLACT_HOME with a VAMT in it."""

    role = "vamt"
    pins: tuple[str, ...] = ()

    def set_up(self) -> None:
        self.run("init")

    def token(self, name: str, role: str, *words: str) -> str:
        """A new token of a person with a role."""
        return str(self.run("token", "add", name, "--role", role, *words)["token"])


class Answered(NamedTuple):
    """An answer over HTTPS."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Vamt(Serving):
    """A running `volact vamt serve`; use as a context."""

    role = "vamt"

    def __init__(self, home: Any) -> None:
        super().__init__(home)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """One request on a connection of its own, whose certificate is the one that VAMT made itself."""
        folder = self.home.folder / "vamt" / "tls"
        context = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=TIMEOUT, context=context)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        said = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        try:
            connection.request(method, path, data, said)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answered(response.status, named, response.read())
        finally:
            connection.close()
