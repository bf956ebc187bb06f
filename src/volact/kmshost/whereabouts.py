"""What this machine says of itself for DNS: its name, and the addresses that others reach it at (D1).

Nothing is sent for the addresses: they are those from which the system would call the DNS server that is set, anybody
at all, or the name servers that it asks itself, whichever of these it has a way to. So a bridge for containers, or an
address that changes for privacy, is not published, and a network that leads nowhere else has an address, too. Names are
looked up, and the system's configuration is read, once a minute at most: this is asked twice a second.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import socket
import time
from typing import TYPE_CHECKING

import dns.exception
import dns.resolver

from volact.kmshost import dnsrecords
from volact.kmshost.dnsrecords import Invalid, Whereabouts

if TYPE_CHECKING:
    from volact.config import KmshostSettings

_FARAWAY = {socket.AF_INET: "203.0.113.253", socket.AF_INET6: "2001:db8::fffe"}
"""Addresses of no machine (RFC 5737, RFC 3849): the way to them is the default one."""
_ANY_PORT = 9
_IPV6_ADDR_PREFERENCES, _PREFER_PUBLIC = 72, 2
"""Linux: rather an address that stays than one that changes for privacy (RFC 5014); the module has no names for them."""
_KEPT_SECONDS = 60
_LOCAL = ("localhost", "localhost.localdomain", "ip6-localhost")


def here(settings: KmshostSettings) -> Whereabouts:
    """The name and the addresses of a machine that listens as the settings say; what is set is not looked for."""
    server = ""
    with contextlib.suppress(Invalid):
        server = dnsrecords.server_of(settings.dns_server)[0] if settings.dns_server else ""
    if server and not dnsrecords.is_address(server):
        server = next(iter(_resolved(server, _minute())), "")
    listen = settings.listen.removeprefix("[").removesuffix("]")
    return Whereabouts(
        "" if settings.dns_name else _name(socket.gethostname()),
        () if settings.dns_addresses else _addresses(listen, server),
    )


@functools.lru_cache(maxsize=1)
def _name(hostname: str) -> str:
    """The machine's name with its domain, if it has one; asked for once, since the system may ask DNS for it."""
    for found in (hostname if "." in hostname else socket.getfqdn(hostname), hostname):
        with contextlib.suppress(Invalid):
            name = dnsrecords.target_of(found)
            if name not in _LOCAL and not name.startswith("localhost."):
                return name
    return ""


def _addresses(listen: str, server: str) -> tuple[str, ...]:
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        return tuple(_resolved(listen, _minute())[:1])  # as `http.bind` takes the first
    if not address.is_unspecified:
        return (str(address),)
    families = (socket.AF_INET,) if address.version == 4 else (socket.AF_INET, socket.AF_INET6)  # noqa: PLR2004
    found = [source for family in families if (source := _source(family, server))]
    return tuple(found or [one for one in _resolved(socket.gethostname(), _minute()) if _reachable(one)])


def _source(family: socket.AddressFamily, server: str) -> str:
    """The address from which the system would call the DNS server, or anybody, or its own; empty if it has no way."""
    for peer in (server, _FARAWAY[family], *_nameservers(_minute())):
        with contextlib.suppress(OSError, ValueError):
            if not peer or (":" in peer) != (family == socket.AF_INET6):
                continue
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                if family == socket.AF_INET6:
                    with contextlib.suppress(OSError):
                        probe.setsockopt(socket.IPPROTO_IPV6, _IPV6_ADDR_PREFERENCES, _PREFER_PUBLIC)
                probe.connect((str(ipaddress.ip_address(peer)), _ANY_PORT))
                source = str(probe.getsockname()[0])
            if _reachable(source):
                return source
    return ""


def _reachable(text: str) -> bool:
    """Whether others could reach a machine there."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or "%" in text)


def _minute() -> int:
    """What changes once a minute: until then it is remembered what was looked up."""
    return int(time.monotonic() // _KEPT_SECONDS)


@functools.lru_cache(maxsize=8)
def _resolved(name: str, _minute: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(one[4][0]) for one in found))


@functools.lru_cache(maxsize=1)
def _nameservers(_minute: int) -> tuple[str, ...]:
    """The addresses of the name servers that the system asks."""
    try:
        return tuple(str(one) for one in dns.resolver.Resolver().nameservers)
    except (dns.exception.DNSException, OSError, ValueError):  # no configuration, or none that can be read
        return ()
