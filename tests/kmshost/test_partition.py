"""F25: a host that does not reach its authority for 30, 90 and 180 days, and the machines that it serves meanwhile.

Days go by on a clock moved by hand; host, upkeep and authority are the real ones. The partition begins just before the
host would have extended its delegation by itself, which is the worst day. A machine renews every seven days, and each day
while it is refused.
"""

import json
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from authority_site import Site
from kmshost.enterprise import Enterprise, Wire
from kmshost.site import ADDRESS
from kmshost_process import checkin
from volact.kmshost import reporting
from volact.kmshost.checkins import Sent
from volact.kmshost.kmshost import KmsHost
from volact.kmshost.terms import Terms
from volact.kmshost.upkeep import Upkeep
from volact.protocol import trust
from volact.protocol.problems import Refusal, Unreachable
from world import DAY, NOW, PRODUCT, Machine

BEGINS = 44
"""The day before half of a delegation's 90 days (K18)."""
ONLINE, VALID, RENEWAL = 90 * DAY, 180 * DAY, 7 * DAY
MACHINES = 28


class Cut(Wire):
    """A way to the authority that may be cut: then nothing gets through, either way."""

    cut = False

    def __call__(self, url: str, pins: Sequence[str]) -> Self:
        if self.cut:
            raise Unreachable(Refusal("authority-unreachable", "cut"))
        return super().__call__(url, pins)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "authority.db")
    url = "https://authority.test"
    site.office.add_product({"sub": PRODUCT, "name": PRODUCT, "edition": "client", "pol": {}, "url": url}, [])
    yield site
    site.close()


class Fleet:
    """A host that runs on, and its machines: when each has its lease from, and until when."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.site = site
        self.enterprise = Enterprise(folder, site)
        self.wire = self.enterprise.wire = Cut(site)
        self.enterprise.init()
        self.enterprise.install_key(site.key("kms-host"))
        self.enterprise.activate()
        self.roots = trust.open_roots(site.keyring.roots.first, site.pub)
        self.machines = [Machine(site.pub) for _ in range(MACHINES)]
        self.granted: dict[str, int] = {}
        self.ends: dict[str, int] = {}
        self.refusals: list[tuple[int, str]] = []
        self.stages: dict[int, int] = {}

    def live(self, days: int, partition: range) -> None:
        """Live so many days; the authority is away on those of the `partition`."""
        with self.enterprise.opened() as opened:
            self.opened, self.keyring = opened, opened.keyring()
            self.host = KmsHost(
                opened.clock, opened.store, self._terms(), secrets.token_bytes, lambda _events: None
            )
            self.host.start()
            upkeep = Upkeep(opened, lambda: self.keyring, self.wire)
            for day in range(days):
                self.wire.cut = day in partition
                upkeep.work(self.now)
                self.keyring = opened.keyring()
                self.host.use(self._terms())
                self.host.expire()
                self._warn(day)
                due = [one for number, one in enumerate(self.machines) if self._is_due(one, number, day)]
                if due:
                    self._call(due, day)
                assert all(self.now < end for end in self.ends.values()), "a machine's lease has ended"
                self.enterprise.pass_(DAY)

    @property
    def now(self) -> int:
        return self.site.clock.now()

    def _terms(self) -> Terms:
        return Terms(self.keyring, tls=("A" * 43,))

    def _warn(self, day: int) -> None:
        """The first day of each warning, as the service gives them."""
        assert self.keyring
        newest = self.keyring.newest
        assert newest
        stage = reporting.stage(newest.iat, newest["exp"], self.now)
        assert bool(stage) == bool(reporting.delegation_warning(newest.iat, newest["exp"], self.now))
        if newest.iat == NOW:
            self.stages.setdefault(stage, day)

    def _is_due(self, machine: Machine, number: int, day: int) -> bool:
        granted = self.granted.get(machine.cmid)
        return day >= number % 7 if granted is None else self.now >= granted + RENEWAL

    def _call(self, machines: list[Machine], day: int) -> None:
        said = self.host.introduction()
        if isinstance(said, Refusal):
            self.refusals.append((day, said.code))
            return
        bodies = [checkin(one, json.loads(said), iat=self.now) for one in machines]
        answers = self.host.answer([(Sent(one["token"], one["jwk"]), ADDRESS) for one in bodies])
        for machine, answer in zip(machines, answers, strict=True):
            if isinstance(answer, Refusal):
                self.refusals.append((day, answer.code))
            else:
                self._take(machine, json.loads(answer))

    def _take(self, machine: Machine, answer: dict[str, Any]) -> None:
        lease, delegation = self._verified(answer)
        assert delegation.iat <= lease.iat == self.now <= delegation["exp"]
        assert lease["exp"] <= delegation["exp"] + delegation["lmax"]
        assert lease["exp"] == self.now + VALID
        self.granted[machine.cmid], self.ends[machine.cmid] = self.now, lease["exp"]

    def _verified(self, bundle: dict[str, Any]) -> tuple[Any, Any]:
        granted = trust.take_up(trust.verify(bundle, "lease", self.roots))
        return granted.document, granted.chain[-1]


@pytest.mark.parametrize(
    "lasts", [60, *(pytest.param(days, marks=pytest.mark.slow) for days in (30, 90, 180))]
)
def test_f25_a_host_that_does_not_reach_its_authority(tmp_path: Path, site: Site, lasts: int) -> None:
    fleet = Fleet(tmp_path, site)
    back = BEGINS + lasts
    fleet.live(back + 9, range(BEGINS, back))
    over = range(91, back)  # the delegation's last second is on day 90
    wrong = {day for day, code in fleet.refusals if code == "host-clock-wrong"}
    # Every day of it some machine is due, and no other day any is refused for it.
    assert wrong == set(over)
    # From the first day with an authority on the host is well, and in a week all have leases of these days.
    assert {code for day, code in fleet.refusals if day >= back} <= {"count-insufficient"}
    assert min(fleet.granted.values()) >= NOW + (back + 1) * DAY
    # Each warning on its day: 50, 75 and 90 percent of 90 days, and the end.
    dated = {0: 0, 1: 45, 2: 68, 3: 81, 4: 91}
    assert fleet.stages == {stage: day for stage, day in dated.items() if day < back}
    # Without any contact since the last day of the old delegation, none would have ended within 179 days.
    assert min(fleet.ends.values()) > fleet.now
