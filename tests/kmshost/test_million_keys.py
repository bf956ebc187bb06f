"""T10: a flood of machines that do not exist, each with a key of its own and a network of its own, within ten minutes.

The host keeps no more of them than its cap, every machine that has renewed before goes on renewing, and when the flood is
over a new one gets in. In full it takes minutes of both cores: making a million keys costs as much as refusing them.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from databases import Databases
from kmshost.site import Machine, Site
from volact import signing
from volact.config import KmshostSettings
from volact.kmshost.admission import Limits
from volact.kmshost.checkins import Sent
from volact.protocol import ids
from volact.protocol.problems import Refusal
from world import PRODUCT, new_id

MINUTES, RETRY = 10, 7200
TOGETHER = 500
"""Fake check-ins of one batch, as many as the host takes at once less those of real machines."""
AHEAD = 2
"""Batches that are made before their time; a nonce is good for five minutes."""
REAL = 100
EACH = 5
"""Real machines that renew in each batch."""


def fakes(common: dict[str, Any], number: int) -> list[tuple[str, dict[str, Any]]]:
    """Token and key of so many check-ins; runs in a process of its own."""
    found = []
    for _ in range(number):
        signer = signing.generate()
        part = ids.b64u(os.urandom(8))
        claims = {**common, "jti": new_id(), "sub": signer.kid, "req": new_id(), "fp": {"uuid": part}}
        bundle: dict[str, Any] = signer.bundle("checkin", claims)
        found.append((bundle["token"], bundle["jwk"]))
    return found


class Flood:
    """The fakes, made beside the host while it refuses the ones before."""

    def __init__(self, site: Site, pool: ProcessPoolExecutor) -> None:
        self.site, self.pool = site, pool
        self.sources = (f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1" for number in itertools.count())

    def batches(self, number: int) -> Iterator[list[tuple[Sent, str]]]:
        waiting = [self._make() for _ in range(min(AHEAD, number))]
        for left in range(number, 0, -1):
            made = waiting.pop(0).result()
            if left > AHEAD:
                waiting.append(self._make())
            yield [(Sent(token, jwk), next(self.sources)) for token, jwk in made]

    def _make(self) -> Any:
        site = self.site
        common = {
            "pub": site.publisher.pub,
            "lab": True,
            "iat": site.clock.now(),
            "aud": site.signer.kid,
            "prd": PRODUCT,
            "nonce": site.nonce(),
            "prev": None,
            "state": 2,
            "minutes": 60,
            "vm": False,
        }
        return self.pool.submit(fakes, common, TOGETHER)


@pytest.mark.parametrize(
    ("number", "cap"), [(2_500, 150), pytest.param(1_000_000, 40_000, marks=pytest.mark.slow)]
)
def test_t10_a_flood_of_keys_fills_no_more_than_the_cap_and_stops_no_renewal(
    tmp_path: Path, databases: Databases, number: int, cap: int
) -> None:
    defaults = KmshostSettings()
    site = Site(databases.sqlite(tmp_path / "k.db"), thresholds=[{"count": "machines", "minimum": 2}])
    real = site.machines(REAL)
    for _ in range(2):
        site.clock.pass_(60)
        answers = site.call(real)
    assert all(isinstance(one, dict) for one in answers)
    before = len(site.rows("event"))
    site.restarted(limits=Limits(defaults.source_rate, defaults.source_burst, cap))
    batches = number // TOGETHER
    renewing = itertools.cycle(real)
    said: Counter[str] = Counter()
    renewed = most = 0
    with ProcessPoolExecutor(1) as pool:
        for at, batch in enumerate(Flood(site, pool).batches(batches)):
            mine = [next(renewing) for _ in range(EACH)]
            batch += [(sent_of(machine), f"192.0.2.{at % 200}") for machine in mine]
            answers = site.host.answer(batch)
            said.update(one.code if isinstance(one, Refusal) else "ok" for one in answers[:-EACH])
            renewed += sum(isinstance(one, bytes) for one in answers[-EACH:])
            if at % 50 == 0:
                site.host.expire()
                most = max(most, site.count("SELECT COUNT(*) FROM record"))
            passed = (at + 1) * MINUTES * 60 // batches - at * MINUTES * 60 // batches
            site.clock.pass_(passed)
    assert said == {"ok": cap - REAL, "host-full": number - (cap - REAL)}
    assert renewed == EACH * batches
    assert max(most, site.count("SELECT COUNT(*) FROM record")) == cap
    # Who was turned away is counted, and left no row but the one that says so, once in these minutes.
    rows = Counter(row.result for row in site.rows("event"))
    assert rows.pop("host-full", 0) <= 1
    assert rows.total() == before + cap - REAL + renewed
    assert site.count("SELECT SUM(n) FROM tally WHERE outcome = 'host-full'") == said["host-full"]
    # The flood is over: who called once and never again makes room, and nobody else does.
    newcomer = site.machine()
    site.clock.pass_(2 * RETRY + 1)
    for _ in range(2):
        site.host.expire()
    assert isinstance(newcomer.call(), dict)
    assert {one.cmid for one in real} <= {row.cmid for row in site.rows("record")}
    site.close()


def sent_of(machine: Machine) -> Sent:
    body = machine.checkin()
    return Sent(body["token"], body["jwk"])
