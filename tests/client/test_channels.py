"""Who a KMS client is and whom it asks: hardware, clones, channels, hosts, blocks (K14, K22, M5, M9)."""

from pathlib import Path

import pytest

from client.kms_server import HOST, KmsHost
from client.machine import FOREIGN, PARTS, Machine, refused
from client.publisher import PRODUCT
from client.service import Service, made
from volact.client import contact
from volact.protocol import jws
from volact.protocol.policy import DAY, HOUR


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return made(tmp_path)


@pytest.fixture
def leased(machine: Machine) -> Machine:
    machine.client.activate()
    return machine


# Hardware (M9, K14)


def test_changed_hardware_is_out_of_tolerance_and_renews_at_once(leased: Machine) -> None:
    """Row 2: the host accepts a changed vector; a refused one changes nothing more."""
    service = Service(leased)
    leased.clock.run(DAY)
    leased.facts = leased.facts._replace(values={**PARTS, "uuid": FOREIGN["uuid"], "board": "new board"})
    assert leased.standing()[:2] == (3, "hardware-changed")
    leased.kms.too_few()
    service.tick()
    assert leased.standing()[:2] == (3, "hardware-changed")
    leased.clock.run(2 * HOUR)
    service.tick()
    assert leased.standing()[:2] == (1, "lease")
    assert leased.kms.checkins[-1]["state"] == 3
    assert leased.kms.checkins[-1]["sub"] == leased.kms.checkins[0]["sub"]


def test_an_image_on_another_machine_is_a_new_one_and_keeps_the_host(leased: Machine) -> None:
    """Row 3."""
    cmid = leased.cmid()
    leased.facts = leased.facts._replace(values=FOREIGN)
    assert leased.standing()[:2] == (0, "other-machine")
    Service(leased).tick(at_start=True)
    assert leased.standing()[:2] == (1, "lease")
    assert leased.cmid() != cmid
    assert leased.kms.checkins[-1]["prev"] is None
    assert leased.kms.checkins[-1]["state"] == 2, "as at first start"


def test_a_copy_that_is_told_so_makes_itself_a_new_identity_and_tries_at_once(leased: Machine) -> None:
    """Rows 4 and 5; the old lease is kept until the new one is stored."""
    cmid, lease = leased.cmid(), leased.record().lease
    leased.kms.refuse("identity-cloned")
    leased.kms.too_few(24)
    refused("count-insufficient", leased.client.activate)
    assert leased.cmid() != cmid
    assert leased.standing().licensed
    assert leased.record().lease == lease
    leased.client.activate()
    assert leased.record().lease != lease
    assert [checkin["sub"] == cmid for checkin in leased.kms.checkins] == [True, True, False, False]
    reqs = [checkin["req"] for checkin in leased.kms.checkins]
    assert len(set(reqs)) == 4


@pytest.mark.parametrize(("after", "believed"), [(DAY - 1, False), (DAY, True), (DAY + 1, True)])
def test_a_copy_is_believed_once_in_24_hours(leased: Machine, after: int, believed: bool) -> None:
    leased.kms.refuse("identity-cloned")
    leased.client.activate()
    cmid = leased.cmid()
    leased.clock.run(after)
    leased.kms.refuse("identity-cloned")
    if believed:
        leased.client.activate()
    else:
        refused("identity-cloned", leased.client.activate)
    assert (leased.cmid() != cmid) is believed
    assert leased.standing().licensed


# Channels (K22)


def test_a_key_over_a_lease_replaces_it_when_its_confirmation_is_stored(leased: Machine) -> None:
    leased.client.install_key(leased.publisher.key().text())
    assert leased.standing()[:2] == (1, "lease")
    leased.authority.down = True
    refused("authority-unreachable", leased.client.activate)
    assert leased.standing()[:2] == (1, "lease")
    leased.authority.down = False
    leased.client.activate()
    assert leased.standing()[:2] == (1, "activated")
    assert not leased.file("lease.json").exists()
    assert leased.record().renewal is None, "the host's intervals are no key's"
    assert len(leased.kms.checkins) == 1


def test_the_service_activates_a_key_that_was_installed_over_a_lease(leased: Machine) -> None:
    service = Service(leased)
    leased.client.install_key(leased.publisher.key().text())
    service.tick()
    assert leased.standing()[:2] == (1, "activated")


def test_a_removed_key_makes_a_kms_client_that_a_lease_licenses(machine: Machine) -> None:
    """Rule E: key removed, 0; K22: a KMS client again."""
    machine.client.install_key(machine.publisher.key().text())
    machine.client.activate()
    machine.client.remove_key()
    assert machine.standing()[:2] == (0, "key-removed")
    service = Service(machine)
    machine.kms.too_few()
    service.tick()
    assert machine.standing()[:2] == (0, "key-removed")
    machine.clock.run(2 * HOUR)
    service.tick()
    assert machine.standing()[:2] == (1, "lease")


