"""Section 5's rows on the client, row by row; images, copies and resets (M4, M9, rule E)."""

import json
from pathlib import Path

import pytest

from client.machine import FOREIGN, PARTS, Machine, refused
from client.publisher import EPOCH, PRODUCT, Publisher, request_of
from volact.protocol.policy import DAY
from volact.protocol.problems import Refusal


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, Publisher())


@pytest.fixture
def keyed(machine: Machine) -> Machine:
    """Installed, with a key."""
    machine.install()
    machine.client.install_key(machine.publisher.key().text())
    return machine


def test_a_container_and_a_machine_that_shows_nothing_are_not_activated(keyed: Machine) -> None:
    keyed.facts = keyed.facts._replace(container=True)
    refused("machine-is-container", keyed.client.activate)
    refused("machine-is-container", keyed.client.question)
    keyed.facts = keyed.facts._replace(container=False, values={})
    refused("machine-unidentified", keyed.client.activate)
    assert keyed.authority.requests == []


def test_row_1_the_same_machine_within_tolerance_stays_licensed(machine: Machine) -> None:
    machine.activated()
    machine.facts = machine.facts._replace(values={**PARTS, "disk": "new", "net": "00:11:22:33:44:56"})
    cmid = machine.cmid()
    machine.client.open(machine.publisher.pub).save()
    assert machine.standing().licensed
    assert machine.cmid() == cmid


CHANGED = {**PARTS, "uuid": FOREIGN["uuid"], "board": "new board"}


@pytest.mark.parametrize(("passed", "state"), [(30 * DAY - 1, 3), (30 * DAY, 5), (30 * DAY + 1, 5)])
def test_row_2_changed_hardware_keeps_its_identity_and_has_thirty_days(
    machine: Machine, passed: int, state: int
) -> None:
    machine.activated()
    cmid = machine.cmid()
    machine.facts = machine.facts._replace(values=CHANGED)
    assert machine.standing()[:3] == (3, "hardware-changed", EPOCH + 30 * DAY)
    machine.client.open(machine.publisher.pub).save()
    machine.clock.run(passed)
    machine.client.open(machine.publisher.pub).save()
    assert machine.standing().state == state
    assert machine.cmid() == cmid
    machine.client.install_key(machine.publisher.key().text())
    machine.client.activate()
    assert machine.standing().licensed
    assert machine.cmid() == cmid


def test_hardware_that_is_back_is_licensed_again(machine: Machine) -> None:
    machine.activated()
    for values, state in ((CHANGED, 3), (PARTS, 1)):
        machine.facts = machine.facts._replace(values=values)
        machine.client.open(machine.publisher.pub).save()
        assert machine.standing().state == state
    found = machine.store.state(machine.publisher.pub)
    assert found
    assert found[1].products[PRODUCT].changed is None


@pytest.mark.parametrize("activated", [True, False])
def test_row_3_a_copy_on_another_machine_is_a_machine_of_its_own(machine: Machine, activated: bool) -> None:
    """M4, M9: at start: new key, new CMID, the confirmation set aside, the states of a first start."""
    machine.install()
    machine.client.install_key(machine.publisher.key().text())
    if activated:
        machine.client.activate()
    cmid = machine.cmid()
    machine.clock.run(100 * DAY)
    machine.facts = machine.facts._replace(values=FOREIGN)
    assert machine.standing().state == (0 if activated else 5)
    machine.client.open(machine.publisher.pub).save()
    assert machine.cmid() != cmid
    assert machine.standing()[:3] == (2, "initial-grace", EPOCH + 130 * DAY)
    assert machine.file("grant.aside.json").exists() is activated
    assert not machine.file("grant.json").exists()


def test_rows_4_and_5_a_machine_that_is_told_so_makes_itself_a_new_identity_and_asks_once_more(
    keyed: Machine,
) -> None:
    cmid = keyed.cmid()
    keyed.authority.answers = [Refusal("identity-cloned")]
    keyed.client.activate()
    assert keyed.cmid() != cmid
    assert keyed.standing().licensed
    assert request_of(json.loads(keyed.authority.requests[1])).kid == keyed.cmid()


@pytest.mark.parametrize(("passed", "believed"), [(DAY - 1, False), (DAY, True), (DAY + 1, True)])
def test_that_is_believed_once_in_a_day(keyed: Machine, passed: int, believed: bool) -> None:
    keyed.authority.answers = [Refusal("identity-cloned"), Refusal("identity-cloned")]
    refused("identity-cloned", keyed.client.activate)
    cmid = keyed.cmid()
    keyed.clock.run(passed)
    keyed.authority.answers = [Refusal("identity-cloned")]
    if believed:
        keyed.client.activate()
    else:
        refused("identity-cloned", keyed.client.activate)
    assert (keyed.cmid() != cmid) is believed


def test_row_10_and_facts_that_say_nothing_stay_as_they_are(machine: Machine) -> None:
    machine.activated()
    for values in (PARTS, {**PARTS, "hv": "another host"}, {}):
        machine.facts = machine.facts._replace(values=values, virtual=True, hypervisor="kvm")
        machine.client.open(machine.publisher.pub).save()
        assert machine.standing().licensed


def test_an_ordinary_user_who_sees_less_is_only_refused_on_foreign_hardware(machine: Machine) -> None:
    machine.activated()
    machine.facts = machine.facts._replace(values={"os": PARTS["os"], "net": "00:1b:21:aa:bb:cc"})
    assert machine.standing().licensed
    machine.facts = machine.facts._replace(values={"os": "f" * 31 + "0", "cpu": PARTS["cpu"]})
    assert machine.standing()[:2] == (0, "other-machine")


def test_an_image_that_was_generalized_makes_every_copy_a_machine_with_the_image_s_key(
    machine: Machine, tmp_path: Path
) -> None:
    """M4."""
    machine.install()
    machine.client.install_key(machine.publisher.key().text())
    assert machine.client.generalize() == [(machine.publisher.pub, PRODUCT, True)]
    assert machine.standing()[:2] == (0, "not-started")
    left = {path.name for path in machine.home.rglob("*") if path.is_file() and path.name != ".lock"}
    assert left == {"root.json", "product.json", "key.pem", "key.json"}
    cmids = set()
    for number in range(3):
        copy = Machine(tmp_path / f"copy-{number}", machine.publisher)
        copy.home.mkdir()
        for path in machine.home.rglob("*"):
            to = copy.home / path.relative_to(machine.home)
            if path.is_file():
                to.parent.mkdir(parents=True, exist_ok=True)
                to.write_bytes(path.read_bytes())
                to.chmod(path.stat().st_mode)
        copy.client.activate()
        assert copy.standing().licensed
        cmids.add(copy.cmid())
    assert len(cmids) == 3


@pytest.mark.parametrize("times", [2, 3, 4])
def test_a_product_can_be_reset_three_times(machine: Machine, times: int) -> None:
    machine.activated()
    cmids = {machine.cmid()}
    for used in range(min(times, 3)):
        machine.clock.run(40 * DAY)
        assert machine.client.rearm()[2] == 2 - used
        assert machine.standing()[:2] == (2, "initial-grace")
        cmids.add(machine.cmid())
    assert len(cmids) == min(times, 3) + 1
    if times > 3:
        refused("rearms-used-up", machine.client.rearm)
