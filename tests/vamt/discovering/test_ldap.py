"""Machines from a directory (V1): a real slapd, in pages, with and without rights, TLS with its own CA, and hostile ones."""

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from nameservers import free_port
from programs import LOOPBACK
from slapd import BASE, MACHINES, PASSWORD, READER, STRANGER, Entry, Slapd
from volact import certificate
from volact.protocol.problems import Refused, Unreachable, UsageError
from volact.vamt.discovering import ldap
from volact.vamt.discovering.ldap import Directory, Limits
from volact.vamt.discovering.names import Found, Skipped
from volact.vamt.inventory import Sighting

MANY = 1200
FARM = [Entry(f"cn=node{number},ou=farm,ou=machines", "device", cn=f"node{number}") for number in range(MANY)]
ODD = [
    Entry(
        "cn=WIN1,ou=odd,ou=machines",
        "computer",
        cn="WIN1",
        sn="x",
        instanceType="4",
        nTSecurityDescriptor="x",
        objectCategory="cn=computer",
        dNSHostName="WIN1.ad.test",
        operatingSystem="Windows Server 2022",
    ),
    Entry(
        "cn=nas,ou=odd,ou=machines",
        "device ipHost ieee802Device",
        cn=["nas", "nas.lab.test"],
        ipHostNumber=["192.0.2.7", "2001:DB8::7"],
        macAddress=["00:11:22:aa:bb:cc", "0:1:2:a:b:c"],
    ),
    Entry("cn=press,ou=odd,ou=machines", "device ipHost", cn="press", ipHostNumber=["127.0.0.1", "nowhere"]),
    Entry("cn=The printer,ou=odd,ou=machines", "device ipHost", cn="The printer", ipHostNumber="192.0.2.9"),
    Entry("cn=card,ou=odd,ou=machines", "device ieee802Device", cn="card", macAddress="ff:ff:ff:ff:ff:ff"),
    Entry("cn=a\\2Ab\\28c\\29\\5C,ou=odd,ou=machines", "device", cn="a*b(c)\\"),
    Entry("cn=esc,ou=odd,ou=machines", "device", cn="esc", description="\x1b[2J"),
    Entry("cn=big,ou=odd,ou=machines", "device", cn=["big", "y" * 500_000]),
    Entry(f"cn={'x' * 150},ou=odd,ou=machines", "device", cn="x" * 150),
    Entry("cn=\\1B[31m\\00red,ou=odd,ou=machines", "device", cn="\x1b[31m\0red"),
    Entry("cn=anna,ou=odd,ou=machines", "person", cn="anna", sn="x"),
]
AWAY = [
    Entry(
        "ou=away,ou=machines",
        "referral extensibleObject",
        ou="away",
        ref="ldap://192.0.2.1/ou=away,dc=corp,dc=test",
    )
]
UNITS = [Entry(f"ou={name},ou=machines", "organizationalUnit") for name in ("farm", "odd", "few")]
FEW = [Entry(f"cn=node{number},ou=few,ou=machines", "device", cn=f"node{number}") for number in range(10)]
READ = Limits(5, 30)


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    with Slapd([*UNITS, *FARM, *FEW, *ODD, *AWAY]) as running:
        yield running


@pytest.fixture
def directory(slapd: Slapd) -> Directory:
    return Directory(slapd.plain, MACHINES, READER, PASSWORD, slapd.ca_file)


def below(directory: Directory, unit: str, **more: Any) -> list[Found]:
    return list(ldap.discover(directory._replace(base=f"ou={unit},{MACHINES}", **more), READ, "Web"))


