"""Returns whose answer does not come, or comes too late: the service, M2's same activation, old confirmations (M6)."""

from pathlib import Path
from typing import Any

import pytest

from client.machine import Machine, refused
from client.publisher import PRODUCT, Publisher, request_of
from client.service import Service
from volact.calls import Answer
from volact.client import folder, state
from volact.client.client import Client
from volact.client.store import Store
from volact.protocol import jws, trust
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import Refusal, Unreachable

BACK = (0, "activation-returned", None)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, Publisher()).activated()


def lost(machine: Machine) -> bytes:
    """Return online; the receipt is lost. The bytes that were sent."""
    machine.authority.answers = [Unreachable(Refusal("authority-unreachable"))]
    refused("authority-unreachable", machine.client.give_back)
    return machine.authority.requests[-1]


class Cut(Exception):
    """The power goes."""


def cut(*_: Any) -> None:
    raise Cut


def standing_after(machine: Machine) -> tuple[Any, ...]:
    return tuple(machine.standing()[:3])


# --- the service ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forget_key", [False, True])
def test_the_service_sends_the_same_return_at_the_retry_interval_until_its_receipt(
    tmp_path: Path, forget_key: bool
) -> None:
    """F2, M1: else two machines were licensed on one seat until a person came."""
    machine = Machine(tmp_path, Publisher()).activated(forget_key=forget_key)
    service, first = Service(machine), lost(machine)
    asked = service.asked
    machine.authority.down = True
    for passed, more in ((0, 0), (2 * HOUR - 1, 0), (1, 1), (2 * HOUR - 1, 1), (1, 2)):
        machine.clock.run(passed)
        service.tick()
        assert service.asked == asked + more
        assert machine.standing().licensed
    machine.authority.down = False
    machine.clock.run(2 * HOUR)
    service.tick()
    assert standing_after(machine) == BACK
    assert set(machine.authority.requests[asked - 1 :]) == {first}
    assert not machine.file("return.json").exists()
    machine.clock.run(30 * DAY)
    service.tick(at_start=True)
    assert service.asked == asked + 3
    assert service.reports == [f"{PRODUCT}: authority-unreachable"] * 2


def test_a_start_sends_it_at_once(machine: Machine) -> None:
    lost(machine)
    machine.client = Client(Store(str(machine.home)), machine.around)
    Service(machine).tick(at_start=True)
    assert standing_after(machine) == BACK


def test_one_that_was_never_sent_is_sent(machine: Machine) -> None:
    """The power went between the two steps."""
    machine.authority.answers = [Cut()]
    with pytest.raises(Cut):
        machine.client.give_back()
    Service(machine).tick()
    assert standing_after(machine) == BACK


def test_a_server_that_asks_for_a_longer_wait_gets_it(machine: Machine) -> None:
    machine.authority.answers = [Refusal("too-many-requests", "", (("retry_after", 5 * HOUR),))]
    refused("too-many-requests", machine.client.give_back)
    service = Service(machine)
    asked = service.asked
    machine.clock.run(5 * HOUR - 1)
    service.tick()
    assert service.asked == asked
    machine.clock.run(2 * HOUR)
    service.tick()
    assert standing_after(machine) == BACK


@pytest.mark.parametrize("code", ["returned-too-soon", "confirmation-superseded", "machine-blocked"])
def test_a_final_refusal_ends_it_and_the_machine_goes_on(machine: Machine, code: str) -> None:
    lost(machine)
    machine.authority.answers = [Refusal(code)]
    service = Service(machine)
    for _ in range(3):
        machine.clock.run(2 * HOUR)
        service.tick()
    assert service.reports == [f"{PRODUCT}: {code}"]
    assert machine.standing().licensed
    assert machine.record().next_try is None
    assert not machine.file("return.json").exists()


def test_one_that_had_arrived_is_learned_from_the_list_though_that_is_late(machine: Machine) -> None:
    act = request_act(machine)
    lost(machine)
    machine.authority.list = machine.publisher.status_list(("act", act, "returned"))
    service = Service(machine)
    machine.authority.answers = [Refusal("activation-returned")] * 2
    failing = machine.authority.get
    machine.authority.get = unreachable  # type: ignore[method-assign, assignment]
    machine.clock.run(2 * HOUR)
    service.tick()
    assert machine.standing().licensed
    machine.authority.get = failing  # type: ignore[method-assign]
    machine.clock.run(2 * HOUR)
    service.tick()
    assert standing_after(machine) == BACK
    machine.clock.run(2 * HOUR)
    service.tick()
    assert service.reports == [f"{PRODUCT}: activation-returned"] * 2


def unreachable(*_: Any) -> Answer:
    raise Unreachable(Refusal("authority-unreachable"))


def request_act(machine: Machine) -> str:
    grant = machine.client.open(machine.publisher.pub).grant(PRODUCT)
    assert grant
    return str(grant.document["act"])


def test_a_promise_travels_on_its_medium_alone(machine: Machine) -> None:
    machine.client.promise()
    service = Service(machine)
    asked = service.asked
    for at_start in (True, False):
        machine.clock.run(DAY)
        service.tick(at_start=at_start)
    assert service.asked == asked
    machine.authority.answers = [Refusal("returns-used-up")]
    refused("returns-used-up", machine.client.give_back)
    machine.clock.run(DAY)
    service.tick()
    assert service.asked == asked + 1


