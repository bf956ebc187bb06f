"""A PostgreSQL that goes away under a serving host and comes back: said, borne, and over by itself (F28's small sister, T20)."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import postgres
from authority_process import Home as Publisher
from kmshost_process import Connection, Home, Host, checkin, health, wait_until
from volact.children import free_port
from world import Machine, claims_of, new_id

pytestmark = pytest.mark.sockets

POLICY = '[policy]\nthresholds = [{ count = "machines", minimum = 3 }]\n'


@pytest.fixture
def own_server() -> Iterator[postgres.Postgres]:
    with postgres.running() as made:
        yield made


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_a_database_that_is_gone_is_a_problem_with_a_time_and_costs_nothing(
    tmp_path: Path, own_server: postgres.Postgres, seconds: int
) -> None:
    publisher = Publisher(tmp_path / "publisher")
    publisher.folder.mkdir()
    publisher.set_up(POLICY)
    port = free_port()
    url = own_server.url(own_server.new_database())
    home = Home(tmp_path / "host", publisher, database=url, ops_listen=f"127.0.0.1:{port}")
    home.set_up()
    fleet = [Machine(publisher.pub) for _ in range(3)]
    with Host(home) as host, host.connect() as connection:
        last = [connection.check_in(machine) for machine in fleet][-1]
        assert claims_of(last["token"])["cnt"] == 3
        wait_until(lambda: health(port)[0] == 200)
        own_server.stop("immediate")
        newcomer, req = Machine(publisher.pub), new_id()
        until, asked = time.monotonic() + seconds, 0
        while not asked or time.monotonic() < until:
            refused(connection, newcomer, req)
            asked += 1
            time.sleep(0.2)
        status, said = health(port)
        assert (status, said["checks"]["store"]["ok"]) == (503, False)
        own_server.start()
        wait_until(lambda: "token" in connection.check_in(newcomer, req=req))
        assert "token" in connection.check_in(fleet[0])
        wait_until(lambda: health(port)[0] == 200)
        wait_until(lambda: "storage-unavailable" in results(home))
    # The count as it was, and the newcomer once, however often it asked.
    assert home.run("status")["products"][0]["machines"] == 4


def refused(connection: Connection, machine: Machine, req: str) -> None:
    """It says who it is, as always, and that it cannot decide now, and when to come again."""
    answer = connection.caller.post("/v1/leases", checkin(machine, connection.introduction(), req=req))
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"]) == (503, "storage-unavailable"), problem
    assert int(answer.headers["retry-after"]) > 0


def results(home: Home) -> set[str]:
    return {one["result"] for one in home.run("events") if one["event"] == 12290}
