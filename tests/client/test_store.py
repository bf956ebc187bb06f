"""The client's folder: whole or not at all, one writer, the right rights (DESIGN section 4, G18)."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from client.machine import FOREIGN, Machine, refused
from client.publisher import PRODUCT, Publisher
from volact.client import events
from volact.client.store import Store
from volact.protocol import jws
from volact.protocol.problems import BrokenData, Refused

STEPS = ("replace", "unlink", "mkdir", "fchmod")
"""What changes the disk. A flush changes nothing that a program which is killed leaves behind."""
KILLED = 77


def killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Do the work in a child that is killed right before its n-th change of the disk; whether it was."""
    child = os.fork()
    if child == 0:
        try:
            left = [step]

            def counting(real: Callable[..., Any]) -> Callable[..., Any]:
                def call(*arguments: Any, **named: Any) -> Any:
                    if left[0] == 0:
                        os._exit(KILLED)
                    left[0] -= 1
                    return real(*arguments, **named)

                return call

            for name in STEPS:
                setattr(os, name, counting(getattr(os, name)))
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent must see that the work failed
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), "the work failed instead of being killed"
    return code == KILLED


def at_each_step(prepare: Callable[[int], Machine], work: Callable[[Machine], Any]) -> list[Machine]:
    """Machines whose work was killed, each one step later, up to the one that finished."""
    found = []
    for step in range(200):
        machine = prepare(step)
        found.append(machine)
        if not killed_at(step, partial(work, machine)):
            return found
    pytest.fail("it never ends")


def copies(tmp_path: Path, publisher: Publisher, ready: Callable[[Machine], Any]) -> Callable[[int], Machine]:
    """Machines that start from the same files, which are made `ready` once."""
    ready(Machine(tmp_path / "first", publisher))

    def make(step: int) -> Machine:
        shutil.copytree(tmp_path / "first", tmp_path / str(step))
        return Machine(tmp_path / str(step), publisher)

    return make


def leftovers(machine: Machine) -> list[Path]:
    return [path for path in machine.home.rglob(".*") if path.name != ".lock"]


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[[int], Machine]:
    publisher = Publisher()

    def ready(machine: Machine) -> None:
        machine.install(forget_key=False)
        machine.client.install_key(publisher.key().text())

    return copies(tmp_path, publisher, ready)


def test_an_activation_that_is_killed_is_done_or_can_be_repeated(prepare: Callable[[int], Machine]) -> None:
    machines = at_each_step(prepare, lambda machine: machine.client.activate())
    assert len(machines) > 12
    assert machines[-1].standing().licensed
    for machine in machines:
        assert machine.standing().state in (1, 2)
        cmid = machine.cmid()
        assert machine.client.activate().standing.licensed
        assert machine.cmid() == cmid
        assert leftovers(machine) == []


def test_a_new_identity_that_is_killed_is_the_old_one_or_the_new_one(
    prepare: Callable[[int], Machine],
) -> None:
    before: dict[str, str] = {}

    def ready(step: int) -> Machine:
        machine = prepare(step)
        before[str(machine.home)] = machine.cmid()
        machine.facts = machine.facts._replace(values=FOREIGN)
        return machine

    def start(machine: Machine) -> None:
        with machine.store.writing():
            machine.client.open(machine.publisher.pub).save()

    machines = at_each_step(ready, start)
    assert len(machines) > 8
    seen = set()
    for machine in machines:
        machine.standing()
        seen.add(machine.cmid_as_stored() == before[str(machine.home)])
        with machine.store.writing():
            here = machine.client.open(machine.publisher.pub)
            here.save()
        assert machine.cmid() != before[str(machine.home)]
        assert machine.standing().state == 2
        assert leftovers(machine) == []
        assert not machine.file("identity.pem").with_name("identity.next.pem").exists()
    assert seen == {True, False}


def test_a_first_installation_that_is_killed_can_be_repeated(tmp_path: Path) -> None:
    publisher = Publisher()
    machines = at_each_step(
        lambda step: Machine(tmp_path / str(step), publisher), lambda machine: machine.install()
    )
    assert len(machines) > 10
    for machine in machines:
        machine.install()
        assert machine.standing().state == 2
        assert leftovers(machine) == []


@pytest.mark.parametrize("work", ["remove_key", "rearm", "generalize"])
def test_what_takes_away_and_is_killed_can_be_repeated(prepare: Callable[[int], Machine], work: str) -> None:
    machines = at_each_step(prepare, lambda machine: getattr(machine.client, work)())
    for machine in machines:
        assert machine.standing().state in (0, 2)
        if work == "remove_key" and not machine.file("key.json").exists():
            continue  # all but the last flush was done
        getattr(machine.client, work)()
        assert machine.standing().state == (2 if work == "rearm" else 0)


