"""Publishing where the name server refuses, fails, lies, is late or is away (F23, T18, D2)."""

import threading
import time
from collections.abc import Callable

import pytest

import nameservers
from kmshost.publishing_host import HOUR, KEYS, SRV, VETERAN, ZONE, Host
from nameservers import Key, NameServer, Scripted
from volact.kmshost import dnsrecords, publishing
from volact.kmshost import store as sql
from volact.kmshost.dnsrecords import DnsRecord, Whereabouts

pytestmark = pytest.mark.sockets


# --- what goes wrong (F23, T18) -------------------------------------------------------------------------------------


def test_f23_a_wrong_secret_an_unknown_key_and_a_key_without_the_right_are_refused_alike(
    dns_server: NameServer, make_host: Callable[..., Host]
) -> None:
    host = make_host()
    host.set(dns_server)
    for text in (
        KEYS[0].text(secret="d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmc="),
        Key("nobody").text(),
        KEYS[1].text(),  # may do nothing for host1's name
    ):
        host.write_key(text)
        assert host.publish().code == "dns-refused"
    assert dns_server.query(SRV, "SRV") == [VETERAN]
    assert host.own() == []
    assert host.events() == [(12293, "dns-refused", ZONE)] * 3


def test_f23_a_signature_whose_time_is_off_is_refused(
    dns_server: NameServer, make_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host()
    host.set(dns_server)
    real = time.time
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda: real() - 400)
        result = host.publish()
    assert result.code == "dns-refused"
    assert dns_server.query(SRV, "SRV") == [VETERAN]


def test_t18_without_a_usable_key_nothing_is_sent(make_host: Callable[..., Host]) -> None:
    with Scripted(nameservers.silent()) as server:
        host = make_host()
        host.set(server)
        for text, code in [
            ('key "a" { algorithm hmac-md5; secret "MTIzNDU2Nzg5MDEyMzQ1Ng=="; };', "dns-key-malformed"),
            ("\x00", "dns-key-malformed"),
        ]:
            host.write_key(text)
            assert host.publish().code == code
        host.key_file.write_bytes(b"\xff")
        assert host.publish().code == "dns-key-malformed"
        host.write_key(KEYS[0].text())
        host.key_file.chmod(0o644)
        assert host.publish().code == "key-file-exposed"
        host.key_file.unlink()
        assert host.publish().code == "dns-key-missing"
        host.set(dns_key_file="")
        assert host.publish().code == "dns-key-missing"
        host.here = Whereabouts("", ())
        assert host.publish().code == "dns-name-missing"
        assert server.asked == []


def test_t18_the_update_is_signed_and_an_unsigned_yes_is_believed_only_if_the_record_is_served(
    bind: NameServer, make_host: Callable[..., Host]
) -> None:
    host = make_host()
    with Scripted(nameservers.relay(bind, nameservers.unsigned)) as server:
        host.set(server)
        result = host.publish()
        assert result.code == "ok"
        assert "TSIG" in result.detail  # the remark
        assert bind.query(SRV, "SRV") == [f"0 100 1688 host1.{ZONE}.", VETERAN]
        assert [one.code for one in host.withdraw()] == ["withdrawn"]
        assert bind.query(SRV, "SRV") == [VETERAN]
        host.born()
        relayed = nameservers.relay(bind)
        server.answer = lambda wire, tcp: (
            nameservers.reply(wire) if nameservers.is_update(wire) else relayed(wire, tcp)
        )
        assert host.publish().code == "dns-answer-unsigned"
        assert bind.query(SRV, "SRV") == [VETERAN]


def test_a_yes_without_the_record_is_no_success(bind: NameServer, make_host: Callable[..., Host]) -> None:
    host = make_host()
    relayed = nameservers.relay(bind)
    with Scripted(nameservers.silent()) as server:
        host.set(server)
        soa = f"{ZONE}. 60 IN SOA ns.{ZONE}. h.{ZONE}. 1 2 3 4 5"
        # It takes the update, and goes on to serve what it has served before.
        server.answer = lambda wire, tcp: (
            relayed(wire, tcp) if nameservers.is_update(wire) else nameservers.reply(wire, [soa])
        )
        result = host.publish()
        assert (result.code, result.detail) == ("dns-not-served", f"{SRV} 0 100 1688 host1.{ZONE}.")
        assert host.own() != []  # it may be there
        server.answer = relayed
        host.publish(port=1700)
        assert bind.query(SRV, "SRV") == [f"0 100 1700 host1.{ZONE}.", VETERAN]


