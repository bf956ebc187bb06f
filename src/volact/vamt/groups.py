"""The SQL of groups of machines and of saved views (V3). Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.vamt import schema
from volact.vamt.store import in_parts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection


class Group(NamedTuple):
    """A group of machines: its name, a note, how many machines it has, and since when it exists."""

    name: str
    notes: str
    machines: int
    made: int


class View(NamedTuple):
    """A saved view: a filter and an order under a name, and whose it is."""

    name: str
    filter: str
    sort: str
    owner: str
    made: int


def groups(tx: Connection) -> list[Group]:
    """All groups, by name."""
    grp, member = schema.grp, schema.member
    count = sa.select(sa.func.count()).where(member.c.grp == grp.c.id).scalar_subquery()
    rows = tx.execute(sa.select(grp.c.name, grp.c.notes, count, grp.c.made).order_by(grp.c.name))
    return [Group(*row) for row in rows]


def number(tx: Connection, name: str) -> int | None:
    """The number of the group of that name."""
    return tx.execute(sa.select(schema.grp.c.id).where(schema.grp.c.name == name)).scalar()


def alike(tx: Connection) -> dict[str, str]:
    """The names of all groups, by what they are in small letters: case makes no difference."""
    return dict(tx.execute(sa.select(schema.grp.c.small, schema.grp.c.name)).all())


def create(tx: Connection, name: str, notes: str, made: int) -> int:
    """Make a group; its number."""
    row = (
        sa.insert(schema.grp)
        .values(name=name, notes=notes, made=made, small=name.lower())
        .returning(schema.grp.c.id)
    )
    return int(tx.execute(row).scalar_one())


def delete(tx: Connection, group: int) -> None:
    """Remove a group; its machines stay."""
    tx.execute(sa.delete(schema.grp).where(schema.grp.c.id == group))


def add(tx: Connection, group: int, machines: Iterable[int]) -> int:
    """Put machines into a group; how many were not in it before."""
    member = schema.member
    added = 0
    for part in in_parts(machines):
        there = sa.select(member.c.machine).where(member.c.grp == group, member.c.machine.in_(part))
        new = set(part) - set(tx.execute(there).scalars())
        if new:
            tx.execute(sa.insert(member), [{"grp": group, "machine": one} for one in sorted(new)])
        added += len(new)
    return added


def take_out(tx: Connection, group: int, machines: Iterable[int]) -> int:
    """Take machines out of a group; how many were in it."""
    member = schema.member
    count = 0
    for part in in_parts(machines):
        count += tx.execute(
            sa.delete(member).where(member.c.grp == group, member.c.machine.in_(part))
        ).rowcount
    return count


def of_machines(tx: Connection, machines: Iterable[int]) -> dict[int, list[str]]:
    """The names of the groups that machines are in, by their numbers."""
    grp, member = schema.grp, schema.member
    found: dict[int, list[str]] = {one: [] for one in machines}
    for part in in_parts(found):
        rows = (
            sa.select(member.c.machine, grp.c.name)
            .join(grp, grp.c.id == member.c.grp)
            .where(member.c.machine.in_(part))
            .order_by(grp.c.name)
        )
        for machine, name in tx.execute(rows):
            found[machine].append(name)
    return found


def views(tx: Connection) -> list[View]:
    """All saved views, by name."""
    return [View(*row) for row in tx.execute(sa.select(schema.view).order_by(schema.view.c.name))]


def view(tx: Connection, name: str) -> View | None:
    """The view of that name."""
    row = tx.execute(sa.select(schema.view).where(schema.view.c.name == name)).one_or_none()
    return View(*row) if row else None


def put_view(tx: Connection, found: View) -> None:
    """Save a view, in place of one of its name."""
    tx.execute(sa.delete(schema.view).where(schema.view.c.name == found.name))
    tx.execute(sa.insert(schema.view).values(found._asdict()))


def delete_view(tx: Connection, name: str) -> None:
    """Remove a saved view."""
    tx.execute(sa.delete(schema.view).where(schema.view.c.name == name))
