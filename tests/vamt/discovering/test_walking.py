"""The names of addresses one by one (V1), for where a transfer is refused: from a real BIND, and from servers that fail."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence

import dns.message
import pytest

from nameservers import Answer, Named, Scripted, cut, failing, free_port, relay, reply, silent
from programs import LOOPBACK
from vamt.discovering.primary import Primary
from volact.protocol.problems import Refused, Unreachable
from volact.vamt.discovering import ranges, walking
from volact.vamt.discovering.names import Found, Skipped
from volact.vamt.discovering.walking import Progress
from volact.vamt.discovering.zones import Server
from volact.vamt.inventory import Sighting

ZONE4, ZONE6 = "2.0.192.in-addr.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"
FOUR = "\n".join(
    [*(f"{number} PTR web{number}.corp.test." for number in range(1, 201)), "9 PTR other9.corp.test."]
)
SIX = f"{'.'.join('2' + '0' * 23)} PTR web2.corp.test.\n{'.'.join('3' + '0' * 23)} PTR we\\000b.corp.test.\n"
SOON = (0.2, 0.2)


@pytest.fixture(scope="module")
def named() -> Iterator[Named]:
    with Primary({ZONE4: FOUR, ZONE6: SIX}) as running:
        yield running


def walked(
    port: int,
    addresses: Sequence[str],
    tell: Callable[[Progress], None] = lambda _: None,
    patience: Sequence[float] = walking.PATIENCE,
    host: str = LOOPBACK,
) -> list[Found]:
    async def all_of_them() -> list[Found]:
        return [one async for one in walking.discover(addresses, Server(host, port), tell, patience, "Web")]

    return asyncio.run(all_of_them())


def seen(name: str, address: str) -> Sighting:
    return Sighting("dns", name, "corp.test", (address,), group="Web")


@pytest.mark.sockets
def test_each_address_of_a_range_is_asked_and_the_named_ones_are_found(named: Named) -> None:
    heard: list[Progress] = []
    found = walked(named.port, ranges.addresses("192.0.2.0/25"), heard.append)
    right = {seen(f"web{number}", f"192.0.2.{number}") for number in range(1, 127)}
    assert set(found) == {*right, seen("other9", "192.0.2.9")}
    assert len(found) == 127
    assert [one.asked for one in heard] == list(range(127))
    assert heard[-1] == Progress(126, 126, 126, 0)


@pytest.mark.sockets
def test_ipv6_by_a_server_s_name_and_what_is_no_name(named: Named) -> None:
    found = walked(named.port, ranges.addresses("2001:db8::/126"), host="localhost")
    assert seen("web2", "2001:db8::2") in found
    (left_out,) = [one for one in found if isinstance(one, Skipped)]
    assert left_out.where == "2001:db8::3"
    assert "is no name of a host" in left_out.reason
    assert left_out.reason.isprintable()


@pytest.mark.sockets
def test_an_answer_that_is_cut_short_is_asked_for_by_tcp(named: Named) -> None:
    real = relay(named)
    by_udp_cut = relay(named, cut)
    with Scripted(lambda wire, tcp: (real if tcp else by_udp_cut)(wire, tcp)) as server:
        assert walked(server.port, ["192.0.2.7"]) == [seen("web7", "192.0.2.7")]


@pytest.mark.sockets
def test_a_datagram_that_is_lost_is_sent_again(named: Named) -> None:
    real, number = relay(named), itertools.count()
    with Scripted(lambda wire, tcp: None if next(number) % 2 == 0 else real(wire, tcp)) as server:
        assert walked(server.port, ["192.0.2.7"], patience=(0.2, 5)) == [seen("web7", "192.0.2.7")]


@pytest.mark.sockets
def test_a_server_without_the_zone_refuses(named: Named) -> None:
    with pytest.raises(Refused) as caught:
        walked(named.port, ["198.51.100.1"])
    assert caught.value.refusal.code == "transfer-refused"


@pytest.mark.sockets
@pytest.mark.parametrize("answer", [silent(), lambda _wire, _tcp: b"nonsense"])
def test_a_dead_server_is_given_up_after_the_first_questions(answer: Answer) -> None:
    with Scripted(answer) as server:
        with pytest.raises(Unreachable) as caught:
            walked(server.port, ranges.addresses("192.0.2.0/24"), patience=SOON)
        assert caught.value.refusal.code == "name-server-unreachable"
        assert len(set(server.questions())) == walking.GIVEN_UP == 3
    with pytest.raises(Unreachable):
        walked(free_port(), ["192.0.2.1"], patience=SOON)


@pytest.mark.sockets
def test_a_server_that_falls_silent_is_given_up(named: Named, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many in a row: one answer between them begins the count anew."""
    monkeypatch.setattr(walking, "AT_ONCE", 1)
    monkeypatch.setattr(walking, "MOST_SILENT", 3)
    real = relay(named)

    def answer_only(*names: str) -> Answer:
        def answer(wire: bytes, tcp: bool) -> bytes | None:
            asked = dns.message.from_wire(wire).question[0].name.to_text()
            return real(wire, tcp) if asked.partition(".")[0] in names else None

        return answer

    addresses = [f"192.0.2.{number}" for number in (1, 2, 3, 4, 5, 6)]
    with Scripted(answer_only("1", "4")) as server:
        found = walked(server.port, addresses, patience=(0.05, 0.05))
        silent_ones = [one.where for one in found if isinstance(one, Skipped)]
        assert silent_ones == ["192.0.2.2", "192.0.2.3", "192.0.2.5", "192.0.2.6"]
    with Scripted(answer_only("1")) as server, pytest.raises(Unreachable, match="fallen silent"):
        walked(server.port, addresses[:4], patience=(0.05, 0.05))


@pytest.mark.sockets
def test_a_server_that_fails_for_an_address_is_said_with_it() -> None:
    with Scripted(failing("SERVFAIL")) as server:
        assert walked(server.port, ["192.0.2.1"]) == [Skipped("192.0.2.1", "the name server says SERVFAIL")]
    with Scripted(lambda wire, _: reply(wire)) as server:
        assert walked(server.port, ["192.0.2.1"]) == []


@pytest.mark.sockets
def test_nobody_is_asked_about_nothing(named: Named) -> None:
    assert walked(named.port, []) == []


@pytest.mark.sockets
def test_an_address_without_a_name_is_no_machine(named: Named) -> None:
    heard: list[Progress] = []
    assert walked(named.port, ["192.0.2.201"], heard.append) == []
    assert heard[-1] == Progress(1, 1, 0, 0)