def test_an_answer_cut_short_is_asked_for_again_by_tcp(
    bind: NameServer, make_host: Callable[..., Host]
) -> None:
    cut, whole = nameservers.relay(bind, nameservers.cut), nameservers.relay(bind)
    host = make_host()
    with Scripted(
        lambda wire, tcp: whole(wire, tcp) if tcp or nameservers.is_update(wire) else cut(wire, tcp)
    ) as server:
        host.set(server)
        assert host.publish().code == "ok"
    assert bind.query(SRV, "SRV") == [f"0 100 1688 host1.{ZONE}.", VETERAN]


@pytest.mark.parametrize("rcode", ["SERVFAIL", "NOERROR", "NXDOMAIN", "REFUSED"])
def test_a_server_that_fails_or_has_no_such_zone(make_host: Callable[..., Host], rcode: str) -> None:
    with Scripted(nameservers.failing(rcode)) as server:
        host = make_host()
        host.set(server)
        assert host.publish().code == "dns-server-unreachable"
        assert host.own() == []


@pytest.mark.parametrize("how", list(nameservers.FAULTS))
def test_f21_f23_a_fault_is_event_12293_then_an_hour_later_12294(
    bind: NameServer, make_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whatever the name server does, once it is well the record is there, after one failure in the log."""
    host = make_host()
    with Scripted(nameservers.silent()) as server:
        server.answer = nameservers.FAULTS[how](server)
        host.set(server)
        with monkeypatch.context() as impatient:
            impatient.setattr(publishing, "DOMAIN_SECONDS", 0.5)
            host.look()
        asked = len(server.asked)
        assert 0 < asked <= 10
        host.now += HOUR - 1
        host.look()
        assert len(server.asked) == asked
        assert host.events() == [(12293, "dns-server-unreachable", ZONE)]
        server.answer = nameservers.relay(bind)
        host.now += 1
        host.look()
    assert host.events()[1:] == [(12294, "ok", ZONE)]
    assert bind.query(SRV, "SRV") == [f"0 100 1688 host1.{ZONE}.", VETERAN]


def test_f23_a_server_that_is_down_then_back(dns_server: NameServer, make_host: Callable[..., Host]) -> None:
    host = make_host()
    host.set(dns_server)
    dns_server.stop()
    host.look()
    assert host.events() == [(12293, "dns-server-unreachable", ZONE)]
    dns_server.start()
    host.now += HOUR
    host.look()
    assert dns_server.query(SRV, "SRV") == [f"0 100 1688 host1.{ZONE}.", VETERAN]


def test_f23_at_the_stop_all_is_over_in_5_seconds_also_with_a_silent_server_and_a_try_under_way(
    bind: NameServer, make_host: Callable[..., Host]
) -> None:
    """Servers of a domain never answer; the records in the other one are withdrawn all the same."""
    host = make_host()
    host.set(bind)
    host.look()
    relayed = nameservers.relay(bind)
    asked = threading.Event()

    def answer(wire: bytes, tcp: bool) -> bytes | None:
        if b"\x05other" in wire:
            asked.set()
            return None
        return relayed(wire, tcp)

    with Scripted(answer) as server:
        host.set(server, dns_domains=f"{ZONE}, other.test")
        with host.store.writing() as tx:
            there = DnsRecord("other.test", "_volact._tcp", "h", 1, 0, 0, ())
            sql.put_published(tx, "host1", "other.test", [there], 1)
        service = publishing.Service(host.publisher)
        service.want(host.settings, 1688, serving=True)
        service.start()
        assert asked.wait(20)
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began <= 5  # D2's number, and not a matter of speed
        assert bind.query(SRV, "SRV") == [VETERAN]
        assert [one.domain for one in host.own()] == ["other.test"]


def test_a_full_or_locked_store_does_not_end_the_service(
    bind: NameServer, make_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host()
    host.set(bind)
    looks = threading.Semaphore(0)

    def broken(*_: object) -> None:
        looks.release()
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(dnsrecords, "wanted", broken)
        service = publishing.Service(host.publisher)
        service.want(host.settings, 1688, serving=True)
        service.start()
        assert looks.acquire(timeout=20)
        assert looks.acquire(timeout=20)
    service.stop()
