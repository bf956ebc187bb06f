"""What every source has in common: names, addresses and hardware addresses as sightings hold them. Pure (V1).

- One machine found twice must be one row, so there is one spelling of everything: names in small letters and split into
  host and domain, addresses in their shortest form, IPv4 written as IPv6 as IPv4.
- A source is written by others. What is no name of a host is left out with its reason, and a reason never holds what
  would steer a terminal (T26).
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from volact.protocol.problems import printable
from volact.vamt.inventory import Sighting

MOST_NAME = 253
"""Characters of a name (RFC 1035), without a final dot."""
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_MAC = re.compile(r"[0-9a-f]{12}")
_MAC_PARTS = 6
_NO_MAC = ("0" * 12, "f" * 12)
_SHOWN = 60
_EVERYBODY = ipaddress.IPv4Address("255.255.255.255")
_OWN_NAMES = ("localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "loopback")


class Skipped(NamedTuple):
    """One row of a source that gave no machine.

    Attributes:
        where: which row it was: a line, a name, an entry.
        reason: why it was left out, for people.
    """

    where: str
    reason: str


Found: TypeAlias = Sighting | Skipped
"""What a source yields."""


class Host(NamedTuple):
    """A host's name in two parts; the domain is empty where it is not known."""

    name: str
    domain: str = ""


def host(text: str) -> Host | None:
    """The name of a host, in one part or with its domain; None if the text is no such name.

    An address is none, nor what every machine calls itself, nor a label that begins with ``_`` (RFC 952, RFC 1912 2.1).
    """
    found = text.strip().removesuffix(".").lower()
    if len(found) > MOST_NAME or not found.isascii():
        return None
    name, dot, rest = found.partition(".")
    if found[found.rfind(".") + 1 :].isdigit() or name in _OWN_NAMES:
        return None
    return Host(name, rest) if _LABEL.fullmatch(name) and (not dot or _are_labels(rest)) else None


@lru_cache(maxsize=1024)
def _are_labels(domain: str) -> bool:
    """Whether a domain is one; most machines of a source are in the same few."""
    return all(_LABEL.fullmatch(label) for label in domain.split("."))


def address(text: str, *, here: bool = True) -> str | None:
    """One machine's address in its shortest form; None if the text is none.

    `here`: whether the addresses that only this machine can use (127.0.0.0/8, ::1) count. An address with a zone
    (``fe80::1%eth0``) means nothing elsewhere, so it never does.
    """
    try:
        found = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    found = getattr(found, "ipv4_mapped", None) or found
    if getattr(found, "scope_id", None) or not is_unicast(found) or (found.is_loopback and not here):
        return None
    return str(found)


def is_unicast(found: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address can be one machine's."""
    return not (found.is_multicast or found.is_unspecified or found == _EVERYBODY)


def mac(text: str) -> str | None:
    """A hardware address as 12 hex digits in small letters; None if the text is none, or all 0 or all F."""
    found = text.strip().lower()
    for separator in ":-":
        parts = found.split(separator)
        if len(parts) == _MAC_PARTS and all(parts):
            found = "".join(part.zfill(2) for part in parts)  # some leave the zero at the front out
            break
    found = found.replace(".", "")
    return found if _MAC.fullmatch(found) and found not in _NO_MAC else None


@lru_cache(maxsize=1024)
def platform(system: str) -> str:
    """``linux``, ``windows``, ``macos`` for what an operating system calls itself; empty if it is none of these."""
    words = system.lower()
    known = (
        ("windows", ("windows",)),
        ("macos", ("macos", "mac os", "os x", "darwin")),
        ("linux", ("linux", "ubuntu", "debian", "red hat", "centos", "fedora", "suse", "rocky")),
    )
    return next((name for name, signs in known if any(sign in words for sign in signs)), "")


def shown(text: str) -> str:
    """What somebody wrote, quoted, so that it can stand in a reason: its beginning, without steering characters."""
    return f"{printable(text[:_SHOWN])!r}" + ("…" if len(text) > _SHOWN else "")
