"""What a machine says of itself for DNS: nothing that others could not use (D1)."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from volact.config import KmshostSettings
from volact.kmshost import whereabouts

pytestmark = pytest.mark.sockets


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    for one in (whereabouts._name, whereabouts._resolved, whereabouts._nameservers):
        one.cache_clear()


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


# --- a network that leads nowhere else, in a namespace of its own ---------------------------------------------------

_LOOK = """
import json, socket, sys
from volact.config import KmshostSettings
from volact.kmshost import whereabouts
asked, real = [], socket.getaddrinfo
socket.getaddrinfo = lambda *given, **more: (asked.append(given[0]), real(*given, **more))[1]
found = [whereabouts.here(KmshostSettings(dns_name="a", dns_server=sys.argv[1])) for _ in range(5)]
print(json.dumps([found[-1].addresses, asked]))
"""
_ISOLATED = """set -e
ip link add v0 type veth peer name v1
ip addr add 10.9.9.9/24 dev v0
ip link set v0 up
ip link set v1 up
mount --bind "$RESOLV" /etc/resolv.conf
exec "$PYTHON" -c "$LOOK" "$SERVER"
"""


def isolated(folder: Path, nameserver: str, server: str) -> tuple[list[str], list[str]]:
    """The addresses that a machine at 10.9.9.9 without a default route finds at its fifth look, and what it looked up."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    for program in ("ip", "unshare"):
        if shutil.which(program, path=path) is None:
            reason = f"{program} is not installed"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    (folder / "resolv.conf").write_text(f"nameserver {nameserver}\n")
    own = {
        "PATH": path, "LOOK": _LOOK, "PYTHON": sys.executable, "RESOLV": str(folder / "resolv.conf"), "SERVER": server
    }  # fmt: skip
    done = subprocess.run(
        ["unshare", "-rnm", "sh", "-c", _ISOLATED],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    addresses, asked = json.loads(done.stdout)
    return addresses, asked


def test_d1_without_a_default_route_it_is_the_way_to_the_name_server_that_counts(tmp_path: Path) -> None:
    assert isolated(tmp_path, "10.9.9.1", "") == (["10.9.9.9"], [])
    assert isolated(tmp_path, "192.0.2.53", "10.9.9.1") == (["10.9.9.9"], [])


def test_what_has_no_way_at_all_looks_its_own_name_up_once(tmp_path: Path) -> None:
    addresses, asked = isolated(tmp_path, "192.0.2.53", "")
    assert addresses == []
    assert asked == [socket.gethostname()]


def test_a_name_is_looked_up_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    clock = SimpleNamespace(seconds=600.0)

    def look_up(name: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(name)
        return [(0, 0, 0, "", ("192.0.2.9", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(time, "monotonic", lambda: clock.seconds)
    for seconds, lookups in ((600.0, 1), (659.9, 1), (660.0, 2)):
        clock.seconds = seconds
        found = whereabouts.here(KmshostSettings(listen="kms.corp.test", dns_name="a"))
        assert (found.addresses, len(asked)) == (("192.0.2.9",), lookups)