@pytest.mark.sockets
@pytest.mark.parametrize("page", [MANY, 500])
def test_more_machines_than_a_page_holds(
    directory: Directory, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 2696: 1,200 entries in pages, by StartTLS, each once."""
    monkeypatch.setattr(ldap, "PAGE", page)
    found = below(directory, "farm")
    right = {Sighting("ldap", f"node{number}", "corp.test", group="Web") for number in range(MANY)}
    assert set(found) == right
    assert len(found) == MANY


@pytest.mark.sockets
def test_what_an_entry_means(directory: Directory) -> None:
    found = below(directory, "odd")
    assert {one for one in found if isinstance(one, Sighting)} == {
        Sighting("ldap", "win1", "ad.test", (), None, "winrm", "windows", group="Web"),
        Sighting(
            "ldap",
            "nas",
            "lab.test",
            ("192.0.2.7", "2001:db8::7"),
            macs=("001122aabbcc", "0001020a0b0c"),
            group="Web",
        ),
        Sighting("ldap", "press", "corp.test", group="Web"),
        Sighting("ldap", "", "", ("192.0.2.9",), group="Web"),
        Sighting("ldap", "card", "corp.test", group="Web"),
        Sighting("ldap", "esc", "corp.test", group="Web"),
        Sighting("ldap", "big", "corp.test", group="Web"),
    }
    left_out = [one for one in found if isinstance(one, Skipped)]
    assert sorted(one.reason for one in left_out) == [
        "'127.0.0.1' is no address of a machine in a network",
        "'ff:ff:ff:ff:ff:ff' is no hardware address",
        "'nowhere' is no address of a machine in a network",
        "it has neither the name of a host nor an address",
        "it has neither the name of a host nor an address",
        "it has neither the name of a host nor an address",
    ]
    assert all(one.where.isprintable() and len(one.where) < 80 for one in left_out)


@pytest.mark.sockets
def test_by_ldaps_by_a_filter_and_by_a_name(slapd: Slapd, directory: Directory) -> None:
    """A star in a name stands for any text; everything else is taken as it is (RFC 4515 3)."""
    secure = directory._replace(url=slapd.secure)
    assert len(below(secure, "odd", query="(cn=nas)")) == 1
    assert len(below(secure, "odd", query="cn=nas")) == 1
    assert len(below(secure, "farm", named="node11*")) == 111
    assert len(below(secure, "farm", named="node11")) == 1
    assert len(below(secure, "odd", named="*)(cn=nas")) == 0
    assert len(below(secure, "odd", named="a*b(c)\\")) == 1
    assert below(secure, "odd", named="\0") == []


@pytest.mark.sockets
def test_referrals_are_said_and_not_followed(directory: Directory) -> None:
    """192.0.2.1 is not on loopback: a call there would fail this test."""
    found = list(ldap.discover(directory._replace(named="nas"), READ))
    (left_out,) = [one for one in found if isinstance(one, Skipped)]
    assert left_out.where == "referral"
    assert "ldap://192.0.2.1/" in left_out.reason
    with pytest.raises(Refused, match="is not followed; ask that one") as caught:
        below(directory, "away")
    assert "ldap://192.0.2.1/" in str(caught.value)


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"password": "wrong"}, "did not let cn=reader,dc=corp,dc=test in: invalidCredentials"),
        ({"account": f"cn=ghost,{BASE}"}, "did not let cn=ghost,dc=corp,dc=test in: invalidCredentials"),
        ({"base": f"ou=nowhere,{MACHINES}"}, "or this account may not see it"),
        ({"base": "dc=other,dc=test"}, "or this account may not see it"),
        ({"base": "zz=1"}, "is no DN there"),
        ({"account": STRANGER}, "or this account may not see it"),
        ({"account": "", "password": ""}, "or this account may not see it"),
    ],
)
def test_a_wrong_password_account_or_base_is_refused(
    directory: Directory, wrong: dict[str, str], said: str
) -> None:
    with pytest.raises(Refused, match=said) as caught:
        list(ldap.discover(directory._replace(**wrong), READ))  # type: ignore[arg-type]
    assert caught.value.refusal.code == "directory-refused"
    assert PASSWORD not in str(caught.value)


@pytest.mark.sockets
def test_a_server_s_own_limit_leaves_what_it_gave(slapd: Slapd) -> None:
    with Slapd([*UNITS, *FARM[:30]], size_limit="20") as small:
        directory = Directory(small.plain, MACHINES, READER, PASSWORD, small.ca_file)
        found: list[Found] = []
        with pytest.raises(Refused, match="gave 20 entries and ended by its own limit of number"):
            found.extend(ldap.discover(directory, READ))
        reading = ldap.discover(directory, READ)
        assert sum(1 for _ in zip(range(20), reading, strict=False)) == 20


@pytest.mark.sockets
def test_no_more_entries_are_taken_than_the_limit(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ldap, "MOST_ENTRIES", 10)
    with pytest.raises(Refused, match="no more are taken"):
        below(directory, "few")
    monkeypatch.setattr(ldap, "MOST_ENTRIES", 11)
    assert len(below(directory, "few")) == 10


@pytest.mark.sockets
@pytest.mark.parametrize("page", [9, 10, 11])
def test_a_last_page_that_is_full(directory: Directory, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ldap, "PAGE", page)
    assert len(set(below(directory, "few"))) == len(below(directory, "few")) == 10


@pytest.mark.sockets
@pytest.mark.parametrize("way", ["plain", "secure"])
def test_a_server_that_does_not_prove_to_be_the_one(
    slapd: Slapd, directory: Directory, way: str, tmp_path: Path
) -> None:
    """Neither with a CA that is not its own, nor with the system's, nor under another name is the password sent."""
    certificate.make(tmp_path / "other", "other")
    url = getattr(slapd, way)
    for wrong in (
        {"ca_file": tmp_path / "other" / "certificate.pem"},
        {"ca_file": None},
        {"url": url.replace("localhost", LOOPBACK)},
    ):
        with pytest.raises(Unreachable, match="certificate verify failed") as caught:
            list(ldap.discover(directory._replace(**{"url": url, **wrong}), READ))
        assert caught.value.refusal.code == "directory-unreachable"
        assert "('" not in str(caught.value)


@pytest.mark.sockets
def test_plain_only_if_it_is_asked_for(slapd: Slapd, directory: Directory) -> None:
    assert len(below(directory, "odd", unsafe_plain=True, query="(cn=nas)", ca_file=None)) == 1
    with pytest.raises(Unreachable):
        below(directory, "odd", url=slapd.secure.replace("ldaps", "ldap"))


class Listener:
    """A server that takes a call, and then does what it is told with it; it counts what it was sent."""

    def __init__(self, answer: bytes, *, close: bool = False, slowly: bool = False) -> None:
        self._answer, self._close, self._slowly = answer, close, slowly
        self._ended = threading.Event()
        self.got = b""

    def __enter__(self) -> Self:
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with socket.socket() as waking:
            waking.connect_ex((LOOPBACK, self.port))
        self._thread.join(10)
        self._listening.close()

    def _serve(self) -> None:
        caller, _ = self._listening.accept()
        with caller:
            caller.settimeout(10)
            try:
                self.got += caller.recv(4096)
                if self._slowly:
                    while not self._ended.wait(0.1):
                        caller.sendall(self._answer)
                caller.sendall(self._answer)
                if not self._close:
                    self._ended.wait(10)
            except OSError:
                return


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("server", "said"),
    [
        (Listener(b""), "timed out"),
        (Listener(b"", close=True), "localhost port"),
        (Listener(b"HTTP/1.1 400 Bad Request\r\n\r\n", close=True), "localhost port"),
        (Listener(b"\x30\x84\xff\xff\xff\xff"), "timed out"),
        (Listener(b"\x30\x84\x00\x00\xff\xff", slowly=True), "took longer than 2 s"),
    ],
    ids=["hangs", "closes", "is-no-directory", "promises-4-GiB", "drips"],
)
def test_a_server_that_is_none_is_left_in_time(server: Listener, said: str) -> None:
    with server:
        directory = Directory(f"ldap://localhost:{server.port}", BASE, READER, PASSWORD)
        with pytest.raises(Unreachable, match=said) as caught:
            list(ldap.discover(directory, Limits(1, 2)))
        assert caught.value.refusal.code == "directory-unreachable"
    assert PASSWORD.encode() not in server.got
    assert str(caught.value).isprintable()