@pytest.mark.parametrize("by_file", [False, True])
def test_a_return_that_is_killed_is_done_or_can_be_repeated(tmp_path: Path, by_file: bool) -> None:
    """M6, F2: by file no signed return lies about while the machine runs on, and online none stops it unreceipted."""
    make = copies(tmp_path, Publisher(), Machine.activated)

    def ready(step: int) -> Machine:
        machine = make(step)
        grant = machine.client.open(machine.publisher.pub).grant(PRODUCT)
        assert grant
        machine.authority.other = {"act": grant.document["act"]}
        return machine

    def work(machine: Machine) -> object:
        return machine.client.promise() if by_file else machine.client.give_back()

    machines = at_each_step(ready, work)
    assert len(machines) > 4
    for machine in machines:
        stopped, stored = machine.standing().state == 0, machine.file("return.json")
        assert stopped or (machine.standing().licensed and not (by_file and stored.exists()))
        kept = stored.read_bytes() if stored.exists() else b""
        if not by_file and stopped and not kept:
            refused("activation-returned", work, machine)
        else:
            work(machine)
        assert machine.standing()[:2] == (0, "activation-returned")
        assert not machine.file("grant.json").exists()
        assert not kept or not by_file or stored.read_bytes() == kept
        assert not kept or by_file or machine.authority.requests == [kept]
        assert leftovers(machine) == []


@pytest.mark.parametrize("told", ["lease", "identity-cloned"])
def test_a_renewal_that_is_killed_keeps_a_lease_and_can_be_repeated(tmp_path: Path, told: str) -> None:
    """At every step of it, the old lease or the new one is in force; also where the identity changes (row 5)."""
    publisher = Publisher()

    make = copies(tmp_path, publisher, Machine.leased)

    def ready(step: int) -> Machine:
        machine = make(step)
        if told == "identity-cloned":
            machine.kms.refuse("identity-cloned")
        return machine

    machines = at_each_step(ready, lambda machine: machine.client.activate())
    assert len(machines) > 10
    for machine in machines:
        assert machine.standing().licensed
        machine.kms.answers = []
        assert machine.client.activate().standing.licensed
        assert leftovers(machine) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_full_or_failing_disk_loses_nothing(
    prepare: Callable[[int], Machine], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    machine = prepare(0)
    before = {path: path.read_bytes() for path in machine.home.rglob("*.*") if path.is_file()}

    def fail(_descriptor: int) -> None:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=os.strerror(error)):
            machine.client.activate()
    assert {path: path.read_bytes() for path in machine.home.rglob("*.*") if path.is_file()} == before
    assert machine.client.activate().standing.licensed


def test_a_second_command_is_kept_out(prepare: Callable[[int], Machine]) -> None:
    machine = prepare(0)
    with (
        machine.store.writing(),
        pytest.raises(Refused) as caught,
        Store(str(machine.home), patience=0.1).writing(),
    ):
        pass
    assert caught.value.refusal.code == "in-use"
    with machine.store.writing():
        pass


def test_a_command_waits_for_the_one_before_it(prepare: Callable[[int], Machine]) -> None:
    machine = prepare(0)
    lock = (machine.home / "client" / ".lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            lock.close()
            with Store(str(machine.home), patience=5).writing():
                code = 0
        finally:
            os._exit(code)
    lock.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_files_have_the_rights_that_they_need_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        machine = Machine(tmp_path / "deep" / "home", Publisher()).activated(forget_key=False)
        machine.client.install_key(machine.publisher.key(number=5).text())
        machine.client.question()
    finally:
        os.umask(before)
    rights = {path.name: path.stat().st_mode & 0o777 for path in machine.home.rglob("*") if path.is_file()}
    private = {"identity.pem", "key.pem", "pending.json"}
    assert {name for name, mode in rights.items() if mode == 0o600} - {".lock"} == private
    assert all(mode == 0o644 for name, mode in rights.items() if name not in private | {".lock"})
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in machine.home.rglob("*") if path.is_dir())


@pytest.mark.parametrize("name", ["key.json", "pending.json", "identity.pem", "key.pem"])
def test_a_damaged_file_is_named(prepare: Callable[[int], Machine], name: str) -> None:
    machine = prepare(0)
    machine.client.question()
    machine.file(name).write_bytes(b"{}x")
    with pytest.raises(BrokenData, match=name.replace(".", r"\.")):
        machine.client.activate()


