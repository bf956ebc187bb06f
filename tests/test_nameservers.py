"""The name servers that other tests use: each serves, obeys its policy, and comes back as it was."""

import time

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.update
import pytest

import nameservers
from nameservers import Key, Knot, Named, NameServer, Scripted
from programs import LOOPBACK

pytestmark = pytest.mark.sockets
SRV = "_volact._tcp.corp.test"
KEY = Key("host1", [(SRV, "SRV"), ("host1.corp.test", "A AAAA")])


def _update(port: int, key: Key | None, owner: str, rdtype: str, rdata: str) -> str:
    update = dns.update.UpdateMessage("corp.test", keyring=key.ring() if key else None)
    update.add(owner + ".", 60, rdtype, rdata)
    try:
        answer = dns.query.udp(update, LOOPBACK, timeout=5, port=port)
    except dns.tsig.PeerBadKey:  # so says Knot, where BIND says REFUSED
        return "refused"
    except dns.exception.FormError:
        return "unsigned"
    return "done" if answer.rcode() == dns.rcode.NOERROR else "refused"


@pytest.mark.parametrize("kind", [Named, Knot])
def test_a_real_server_serves_obeys_its_policy_and_comes_back_as_it_was(kind: type[NameServer]) -> None:
    with kind({"corp.test": "www A 192.0.2.1\nwww AAAA 2001:db8::1", "other.test": ""}, [KEY]) as server:
        assert server.query("www.corp.test", "A") == ["192.0.2.1"]
        assert server.query("www.corp.test", "AAAA") == ["2001:db8::1"]
        assert server.query("nobody.corp.test", "A") == []
        assert _update(server.port, KEY, SRV, "SRV", "0 100 1688 host1.corp.test.") == "done"
        assert _update(server.port, KEY, "host2.corp.test", "A", "192.0.2.9") == "refused"
        assert _update(server.port, None, "host1.corp.test", "A", "192.0.2.9") == "refused"
        server.stop()
        with pytest.raises((OSError, dns.exception.Timeout)):
            dns.query.udp(dns.message.make_query(SRV, "SRV"), LOOPBACK, 0.2, server.port)
        server.start()
        assert server.query(SRV, "SRV") == ["0 100 1688 host1.corp.test."]
        assert server.query("host1.corp.test", "A") == []


def test_a_scripted_server_is_silent_fails_cuts_and_takes_off_the_signature() -> None:
    query = dns.message.make_query("www.corp.test", "A")
    with Named({"corp.test": "www A 192.0.2.1"}, [KEY]) as real, Scripted(nameservers.silent()) as server:

        def ask() -> dns.message.Message:
            return dns.query.udp(query, LOOPBACK, timeout=2, port=server.port)

        with pytest.raises(dns.exception.Timeout):
            dns.query.udp(query, LOOPBACK, timeout=0.1, port=server.port)
        server.answer = nameservers.failing()
        assert ask().rcode() == dns.rcode.SERVFAIL
        server.answer = lambda wire, _tcp: nameservers.reply(wire, ["www.corp.test. 60 IN A 192.0.2.7"])
        assert ask().answer[0][0].to_text() == "192.0.2.7"
        cut, whole = nameservers.relay(real, nameservers.cut), nameservers.relay(real)
        server.answer = cut
        assert ask().flags & dns.flags.TC
        server.answer = lambda wire, tcp: (whole if tcp else cut)(wire, tcp)
        answer, by_tcp = dns.query.udp_with_fallback(query, LOOPBACK, timeout=5, port=server.port)
        assert by_tcp
        assert answer.answer[0][0].to_text() == "192.0.2.1"
        server.answer = server.late(0.3, nameservers.failing("NOERROR"))
        began = time.monotonic()
        ask()
        assert time.monotonic() - began >= 0.3  # late, that is, not early
        assert ("www.corp.test.", "A") in server.questions()
        server.answer = nameservers.relay(real, nameservers.unsigned)
        assert _update(server.port, KEY, SRV, "SRV", "0 100 1688 host1.corp.test.") == "unsigned"
        assert real.query(SRV, "SRV") == ["0 100 1688 host1.corp.test."]
