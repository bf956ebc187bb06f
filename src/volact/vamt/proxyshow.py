"""How computer lists and their rows are shown, and how a list, a publisher and machines are named in commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from volact import commands
from volact.console import table
from volact.protocol.problems import UsageError
from volact.vamt import records
from volact.vamt.selecting import Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from volact.vamt import receipts
    from volact.vamt.collecting.targets import Target
    from volact.vamt.desk import Desk
    from volact.vamt.proxy import Outcome

ListId = Annotated[
    str,
    Parameter(
        name="LIST",
        help="A list's id (`volact vamt lists`); by default the newest.",
        allow_leading_hyphen=True,
    ),
]
_SAID = 50
"""Rows that are said to people; --json has all."""
_COLUMNS = ("machine", "product", "what", "key", "state", "why")
_MOST_LISTS = 1000


def list_json(one: receipts.List) -> dict[str, Any]:
    """A list, as JSON."""
    return {
        "list": one.lid, "publisher": one.pub, "direction": one.direction, "mode": one.mode, "seq": one.seq,
        "writer": one.writer, "answers": one.ref, "rows": one.rows, "time": commands.when(one.at), "who": one.who,
    }  # fmt: skip


def publisher(at: Desk, given: str) -> str:
    """The publisher that was named, or the only one that is known.

    Raises:
        UsageError: if there is none, or several.
    """
    if given:
        return given
    known = at.vamt.publishers.list(at.person)
    if len(known) != 1:
        raise UsageError(
            "No publisher is known." if not known else "Several publishers are known.",
            "volact vamt publisher add FILE --root ROOT" if not known else "Say which: --publisher ID.",
        )
    return known[0][0].pub


def list_id(at: Desk, lid: str, *directions: str) -> str:
    """A list that was named, or the newest of these directions."""
    if lid:
        return lid
    for one, _ in at.vamt.proxy.lists(at.person, _MOST_LISTS):
        if one.direction in directions and one.digest:
            return one.lid
    raise UsageError("There is no list yet.", "See `volact vamt lists`.")


def targets(at: Desk, by_group: Collection[str]) -> Callable[[Sequence[str]], dict[str, Target]]:
    """How the machines with some ids are reached, each by the login of its group if `by_group` has one."""

    def reached(mids: Sequence[str]) -> dict[str, Target]:
        with at.opened.store.reading() as tx:
            there = tuple(records.numbers(tx, mids))
        found = at.vamt.collecting.targets(at.person, Selection(there), by_group) if there else []
        return {one.mid: one for one in found}

    return reached


def cells(one: Outcome) -> tuple[str, ...]:
    """A row for people."""
    why = str(one.refusal) if one.refusal else ""
    return one.machine, one.prd, one.op, one.key, one.state, why


def prose(found: Sequence[Outcome], what: str) -> str:
    """Rows that people should look at, under a heading; nothing if there are none."""
    if not found:
        return ""
    more = f"\n{len(found) - _SAID} more; --json has all" if len(found) > _SAID else ""
    return f"\n\n{len(found)} {what}:\n" + table([cells(one) for one in found[:_SAID]], _COLUMNS) + more


def receipt_json(rows: Iterable[tuple[receipts.Item, Outcome]]) -> list[dict[str, Any]]:
    """What became of each row of a list: which machine, which key, when, and through whom, as JSON."""
    return [
        {
            **outcomes_json([said])[0],
            "cmid": None if said.machine != item.mid else item.mid,
            "time": None if item.at is None else commands.when(item.at),
            "who": item.who,
        }
        for item, said in rows
    ]


def writer_json(one: receipts.Writer) -> dict[str, Any]:
    """A VAMT whose lists were met, as JSON."""
    return {
        "fingerprint": one.fp,
        "name": one.name or None,
        "trusted": one.trusted,
        "met": commands.when(one.met),
    }


def outcomes_json(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """What became of rows, as JSON."""
    return [
        {
            "row": one.row or None,
            "machine": one.machine or None,
            "product": one.prd or None,
            "operation": one.op or None,
            "key": one.key or None,
            "state": one.state,
            "code": one.refusal.code if one.refusal else None,
            "detail": str(one.refusal) if one.refusal else None,
            "next": one.refusal.problem.next_step if one.refusal else None,
        }
        for one in found
    ]
