"""Where machines count: the group of their product, as a server or not, and under a strong count only if enrolled (K1, K17).

- A product's newest document says in which group its machines count. All its records stand there at once, whether they
  call or not: who has been counted before must not be counted elsewhere by half.
- A product whose policy asks for a strong count counts the machines alone that the host's administrator has enrolled,
  by their CMIDs. The others are served as far as the count allows, and stand in no group (`NOWHERE`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.kmshost import schema
from volact.protocol import ids
from volact.protocol.problems import BrokenData
from volact.statements import IsIn, Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import Connection

NOWHERE = ""
"""The group of machines that count towards nothing."""
MOST_ENROLLED = 1_000_000
_SLICE = 500
_SPLIT = re.compile(r"[,;\t ]")

_record, _enrolled = schema.record, schema.enrolled
_LISTED = Statement(sa.select(_enrolled.c.cmid).where(IsIn(_enrolled.c.cmid, "cmids")))


class Place(NamedTuple):
    """Where a product's machines count.

    Attributes:
        group: the products that are counted together.
        server: whether they are servers.
        strong: whether only enrolled machines count.
    """

    group: str
    server: bool
    strong: bool = False


def places(tx: Connection) -> dict[str, Place]:
    """Where the records of each product stand."""
    return {row.prd: Place(row.grp, row.server, row.strong) for row in tx.execute(sa.select(schema.placed))}


def place(tx: Connection, prd: str, where: Place) -> None:
    """Let all records of a product count where its newest document says."""
    placed = schema.placed
    tx.execute(_moved(where, _record.c.prd == prd))
    tx.execute(sa.delete(placed).where(placed.c.prd == prd))
    tx.execute(sa.insert(placed).values(prd=prd, grp=where.group, server=where.server, strong=where.strong))


def _moved(where: Place, which: sa.ColumnElement[bool]) -> sa.Update:
    """The statement that moves records, but those that stand right."""
    group: sa.ColumnElement[str] = sa.literal(where.group)
    if where.strong:
        is_listed = sa.exists().where(_enrolled.c.cmid == _record.c.cmid)
        group = sa.case((is_listed, where.group), else_=NOWHERE)
    elsewhere = sa.or_(_record.c.grp != group, _record.c.server != where.server)
    return sa.update(_record).where(which, elsewhere).values(grp=group, server=where.server)


# --- the machines that count under a strong count ---------------------------------------------------------------


def listed(tx: Connection, cmids: Iterable[str]) -> set[str]:
    """Which of these machines are enrolled."""
    return {row[0] for row in _LISTED.read(tx, cmids=sorted(cmids))}


def enrolled(tx: Connection, after: str = "", limit: int | None = None) -> list[str]:
    """The enrolled machines behind `after`, in order."""
    query = sa.select(_enrolled.c.cmid).where(_enrolled.c.cmid > after).order_by(_enrolled.c.cmid)
    return list(tx.execute(query.limit(limit)).scalars())


class Enrolled(NamedTuple):
    """What an enrolment came to: how many were added, how many removed, how many are enrolled now."""

    added: int
    removed: int
    total: int


def enrol(tx: Connection, cmids: Collection[str], now: int, *, alone: bool) -> Enrolled:
    """Enrol machines, `alone` in place of all that were before; their records count at once.

    Raises:
        BrokenData: if there would be more than a host can count.
    """
    wanted, before = set(cmids), set(enrolled(tx))
    added = sorted(wanted - before)
    removed = sorted(before - wanted) if alone else []
    total = len(before) + len(added) - len(removed)
    if total > MOST_ENROLLED:
        raise BrokenData(
            f"{total} machines would be enrolled; a host counts {MOST_ENROLLED} at most.", "usage"
        )
    if added:
        tx.execute(sa.insert(_enrolled), [{"cmid": one, "added": now} for one in added])
    for start in range(0, len(removed), _SLICE):
        tx.execute(sa.delete(_enrolled).where(_enrolled.c.cmid.in_(removed[start : start + _SLICE])))
    changed = sorted([*added, *removed])
    for prd, where in places(tx).items():
        if not where.strong:
            continue
        for start in range(0, len(changed), _SLICE):
            some = _record.c.cmid.in_(changed[start : start + _SLICE])
            tx.execute(_moved(where, sa.and_(_record.c.prd == prd, some)))
    return Enrolled(len(added), len(removed), total)


def read_list(text: str, name: str) -> list[str]:
    """The CMIDs of a list: one a line, whatever stands behind it; blank lines and ``#`` are passed over.

    Raises:
        BrokenData: naming the first line that begins with no CMID.
    """
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.split("#", 1)[0].strip()
        if not bare:
            continue
        first = _SPLIT.split(bare, maxsplit=1)[0].strip('"')
        if number == 1 and first.lower() == "cmid":
            continue  # the head of a table
        if not ids.is_thumbprint(first):
            detail = (
                f"{name}, line {number}: {first[:60]!r} is no CMID, 43 characters (`volact kmshost clients`)."
            )
            raise BrokenData(detail, "not-readable")
        found.append(first)
    return found
