"""Which DNS records a host publishes, and what may be changed for them (D1, D2, T18): values in, values out.

- Only a host's own records are ever touched: its SRV record is one value of a set that others share, and the addresses
  of its name are its own only if it put them there. A name that others hold is theirs, and nothing is published then.
- An update is signed or it is not made: a key file holds one TSIG key, hmac-sha256 or better (RFC 8945).
- Names are ASCII; international ones are converted. Everything is in small letters, without a final dot.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

import dns.exception
import dns.name

from volact import tsig
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from volact.config import KmshostSettings
    from volact.tsig import Key

TTL = 3600
"""Seconds that resolvers keep a record: an hour, as the classic host's."""
DNS_PORT = 53
ALGORITHMS = ("hmac-sha256", "hmac-sha384", "hmac-sha512")
_LEAST_SECRET = 16
"""Bytes: a shorter one could be guessed."""
_MAX = 65535
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]{1,5}")


class DnsRecord(NamedTuple):
    """What a host publishes in one domain, or has published there.

    Attributes:
        domain: the domain.
        label: the service's label in it.
        target: the host's name.
        port: its TCP port.
        priority: lower ones are tried first (RFC 2782).
        weight: share of the clients among those of one priority.
        addresses: of the target, those that the host publishes or, of what it has published, those that it put there.
    """

    domain: str
    label: str
    target: str
    port: int
    priority: int
    weight: int
    addresses: tuple[str, ...]

    @property
    def owner(self) -> str:
        """The name of the SRV record."""
        return f"{self.label}.{self.domain}"

    @property
    def srv(self) -> str:
        """Its value, as a zone file has it."""
        return f"{self.priority} {self.weight} {self.port} {_absolute(self.target)}"


class Whereabouts(NamedTuple):
    """What a machine says of itself.

    Attributes:
        name: its name, with its domain if it has one; empty if it has none of its own.
        addresses: the ones that others reach it at.
    """

    name: str
    addresses: tuple[str, ...]


class Domain(NamedTuple):
    """One of the domains in which to publish."""

    name: str
    priority: int = 0
    weight: int = 100


class Invalid(ValueError):
    """A text is no name, domain, address or server; the message says why."""


# --- settings -----------------------------------------------------------------------------------------------------


def name_of(text: str) -> str:
    """A name as DNS has it: ASCII, small letters, no final dot.

    Raises:
        Invalid: if it is none that a host or domain may have.
    """
    shown = repr(text[:60])
    try:
        name = dns.name.from_text(text, dns.name.root).to_text(omit_final_dot=True).lower()
    except dns.name.LabelTooLong:
        raise Invalid(f"{shown}: a part between dots has at most 63 characters") from None
    except dns.name.NameTooLong:
        raise Invalid(f"{shown}: a name has at most 253 characters") from None
    except (dns.exception.DNSException, UnicodeError):
        raise Invalid(f"{shown} is no name in DNS") from None
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise Invalid(f"{shown} is no name in DNS")
    return name


def domains_of(text: str) -> tuple[Domain, ...]:
    """Read ``DOMAIN [PRIORITY [WEIGHT]], ...``; empty for none.

    Raises:
        Invalid: naming what is wrong.
    """
    found: dict[str, Domain] = {}
    for part in text.split(",") if text.strip() else []:
        words = part.split()
        if not 1 <= len(words) <= 3:  # noqa: PLR2004 - the three that the docstring names
            raise Invalid(f"{part.strip()[:60]!r} is no DOMAIN [PRIORITY [WEIGHT]]")
        numbers = [_number(word) for word in words[1:]]
        domain = Domain(name_of(words[0]), *numbers)
        if domain.name in found:
            raise Invalid(f"{domain.name} is there twice")
        found[domain.name] = domain
    return tuple(found.values())


def _number(word: str) -> int:
    if not _NUMBER.fullmatch(word) or int(word) > _MAX:
        raise Invalid(f"{word[:60]!r}: a priority or weight is a number from 0 to {_MAX}")
    return int(word)


def target_of(text: str) -> str:
    """Read the name of the host; it may be without a domain.

    Raises:
        Invalid: if it is none, or an address.
    """
    name = name_of(text)
    if name.rpartition(".")[2].isdigit():
        raise Invalid(f"{text[:60]!r} is no name: an SRV record cannot hold an address")
    return name


def addresses_of(text: str) -> tuple[str, ...]:
    """Read addresses, separated by commas.

    Raises:
        Invalid: if one is none that clients could call.
    """
    return tuple(dict.fromkeys(_address(part.strip()) for part in text.split(","))) if text.strip() else ()


def _address(text: str) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise Invalid(f"{text[:60]!r} is no address") from None
    if found.is_unspecified or found.is_multicast or "%" in text or getattr(found, "ipv4_mapped", None):
        raise Invalid(f"{text[:60]!r} is no address that clients could call")
    return str(found)


