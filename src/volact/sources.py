"""Where calls come from, and how often a source may call (M10, K17): addresses, networks, token buckets.

A source is *private* if no router of the internet leads to it: RFC 1918, shared (RFC 6598), unique local (RFC 4193),
link-local and loopback addresses. Every other one is *global*.

A source is an IPv4 address or an IPv6 /64, which is the least that one caller may be given. Buckets live in memory
and for one process: after a restart every one is full again, which a limit that only slows somebody down can afford.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

_COST = 60
"""Levels of a bucket are counted in sixtieths, so that a rate a minute is a whole number a second."""
_IPV6_SOURCE = 64
_MAPPED = 96
_REMEMBERED = 100_000
_Name = TypeVar("_Name")


class Networks:
    """Networks that are asked for many addresses: looking one up costs the same for one network and for a thousand."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        """Take networks as `network` writes them."""
        self._starts: dict[tuple[int, int], set[int]] = {}
        for found in map(ipaddress.ip_network, networks):
            shift = found.max_prefixlen - found.prefixlen
            self._starts.setdefault((found.version, shift), set()).add(int(found.network_address) >> shift)

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._starts)

    def hold(self, source: str) -> bool:
        """Whether an address lies in one of them; what is no address (a request that came by file) lies in none."""
        try:
            address = ipaddress.ip_address(source)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        number, version = int(address), address.version
        return any(
            number >> shift in starts for (family, shift), starts in self._starts.items() if family == version
        )


def network(text: str) -> str | None:
    """A network as it is stored, or None if the text is none; host bits must be zero, so that a slip is seen.

    IPv4 written as IPv6 (``::ffff:192.0.2.0/120``) is stored as IPv4, as callers are known by it.
    """
    try:
        found = ipaddress.ip_network(text.strip())
    except ValueError:
        return None
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped and found.prefixlen >= _MAPPED:
        found = ipaddress.ip_network((mapped, found.prefixlen - _MAPPED))
    return str(found)


PREFIX = 7
"""So many first characters of an address say whether it is private."""
_PRIVATE_IPV4 = ("10.", "127.", "192.168", "169.254", *(f"172.{second}." for second in range(16, 32)))
_PRIVATE_IPV6 = re.compile("f[cd][0-9a-f]{2}:|fe[89ab][0-9a-f]:|::1$")
_SHARED = re.compile(r"100\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])(\.|$)")


def is_private(start: str) -> bool:
    """Whether an address, of which at least the first `PREFIX` characters are given, is private; IPv6 in lower case."""
    return bool(start.startswith(_PRIVATE_IPV4) or _SHARED.match(start) or _PRIVATE_IPV6.match(start))


@lru_cache(maxsize=4096)
def source_of(address: str) -> str:
    """What limits and first-use events call a caller: an IPv4 address or an IPv6 /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None)
    if mapped:
        return str(mapped)
    if found.version == 4:  # noqa: PLR2004 - IPv4
        return str(found)
    return str(ipaddress.ip_network((found, _IPV6_SOURCE), strict=False))


class Bucket(NamedTuple):
    """A token bucket: its level in sixtieths of an ask, and when that was so."""

    level: int
    at: int


def take(bucket: Bucket | None, rate: int, burst: int, now: int) -> tuple[Bucket | None, int]:
    """Take one ask out of a bucket that fills by `rate` a minute up to `burst`.

    Answers the bucket as it is then and the seconds to wait, 0 if it was granted. A rate of 0 is no limit. A clock
    that went back fills nothing and takes nothing away.
    """
    if rate == 0:
        return bucket, 0
    level, at = _filled(bucket, rate, burst, now)
    if level >= _COST:
        return Bucket(level - _COST, at), 0
    return Bucket(level, at), -(-(_COST - level) // rate)


def _filled(bucket: Bucket | None, rate: int, burst: int, now: int) -> Bucket:
    full = max(burst, 1) * _COST
    if bucket is None:
        return Bucket(full, now)
    return Bucket(min(full, bucket.level + rate * max(0, now - bucket.at)), max(now, bucket.at))


def too_many(wait: int, detail: str = "") -> Refusal:
    """The refusal of who has to wait so many seconds; `detail` says of what there was too much."""
    said = f"{detail} Wait {wait} s.".lstrip()
    return Refusal("too-many-requests", said, (("retry_after", wait),))


class Buckets(Generic[_Name]):
    """A bucket for each name, and no more names than are worth remembering: those go that have filled up longest."""

    def __init__(self, rate: int, burst: int) -> None:
        """Let each name ask `rate` times a minute in the long run (0: as often as it likes), and `burst` at once."""
        self._limit = rate, burst
        self._kept: dict[_Name, Bucket] = {}

    def limit(self, rate: int, burst: int) -> None:
        """Limit so from now on; what was used of a limit stays used."""
        self._limit = rate, burst

    def look(self, name: _Name, now: int, taken: Bucket | None = None) -> tuple[Bucket | None, int]:
        """What `take` says of the bucket of `name`, or of one that it gave; nothing is taken before it is kept."""
        return take(taken or self._kept.get(name), *self._limit, now)

    def limited(self, name: _Name, now: int) -> Refusal | None:
        """Take one ask out of the bucket of `name`, or say how long to wait."""
        bucket, wait = self.look(name, now)
        if wait:
            return too_many(wait)
        self.keep(name, bucket)
        return None

    def charge(self, name: _Name, asks: int, now: int) -> None:
        """Take so many asks out of the bucket of `name`, which may be left with a debt."""
        rate, burst = self._limit
        if rate:
            level, at = _filled(self._kept.get(name), rate, burst, now)
            self.keep(name, Bucket(level - asks * _COST, at))

    def keep(self, name: _Name, bucket: Bucket | None) -> None:
        """Keep a bucket that `look` gave."""
        if bucket is None:
            return
        # What was used last stands last.
        if self._kept.pop(name, None) is None and len(self._kept) >= _REMEMBERED:
            del self._kept[next(iter(self._kept))]
        self._kept[name] = bucket
