"""Which KMS hosts a client asks, in which order, and when it goes on to the next one (D3, D4, K6).

- The host set by hand is the only one that is asked. Else, with a domain set by hand: the SRV records there, then the
  host that answered last. Else the host that answered last, then the SRV records of the machine's domain and of its
  search list. Without caching every try begins with a query, and nobody is asked that it does not name.
- Of one answer RFC 2782 decides: priorities ascending, within one at random by weight. Port 0, target ``.`` and what
  is no name of a host are no targets.
- No host is asked twice in a try, and no more than `policy.HOST_TARGETS` are asked in all (T17).
- A record is a hint and never trust: who does not prove the publisher's delegation is passed over, before anything
  about the machine was said (D4).

Pure: names and addresses are looked up by `resolving`, and asked by `kms`.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from volact.client import address
from volact.client.address import Address
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from volact.protocol.problems import Refusal

MOST_DOMAINS = 8
"""So many domains are asked about at most in one try; a search list may be longer than anybody waits for."""
ADDRESSES = 2
"""So many addresses of one host are tried at most: one of each kind where it has both."""
HAND, CACHE, DNS = "hand", "cache", "dns"
_FINE = 1000
"""RFC 2782 draws a whole number from 0 to the sum of the weights, both included, so that 3 to 1 comes out as 4 to 2 or
3 to 2. By thousandths of a weight the shares are right, and one of weight 0 keeps its very small chance."""


class Service(NamedTuple):
    """An SRV record.

    Attributes:
        priority: lower ones are asked first.
        weight: its share among those of its priority.
        port: the TCP port.
        name: the target, without a final dot; empty for ``.``.
    """

    priority: int
    weight: int
    port: int
    name: str


class Known(NamedTuple):
    """The host that answered last, found by DNS.

    Attributes:
        name: its name.
        port: its port.
        ip: the address at which it answered; good for when its name cannot be looked up.
    """

    name: str
    port: int
    ip: str

    @property
    def address(self) -> Address:
        """The host as it is shown."""
        return Address(self.name, self.port)


class Step(NamedTuple):
    """One place to look for hosts.

    Attributes:
        way: `HAND`, `CACHE` or `DNS`.
        host: the host itself; None where a domain is asked.
        ip: where the host answered last; empty if it is not known.
        domain: the domain whose records are asked for.
    """

    way: str
    host: Address | None = None
    ip: str = ""
    domain: str = ""


def steps(
    by_hand: Address | None, domain: str, known: Known | None, own_domains: Callable[[], Sequence[str]]
) -> Iterator[Step]:
    """Where to look, in D3's order; what the machine's domains are is only asked when it comes to them."""
    if by_hand is not None:
        yield Step(HAND, host=by_hand)
        return
    cached = [Step(CACHE, host=known.address, ip=known.ip)] if known is not None else []
    if domain:
        yield Step(DNS, domain=domain)
        yield from cached
        return
    yield from cached
    for one in own_domains():
        yield Step(DNS, domain=one)


def domains(found: Iterable[str]) -> tuple[str, ...]:
    """The domains worth asking about: names, each once, in their order; the root is none."""
    names = (one.rstrip(".").lower() for one in found)
    once = dict.fromkeys(name for name in names if address.is_domain(name))
    return tuple(once)[:MOST_DOMAINS]


def targets(services: Iterable[Service], port: int | None) -> list[Service]:
    """The records that name a host; each host once, by its best record.

    `port` is the one that was set by hand without a name (``/skms :PORT``): it replaces those of the records, so that
    an administrator can say that no other port is ever called.
    """
    best: dict[tuple[str, int], Service] = {}
    for one in services:
        if not (address.is_port(one.port) and address.is_domain(one.name)):
            continue
        named = one._replace(name=one.name.lower(), port=port or one.port)
        before = best.get((named.name, named.port))
        if before is None or (named.priority, -named.weight) < (before.priority, -before.weight):
            best[named.name, named.port] = named
    return list(best.values())


def ordered(services: Iterable[Service], chance: Callable[[], float]) -> Iterator[Service]:
    """RFC 2782's order: priorities ascending, within one by weighted draws without replacement.

    `chance` is a number from 0 to 1 at each call. Where all weights are 0 all shares are equal.
    """
    left = sorted(services, key=lambda one: (one.priority, one.weight))
    while left:
        group = [one for one in left if one.priority == left[0].priority]
        drawn = group[_drawn([one.weight for one in group], chance())]
        left.remove(drawn)
        yield drawn


def _drawn(weights: Sequence[int], chance: float) -> int:
    """Which of the weights, ascending, a number from 0 to 1 falls on."""
    whole = sum(weights)
    if not whole:
        return min(int(chance * len(weights)), len(weights) - 1)
    number = min(int(chance * (_FINE * whole + 1)), _FINE * whole)
    return bisect_left(list(accumulate(_FINE * weight for weight in weights)), number)


def worth_trying(found: Sequence[str], reachable: Callable[[str], bool]) -> tuple[str, ...]:
    """At most two of a host's addresses: those with a route first, IPv6 before IPv4, and one of each kind.

    That is the order in which the system itself gives them (RFC 6724), as far as it can matter for two.
    """
    good = [one for one in dict.fromkeys(found) if address.is_unicast(one)]
    best = sorted([one for one in good if reachable(one)] or good, key=lambda one: ":" not in one)
    if not best:
        return ()
    first, rest = best[0], best[1:]
    other_kind = [one for one in rest if (":" in one) != (":" in first)]
    return (first, *(other_kind or rest)[: ADDRESSES - 1])


# What comes of asking one of them


class Outcome(NamedTuple):
    """How asking one host ended, if not with a lease.

    Attributes:
        refusal: what it, or this machine, says.
        proved: whether the host had proved itself.
    """

    refusal: Refusal
    proved: bool


_NEXT_MAY_DIFFER = (
    "product-not-served",
    "product-outdated",
    "machine-not-entitled",
    "host-not-activated",
    "host-blocked",
    "host-clock-wrong",
    "host-full",
    "too-many-requests",
    "nonce-refused",
    "busy",
    "storage-unavailable",
    "internal",
    "host-unreachable",
    "host-untrusted",
    "answer-nonsense",
    "document-refused",
)
"""What says something about this one host: its delegation, clock, load, store, networks."""


def goes_on(outcome: Outcome) -> bool:
    """Whether the next host is asked in the same try.

    Whatever an unproved host says is worth nothing, so the next one is asked (T16). Of a proved host what concerns it
    alone leads to the next. The rest ends the try: `count-insufficient`, for other hosts may share the count, and
    going on would make a machine of every count in the network while none of them is enough; and what concerns the
    machine itself (`machine-blocked`, `identity-cloned`, ...), which every host would say.
    """
    return not outcome.proved or outcome.refusal.code in _NEXT_MAY_DIFFER


def telling(outcomes: Sequence[Outcome]) -> Outcome:
    """The one that says most of why a try failed: a proved host's, else what a host said, else that nobody answered."""
    return min(outcomes, key=_rank)


def _rank(outcome: Outcome) -> int:
    code = outcome.refusal.code
    if outcome.proved and code not in ("host-unreachable", "answer-nonsense", "document-refused"):
        return 0
    if code not in ("host-unreachable", "host-untrusted"):
        return 1
    return 2 if code == "host-untrusted" else 3