def test_a_crash_after_the_receipt_is_mended_by_the_service(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(machine.store, "remove", cut)
        with pytest.raises(Cut):
            machine.client.give_back()
    service = Service(machine)
    service.tick()
    assert standing_after(machine) == BACK
    assert not machine.file("grant.json").exists()
    assert not machine.file("return.json").exists()


def test_a_damaged_return_holds_nothing_else_up(machine: Machine) -> None:
    machine.file("return.json").write_bytes(b"{")
    machine.client.install_key(machine.publisher.key(number=2).text())
    service = Service(machine)
    service.tick(at_start=True)
    assert service.reports == []
    assert machine.client.activate().standing.licensed


# --- a confirmation that never came here --------------------------------------------------------------------------


def test_who_is_told_that_its_confirmation_is_not_the_newest_asks_anew_and_returns(machine: Machine) -> None:
    """The same activation, which is not counted: its newest confirmation may have been lost on a medium."""
    act = request_act(machine)
    machine.authority.answers = [Refusal("confirmation-superseded")]
    refused("confirmation-superseded", machine.client.give_back)
    refused("no-key-installed", machine.client.activate)
    assert machine.standing().licensed
    machine.client.install_key(machine.publisher.key().text())
    machine.authority.answers = [Refusal("busy")]
    refused("busy", machine.client.activate)
    assert machine.standing().licensed, "rule E"
    machine.authority.other = {"act": act}
    machine.clock.run(1)
    machine.publisher.iat += 1
    assert machine.client.activate().standing.licensed
    machine.authority.other = {}
    asked = len(machine.authority.requests)
    machine.client.install_key(machine.publisher.key().text())
    newest = machine.client.open(machine.publisher.pub).grant(PRODUCT)
    machine.client.give_back()
    (sent,) = machine.authority.requests[asked:]
    assert newest
    assert request_of(trust.read_bundle(sent))["ref"] == newest.document.jti
    assert standing_after(machine) == BACK


def test_a_newest_confirmation_that_waits_on_a_medium_is_had_by_the_same_request(machine: Machine) -> None:
    machine.client.install_key(machine.publisher.key().text())
    question = machine.client.question().bundle
    machine.authority.answers = [Refusal("confirmation-superseded")]
    refused("confirmation-superseded", machine.client.give_back)
    machine.client.activate()
    assert trust.read_bundle(machine.authority.requests[-1]) == question


def test_what_stands_and_was_not_superseded_is_not_asked_for_anew(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Publisher()).activated(forget_key=False)
    asked = len(machine.authority.requests)
    machine.client.activate()
    assert len(machine.authority.requests) == asked
    machine.authority.answers = [Refusal("confirmation-superseded")]
    refused("confirmation-superseded", machine.client.give_back)
    Service(machine).tick()
    assert len(machine.authority.requests) == asked + 1, "the service does nothing of itself"
    for _ in range(2):
        machine.client.activate()
    assert len(machine.authority.requests) == asked + 2


# --- what was given back before ----------------------------------------------------------------------------------


def again(machine: Machine) -> bytes:
    """A year later: activated again, under another activation. The confirmation."""
    machine.publisher.iat += 100 * DAY
    machine.clock.run(100 * DAY)
    machine.client.install_key(machine.publisher.key().text())
    machine.client.activate()
    return machine.file("grant.json").read_bytes()


def test_no_confirmation_of_an_earlier_return_comes_back_into_force(machine: Machine) -> None:
    kept = [machine.file("grant.json").read_bytes()]
    for give_back in (machine.client.give_back, machine.client.promise, machine.client.give_back):
        give_back()
        machine.client.rearm()
        for one in kept:
            refused("activation-returned", machine.client.apply, one)
        kept.append(again(machine))
        for one in kept[:-1]:
            refused("activation-returned", machine.client.apply, one)
    assert machine.standing().licensed
    machine.client.apply(kept[-1])


@pytest.mark.parametrize("later", [0, 1])
def test_another_confirmation_of_the_same_second_went_with_it(machine: Machine, later: int) -> None:
    """The authority takes a return that names any of that second; one of a later second makes a promise void."""
    act, request = request_act(machine), request_of(trust.read_bundle(machine.authority.requests[-1]))
    machine.publisher.iat += later
    other = jws.write_json(machine.publisher.confirmation(request, act=act))
    machine.client.promise()
    if later:
        assert machine.client.apply(other).standing.licensed
    else:
        refused("activation-returned", machine.client.apply, other)
        assert standing_after(machine) == BACK


def test_so_many_returns_are_remembered(machine: Machine) -> None:
    record = machine.record()
    for number in range(18):
        record = record.with_return(f"act-{number}", "c", number)
    record = record.with_return("act-5", "newer", 99)
    assert [one[0] for one in record.returned] == [
        *(f"act-{n}" for n in (2, 3, 4)),
        *(f"act-{n}" for n in range(6, 18)),
        "act-5",
    ]
    assert record.returned[-1] == ("act-5", "newer", 99)
    assert len(record.returned) == 16


@pytest.mark.parametrize("before", [None, ["a" * 22, "c" * 22, 7]])
def test_a_state_of_the_version_before_is_read(machine: Machine, before: list[Any] | None) -> None:
    found = machine.store.state(machine.publisher.pub)
    assert found
    signer, present = found
    members = jws.read_json(present.payload())
    members["v"] = 4
    del members["products"][PRODUCT]["superseded"]
    members["products"][PRODUCT]["returned"] = before
    bundle = {"token": signer.sign_payload(state.NAME, jws.write_json(members)), "jwk": signer.jwk.members()}
    read = state.read(bundle, "state.json")
    assert read.products[PRODUCT].returned == (() if before is None else (tuple(before),))
    assert folder.state(str(machine.home), machine.publisher.pub) == present
