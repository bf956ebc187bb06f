"""The authority's SQL for the publisher's own work: products, customers, keys, blocks, lists. Decides nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.authority import schema
from volact.authority.activation import RETURNED
from volact.authority.keyring import Delegation, Publisher, Recorded, Roots
from volact.authority.orders import BLOCKED_ALL
from volact.protocol import policy as policies
from volact.protocol.policy import RETURNED_ENTRY
from volact.protocol.status import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import Connection

    from volact.protocol.policy import Policy


# --- the publisher ------------------------------------------------------------------------------------------


def add_publisher(tx: Connection, publisher: Publisher, root: str, jwk: tuple[str, str], now: int) -> None:
    """Write who the authority is of, and its root document 1."""
    tx.execute(sa.insert(schema.publisher).values(**publisher._asdict(), created=now))
    tx.execute(sa.insert(schema.root_document).values(ver=1, token=root, x=jwk[0], y=jwk[1]))


def publisher(tx: Connection) -> Publisher | None:
    """Who the authority is of."""
    row = tx.execute(sa.select(schema.publisher)).first()
    return Publisher(row.pub, row.name, row.url, row.lab) if row else None


def lock_publisher(tx: Connection) -> None:
    """Nobody else writes a status list until this transaction ends."""
    tx.execute(sa.select(schema.publisher.c.pub).with_for_update())


def roots(tx: Connection) -> Roots:
    """The publisher's root documents."""
    first, *later = tx.execute(sa.select(schema.root_document).order_by(schema.root_document.c.ver)).all()
    jwk = {"kty": "EC", "crv": "P-256", "x": first.x, "y": first.y}
    return Roots({"token": first.token, "jwk": jwk}, tuple(row.token for row in later))


def add_delegation(
    tx: Connection, delegation: Delegation, signer: str, payload: bytes, token: str | None
) -> None:
    """Keep a delegation, with its token where its signer's key may be away."""
    tx.execute(
        sa.insert(schema.delegation).values(
            jti=delegation.jti,
            signer=signer,
            sub=delegation.sub,
            rol=delegation.rol,
            iat=delegation.iat,
            exp=delegation.exp,
            payload=payload,
            token=token,
        )
    )


_DELEGATION = sa.select(schema.delegation).where(schema.delegation.c.jti == sa.bindparam("jti"))


def delegation(tx: Connection, jti: str) -> Delegation | None:
    """A delegation by its id."""
    row = tx.execute(_DELEGATION, {"jti": jti}).first()
    return Delegation(row.jti, row.sub, row.rol, row.iat, row.exp, row.token or "") if row else None


def root_delegations(tx: Connection) -> list[Delegation]:
    """Every delegation that a root key signed."""
    table = schema.delegation
    rows = tx.execute(sa.select(table).where(table.c.token.is_not(None)).order_by(table.c.iat))
    return [Delegation(row.jti, row.sub, row.rol, row.iat, row.exp, row.token) for row in rows]


# --- products and customers ---------------------------------------------------------------------------------


class Product(NamedTuple):
    """A product's number, id and newest version, and that version's document as it was recorded."""

    id: int
    prd: str
    ver: int
    payload: bytes
    kid: str
    delegation: str

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of its document."""
        return json.loads(self.payload)  # type: ignore[no-any-return]  # an object, as it was written

    def recorded(self) -> Recorded:
        """What its bundle is made from."""
        return Recorded("product", self.payload, self.kid, self.delegation)


_PRODUCT = (
    sa.select(
        schema.product.c.id,
        schema.product.c.prd,
        schema.product.c.ver,
        schema.product_version.c.payload,
        schema.product_version.c.kid,
        schema.product_version.c.delegation,
    )
    .join(
        schema.product_version,
        (schema.product_version.c.product == schema.product.c.id)
        & (schema.product_version.c.ver == schema.product.c.ver),
    )
    .order_by(schema.product.c.prd)
)


def products(tx: Connection) -> list[Product]:
    """All products, by id."""
    return [Product(*row) for row in tx.execute(_PRODUCT)]


def product(tx: Connection, prd: str) -> Product | None:
    """A product by its id."""
    row = tx.execute(_PRODUCT.where(schema.product.c.prd == prd)).first()
    return Product(*row) if row else None


def add_product(tx: Connection, prd: str, ver: int, payload: bytes, kid: str, delegation: str) -> None:
    """Write a product's version; the first makes the product."""
    table = schema.product
    if ver == 1:
        number = tx.execute(sa.insert(table).values(prd=prd, ver=1).returning(table.c.id)).scalar_one()
    else:
        changed = sa.update(table).where(table.c.prd == prd).values(ver=ver).returning(table.c.id)
        number = tx.execute(changed).scalar_one()
    tx.execute(
        sa.insert(schema.product_version).values(
            product=number, ver=ver, payload=payload, kid=kid, delegation=delegation
        )
    )


