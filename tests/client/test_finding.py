"""A client finds its KMS host by DNS: cache, fall-over, rogues, and when it tries again (D3, D4, K6, K22, T16, F21)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from client.kms_server import Connection, KmsHost
from client.machine import Machine, refused
from client.names import DOMAIN
from client.publisher import PRODUCT, Publisher
from client.service import MINUTE, Service, made
from volact.calls import Answer
from volact.client import events, reporting
from volact.client.client import Client
from volact.client.store import Settings
from volact.protocol import jws
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import BrokenData, Refusal, Unreachable

SRV = ("_volact._tcp.corp.test", "SRV")


class Network:
    """Several hosts in memory, by name; who is called at another name is not there."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(folder, Publisher())
        self.hosts: dict[str, KmsHost] = {}
        self.calls: list[str] = []
        self.given: list[Sequence[str] | None] = []
        self.machine.around = self.machine.around._replace(call_host=self.call)  # type: ignore[arg-type]
        self.machine.client = Client(self.machine.store, self.machine.around)
        self.machine.install()
        self.client, self.dns = self.machine.client, self.machine.dns

    def host(self, name: str, publisher: Publisher | None = None, **record: Any) -> KmsHost:
        """A host with its records; lower priorities come first, as a test asks for them in a row."""
        found = KmsHost(publisher or self.machine.publisher)
        found.clock = self.machine.clock.now
        self.hosts[name] = found
        self.dns.publish(name, **{"priority": len(self.hosts), **record})
        return found

    def call(self, name: str, port: int, _until: float, ips: Sequence[str] | None = None) -> Connection:
        self.calls.append(name if port == 1688 else f"{name}:{port}")
        self.given.append(ips)
        absent = KmsHost(self.machine.publisher)
        absent.down = True
        return Connection(self.hosts.get(name, absent))

    @property
    def log(self) -> list[tuple[int, str, str]]:
        """Number, result and host of every event."""
        found = events.read([str(self.machine.home)])
        return [(one["event"], one["result"], one["host"]) for one in found]


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


# Found, and remembered


def test_a_host_is_found_by_dns_and_asked_first_from_then_on(network: Network) -> None:
    network.host("kms1.corp.test", ips=["192.0.2.1", "2001:db8::1"])
    assert network.client.activate().standing.licensed
    assert network.given == [("2001:db8::1", "192.0.2.1")]
    assert network.log == [(12288, "", "kms1.corp.test:1688"), (12289, "ok", "kms1.corp.test:1688")]
    assert network.machine.record().known == ("kms1.corp.test", 1688, "192.0.2.1")
    assert network.dns.asked.count(SRV) == 1
    assert network.client.activate().standing.licensed
    assert network.dns.asked.count(SRV) == 1, "the cached host answers, so nobody asks for records"


def test_without_caching_every_try_begins_with_a_query(network: Network) -> None:
    network.host("kms1.corp.test")
    network.client.activate()
    network.client.set_caching(None, caching=False)
    network.client.activate()
    assert network.dns.asked.count(SRV) == 2
    network.dns.down = True
    refused("host-not-found", network.client.activate)
    network.client.set_caching(None, caching=True)
    network.client.activate()


def test_a_cached_host_that_fails_leads_to_a_query_in_the_same_try(network: Network) -> None:
    first = network.host("kms1.corp.test")
    network.client.activate()
    first.down = True
    second = network.host("kms2.corp.test")
    assert network.client.activate().standing.licensed
    assert network.calls == ["kms1.corp.test", "kms1.corp.test", "kms2.corp.test"], (
        "the dead one is asked once"
    )
    assert len(second.checkins) == 1
    assert network.machine.record().known == ("kms2.corp.test", 1688, "192.0.2.1")
    assert network.log[-3:] == [
        (12289, "host-unreachable", "kms1.corp.test:1688"),
        (12288, "", "kms2.corp.test:1688"),
        (12289, "ok", "kms2.corp.test:1688"),
    ]


def test_with_dns_down_the_cached_host_is_asked_at_its_address(network: Network) -> None:
    """F21."""
    network.host("kms1.corp.test").ip = "192.0.2.77"
    network.client.activate()
    network.dns.down = True
    assert network.client.activate().standing.licensed
    assert network.given[-1] == ("192.0.2.77",)


