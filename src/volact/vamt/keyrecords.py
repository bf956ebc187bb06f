"""The SQL of product keys, sealed, and of what their publisher said of them last (V4, M3, M8). Decides nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.protocol import status
from volact.vamt import receipts, schema
from volact.vamt.store import in_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy import Connection

_MANY = 5000
"""Machines of which it is faster to look at all that there are."""


class Key(NamedTuple):
    """A key as VAMT holds it.

    Attributes:
        number: the row's.
        pub: its publisher.
        product: what it is for, as who added it said.
        thumbprint: its id, by which the publisher knows it.
        label: its last group, the only one that is shown.
        kind: ``mak`` or ``retail``.
        sealed: the key itself, sealed under `record`.
        who: who added it.
        added: when, seconds UTC.
        notes: what a person noted.
        bought, activated, remaining: as the publisher signed last; None if that was never asked.
        as_of: when it signed that, seconds UTC.
        blocked: ``all`` or ``new`` if the publisher's status list names it, ``refused`` if its authority said so.
    """

    number: int
    pub: str
    product: str
    thumbprint: str
    label: str
    kind: str
    sealed: str
    who: str
    added: int
    notes: str = ""
    bought: int | None = None
    activated: int | None = None
    remaining: int | None = None
    as_of: int | None = None
    blocked: str = ""

    @property
    def record(self) -> str:
        """The name to which the sealed key is bound."""
        return record(self.pub, self.thumbprint)


def record(pub: str, thumbprint: str) -> str:
    """The name to which the sealed text of a key is bound."""
    return f"product key {thumbprint} of {pub}"


_COLUMNS = [
    schema.key.c[name]
    for name in (
        "id", "pub", "prd", "thumbprint", "label", "kind", "sealed", "who", "added", "notes", "bought", "activated",
        "remaining", "as_of", "blocked",
    )
]  # fmt: skip


def keys(tx: Connection, names: Iterable[str] | None = None) -> list[Key]:
    """All keys, or those that have one of these labels or thumbprints, by label."""
    table = schema.key
    query = sa.select(*_COLUMNS).order_by(table.c.label, table.c.thumbprint)
    if names is None:
        rows = list(tx.execute(query))
    else:
        said = [table.c.label.in_(part) | table.c.thumbprint.in_(part) for part in in_parts(names)]
        rows = list(dict.fromkeys(row for one in said for row in tx.execute(query.where(one))))
    lists = {pub: receipts.status_list(tx, pub) for pub in {row.pub for row in rows}}
    found = []
    for row in rows:
        held = lists[row.pub]
        named = status.find(held.body, "key", row.thumbprint) if held else ""
        found.append(Key(*row)._replace(blocked=named or row.blocked))
    return found


def is_any(tx: Connection) -> bool:
    """Whether any key is kept."""
    return tx.execute(sa.select(schema.key.c.id).limit(1)).first() is not None


def add(tx: Connection, new: Iterable[Key]) -> None:
    """Write new keys; their numbers are not looked at."""
    rows = [{**one._asdict(), "prd": one.product} for one in new]
    for row in rows:
        del row["number"], row["product"]
    if rows:
        tx.execute(sa.insert(schema.key), rows)


def change(tx: Connection, pub: str, thumbprint: str, product: str, notes: str) -> None:
    """Write what a person says of a key; no note leaves the one that is there."""
    table = schema.key
    same = (table.c.pub == pub) & (table.c.thumbprint == thumbprint)
    values = {"prd": product} | ({"notes": notes} if notes else {})
    tx.execute(sa.update(table).where(same).values(values))


def remove(tx: Connection, numbers: Iterable[int]) -> int:
    """Forget keys; how many there were."""
    table = schema.key
    return tx.execute(sa.delete(table).where(table.c.id.in_(list(numbers)))).rowcount


def stated(
    tx: Connection, number: int, claims: Mapping[str, Any], as_of: int, bundle: Mapping[str, Any]
) -> None:
    """Keep a statement of the publisher: it answers a question that was asked just now."""
    table = schema.key
    counts = {name: claims[name] for name in ("bought", "activated", "remaining")}
    values = {**counts, "as_of": as_of, "statement": json.dumps(bundle), "blocked": ""}
    tx.execute(sa.update(table).where(table.c.id == number).values(values))


def set_blocked(tx: Connection, number: int) -> None:
    """Keep that the authority said that a key is blocked."""
    tx.execute(sa.update(schema.key).where(schema.key.c.id == number).values(blocked="refused"))


def activated(tx: Connection, machines: Collection[int]) -> set[tuple[int, str, str]]:
    """The products that have a permanent activation on machines: machine, publisher, product."""
    table = schema.installed
    query = sa.select(table.c.machine, table.c.pub, table.c.prd).where(permanent(table))
    if len(machines) > _MANY:
        rows = tx.execute(query).all()
        return {(machine, pub, prd) for machine, pub, prd in rows if machine in machines}
    return {
        (machine, pub, prd)
        for part in in_parts(machines)
        for machine, pub, prd in tx.execute(query.where(table.c.machine.in_(part)))
    }


def permanent(installed: sa.Table) -> sa.ColumnElement[bool]:
    """Whether what is installed is activated for good."""
    return (installed.c.state == 1) & installed.c.channel.in_(("mak", "retail"))