def test_a_label_that_is_not_complete_or_newer_is_refused(prepare: Callable[[int], Machine]) -> None:
    machine = prepare(0)
    for members, code in (({"v": 1, "kind": "mak"}, "data-broken"), ({"v": 2}, "store-newer")):
        machine.file("key.json").write_bytes(jws.write_json(members))
        with pytest.raises(BrokenData) as caught:
            machine.store.label(machine.publisher.pub, PRODUCT)
        assert caught.value.refusal.code == code


def test_a_state_of_another_identity_is_refused(prepare: Callable[[int], Machine], tmp_path: Path) -> None:
    machine = prepare(0)
    other = Machine(tmp_path / "other", machine.publisher)
    other.install()
    machine.file("state.json").write_bytes(other.file("state.json").read_bytes())
    with pytest.raises(BrokenData, match="not signed by this machine's identity"):
        machine.client.activate()


def event(number: int) -> events.Event:
    return events.Event(
        number, 12288, "", "p" * 43, PRODUCT, "c" * 43, "h:1", None, None, 0, False, 2, 0, 1, 1
    )


def test_the_event_log_is_bounded_and_loses_its_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MOST_BYTES", 3000)
    (tmp_path / "client").mkdir()
    for number in range(40):
        events.append(str(tmp_path), event(number))
        assert (tmp_path / "client" / events.FILE).stat().st_size <= 3000
    found = [one["time"] for one in events.read([str(tmp_path)])]
    assert found[-1] == 39
    assert 3 < len(found) < 12
    assert found == list(range(found[0], 40))


def test_a_log_keeps_its_order_when_time_steps_back(tmp_path: Path) -> None:
    """A signed time that came with an answer may lie a second before the question."""
    (tmp_path / "client").mkdir()
    for number in (5, 4, 6, 3):
        events.append(str(tmp_path), event(number))
    assert [one["time"] for one in events.read([str(tmp_path)])] == [5, 4, 6, 3]
    assert [one["time"] for one in events.read([str(tmp_path)], since=4)] == [5, 4, 6]


def test_the_logs_of_two_homes_are_merged_by_time(tmp_path: Path) -> None:
    homes = {"one": (1, 3, 5, 4), "two": (2, 3, 6)}
    for name, numbers in homes.items():
        (tmp_path / name / "client").mkdir(parents=True)
        for number in numbers:
            events.append(str(tmp_path / name), event(number)._replace(product=name))
    found = events.read([str(tmp_path / name) for name in homes])
    assert [one["time"] for one in found] == [1, 2, 3, 3, 5, 4, 6]
    assert [one["product"] for one in found if one["time"] == 3] == ["one", "two"]


def test_damaged_lines_of_the_event_log_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    events.append(str(tmp_path), event(1))
    path = tmp_path / "client" / events.FILE
    path.write_bytes(path.read_bytes() + b'{"time"\n7\n{"other": 1}\n')
    assert [one["time"] for one in events.read([str(tmp_path)])] == [1]


@pytest.mark.parametrize("code", ["evil\n\x1b[31m", "unheard-of", "ok", "key-blocked"])
def test_only_known_codes_are_logged(code: str) -> None:
    """T36: what a server wrote does not get into the log."""
    assert events.known(code) == (code if code in ("ok", "key-blocked") else "other")


# What is set by hand for a KMS client


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"v": 1, "name": 7}, "data-broken"),
        ({"v": 1, "name": "kms", "port": "1688"}, "data-broken"),
        ({"v": 1, "name": "kms", "port": 1688888}, "data-broken"),
        ({"v": 1, "name": "kms", "port": 0}, "data-broken"),
        ({"v": 1, "renewal": True}, "data-broken"),
        ({"name": "kms"}, "data-broken"),
        ({"v": 99, "name": "kms"}, "store-newer"),
    ],
)
def test_settings_that_are_damaged_or_newer_are_named(
    tmp_path: Path, members: dict[str, object], code: str
) -> None:
    machine = Machine(tmp_path, Publisher())
    machine.install()
    machine.file("kms.json").write_bytes(jws.write_json(members))
    with pytest.raises(BrokenData) as caught:
        machine.client.activate()
    assert caught.value.refusal.code == code


def test_settings_that_are_no_json_are_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Publisher())
    machine.install()
    machine.file("kms.json").write_bytes(b"{")
    with pytest.raises(BrokenData) as caught:
        machine.client.set_host(None, "kms")
    assert "kms.json" in caught.value.refusal.detail


def test_settings_and_lease_can_be_read_by_everybody(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Publisher()).leased()
    for name in ("kms.json", "lease.json"):
        assert machine.file(name).stat().st_mode & 0o777 == 0o644
