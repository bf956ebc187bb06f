"""The KMS host as it really runs: its own commands and its own `serve` process, activated at a real authority.

`Machines` call as clients do, from the protocol alone: prove the host first, then check in.
"""

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import authority_process
from authority_process import TIMEOUT, RoleHome, Serving
from volact.calls import HostCaller
from volact.protocol import trust
from volact.protocol.keys import ProductKey
from world import PRODUCT, Machine, claims_of, new_id

NO_MACHINE_YET = {"state": 2, "minutes": 43200, "vm": False, "prev": None}


class Home(RoleHome):
    """A VOLACT_HOME with a KMS host in it."""

    role = "kmshost"

    def __init__(self, folder: Path, authority: authority_process.Home, **settings: object) -> None:
        super().__init__(folder, **settings)
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = authority
        self.pub = authority.pub
        self.product_file = folder / "cad.volact-product"
        self.product_file.write_text(json.dumps(authority.product))

    def init(self) -> None:
        self.host: str = self.run("init", f"--root={self.pub}", str(self.product_file))["host"]

    def install_key(self, key: ProductKey) -> None:
        self.run("install-key", "-", stdin=key.text() + "\n")

    def activate_by_file(self) -> None:
        """Carry the request to the authority and its answer back."""
        request, response = self.folder / "request.json", self.folder / "response.json"
        self.run("activate", "--request-file", str(request))
        self.authority.run("answer", str(request), "-o", str(response))
        self.run("activate", "--response-file", str(response))

    def set_up(self, url: str = "") -> None:
        """Init, install a fresh key, activate: online at `url`, else by file."""
        self.init()
        self.install_key(self.authority.key("kms-host"))
        if url:
            self.run("activate", "--authority", url)
        else:
            self.activate_by_file()


class Host(Serving):
    """A running `volact kmshost serve`; use as a context."""

    role = "kmshost"

    def __init__(self, home: Home, listen: str = "127.0.0.1:0") -> None:
        super().__init__(home, listen)  # type: ignore[arg-type]  # it has a folder and an environ, too

    def connect(self, port: int | None = None) -> "Connection":
        return Connection(self.home, port or self.port)  # type: ignore[arg-type]  # as above


class Connection:
    """One connection to a host, which proved itself on it; use as a context."""

    def __init__(self, home: Home, port: int) -> None:
        self.pub, self.root = home.pub, home.authority.product["root"]
        self.caller = HostCaller("127.0.0.1", port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.caller.close()

    def introduction(self) -> dict[str, Any]:
        """What the host says of itself, verified to the pinned root, as a client must (D4)."""
        answer = self.caller.get("/v1/host")
        body = answer.bundle()
        if answer.status == 200:
            granted = trust.take_up(trust.verify(body, "host", trust.open_roots(body["root"], self.pub)))
            self.caller.take_only(granted.document["tls"])
        return body

    def check_in(self, machine: Machine, **claims: Any) -> dict[str, Any]:
        """Call once; the lease's bundle, or the problem."""
        met = self.introduction()
        if "code" in met:
            return met
        return self.caller.post("/v1/leases", checkin(machine, met, **claims)).bundle()

    def lease(self, bundle: dict[str, Any]) -> dict[str, Any]:
        """A lease's claims, verified to the root."""
        assert "token" in bundle, bundle
        return trust.take_up(
            trust.verify(bundle, "lease", trust.open_roots(self.root, self.pub))
        ).document.claims


def checkin(machine: Machine, met: dict[str, Any], product: str = PRODUCT, **claims: Any) -> dict[str, Any]:
    """A machine's check-in with the host that it has met."""
    members = {
        "pub": machine.pub,
        "lab": machine.lab,
        "iat": int(time.time()),
        "jti": new_id(),
        "sub": machine.cmid,
        "aud": claims_of(met["token"])["iss"],
        "prd": product,
        "nonce": met["nonce"],
        "req": new_id(),
        "fp": machine.fp(product),
        **NO_MACHINE_YET,
        **claims,
    }
    return machine.signer.bundle("checkin", members)


def health(port: int) -> tuple[int, dict[str, Any]]:
    """What `/health` on a loopback port says; status 0 if nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 0, {}
    finally:
        connection.close()


def wait_until(holds: Callable[[], object], within: float = TIMEOUT) -> None:
    """Wait until something is true, which a busy machine may take its time for; fails after `within` seconds."""
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.05)
