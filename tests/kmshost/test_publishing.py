"""Publishing against real BIND and real Knot: what, when, and whose records (D1, D2, T18, F24)."""

import random
from collections.abc import Callable
from typing import Any

import dns.resolver
import pytest

import nameservers
from kmshost.publishing_host import DAY, FOREIGN, HOUR, KEYS, OWN, SRV, VETERAN, ZONE, Host
from nameservers import Key, Knot, Named, NameServer, Scripted
from programs import LOOPBACK
from volact.kmshost import nameserver, publishing
from volact.kmshost.dnsrecords import Whereabouts
from volact.kmshost.nameserver import Deadline, Server
from volact.kmshost.publishing import Publisher

pytestmark = pytest.mark.sockets
BOTH = pytest.mark.parametrize("brand", [Named, Knot], ids=["bind", "knot"])


# --- publishing and withdrawing -------------------------------------------------------------------------------------


def test_d1_srv_and_addresses_are_published_and_withdrawn_and_another_hosts_record_stays(
    dns_server: NameServer, make_host: Callable[..., Host]
) -> None:
    host = make_host(addresses=("192.0.2.1", "2001:db8::1"))
    host.set(dns_server, dns_domains=f"{ZONE} 10 60, other.test")
    host.look()
    assert dns_server.query(SRV, "SRV") == [f"10 60 1688 host1.{ZONE}.", VETERAN]
    assert dns_server.query(f"host1.{ZONE}", "A") == ["192.0.2.1"]
    assert dns_server.query(f"host1.{ZONE}", "AAAA") == ["2001:db8::1"]
    assert dns_server.query("_volact._tcp.other.test", "SRV") == [f"0 100 1688 host1.{ZONE}."]
    assert host.events() == [(12294, "ok", ZONE), (12294, "ok", "other.test")]
    results = publishing.results(host.folder)
    assert [(one.domain, one.code, one.time) for one in results] == [
        (ZONE, "ok", host.now),
        ("other.test", "ok", host.now),
    ]
    assert {one.code for one in host.withdraw()} == {"withdrawn"}
    assert dns_server.query(SRV, "SRV") == [VETERAN]
    assert dns_server.query(f"host1.{ZONE}", "A") == dns_server.query(f"host1.{ZONE}", "AAAA") == []
    assert dns_server.query("_volact._tcp.other.test", "SRV") == []
    assert host.own() == []


def test_d2_two_hosts_share_a_set_and_each_touches_its_own_record_only(
    dns_server: NameServer, make_host: Callable[..., Host]
) -> None:
    one, two = make_host(), make_host("host2", addresses=("192.0.2.2",))
    for host in (one, two):
        host.set(dns_server)
        host.look()
    assert dns_server.query(SRV, "SRV") == [f"0 100 1688 host1.{ZONE}.", f"0 100 1688 host2.{ZONE}.", VETERAN]
    one.look(port=2000)
    assert dns_server.query(SRV, "SRV") == [f"0 100 1688 host2.{ZONE}.", f"0 100 2000 host1.{ZONE}.", VETERAN]
    two.withdraw()
    assert dns_server.query(SRV, "SRV") == [f"0 100 2000 host1.{ZONE}.", VETERAN]
    assert dns_server.query(f"host1.{ZONE}", "A") == ["192.0.2.1"]
    assert dns_server.query(f"host2.{ZONE}", "A") == []


def test_f24_a_host_that_died_and_comes_back_on_another_port_and_address_replaces_its_own_record(
    dns_server: NameServer, make_host: Callable[..., Host]
) -> None:
    host = make_host()
    host.set(dns_server)
    host.look()
    host.born()  # nothing was withdrawn
    host.here = Whereabouts(f"host1.{ZONE}", ("192.0.2.77",))
    host.look(port=1700)
    assert dns_server.query(SRV, "SRV") == [f"0 100 1700 host1.{ZONE}.", VETERAN]
    assert dns_server.query(f"host1.{ZONE}", "A") == ["192.0.2.77"]


