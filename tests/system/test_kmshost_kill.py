"""`kill -9` of a real host under load: no acknowledged lease without its record, the count exact (F4, K11)."""

import random
import threading
from pathlib import Path
from typing import Any

import pytest

from authority_process import Forked
from authority_process import Home as Publisher
from kmshost_process import Connection, Home, checkin
from polling import until
from volact.protocol.problems import Unreachable
from world import Machine, claims_of

pytestmark = [
    pytest.mark.sockets,
    # A socket that was cut in the middle of its handshake may be collected instead of closed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

THREADS = 8
POLICY = """
[policy]
thresholds = [{count = "machines", minimum = 40}]
"""


class Load:
    """Machines that call from several connections until the host is gone."""

    def __init__(self, home: Home, port: int, machines: list[Machine]) -> None:
        self.home, self.port = home, port
        self._machines = iter(machines)
        self._lock = threading.Lock()
        self.leased: list[tuple[Machine, str, dict[str, Any]]] = []
        self.refused: set[str] = set()
        self.answered = 0
        self.unanswered: list[tuple[Machine, str]] = []
        self.threads = [threading.Thread(target=self._run) for _ in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def _run(self) -> None:
        try:
            with Connection(self.home, self.port) as connection:
                met = connection.introduction()
                while True:
                    with self._lock:
                        machine = next(self._machines, None)
                    if machine is None:
                        return
                    body = checkin(machine, met)
                    req = request_id(body)
                    with self._lock:
                        self.unanswered.append((machine, req))
                    answer = connection.caller.post("/v1/leases", body).bundle()
                    with self._lock:
                        self.unanswered.remove((machine, req))
                        self.answered += 1
                        if "token" in answer:
                            self.leased.append((machine, req, answer))
                        else:
                            self.refused.add(answer["code"])
                            assert answer["code"] == "count-insufficient", answer
        except Unreachable:
            return

    def come_to(self, many: int) -> None:
        """Wait until so many have been answered, or nobody asks any more."""
        until(lambda: self.answered >= many or not any(one.is_alive() for one in self.threads))

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


def port_of(serving: Forked) -> int:
    return int(serving.url.rpartition(":")[2])


def request_id(body: dict[str, Any]) -> str:
    return str(claims_of(body["token"])["req"])


def kill_and_compare(folder: Path, times: int) -> None:
    publisher = Publisher(folder / "publisher")
    publisher.folder.mkdir()
    publisher.set_up(POLICY)
    home = Home(folder / "host", publisher)
    home.set_up()
    chance = random.Random(times)
    fleet: list[Machine] = []
    called: set[str] = set()
    leases: dict[str, set[str]] = {}
    with Forked(home, "kmshost") as serving:
        serving.start()
        for _ in range(times):
            fresh = [Machine(publisher.pub) for _ in range(40)]
            again = chance.sample(fleet, min(40, len(fleet)))
            fleet += fresh
            load = Load(home, port_of(serving), [*fresh, *again])
            load.come_to(chance.randint(0, 50))
            serving.kill()
            load.join()
            serving.start()
            with Connection(home, port_of(serving)) as connection:
                met = connection.introduction()
                # What was acknowledged is given again, to the letter; what was not is answered now.
                for machine, req, bundle in load.leased[-20:]:
                    again_body = checkin(machine, met, req=req)
                    assert connection.caller.post("/v1/leases", again_body).bundle() == bundle
                for machine, req in load.unanswered:
                    answer = connection.caller.post("/v1/leases", checkin(machine, met, req=req)).bundle()
                    called.add(machine.cmid)
                    if "token" in answer:
                        load.leased.append((machine, req, answer))
                    else:
                        assert answer["code"] == "count-insufficient", answer
            for machine, _, bundle in load.leased:
                called.add(machine.cmid)
                leases.setdefault(machine.cmid, set()).add(connection.lease(bundle)["jti"])
    rows = {row["cmid"]: row for row in home.run("clients", "--limit", "100000")}
    assert leases
    assert leases.keys() <= rows.keys(), "an acknowledged lease without its record"
    assert called <= rows.keys()
    assert all(rows[cmid]["lease_until"] for cmid in leases)
    (product,) = home.run("status")["products"]
    assert product["machines"] == len(rows) <= len(fleet)


def test_8_kills_lose_no_acknowledged_lease_and_count_exactly(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, 8)


@pytest.mark.slow
def test_1000_kills_of_a_host(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, 1000)
