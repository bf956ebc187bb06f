"""The doctor's look at a KMS host's clock, store and ledger, seen well and failing (D5, PROTOCOL section 8)."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import sqlalchemy as sa

import inprocess
import postgres
from volact.doctor import host
from volact.kmshost import schema, setup
from volact.kmshost import store as sql
from volact.kmshost.setup import Opened


class _Delegation(NamedTuple):
    """The two members of a delegation that are looked at."""

    iat: int
    exp: int

    def __getitem__(self, name: Any) -> Any:
        return getattr(self, name)


HOUR, DAY = 3600, 86400
WITNESSES = 25
PUB = "A" * 43


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    environ = {"VOLACT_HOME": str(tmp_path)}
    setup.initialise(PUB, [], environ)
    with setup.opened(environ) as found:
        yield found


def called(opened: Opened, machines: int, behind: int, event: int = 12290) -> None:
    """So many machines have called, whose clocks are so many seconds behind the host's."""
    now = opened.clock.now()
    with opened.store.writing() as tx:
        for number in range(machines):
            sql.add_event(tx, sql.Event(now, event, "ok", cmid=f"m{number}", client_time=now - behind))


@pytest.mark.parametrize(
    ("behind", "result"),
    [
        (0, "ok"), (HOUR, "ok"), (-HOUR, "ok"), (HOUR + 1, "warning"), (-HOUR - 1, "warning"),
        (DAY, "warning"), (DAY + 1, "failed"), (-DAY - 1, "failed"),
    ],
)  # fmt: skip
def test_the_median_of_25_machines_says_whether_the_clock_is_right(
    opened: Opened, behind: int, result: str
) -> None:
    called(opened, WITNESSES, behind)
    found = host._clock(opened)
    assert found.result == result
    assert bool(found.next) == (result != "ok")


@pytest.mark.parametrize(("machines", "result"), [(1, "ok"), (2, "ok"), (3, "warning"), (24, "warning")])
def test_fewer_than_25_machines_are_only_worth_a_word(opened: Opened, machines: int, result: str) -> None:
    called(opened, machines, 400 * DAY)
    called(opened, machines, 400 * DAY)  # the same machines again are no more
    called(opened, 1, 400 * DAY, event=12291)
    assert host._clock(opened).result == result
    assert ("fewer than 25 machines" in host._clock(opened).found) == (result == "ok")


@pytest.mark.parametrize(("behind", "result"), [(DAY, "ok"), (DAY + 1, "warning"), (-DAY - 1, "warning")])
def test_a_few_machines_are_believed_if_none_says_otherwise(opened: Opened, behind: int, result: str) -> None:
    called(opened, 3, behind)
    assert host._clock(opened).result == result
    called(opened, 4, behind)
    called(opened, 1, 5)
    assert host._clock(opened).result == "ok"


@pytest.mark.parametrize(("ago", "result"), [(30 * DAY - 5, "ok"), (30 * DAY + 5, "warning")])
def test_a_host_that_has_heard_of_nobody_for_a_record_s_lifetime_may_have_a_clock_that_jumped(
    opened: Opened, ago: int, result: str
) -> None:
    now = opened.clock.now()
    with opened.store.writing() as tx:
        sql.add_event(tx, sql.Event(now - ago, 12290, "ok", cmid="m", client_time=now - ago))
    found = host._clock(opened)
    assert found.result == result
    assert ("30 days ago" in found.found) == (result == "warning")
    assert ("Compare the clock" in found.next) == (result == "warning")


START = 1_800_000_000
LENGTH = 100 * DAY


@pytest.mark.parametrize(
    ("now", "heard", "result"),
    [
        (START + LENGTH, None, None),
        (START + LENGTH + 1, None, "warning"),  # over, and it has heard of nobody in all that time
        (START + LENGTH + 1, START + LENGTH - 30 * DAY, None),
        (START + LENGTH + 1, START + LENGTH - 30 * DAY - 1, "warning"),
        (START + 2 * LENGTH, START + LENGTH, None),
        (START + 2 * LENGTH + 1, START + LENGTH, "failed"),  # over for longer than it lasted
        (START + 36500 * DAY, None, "failed"),
    ],
)
def test_a_clock_beyond_the_delegation_is_compared_with_what_the_host_has_heard(
    opened: Opened, now: int, heard: int | None, result: str | None
) -> None:
    if heard is not None:
        with opened.store.writing() as tx:
            sql.add_event(tx, sql.Event(heard, 12290, "ok", cmid="m"))
    delegation = _Delegation(START, START + LENGTH)
    found = host._doubt(opened, cast("Any", delegation), now)
    assert (found[0] if found else None) == result


def test_what_a_machine_said_last_is_what_counts(opened: Opened) -> None:
    called(opened, WITNESSES, 400 * DAY)
    called(opened, WITNESSES, 5)
    assert host._clock(opened).result == "ok"


