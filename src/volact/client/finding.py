"""The hosts of one try, one after the other, each looked up when its turn comes (D3).

`discovery` says where to look and in which order, `resolving` asks the name servers; here both come together. Nothing
is asked before it is needed: a host that is set by hand, or that answers from the cache, costs no query for records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.client import discovery
from volact.client.address import Address
from volact.client.discovery import CACHE, DNS, HAND, Known
from volact.protocol.policy import HOST_TARGETS
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from volact.client.discovery import Step
    from volact.client.resolving import Names

_SHOWN = 3


class Wanted(NamedTuple):
    """What an administrator wants of the search for a product's host.

    Attributes:
        host: the host set by hand; None if none is.
        port: the port set by hand without a name; None if none is.
        domain: the domain set by hand; empty if none is.
        label: under which label of a domain hosts are looked for.
        known: the host that answered last; None if there is none, or caching is off.
    """

    host: Address | None
    port: int | None
    domain: str
    label: str
    known: Known | None


class Target(NamedTuple):
    """A host to be asked.

    Attributes:
        way: how it was found: `discovery.HAND`, `CACHE` or `DNS`.
        address: its name and port, as they are shown and logged.
        ips: its addresses, none if its name has none; None for the system's own look-up.
    """

    way: str
    address: Address
    ips: tuple[str, ...] | None = None


class Search:
    """The search of one try."""

    def __init__(
        self,
        wanted: Wanted,
        names: Callable[[], Names],
        has_route: Callable[[str], bool],
        chance: Callable[[], float],
    ) -> None:
        """Look for what is `wanted`; `names` opens the name servers when they are needed."""
        self._wanted = wanted
        self._open = names
        self._names: Names | None = None
        self._looked_up: dict[str, tuple[str, ...]] = {}
        self._has_route, self._chance = has_route, chance
        self._problems: list[str] = []

    def targets(self) -> Iterator[Target]:
        """The hosts to ask, no more than `HOST_TARGETS` and none twice; looked for while they are asked."""
        wanted, seen = self._wanted, set[Address]()
        for step in discovery.steps(wanted.host, wanted.domain, wanted.known, lambda: self._dns().domains):
            for target in self._of(step):
                if target.address in seen:
                    continue
                seen.add(target.address)
                yield target
                if len(seen) == HOST_TARGETS:
                    return

    def nothing_found(self) -> Refusal:
        """``host-not-found``, saying where was looked."""
        shown = "; ".join(self._problems[:_SHOWN]) or "This machine has no domain to look in"
        return Refusal("host-not-found", f"{shown}.")

    def _dns(self) -> Names:
        if self._names is None:
            self._names = self._open()
        return self._names

    def _of(self, step: Step) -> Iterator[Target]:
        if step.way == HAND and step.host is not None:
            yield Target(HAND, step.host)
        elif step.host is not None:
            ips = self._ips(step.host.name)
            # Its name is asked for first, for it may have moved; where nobody answers, it may be where it was.
            yield Target(CACHE, step.host, ips or ((step.ip,) if step.ip else ()))
        else:
            yield from self._published(step.domain)

    def _published(self, domain: str) -> Iterator[Target]:
        found = self._dns().services(self._wanted.label, domain)
        services = discovery.targets(found.services, self._wanted.port)
        if not services:
            problem = found.problem or "the records there name no host"
            self._problems.append(f"{self._wanted.label}.{domain}: {problem}")
        for one in discovery.ordered(services, self._chance):
            # What came along with the records may be the half of it: it serves where this machine knows a way.
            along = [ip for ip in found.addresses.get(one.name, ()) if self._has_route(ip)]
            ips = discovery.worth_trying(along, self._has_route) or self._ips(one.name)
            yield Target(DNS, Address(one.name, one.port), ips)

    def _ips(self, name: str) -> tuple[str, ...]:
        if name not in self._looked_up:
            found = self._dns().addresses(name)
            self._looked_up[name] = discovery.worth_trying(found, self._has_route)
        return self._looked_up[name]