def policy(tx: Connection, product: int, ver: int) -> Policy:
    """The policy of a version of a product, by its number."""
    table = schema.product_version
    payload = tx.execute(
        sa.select(table.c.payload).where(table.c.product == product, table.c.ver == ver)
    ).scalar_one()
    claims = json.loads(payload)
    return policies.read(claims["pol"], claims["edition"])


def longest_validity(tx: Connection, key: int) -> int:
    """The longest validity among the products of a host key, as their newest versions say."""
    table = schema.key_product
    found = tx.execute(
        sa.select(schema.product.c.id, schema.product.c.ver)
        .join(table, table.c.product == schema.product.c.id)
        .where(table.c.key == key)
    ).all()
    return max(policy(tx, number, ver).validity for number, ver in found)


def add_customer(tx: Connection, name: str, cus: str, now: int) -> None:
    """Write a customer."""
    tx.execute(sa.insert(schema.customer).values(name=name, cus=cus, created=now))


class Customer(NamedTuple):
    """A customer: number, name, the id that documents carry, and since when."""

    id: int
    name: str
    cus: str
    created: int


def customers(tx: Connection) -> list[Customer]:
    """All customers, by name."""
    table = schema.customer
    rows = tx.execute(
        sa.select(table.c.id, table.c.name, table.c.cus, table.c.created).order_by(table.c.name)
    )
    return [Customer(*row) for row in rows]


# --- keys ---------------------------------------------------------------------------------------------------


class NewKey(NamedTuple):
    """What is kept of a new key: nothing of its secret."""

    thumbprint: str
    x: str
    y: str
    label: str


class Batch(NamedTuple):
    """What keys that are issued together have in common."""

    kind: str
    products: tuple[int, ...]
    customer: int
    bought: int
    cmax: int


def add_keys(tx: Connection, keys: Sequence[NewKey], batch: Batch, now: int) -> None:
    """Write new keys."""
    table = schema.product_key
    common = {
        "kind": batch.kind,
        "product": batch.products[0],
        "customer": batch.customer,
        "bought": batch.bought,
        "used": 0,
        "blocked": "",
        "blocked_since": 0,
        "machines_bound": False,
        "networks_bound": False,
        "host_machines": batch.cmax,
        "created": now,
    }
    tx.execute(sa.insert(table), [{**key._asdict(), **common} for key in keys])
    for some in _slices([key.label for key in keys]):
        numbers = tx.scalars(sa.select(table.c.id).where(table.c.label.in_(some))).all()
        tx.execute(
            sa.insert(schema.key_product),
            [{"key": key, "product": product} for key in numbers for product in batch.products],
        )


_SLICE = 500


def _slices(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _SLICE):
        yield values[start : start + _SLICE]


def taken_labels(tx: Connection, labels: Sequence[str]) -> set[str]:
    """Those of the labels that are in use."""
    table = schema.product_key
    taken: set[str] = set()
    for some in _slices(labels):
        taken.update(tx.scalars(sa.select(table.c.label).where(table.c.label.in_(some))))
    return taken


