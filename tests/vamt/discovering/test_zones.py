"""Machines from a DNS zone (V1), from a real BIND: transferred, refused, with a key, cut short."""

from collections.abc import Iterator

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import dns.tsig
import pytest

from nameservers import Key, Named, Scripted, failing, free_port, relay, reply, silent
from programs import LOOPBACK
from vamt.discovering.primary import Primary
from volact.protocol.problems import Refused, Unreachable, UsageError
from volact.vamt.discovering import zones
from volact.vamt.discovering.names import Found, Skipped
from volact.vamt.discovering.zones import Limits, Server
from volact.vamt.inventory import Sighting

CORP = """
@ A 192.0.2.200
* A 192.0.2.201
web1 A 192.0.2.1
web1 AAAA 2001:db8::1
WEB1 A 192.0.2.11
deep.er A 192.0.2.2
localhost A 127.0.0.1
me A 127.0.0.1
nobody A 0.0.0.0
_x A 192.0.2.3
a_b A 192.0.2.4
domaindnszones A 192.0.2.200
www CNAME web1
web1 TXT "web9 A 192.0.2.9"
@ MX 10 mail
mail A 192.0.2.5
_ssh._tcp SRV 0 0 2222 web1
_volact._tcp SRV 0 0 1688 kms.other.test.
_gone._tcp SRV 0 0 1 .
_wsman._tcp SRV 0 0 5986 win1
_ssh._tcp SRV 0 0 0 noport
_services._dns-sd._udp PTR _ssh._tcp
"""
REVERSE = """
7 PTR web7.corp.test.
8 PTR _x.corp.test.
64/26 NS ns
65.64/26 PTR web65.corp.test.
9.9 PTR web99.corp.test.
"""
REVERSE6 = f"{'.'.join('1' + '0' * 23)} PTR web1.corp.test.\n"
ZONE, ZONE4, ZONE6 = "corp.test", "2.0.192.in-addr.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"
KEY = Key("vamt")
SOON = Limits(0.5, 2.0)


class Keyed(Primary):
    allowed = f"key {KEY.name}"


class Closed(Primary):
    allowed = "none"


@pytest.fixture(scope="module")
def named() -> Iterator[Named]:
    with Primary({ZONE: CORP, ZONE4: REVERSE, ZONE6: REVERSE6}) as running:
        yield running


def found(server: Named | Scripted, zone: str = ZONE, **more: object) -> list[Found]:
    return list(zones.discover(zone, Server(LOOPBACK, server.port), **more))  # type: ignore[arg-type]


def seen(name: str, domain: str = ZONE, *addresses: str, port: int | None = None, by: str = "") -> Sighting:
    return Sighting("dns", name, domain, addresses, port, by)


@pytest.mark.sockets
def test_a_zone_s_machines_each_once_with_all_addresses(named: Named) -> None:
    """RFC 1912: what is in a zone and names no machine is left out; an alias is no machine of its own."""
    all_found = found(named)
    machines = {one.name: one for one in all_found if isinstance(one, Sighting)}
    assert machines == {
        "web1": seen("web1", ZONE, "192.0.2.1", "192.0.2.11", "2001:db8::1", port=2222, by="ssh"),
        "deep": seen("deep", f"er.{ZONE}", "192.0.2.2"),
        "a_b": seen("a_b", ZONE, "192.0.2.4"),
        "mail": seen("mail", ZONE, "192.0.2.5"),
        "kms": seen("kms", "other.test"),
        "win1": seen("win1", ZONE, port=5986, by="winrm"),
        "noport": seen("noport"),
    }
    assert {(one.where, one.reason) for one in all_found if isinstance(one, Skipped)} == {
        (ZONE, "the zone's own name"),
        (f"*.{ZONE}", "a wildcard"),
        (f"'localhost.{ZONE}'", "no name of a host"),
        (f"'_x.{ZONE}'", "no name of a host"),
        (f"me.{ZONE}", "127.0.0.1 is no address of one machine in a network"),
        (f"nobody.{ZONE}", "0.0.0.0 is no address of one machine in a network"),
        (f"ns.{ZONE}", "127.0.0.1 is no address of one machine in a network"),
        (f"domaindnszones.{ZONE}", "a name for several servers together"),
        (f"_gone._tcp.{ZONE}", "a service that is said not to exist"),
        (f"_services._dns-sd._udp.{ZONE}", "this is no address that points to a name"),
    }


