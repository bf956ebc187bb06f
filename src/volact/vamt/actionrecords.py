"""The SQL of what an action came to, row by row, of what waits in the queue, and of schedules (V5). Decides nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.vamt import schema, undertakings
from volact.vamt.collecting.targets import transport_of
from volact.vamt.inventory import Product
from volact.vamt.store import in_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from volact.vamt.keyrecords import Key
    from volact.vamt.selecting import Selection

WAITING, RUNNING, QUEUED = "waiting", "running", "queued"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
OPEN = (WAITING, RUNNING, QUEUED, FAILED)
"""States of a row that can go on."""
WOULD = "would"
"""What is said of a row in a dry run that would be begun; it is never kept."""
BEGUN, BUSY, TAKEN = "begun", "busy", "taken"
"""What `claim` came to: begun; another action is at work on the machine; somebody else began or ended this very row."""


class Row(NamedTuple):
    """An action on one product on one machine.

    Attributes:
        number: the row's.
        action: the action's.
        mid, machine: the machine's id, and its name as it was then.
        pub, prd: the product; empty as long as nobody knows what is on the machine.
        state: `WAITING`, `RUNNING`, `QUEUED`, `DONE`, `FAILED` or `CANCELLED`.
        code: ``ok``, or a refusal's; empty before the first try.
        detail: what else is said of it.
        tries: how often it was begun.
        at: when it was begun last, seconds UTC; None if never.
        key: thumbprint of the key that it takes; empty for none.
        due: when it is tried again, if it is queued; until when nobody else begins something here, if it is running.
        until: until when it may wait.
    """

    number: int
    action: int
    mid: str
    machine: str
    pub: str
    prd: str
    state: str = WAITING
    code: str = ""
    detail: str = ""
    tries: int = 0
    at: int | None = None
    key: str = ""
    due: int | None = None
    until: int | None = None


class Schedule(NamedTuple):
    """What is done again and again.

    Attributes:
        name: its name.
        what: `undertakings.COLLECT` or an action's name.
        selection: to which machines.
        options: what else was said of it, as JSON.
        every: the interval, seconds.
        next: when it is due, seconds UTC.
        last: when it was done last; None if never.
        result: what that came to; empty likewise.
        who: the person's name.
    """

    name: str
    what: str
    selection: Selection
    options: Mapping[str, Any]
    every: int
    next: int
    last: int | None
    result: str
    who: str


_COLUMNS = [
    schema.action_row.c[name]
    for name in (
        "id", "action", "mid", "machine", "pub", "prd", "state", "code", "detail", "tries", "at", "key", "due", "until",
    )
]  # fmt: skip


# --- rows -----------------------------------------------------------------------------------------------------


def add(tx: Connection, rows: Sequence[Row]) -> None:
    """Write new rows; their numbers are not looked at."""
    values = [one._asdict() for one in rows]
    for value in values:
        del value["number"]
    if values:
        tx.execute(sa.insert(schema.action_row), values)


def rows(tx: Connection, action: int, states: Collection[str] = ()) -> list[Row]:
    """The rows of an action, in their order; only those in these states, if any are named."""
    table = schema.action_row
    found = sa.select(*_COLUMNS).where(table.c.action == action).order_by(table.c.id)
    if states:
        found = found.where(table.c.state.in_(list(states)))
    return [Row(*row) for row in tx.execute(found)]


def counts(tx: Connection, actions: Iterable[int]) -> dict[int, dict[str, int]]:
    """How many rows of each action are in which state."""
    table, found = schema.action_row, dict[int, dict[str, int]]()
    for part in in_parts(actions):
        grouped = sa.select(table.c.action, table.c.state, sa.func.count())
        grouped = grouped.where(table.c.action.in_(part)).group_by(table.c.action, table.c.state)
        for action, state, count in tx.execute(grouped):
            found.setdefault(action, {})[state] = count
    return found


def claim(tx: Connection, row: Row, now: int, until: int) -> str:
    """Begin a row, which nobody else is to disturb before `until`; `BEGUN`, `BUSY` or `TAKEN`.

    The caller holds `store.lock`: two that look at one moment would both see nobody.
    """
    table = schema.action_row
    same = table.c.prd.in_(["", row.prd]) if row.prd else sa.true()
    others = sa.select(table.c.id).where(
        table.c.mid == row.mid,
        same,
        table.c.action != row.action,
        table.c.state == RUNNING,
        table.c.due > now,
    )
    if tx.execute(others.limit(1)).first():
        return BUSY
    mine = (table.c.id == row.number) & (table.c.tries == row.tries) & table.c.state.in_(OPEN)
    begun = sa.update(table).where(mine).values(state=RUNNING, tries=row.tries + 1, at=now, due=until)
    return BEGUN if tx.execute(begun).rowcount else TAKEN


def settle(tx: Connection, *rows: Row) -> None:
    """Write what rows came to; one that was cancelled meanwhile, or is done, stays so."""
    if not rows:
        return
    table, names = schema.action_row, ("state", "code", "detail", "key", "due", "until", "pub", "prd")
    # An IN cannot stand in a statement that is executed for many rows.
    is_open = sa.or_(*(table.c.state == state for state in OPEN))
    mine = sa.update(table).where(table.c.id == sa.bindparam("row"), is_open)
    settled = mine.values({name: sa.bindparam(f"new_{name}") for name in names})
    tx.execute(
        settled,
        [{"row": one.number, **{f"new_{name}": getattr(one, name) for name in names}} for one in rows],
    )


def release(tx: Connection, numbers: Iterable[int]) -> None:
    """Let rows that were begun and not ended wait again: how they stand must be looked at first."""
    table = schema.action_row
    for part in in_parts(numbers):
        mine = table.c.id.in_(part) & (table.c.state == RUNNING)
        tx.execute(sa.update(table).where(mine).values(state=WAITING, due=None))


def queued(tx: Connection, due: int | None = None) -> list[Row]:
    """The rows that wait for their machine, those due first; with `due` only those that are due then."""
    table = schema.action_row
    found = sa.select(*_COLUMNS).where(table.c.state == QUEUED).order_by(table.c.due, table.c.id)
    if due is not None:
        found = found.where(table.c.due <= due)
    return [Row(*row) for row in tx.execute(found)]


def cancel(tx: Connection, numbers: Iterable[int]) -> int:
    """Let rows wait no longer; how many did."""
    table, count = schema.action_row, 0
    for part in in_parts(numbers):
        mine = table.c.id.in_(part) & (table.c.state == QUEUED)
        count += tx.execute(sa.update(table).where(mine).values(state=CANCELLED, due=None)).rowcount
    return count


# --- what machines have ---------------------------------------------------------------------------------------


def there(tx: Connection, machines: Iterable[int]) -> dict[tuple[int, str, str], Product]:
    """What machines said last of their products, without their grants; by machine, publisher and product."""
    table, found = schema.installed, dict[tuple[int, str, str], Product]()
    names = ("pub", "prd", "state", "cmid", "channel", "partial_key", "granted", "expires", "host", "iid")
    columns = [table.c[name] for name in (*names, "reason")]
    for part in in_parts(sorted(machines)):
        for number, *said in tx.execute(
            sa.select(table.c.machine, *columns).where(table.c.machine.in_(part))
        ):
            found[number, said[0], said[1]] = Product(*said)
    return found


def transports(tx: Connection, machines: Iterable[int]) -> dict[int, str]:
    """How machines are reached: ``ssh``, ``winrm`` or ``local``; by their numbers."""
    table, found = schema.machine, dict[int, str]()
    for part in in_parts(sorted(machines)):
        rows = sa.select(table.c.id, table.c.transport, table.c.platform).where(table.c.id.in_(part))
        found.update({row.id: transport_of(row.transport, row.platform) for row in tx.execute(rows)})
    return found


def spoken_for(tx: Connection, keys: Sequence[Key], but: Collection[int]) -> dict[str, int]:
    """How many activations of keys are not in the publisher's last count and will be, by thumbprint.

    That is: of machines, those in `but` left out, that have the key and no activation yet or one after that count, and
    of rows of actions under way that are to give the key to a machine which has not said yet that it has it.
    """
    by_place = {(one.pub, one.product, one.kind, one.label): one for one in keys}
    found: dict[str, set[int]] = {one.thumbprint: set() for one in keys}
    table = schema.installed
    since = min((one.as_of or 0 for one in keys), default=0)
    new = (table.c.granted > since) | (table.c.state != 1)
    for row in _having(tx, keys, new & (table.c.reason != "activation-returned")):
        key = by_place.get((row.pub, row.prd, row.channel, row.partial_key))
        if key and (row.state != 1 or row.granted > (key.as_of or 0)):
            found[key.thumbprint].add(row.machine)
    waiting = _meant(tx, keys)
    for part in in_parts({number for number, *_ in waiting}):
        for row in _having(tx, keys, table.c.machine.in_(part)):
            key = by_place.get((row.pub, row.prd, row.channel, row.partial_key))
            if key:  # it has it already, and is counted if its activation is to come
                waiting.discard((row.machine, key.thumbprint))
    for number, thumbprint in waiting:
        found[thumbprint].add(number)
    return {thumbprint: len(machines.difference(but)) for thumbprint, machines in found.items()}


def _having(tx: Connection, keys: Sequence[Key], where: sa.ColumnElement[bool]) -> Iterator[sa.Row[Any]]:
    """The products, of those `where`, that have one of the keys, or one of the same label."""
    table = schema.installed
    names = ("machine", "pub", "prd", "channel", "partial_key", "state", "granted")
    columns = [table.c[name] for name in names]
    kinds = table.c.channel.in_({one.kind for one in keys})
    for part in in_parts({one.label for one in keys}):
        yield from tx.execute(sa.select(*columns).where(kinds, table.c.partial_key.in_(part), where))


def _meant(tx: Connection, keys: Sequence[Key]) -> set[tuple[int, str]]:
    """Machines and the keys that actions under way are to give them."""
    row, machine = schema.action_row, schema.machine
    states = row.c.state.in_((WAITING, RUNNING, QUEUED))
    found = sa.select(machine.c.id, row.c.key).join(row, row.c.mid == machine.c.mid).where(states)
    return {
        (number, key)
        for part in in_parts({one.thumbprint for one in keys})
        for number, key in tx.execute(found.where(row.c.key.in_(part)))
    }


# --- schedules ------------------------------------------------------------------------------------------------


def put_schedule(tx: Connection, one: Schedule) -> None:
    """Write a new schedule."""
    values = {
        **one._asdict(),
        "selection": json.dumps(one.selection),
        "options": json.dumps(one.options),
        "enabled": True,
    }
    tx.execute(sa.insert(schema.schedule).values(values))


def schedules(tx: Connection, due: int | None = None) -> list[Schedule]:
    """All schedules, by name; with `due` only those that are due then, the longest first."""
    table = schema.schedule
    found = sa.select(table).order_by(table.c.name)
    if due is not None:
        found = (
            sa.select(table).where(table.c.next <= due, table.c.enabled).order_by(table.c.next, table.c.id)
        )
    return [
        Schedule(
            row.name,
            row.what,
            undertakings.selection(json.loads(row.selection)),
            json.loads(row.options),
            row.every,
            row.next,
            row.last,
            row.result,
            row.who,
        )
        for row in tx.execute(found)
    ]


def take_schedule(tx: Connection, one: Schedule, following: int, now: int) -> bool:
    """Plan a schedule's next time, which says that this one is being done; whether nobody else did."""
    table = schema.schedule
    mine = (table.c.name == one.name) & (table.c.next == one.next)
    planned = sa.update(table).where(mine).values(next=following, last=now, result="running")
    return tx.execute(planned).rowcount > 0


def end_schedule(tx: Connection, name: str, result: str) -> None:
    """Write what a schedule came to."""
    tx.execute(sa.update(schema.schedule).where(schema.schedule.c.name == name).values(result=result))


def remove_schedule(tx: Connection, name: str) -> bool:
    """Remove a schedule; whether there was one."""
    return tx.execute(sa.delete(schema.schedule).where(schema.schedule.c.name == name)).rowcount > 0
