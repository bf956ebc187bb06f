"""The client's use cases against an authority in memory: M2, M4, M5, M7, M8, M9, and section 5's client rows."""

import os
from pathlib import Path

import pytest

from client.machine import FOREIGN, PARTS, Machine, refused
from client.publisher import EPOCH, PRODUCT, Publisher, random_id, request_of
from volact import signing
from volact.client import contact, events
from volact.protocol import ids, jws
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import (
    BrokenData,
    DocumentRefused,
    Refusal,
    UsageError,
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, Publisher())


@pytest.fixture
def keyed(machine: Machine) -> Machine:
    """Installed, with a key."""
    machine.install()
    machine.client.install_key(machine.publisher.key().text())
    return machine


def test_a_machine_is_activated_for_good(keyed: Machine) -> None:
    assert keyed.standing()[:2] == (2, "initial-grace")
    done = keyed.client.activate()
    assert done.list_failure is None
    assert keyed.standing()[:3] == (1, "activated", None)
    keyed.clock.run(3650 * DAY)
    assert keyed.standing().licensed


def test_the_derived_key_is_dropped_after_the_activation_unless_the_policy_says_otherwise(
    tmp_path: Path,
) -> None:
    forgetting = Machine(tmp_path / "a", Publisher()).activated()
    assert not forgetting.file("key.pem").exists()
    keeping = Machine(tmp_path / "b", Publisher()).activated(forget_key=False)
    assert keeping.file("key.pem").stat().st_mode & 0o777 == 0o600
    label = forgetting.store.label(forgetting.publisher.pub, PRODUCT)
    assert label
    assert label[:2] == ("mak", "M0001")


# installing


def test_a_product_is_installed_under_a_publisher_id_or_a_root_document_s_file(
    machine: Machine, tmp_path: Path
) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(jws.write_json(machine.publisher.root_1))
    done = machine.client.install(machine.publisher.product_file(), str(root))
    assert done == (machine.publisher.pub, PRODUCT, 1, False)
    assert machine.client.install(machine.publisher.product_file(), machine.publisher.pub).kept


def test_the_wrong_root_is_refused_and_nothing_is_stored(machine: Machine) -> None:
    refused("root-mismatch", machine.client.install, machine.publisher.product_file(), Publisher().pub)
    with pytest.raises(UsageError):
        machine.client.install(machine.publisher.product_file(), "no-such-file")
    assert list(machine.home.rglob("*.json")) == []


def test_a_product_of_a_newer_version_replaces_and_an_older_one_is_ignored(machine: Machine) -> None:
    machine.install(ver=2, retry=3 * HOUR)
    assert machine.client.install(machine.publisher.product_file(ver=1), machine.publisher.pub).kept
    machine.install(ver=3, retry=4 * HOUR)
    assert machine.client.open(machine.publisher.pub).product(PRODUCT).policy.retry == 4 * HOUR


@pytest.mark.parametrize("broken", ["cut", "other-signer", "policy", "no-root", "not-json"])
def test_a_broken_product_file_is_refused_and_nothing_is_stored(machine: Machine, broken: str) -> None:
    publisher = machine.publisher
    bundle = publisher.product()
    if broken == "other-signer":
        publisher.issuer = signing.generate()
        bundle = publisher.product()
    elif broken == "policy":
        bundle = publisher.product(renewal=1)
    elif broken == "no-root":
        del bundle["root"]
    data = jws.write_json(bundle)
    if broken in ("cut", "not-json"):
        data = data[:-20] if broken == "cut" else b"hello"
    with pytest.raises(DocumentRefused):
        machine.client.install(data, publisher.pub)
    assert list(machine.home.rglob("*.json")) == []


def test_installing_again_mends_a_damaged_product_file(keyed: Machine) -> None:
    for name in ("product.json", "root.json"):
        keyed.file(name).write_bytes(b"{")
    keyed.install()
    assert keyed.standing().state == 2


def test_a_clock_at_1970_does_not_use_up_the_grace_at_installation(machine: Machine) -> None:
    machine.clock.wall = 1000
    machine.install()
    assert machine.standing()[:3] == (2, "initial-grace", EPOCH + 30 * DAY)


# keys (M7, M8)


def test_a_mistyped_key_names_its_group_and_sends_nothing(machine: Machine) -> None:
    machine.install()
    text = machine.publisher.key().text()
    wrong = text[:7] + ("0" if text[7] != "0" else "1") + text[8:]
    assert dict(refused("key-mistyped", machine.client.install_key, wrong).extra) == {"groups": [2]}
    assert not machine.file("key.pem").exists()
    assert machine.authority.requests == []


def test_a_host_key_is_refused_with_the_right_place_for_it(machine: Machine) -> None:
    machine.install()
    refused("key-wrong-kind", machine.client.install_key, machine.publisher.key("kms-host").text())