@pytest.mark.sockets
def test_reverse_zones_of_both_kinds(named: Named) -> None:
    """RFC 1035 3.5, RFC 3596 2.5; RFC 2317's extra label is no part of the address."""
    four = found(named, f"{ZONE4}.", group="Web")
    assert {one._replace(group="") for one in four if isinstance(one, Sighting) and one.group == "Web"} == {
        seen("web7", ZONE, "192.0.2.7"),
        seen("web65", ZONE, "192.0.2.65"),
    }
    assert Skipped("9.9.2.0.192.in-addr.arpa", "this is no address that points to a name") in four
    assert Skipped(f"'_x.{ZONE}'", "no name of a host") in four
    assert [one for one in found(named, ZONE6) if isinstance(one, Sighting)] == [
        seen("web1", ZONE, "2001:db8::1")
    ]


@pytest.mark.sockets
def test_a_server_by_its_name(named: Named) -> None:
    assert list(zones.discover(ZONE6, Server("localhost", named.port)))


@pytest.mark.sockets
def test_a_zone_that_is_not_there(named: Named) -> None:
    with pytest.raises(Refused, match="no server of this zone") as caught:
        found(named, "missing.test")
    assert caught.value.refusal.code == "transfer-refused"


@pytest.mark.sockets
def test_a_transfer_that_is_refused() -> None:
    with Closed({ZONE: CORP}) as server, pytest.raises(Refused, match="does not let this machine") as caught:
        found(server)
    assert caught.value.refusal.code == "transfer-refused"
    assert "--reverse" in caught.value.refusal.problem.next_step


@pytest.mark.sockets
def test_a_transfer_with_a_key() -> None:
    """RFC 8945: with it, without it, with another secret, with a key that the server does not have."""
    right = zones.Key(KEY.name, KEY.secret, KEY.algorithm)
    with Keyed({ZONE: CORP}, [KEY]) as server:
        assert seen("mail", ZONE, "192.0.2.5") in found(server, key=right)
        for wrong, said in [
            (None, "does not let this machine"),
            (right._replace(secret=Key("other").secret), "does not take the key"),
            (right._replace(name="other"), "does not take the key"),
        ]:
            with pytest.raises(Refused, match=said) as caught:
                found(server, key=wrong)
            assert caught.value.refusal.code == "transfer-refused"
            assert KEY.secret not in str(caught.value)


def transferred(records: list[str]) -> list[str]:
    soa = f"{ZONE}. 60 IN SOA ns.{ZONE}. h.{ZONE}. 1 1 1 1 1"
    return [soa, *records, soa]


MACHINES = [f"web{number}.{ZONE}. 60 IN A 192.0.2.{number}" for number in range(1, 9)]


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("records", "said"),
    [
        (transferred(MACHINES)[:-1], "did not answer in time|cut the zone short"),
        (MACHINES, "not an SOA|not for zone origin"),
        ([], "not for zone origin"),
    ],
)
def test_half_a_zone_gives_no_machine(records: list[str], said: str) -> None:
    with (
        Scripted(lambda wire, _tcp: reply(wire, records)) as server,
        pytest.raises(Unreachable, match=said) as caught,
    ):
        found(server, limits=SOON)
    assert caught.value.refusal.code == "name-server-unreachable"


@pytest.mark.sockets
def test_a_whole_zone_of_the_same_server_does() -> None:
    with Scripted(lambda wire, _tcp: reply(wire, transferred(MACHINES))) as server:
        assert len(found(server, limits=SOON)) == 8


@pytest.mark.sockets
def test_more_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name's address and the SOA record are sets of records."""
    with Scripted(lambda wire, _tcp: reply(wire, transferred(MACHINES))) as server:
        monkeypatch.setattr(zones, "MOST_SETS", 9)
        assert len(found(server, limits=SOON)) == 8
        monkeypatch.setattr(zones, "MOST_SETS", 8)
        with pytest.raises(Refused, match="more than 8 sets"):
            found(server, limits=SOON)


