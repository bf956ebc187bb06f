"""``volact client status-list``: a machine without a network learns of blocks and returns from a medium (M5)."""

import io
from pathlib import Path
from typing import Any

import pytest

from client.commands import Terminal
from client.machine import Machine
from client.publisher import EPOCH, PRODUCT, Publisher
from volact.client import cli
from volact.client.client import Client
from volact.client.store import Store
from volact.protocol import jws
from volact.protocol.policy import DAY
from volact.protocol.problems import BrokenData, DocumentRefused, Refused

SHAPE = ["publisher", "version", "taken", "products"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, Publisher()).activated()


def granted(machine: Machine) -> dict[str, Any]:
    grant = machine.client.open(machine.publisher.pub).grant(PRODUCT)
    assert grant
    return grant.document.claims


@pytest.mark.parametrize(
    ("kind", "mode", "state", "reason"),
    [
        ("act", "all", 4, "blocked"),
        ("key", "all", 4, "blocked"),
        ("machine", "all", 4, "blocked"),
        ("act", "returned", 0, "activation-returned"),
        ("key", "new", 1, "activated"),
    ],
)
def test_what_a_list_says_is_in_force_at_once(
    machine: Machine, kind: str, mode: str, state: int, reason: str
) -> None:
    claims = granted(machine)
    named = {"act": claims["act"], "key": claims["key"], "machine": claims["sub"]}[kind]
    machine.clock.run(10 * DAY)
    machine.authority.down = True
    asked = len(machine.authority.requests), len(machine.authority.list_headers)
    done = machine.client.take_list(machine.publisher.status_list((kind, named, mode)))
    assert (done.publisher, done.taken) == (machine.publisher.pub, True)
    assert done.standings[PRODUCT][:2] == machine.standing()[:2] == (state, reason)
    if state == 4:
        assert machine.standing().end == EPOCH + 40 * DAY, "thirty days from when it was learned"
    assert asked == (len(machine.authority.requests), len(machine.authority.list_headers)), "nobody was asked"


def test_an_older_list_changes_nothing(machine: Machine) -> None:
    act = granted(machine)["act"]
    newer = machine.publisher.status_list(version=7)
    older = machine.publisher.status_list(("act", act, "all"), version=6)
    assert machine.client.take_list(newer)[1:3] == (7, True)
    assert machine.client.take_list(older)[1:3] == (6, False)
    assert machine.standing().licensed
    assert machine.client.take_list(newer)[1:3] == (7, True), "twice is once"
    machine.client.take_list(machine.publisher.status_list(("act", act, "all"), version=8))
    assert machine.standing().state == 4


def test_a_list_that_does_not_hold_changes_nothing(machine: Machine) -> None:
    claims = granted(machine)
    good = machine.publisher.status_list(("act", claims["act"], "all"))
    head, _, body = good.partition(b"\n")
    other = machine.publisher.status_list(("machine", claims["sub"], "all")).partition(b"\n")[2]
    grant = jws.write_json(machine.publisher.bundle("e30.e30.e30", machine.publisher.status_delegation))
    for data in (
        b"",
        b"\n",
        b"{}\n",
        head,
        head + b"\n",
        head + b"\n" + other,
        head + b"\n" + body + b"x",
        grant,
    ):
        with pytest.raises(DocumentRefused):
            machine.client.take_list(data)
    foreign = Publisher().status_list(("act", claims["act"], "all"))
    with pytest.raises(DocumentRefused):
        machine.client.take_list(foreign)
    assert machine.standing().licensed


def test_a_machine_with_nothing_installed_takes_none(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        Machine(tmp_path, Publisher()).client.take_list(Publisher().status_list())
    assert caught.value.refusal.code == "product-not-installed"


def test_where_only_the_systems_store_has_the_product_an_administrator_is_asked_for(
    machine: Machine, tmp_path: Path
) -> None:
    user = Client(Store(str(tmp_path / "user")), machine.around, machine.client.store)
    with pytest.raises(BrokenData) as caught:
        user.take_list(machine.publisher.status_list())
    assert caught.value.refusal.code == "not-writable"
    assert "as an administrator" in caught.value.refusal.detail


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_the_command(terminal: Terminal, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.installed()
    data = terminal.publisher.status_list(("key", "K" * 43, "all"), version=3)
    word = "-" if how == "stdin" else terminal.file("list.status", data)
    monkeypatch.setattr("sys.stdin", io.StringIO(data.decode()))
    said = terminal.client("status-list", word, "--json")
    assert said.code == 0
    assert list(said.json) == SHAPE
    assert (said.json["version"], said.json["taken"]) == (3, True)
    assert said.json["products"] == [
        {"product": PRODUCT, "state": 2, "state_name": "Initial grace", "reason": "initial-grace"}
    ]
    older = terminal.file("older", terminal.publisher.status_list(version=2))
    prose = terminal.client("status-list", older)
    assert prose.code == 0
    assert "A later status list than version 2 was taken before" in prose.out


@pytest.mark.parametrize(
    ("given", "code", "exit_code"),
    [
        (["none"], "not-readable", 4),
        ([], "usage", 2),
        (["a", "b"], "usage", 2),
        (["broken"], "document-refused", 1),
        (["longest"], "document-refused", 1),
        (["long"], "data-broken", 4),
    ],
)
def test_wrong_calls(
    terminal: Terminal, given: list[str], code: str, exit_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.installed()
    terminal.file("broken", b"no list\n")
    terminal.file("longest", b"x" * 100)
    terminal.file("long", b"x" * 101)
    monkeypatch.setattr(cli, "MAX_ANSWER", 100)
    said = terminal.client("status-list", *[str(terminal.folder / one) for one in given], "--json")
    assert (said.code, said.json["code"]) == (exit_code, code)
    assert said.json["next"]


@pytest.mark.parametrize(("length", "code"), [(100, "document-refused"), (101, "data-broken")])
def test_the_most_that_standard_input_may_hold(
    terminal: Terminal, length: int, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.installed()
    monkeypatch.setattr(cli, "MAX_ANSWER", 100)
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * length))
    assert terminal.client("status-list", "-", "--json").json["code"] == code
