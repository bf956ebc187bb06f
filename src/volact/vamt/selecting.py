"""What an action is done to: machines by name, a group, a filter, a view, or all; never by accident all (V5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.protocol.problems import Refusal, Refused
from volact.vamt import filters, groups, records, schema, searching
from volact.vamt.filters import Term

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from volact.vamt.searching import Target

_MOST_NAMED = 5


class Selection(NamedTuple):
    """Machines, and the products on them, that all of what is given lets through.

    Attributes:
        machines: ids, names, full names or addresses of machines.
        group: a group's name.
        where: a filter's text.
        view: a saved view's name, whose filter holds besides.
        all: every machine; it must be said, for a selection that says nothing is refused.
    """

    machines: tuple[str, ...] = ()
    group: str = ""
    where: str = ""
    view: str = ""
    all: bool = False

    def said(self) -> dict[str, Any]:
        """What of it was given, as JSON."""
        return {name: value for name, value in self._asdict().items() if value}


def terms_of(tx: Connection, where: str, *, group: str = "", view: str = "") -> list[Term]:
    """The terms of a filter, with those of a view and a group.

    Raises:
        Refused: `filter-malformed`, `view-unknown` or `group-unknown`.
    """
    texts = [where]
    if view:
        found = groups.view(tx, view)
        if found is None:
            raise Refused(Refusal("view-unknown", f"{view[:80]!r}."))
        texts.append(found.filter)
    terms: list[Term] = []
    for text in texts:
        parsed = filters.parse(text)
        if isinstance(parsed, Refusal):
            raise Refused(parsed)
        terms += parsed
    if group:
        named_group(tx, group)
        terms.append(Term("group", "=", (group.lower(),)))
    return terms


def select(tx: Connection, selection: Selection, now: int) -> list[Target]:
    """The machines and products of a selection; a machine without products is one row with none.

    Raises:
        Refused: `selection-empty`, `machine-unknown`, or as `terms_of`.
    """
    if not any(selection):
        raise Refused(Refusal("selection-empty", "Nothing was selected."))
    terms = terms_of(tx, selection.where, group=selection.group, view=selection.view)
    found = searching.targets(tx, terms, now)
    if selection.machines:
        named = set(named_machines(tx, selection.machines))
        found = [one for one in found if one.number in named]
    if not found:
        raise Refused(Refusal("selection-empty"))
    return found


def named_group(tx: Connection, name: str) -> int:
    """The number of the group of that name.

    Raises:
        Refused: `group-unknown`.
    """
    found = groups.number(tx, name)
    if found is None:
        raise Refused(Refusal("group-unknown", f"{name[:80]!r}."))
    return found


def named_machines(tx: Connection, names: Sequence[str]) -> list[int]:
    """The numbers of machines that were named: by id, name, full name or address.

    Raises:
        Refused: `machine-unknown`, naming those that are none or several.
    """
    by_id = records.numbers(tx, names)
    found, wrong = [], []
    for name in dict.fromkeys(names):
        numbers = [by_id[name]] if name in by_id else _by_name(tx, name.lower().rstrip("."))
        if len(numbers) == 1:
            found.append(numbers[0])
        else:
            wrong.append(f"{name[:80]!r}{_which(tx, numbers)}")
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise Refused(Refusal("machine-unknown", f"{', '.join(wrong[:_MOST_NAMED])}{more}."))
    return list(dict.fromkeys(found))


def _by_name(tx: Connection, name: str) -> list[int]:
    table, first = schema.machine, name.partition(".")
    exact = (table.c.name == first[0]) & (table.c.domain == first[2])
    found = list(
        tx.execute(sa.select(table.c.id).where(exact if first[2] else table.c.name == name)).scalars()
    )
    if found:
        return found
    alias, address = schema.alias, schema.address
    known = sa.select(alias.c.machine).where(alias.c.name == first[0], alias.c.domain == first[2])
    at = sa.select(address.c.machine).where(address.c.address == name)
    return list(dict.fromkeys([*tx.execute(known).scalars(), *tx.execute(at).scalars()]))


def _which(tx: Connection, numbers: Iterable[int]) -> str:
    table = schema.machine
    wanted = list(numbers)[:_MOST_NAMED]
    rows = tx.execute(
        sa.select(table.c.name, table.c.domain, table.c.mid)
        .where(table.c.id.in_(wanted))
        .order_by(table.c.domain, table.c.mid)
    )
    several = [".".join(filter(None, (row.name, row.domain))) or row.mid for row in rows]
    return f" (which of {', '.join(several)}?)" if several else ""