def record(opened: Opened, cmid: str, **more: object) -> dict[str, object]:
    """A machine that counts."""
    now = opened.clock.now()
    return {
        "cmid": cmid, "prd": "p", "grp": "publisher", "server": False, "first": now, "last": now,
        "expires": now + DAY, "fp": "{}", "state": 1, "minutes": 0, "virtual": False, "address": "",
        "outcome": "ok", "renewals": 0, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("records", "cap", "result"),
    [(17, 20, "ok"), (18, 20, "warning"), (19, 20, "warning"), (20, 20, "failed"), (21, 20, "failed"), (21, 0, "ok")],
)  # fmt: skip
def test_a_host_that_is_nearly_full_is_a_warning_and_a_full_one_a_failure(
    opened: Opened, records: int, cap: int, result: str
) -> None:
    """K17: from 90 percent of the cap on."""
    with opened.store.writing() as tx:
        tx.execute(sa.insert(schema.record), [record(opened, f"m{number}") for number in range(records)])
        sql.put_setting(tx, opened.signer.kid, "record_cap", str(cap))
    found = host._records(opened)
    assert (found.result, bool(found.next)) == (result, result != "ok")
    assert found.found.startswith(f"{records} records, ")


@pytest.mark.parametrize(
    ("address", "networks", "result"),
    [("10.1.2.3", "", "ok"), ("8.8.8.8", "", "warning"), ("8.8.8.8", "8.8.8.0/24", "ok"), ("", "", "ok")],
)
def test_machines_from_everywhere_are_a_warning_unless_networks_are_set(
    opened: Opened, address: str, networks: str, result: str
) -> None:
    """K17."""
    with opened.store.writing() as tx:
        if address:
            tx.execute(sa.insert(schema.record).values(record(opened, "m", address=address)))
        if networks:
            sql.put_setting(tx, opened.signer.kid, "networks", networks)
    found = host._sources(opened)
    assert (found.result, bool(found.next)) == (result, result == "warning")
    assert f"{int(address == '8.8.8.8')} from global ones" in found.found


# What keeps the store and the clock


@pytest.mark.enable_socket
@pytest.mark.parametrize("durable", [False, True])
def test_a_postgresql_that_does_not_flush_fails(
    tmp_path: Path, request: pytest.FixtureRequest, durable: bool
) -> None:
    """The tests' own server runs with fsync off; one that keeps its word does not."""
    if durable:
        with postgres.running(durable=True) as server:
            found = stored(tmp_path, server.url("postgres"))
    else:
        server = request.getfixturevalue("server")
        found = stored(tmp_path, server.url(server.new_database()))
    assert found["looked_at"]
    assert found["found"].startswith("PostgreSQL ")
    if durable:
        assert (found["result"], found["next"]) == ("ok", None)
        assert found["found"].endswith(", fsync on.")
    else:
        assert found["result"] == "failed"
        assert "a power cut loses what it has promised" in found["found"]
        assert found["next"] == "Set fsync = on in postgresql.conf."


def stored(folder: Path, url: str) -> dict[str, Any]:
    """What `volact doctor` says of the store of a host with this database."""
    environ = {"VOLACT_HOME": str(folder / "home"), "VOLACT_KMSHOST_DATABASE": url}
    assert inprocess.run("volact", "kmshost", "init", f"--root={PUB}", environ=environ).code == 0
    return checks(environ)["storage"]


def checks(environ: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What `volact doctor` says, by check; it exits 1 if one of them failed, else 0."""
    done = inprocess.run("volact", "doctor", "--json", environ=environ)
    found: dict[str, dict[str, Any]] = {one["name"]: one for one in json.loads(done.out)["checks"]}
    assert done.code == any(one["result"] == "failed" for one in found.values())
    return found


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("echo yes", "ok"),
        ("echo no", "warning"),
        ("echo 'the clock is fine'", "skipped"),
        ("echo yes; exit 1", "skipped"),
        ("exit 0", "skipped"),
        ("printf '\\377\\n'", "skipped"),
        ("exec sleep 60", "skipped"),
        (None, "skipped"),
        ("", "skipped"),
    ],
)
def test_time_synchronisation_is_what_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, result: str
) -> None:
    """The system's own program, as it is found in PATH, is asked; without its answer nothing is said."""
    monkeypatch.setattr(host, "_TIMEDATECTL_SECONDS", 0.2 if script == "exec sleep 60" else 20)
    program = tmp_path / "timedatectl"
    if script is not None:
        asked = '[ "$*" = "show --property=NTPSynchronized --value" ] || exit 9'
        program.write_text(f"#!/bin/sh\n{asked}\n{script}\n" if script else "no program")
        program.chmod(0o755)
    found = host.ntp("host", {**os.environ, "PATH": str(tmp_path)})
    assert (found.result, bool(found.next)) == (result, result == "warning")
    assert ("timedatectl set-ntp true" in found.next) == (result == "warning")


@pytest.mark.enable_socket
def test_a_clock_that_nothing_keeps_is_said_by_the_command(tmp_path: Path) -> None:
    program = tmp_path / "timedatectl"
    program.write_text("#!/bin/sh\necho no\n")
    program.chmod(0o755)
    environ = {"VOLACT_HOME": str(tmp_path / "home"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert inprocess.run("volact", "kmshost", "init", f"--root={PUB}", environ=environ).code == 0
    assert checks(environ)["time sync"]["result"] == "warning"
