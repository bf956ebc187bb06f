"""What the publisher takes back: status lists and later root documents (M5, row 14, PROTOCOL sections 3 and 7)."""

import json
from pathlib import Path

import pytest

from client.machine import Machine
from client.publisher import EPOCH, PRODUCT, Publisher, random_id
from volact.protocol import jws
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import DocumentRefused, Refused


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, Publisher()).activated()


def entry(machine: Machine, kind: str, mode: str) -> tuple[str, str, str]:
    claims = machine.grant_claims()
    return kind, {"act": claims["act"], "key": claims["key"], "machine": machine.cmid()}[kind], mode


def hear(machine: Machine, *entries: tuple[str, str, str]) -> None:
    """The machine's next contact, with a list that says this."""
    machine.authority.list = machine.publisher.status_list(*entries)
    assert machine.client.activate().list_failure is None


@pytest.mark.parametrize(("passed", "state"), [(30 * DAY - 1, 4), (30 * DAY, 5), (30 * DAY + 1, 5)])
@pytest.mark.parametrize("kind", ["act", "key", "machine"])
def test_a_block_is_learned_at_the_next_contact_and_leaves_thirty_days(
    machine: Machine, kind: str, passed: int, state: int
) -> None:
    machine.clock.run(10 * DAY)
    assert machine.standing().licensed, "never told"
    hear(machine, entry(machine, kind, "all"))
    assert machine.standing()[:3] == (4, "blocked", EPOCH + 40 * DAY)
    machine.clock.run(passed)
    machine.client.open(machine.publisher.pub).save()
    assert machine.standing().state == state


@pytest.mark.parametrize("kind", ["key", "machine"])
def test_blocking_new_activations_leaves_old_ones_alone(machine: Machine, kind: str) -> None:
    hear(machine, entry(machine, kind, "new"))
    assert machine.standing().licensed


def test_what_concerns_others_concerns_nobody_here(machine: Machine) -> None:
    hear(machine, ("act", random_id(), "all"), ("key", "B" * 43, "all"), ("machine", "C" * 43, "all"))
    assert machine.standing().licensed


def test_returned_wins_over_blocked_and_is_unlicensed(machine: Machine) -> None:
    """Row 13."""
    hear(machine, entry(machine, "act", "returned"), entry(machine, "machine", "all"))
    assert machine.standing()[:2] == (0, "activation-returned")


def test_a_block_that_is_lifted_is_forgotten(machine: Machine) -> None:
    blocked = entry(machine, "act", "all")
    hear(machine, blocked)
    machine.clock.run(DAY)
    machine.client.install_key(machine.publisher.key().text())
    machine.authority.down = True
    machine.authority.list = machine.publisher.status_list()
    machine.authority.down = False
    machine.client.activate()
    assert machine.standing().licensed


def test_an_older_list_is_ignored(machine: Machine) -> None:
    old = machine.publisher.status_list()
    hear(machine, entry(machine, "act", "all"))
    machine.authority.list = old
    here = machine.client.open(machine.publisher.pub)
    from volact.client import contact

    assert not contact.fetch_status(here, PRODUCT)
    assert machine.standing().state == 4


def test_the_list_of_a_later_status_key_is_newer_whatever_its_version(machine: Machine) -> None:
    hear(machine, entry(machine, "act", "all"))
    machine.publisher.iat += DAY
    key = machine.publisher.status_key
    machine.publisher.status_delegation = machine.publisher.delegate(key, "status", [], lmax=0)
    machine.authority.list = machine.publisher.status_list(version=1)
    from volact.client import contact

    assert contact.fetch_status(machine.client.open(machine.publisher.pub), PRODUCT)
    assert machine.standing().licensed


def test_a_list_that_was_looked_through_for_these_ids_is_not_fetched_twice(machine: Machine) -> None:
    assert machine.authority.list_headers == [{}]
    machine.client.activate()
    assert machine.authority.list_headers[1] == {"If-None-Match": f'"{EPOCH}.1"'}
    machine.client.install_key(machine.publisher.key(number=8).text())
    machine.authority.answers = []
    machine.client.activate()
    assert machine.authority.list_headers[2] == {}, "there is another key to look for"