def test_the_product_is_named_when_it_is_not_clear(machine: Machine) -> None:
    refused("product-not-installed", machine.client.select, None)
    machine.install()
    machine.install("com.example.cam")
    assert "com.example.cad, com.example.cam" in refused("product-ambiguous", machine.client.activate).detail
    refused("product-not-installed", machine.client.activate, "com.example.none")
    assert machine.client.select("com.example.cam")[1] == "com.example.cam"


def test_a_removed_key_leaves_the_product_unlicensed_until_another_one(machine: Machine) -> None:
    machine.activated()
    machine.client.remove_key()
    assert machine.standing()[:2] == (0, "key-removed")
    assert not machine.file("grant.json").exists()
    refused("no-key-installed", machine.client.remove_key)
    machine.client.install_key(machine.publisher.key().text())
    assert machine.standing().reason == "initial-grace"


def test_another_key_is_activated_and_the_old_activation_stands_until_then(machine: Machine) -> None:
    machine.activated()
    machine.client.install_key(machine.publisher.key(number=7).text())
    assert machine.standing().licensed
    machine.client.activate()
    assert len(machine.authority.requests) == 2
    machine.client.activate()
    assert len(machine.authority.requests) == 2, "activated already: nothing is asked"


# answers


def test_a_lost_answer_is_asked_for_again_by_the_same_bytes(keyed: Machine) -> None:
    keyed.authority.down = True
    for _ in range(2):
        refused("authority-unreachable", keyed.client.activate)
        keyed.clock.run(HOUR)
    keyed.authority.down = False
    keyed.client.activate()
    assert len(set(keyed.authority.requests)) == 1
    assert not keyed.file("pending.json").exists()


def test_a_request_under_another_key_or_of_changed_hardware_is_a_new_one(keyed: Machine) -> None:
    first = keyed.client.question().iid
    assert keyed.client.question().iid == first
    keyed.facts = keyed.facts._replace(values={**PARTS, "disk": "another disk"})
    second = keyed.client.question().iid
    keyed.client.install_key(keyed.publisher.key(number=9).text())
    assert len({first, second, keyed.client.question().iid}) == 3


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("no-activations-left", True),
        ("too-many-requests", True),
        ("key-blocked", True),
        ("activation-returned", False),
        ("machine-blocked", False),
        ("request-id-reused", False),
    ],
)
def test_a_refusal_changes_what_is_tried_next_and_no_state(keyed: Machine, code: str, kept: bool) -> None:
    before = keyed.standing()
    keyed.authority.answers = [Refusal(code, "", (("retry_after", 5 * HOUR),))]
    refused(code, keyed.client.activate)
    assert keyed.standing() == before
    assert keyed.file("pending.json").exists() is kept
    found = keyed.store.state(keyed.publisher.pub)
    assert found
    assert found[1].products[PRODUCT].next_try == EPOCH + int(5.5 * HOUR), "the middle of 5 h to 6 h"


OTHER = {
    "sub": "B" * 43,
    "key": "B" * 43,
    "req": "B" * 22,
    "fp": {"uuid": "AAAAAAAAAAA"},
    "prd": "com.example.cam",
    "lab": False,
    "pub": "B" * 43,
}


@pytest.mark.parametrize("claim", OTHER)
def test_an_answer_to_another_ask_is_refused_and_nothing_is_stored(keyed: Machine, claim: str) -> None:
    """T15: a swapped answer."""
    request = keyed.client.question().bundle
    keyed.authority.answers = [keyed.authority.confirm(request, **{claim: OTHER[claim]})]
    with pytest.raises(DocumentRefused):
        keyed.client.activate()
    assert not keyed.file("grant.json").exists()
    assert keyed.standing().state == 2
    keyed.client.activate()
    assert keyed.standing().licensed


def test_among_a_thousand_machines_answers_none_but_the_own_is_accepted(keyed: Machine) -> None:
    """T15: same key, product and hardware; the CMID and the request are others'."""
    request = keyed.client.question().bundle
    here = keyed.client.open(keyed.publisher.pub)
    for _ in range(1000):
        other = {"sub": ids.b64u(os.urandom(32)), "req": random_id()}
        keyed.authority.answers = [keyed.authority.confirm(request, **other)]
        with pytest.raises(DocumentRefused):
            contact.ask(here, keyed.authority, request, "confirmation")  # type: ignore[arg-type]  # it has the two methods
    granted = contact.ask(here, keyed.authority, request, "confirmation")  # type: ignore[arg-type]
    assert granted.document["sub"] == keyed.cmid()


def test_a_waiting_request_that_is_no_request_any_more_is_made_anew(keyed: Machine) -> None:
    first = keyed.client.question()
    keyed.file("pending.json").write_bytes(b'{"token": "x"}')
    second = keyed.client.question()
    assert second.bundle != first.bundle
    assert second.iid == first.iid, "the IID is of machine, product and key"
    assert keyed.client.activate().standing.licensed


