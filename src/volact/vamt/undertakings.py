"""The SQL of actions over many machines: what was begun, for which selection, and how it stands. Decides nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.vamt import schema
from volact.vamt.selecting import Selection
from volact.vamt.store import in_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Connection

RUNNING, STOPPED, DONE = "running", "stopped", "done"
COLLECT = "collect"
"""The undertaking of asking machines; all others are actions with rows."""


class Undertaking(NamedTuple):
    """An action over many machines.

    Attributes:
        aid: its id.
        what: what is done: `COLLECT`, or a name of `actions.LEAST`.
        selection: which machines.
        state: `RUNNING`, `STOPPED` or `DONE`; one whose process died is still said to run.
        who: the person's name.
        at: when it began, seconds UTC.
        options: what else was said of it, as JSON.
        number: the row's.
    """

    aid: str
    what: str
    selection: Selection
    state: str
    who: str
    at: int
    options: Mapping[str, Any] = {}
    number: int = 0


def begin(tx: Connection, one: Undertaking) -> int:
    """Write that it has begun; its number."""
    row = {"aid": one.aid, "what": one.what, "state": one.state, "who": one.who, "at": one.at}
    said = {"selection": json.dumps(one.selection), "options": json.dumps(one.options)}
    made = sa.insert(schema.action).values(**row, **said, dry=False).returning(schema.action.c.id)
    return int(tx.execute(made).scalar_one())


def end(tx: Connection, aid: str, state: str, at: int) -> None:
    """Write that it has ended, or was stopped, or goes on."""
    table = schema.action
    tx.execute(sa.update(table).where(table.c.aid == aid).values(state=state, ended=at))


def newest(tx: Connection, what: str) -> Undertaking | None:
    """The newest undertaking of a kind."""
    table = schema.action
    found = sa.select(table).where(table.c.what == what).order_by(table.c.id.desc()).limit(1)
    row = tx.execute(found).one_or_none()
    return _undertaking(row) if row else None


def find(tx: Connection, aid: str) -> Undertaking | None:
    """The undertaking of that id."""
    row = tx.execute(sa.select(schema.action).where(schema.action.c.aid == aid)).one_or_none()
    return _undertaking(row) if row else None


def actions(tx: Connection, limit: int) -> list[Undertaking]:
    """The newest actions, newest first."""
    table = schema.action
    found = sa.select(table).where(table.c.what != COLLECT).order_by(table.c.id.desc()).limit(limit)
    return [_undertaking(row) for row in tx.execute(found)]


def by_number(tx: Connection, numbers: Collection[int]) -> dict[int, Undertaking]:
    """The undertakings of these numbers."""
    table, found = schema.action, dict[int, Undertaking]()
    for part in in_parts(sorted(numbers)):
        rows = tx.execute(sa.select(table).where(table.c.id.in_(part)))
        found.update({row.id: _undertaking(row) for row in rows})
    return found


def _undertaking(row: Any) -> Undertaking:  # noqa: ANN401 - a row of the table
    return Undertaking(
        row.aid,
        row.what,
        selection(json.loads(row.selection)),
        row.state,
        row.who,
        row.at,
        json.loads(row.options),
        row.id,
    )


def selection(said: list[Any]) -> Selection:
    """A selection as its JSON has it."""
    machines, *rest = said
    return Selection(tuple(machines), *rest)
