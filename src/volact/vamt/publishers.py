"""The publishers whose products VAMT manages, each pinned by its root (V1, PROTOCOL section 1).

A product file teaches VAMT the product, the publisher's root documents, and where its authority is. A publisher is
pinned once, by the root that a person gives; later files and root documents are judged by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from volact.protocol import trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused
from volact.vamt import store as sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from volact.protocol.trust import Granted, Roots
    from volact.vamt.acting import Office
    from volact.vamt.people import Person


class Taught(NamedTuple):
    """What a product file brought.

    Attributes:
        pub: the publisher.
        is_new: whether the publisher was not known before.
        product: the product's id.
        version: its version as VAMT knows it now.
        added: whether the file brought that version.
    """

    pub: str
    is_new: bool
    product: str
    version: int
    added: bool


class Publishers:
    """The use cases of publishers."""

    def __init__(self, office: Office) -> None:
        """Work in `office`."""
        self._office = office

    def add(self, person: Person, data: bytes, pub: str, name: str = "") -> Taught:
        """Let VAMT know a product by its signed file, and its publisher, who has the root `pub`; raises as `add_all`."""
        (taught,) = self.add_all(person, {"": data}, pub, name)
        return taught

    def add_all(self, person: Person, files: Mapping[str, bytes], pub: str, name: str = "") -> list[Taught]:
        """The same with several files, each under what people call it.

        Raises:
            Refused: `root-mismatch` if one is another publisher's.
            DocumentRefused: if one does not hold, which it names. Nothing was changed then.
        """
        what = {"publisher": pub, "name": name}
        with (
            self._office.acting(person, "change-publishers", what) as deed,
            self._office.store.writing() as tx,
        ):
            sql.lock(tx)
            found = []
            for file, data in files.items():
                try:
                    found.append(self._add(tx, data, pub, name))
                except DocumentRefused as error:
                    raise DocumentRefused(": ".join(filter(None, (file, error.refusal.detail)))) from None
            deed.rows = len(found)
        return found

    def list(self, person: Person) -> list[tuple[sql.Publisher, list[sql.Product]]]:
        """The publishers, by name, with their products."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            products = sql.products(tx)
            return [(one, [each for each in products if each.pub == one.pub]) for one in sql.publishers(tx)]

    def _add(self, tx: Connection, data: bytes, pub: str, name: str) -> Taught:
        known = sql.publisher(tx, pub)
        granted, bundle = open_product(data, pub, roots_of(known) if known else None)
        self._learn(tx, known, granted.roots, name)
        document = granted.document
        product, version = str(document["sub"]), int(document["ver"])
        before = {(one.pub, one.prd): one.ver for one in sql.products(tx)}.get((pub, product), 0)
        if version > before:
            found = sql.Product(
                pub, product, version, str(document["name"]), str(document["edition"]), bundle
            )
            sql.put_product(tx, found)
            self._reached_at(tx, pub, document["url"], document["tls"])
        return Taught(pub, known is None, product, max(version, before), version > before)

    def _learn(self, tx: Connection, known: sql.Publisher | None, roots: Roots, name: str) -> None:
        """Keep the publisher, or the later root documents of a known one and its new name."""
        if known is None:
            shown = name or roots.pub[:_SHORT]
            now = self._office.clock.now()
            made = sql.Publisher(
                roots.pub, shown, roots.lab, roots.first, tuple(roots.later_tokens()), "", (), now
            )
            sql.put_publisher(tx, made)
        else:
            later = tuple(roots.later_tokens())
            sql.put_publisher(
                tx, known._replace(name=name or known.name, roots=max(known.roots, later, key=len))
            )

    @staticmethod
    def _reached_at(tx: Connection, pub: str, url: str, tls: Sequence[str]) -> None:
        found = sql.publisher(tx, pub)
        if found and url:
            sql.put_publisher(tx, found._replace(url=url, tls=tuple(tls)))


_SHORT = 8
"""Characters of an id by which a publisher is called that nobody gave a name."""


def roots_of(publisher: sql.Publisher) -> Roots:
    """The verified root documents of a publisher."""
    return trust.open_roots(publisher.root, publisher.pub, publisher.roots)


def open_product(data: bytes, pub: str, known: Roots | None) -> tuple[Granted, dict[str, Any]]:
    """A signed product file of publisher `pub`, verified under the `known` roots or those that it brings; its bundle.

    Raises:
        Refused: `root-mismatch`.
        DocumentRefused: if it does not hold.
    """
    bundle = trust.read_bundle(data)
    if "root" not in bundle:
        raise DocumentRefused("it is no signed product file: ask the publisher for ID.volact-product")
    if trust.open_self_keyed(bundle["root"], "root").document.kid != pub:
        raise Refused(Refusal("root-mismatch"))
    roots = known or trust.open_roots(bundle["root"], pub)
    return trust.take_up(trust.verify(bundle, "product", roots)), bundle
