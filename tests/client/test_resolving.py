"""What a client asks the name servers, how often, and what it makes of their answers (D3, F21).

Against real BIND, and against a server that does as it is told for what no real one does.
"""

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import dns.message
import pytest

import nameservers
from nameservers import Named, Scripted, reply
from volact.client import resolving
from volact.client.discovery import Service
from volact.client.resolving import Names, Servers, names_for, of_file

pytestmark = pytest.mark.sockets

LABEL = "_volact._tcp"
ZONE = """
_volact._tcp SRV 10 20 1688 kms1
_volact._tcp SRV 0 5 1700 kms2.other.test.
kms1 A 192.0.2.1
kms1 AAAA 2001:db8::1
six AAAA ::1
alias CNAME kms1
_none._tcp SRV 0 0 0 .
"""


@pytest.fixture(scope="module")
def named() -> Iterator[Named]:
    many = "\n".join(f"_many._tcp SRV {n} 0 1688 a-rather-long-name-of-host-number-{n}" for n in range(64))
    with Named({"corp.test": ZONE + many}) as server:
        yield server


def names(port: int, *, servers: tuple[str, ...] = ("127.0.0.1",)) -> Names:
    return Names(Servers(servers, port, ("corp.test",)))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the patience, so that the tests need not wait."""
    monkeypatch.setattr(resolving, "PATIENCE", 0.4)


# A real server


def test_records_and_addresses_are_found(named: Named) -> None:
    asking = names(named.port)
    found = asking.services(LABEL, "corp.test")
    assert sorted(found.services) == [
        Service(0, 5, 1700, "kms2.other.test"),
        Service(10, 20, 1688, "kms1.corp.test"),
    ]
    assert set(found.addresses.get("kms1.corp.test", ())) == {"192.0.2.1", "2001:db8::1"}
    assert found.problem == ""
    assert asking.addresses("kms1.corp.test") == ("2001:db8::1", "192.0.2.1")
    assert asking.addresses("six.corp.test") == ("::1",)
    assert asking.addresses("alias.corp.test") == ("2001:db8::1", "192.0.2.1")
    assert asking.addresses("nobody.corp.test") == ()


def test_the_root_as_a_target_is_an_empty_name(named: Named) -> None:
    assert names(named.port).services("_none._tcp", "corp.test").services == (Service(0, 0, 0, ""),)


def test_an_answer_too_long_for_udp_is_read_whole_by_tcp(named: Named) -> None:
    assert len(names(named.port).services("_many._tcp", "corp.test").services) == 64


@pytest.mark.parametrize(
    ("label", "domain", "problem"),
    [
        ("_other._tcp", "corp.test", "there is no such record"),  # NXDOMAIN
        ("kms1", "corp.test", "there is no such record"),  # the name, but no SRV
        (LABEL, "foreign.test", "the name server says REFUSED"),
        (LABEL, "a" * 64 + ".test", "that is no name of DNS"),
        (LABEL, ".".join(["a" * 60] * 4), "that is no name of DNS"),  # 255 characters with its label
    ],
)
def test_no_record_is_said_in_words(named: Named, label: str, domain: str, problem: str) -> None:
    found = names(named.port).services(label, domain)
    assert (found.services, found.problem) == ((), problem)


# What goes wrong


def asked(server: Scripted) -> list[tuple[str, str]]:
    return [(name.rstrip("."), kind) for name, kind in server.questions()]


OWNER = f"{LABEL}.corp.test"


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTIMP"])
def test_a_failure_is_asked_about_twice_and_no_more(rcode: str) -> None:
    with Scripted(nameservers.failing(rcode)) as server:
        found = names(server.port).services(LABEL, "corp.test")
        assert (found.services, found.problem) == ((), f"the name server says {rcode}")
        assert asked(server) == [(OWNER, "SRV")] * 2


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "NOERROR"])
def test_an_empty_answer_is_an_answer(rcode: str) -> None:
    with Scripted(nameservers.failing(rcode)) as server:
        assert names(server.port).services(LABEL, "corp.test").problem == "there is no such record"
        assert asked(server) == [(OWNER, "SRV")]


def test_who_does_not_know_edns_is_asked_without_it() -> None:
    def old(wire: bytes, _tcp: bool) -> bytes:
        if dns.message.from_wire(wire).edns >= 0:
            return reply(wire, rcode="FORMERR")
        return reply(wire, [f"{OWNER}. 60 IN SRV 0 0 1688 kms.corp.test."])

    with Scripted(old) as server:
        assert names(server.port).services(LABEL, "corp.test").services == (
            Service(0, 0, 1688, "kms.corp.test"),
        )


@pytest.mark.usefixtures("patient")
def test_silence_is_waited_for_once_in_a_try_whatever_is_asked() -> None:
    """DNS is down: two questions, then nobody is asked any more."""
    with Scripted(nameservers.silent()) as server:
        asking = names(server.port)
        found = asking.services(LABEL, "corp.test")
        assert found.problem == "the name server 127.0.0.1 could not be asked: no answer came"
        assert asking.services(LABEL, "other.test").problem == "the name servers do not answer"
        assert asking.addresses("kms.corp.test") == ()
        assert asked(server) == [(OWNER, "SRV")] * 2


@pytest.mark.usefixtures("patient")
def test_an_answer_that_comes_too_late_is_none() -> None:
    """F21: 10 s late, against 5 s of patience."""
    good = [f"{OWNER}. 60 IN SRV 0 0 1688 kms.corp.test."]
    with Scripted(nameservers.silent()) as server:

        def late(wire: bytes, _tcp: bool) -> bytes:
            time.sleep(0.8)
            return reply(wire, good)

        server.answer = late
        assert names(server.port).services(LABEL, "corp.test").services == ()
        assert len(server.asked) == 2


@pytest.mark.usefixtures("patient")
def test_the_second_server_is_asked_when_the_first_is_dead_and_first_from_then_on() -> None:
    with Scripted(lambda wire, _tcp: reply(wire, [f"{OWNER}. 60 IN SRV 0 0 1688 kms.corp.test."])) as server:
        asking = names(server.port, servers=("127.0.0.2", "127.0.0.1"))
        assert asking.services(LABEL, "corp.test").problem == ""
        assert len(server.asked) == 1
        assert asking.addresses("kms.corp.test") == ()
        assert len(server.asked) == 3


def test_of_an_answer_that_is_cut_short_twice_what_there_is_counts() -> None:
    def cut(wire: bytes, tcp: bool) -> bytes:
        return reply(wire, [f"{OWNER}. 60 IN SRV 0 0 1688 kms.corp.test."], truncated=not tcp)

    with Scripted(cut) as server:
        assert len(names(server.port).services(LABEL, "corp.test").services) == 1
        assert len(server.asked) == 2

    def always(wire: bytes, _tcp: bool) -> bytes:
        return reply(wire, [f"{OWNER}. 60 IN SRV 0 0 1688 kms.corp.test."], truncated=True)

    with Scripted(always) as server:
        assert len(names(server.port).services(LABEL, "corp.test").services) == 1
        assert len(server.asked) == 2


def _foreign(wire: bytes) -> bytes:
    """Another question's answer, under this one's number."""
    other = dns.message.make_query("_volact._tcp.evil.test", "SRV")
    other.id = dns.message.from_wire(wire).id
    return reply(other.to_wire(), ["_volact._tcp.evil.test. 60 IN SRV 0 0 1688 evil.test."])


@pytest.mark.parametrize(
    "answer",
    [
        lambda _wire, _tcp: b"",
        lambda _wire, _tcp: b"nonsense",
        lambda wire, _tcp: wire,  # the question itself
        lambda wire, _tcp: bytes(255 - byte for byte in wire),
        lambda wire, _tcp: reply(wire, [f"{OWNER}. 60 IN SRV 0 0 1688 kms.corp.test."])[:-3],
        lambda wire, _tcp: _foreign(wire),
    ],
    ids=["nothing", "text", "echo", "bits", "half", "foreign"],
)
@pytest.mark.usefixtures("patient")
def test_what_is_no_answer_is_not_taken(answer: Callable[[bytes, bool], bytes]) -> None:
    with Scripted(answer) as server:
        found = names(server.port).services(LABEL, "corp.test")
        assert (found.services, bool(found.problem)) == ((), True)
        assert len(server.asked) <= 2


def test_aliases_in_a_circle_are_no_answer() -> None:
    circle = [f"{OWNER}. 60 IN CNAME x.corp.test.", f"x.corp.test. 60 IN CNAME {OWNER}."]
    with Scripted(lambda wire, _tcp: reply(wire, circle)) as server:
        assert names(server.port).services(LABEL, "corp.test").services == ()
        assert len(server.asked) <= 2


def test_without_a_server_nobody_is_asked() -> None:
    assert names(53, servers=()).services(LABEL, "corp.test").problem == "no name server is set"


# Whom to ask


def test_a_laboratory_s_file_says_whom_to_ask_and_no_other_publisher_s(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.7\nnameserver ::1\nport 5353\nsearch Corp.test. b.test corp.test\n")
    assert of_file(str(file)) == Servers(("127.0.0.7", "::1"), 5353, ("corp.test", "b.test"))
    environ = {"VOLACT_LAB_RESOLVER": str(file)}
    assert names_for(environ, lab=True).domains == ("corp.test", "b.test")
    assert names_for(environ, lab=False).domains == names_for({}, lab=False).domains
    file.write_text("nameserver 127.0.0.7\ndomain corp.test\n")
    assert of_file(str(file)) == Servers(("127.0.0.7",), 53, ("corp.test",))
    for text in (
        "",
        "nameserver dns.corp.test\nnameserver https://dns.corp.test/\n",
        "\x00\xff",
        "search\ndomain\n",
    ):
        file.write_text(text)
        assert of_file(str(file)).addresses == ()
    assert of_file(str(tmp_path / "none")) == Servers((), 53, ())


@pytest.mark.parametrize(
    ("host", "hosts", "own"),
    [
        ("pc1.Corp.test", "", ["Corp.test"]),
        ("pc1", "127.0.0.1 localhost\n127.0.1.1 pc1.corp.test pc1 # me\n", ["corp.test"]),
        ("pc1", "127.0.1.1 pc1 pc1.corp.test\n", []),
        ("pc1", "127.0.1.1 pc10.corp.test pc10\n", []),
        ("pc1", "\n\n::1\n#\n", []),
    ],
)
def test_the_machine_s_domain_is_in_its_name_or_its_hosts_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, hosts: str, own: list[str]
) -> None:
    (tmp_path / "hosts").write_text(hosts)
    monkeypatch.setattr(resolving, "_HOSTS", str(tmp_path / "hosts"))
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert resolving._own_domain() == own


def test_a_machine_without_a_hosts_file_or_resolver_has_no_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "_HOSTS", str(tmp_path / "none"))
    monkeypatch.setattr(resolving, "_SYSTEM", str(tmp_path / "none"))
    monkeypatch.setattr("socket.gethostname", lambda: "pc1")
    assert resolving.of_system() == Servers((), 53, ())


def test_the_machine_s_own_domain_comes_before_its_search_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.7\nsearch a.test corp.test b.test\n")
    monkeypatch.setattr(resolving, "_SYSTEM", str(tmp_path / "resolv.conf"))
    monkeypatch.setattr("socket.gethostname", lambda: "pc1.corp.test")
    assert resolving.of_system() == Servers(("127.0.0.7",), 53, ("corp.test", "a.test", "b.test"))


def test_a_way_to_an_address_is_seen_without_sending_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolving.has_route("127.0.0.1")

    def no_ipv6(*_: object) -> NoReturn:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported")

    monkeypatch.setattr("socket.socket", no_ipv6)
    assert not resolving.has_route("2001:db8::1")