@pytest.mark.parametrize("broken", ["body", "line", "order", "cut", "signer", "nothing"])
def test_a_list_that_does_not_hold_is_refused_and_the_activation_stands(
    machine: Machine, broken: str
) -> None:
    publisher = machine.publisher
    first, second = ("act", "A" * 22, "all"), ("key", "B" * 43, "all")
    good = publisher.status_list(first, second)
    if broken == "signer":
        publisher.status_key = publisher.issuer
        good = publisher.status_list(first, second)
    machine.authority.list = {
        "body": good.replace(b"all", b"new", 1),
        "line": good + b"x\n",
        "order": good,
        "cut": good[:-1],
        "signer": good,
        "nothing": b"",
    }[broken]
    if broken == "order":
        machine.authority.list = swapped(publisher, first, second)
    done = machine.client.activate()
    assert done.list_failure
    assert done.list_failure.code == "document-refused"
    assert machine.standing().licensed


def swapped(publisher: Publisher, *entries: tuple[str, str, str]) -> bytes:
    """A list that is signed as it is and whose lines are out of order."""
    import hashlib

    from volact.protocol import ids, status

    body = b"".join(reversed(status.lines([status.Entry(*one, EPOCH) for one in entries])))
    claims = publisher.claims(
        sub=publisher.pub, ver=9, nxt=EPOCH, dig=ids.b64u(hashlib.sha256(body).digest()), len=len(body)
    )
    token = publisher.status_key.sign("status", claims)
    return jws.write_json(publisher.bundle(token, publisher.status_delegation)) + b"\n" + body


@pytest.mark.parametrize(
    ("kind", "mode"), [("key", "new"), ("key", "all"), ("machine", "new"), ("act", "returned")]
)
def test_what_a_list_forbids_is_not_taken_up(machine: Machine, kind: str, mode: str) -> None:
    kept = machine.file("grant.json").read_bytes()
    hear(machine, entry(machine, kind, mode))
    with pytest.raises(Refused) as caught:
        machine.client.apply(kept)
    wanted = "activation-returned" if mode == "returned" else "machine-blocked"
    assert caught.value.refusal.code == wanted


@pytest.mark.parametrize("mode", ["new", "all"])
def test_a_stolen_issuer_is_revoked_by_a_later_root_document(machine: Machine, mode: str) -> None:
    """Section 3: `new` leaves what is stored, `all` is state 4 for 30 days; neither is taken up any more."""
    kept = machine.file("grant.json").read_bytes()
    machine.publisher.new_root(machine.publisher.issuer, mode)
    hear(machine)
    assert machine.standing().state == (1 if mode == "new" else 4)
    with pytest.raises(DocumentRefused):
        machine.client.apply(kept)
    machine.clock.run(30 * DAY)
    assert machine.standing().state == (1 if mode == "new" else 5)
    roots = json.loads(machine.file("root.json").read_bytes())
    assert roots["roots"] == machine.publisher.roots_later


def test_a_reissued_confirmation_licenses_again(machine: Machine) -> None:
    claims = machine.grant_claims()
    machine.publisher.new_root(machine.publisher.issuer, "all")
    hear(machine)
    machine.clock.run(HOUR)
    machine.publisher.new_issuer()
    asked = {name: claims[name] for name in ("sub", "prd", "key", "fp", "req", "act")}
    token = machine.publisher.issuer.sign("confirmation", machine.publisher.claims(**asked))
    done = machine.client.apply(jws.write_json(machine.publisher.bundle(token)))
    assert done.standing.licensed


def test_a_signed_time_in_a_list_is_learned(machine: Machine) -> None:
    machine.publisher.iat = EPOCH + 100 * DAY
    hear(machine)
    here = machine.client.open(machine.publisher.pub)
    assert here.now == EPOCH + 100 * DAY