@pytest.mark.parametrize("before", [None, 1600])
def test_f24_a_host_that_died_right_after_an_update_still_knows_its_records(
    bind: NameServer, make_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, before: int | None
) -> None:
    """Before it has read back what is served: the one that it had, and the one that it has sent."""
    host = make_host()
    host.set(bind)
    if before:
        host.look(before)

    def die(*_: object) -> bool:
        raise KeyboardInterrupt

    for lost in (False, True):  # whether the update got there
        with monkeypatch.context() as patched:
            patched.setattr(nameserver if lost else Publisher, "send" if lost else "_served", die)
            with pytest.raises(KeyboardInterrupt):
                host.publish(port=1801 if lost else 1800)
        host.born()
    assert bind.query(SRV, "SRV") == [f"0 100 1800 host1.{ZONE}.", VETERAN]
    assert [one.port for one in host.own()] == [1801, 1800, *([before] if before else [])]
    host.look()
    assert bind.query(SRV, "SRV") == [OWN, VETERAN]
    assert [one.port for one in host.own()] == [1688]
    host.withdraw()
    assert bind.query(SRV, "SRV") == [VETERAN]
    assert host.own() == []


def test_what_cannot_be_taken_back_under_another_name_is_remembered_and_said(
    bind: NameServer, make_host: Callable[..., Host]
) -> None:
    host = make_host()
    host.set(bind)
    host.look()
    host.write_key(KEYS[1].text())  # it may not take back host1's address
    host.set(dns_name="host2", dns_addresses="192.0.2.2")
    result = host.publish()
    assert (result.code, result.detail) == ("ok", f"What was published before stays: {SRV} {OWN}")
    assert [one.target for one in host.own()] == [f"host2.{ZONE}", f"host1.{ZONE}"]
    assert [one.code for one in host.withdraw()] == ["dns-refused"]
    assert bind.query(SRV, "SRV") == [OWN, VETERAN]
    host.write_key(KEYS[0].text())
    assert [one.code for one in host.withdraw()] == ["withdrawn"]
    assert bind.query(SRV, "SRV") == [VETERAN]
    assert host.own() == []


def test_what_is_published_under_another_name_or_label_or_in_a_domain_no_longer_wanted_is_withdrawn(
    make_host: Callable[..., Host],
) -> None:
    key = Key(
        "host1", [(SRV, "SRV"), (f"host1.{ZONE}", "A"), (f"new.{ZONE}", "A"), (f"_vlmcs._tcp.{ZONE}", "SRV")]
    )
    with Named({ZONE: "", "other.test": ""}, [key]) as server:
        host = make_host()
        host.set(server)
        host.look()
        host.set(dns_name="new", dns_label="_vlmcs._tcp")
        host.look()
        assert server.query(SRV, "SRV") == server.query(f"host1.{ZONE}", "A") == []
        assert server.query(f"_vlmcs._tcp.{ZONE}", "SRV") == [f"0 100 1688 new.{ZONE}."]
        assert server.query(f"new.{ZONE}", "A") == ["192.0.2.1"]
        host.set(dns_domains="")
        host.look()
        assert server.query(f"_vlmcs._tcp.{ZONE}", "SRV") == server.query(f"new.{ZONE}", "A") == []
        assert host.events()[-1] == (12294, "withdrawn", ZONE)


def test_what_works_stays_until_what_is_wanted_instead_is_published(
    bind: NameServer, make_host: Callable[..., Host]
) -> None:
    host = make_host()
    host.set(bind)
    host.look()
    host.set(dns_label="_vlmcs._tcp")  # which the key may not change
    assert host.publish().code == "dns-refused"
    host.look()
    assert bind.query(SRV, "SRV") == [OWN, VETERAN]
    assert bind.query(f"host1.{ZONE}", "A") == ["192.0.2.1"]
    assert [one.label for one in host.own()] == ["_volact._tcp"]
    host.set(dns_label="_volact._tcp")
    assert host.publish().detail == ""
    assert [one.code for one in host.withdraw()] == ["withdrawn"]
    assert bind.query(SRV, "SRV") == [VETERAN]
    assert bind.query(f"host1.{ZONE}", "A") == []