@pytest.mark.sockets
def test_nobody_there() -> None:
    for directory in (
        Directory(f"ldap://localhost:{free_port()}", BASE),
        Directory(f"ldaps://{LOOPBACK}:{free_port()}", BASE),
    ):
        with pytest.raises(Unreachable, match="refused"):
            list(ldap.discover(directory, READ))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "corp.test"}, "no directory's address"),
        ({"url": "http://corp.test"}, "no directory's address"),
        ({"url": "ldap://"}, "no directory's address"),
        ({"url": "ldap://corp.test:99999"}, "no directory's address"),
        ({"url": "ldap://corp.test:0"}, "no directory's address"),
        ({"url": "ldap://user:secret@corp.test"}, "no directory's address"),
        ({"url": "ldap://corp.test/dc=corp"}, "no directory's address"),
        ({"url": "ldap://[::1"}, "no directory's address"),
        ({"base": "corp.test"}, "no base"),
        ({"account": READER}, "The account has no password"),
        ({"ca_file": Path("missing.pem")}, "missing.pem: No such file"),
        ({"query": "(cn="}, "no LDAP filter"),
        ({"query": ""}, "no LDAP filter"),
    ],
)
def test_what_is_wrong_is_said_before_anybody_is_called(wrong: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(ldap.discover(Directory("ldap://corp.test", BASE)._replace(**wrong)))  # type: ignore[arg-type]


def test_a_ca_file_that_holds_none(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with pytest.raises(UsageError, match="holds no certificate"):
        list(ldap.discover(Directory("ldap://corp.test", BASE, ca_file=file)))
    assert issubclass(ssl.SSLError, OSError)
