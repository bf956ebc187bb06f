"""F6 on a host: a full disk is a clean 503 with a time, /health says it, nothing is lost, and no restart is needed."""

import json
from pathlib import Path
from typing import Any

import pytest

import disks
from authority_process import Home as Publisher
from kmshost_process import Connection, Home, Host, checkin, health, wait_until
from volact.children import free_port
from world import Machine, claims_of, new_id

pytestmark = pytest.mark.sockets

POLICY = '[policy]\nthresholds = [{ count = "machines", minimum = 1 }]\n'
WITHIN = 5
"""Seconds after which it serves again when there is space (F6)."""
MOST = 2_000
"""Check-ins after which the disk must have filled."""


@disks.BOTH
def test_a_full_disk_is_503_with_a_time_and_the_same_check_ins_are_granted_when_there_is_space(
    tmp_path: Path, disk: disks.Small
) -> None:
    publisher = Publisher(tmp_path / "publisher")
    publisher.folder.mkdir()
    publisher.set_up(POLICY)
    folder = tmp_path / "home"
    folder.mkdir()
    port = free_port()
    with disk(folder, "kmshost") as (fill, free):
        home = Home(folder, publisher, ops_listen=f"127.0.0.1:{port}")
        home.set_up()
        with Host(home) as host, host.connect() as connection:
            given = {machine: ask(connection, machine, new_id()) for machine in machines(home, 20)}
            assert [status for status, _, _ in given.values()] == [200] * 20
            wait_until(lambda: health(port)[0] == 200)
            fill(host.process.pid)
            refused = until_refused(connection, home, given)
            # It goes on to say who it is, and what is wrong.
            assert "token" in connection.introduction()
            wait_until(lambda: ask(connection, *refused)[0] == 503 and health(port)[0] == 503)
            store = health(port)[1]["checks"]["store"]
            assert not store["ok"]
            assert store["problem"].startswith("storage-unavailable")
            free(host.process.pid)
            wait_until(lambda: ask(connection, *refused)[0] == 200, WITHIN)
            wait_until(lambda: health(port)[0] == 200 and noted(home))
            for machine, (_, _, bundle) in given.items():
                lease = claims_of(bundle["token"])
                assert ask(connection, machine, lease["req"])[2] == bundle
        assert len(home.run("clients", "--limit", "100000")) == len(given) + 1
        assert home.run("status")["products"][0]["machines"] == len(given) + 1


def machines(home: Home, number: int) -> list[Machine]:
    return [Machine(home.pub) for _ in range(number)]


def ask(connection: Connection, machine: Machine, req: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and body of the answer to a check-in of that id."""
    body = checkin(machine, connection.introduction(), req=req)
    answer = connection.caller.post("/v1/leases", body)
    return answer.status, dict(answer.headers), json.loads(answer.body)


def until_refused(
    connection: Connection, home: Home, given: dict[Machine, tuple[int, dict[str, str], dict[str, Any]]]
) -> tuple[Machine, str]:
    """New machines call until one is refused, which it is cleanly; its check-in's id. The others join the `given`."""
    for _ in range(MOST):
        machine, req = Machine(home.pub), new_id()
        status, headers, body = answer = ask(connection, machine, req)
        if status != 200:
            assert (status, body["code"]) == (503, "storage-unavailable")
            assert int(headers["retry-after"]) > 0
            return machine, req
        given[machine] = answer
    raise AssertionError("the disk did not fill")


def noted(home: Home) -> bool:
    """Whether the host says in its events that it could not write."""
    return "storage-unavailable" in {
        one["result"] for one in home.run("events", "--limit", "100000") if one["event"] == 12290
    }