def test_a_new_label_for_the_same_name_keeps_the_address_and_the_stop_takes_it(
    make_host: Callable[..., Host],
) -> None:
    other = f"_vlmcs._tcp.{ZONE}"
    key = Key("host1", [(SRV, "SRV"), (f"host1.{ZONE}", "A"), (other, "SRV")])
    with Named({ZONE: ""}, [key]) as server:
        host = make_host(addresses=("192.0.2.1", "192.0.2.2"))
        host.set(server)
        host.look()
        host.here = host.here._replace(addresses=("192.0.2.2", "192.0.2.3"))
        host.set(dns_label="_vlmcs._tcp")
        result = host.publish()
        assert (result.code, result.detail) == ("ok", "")
        assert (server.query(SRV, "SRV"), server.query(other, "SRV")) == ([], [OWN])
        assert server.query(f"host1.{ZONE}", "A") == ["192.0.2.2", "192.0.2.3"]
        assert len(host.own()) == 1
        assert [one.code for one in host.withdraw()] == ["withdrawn"]
        assert server.query(other, "SRV") == server.query(f"host1.{ZONE}", "A") == []


ONE = f"one.{ZONE}"
SHARED = [
    Key(name, [(SRV, "SRV"), (f"_vlmcs._tcp.{ZONE}", "SRV"), (ONE, "A AAAA")]) for name in ("host1", "host2")
]


def on_one_machine(
    server: NameServer, make_host: Callable[..., Host], label: str = "_volact._tcp"
) -> list[Host]:
    """Two hosts on two ports of one machine, whose name both publish; the first has put its address there."""
    made = []
    for name, key, port in zip(("host1", "host2"), SHARED, (1688, 1689), strict=True):
        host = make_host(name)
        host.write_key(key.text())
        host.here = Whereabouts(ONE, ("192.0.2.1",))
        host.set(server, dns_label="_volact._tcp" if port == 1688 else label)
        made.append(host)
        assert host.publish(port).code == "ok"
    return made


@BOTH
def test_of_two_hosts_with_one_name_the_first_to_stop_leaves_the_other_its_address(
    brand: type[NameServer], make_host: Callable[..., Host]
) -> None:
    with brand({ZONE: ""}, SHARED) as server:
        first, second = on_one_machine(server, make_host)
        said = second.publish(1689).detail
        assert f"0 100 1688 {ONE}." in said
        assert "dns_name" in said
        assert f"0 100 1689 {ONE}." in first.publish().detail
        assert [one.code for one in first.withdraw()] == ["withdrawn"]
        assert server.query(SRV, "SRV") == [f"0 100 1689 {ONE}."]
        assert server.query(ONE, "A") == ["192.0.2.1"]


def test_of_two_hosts_with_one_name_the_one_that_put_the_address_there_takes_it_if_it_is_the_last(
    make_host: Callable[..., Host],
) -> None:
    with Named({ZONE: ""}, SHARED) as server:
        first, second = on_one_machine(server, make_host, label="_vlmcs._tcp")
        assert [one.code for one in second.withdraw()] == ["withdrawn"]
        assert server.query(ONE, "A") == ["192.0.2.1"]
        assert first.publish().detail == ""
        assert [one.code for one in first.withdraw()] == ["withdrawn"]
        assert server.query(ONE, "A") == []


def test_a_host_under_another_label_is_left_the_address_too(make_host: Callable[..., Host]) -> None:
    with Named({ZONE: ""}, SHARED) as server:
        first, _ = on_one_machine(server, make_host, label="_vlmcs._tcp")
        assert f"_vlmcs._tcp.{ZONE} 0 100 1689 {ONE}." in first.publish().detail
        assert [one.code for one in first.withdraw()] == ["withdrawn"]
        assert server.query(SRV, "SRV") == []
        assert server.query(ONE, "A") == ["192.0.2.1"]