def labels_in_use(tx: Connection, kind: str) -> int:
    """How many labels of a kind are in use."""
    table = schema.product_key
    return tx.execute(sa.select(sa.func.count()).where(table.c.kind == kind).select_from(table)).scalar_one()


class KeyRow(NamedTuple):
    """A key as the publisher sees it; of `used`, `returning` were given back by file and are free within 30 days."""

    id: int
    label: str
    kind: str
    thumbprint: str
    products: tuple[str, ...]
    customer: str
    bought: int
    used: int
    blocked: str
    blocked_since: int
    machines: int
    networks: tuple[str, ...]
    sources: int
    created: int
    returning: int


_KEYS = (
    sa.select(
        schema.product_key.c.id,
        schema.product_key.c.label,
        schema.product_key.c.kind,
        schema.product_key.c.thumbprint,
        schema.customer.c.name,
        schema.product_key.c.bought,
        schema.product_key.c.used,
        schema.product_key.c.blocked,
        schema.product_key.c.blocked_since,
        schema.product_key.c.created,
    )
    .join(schema.customer, schema.customer.c.id == schema.product_key.c.customer)
    .order_by(schema.product_key.c.id)
)


def keys(tx: Connection, now: int, label: str | None = None) -> list[KeyRow]:
    """All keys in the order of their issue, or the one with a label."""
    query = _KEYS if label is None else _KEYS.where(schema.product_key.c.label == label)
    rows = tx.execute(query).all()
    only = rows[0].id if label is not None and rows else None
    prd = _grouped(tx, schema.key_product.c.key, schema.product.c.prd, only, join=schema.product)
    networks = _grouped(tx, schema.key_network.c.key, schema.key_network.c.network, only)
    machines = _counted(tx, schema.key_machine.c.key, only)
    sources = _counted(tx, schema.source.c.key, only)
    free = _counted(tx, schema.returned.c.key, only, schema.returned.c.frees <= now)
    waiting = _counted(tx, schema.returned.c.key, only, schema.returned.c.frees > now)
    return [
        KeyRow(
            row.id,
            row.label,
            row.kind,
            row.thumbprint,
            tuple(prd.get(row.id, ())),
            row.name,
            row.bought,
            row.used - free.get(row.id, 0),
            row.blocked,
            row.blocked_since,
            machines.get(row.id, 0),
            tuple(networks.get(row.id, ())),
            sources.get(row.id, 0),
            row.created,
            waiting.get(row.id, 0),
        )
        for row in rows
    ]


def _grouped(
    tx: Connection, key: sa.Column[int], value: sa.Column[str], only: int | None, join: sa.Table | None = None
) -> dict[int, list[str]]:
    query = sa.select(key, value).order_by(key, value)
    if join is not None:
        query = query.join(join, join.c.id == schema.key_product.c.product)
    if only is not None:
        query = query.where(key == only)
    found: dict[int, list[str]] = {}
    for number, text in tx.execute(query):
        found.setdefault(number, []).append(text)
    return found


def _counted(
    tx: Connection, key: sa.Column[int], only: int | None, *where: sa.ColumnElement[bool]
) -> dict[int, int]:
    query = sa.select(key, sa.func.count()).where(*where).group_by(key)
    return dict(tx.execute(query if only is None else query.where(key == only)).all())


def key_with(tx: Connection, label: str) -> int | None:
    """The number of the key with a label."""
    table = schema.product_key
    return tx.scalar(sa.select(table.c.id).where(table.c.label == label))


def newest_sources(tx: Connection, key: int, most: int) -> list[tuple[str, int]]:
    """The sources that a key was used from, each with its first use; the newest first."""
    table = schema.source
    query = sa.select(table.c.network, table.c.first_seen).where(table.c.key == key)
    newest = query.order_by(table.c.first_seen.desc(), table.c.network).limit(most)
    return [(network, at) for network, at in tx.execute(newest)]


