"""The SQL of actions over many machines: what was begun, for which selection, and how it stands. Decides nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.vamt import schema
from volact.vamt.selecting import Selection

if TYPE_CHECKING:
    from sqlalchemy import Connection

RUNNING, STOPPED, DONE = "running", "stopped", "done"


class Undertaking(NamedTuple):
    """An action over many machines.

    Attributes:
        aid: its id.
        what: a name of `people.LEAST`.
        selection: which machines.
        state: `RUNNING`, `STOPPED` or `DONE`; one whose process died is still said to run.
        who: the person's name.
        at: when it began, seconds UTC.
    """

    aid: str
    what: str
    selection: Selection
    state: str
    who: str
    at: int


def begin(tx: Connection, one: Undertaking) -> None:
    """Write that it has begun."""
    row = {"aid": one.aid, "what": one.what, "state": one.state, "who": one.who, "at": one.at}
    said = json.dumps(one.selection)
    tx.execute(sa.insert(schema.action).values(**row, selection=said, options="{}", dry=False))


def end(tx: Connection, aid: str, state: str, at: int) -> None:
    """Write that it has ended, or was stopped."""
    table = schema.action
    tx.execute(sa.update(table).where(table.c.aid == aid).values(state=state, ended=at))


def newest(tx: Connection, what: str) -> Undertaking | None:
    """The newest undertaking of a kind."""
    table = schema.action
    found = sa.select(table).where(table.c.what == what).order_by(table.c.id.desc()).limit(1)
    row = tx.execute(found).one_or_none()
    if row is None:
        return None
    machines, *rest = json.loads(row.selection)
    return Undertaking(row.aid, row.what, Selection(tuple(machines), *rest), row.state, row.who, row.at)
