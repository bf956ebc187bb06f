"""Address ranges and lists as a person writes them, IPv4 and IPv6. Pure (V1).

``192.0.2.7``, ``192.0.2.0/24``, ``192.0.2.1-192.0.2.50``, ``192.0.2.1-50``, ``2001:db8::/120``; separated by commas, blanks
or lines; ``#`` begins a comment.

- Nothing but listed addresses is ever asked: of a network the machines' addresses, not its own and not its broadcast one.
- More than MOST addresses at once are refused before any is made, so that an IPv6 /64 costs nothing.
- What is wrong is said with its line and column.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from volact import sources
from volact.protocol.problems import Refusal, Refused
from volact.vamt.discovering import names

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 65_536
"""Addresses of all ranges together, those of a network and its broadcast included: one /16, or an IPv6 /112."""
_ITEM = re.compile(r"[^\s,;#-]+(?:[ \t]*-[ \t]*[^\s,;#-]*)?|-[^\s,;#]*")
_HINT = "give ADDRESS, ADDRESS/BITS or FIRST-LAST"
_LAST_OCTET = re.compile(r"[0-9]{1,3}")
_MOST_OCTET = 255
_NO_BROADCAST = 2
"""A network of so many addresses or fewer has none that are not machines' (RFC 3021, RFC 6164)."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Range(NamedTuple):
    """Addresses one after another, the last included.

    Attributes:
        first: the lowest.
        last: the highest; of the same version.
        size: how many addresses were named; those of a network and its broadcast count.
    """

    first: _Address
    last: _Address
    size: int

    def addresses(self) -> Iterator[str]:
        """Each address in its shortest form, ascending."""
        make = type(self.first)
        return (str(make(number)) for number in range(int(self.first), int(self.last) + 1))


def read(text: str) -> list[Range]:
    """Read ranges.

    Raises:
        Refused: `list-malformed` with line and column; `range-too-large` with the limit, in `extra` also.
    """
    found: list[Range] = []
    total = 0
    for number, line in enumerate(text.split("\n"), 1):
        for match in _ITEM.finditer(line.partition("#")[0]):
            one = _range(match[0], number, match.start() + 1)
            total += one.size
            if total > MOST:
                raise Refused(
                    Refusal(
                        "range-too-large",
                        f"With {names.shown(match[0])} they are more than {MOST:,} addresses.",
                        (("limit", MOST),),
                    )
                )
            found.append(one)
    return found


def addresses(text: str) -> list[str]:
    """All addresses of the ranges in a text, each once, in their order.

    Raises:
        Refused: as `read`.
    """
    return list(dict.fromkeys(one for found in read(text) for one in found.addresses()))


def _range(item: str, line: int, column: int) -> Range:
    if "/" in item:
        return _network(item, line, column)
    first, dash, last = item.partition("-")
    begin = _address(first.strip(), line, column)
    if not dash:
        return Range(begin, begin, 1)
    after = column + len(item) - len(last.lstrip())
    end = _last(last.strip(), begin, line, after)
    if end.version != begin.version or int(end) < int(begin):
        _wrong(f"{names.shown(item)} does not lead from a first to a last address", line, column)
    return Range(begin, end, int(end) - int(begin) + 1)


def _last(text: str, begin: _Address, line: int, column: int) -> _Address:
    """The last address of a range; of IPv4 its last number will do."""
    if begin.version == 4 and _LAST_OCTET.fullmatch(text) and int(text) <= _MOST_OCTET:  # noqa: PLR2004 - IPv4
        return ipaddress.IPv4Address((int(begin) & ~_MOST_OCTET) | int(text))
    return _address(text, line, column)


def _network(item: str, line: int, column: int) -> Range:
    network = sources.network(item)
    if network is None:
        _wrong(f"{names.shown(item)} is no network{_meant(item)}; {_HINT}", line, column)
    found = ipaddress.ip_network(network)
    first, last = int(found.network_address), int(found.broadcast_address)
    if found.num_addresses > _NO_BROADCAST:
        # IPv6 has no broadcast; the lowest address is the routers' (RFC 4291, 2.6.1).
        first, last = first + 1, last - (found.version == 4)  # noqa: PLR2004 - IPv4
    make = type(found.network_address)
    for end in (make(first), make(last)):
        _is_machine(end, item, line, column)
    return Range(make(first), make(last), found.num_addresses)


def _meant(item: str) -> str:
    """The network that was meant, where only bits beyond it are set."""
    try:
        return f", but {ipaddress.ip_network(item, strict=False)} is"
    except ValueError:
        return ""


def _address(text: str, line: int, column: int) -> _Address:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        _wrong(f"{names.shown(text)} is no address; {_HINT}; names go into a CSV file", line, column)
    if getattr(found, "scope_id", None):
        _wrong(f"{names.shown(text)} has a zone, which means something here only", line, column)
    _is_machine(found, text, line, column)
    return getattr(found, "ipv4_mapped", None) or found


def _is_machine(found: _Address, item: str, line: int, column: int) -> None:
    if not names.is_unicast(found):
        _wrong(f"{names.shown(item)} is no address of one machine", line, column)


def _wrong(detail: str, line: int, column: int) -> NoReturn:
    extra = (("line", line), ("column", column))
    raise Refused(Refusal("list-malformed", f"Line {line}, column {column}: {detail}.", extra))