def test_a_host_that_moved_is_found_at_its_new_port(network: Network) -> None:
    """F24: it replaced its own record; the other one's stays."""
    network.host("kms1.corp.test")
    network.client.activate()
    network.dns.services_at.clear()
    network.dns.publish("kms1.corp.test", 1700)
    network.hosts["kms1.corp.test"].down = True
    refused("host-unreachable", network.client.activate)
    assert network.calls[1:] == ["kms1.corp.test", "kms1.corp.test:1700"]


def test_an_image_and_a_rearm_forget_the_host_that_answered(network: Network) -> None:
    network.host("kms1.corp.test")
    network.client.activate()
    network.client.rearm()
    assert network.machine.record().known is None


@pytest.mark.parametrize("known", [["kms1.corp.test", "1688", "192.0.2.1"], ["kms1.corp.test"], 7, "kms"])
def test_a_remembered_host_that_is_none_is_damaged_data(network: Network, known: Any) -> None:
    network.host("kms1.corp.test")
    network.client.activate()
    signer, state = network.machine.store.state(network.machine.publisher.pub) or pytest.fail("no state")
    members = json.loads(state.payload())
    members["products"][PRODUCT]["known"] = known
    bundle = {"token": signer.sign_payload("state", jws.write_json(members)), "jwk": signer.jwk.members()}
    network.machine.file("state.json").write_bytes(jws.write_json(bundle))
    with pytest.raises(BrokenData):
        network.client.activate()


# What an administrator sets


def test_a_host_set_by_hand_is_the_only_one_and_no_name_server_is_asked(network: Network) -> None:
    network.host("kms1.corp.test")
    network.client.activate()
    asked = list(network.dns.asked)
    network.client.set_host(None, "absent.corp.test")
    assert network.machine.record().known is None
    refused("host-unreachable", network.client.activate)
    assert network.calls == ["kms1.corp.test", "absent.corp.test"]
    assert (network.given[-1], network.dns.asked) == (None, asked)


def test_a_domain_set_by_hand_is_the_only_one_and_comes_before_the_cache(network: Network) -> None:
    network.host("kms1.corp.test")
    network.host("kms2.other.test", domain="other.test")
    network.client.activate()
    network.client.set_domain(None, "Other.Test.")
    network.client.activate()
    assert network.calls == ["kms1.corp.test", "kms2.other.test"]
    network.client.activate()
    assert network.dns.asked.count(("_volact._tcp.other.test", "SRV")) == 2
    network.dns.down = True
    network.client.activate()
    assert network.calls[-1] == "kms2.other.test"
    assert network.dns.asked.count(SRV) == 1


def test_clearing_forgets_host_port_and_domain(network: Network) -> None:
    network.client.set_host(None, "absent.corp.test:1700")
    network.client.set_domain(None, "other.test")
    network.client.set_caching(None, caching=False)
    assert network.client.clear_host(None)[2] == Settings(caching=False)
    network.host("kms1.corp.test")
    network.client.activate()
    assert network.calls == ["kms1.corp.test"]


def test_a_port_set_without_a_name_is_that_of_every_host(network: Network) -> None:
    """Rule S: ``/skms :PORT``; so an administrator says that no other port is ever called (T17)."""
    network.host("kms1.corp.test", port=22)
    network.client.set_host(None, ":1700")
    network.client.activate()
    assert network.calls == ["kms1.corp.test:1700"]


def test_another_label_is_asked_for_if_it_is_set(network: Network) -> None:
    network.host("kms1.corp.test", label="_vlmcs._tcp")
    refused("host-not-found", network.client.activate)
    client = Client(network.machine.store, network.machine.around._replace(label="_vlmcs._tcp"))
    assert client.activate().standing.licensed


def test_what_is_known_of_the_host_is_shown(network: Network) -> None:
    def shown() -> list[str]:
        (row,) = reporting.rows([network.machine.store], network.machine.around)
        return list(reporting.details(row))

    assert "DNS auto-discovery: KMS name not available (by hand: `slmgr /skms NAME[:PORT]`)" in shown()
    network.host("kms1.corp.test", port=1700)
    network.client.activate()
    assert "KMS machine name from DNS: kms1.corp.test:1700" in shown()
    assert "KMS machine IP address: 192.0.2.1" in shown()
    assert "KMS host caching is enabled" in shown()
    (row,) = reporting.rows([network.machine.store], network.machine.around)
    assert row.kms
    assert (row.members["host"], row.kms.set_by) == ("kms1.corp.test:1700", "dns")
    network.client.set_domain(None, "corp.test")
    network.client.set_host(None, ":1700")
    network.client.set_caching(None, caching=False)
    assert "Registered KMS SRV record lookup domain: corp.test" in shown()
    assert "Registered KMS port: 1700 (of every host from DNS)" in shown()
    assert "KMS host caching is disabled" in shown()
    network.client.set_host(None, "kms9.corp.test")
    assert "Registered KMS machine name: kms9.corp.test:1688 (set by hand)" in shown()


