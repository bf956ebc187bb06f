"""How actions, what waits, and schedules are told as JSON, the same for commands and API (V6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.commands import when
from volact.vamt import actionrecords, actions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volact.vamt.actionrecords import Row, Schedule
    from volact.vamt.acts import Acted
    from volact.vamt.queueing import Waiting


def row(one: Row, labels: Mapping[str, str]) -> dict[str, Any]:
    """A row of an action, as JSON."""
    failed = one.code not in ("", "ok")
    return {
        "id": one.mid,
        "machine": one.machine,
        "publisher": one.pub or None,
        "product": one.prd or None,
        "outcome": one.state,
        "code": one.code or None,
        "detail": (actions.sentence(one.code, one.detail) if failed else one.detail) or None,
        "next": actions.next_step(one.code) if failed else None,
        "key": labels.get(one.key) or None,
        "tries": one.tries,
        "due": when(one.due) if one.due and one.state == actionrecords.QUEUED else None,
    }


def acted(done: Acted) -> dict[str, Any]:
    """An action and its rows, as JSON."""
    task, action = done.task, done.action
    given = {name: value for name, value in action.said().items() if name not in ("name", "key")}
    return {
        "id": task.aid or None,
        "action": task.what,
        **given,
        "key": done.labels.get(action.key) or None,
        "by": task.who,
        "begun": when(task.at),
        "dry_run": not task.aid,
        "counts": counts(done.rows),
        "rows": [row(one, done.labels) for one in done.rows],
    }


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many rows are in which state."""
    states = [one.state for one in rows]
    return {state: states.count(state) for state in dict.fromkeys(states)}


def waiting(one: Waiting, labels: Mapping[str, str]) -> dict[str, Any]:
    """A row that waits for its machine, as JSON."""
    return {"action": one.task.what, "action_id": one.task.aid, "by": one.task.who, **row(one.row, labels)}


def schedule(one: Schedule) -> dict[str, Any]:
    """A schedule, as JSON."""
    return {
        "name": one.name,
        "what": one.what,
        "selection": one.selection.said(),
        "every": one.every,
        "next": when(one.next),
        "last": None if one.last is None else when(one.last),
        "result": one.result or None,
        "by": one.who,
    }
