"""A host that publishes: real store, real folder, real publisher, a clock moved by hand; what it is beside is a test's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.resolver

from nameservers import Key, NameServer, Scripted
from volact import db
from volact.config import KmshostSettings
from volact.kmshost import store as sql
from volact.kmshost.dnsrecords import DnsRecord, Whereabouts
from volact.kmshost.publishing import Publisher, Result
from volact.kmshost.store import Store

ZONE = "corp.test"
SRV = f"_volact._tcp.{ZONE}"
HOUR, DAY = 3600, 86400
OWN = f"0 100 1688 host1.{ZONE}."
KEYS = [
    Key(name, [(SRV, "SRV"), (f"{name}.{ZONE}", "A AAAA"), ("_volact._tcp.other.test", "SRV")])
    for name in ("host1", "host2")
]
FOREIGN = f"_volact._tcp SRV 5 5 1688 veteran.{ZONE}."
VETERAN = f"5 5 1688 veteran.{ZONE}."


class Host:
    """A host of the tests' own: a store, a folder, a clock moved by hand, and the publisher that is tested."""

    def __init__(
        self, folder: Path, name: str = "host1", addresses: tuple[str, ...] = ("192.0.2.1",)
    ) -> None:
        self.name, self.folder = name, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.store = Store(db.connect(folder / "kmshost.db"))
        self.store.migrate()
        self.now = 1_900_000_000
        self.key_file = folder / "key"
        self.write_key(next(key for key in KEYS if key.name == name).text())
        self.here = Whereabouts(f"{name}.{ZONE}", addresses)
        self.settings = KmshostSettings(dns_domains=ZONE, dns_key_file=str(self.key_file))
        self.born()

    def born(self, resolver: Any = dns.resolver.Resolver) -> None:
        """As the process starts: nothing is remembered but what is on disk."""
        self.publisher = Publisher(
            self.store,
            self.name,
            self.folder,
            lambda: self.now,
            resolver=resolver,
            here=lambda _settings: self.here,
        )

    def write_key(self, text: str) -> None:
        self.key_file.write_text(text)
        self.key_file.chmod(0o600)

    def set(self, server: NameServer | Scripted | None = None, **settings: Any) -> None:
        if server:
            settings = {"dns_server": server.address, **settings}
        self.settings = self.settings._replace(**settings)

    def look(self, port: int = 1688, *, serving: bool = True) -> None:
        self.publisher.look(self.settings, port, serving=serving)

    def publish(self, port: int = 1688) -> Result:
        """Publish now in the first domain."""
        return self.publisher.publish(self.publisher.wanted(self.settings, port)[0], self.settings)

    def withdraw(self) -> list[Result]:
        return self.publisher.withdraw_all(self.settings)

    def own(self) -> list[DnsRecord]:
        with self.store.reading() as tx:
            return sql.published(tx, self.name)

    def events(self) -> list[tuple[int, str, str | None]]:
        with self.store.reading() as tx:
            return [(one.event, one.result, one.host) for one in sql.events(tx)]


@contextmanager
def hosts(folder: Path) -> Iterator[Callable[..., Host]]:
    """Makes hosts, and closes their stores at the end."""
    made: list[Host] = []

    def make(name: str = "host1", **more: Any) -> Host:
        made.append(Host(folder / name, name, **more))
        return made[-1]

    try:
        yield make
    finally:
        for host in made:
            host.store.close()
