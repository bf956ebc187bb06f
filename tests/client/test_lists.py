"""The publisher's status list as a host passes it on: how a machine that calls nobody else learns of a block (M5, F41)."""

from pathlib import Path
from typing import Any

import pytest

from client.kms_server import KmsHost
from client.machine import Machine, refused
from client.service import made
from volact import signing
from volact.calls import Answer
from volact.protocol.policy import DAY
from volact.protocol.problems import Refusal, Unreachable


@pytest.fixture
def leased(tmp_path: Path) -> Machine:
    machine = made(tmp_path)
    machine.client.activate()
    return machine


def holds(host: KmsHost, *entries: tuple[str, str, str], version: int | None = None) -> None:
    """The host takes a newer list."""
    publisher = host.publisher
    host.list = publisher.status_list(*entries, version=version)
    host.pair = publisher.iat, publisher.version


def renew(machine: Machine) -> None:
    machine.clock.run(DAY)
    machine.client.activate()


def test_a_host_without_a_list_is_asked_for_none(leased: Machine) -> None:
    renew(leased)
    assert leased.kms.lists == 0


@pytest.mark.parametrize(("mode", "state"), [("all", 4), ("new", 1)])
def test_a_blocked_machine_learns_it_from_its_host(leased: Machine, mode: str, state: int) -> None:
    holds(leased.kms, ("machine", leased.cmid(), mode))
    leased.kms.refuse("machine-blocked")
    refused("machine-blocked", leased.client.activate)
    assert leased.kms.lists == 1
    assert leased.standing().state == state


def test_a_refusal_alone_changes_no_state(leased: Machine) -> None:
    """PROTOCOL section 6: only the signed list does."""
    for answer in (
        Refusal("not-found"),
        Answer(200, {}, b"no list"),
        Unreachable(Refusal("host-unreachable")),
    ):
        leased.kms.list = answer
        leased.kms.refuse("machine-blocked")
        refused("machine-blocked", leased.client.activate)
        assert leased.standing().state == 1


def test_a_newer_list_comes_with_a_lease_and_is_taken_once(leased: Machine) -> None:
    holds(leased.kms)
    renew(leased)
    renew(leased)
    assert leased.kms.lists == 1
    holds(leased.kms, ("host", "H" * 43, "all"))
    renew(leased)
    assert leased.kms.lists == 2
    assert leased.standing().state == 1


def test_a_key_that_is_another_grants_is_looked_for_in_the_same_list(leased: Machine) -> None:
    """What is of interest has changed: another host has granted."""
    holds(leased.kms)
    renew(leased)
    leased.kms.key = signing.generate()
    leased.kms.delegate()
    leased.kms.document = leased.kms.host_document()
    renew(leased)
    assert leased.kms.lists == 2
    renew(leased)
    assert leased.kms.lists == 2


def test_an_older_list_is_not_fetched_and_not_taken(leased: Machine) -> None:
    holds(leased.kms)
    holds(leased.kms, ("machine", leased.cmid(), "all"))
    renew(leased)
    assert leased.standing().state == 4
    holds(leased.kms, version=1)
    leased.clock.run(DAY)
    refused("machine-blocked", leased.client.activate)
    assert leased.kms.lists == 1
    assert leased.standing().state == 4


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {}, b"{}\n"),
        Answer(500, {}, b""),
        Refusal("not-found"),
        Unreachable(Refusal("host-unreachable")),
    ],
)
def test_without_the_list_the_lease_stands_and_it_is_asked_for_again(leased: Machine, answer: Any) -> None:
    holds(leased.kms)
    good, leased.kms.list = leased.kms.list, answer
    renew(leased)
    assert leased.standing().licensed
    leased.kms.list = good
    renew(leased)
    assert leased.kms.lists == 2


def test_an_unproved_hosts_list_is_not_asked_for(tmp_path: Path) -> None:
    machine = made(tmp_path)
    machine.kms.proofs = [Refusal("host-blocked")]
    holds(machine.kms)
    refused("host-blocked", machine.client.activate)
    assert machine.kms.lists == 0
    assert machine.kms.checkins == []
