"""What the publisher's own people do: products, customers, keys, blocks. One use case a method.

No method here is reachable from the network. Each is one transaction; what it refuses, it leaves as it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact import sources
from volact.authority import activated, activation, orders, records, statuslist
from volact.authority import store as sql
from volact.authority.keyring import ISSUER
from volact.protocol import documents, ids, keys
from volact.protocol.policy import HOST_MACHINES
from volact.protocol.problems import Refusal, Refused, UsageError
from volact.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from sqlalchemy import Connection

    from volact.authority.activated import Activated
    from volact.authority.keyring import Keyring
    from volact.authority.orders import Order
    from volact.authority.records import Customer, KeyRow
    from volact.authority.store import Store
    from volact.clock import Clock
    from volact.protocol.keys import ProductKey

_ID_BYTES = 16
_LABEL_TRIES = 64
_PROGRESS_EVERY = 100
_SOURCES_SHOWN = 20


class Wanted(NamedTuple):
    """An order of keys, as it is entered.

    Attributes:
        kind: mak, retail or kms-host.
        products: product ids; one, or for a host key one or more.
        customer: the customer's name.
        activations: of each MAK; None for the other kinds.
        copies: how many keys.
        cmax: most machines that a host of these keys may count.
    """

    kind: str
    products: tuple[str, ...]
    customer: str
    activations: int | None = None
    copies: int = 1
    cmax: int = HOST_MACHINES


class Office:
    """The publisher's desk."""

    def __init__(
        self, clock: Clock, books: Store, keyring: Keyring, randomness: Callable[[int], bytes]
    ) -> None:
        """Work on `books`, sign with `keyring`."""
        self._clock = clock
        self._store = books
        self._keyring = keyring
        self._randomness = randomness

    # --- products and customers ---------------------------------------------------------------------------

    def add_product(self, claims: dict[str, Any], tls: Sequence[str]) -> tuple[str, int, bool]:
        """Add a product, or a new version of one: (id, version, whether anything was written).

        Raises:
            Refused: `authority-expired`.
        """
        now = self._clock.now()
        issuer = self._keyring.in_force(ISSUER, now)
        if isinstance(issuer, Refusal):
            raise Refused(issuer)
        claims = {**claims, "tls": list(tls)}
        with self._store.writing() as tx:
            known = records.product(tx, claims["sub"])
            if known and all(known.claims.get(name) == value for name, value in claims.items()):
                return known.prd, known.ver, False
            ver = known.ver + 1 if known else 1
            payload = documents.write(
                "product",
                {
                    **self._keyring.common(),
                    "iss": self._keyring.issuer.kid,
                    "iat": now,
                    "jti": self._new_id(),
                    **claims,
                    "ver": ver,
                },
            )
            records.add_product(tx, claims["sub"], ver, payload, self._keyring.issuer.kid, issuer.jti)
            sql.add_event(tx, now, "product-added", None, {"product": claims["sub"], "version": ver})
        return claims["sub"], ver, True

    def products(self) -> list[dict[str, Any]]:
        """All products: the claims of their newest documents."""
        with self._store.reading() as tx:
            return [product.claims for product in records.products(tx)]

    def export_product(self, prd: str) -> bytes:
        """The product's file for machines, ``{"root", "token", "chain", "roots"}``; writes nothing.

        Raises:
            Refused: `product-unknown`.
        """
        with self._store.reading() as tx:
            product = records.product(tx, prd)
        if product is None:
            raise Refused(Refusal("product-unknown"))
        return self._keyring.product_file(product.recorded())

    def add_customer(self, name: str) -> str:
        """Add a customer; answers the id that documents will carry.

        Raises:
            UsageError: if it is no name.
            Refused: `already-exists`.
        """
        name = name.strip()
        if not 1 <= len(name) <= documents.MAX_TEXT or not name.isprintable():
            raise UsageError(f"A customer's name has 1 to {documents.MAX_TEXT} printable characters.")
        now, cus = self._clock.now(), self._new_id()
        with self._store.writing() as tx:
            if any(customer.name == name for customer in records.customers(tx)):
                raise Refused(Refusal("already-exists", "There is a customer of this name."))
            records.add_customer(tx, name, cus, now)
            sql.add_event(tx, now, "customer-added", None, {"customer": name})
        return cus

    def customers(self) -> list[Customer]:
        """All customers."""
        with self._store.reading() as tx:
            return records.customers(tx)

    # --- keys ---------------------------------------------------------------------------------------------

    def issue(
        self,
        wanted: Wanted,
        keep: Callable[[Sequence[ProductKey]], None],
        progress: Callable[[int], None] = lambda _done: None,
    ) -> None:
        """Make keys, hand them to `keep`, and only when that has returned commit their public halves.

        A key that was committed and not kept would be lost; one that was kept and not committed is `key-unknown`.

        Raises:
            UsageError: if the kind of key does not go with the number of activations or products.
            Refused: `product-unknown`, `customer-unknown`, `numbers-used-up`.
        """
        bought = orders.bought_by(wanted.kind, wanted.activations)
        if isinstance(bought, Refusal):
            raise UsageError(bought.detail)
        if wanted.kind != orders.KMS_HOST and len(wanted.products) != 1:
            raise UsageError("Only a kms-host key is for several products.")
        with self._store.reading() as tx:
            batch = self._batch(tx, wanted, bought)
            labels = self._free_labels(tx, wanted.kind, wanted.copies)
        made, public = [], []
        for done, number in enumerate(labels, start=1):
            key = keys.make(self._randomness(keys.SECRET_BYTES), wanted.kind, number)
            jwk = Signer(key.private_key(self._keyring.publisher.pub)).jwk
            made.append(key)
            public.append(records.NewKey(jwk.thumbprint(), jwk.x, jwk.y, key.label))
            if done % _PROGRESS_EVERY == 0:
                progress(done)
        now = self._clock.now()
        with self._store.writing() as tx:
            if records.taken_labels(tx, [key.label for key in made]):
                raise Refused(Refusal("busy", "Another command has just taken one of the labels."))
            records.add_keys(tx, public, batch, now)
            detail = {"kind": wanted.kind, "copies": wanted.copies, "customer": wanted.customer}
            sql.add_event(tx, now, "keys-issued", None, detail)
            keep(made)
        progress(len(made))

    def _batch(self, tx: Connection, wanted: Wanted, bought: int) -> records.Batch:
        customer = next((one for one in records.customers(tx) if one.name == wanted.customer), None)
        numbers = []
        for prd in dict.fromkeys(wanted.products):
            product = records.product(tx, prd)
            if product is None:
                raise Refused(Refusal("product-unknown", f"There is no product {prd[:64]!r}."))
            numbers.append(product.id)
        if customer is None:
            raise Refused(Refusal("customer-unknown"))
        return records.Batch(wanted.kind, tuple(numbers), customer.id, bought, wanted.cmax)

    def _free_labels(self, tx: Connection, kind: str, many: int) -> list[int]:
        """Random label numbers of a kind that no key has: unique while numbers last (PROTOCOL section 4)."""
        if many > keys.LABELS_PER_KIND - records.labels_in_use(tx, kind):
            raise Refused(Refusal("numbers-used-up"))
        chosen: dict[int, None] = {}
        for _ in range(_LABEL_TRIES):
            draw = [
                int.from_bytes(self._randomness(4), "big") % keys.LABELS_PER_KIND
                for _ in range(many - len(chosen))
            ]
            taken = records.taken_labels(tx, [keys.label(kind, number) for number in draw])
            chosen.update((number, None) for number in draw if keys.label(kind, number) not in taken)
            if len(chosen) == many:
                return list(chosen)
        return self._last_labels(tx, kind, many, chosen)

    def _last_labels(self, tx: Connection, kind: str, many: int, chosen: dict[int, None]) -> list[int]:
        """When nearly all are taken, drawing finds none: go through all in order from a random one."""
        start = int.from_bytes(self._randomness(4), "big")
        every = [(start + step) % keys.LABELS_PER_KIND for step in range(keys.LABELS_PER_KIND)]
        taken = records.taken_labels(tx, [keys.label(kind, number) for number in every])
        for number in every:
            if len(chosen) == many:
                break
            if keys.label(kind, number) not in taken:
                chosen[number] = None
        return list(chosen)

    def keys(self, label: str | None = None) -> list[KeyRow]:
        """All keys, or the one with a label.

        Raises:
            Refused: `label-unknown`.
        """
        with self._store.reading() as tx:
            found = records.keys(tx, self._clock.now(), label)
        if label is not None and not found:
            raise Refused(Refusal("label-unknown"))
        return found

    def newest_sources(self, label: str) -> list[tuple[str, int]]:
        """The sources that a key was last used from for the first time, and when: the newest first (M10).

        Raises:
            Refused: `label-unknown`.
        """
        with self._store.reading() as tx:
            return records.newest_sources(tx, self._key(tx, label), _SOURCES_SHOWN)

    def block_key(self, label: str, *, everything: bool) -> int:
        """Block a key: new activations only, or everything; answers the new status list's version (M5).

        Raises:
            Refused: `label-unknown`, `already-exists` if it is blocked so already.
        """
        now = self._clock.now()
        mode = orders.BLOCKED_ALL if everything else orders.BLOCKED_NEW
        with self._store.writing() as tx:
            order = self._order(tx, label)
            if order.blocked in (mode, orders.BLOCKED_ALL):
                raise Refused(
                    Refusal("already-exists", f"The key is blocked already (mode {order.blocked}).")
                )
            records.block_key(tx, order.id, mode, now)
            sql.add_event(tx, now, "key-blocked", order.id, {"mode": mode})
            return statuslist.renew(tx, self._keyring, self._randomness, now)

    def raise_key(self, label: str, bought: int) -> Order:
        """Raise the number of activations that a key is good for, to `bought` in all (M1).

        Raises:
            Refused: `label-unknown`, `raise-refused`.
        """
        now = self._clock.now()
        with self._store.writing() as tx:
            order = self._order(tx, label)
            refusal = orders.raised(order, bought)
            if refusal:
                raise Refused(refusal)
            records.raise_key(tx, order.id, bought)
            sql.add_event(tx, now, "key-raised", order.id, {"from": order.bought, "to": bought})
            return order._replace(bought=bought)

    def bind_key(
        self, label: str, machines: Iterable[str] | None = None, networks: Iterable[str] | None = None
    ) -> None:
        """Bind a key to machines (CMIDs), networks, or both; a given list replaces the one before (M10).

        Raises:
            UsageError: for what is no CMID or network.
            Refused: `label-unknown`.
        """
        cmids = None if machines is None else _checked(machines, _cmid, "a CMID of 43 characters")
        ranges = (
            None
            if networks is None
            else _checked(networks, sources.network, "a network such as 192.0.2.0/24")
        )
        now = self._clock.now()
        with self._store.writing() as tx:
            order = self._order(tx, label)
            detail: dict[str, object] = {}
            if cmids is not None:
                records.bind_machines(tx, order.id, cmids)
                detail["machines"] = len(set(cmids))
            if ranges is not None:
                records.bind_networks(tx, order.id, ranges)
                detail["networks"] = sorted(set(ranges))
            sql.add_event(tx, now, "key-bound", order.id, detail)

    def _order(self, tx: Connection, label: str) -> Order:
        return activated.present_order(tx, self._key(tx, label), self._clock.now(), only_read=False)

    def _key(self, tx: Connection, label: str) -> int:
        key = records.key_with(tx, label)
        if key is None:
            raise Refused(Refusal("label-unknown"))
        return key

    # --- activations --------------------------------------------------------------------------------------

    def activations(self, label: str | None = None) -> list[Activated]:
        """The activations of all keys, or of the key with a label.

        Raises:
            Refused: `label-unknown`.
        """
        with self._store.reading() as tx:
            key = None if label is None else self._key(tx, label)
            return activated.activations(tx, key, self._clock.now())

    def block_activation(self, act: str) -> int:
        """Block a machine's activation, or a host's; answers the new status list's version (M5).

        Raises:
            Refused: `activation-unknown`, `already-exists` if it is blocked already, `activation-returned`.
        """
        now = self._clock.now()
        with self._store.writing() as tx:
            found = activated.find(tx, act)
            if found is None:
                raise Refused(Refusal("activation-unknown"))
            key = found[0]
            sql.lock_keys(tx, [key])
            if not activated.block(tx, act, now):
                if activated.find(tx, act) == (key, activation.RETURNED):
                    raise Refused(Refusal("activation-returned", "Nothing is left of it to block."))
                raise Refused(Refusal("already-exists", "The activation is blocked already."))
            sql.add_event(tx, now, "activation-blocked", key, {"act": act})
            return statuslist.renew(tx, self._keyring, self._randomness, now)

    def _new_id(self) -> str:
        return ids.b64u(self._randomness(_ID_BYTES))


def _cmid(text: str) -> str | None:
    return text.strip() if ids.is_thumbprint(text.strip()) else None


def _checked(values: Iterable[str], read: Callable[[str], str | None], wanted: str) -> list[str]:
    found = []
    for number, value in enumerate(values, start=1):
        good = read(value)
        if good is None:
            raise UsageError(f"Entry {number} of the list is not {wanted}.")
        found.append(good)
    return found
