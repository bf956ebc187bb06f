"""F34: the host's delegation ends while requests are under way and the next one arrives: no renewal fails.

Through the host's whole face without a network. A rotation is what `serve` does when a command has stored a newer
delegation: it reads it and puts it in its place between two batches. Then the old one's end goes by.
"""

import asyncio
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from databases import Databases
from kmshost.site import HOUR, Machine, Site
from volact.kmshost.api import Face
from volact.kmshost.terms import Terms
from volact.protocol import trust
from world import claims_of, new_id

RATE = 200
"""Renewals a second."""
EVERY = 0.1
"""Seconds between two rotations."""
LASTS, ARRIVES, ENDS = 25, 15, 6
"""Of a delegation: how long it lasts, how long after the end of the one before the next one comes, how much later it is over; seconds."""


class Renewals:
    """Machines that renew over a host's face, and rotations meanwhile."""

    def __init__(self, site: Site, machines: list[Machine]) -> None:
        self.site = site
        self.face = Face(site.host)
        self.app = self.face.app()
        self.machines = itertools.cycle(machines)
        self.chance = random.Random(1)
        self.done: list[tuple[int, Machine, str, bytes]] = []
        self.repeated = 0

    async def run(self, rotations: int) -> None:
        rotating = asyncio.create_task(self._rotate(rotations))
        calls = []
        while not rotating.done():
            calls.append(asyncio.create_task(self._renew(next(self.machines), new_id())))
            if self.done and self.chance.random() < 0.1:
                calls.append(asyncio.create_task(self._again(*self.chance.choice(self.done[-20:]))))
            await asyncio.sleep(1 / RATE)
        await asyncio.gather(rotating, *calls)
        await self.face.close()

    async def _rotate(self, rotations: int) -> None:
        for _ in range(rotations):
            await asyncio.sleep(EVERY)
            self.site.clock.pass_(ARRIVES)
            store_delegation(self.site)
            keyring = await asyncio.to_thread(self.site.keyring)
            await self.face.between(lambda found=keyring: self.site.host.use(Terms(found, tls=("A" * 43,))))  # type: ignore[misc]
            self.site.clock.pass_(ENDS)

    async def _renew(self, machine: Machine, req: str) -> None:
        nonce = json.loads((await self._call("GET", "/v1/host"))[1])["nonce"]
        await asyncio.sleep(self.chance.uniform(0, 2 / RATE))
        body = json.dumps(machine.checkin(nonce=nonce, req=req, iat=self.site.clock.now())).encode()
        status, answer = await self._call("POST", "/v1/leases", body)
        self.done.append((status, machine, req, answer))

    async def _again(self, status: int, machine: Machine, req: str, answer: bytes) -> None:
        """Its answer was lost: the machine's newest one is given again to the letter, an older one is another ask."""
        nonce = json.loads((await self._call("GET", "/v1/host"))[1])["nonce"]
        body = json.dumps(machine.checkin(nonce=nonce, req=req, iat=self.site.clock.now())).encode()
        found = await self._call("POST", "/v1/leases", body)
        assert found[0] == 200, found
        self.repeated += found == (status, answer)

    async def _call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"method": method, "path": path, "client": ("192.0.2.1", 5), "headers": []}
        await self.app(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]


def store_delegation(site: Site) -> None:
    """As a command in another process does: the running host does not know it yet."""
    running = site.__dict__.pop("host")
    site.delegate(lasts=LASTS)
    site.host = running


@pytest.mark.parametrize("rotations", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_f34_no_renewal_fails_while_delegations_end_and_new_ones_arrive(
    tmp_path: Path, databases: Databases, rotations: int
) -> None:
    site = Site(databases.sqlite(tmp_path / "k.db"), thresholds=[{"count": "machines", "minimum": 2}])
    machines = site.machines(40)
    site.call(machines)
    store_delegation(site)  # the first that lasts minutes only
    site.clock.pass_(1)
    site.restarted()
    renewals = Renewals(site, machines)
    asyncio.run(renewals.run(rotations))
    answers = [(status, answer) for status, _, _, answer in renewals.done]
    assert {status for status, _ in answers} == {200}
    roots = trust.open_roots(site.publisher.root_1, site.publisher.pub)
    under = set()
    for _, answer in answers:
        bundle = json.loads(answer)
        lease = trust.take_up(trust.verify(bundle, "lease", roots)).document
        delegation = claims_of(bundle["chain"][-1])
        assert delegation["iat"] - HOUR <= lease.iat <= delegation["exp"]
        under.add(delegation["jti"])
    assert len(under) > rotations // 2, "hardly any delegation was in use"
    assert renewals.repeated > 0
    site.close()
