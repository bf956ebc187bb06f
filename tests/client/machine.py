"""A machine that a test holds in its hand: clocks that it moves, facts that it changes, an authority in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from client.kms_server import HOST, KmsHost
from client.names import Records
from client.publisher import EPOCH, PRODUCT, Publisher, request_of
from volact.calls import Answer
from volact.client import folder
from volact.client.check import look, standing_in
from volact.client.client import Client
from volact.client.events import Event
from volact.client.installation import Surroundings
from volact.client.lifecycle import Licence
from volact.client.state import Record
from volact.client.store import Store
from volact.facts import Facts
from volact.protocol import jws
from volact.protocol.problems import Refusal, Refused, Unreachable
from world import claims_of

PARTS = {
    "uuid": "8f3c2c6e-91a5-4c9e-9d11-6f5a1d1f6e01",
    "board": "PF3ABC12",
    "disk": "S4EVNX0N123456",
    "os": "3d1219c7c4c5404aaa1f6d2a48adfda4",
    "net": "a4:bb:6d:11:22:33",
    "cpu": "GenuineIntel 6 142 12",
}
FOREIGN = {
    "uuid": "11112222-3333-4444-5555-666677778888",
    "board": "QX9ZZZ99",
    "disk": "WD-WX12345",
    "os": PARTS["os"],
    "net": "00:1b:21:aa:bb:cc",
    "cpu": PARTS["cpu"],
}


def refused(code: str, call: Any, *arguments: Any) -> Refusal:
    with pytest.raises((Refused, Unreachable)) as caught:
        call(*arguments)
    assert caught.value.refusal.code == code
    return caught.value.refusal


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self, wall: int = EPOCH) -> None:
        self.wall, self.since_boot, self.boots = wall, 1000, 0

    def now(self) -> int:
        return self.wall

    def running(self) -> int:
        return self.since_boot

    def boot(self) -> str:
        return f"boot-{self.boots}"

    def run(self, seconds: int) -> None:
        """Time passes on a running machine."""
        self.wall += seconds
        self.since_boot += seconds

    def turn(self, seconds: int) -> None:
        """Somebody turns the wall clock."""
        self.wall += seconds

    def off(self, seconds: int) -> None:
        """The machine is off, then starts."""
        self.wall += seconds
        self.since_boot = 0
        self.boots += 1


class Authority:
    """An authority in memory: what it answers is the next of `answers`, or what a good one would say."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.answers: list[Any] = []
        self.requests: list[bytes] = []
        self.list = publisher.status_list()
        self.list_headers: list[dict[str, str]] = []
        self.down = False
        self.untils: list[float] = []
        self.acts: dict[str, str] = {}  # confirmation -> activation
        self.other: dict[str, Any] = {}  # claims of its next answers that are others than a good one's

    def __call__(self, url: str, pins: Sequence[str], until: float) -> "Authority":
        self.untils.append(until)
        self.called = (url, tuple(pins))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        assert path == "/v1/requests"
        self.requests.append(jws.write_json(body))
        if self.down:
            raise Unreachable(Refusal("authority-unreachable", "It is down."))
        answer = self.answers.pop(0) if self.answers else self.confirm(body, **self.other)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Refusal):
            return Answer(answer.problem.status, {}, jws.write_json(answer.document()))
        return answer if isinstance(answer, Answer) else Answer(200, {}, jws.write_json(answer))

    def confirm(self, body: dict[str, Any], **other: Any) -> dict[str, Any]:
        """What a good one answers: a confirmation, or to a return a receipt for the activation that it names."""
        request = request_of(body)
        if request["op"] == "return":
            return self.publisher.receipt(request, **{"act": self.acts.get(request["ref"], ""), **other})
        answer = self.publisher.confirmation(request, **other)
        claims = claims_of(answer["token"])
        self.acts[claims["jti"]] = claims["act"]
        return answer

    def get(self, path: str, headers: dict[str, str]) -> Answer:
        assert path == "/v1/status"
        self.list_headers.append(headers)
        if self.down:
            raise Unreachable(Refusal("authority-unreachable", "It is down."))
        return Answer(200, {}, self.list)


class Machine:
    """A client in a folder of its own."""

    def __init__(self, home: Path, publisher: Publisher, parts: dict[str, str] | None = None) -> None:
        self.home, self.publisher = home, publisher
        self.clock = HandClock()
        self.facts = Facts(dict(parts or PARTS))
        self.authority = Authority(publisher)
        self.kms = KmsHost(publisher)
        self.kms.clock = self.clock.now
        self.told: list[Event] = []
        self.dns = Records()
        self.chance = 0.5
        self.around = Surroundings(
            clock=lambda _lab: self.clock,
            facts=lambda _lab: self.facts,
            call=self.authority,  # type: ignore[arg-type]  # it has the two methods that are called
            chance=lambda: self.chance,
            call_host=self.kms,  # type: ignore[arg-type]  # likewise
            tell=self.told.append,
            names=self.dns.open,  # type: ignore[arg-type]  # likewise
            has_route=lambda _ip: True,
        )
        self.store = Store(str(home), patience=0.2)
        self.client = Client(self.store, self.around)

    def install(self, product: str = PRODUCT, **more: Any) -> None:
        data = self.publisher.product_file(product, url="https://authority.test", **more)
        self.client.install(data, self.publisher.pub)

    def activated(self, **policy: Any) -> "Machine":
        """Installed, with a key, activated."""
        self.install(**policy)
        self.client.install_key(self.publisher.key().text())
        self.client.activate()
        return self

    def leased(self, **policy: Any) -> "Machine":
        """Installed without a key, with a lease (K22)."""
        self.install(**policy)
        self.client.set_host(None, HOST)
        self.client.activate()
        return self

    def record(self, product: str = PRODUCT) -> Record:
        """What is remembered of the product."""
        found = folder.state(str(self.home), self.publisher.pub)
        assert found
        return found.products[product]

    def grant_claims(self, product: str = PRODUCT) -> dict[str, Any]:
        """What the confirmation that is held says."""
        grant = self.client.open(self.publisher.pub).grant(product)
        assert grant
        return grant.document.claims

    def standing(self, product: str = PRODUCT) -> Licence:
        """What `check()` finds."""
        roots = folder.roots(str(self.home), self.publisher.pub)
        return standing_in(str(self.home), roots, product, self.facts.values, look(self.clock))

    def cmid(self) -> str:
        found = self.store.state(self.publisher.pub)
        assert found
        return found[1].cmid

    def cmid_as_stored(self) -> str:
        """As `check()` sees it, whatever stands beside it."""
        found = folder.state(str(self.home), self.publisher.pub)
        assert found
        return found.cmid

    def file(self, name: str, product: str = PRODUCT) -> Path:
        base = self.home / "client" / self.publisher.pub
        return (
            base / name
            if name in ("root.json", "state.json", "identity.pem")
            else base / "products" / product / name
        )
