"""Name servers that a test holds in its hand: records by domain, addresses by name, and what was asked."""

from collections.abc import Sequence

from volact.client.discovery import Service
from volact.client.resolving import Found

DOMAIN = "corp.test"


class Records:
    """What DNS says; every question is kept.

    Attributes:
        services: SRV records by owner name.
        ips: addresses by name.
        domains: the machine's, then its search list.
        asked: names and types that were asked for.
        opened: how often a try opened the name servers.
        down: whether nobody answers.
    """

    def __init__(self) -> None:
        self.services_at: dict[str, list[Service]] = {}
        self.ips: dict[str, tuple[str, ...]] = {}
        self.along: dict[str, tuple[str, ...]] = {}
        self.domains: tuple[str, ...] = (DOMAIN,)
        self.asked: list[tuple[str, str]] = []
        self.opened = 0
        self.down = False

    def publish(
        self,
        name: str,
        port: int = 1688,
        *,
        priority: int = 0,
        weight: int = 100,
        domain: str = DOMAIN,
        label: str = "_volact._tcp",
        ips: Sequence[str] = ("192.0.2.1",),
    ) -> None:
        """A host's records."""
        self.services_at.setdefault(f"{label}.{domain}", []).append(Service(priority, weight, port, name))
        self.ips[name.lower()] = tuple(ips)

    def open(self, _lab: bool = True) -> "Records":
        """As `Surroundings.names`."""
        self.opened += 1
        return self

    def services(self, label: str, domain: str) -> Found:
        owner = f"{label}.{domain}"
        self.asked.append((owner, "SRV"))
        if self.down:
            return Found(problem="the name server 192.0.2.53 could not be asked: no answer came")
        found = tuple(self.services_at.get(owner, ()))
        return Found(found, self.along, "" if found else "there is no such record")

    def addresses(self, name: str) -> tuple[str, ...]:
        self.asked.append((name, "A"))
        return () if self.down else self.ips.get(name.lower(), ())
