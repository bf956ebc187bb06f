"""What was done to one machine: actions on it, and the rows of computer lists about it (V5, P3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.vamt import schema, selecting

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from volact.vamt.acting import Office
    from volact.vamt.people import Person

ACTION, LIST = "action", "list"


class Happened(NamedTuple):
    """One thing that was done to it.

    Attributes:
        at: when it came to its state, seconds UTC; None if it waits.
        kind: `ACTION` or `LIST`.
        what: the action, or what the list asked for.
        of: the action's or the list's id.
        prd: the product; empty if it is about none.
        state: how it stands.
        code, detail: why, where it is a no.
        who: through whom.
    """

    at: int | None
    kind: str
    what: str
    of: str
    prd: str
    state: str
    code: str
    detail: str
    who: str


class History:
    """The use case of looking back."""

    def __init__(self, office: Office) -> None:
        """Work in `office`."""
        self._office = office

    def of(self, person: Person, name: str, limit: int) -> list[Happened]:
        """What was done to the machine of that id, name or address, the newest first.

        Raises:
            Refused: `machine-unknown`.
        """
        self._office.look(person)
        with self._office.store.reading() as tx:
            (number,) = selecting.named_machines(tx, [name])
            table = schema.machine
            mid = tx.execute(sa.select(table.c.mid).where(table.c.id == number)).scalar_one()
            found = _actions(tx, mid, limit) + _lists(tx, mid, limit)
        return sorted(found, key=lambda one: (one.at is None, one.at or 0), reverse=True)[:limit]


def _actions(tx: Connection, mid: str, limit: int) -> list[Happened]:
    row, action = schema.action_row, schema.action
    columns = (
        row.c.at,
        action.c.what,
        action.c.aid,
        row.c.prd,
        row.c.state,
        row.c.code,
        row.c.detail,
        action.c.who,
    )
    joined = row.join(action, row.c.action == action.c.id)
    rows = tx.execute(
        sa.select(*columns).select_from(joined).where(row.c.mid == mid).order_by(row.c.id.desc()).limit(limit)
    )
    return [Happened(at, ACTION, *rest) for at, *rest in rows]


def _lists(tx: Connection, mid: str, limit: int) -> list[Happened]:
    row, made = schema.list_row, schema.computer_list
    columns = (row.c.at, row.c.op, made.c.lid, row.c.prd, row.c.state, row.c.code, row.c.who)
    joined = row.join(made, row.c.list == made.c.id)
    rows = tx.execute(
        sa.select(*columns).select_from(joined).where(row.c.mid == mid).order_by(row.c.id.desc()).limit(limit)
    )
    return [
        Happened(at, LIST, op, lid, prd, state, code, "", who) for at, op, lid, prd, state, code, who in rows
    ]
