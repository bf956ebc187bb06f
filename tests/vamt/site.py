"""A VAMT in a test's own database: the real role, real keys, a clock moved by hand, no sockets."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from volact import db, signing
from volact.vamt import store as sql
from volact.vamt.inventory import Product, Report, Sighting
from volact.vamt.people import Person
from volact.vamt.searching import Order
from volact.vamt.store import Store
from volact.vamt.vamt import Vamt
from world import HandClock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volact.vamt.machines import Listed

PUB = "P" * 43
ADMINISTRATOR = Person("ada", "key-administrator")
OPERATOR = Person("otto", "operator")
VIEWER = Person("vera", "viewer")
AUDITOR = Person("aurel", "auditor")


class Site:
    """A VAMT, its store and its clock."""

    def __init__(self, database: str | Path) -> None:
        self.clock = HandClock()
        self.store = Store(db.connect(database))
        self.store.migrate()
        with self.store.writing() as tx:
            sql.introduce(tx, "VAMT of a test")
        self.signer = signing.generate()
        self.vamt = Vamt(self.store, self.clock, self.signer, secrets.token_bytes)

    def close(self) -> None:
        self.store.close()

    def see(self, *sightings: Sighting) -> None:
        self.vamt.machines.take_sightings(ADMINISTRATOR, sightings, source="test")

    def listed(self, where: str = "", order: Order | None = None, **more: Any) -> Listed:
        return self.vamt.machines.list(VIEWER, where, order, **{"limit": 1000, **more})

    def names(self, where: str = "", order: Order | None = None, **more: Any) -> list[str]:
        """``name/product`` of each row."""
        rows = self.listed(where, order, **more).page.rows
        return [row.machine["name"] + (f"/{row.product['prd']}" if row.product else "") for row in rows]

    def log(self) -> list[tuple[str, str, str, int | None]]:
        """Who did what with which result and how many rows, the oldest first."""
        found = self.vamt.access.log(AUDITOR, limit=1000)
        return [(one.who, one.action, one.result, one.rows) for one in reversed(found)]


def product(prd: str = "com.example.cad", state: int = 1, cmid: str = "", **more: Any) -> Product:
    """A product as a machine reports it."""
    return Product(PUB, prd, state, cmid, **more)


def report(name: str = "", domain: str = "", products: Sequence[Product] = (), **more: Any) -> Report:
    """What a machine says of itself."""
    return Report(name, domain, products=tuple(products), **more)