def test_of_two_hosts_with_one_name_that_stop_at_once_the_last_takes_the_address(
    make_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's record goes between the look and the update: what was decided by it does not hold."""
    with Named({ZONE: ""}, SHARED) as server:
        first, second = on_one_machine(server, make_host)
        send, waiting = nameserver.send, [second]

        def after_the_other(*given: Any) -> Any:
            if waiting:
                waiting.pop().withdraw()
            return send(*given)

        monkeypatch.setattr(nameserver, "send", after_the_other)
        assert [one.code for one in first.withdraw()] == ["withdrawn"]
        assert server.query(SRV, "SRV") == server.query(ONE, "A") == []


def test_cdns_withdraws_and_sdns_publishes_again_and_a_host_that_does_not_serve_is_not_published(
    bind: NameServer, make_host: Callable[..., Host]
) -> None:
    host = make_host()
    host.set(bind)
    host.look(serving=False)
    assert bind.query(SRV, "SRV") == [VETERAN]
    host.look()
    host.set(dns_publishing=False)
    host.look()
    assert bind.query(SRV, "SRV") == [VETERAN]
    host.set(dns_publishing=True)
    host.look()
    assert bind.query(SRV, "SRV") == [f"0 100 1688 host1.{ZONE}.", VETERAN]
    host.look(serving=False)
    assert bind.query(SRV, "SRV") == [VETERAN]


def test_a_name_in_a_zone_below_the_domain_gets_no_address_in_the_domains_zone(
    make_host: Callable[..., Host],
) -> None:
    name = f"kms.berlin.{ZONE}"
    key = Key("host1", [(SRV, "SRV"), (name, "A AAAA")])
    with Named({ZONE: f"berlin NS ns.{ZONE}.", f"berlin.{ZONE}": "kms A 192.0.2.1"}, [key]) as server:
        host = make_host(addresses=("192.0.2.99",))
        host.set(server, dns_name=name)
        assert host.publish().code == "ok"
        assert server.query(SRV, "SRV") == [f"0 100 1688 {name}."]
        assert server.query(name, "A") == ["192.0.2.1"]
    with Named({ZONE: ""}, [key]) as server:  # one zone: there the name is the domain's
        host.set(server)
        assert host.publish().code == "ok"
        assert server.query(name, "A") == ["192.0.2.99"]


def test_a_domain_below_the_zones_apex_and_the_primary_that_the_zone_names_are_found(
    make_host: Callable[..., Host],
) -> None:
    owner = f"_volact._tcp.berlin.{ZONE}"
    with Named({ZONE: ""}, [Key("host1", [(owner, "SRV")])]) as server:

        def resolver() -> dns.resolver.Resolver:
            found = dns.resolver.Resolver(configure=False)
            found.nameservers, found.port = [LOOPBACK], server.port
            return found

        host = make_host()
        host.born(resolver)
        host.set(dns_domains=f"berlin.{ZONE}", dns_server="")
        result = host.publish()
        assert (result.code, result.server) == ("ok", f"127.0.0.1 port {server.port}")
        assert server.query(owner, "SRV") == [f"0 100 1688 host1.{ZONE}."]
        server.stop()
        assert host.publish().code == "dns-server-unreachable"


# --- when (D2, F23) -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "published"), [(DAY - 1, False), (DAY, True), (DAY + 1, True), (-1, True)]
)
def test_d2_published_again_after_24_hours_and_when_the_clock_was_set_back(
    bind: NameServer, make_host: Callable[..., Host], seconds: int, published: bool
) -> None:
    host = make_host()
    host.set(bind)
    host.look()
    host.look()
    assert len(host.events()) == 1
    host.now += seconds
    host.look()
    assert len(host.events()) == (2 if published else 1)


@pytest.mark.parametrize(("seconds", "tried"), [(HOUR - 1, False), (HOUR, True), (HOUR + 1, True)])
def test_f23_a_failure_is_an_event_and_tried_again_every_hour(
    make_host: Callable[..., Host], seconds: int, tried: bool
) -> None:
    with Scripted(nameservers.failing("REFUSED")) as server:
        host = make_host()
        host.set(server)
        host.look()
        host.look()
        assert host.events() == [(12293, "dns-server-unreachable", ZONE)]
        host.now += seconds
        host.look()
        assert len(host.events()) == (2 if tried else 1)


