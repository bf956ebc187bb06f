"""VAMT's SQL: VAMT itself, its settings, the publishers that it knows and their products. Decides nothing.

Every function takes the transaction that it works in. `records` has the SQL of machines, `searching` of filters over
them, `groups` of groups and views, `persons` of people and the audit log.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import sqlalchemy as sa

from volact import stores
from volact.vamt import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection, Engine

_SCRIPTS = Path(__file__).parent / "migrations"
_AT_ONCE = 500
T = TypeVar("T")


class Store(stores.Store):
    """VAMT's database."""

    def __init__(self, engine: Engine) -> None:
        """Keep everything in the database of `engine`."""
        super().__init__(engine, _SCRIPTS, schema.REVISION)


class Publisher(NamedTuple):
    """A publisher whose products VAMT manages.

    Attributes:
        pub: its id, which is pinned.
        name: what people here call it.
        lab: whether it is a laboratory.
        root: root document 1 as it travels.
        roots: the tokens of later root documents.
        url: where its authority is reached; empty if its products do not say.
        tls: digests of the authority's public keys, as its products say.
        added: when VAMT met it.
    """

    pub: str
    name: str
    lab: bool
    root: dict[str, Any]
    roots: tuple[str, ...]
    url: str
    tls: tuple[str, ...]
    added: int


class Product(NamedTuple):
    """The newest signed document of a product, as its file has it."""

    pub: str
    prd: str
    ver: int
    name: str
    edition: str
    bundle: dict[str, Any]


def in_parts(values: Iterable[T]) -> Iterator[list[T]]:
    """The values, each once, in lists that are short enough for an IN of one statement."""
    whole = list(dict.fromkeys(values))
    return (whole[at : at + _AT_ONCE] for at in range(0, len(whole), _AT_ONCE))


# --- VAMT itself ------------------------------------------------------------------------------------------------


def introduce(tx: Connection, name: str) -> None:
    """Write what this VAMT is called."""
    tx.execute(sa.insert(schema.own).values(id=1, name=name, seq=0))


def name(tx: Connection) -> str | None:
    """What this VAMT is called; None before `init`."""
    return tx.execute(sa.select(schema.own.c.name)).scalar()


def lock(tx: Connection) -> None:
    """Let nobody else decide which machines are one until this transaction ends."""
    tx.execute(sa.select(schema.own.c.id).with_for_update()).all()


def next_sequence(tx: Connection) -> int:
    """The number of the next list that this VAMT writes; it only rises."""
    table = schema.own
    return int(tx.execute(sa.update(table).values(seq=table.c.seq + 1).returning(table.c.seq)).scalar_one())


def settings(tx: Connection) -> dict[str, str]:
    """The settings that were set by command."""
    rows = tx.execute(sa.select(schema.setting.c.name, schema.setting.c.value))
    return {row.name: row.value for row in rows}


# --- publishers and products ------------------------------------------------------------------------------------


def publishers(tx: Connection) -> list[Publisher]:
    """The publishers that VAMT knows, by name."""
    table = schema.publisher
    return [_publisher(row) for row in tx.execute(sa.select(table).order_by(table.c.name, table.c.pub))]


def publisher(tx: Connection, pub: str) -> Publisher | None:
    """A publisher by its id."""
    row = tx.execute(sa.select(schema.publisher).where(schema.publisher.c.pub == pub)).one_or_none()
    return _publisher(row) if row else None


def _publisher(row: Any) -> Publisher:  # noqa: ANN401 - a row of the table
    return Publisher(
        row.pub,
        row.name,
        row.lab,
        json.loads(row.root),
        tuple(json.loads(row.roots)),
        row.url,
        tuple(json.loads(row.tls)),
        row.added,
    )


def put_publisher(tx: Connection, found: Publisher) -> None:
    """Write a new publisher, or what was learned of one."""
    table = schema.publisher
    values = {
        **found._asdict(),
        "root": json.dumps(found.root),
        "roots": json.dumps(list(found.roots)),
        "tls": json.dumps(list(found.tls)),
    }
    if tx.execute(sa.update(table).where(table.c.pub == found.pub).values(values)).rowcount == 0:
        tx.execute(sa.insert(table).values(values))


def products(tx: Connection) -> list[Product]:
    """The products that VAMT knows, by publisher and id."""
    table = schema.product
    rows = tx.execute(sa.select(table).order_by(table.c.pub, table.c.prd))
    return [Product(row.pub, row.prd, row.ver, row.name, row.edition, json.loads(row.bundle)) for row in rows]


def put_product(tx: Connection, found: Product) -> None:
    """Write a new product, or a newer version of one."""
    table = schema.product
    values = {**found._asdict(), "bundle": json.dumps(found.bundle)}
    same = (table.c.pub == found.pub) & (table.c.prd == found.prd)
    if tx.execute(sa.update(table).where(same).values(values)).rowcount == 0:
        tx.execute(sa.insert(table).values(values))
