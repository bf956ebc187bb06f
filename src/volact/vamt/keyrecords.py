"""The SQL of product keys, sealed, and of what their publisher said of them last (V4, M3, M8). Decides nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.protocol import status
from volact.vamt import receipts, schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection

_AT_ONCE = 500


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
        bought, activated, remaining: as the publisher signed last; None if that was never asked.
        as_of: when it signed that, seconds UTC.
        blocked: ``all`` or ``new`` if the publisher's status list names it, ``refused`` if its authority said so.
        notes: what a person noted.
        who: who added it.
        added: when, seconds UTC.
    """

    number: int
    pub: str
    product: str
    thumbprint: str
    label: str
    kind: str
    sealed: str
    bought: int | None
    activated: int | None
    remaining: int | None
    as_of: int | None
    blocked: str
    notes: str
    who: str
    added: int

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
        "id", "pub", "prd", "thumbprint", "label", "kind", "sealed", "bought", "activated", "remaining", "as_of",
        "blocked", "notes", "who", "added",
    )
]  # fmt: skip


def keys(tx: Connection) -> list[Key]:
    """All keys, by label."""
    table = schema.key
    rows = tx.execute(sa.select(*_COLUMNS).order_by(table.c.label, table.c.thumbprint)).all()
    lists = {pub: receipts.status_list(tx, pub) for pub in {row.pub for row in rows}}
    found = []
    for row in rows:
        held = lists[row.pub]
        named = status.find(held.body, "key", row.thumbprint) if held else ""
        found.append(Key(*row)._replace(blocked=named or row.blocked))
    return found


def add(tx: Connection, key: Key) -> None:
    """Write a new key; its number is not looked at."""
    values = {**key._asdict(), "prd": key.product}
    del values["number"], values["product"]
    tx.execute(sa.insert(schema.key).values(values))


def change(tx: Connection, pub: str, thumbprint: str, product: str, notes: str) -> None:
    """Write what a person says of a key."""
    table = schema.key
    same = (table.c.pub == pub) & (table.c.thumbprint == thumbprint)
    tx.execute(sa.update(table).where(same).values({"prd": product, "notes": notes}))


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


class Installation(NamedTuple):
    """A product on a machine: whether it has a permanent activation there."""

    machine: int
    pub: str
    prd: str
    activated: bool


def installations(tx: Connection, machines: Iterable[int]) -> list[Installation]:
    """The products on machines, by the machines' numbers."""
    table, wanted = schema.installed, sorted(set(machines))
    found = []
    for at in range(0, len(wanted), _AT_ONCE):
        rows = tx.execute(
            sa.select(table.c.machine, table.c.pub, table.c.prd, table.c.state, table.c.channel).where(
                table.c.machine.in_(wanted[at : at + _AT_ONCE])
            )
        )
        found += [
            Installation(row.machine, row.pub, row.prd, row.state == 1 and row.channel in ("mak", "retail"))
            for row in rows
        ]
    return found


def systems(tx: Connection, machines: Iterable[int]) -> dict[int, str]:
    """The operating systems of machines, by the machines' numbers."""
    table, wanted, found = schema.machine, sorted(set(machines)), {}
    for at in range(0, len(wanted), _AT_ONCE):
        rows = tx.execute(
            sa.select(table.c.id, table.c.system).where(table.c.id.in_(wanted[at : at + _AT_ONCE]))
        )
        found.update({row.id: row.system for row in rows})
    return found