@pytest.mark.sockets
def test_an_answer_without_the_key_s_signature_is_not_believed(named: Named) -> None:
    def unsigned(wire: bytes, _tcp: bool) -> bytes:
        return reply(dns.message.from_wire(wire, keyring=False).to_wire(), transferred(MACHINES))

    key = zones.Key(KEY.name, KEY.secret)
    with Scripted(unsigned) as server, pytest.raises(Unreachable, match="TSIG"):
        found(server, key=key, limits=SOON)


@pytest.mark.sockets
def test_a_server_that_is_down_or_says_nothing(named: Named) -> None:
    with pytest.raises(Unreachable, match="refused"):
        list(zones.discover(ZONE, Server(LOOPBACK, free_port()), limits=SOON))
    with Scripted(silent()) as server, pytest.raises(Unreachable, match="did not answer in time"):
        found(server, limits=SOON)
    with Scripted(failing("SERVFAIL")) as server, pytest.raises(Refused, match="it says SERVFAIL"):
        found(server, limits=SOON)
    with Scripted(relay(named, lambda wire: wire[:20])) as server, pytest.raises(Unreachable):
        found(server, limits=SOON)


@pytest.mark.sockets
def test_a_server_that_hangs_up() -> None:
    def hang_up(_wire: bytes, _tcp: bool) -> bytes:
        raise OSError

    with Scripted(hang_up) as server, pytest.raises(Unreachable, match="cut the zone short"):
        found(server, limits=SOON)


@pytest.mark.sockets
def test_what_is_no_zone_or_no_server() -> None:
    for zone in ("", "a..b", "a" * 64, "\udc80"):
        with pytest.raises(UsageError, match="no name of a zone"):
            list(zones.discover(zone, Server(LOOPBACK)))
    for server in (Server("a..b"), Server(""), Server("\0")):
        with pytest.raises(Unreachable, match="has no address"):
            zones.resolved(server)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (f"vamt:{KEY.secret}\n", zones.Key("vamt", KEY.secret, "hmac-sha256")),
        (f"HMAC-SHA512:vamt:{KEY.secret}", zones.Key("vamt", KEY.secret, "hmac-sha512")),
        (KEY.text(), zones.Key("vamt", KEY.secret, "hmac-sha256")),
    ],
)
def test_a_key_in_one_line_or_as_tsig_keygen_writes_it(text: str, right: zones.Key) -> None:
    assert zones.read_key(text) == right


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vamt",
        "vamt:",
        ":AAAA",
        "vamt:%%%",
        "md5:vamt:AAAA",
        "a..b:AAAA",
        "a:b:c:d",
        "vamt:A",
        "key {}",
        'key "a:b" { algorithm hmac-sha256; secret "AAAA"; };',
        'key "a" { algorithm hmac-md5; secret "AAAA"; };',
    ],
)
def test_a_key_that_is_none_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError, match="That is no TSIG key") as caught:
        zones.read_key(text)
    assert not text or text not in f"{caught.value} {caught.value.next_step}"


@pytest.mark.parametrize(
    ("owner", "right"),
    [
        ("1.2.0.192.in-addr.arpa.", "192.0.2.1"),
        ("1.0/25.2.0.192.in-addr.arpa.", "192.0.2.1"),
        ("1.0-127.2.0.192.in-addr.arpa.", "192.0.2.1"),
        ("256.2.0.192.in-addr.arpa.", None),
        ("2.0.192.in-addr.arpa.", None),
        ("1.1.2.0.192.in-addr.arpa.", None),
        ("1.0.0.127.in-addr.arpa.", None),
        (f"{'1.' + '0.' * 23}8.B.d.0.1.0.0.2.ip6.arpa.", "2001:db8::1"),
        (f"{'g.' + '0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa.", None),
        (f"{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa.", None),
        ("web1.corp.test.", None),
        (".", None),
    ],
)
def test_the_address_that_a_reverse_name_means(owner: str, right: str | None) -> None:
    assert zones.address_of(dns.name.from_text(owner)) == right
