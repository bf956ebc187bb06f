"""The 25th place, raced for through two `kmshost serve` processes over one PostgreSQL (F39, K12).

Between two races the laboratory's clock is moved past what a host may say from memory, and the ledger is set back.
"""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest

import postgres
from authority_process import Home as Publisher
from kmshost.one_host import GRANTED, REQUIRED, Told, is_linearizable
from kmshost_process import Connection, Home, Host, checkin
from volact.kmshost.ledger import RECOUNTED
from world import Machine

pytestmark = pytest.mark.sockets


class Track:
    """Two hosts that serve, and machines that count already when a race begins."""

    def __init__(self, folder: Path, server: postgres.Postgres) -> None:
        publisher = Publisher(folder / "publisher")
        publisher.folder.mkdir()
        publisher.set_up()
        self.clock = folder / "clock"
        self.moved = 0
        self._move()
        self.database = server.new_database()
        self.server = server
        self.homes = [Home(folder / name, publisher, database=server.url(self.database)) for name in "ab"]
        for home in self.homes:
            home.environ["VOLACT_LAB_CLOCK"] = str(self.clock)
            home.set_up()
        self.pub = publisher.pub
        self.overlapped = self.refused = 0

    def _move(self) -> None:
        self.moved += RECOUNTED + 1  # whole seconds of two clocks
        aside = self.clock.with_suffix(".next")
        aside.write_text(f"+{self.moved}\n")
        aside.replace(self.clock)

    def run(self, races: int, chance: random.Random) -> None:
        known = frozenset[str]()
        with Host(self.homes[0]) as one, Host(self.homes[1]) as two, ThreadPoolExecutor(2) as threads:
            ports = one.port, two.port
            with Connection(self.homes[0], ports[0]) as connection:
                machines = [Machine(self.pub) for _ in range(REQUIRED - 1)]
                for machine in machines:
                    connection.check_in(machine)
                known = frozenset(machine.cmid for machine in machines)
            for _ in range(races):
                self._begin(known)
                barrier = Barrier(2)
                plans = [[Machine(self.pub) for _ in range(chance.randint(1, 2))] for _ in ports]
                left, right = threads.map(self._calls, range(2), ports, plans, [barrier] * 2)
                self.overlapped += left[0].sent < right[0].answered and right[0].sent < left[0].answered
                history = [*left, *right]
                self.refused += sum(one.counts != (GRANTED,) for one in history)
                assert is_linearizable(known - self.away, history), history

    def _begin(self, known: frozenset[str]) -> None:
        """One of the known machines has not called for long; it is the 24th or 25th place that is raced for."""
        self._move()
        self.away = frozenset([min(known)])
        with psycopg.connect(host=str(self.server.folder), user="volact", dbname=self.database) as connection:
            connection.execute("DELETE FROM record WHERE NOT cmid = ANY(%s)", [sorted(known)])
            connection.execute("UPDATE record SET expires = 0 WHERE cmid = ANY(%s)", [sorted(self.away)])

    def _calls(self, number: int, port: int, machines: list[Machine], barrier: Barrier) -> list[Told]:
        found = []
        with Connection(self.homes[number], port) as connection:
            bodies = [checkin(machine, connection.introduction()) for machine in machines]
            barrier.wait()
            for machine, body in zip(machines, bodies, strict=True):
                began = time.monotonic()
                answer = connection.caller.post("/v1/leases", body).bundle()
                count = GRANTED if "token" in answer else int(answer["count"])
                found.append(Told((machine.cmid,), began, time.monotonic(), (count,)))
        return found


@pytest.mark.parametrize("races", [pytest.param(500, marks=pytest.mark.slow)])
def test_f39_through_two_processes(tmp_path: Path, server: postgres.Postgres, races: int) -> None:
    track = Track(tmp_path, server)
    track.run(races, random.Random(races))
    assert track.overlapped > races // 2, "hardly any two calls were under way at once"
    assert track.refused > races // 2