def test_an_answer_of_another_publisher_is_refused(keyed: Machine) -> None:
    request = keyed.client.question().bundle
    keyed.authority.answers = [Publisher().confirmation(request_of(request))]
    with pytest.raises(DocumentRefused):
        keyed.client.activate()


def test_the_events_of_an_activation_are_kept_with_their_fields(keyed: Machine) -> None:
    keyed.authority.answers = [Refusal("no-activations-left"), Refusal("busy")]
    refused("no-activations-left", keyed.client.activate)
    refused("busy", keyed.client.activate)
    keyed.client.activate()
    found = events.read([str(keyed.home)])
    assert [(one["event"], one["result"]) for one in found] == [
        (12288, ""),
        (12289, "no-activations-left"),
        (12288, ""),
        (12289, "busy"),
        (12288, ""),
        (12289, "ok"),
    ]
    assert (found[1]["state"], found[1]["minutes"]) == (2, 30 * 1440)
    assert found[5] == {
        **dict.fromkeys(("required", "current")),
        "time": EPOCH,
        "event": 12289,
        "result": "ok",
        "publisher": keyed.publisher.pub,
        "product": PRODUCT,
        "cmid": keyed.cmid(),
        "host": "authority.test:443",
        "client_time": EPOCH,
        "virtual": False,
        "state": 1,
        "minutes": 0,
        "renewal": 7 * DAY,
        "retry": 2 * HOUR,
    }
    assert events.read([str(keyed.home)], since=EPOCH + 1) == []


# confirmations by file (P6, row 12)


def test_a_confirmation_by_file_answers_the_request_that_was_written(keyed: Machine) -> None:
    question = keyed.client.question()
    keyed.clock.run(20 * DAY)
    answer = jws.write_json(keyed.authority.confirm(question.bundle))
    assert keyed.client.apply(answer).standing.licensed
    assert not keyed.file("pending.json").exists()
    assert keyed.client.apply(answer).standing.licensed, "twice is as good as once"


def test_row_12_any_confirmation_fits_whose_product_and_fingerprint_agree(
    machine: Machine, tmp_path: Path
) -> None:
    machine.activated()
    rebuilt = Machine(tmp_path / "rebuilt", machine.publisher)
    rebuilt.install()
    kept = machine.file("grant.json").read_bytes()
    assert rebuilt.client.apply(kept).standing.licensed
    assert rebuilt.cmid() != machine.cmid()
    other = Machine(tmp_path / "other", machine.publisher, FOREIGN)
    other.install()
    refused("other-machine", other.client.apply, kept)
    assert other.standing().state == 2
    bare = Machine(tmp_path / "bare", machine.publisher)
    refused("product-not-installed", bare.client.apply, kept)
    bare.install("com.example.cam")
    refused("product-not-installed", bare.client.apply, kept)


def test_a_confirmation_that_fits_every_machine_fits_none(keyed: Machine) -> None:
    """An empty fingerprint gives no verdict, and by file that is not enough."""
    question = keyed.client.question()
    refused(
        "other-machine", keyed.client.apply, jws.write_json(keyed.authority.confirm(question.bundle, fp={}))
    )


@pytest.mark.parametrize("cut", [1, 200])
def test_a_confirmation_that_was_cut_short_is_refused(keyed: Machine, cut: int) -> None:
    answer = jws.write_json(keyed.authority.confirm(keyed.client.question().bundle))
    with pytest.raises(DocumentRefused):
        keyed.client.apply(answer[:-cut])


# stores


def test_an_identity_that_others_can_read_is_refused(keyed: Machine) -> None:
    keyed.file("identity.pem").chmod(0o644)
    with pytest.raises(BrokenData) as caught:
        keyed.client.activate()
    assert caught.value.refusal.code == "key-file-exposed"
    keyed.file("identity.pem").chmod(0o600)
    keyed.file("key.pem").chmod(0o640)
    with pytest.raises(BrokenData):
        keyed.client.activate()


def test_a_machine_without_an_address_of_its_authority_says_so(machine: Machine) -> None:
    machine.client.install(machine.publisher.product_file(), machine.publisher.pub)
    machine.client.install_key(machine.publisher.key().text())
    refused("authority-unreachable", machine.client.activate)


def test_no_file_but_the_private_ones_holds_anything_of_a_key(machine: Machine) -> None:
    """M8: neither the key nor a group of it but the last."""
    key = machine.publisher.key()
    machine.install()
    machine.client.install_key(key.text())
    machine.client.activate()
    groups = key.text().split("-")[:4]
    for path in machine.home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(group.encode() in data for group in [key.symbols, *groups]), path
    for request in machine.authority.requests:
        assert not any(group.encode() in request for group in groups)