def test_published_again_at_once_when_port_addresses_settings_or_the_key_change(
    bind: NameServer, make_host: Callable[..., Host]
) -> None:
    host = make_host()
    host.write_key(KEYS[0].text(secret="d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc="))
    host.set(bind)
    host.look()
    assert host.events() == [(12293, "dns-refused", ZONE)]
    host.write_key(KEYS[0].text())
    host.look()
    host.here = Whereabouts(f"host1.{ZONE}", ("192.0.2.5",))
    host.look()
    assert bind.query(f"host1.{ZONE}", "A") == ["192.0.2.5"]
    host.set(dns_domains=f"{ZONE} 3 4")
    host.look()
    host.look(port=1700)
    assert bind.query(SRV, "SRV") == [f"3 4 1700 host1.{ZONE}.", VETERAN]
    assert len(host.events()) == 5


# --- whose names and records (D2, T18) ------------------------------------------------------------------------------


def test_d2_a_name_with_another_machines_address_is_left_alone_and_nothing_is_published(
    bind: NameServer, make_host: Callable[..., Host]
) -> None:
    first, second = make_host(), make_host("host2", addresses=("192.0.2.2",))
    first.set(bind)
    second.set(bind, dns_name="host1", dns_key_file=str(first.key_file))  # two hosts publish the same name
    first.look()
    result = second.publish()
    assert result.code == "dns-name-taken"
    assert "192.0.2.1" in result.detail
    assert second.own() == []
    assert bind.query(SRV, "SRV") == [f"0 100 1688 host1.{ZONE}.", VETERAN]
    assert bind.query(f"host1.{ZONE}", "A") == ["192.0.2.1"]
    assert second.events() == [(12293, "dns-name-taken", ZONE)]


@BOTH
def test_two_hosts_that_publish_the_same_name_at_once_one_wins(
    brand: type[NameServer], make_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that loses had seen no address yet: the server's prerequisites tell it."""
    first, second = make_host(), make_host("host2", addresses=("192.0.2.2",))
    with brand({ZONE: ""}, KEYS) as server:
        first.set(server)
        second.set(server, dns_name="host1", dns_key_file=str(first.key_file))
        real, between = nameserver.addresses, [first.publish]

        def addresses(server: Server, name: str, deadline: Deadline) -> frozenset[str]:
            found = real(server, name, deadline)
            if between:
                between.pop()()
            return found

        monkeypatch.setattr(nameserver, "addresses", addresses)
        assert second.publish().code == "dns-name-taken"
        assert second.own() == []
        assert server.query(SRV, "SRV") == [f"0 100 1688 host1.{ZONE}."]
        assert server.query(f"host1.{ZONE}", "A") == ["192.0.2.1"]


def test_an_address_entered_by_hand_stays(make_host: Callable[..., Host]) -> None:
    key = Key("host1", [(SRV, "SRV"), (f"host1.{ZONE}", "A AAAA")])
    with Named({ZONE: "host1 A 192.0.2.1\nhost1 A 198.51.100.1"}, [key]) as server:
        host = make_host(addresses=("192.0.2.1", "2001:db8::1"))
        host.set(server)
        assert host.publish().code == "ok"
        assert server.query(f"host1.{ZONE}", "AAAA") == []
        host.withdraw()
        assert server.query(SRV, "SRV") == []
        assert server.query(f"host1.{ZONE}", "A") == ["192.0.2.1", "198.51.100.1"]


@pytest.mark.parametrize("rounds", [50, pytest.param(1000, marks=pytest.mark.slow)])
@BOTH
def test_t18_random_updates_by_two_hosts_leave_a_foreign_record_intact(
    brand: type[NameServer], make_host: Callable[..., Host], rounds: int
) -> None:
    chance = random.Random(7)
    hosts = [make_host(), make_host("host2", addresses=("192.0.2.2",))]
    ports: list[int | None] = [None, None]
    with brand({ZONE: FOREIGN}, KEYS) as server:
        for host in hosts:
            host.set(server)
        for _ in range(rounds):
            which = chance.randrange(2)
            host = hosts[which]
            if chance.random() < 0.2:
                host.withdraw()
                host.born()
                ports[which] = None
            else:
                ports[which] = port = chance.randrange(1, 65536)
                assert host.publish(port).code == "ok"
            expected = [
                f"0 100 {port} {host.name}.{ZONE}." for host, port in zip(hosts, ports, strict=True) if port
            ]
            assert server.query(SRV, "SRV") == sorted([*expected, VETERAN])
