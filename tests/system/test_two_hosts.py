"""Two hosts over one PostgreSQL: one count, either can die, and so can the database (K12, K11, F28)."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import postgres
from authority_process import Home as Publisher
from kmshost_process import Connection, Home, Host, checkin
from volact.protocol.problems import Unreachable
from world import Machine, claims_of, new_id

pytestmark = pytest.mark.sockets

FAILOVER = 30
"""Seconds until a host serves again over the promoted standby (F28)."""


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    made = Publisher(tmp_path_factory.mktemp("publisher"))
    made.set_up()
    return made


def pair(folder: Path, publisher: Publisher, url: str) -> list[Home]:
    homes = [Home(folder / name, publisher, database=url) for name in ("one", "two")]
    for home in homes:
        home.set_up()
    return homes


def call(home: Home, port: int, machine: Machine, **claims: Any) -> dict[str, Any]:
    with Connection(home, port) as connection:
        return connection.check_in(machine, **claims)


def machines_counted(home: Home) -> int:
    (product,) = home.run("status")["products"]
    return int(product["machines"])


def test_13_and_12_machines_are_25_and_either_host_can_die(
    tmp_path: Path, publisher: Publisher, server: postgres.Postgres
) -> None:
    one, two = pair(tmp_path, publisher, server.url(server.new_database()))
    fleet = [Machine(publisher.pub) for _ in range(25)]
    with Host(one) as first:
        with Host(two) as second:
            answers = [call(one, first.port, machine) for machine in fleet[:13]]
            answers += [call(two, second.port, machine) for machine in fleet[13:]]
            assert [one.get("count") for one in answers[:24]] == list(range(1, 25))
            assert claims_of(answers[24]["token"])["cnt"] == 25
            assert machines_counted(one) == machines_counted(two) == 25
            # Whichever is asked: both hosts' leases are good, each in its own name.
            assert claims_of(call(one, first.port, fleet[0])["token"])["iss"] == one.host
            second.kill()
        assert claims_of(call(one, first.port, fleet[13])["token"])["cnt"] == 25
        assert machines_counted(one) == 25


class Load:
    """Machines that call one after the other, and again under the same id until they have an answer."""

    def __init__(self, home: Home, port: int) -> None:
        self.home, self.port = home, port
        self.leased: dict[str, str] = {}
        self.waits: list[float] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.stop.is_set():
            machine, req, since = Machine(self.home.pub), new_id(), time.monotonic()
            while not self.stop.is_set() and not self._asked(machine, req):
                time.sleep(0.1)
            self.waits.append(time.monotonic() - since)

    def _asked(self, machine: Machine, req: str) -> bool:
        try:
            with Connection(self.home, self.port) as connection:
                met = connection.introduction()
                if "code" in met:
                    return False
                answer = connection.caller.post("/v1/leases", checkin(machine, met, req=req)).bundle()
        except Unreachable:
            return False
        if "token" in answer:
            self.leased[machine.cmid] = claims_of(answer["token"])["jti"]
        else:
            assert answer["code"] in ("storage-unavailable", "busy", "count-insufficient"), answer
        return "token" in answer or answer["code"] == "count-insufficient"


@pytest.fixture
def primary() -> Iterator[postgres.Postgres]:
    with postgres.running() as made:
        yield made


def test_the_database_fails_over_and_no_acknowledged_lease_is_lost(
    tmp_path: Path, publisher: Publisher, primary: postgres.Postgres
) -> None:
    database = primary.new_database()
    standby = primary.synchronous_standby()
    try:
        url = f"postgresql://volact@/{database}?host={primary.folder},{standby.folder}&target_session_attrs=read-write"
        one, two = pair(tmp_path, publisher, url)
        with Host(one) as first, Host(two) as second:
            loads = [Load(one, first.port), Load(two, second.port)]
            until = time.monotonic() + 60
            while sum(len(load.leased) for load in loads) < 20 and time.monotonic() < until:
                time.sleep(0.1)
            primary.stop("immediate")
            standby.promote()
            before = [len(load.leased) for load in loads]
            until = time.monotonic() + FAILOVER
            while any(len(load.leased) < was + 20 for load, was in zip(loads, before, strict=True)):
                assert time.monotonic() < until, "a host does not serve again"
                time.sleep(0.1)
            for load in loads:
                load.stop.set()
                load.thread.join()
        rows = {row["cmid"]: row for row in one.run("clients", "--limit", "100000")}
        for load in loads:
            assert load.leased.keys() <= rows.keys(), "an acknowledged lease without its record"
        assert machines_counted(one) == len(rows)
    finally:
        standby.stop("immediate")
        primary.start()  # its own end stops it again
