"""A KMS host's address as a person writes it: ``NAME[:PORT]``, ``[IPv6][:PORT]`` or ``:PORT`` (rule S).

Pure; every wrong form is refused with what would be right. No name is looked up here.
"""

from __future__ import annotations

import ipaddress
import re

from volact.protocol import keys
from volact.protocol.policy import DEFAULT_PORT
from volact.protocol.problems import Refusal, UsageError
from volact.protocol.values import NamedTuple

_MOST_CHARACTERS, _MOST_PORT = 253, 65535
_PORT = re.compile(r":([0-9]{1,5})")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_HINT = "Give NAME, NAME:PORT, [IPv6]:PORT or :PORT."


class Address(NamedTuple):
    """Where a KMS host listens.

    Attributes:
        name: a DNS name or an IP address, without brackets; empty where only the port is set.
        port: its TCP port.
    """

    name: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        """``host:port``, as it is shown and stored."""
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def is_port(number: object) -> bool:
    """Whether it is the number of a TCP port."""
    return type(number) is int and 1 <= number <= _MOST_PORT


def read(text: str) -> Address:
    """Read an address.

    Raises:
        UsageError: saying which part is wrong.
    """
    if not isinstance(keys.read(text), Refusal):
        raise UsageError("That is a product key, and a host is asked for.", "Install a key by `slmgr /ipk`.")
    if "/" in text:
        raise UsageError(f"{text[:80]!r} is a URL or path, and a host is asked for.", _HINT)
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_ipv6(name):
            raise UsageError(f"{text[:80]!r} holds no IPv6 address in brackets.", _HINT)
        return Address(name, _port(rest, text))
    if text.count(":") > 1:
        raise UsageError(f"{text[:80]!r} is an IPv6 address without brackets?", "Give [IPv6]:PORT.")
    name, colon, port = text.partition(":")
    if name and not _is_name(name):
        raise UsageError(f"{text[:80]!r} is no host name.", f"{_HINT} A name in its ASCII form (xn--...).")
    if not name and not colon:
        raise UsageError("No host is named.", _HINT)
    return Address(name, _port(colon + port, text))


def read_domain(text: str) -> str:
    """Read a DNS domain, as ``/skms-domain`` takes it; without a final dot, in small letters.

    Raises:
        UsageError: saying what is wrong.
    """
    if not isinstance(keys.read(text), Refusal):
        raise UsageError(
            "That is a product key, and a domain is asked for.", "Install a key by `slmgr /ipk`."
        )
    name = text.removesuffix(".").lower()
    if not is_domain(name):
        hint = "Give a DNS domain such as example.com, in its ASCII form (xn--...)."
        raise UsageError(f"{text[:80]!r} is no DNS domain.", hint)
    return name


def is_domain(name: str) -> bool:
    """Whether it is a DNS name, of a domain or of a host, without a final dot; an address is none."""
    return not name.endswith(".") and not name.rpartition(".")[2].isdigit() and _is_name(name)


def is_unicast(ip: str) -> bool:
    """Whether it is the address of one machine."""
    try:
        found = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    return not (
        found.is_multicast or found.is_unspecified or found == ipaddress.IPv4Address("255.255.255.255")
    )


def _port(rest: str, text: str) -> int:
    if not rest:
        return DEFAULT_PORT
    found = _PORT.fullmatch(rest)
    if found is None or not is_port(int(found[1])):
        raise UsageError(
            f"{text[:80]!r} has no port from 1 to {_MOST_PORT}, at most 5 digits, after the colon.", _HINT
        )
    return int(found[1])


def _is_ipv6(name: str) -> bool:
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        return False
    return True


def _is_name(name: str) -> bool:
    """A DNS name or an IPv4 address; a name of digits only is taken for an address and must be one."""
    if name.replace(".", "").isdigit():
        try:
            ipaddress.IPv4Address(name)
        except ValueError:
            return False
        return True
    labels = name.removesuffix(".").split(".")
    return len(name) <= _MOST_CHARACTERS and all(_LABEL.fullmatch(label) for label in labels)
