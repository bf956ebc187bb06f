"""A laboratory's two services, real processes with one movable clock: an authority, and the KMS host it activated.

Both are set up by their own commands and listen on free ports of this machine. The clock is a file that is replaced
by rename; it stands still until it is moved, so that a story is told to the second.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from volact.children import Volact, free_port
from volact.client.address import Address
from volact.commands import when
from volact.kmshost import reporting, setup, store
from volact.lab import machines
from volact.lab.publisher import LOOPBACK, PRODUCT, Publisher
from volact.protocol.policy import DAY, DURATIONS, HOUR, MINUTE, written

if TYPE_CHECKING:
    from pathlib import Path

    from volact.lab.handclock import HandClock
    from volact.lab.machines import Product
    from volact.protocol.policy import Policy


def product_file(policy: Policy, edition: str) -> str:
    """The TOML of the laboratory's product with this policy."""
    lines = [f'id = "{PRODUCT}"', 'name = "Example CAD"', f'edition = "{edition}"', "", "[policy]"]
    for name, value in written(policy, edition).items():
        lines.append(f"{name} = {_toml(name, value)}")
    return "\n".join(lines) + "\n"


def _toml(name: str, value: Any) -> str:  # noqa: ANN401 - any member of a policy
    if name in DURATIONS:
        unit, letter = next((one for one in ((DAY, "d"), (HOUR, "h")) if value % one[0] == 0), (MINUTE, "m"))
        return f'"{value // unit}{letter}"'
    if name == "thresholds":
        rows = [f'{{count = "{row["count"]}", minimum = {row["minimum"]}}}' for row in value]
        return f"[{', '.join(rows)}]"
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f'"{value}"'
        if isinstance(value, str)
        else str(value)
    )


class Site:
    """Authority and KMS host.

    Attributes:
        pub: the publisher's id.
        product: the product, as its machines know it.
        address: where the host listens.
    """

    def __init__(self, folder: Path, clock: HandClock, policy: Policy, edition: str = "client") -> None:
        """Keep everything in `folder`; nothing runs yet."""
        self._folder = folder
        self._policy = policy
        self._edition = edition
        self._publisher = Publisher(folder, clock)
        self._host = Volact(folder / "kms-host", **clock.environ)
        self._running = ExitStack()
        self.pub = ""
        self.product: Product
        self.address = Address(LOOPBACK, free_port())

    def __enter__(self) -> Self:
        """Set both up and start them."""
        try:
            self._start()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both, by their pids."""
        self._running.close()

    def _start(self) -> None:
        publisher, host = self._publisher, self._host
        publisher.start(product_file(self._policy, self._edition), self._running)
        self.pub = publisher.pub
        self.product = machines.read_product(publisher.signed.read_bytes(), self.pub)
        host.home.mkdir(parents=True)
        host("kmshost", "init", f"--root={self.pub}", str(publisher.signed))
        host("kmshost", "install-key", "-", stdin=publisher.issue("kms-host") + "\n")
        host("kmshost", "activate", "--authority", publisher.url)
        log = self._folder / "kmshost.log"
        words = ("kmshost", "serve", "--listen", str(self.address))
        self._running.callback(host.serve(*words, log=log, address=self.address).stop)
        # Read hour by hour, which a command each time would make slow.
        self._opened = self._running.enter_context(setup.opened(host.environ))

    def count(self) -> int:
        """How many machines the host counts now, by its clock: the rows that ``volact kmshost status`` counts."""
        with self._opened.store.reading() as tx:
            groups = store.counts(tx, self._opened.clock.now())
        return sum(machines for machines, _servers in groups.values())  # of one product there is one group

    def events(self, since: int) -> list[dict[str, Any]]:
        """The host's events from a moment (seconds UTC) on, as ``volact kmshost events --json`` shows them."""
        return reporting.events(self._opened, when(since), reporting.MOST_ROWS)
