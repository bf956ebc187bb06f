"""A KMS host that counts, by the simplest model of K1 to K5: who called last when. Behind real HTTPS, no volact.kmshost.

It knows the protocol from PROTOCOL.md and the numbers from RULES.md; the lab's machines and stories are held against
it where the real host would be too slow for a unit test.
"""

import threading
from pathlib import Path
from typing import Any

from client.kms_server import KmsHost, KmsServer
from client.publisher import PRODUCT, Publisher
from volact.client.address import Address
from volact.lab import machines
from volact.lab.handclock import HandClock
from volact.lab.machines import Product
from volact.protocol.documents import Document
from volact.protocol.policy import Policy
from volact.protocol.problems import Refusal

MACHINES_OF_RULES = 25


class CountingHost(KmsHost):
    """Counts machines whose last contact is younger than a record's lifetime."""

    def __init__(
        self, publisher: Publisher, *, minimum: int, lifetime: int, clock: HandClock | None = None
    ) -> None:
        super().__init__(publisher)
        self.minimum, self.lifetime = minimum, lifetime
        self.contacts: dict[str, int] = {}
        self.results: list[str] = []
        self._lock = threading.Lock()
        if clock:
            self.clock = lambda: clock.now

    def counted(self) -> int:
        now = self.clock()
        return sum(1 for last in self.contacts.values() if now < last + self.lifetime)

    def lease(self, checkin: Document, **other: Any) -> Any:
        with self._lock:
            self.contacts[checkin["iss"]] = self.clock()
            self.count = self.counted()
            self.results.append("ok" if self.count >= self.minimum else "count-insufficient")
            if self.count < self.minimum:
                extra = {
                    "count": self.count,
                    "required": self.minimum,
                    "counted": "machines",
                    "renewal": self.renewal,
                    "retry": self.retry,
                }
                return Refusal("count-insufficient", "", tuple(extra.items()))
            return super().lease(checkin, **other)


def served(folder: Path, host: KmsHost) -> KmsServer:
    """The host behind HTTPS on loopback."""
    server = KmsServer(folder, host)
    # Head and body are written one after the other: without this each answer waits for an acknowledgement.
    server._server.RequestHandlerClass.disable_nagle_algorithm = True  # type: ignore[attr-defined]
    return server


class CountingSite:
    """What `volact.lab.site.Site` is to a story, with the counting host in place of the programs."""

    def __init__(self, folder: Path, clock: HandClock, policy: Policy, **pol: Any) -> None:
        publisher = Publisher(iat=clock.now)
        self.pub = publisher.pub
        self.product: Product = machines.read_product(publisher.product_file(PRODUCT, **pol), self.pub)
        minimum = policy.thresholds[0].minimum
        self.host = CountingHost(publisher, minimum=minimum, lifetime=policy.record_lifetime, clock=clock)
        self.host.renewal, self.host.retry, self.host.validity = policy.renewal, policy.retry, policy.validity
        self.server = served(folder, self.host)
        self.address = Address("127.0.0.1", self.server.port)

    def count(self) -> int:
        return self.host.counted()

    def events(self, _since: int) -> list[dict[str, Any]]:
        return [{"event": 12290, "result": result} for result in self.host.results]
