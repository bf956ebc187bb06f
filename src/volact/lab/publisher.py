"""A laboratory's publisher: an authority that is set up by its own commands, and serves as a process of its own.

Everything goes by a clock that is moved by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.children import Volact, free_port
from volact.client.address import Address

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from volact.lab.handclock import HandClock

PRODUCT = "com.example.cad"
CUSTOMER = "Example Manufacturing"
LOOPBACK = "127.0.0.1"


class Publisher:
    """The publisher of a story.

    Attributes:
        volact: its commands.
        signed: the product's signed file, once it is started.
        url: where the authority listens.
        pub: the publisher's id.
    """

    def __init__(self, folder: Path, clock: HandClock) -> None:
        """Keep everything in `folder`; nothing runs yet."""
        self._folder = folder
        self._port = free_port()
        self.volact = Volact(folder / "publisher", **clock.environ)
        self.signed = folder / f"{PRODUCT}.volact-product"
        self.url = f"https://{LOOPBACK}:{self._port}"
        self.pub = ""

    def start(self, product_file: str, running: ExitStack) -> None:
        """Set the authority up with a product, given as its TOML, and a customer; it serves until `running` is closed."""
        self.volact.home.mkdir(parents=True)
        self.pub = self.volact("authority", "init", "--name", "Example Software", "--url", self.url, "--lab")[
            "root"
        ]
        toml = self._folder / "product.toml"
        toml.write_text(product_file, "utf-8")
        self.volact("authority", "product", "add", str(toml))
        self.volact("authority", "product", "export", PRODUCT, "-o", str(self.signed))
        self.volact("authority", "customer", "add", CUSTOMER)
        address = Address(LOOPBACK, self._port)
        log = self._folder / "authority.log"
        service = self.volact.serve("authority", "serve", "--listen", str(address), log=log, address=address)
        running.callback(service.stop)

    def issue(self, kind: str, activations: int | None = None) -> str:
        """A new key, as the customer receives it."""
        more = () if activations is None else ("--activations", str(activations))
        words = ("--product", PRODUCT, "--customer", CUSTOMER, "--kind", kind, *more)
        return str(self.volact("authority", "key", "issue", *words)["keys"][0])