# Others (D4, T16, T17)


def test_five_rogues_are_passed_over_and_see_nothing_but_the_question(network: Network) -> None:
    """T16."""
    true = KmsHost(network.machine.publisher)
    stranger = network.host("rogue1.corp.test", Publisher())
    replaying = network.host("rogue2.corp.test")
    replaying.proofs, replaying.tls_key = [true.proof()], "R" * 43  # on a connection with another key
    nonsense = network.host("rogue3.corp.test")
    nonsense.proofs = [Answer(200, {}, b"<html>Welcome to the hotel</html>")]
    believed = network.host("rogue4.corp.test")
    believed.proofs = [
        Refusal("host-not-activated", "", (("retry_after", 7 * DAY), ("renewal", 900), ("retry", 900)))
    ]
    dead = network.host("rogue5.corp.test")
    dead.down = True
    network.host("kms.corp.test")
    assert network.client.activate().standing.licensed
    rogues = [stranger, replaying, nonsense, believed, dead]
    assert [len(one.checkins) for one in rogues] == [0] * 5
    assert [one.gets for one in rogues] == [1, 1, 1, 1, 0]
    assert [code for number, code, _ in network.log if number == 12289] == [
        "host-untrusted",
        "host-untrusted",
        "host-untrusted",
        "host-not-activated",
        "host-unreachable",
        "ok",
    ]
    assert len([one for one in network.log if one[0] == 12288]) == 1


def test_of_64_dead_hosts_8_are_called_and_the_try_is_over(network: Network) -> None:
    """T17."""
    for number in range(64):
        network.dns.publish(f"h{number}.corp.test")
    refused("host-unreachable", network.client.activate)
    assert len(network.calls) == len(set(network.calls)) == 8


@pytest.mark.parametrize(
    ("code", "asks_next"),
    [
        ("host-not-activated", True),
        ("product-not-served", True),
        ("host-clock-wrong", True),
        ("busy", True),
        ("storage-unavailable", True),
        ("count-insufficient", False),
        ("machine-blocked", False),
    ],
)
def test_what_concerns_a_host_alone_leads_to_the_next_one(
    network: Network, code: str, asks_next: bool
) -> None:
    """K10's codes, from a host that has proved itself."""
    first, second = network.host("kms1.corp.test"), network.host("kms2.corp.test")
    first.refuse(code)
    if asks_next:
        assert network.client.activate().standing.licensed
    else:
        refused(code, network.client.activate)
    assert (len(first.checkins), len(second.checkins)) == (1, int(asks_next))


def test_a_host_whose_delegation_does_not_name_the_product_is_not_told_of_it(network: Network) -> None:
    first, second = network.host("kms1.corp.test"), network.host("kms2.corp.test")
    first.delegate(("com.example.cam",))
    first.document = first.host_document()
    network.client.activate()
    assert (len(first.checkins), len(second.checkins)) == (0, 1)


def test_a_lost_answer_is_asked_for_by_the_same_id_elsewhere_and_a_refusal_ends_the_id(
    network: Network,
) -> None:
    first, second = network.host("kms1.corp.test"), network.host("kms2.corp.test")
    first.answers = [Unreachable(Refusal("host-unreachable", "cut"))]
    network.client.activate()
    assert first.checkins[0]["req"] == second.checkins[0]["req"]
    network.client.set_caching(None, caching=False)
    first.refuse("product-not-served")
    network.client.activate()
    assert first.checkins[1]["req"] != second.checkins[1]["req"]


def test_the_failure_that_says_most_is_told_and_every_host_has_its_event(network: Network) -> None:
    network.host("kms1.corp.test").down = True
    network.host("kms2.corp.test").refuse("product-not-served")
    network.host("kms3.corp.test", Publisher())
    refused("product-not-served", network.client.activate)
    assert network.machine.record().failed == "product-not-served"
    assert [code for number, code, _ in network.log if number == 12289] == [
        "host-unreachable",
        "product-not-served",
        "host-untrusted",
    ]