def test_a_key_that_never_activated_goes_and_the_lease_stays(leased: Machine) -> None:
    leased.client.install_key(leased.publisher.key().text())
    leased.client.remove_key()
    assert leased.standing()[:2] == (1, "lease")
    leased.client.activate()
    assert len(leased.kms.checkins) == 2


def test_a_confirmation_without_a_key_asks_no_host(machine: Machine) -> None:
    """VAMT's: permanent, and not the host's to renew."""
    machine.client.install_key(machine.publisher.key().text())
    answer = jws.write_json(machine.authority.confirm(machine.client.question().bundle))
    machine.store.remove(machine.publisher.pub, PRODUCT, "key.pem", "key.json")
    machine.client.apply(answer)
    Service(machine).tick(at_start=True)
    assert machine.standing()[:2] == (1, "activated")
    assert machine.kms.gets == 0


def test_a_reset_begins_the_initial_grace_and_keeps_the_host(leased: Machine) -> None:
    leased.client.rearm()
    assert leased.standing()[:2] == (2, "initial-grace")
    assert not leased.file("lease.json").exists()
    leased.client.activate()
    assert leased.kms.checkins[-1]["sub"] != leased.kms.checkins[0]["sub"]


def test_an_image_holds_the_host_and_no_lease(leased: Machine) -> None:
    leased.client.generalize()
    assert not leased.file("lease.json").exists()
    Service(leased).tick(at_start=True)
    assert leased.standing()[:2] == (1, "lease")


# The host that is set


def test_another_host_is_asked_at_once_if_the_last_try_failed(machine: Machine) -> None:
    service = Service(machine)
    machine.kms.down = True
    service.tick(at_start=True)
    machine.clock.run(60)
    machine.kms.down = False
    machine.client.set_host(None, "[2001:db8::7]:1700")
    service.tick()
    assert machine.kms.calls[-1] == ("2001:db8::7", 1700)
    assert machine.standing().licensed
    planned = machine.record().next_try
    machine.client.set_host(None, ":1701")
    assert machine.record().next_try == planned, "all is well: no stampede"
    machine.client.activate()
    assert machine.kms.calls[-1] == ("2001:db8::7", 1701)


def test_a_host_that_is_cleared_is_asked_no_more_and_its_lease_stands(leased: Machine) -> None:
    leased.client.clear_host()
    Service(leased).tick(at_start=True)
    refused("host-not-found", leased.client.activate)
    assert leased.standing().licensed
    assert leased.kms.gets == 1


# Blocks and revocation (M5, PROTOCOL section 3)


@pytest.mark.parametrize(
    ("kind", "mode", "state"),
    [("host", "all", 4), ("host", "new", 1), ("machine", "all", 4), ("machine", "new", 1)],
)
def test_what_the_status_list_says_of_host_and_machine(
    leased: Machine, kind: str, mode: str, state: int
) -> None:
    identifier = leased.kms.key.kid if kind == "host" else leased.cmid()
    here = leased.client.open(leased.publisher.pub)
    contact.take_list(here, leased.publisher.status_list((kind, identifier, mode)))
    here.save()
    assert leased.standing().state == state
    code = "host-untrusted" if kind == "host" else "machine-blocked"
    refused(code, leased.client.activate)
    assert leased.standing().state == state
    assert len(leased.kms.checkins) == (1 if kind == "host" else 2)


@pytest.mark.parametrize(("mode", "state"), [("new", 1), ("all", 4)])
def test_a_revoked_issuer_takes_its_hosts_leases_by_its_mode(leased: Machine, mode: str, state: int) -> None:
    """Learned from a product's file; leases stored before stand under `new`."""
    publisher = leased.publisher
    old = publisher.issuer
    publisher.new_root(old, mode)
    publisher.new_issuer()
    leased.install(ver=2)
    assert leased.standing().state == state
    refused("host-untrusted", leased.client.activate)
    leased.kms.delegate()
    leased.client.activate()
    assert leased.standing().state == 1


def test_a_later_root_document_that_the_host_brings_is_kept(leased: Machine) -> None:
    leased.publisher.new_root(leased.publisher.status_key, "new")
    leased.publisher.new_issuer()
    leased.kms.delegate()
    leased.client.activate()
    assert len(jws.read_json(leased.file("root.json").read_bytes())["roots"]) == 1


def test_two_products_ask_with_one_identity_and_hold_a_lease_each(tmp_path: Path) -> None:
    machine = made(tmp_path)
    machine.kms.delegate((PRODUCT, "com.example.cam"))
    machine.kms.document = machine.kms.host_document()
    machine.install("com.example.cam")
    machine.client.set_host("com.example.cam", HOST)
    refused("product-ambiguous", machine.client.set_host, None, HOST)
    Service(machine).tick(at_start=True)
    assert machine.standing().licensed
    assert machine.standing("com.example.cam").licensed
    assert len({checkin["sub"] for checkin in machine.kms.checkins}) == 1
    assert isinstance(machine.kms, KmsHost)
