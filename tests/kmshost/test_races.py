"""The 25th place, raced for by two hosts of one count on PostgreSQL: each schedule is linearizable (F39, K12).

A schedule is a few batches of check-ins at each of two hosts at once, where the count is just below the threshold. What
the machines were told must be what one host would have told them that took the batches one after the other, in an order
that agrees with the time at which each was sent and answered. So nobody is told "not enough" after the 25th commit.
"""

import itertools
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

import postgres
from kmshost.one_host import GRANTED, REQUIRED, Told, is_linearizable
from kmshost.site import HOUR, Machine, Site
from volact.kmshost.ledger import RECOUNTED
from volact.protocol.problems import Refusal, Refused


def test_the_model_finds_what_must_not_happen() -> None:
    """A lost place, a refusal after the 25th, and one count said twice; but not two calls that overlap."""
    known = frozenset(map(str, range(23)))
    one, two = Told(("a",), 0, 1, (24,)), Told(("b",), 0, 1, (GRANTED,))
    assert is_linearizable(known, [one, two])
    assert is_linearizable(known, [two, one])
    assert not is_linearizable(known, [one._replace(sent=2, answered=3), two])
    assert not is_linearizable(known, [one, two._replace(counts=(24,))])
    assert not is_linearizable(known, [one._replace(counts=(GRANTED,)), two])
    # A machine that counts already adds nothing; in one batch the second is counted with the first.
    assert is_linearizable(known | {"c"}, [Told(("c",), 0, 1, (24,)), Told(("d",), 2, 3, (GRANTED,))])
    assert is_linearizable(known, [Told(("a", "b"), 0, 1, (24, GRANTED))])


class Track:
    """Two hosts of one count, and 24 machines, the first of which count when a race begins."""

    def __init__(self, make_site: Callable[..., Site], chance: random.Random) -> None:
        one = make_site()
        self.sites = [one, make_site(beside=one)]
        self.chance = chance
        # A batch's new records are written in the order of their CMIDs.
        self.known = sorted(one.machines(REQUIRED - 1), key=lambda machine: machine.cmid)
        one.call(self.known)
        self.newest = one.count("SELECT MAX(id) FROM record")
        self.kept = one.count("SELECT MIN(id) FROM record")
        self.overlapped = self.granted = self.refused = 0

    def race(self, threads: ThreadPoolExecutor) -> None:
        """One schedule; asserts that it is linearizable."""
        counted = self.chance.randint(REQUIRED - 3, REQUIRED - 1)
        self._begin(counted)
        known = self.known[:counted]
        newcomers = (site.machine() for site in itertools.cycle(self.sites))
        plans: list[list[list[Machine]]] = []
        for _ in self.sites:
            batches = self.chance.choice([1, 1, 1, 2])
            plans.append(
                [
                    [
                        self.chance.choice(known) if self.chance.random() < 0.2 else next(newcomers)
                        for _ in range(self.chance.randint(1, 2))
                    ]
                    for _ in range(batches)
                ]
            )
        barrier = Barrier(2)
        left, right = threads.map(lambda number: self._run(number, plans[number], barrier), range(2))
        self.overlapped += left[0].sent < right[0].answered and right[0].sent < left[0].answered
        told = [count for one in (*left, *right) for count in one.counts]
        self.granted += told.count(GRANTED)
        self.refused += len(told) - told.count(GRANTED)
        history = [*left, *right]
        assert is_linearizable(frozenset(one.cmid for one in known), history), history

    def _begin(self, counted: int) -> None:
        """Only so many of the known machines count, and what a host remembers of the race before is too old."""
        site = self.sites[0]
        site.clock.pass_(RECOUNTED)
        now, lifetime = site.clock.now(), 30 * 24 * HOUR
        with site.store.writing() as tx:
            tx.exec_driver_sql(f"DELETE FROM record WHERE id > {self.newest}")
            tx.exec_driver_sql(
                f"UPDATE record SET last = {now}, expires = CASE WHEN id - {self.kept} < {counted}"
                f" THEN {now + lifetime} ELSE {now} END"
            )

    def _run(self, number: int, plan: list[list[Machine]], barrier: Barrier) -> list[Told]:
        site = self.sites[number]
        bodies = [[self._at(site, machine) for machine in batch] for batch in plan]
        found = []
        barrier.wait()
        for batch, sent in zip(plan, bodies, strict=True):
            began = time.monotonic()
            answers = _asked(site, sent)
            counts = tuple(_count_of(one) for one in answers)
            found.append(Told(tuple(one.cmid for one in batch), began, time.monotonic(), counts))
        return found

    def _at(self, site: Site, machine: Machine) -> dict[str, Any]:
        return machine.checkin(aud=site.signer.kid, nonce=site.nonce())


def _asked(site: Site, bodies: list[dict[str, Any]]) -> list[bytes | Refusal]:
    """The answers; asked again under the same ids where the store says that another process was first."""
    while True:
        try:
            return site.send(*bodies)
        except Refused as error:
            assert error.refusal.code == "busy"  # noqa: PT017 - what else may happen


def _count_of(answer: bytes | Refusal) -> int:
    if isinstance(answer, bytes):
        return GRANTED
    assert answer.code == "count-insufficient", answer
    return int(dict(answer.extra)["count"])


@pytest.fixture
def database(server: postgres.Postgres, databases: Any) -> str:
    return str(databases.postgresql(server))


@pytest.mark.parametrize("races", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_f39_nobody_is_told_not_enough_after_the_25th_commit(
    make_site: Callable[..., Site], races: int
) -> None:
    track = Track(make_site, random.Random(races))
    with ThreadPoolExecutor(2) as threads:
        for _ in range(races):
            track.race(threads)
    assert track.overlapped > races // 2, "hardly any two calls were under way at once"
    assert min(track.granted, track.refused) > races // 2
