"""Connections to PostgreSQL that are dropped at any moment, COMMIT included: no lease twice, none without a row (F29)."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

import postgres
from kmshost.site import Site
from volact.kmshost.store import Store
from volact.protocol.problems import BrokenData, Refused
from world import new_id

FIRST = 5
"""Calls that are made undisturbed, and timed."""
AWAY = ("storage-unavailable", "busy")


@contextmanager
def dropping(server: postgres.Postgres, seed: int, longest: float) -> Iterator[list[int]]:
    """Every so often, after `longest` seconds at most, all other connections are cut; the count of those that were."""
    chance, stop, cut = random.Random(seed), threading.Event(), [0]

    def run() -> None:
        with psycopg.connect(
            host=str(server.folder), user="volact", dbname="postgres", autocommit=True
        ) as connection:
            while not stop.wait(chance.uniform(0, longest)):
                cut[0] += connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                ).rowcount

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield cut
    finally:
        stop.set()
        thread.join()


def asked_until_answered(site: Site, body: dict[str, Any]) -> tuple[Any, int]:
    """What a client gets that asks again under the same `req` until it has an answer, and how often it had to."""
    for tries in range(1000):
        try:
            return site.send(body)[0], tries
        except (BrokenData, Refused) as error:
            assert error.refusal.code in AWAY, error  # noqa: PT017 - what else may happen
    raise AssertionError("never answered")


def drop(server: postgres.Postgres, databases: Any, calls: int, least: int) -> None:
    site = Site(databases.postgresql(server), thresholds=[{"count": "machines", "minimum": 1}])
    machines = site.machines(20)
    given: dict[tuple[str, str], Any] = {}

    def call(number: int) -> bool:
        """Whether it had to be repeated."""
        machine, req = machines[number % len(machines)], new_id()
        given[machine.cmid, req], tries = asked_until_answered(site, machine.checkin(req=req))
        return tries > 0

    # However slow this machine is now, about every second call gets through.
    began = time.monotonic()
    for number in range(FIRST):
        site.store.engine.dispose()
        call(number)
    with dropping(server, calls, 2 * (time.monotonic() - began) / FIRST) as cut:
        repeated = sum(call(number) for number in range(FIRST, calls))
    assert cut[0] > least
    assert repeated > least // 10, "hardly any call was cut"
    # Every answer is a lease, no two are one, and each machine's last one is on record, once.
    leases = {place: site.verified(answer) for place, answer in given.items()}
    assert len({lease["jti"] for lease in leases.values()}) == calls
    last = {cmid: lease["jti"] for (cmid, _), lease in leases.items()}
    assert {row.cmid: row.lease for row in site.rows("record")} == last
    assert {row.renewals + 1 for row in site.rows("record")} == {calls // len(machines)}
    assert site.counts() == (len(machines), 0)
    site.close()


def test_a_hundred_calls_over_dropped_connections(server: postgres.Postgres, databases: Any) -> None:
    drop(server, databases, 100, 10)


@pytest.mark.slow
def test_10000_dropped_connections(server: postgres.Postgres, databases: Any) -> None:
    drop(server, databases, 20_000, 10_000)


def test_a_commit_whose_answer_is_lost_is_given_again(
    server: postgres.Postgres, databases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very moment: the transaction is on disk, and the host does not know it."""
    site = Site(databases.postgresql(server), thresholds=[{"count": "machines", "minimum": 1}])
    body = site.machine().checkin()
    real = Store.writing

    @contextmanager
    def writing(self: Store) -> Iterator[Any]:
        with real(self) as tx:
            yield tx
        raise BrokenData("the connection was cut", "storage-unavailable")

    monkeypatch.setattr(Store, "writing", writing)
    with pytest.raises(BrokenData):
        site.send(body)
    monkeypatch.undo()
    (before,) = site.rows("record")
    lease = site.verified(site.send(body)[0])  # type: ignore[arg-type]
    assert lease["jti"] == before.lease
    assert [row.renewals for row in site.rows("record")] == [0]
    site.close()