def is_address(text: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def key_file_of(text: str) -> str:
    """Read the path of the key file: a whole one, for a service is started in another folder than a command.

    Raises:
        Invalid: if it is not.
    """
    if not PurePath(text).is_absolute():
        raise Invalid(f"{text[:60]!r} is no whole path; give it from the root of the file system on")
    return text


def server_of(text: str) -> tuple[str, int]:
    """Read ``HOST[:PORT]`` or ``[IPv6]:PORT``.

    Raises:
        Invalid: if it is neither.
    """
    if text.count(":") > 1 and not text.startswith("["):
        return _address(text), DNS_PORT
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    host = host if colon else text
    if colon and not (_NUMBER.fullmatch(port) and 0 < int(port) <= _MAX):
        raise Invalid(f"{port[:60]!r} is no port")
    if host.startswith("[") and host.endswith("]"):
        host = _address(host[1:-1])
    elif host.rpartition(".")[2].isdigit():
        host = _address(host)
    else:
        host = name_of(host)
    return host, int(port) if colon else DNS_PORT


def problem_of(settings: KmshostSettings) -> str:
    """What is wrong with the settings of DNS, with the setting's name; empty if nothing is."""
    for name, read in _READERS:
        text = getattr(settings, name)
        try:
            if text:
                read(text)
        except Invalid as error:
            return f"{name}: {error}."
    if not settings.dns_label:
        return "dns_label is empty; the default is _volact._tcp."
    for domain in domains_of(settings.dns_domains):
        for other, before in (("dns_label", settings.dns_label), ("dns_name", _short(settings.dns_name))):
            try:
                name_of(f"{before}.{domain.name}" if before else domain.name)
            except Invalid as error:
                return f"dns_domains: with {other}, {error}."
    return ""


def _short(name: str) -> str:
    """A name that is to be completed by the domain; empty if it is complete."""
    return "" if "." in name else name


_READERS = (
    ("dns_label", name_of),
    ("dns_domains", domains_of),
    ("dns_name", target_of),
    ("dns_addresses", addresses_of),
    ("dns_server", server_of),
    ("dns_key_file", key_file_of),
)


def wanted(settings: KmshostSettings, here: Whereabouts, port: int) -> tuple[DnsRecord, ...]:
    """What to publish, one record a domain; a record without a target if the machine has no name (D1).

    The settings are without a problem. An address is published only where the name lies in the domain.
    """
    label = name_of(settings.dns_label)
    name = target_of(settings.dns_name) if settings.dns_name else here.name
    addresses = addresses_of(settings.dns_addresses) or here.addresses
    found = []
    for domain in domains_of(settings.dns_domains):
        target = name if "." in name or not name else f"{name}.{domain.name}"
        inside = addresses if target.endswith(f".{domain.name}") else ()
        found.append(DnsRecord(domain.name, label, target, port, domain.priority, domain.weight, inside))
    return tuple(found)


def by_hand(settings: KmshostSettings, here: Whereabouts, port: int) -> tuple[DnsRecord, ...]:
    """What to enter by hand: as `wanted`, or without a domain one record relative to whatever zone it is for (D2)."""
    found = wanted(settings, here, port)
    if found:
        return found
    name = target_of(settings.dns_name) if settings.dns_name else here.name
    addresses = addresses_of(settings.dns_addresses) or here.addresses
    usual = Domain("")
    label = name_of(settings.dns_label)
    return (DnsRecord("", label, name, port, usual.priority, usual.weight, addresses),) if name else ()


def lines(found: Sequence[DnsRecord]) -> list[str]:
    """Records as lines of a zone file; without a domain they are relative to the zone's name."""
    text: list[str] = []
    for record in found:
        owner = f"{record.owner}." if record.domain else record.label
        text.append(f"{owner} {TTL} IN SRV {record.srv}")
        text += [f"{_absolute(record.target)} {TTL} IN {type_of(one)} {one}" for one in record.addresses]
    return list(dict.fromkeys(text))


def _absolute(name: str) -> str:
    return f"{name}." if "." in name else name


def type_of(address: str) -> str:
    """The type of the record that holds an address."""
    return "AAAA" if ":" in address else "A"


# --- the key ------------------------------------------------------------------------------------------------------


def read_key(text: str) -> Key | Refusal:
    """Read a key file as `tsig-keygen` writes it; what is wrong with it is said without its secret (T18)."""
    try:
        key = tsig.read(text)
        key = key._replace(name=name_of(key.name))
    except (tsig.Malformed, Invalid) as error:
        return _malformed(f"{error}.")
    if key.algorithm not in ALGORITHMS:
        return _malformed(f"{key.algorithm[:40]!r} is none of {', '.join(ALGORITHMS)}.")
    if len(key.secret) < _LEAST_SECRET:
        return _malformed(f"Its secret has {len(key.secret)} bytes; it needs {_LEAST_SECRET} or more.")
    return key


def _malformed(detail: str) -> Refusal:
    return Refusal("dns-key-malformed", detail)


# --- what may be changed ------------------------------------------------------------------------------------------


class Change(NamedTuple):
    """What an update does to the addresses of a name.

    Attributes:
        before: what must be there when it is done, and nothing else; None if it does not matter.
        add: what to add.
        delete: what to take away.
        owned: those that are the host's own after it.
    """

    before: frozenset[str] | None
    add: tuple[str, ...]
    delete: tuple[str, ...]
    owned: tuple[str, ...]


def decide(new: DnsRecord, own: Sequence[str], served: Collection[str]) -> Change | Refusal:
    """How the addresses of the host's name may be changed, from those that are served for it now (D2, T18).

    `own` are those that this host has put there, or may have.
    """
    there = frozenset(served)
    if not new.addresses:
        return Change(None, (), (), tuple(own))
    if there <= frozenset(own):  # also: there are none
        add = tuple(one for one in new.addresses if one not in there)
        delete = tuple(one for one in own if one in there and one not in new.addresses)
        return Change(there if add or delete else None, add, delete, new.addresses)
    if there & frozenset(new.addresses):  # an administrator or DHCP put them there, and keeps them
        return Change(None, (), (), tuple(one for one in own if one in there))
    detail = f"{new.target} has {', '.join(sorted(there)[:4])}, which this host has not published."
    return Refusal("dns-name-taken", detail)
