"""A KMS host's address as a person writes it: ``NAME[:PORT]``, ``[IPv6][:PORT]`` or ``:PORT`` (rule S).

Pure; every wrong form is refused with what would be right. No name is looked up here.
"""

from __future__ import annotations

import ipaddress
import re

from volact.protocol.policy import DEFAULT_PORT
from volact.protocol.problems import UsageError
from volact.protocol.values import NamedTuple

_MOST_CHARACTERS, _MOST_PORT = 253, 65535
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


def read(text: str) -> Address:
    """Read an address.

    Raises:
        UsageError: saying which part is wrong.
    """
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


def _port(rest: str, text: str) -> int:
    if not rest:
        return DEFAULT_PORT
    digits = rest[1:]
    if (
        rest[0] != ":"
        or not (digits.isascii() and digits.isdigit())
        or not 1 <= int(digits[:6]) <= _MOST_PORT
    ):
        raise UsageError(f"{text[:80]!r} has no port from 1 to {_MOST_PORT} after the colon.", _HINT)
    return int(digits)


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