def block_key(tx: Connection, key: int, mode: str, now: int) -> None:
    """Block a key in a mode; a stricter one later keeps the first date of its own."""
    table = schema.product_key
    tx.execute(sa.update(table).where(table.c.id == key).values(blocked=mode, blocked_since=now))


def raise_key(tx: Connection, key: int, bought: int) -> None:
    """Write how many activations a key is good for now."""
    tx.execute(sa.update(schema.product_key).where(schema.product_key.c.id == key).values(bought=bought))


def bind_machines(tx: Connection, key: int, cmids: Iterable[str]) -> None:
    """Replace the list of machines that a key is bound to; an empty one unbinds it."""
    listed = sorted(set(cmids))
    tx.execute(sa.delete(schema.key_machine).where(schema.key_machine.c.key == key))
    if listed:
        tx.execute(sa.insert(schema.key_machine), [{"key": key, "cmid": cmid} for cmid in listed])
    table = schema.product_key
    tx.execute(sa.update(table).where(table.c.id == key).values(machines_bound=bool(listed)))


def bind_networks(tx: Connection, key: int, networks: Iterable[str]) -> None:
    """Replace the list of networks that a key is bound to; an empty one unbinds it."""
    listed = sorted(set(networks))
    tx.execute(sa.delete(schema.key_network).where(schema.key_network.c.key == key))
    if listed:
        tx.execute(sa.insert(schema.key_network), [{"key": key, "network": one} for one in listed])
    table = schema.product_key
    tx.execute(sa.update(table).where(table.c.id == key).values(networks_bound=bool(listed)))


# --- the status list ----------------------------------------------------------------------------------------


class StoredList(NamedTuple):
    """A version of the status list as it was recorded."""

    ver: int
    iat: int
    nxt: int
    payload: bytes
    body: bytes
    kid: str
    delegation: str


def blocked(tx: Connection, now: int) -> list[Entry]:
    """Everything that is blocked or was returned, as entries of the status list; a return stays there for 400 days.

    Where all of a KMS host key is blocked its hosts are listed: machines know their lease's host, not its key.
    """
    key, host = schema.product_key, schema.host
    entries = []
    for kind, table, name in (
        ("key", schema.product_key, "thumbprint"),
        ("act", schema.activation, "act"),
        ("host", schema.host, "host"),
    ):
        # In the statement's text, as the index has it.
        listed = table.c.blocked != sa.literal_column("''")
        query = sa.select(table.c[name], table.c.blocked, table.c.blocked_since).where(listed)
        rows = tx.execute(query).all()  # one by one they take twice as long
        entries += [Entry(kind, *row) for row in rows]
    hosts = {one.id for one in entries if one.kind == "host"}
    of_keys = sa.select(host.c.host, key.c.blocked, key.c.blocked_since).join(key, key.c.id == host.c.key)
    for row in tx.execute(of_keys.where(key.c.blocked == BLOCKED_ALL)):
        if row.host not in hosts:
            hosts.add(row.host)
            entries.append(Entry("host", *row))
    return [one for one in entries if one.mode != RETURNED or now - one.since < RETURNED_ENTRY]


def newest_list(tx: Connection) -> int:
    """The newest version of the status list; 0 if there is none."""
    return tx.scalar(sa.select(sa.func.max(schema.status_list.c.ver))) or 0


def status_list(tx: Connection, ver: int) -> StoredList:
    """A version of the status list."""
    return StoredList(*tx.execute(sa.select(schema.status_list).where(schema.status_list.c.ver == ver)).one())


def add_status_list(tx: Connection, new: StoredList) -> None:
    """Write a new version of the status list; older bodies are of no use to anybody and go."""
    table = schema.status_list
    tx.execute(sa.delete(table).where(table.c.ver < new.ver))
    tx.execute(sa.insert(table).values(**new._asdict()))


def settings(tx: Connection) -> dict[str, str]:
    """The role's settings that are kept in the store."""
    return dict(tx.execute(sa.select(schema.setting.c.name, schema.setting.c.value)).all())
