"""What a machine says of itself for DNS: nothing that others could not use (D1)."""

import socket

import pytest

from volact.config import KmshostSettings
from volact.kmshost import whereabouts

pytestmark = pytest.mark.sockets


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    whereabouts._name.cache_clear()


@pytest.mark.parametrize(
    ("hostname", "qualified", "name"),
    [
        ("kms1.corp.test", "never asked", "kms1.corp.test"),
        ("KMS1", "kms1.corp.test", "kms1.corp.test"),
        ("kms1", "kms1", "kms1"),
        ("kms1", "localhost", "kms1"),
        ("kms1", "localhost.localdomain", "kms1"),
        ("kms1", "ip6-localhost", "kms1"),
        ("localhost", "localhost", ""),
        ("localhost.corp.test", "", ""),
        ("192.0.2.1", "192.0.2.1", ""),
        ("a b", "a b", ""),
    ],
)
def test_the_name_is_the_machines_own_with_its_domain_if_it_has_one(
    monkeypatch: pytest.MonkeyPatch, hostname: str, qualified: str, name: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    monkeypatch.setattr(socket, "getfqdn", lambda _name: qualified)
    assert whereabouts.here(KmshostSettings(listen="192.0.2.1")).name == name


def test_what_is_set_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda _name: pytest.fail("asked for the name"))
    monkeypatch.setattr(whereabouts, "_addresses", lambda *_: pytest.fail("asked for the addresses"))
    assert whereabouts.here(KmshostSettings(dns_name="a", dns_addresses="192.0.2.1")) == ("", ())


@pytest.mark.parametrize(
    ("listen", "addresses"),
    [
        ("192.0.2.7", ("192.0.2.7",)),
        ("[2001:DB8::7]", ("2001:db8::7",)),
        ("2001:db8::7", ("2001:db8::7",)),
        ("127.0.0.1", ("127.0.0.1",)),  # somebody set it
    ],
)
def test_the_address_that_is_listened_on_is_published(listen: str, addresses: tuple[str, ...]) -> None:
    found = whereabouts.here(KmshostSettings(listen=listen, dns_name="a"))
    assert found.addresses == addresses


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "[::]"])
def test_of_all_addresses_those_from_which_the_system_calls_out(listen: str) -> None:
    """A name server on loopback is no way out: no address of loopback is published."""
    for server in ("", "127.0.0.1:53", "ns.corp.test"):
        found = whereabouts.here(KmshostSettings(listen=listen, dns_name="a", dns_server=server)).addresses
        assert not [one for one in found if one.startswith(("127.", "::1", "fe80:", "169.254."))]
        if listen == "0.0.0.0":
            assert not [one for one in found if ":" in one]