# When it tries again (K6, T21)


@pytest.mark.parametrize("order", [("busy", "product-not-served"), ("product-not-served", "busy")])
def test_no_try_comes_sooner_than_any_proved_host_asked(network: Network, order: Sequence[str]) -> None:
    network.machine.chance = 0.0
    for number, code in enumerate(order):
        network.host(f"kms{number}.corp.test").refuse(
            code, **({"retry_after": 5 * HOUR} if code == "busy" else {})
        )
    rogue = network.host("rogue.corp.test", Publisher())
    rogue.proofs = [Refusal("busy", "", (("retry_after", 7 * DAY),))]
    refused(order[0], network.client.activate)
    assert network.machine.record().next_try == network.machine.clock.wall + 5 * HOUR


def test_a_machine_keeps_its_place_in_the_spread_while_its_tries_fail(network: Network) -> None:
    """And draws a new one after a success: see `planning` on why."""
    kms = network.host("kms1.corp.test")
    kms.down = True
    waits = []
    for chance in (0.25, 0.75, 1.0, 0.0):
        network.machine.chance = chance
        refused("host-unreachable", network.client.activate)
        waits.append((network.machine.record().next_try or 0) - network.machine.clock.wall)
    assert waits == [6840] * 4
    kms.down = False
    network.client.activate()
    kms.down, network.machine.chance = True, 0.75
    refused("host-unreachable", network.client.activate)
    assert (network.machine.record().next_try or 0) - network.machine.clock.wall == 7560


def test_without_a_host_dns_is_asked_at_the_start_and_at_the_retry_interval_and_no_louder(
    tmp_path: Path,
) -> None:
    """K22: a product without a key is a KMS client, and its host is looked for."""
    machine = made(tmp_path, host=None)
    service = Service(machine)
    service.tick(at_start=True)
    assert service.reports == [f"{PRODUCT}: host-not-found"]
    for _ in range(120):
        machine.clock.run(MINUTE)
        service.tick()
    assert service.reports == [f"{PRODUCT}: host-not-found"] * 2
    assert machine.record().next_try == machine.clock.wall + 2 * HOUR
    assert machine.dns.asked == [SRV] * 2
    log = events.read([str(tmp_path)])
    assert [(one["event"], one["result"], one["host"]) for one in log] == [(12289, "host-not-found", "")] * 2
    assert (machine.kms.calls, machine.standing().state) == ([], 2)


def test_a_product_with_a_key_looks_for_no_host(tmp_path: Path) -> None:
    machine = made(tmp_path, host=None)
    machine.client.install_key(machine.publisher.key().text())
    Service(machine).tick(at_start=True)
    assert machine.dns.opened == 0


def test_a_renewal_that_became_due_while_the_machine_was_off_is_put_off_a_little(network: Network) -> None:
    """Only by a service, which stays: `run --once` and `/ato` do what is due."""
    kms = network.host("kms1.corp.test")
    network.client.activate()
    clock, service = network.machine.clock, Service(network.machine)
    clock.off(8 * DAY)
    service.tick(at_start=True, may_hold_back=True)
    clock.run(HOUR - 5)
    service.tick(may_hold_back=True)
    assert len(kms.checkins) == 1
    clock.run(5)
    service.tick(may_hold_back=True)
    assert len(kms.checkins) == 2, "the retry interval by the chance of one half"
    clock.off(8 * DAY)
    service.tick(at_start=True)
    assert len(kms.checkins) == 3
    clock.off(8 * DAY)
    service.tick(at_start=True, may_hold_back=True)
    network.client.activate()
    assert len(kms.checkins) == 4


def test_another_plan_ends_the_putting_off(network: Network) -> None:
    kms = network.host("kms1.corp.test")
    network.client.activate()
    clock, service = network.machine.clock, Service(network.machine)
    kms.down = True
    clock.run(7 * DAY)
    service.tick()
    clock.off(2 * HOUR)
    service.tick(at_start=True, may_hold_back=True)
    assert len(network.calls) == 2
    kms.down = False
    network.client.set_domain(None, DOMAIN)
    service.tick(may_hold_back=True)
    assert len(kms.checkins) == 2


def test_what_is_not_licensed_is_tried_at_the_start_at_once(network: Network) -> None:
    kms = network.host("kms1.corp.test")
    service = Service(network.machine)
    service.tick(at_start=True, may_hold_back=True)
    assert len(kms.checkins) == 1
