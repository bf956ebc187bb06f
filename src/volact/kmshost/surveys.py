"""SQL that looks at the whole ledger, and at the copies of identities, for people and metrics (K13, K14, K15).

Decides nothing. A survey goes through a million records a page at a time, a reading transaction each, and adds up in
the database, so that neither its memory nor the longest view that it holds open grows with the ledger. A page holds
whole machines: what is written while a survey is under way is seen or not, and counts once.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.kmshost import schema
from volact.kmshost.forecast import Bucket
from volact.kmshost.placing import NOWHERE
from volact.protocol.policy import DAY
from volact.sources import PREFIX, is_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sqlalchemy import Connection

    from volact.kmshost.store import Store

PAGE = 20_000
"""Records that a page reads."""
MOST_COPIES = 10_000
"""So many copies of one identity are listed for a product; an image whose key got about must not fill the store."""

_MAPPED = "::ffff:"  # what a listener of both families calls an IPv4 address by

_record, _clone = schema.record, schema.clone

Buckets = dict[str, list[Bucket]]


def survey(
    books: Store,
    now: int,
    heard_since: Mapping[str, int],
    page: int = PAGE,
    rest: Callable[[float], object] = lambda _seconds: None,
) -> Buckets:
    """The machines that count now towards anything, by group, as buckets of those that are alike.

    `heard_since` says for each product before which time of last contact a machine is overdue (`forecast`); `rest` is
    called after each page with the seconds that it took, so that who answers machines meanwhile is not held up.

    Raises:
        VolactError: if the store cannot be read.
    """
    found: Counter[tuple[Any, ...]] = Counter()
    after: str | None = ""
    while after is not None:
        began = time.perf_counter()
        with books.reading() as tx:
            last = _end_of_page(tx, after, page)
            for *alike, machines in tx.execute(_page(now, heard_since, after, last)):
                found[tuple(alike)] += machines
        after = last
        rest(time.perf_counter() - began)
    groups: Buckets = {}
    for (group, *alike), machines in sorted(found.items(), key=lambda one: str(one[0])):
        ends, stays, server_ends, server_stays = alike
        bucket = Bucket(ends, bool(stays), server_ends, bool(server_stays), machines)
        groups.setdefault(group, []).append(bucket)
    return groups


def _end_of_page(tx: Connection, after: str, page: int) -> str | None:
    """The last machine of the page behind `after`; None if it is the last page."""
    query = sa.select(_record.c.cmid).where(_record.c.cmid > after).order_by(_record.c.cmid)
    return tx.execute(query.offset(page - 1).limit(1)).scalar()


def _page(now: int, heard_since: Mapping[str, int], after: str, last: str | None) -> sa.Select[Any]:
    """Machines behind `after`, up to `last`, counted by group and by what is alike."""
    heard = sa.case(heard_since, value=_record.c.prd, else_=0) if heard_since else sa.literal(0)
    stays = sa.case((_record.c.last >= heard, 1), else_=0)
    of_server = _record.c.server == sa.true()
    machine = (
        sa.select(
            _record.c.grp,
            _record.c.cmid,
            (sa.func.max(_record.c.expires) // DAY).label("ends"),
            sa.func.max(stays).label("stays"),
            (sa.func.max(sa.case((of_server, _record.c.expires))) // DAY).label("server_ends"),
            sa.func.max(sa.case((of_server, stays), else_=0)).label("server_stays"),
        )
        .where(_record.c.cmid > after, _record.c.expires > now, _record.c.grp != NOWHERE)
        .group_by(_record.c.grp, _record.c.cmid)
    )
    if last is not None:
        machine = machine.where(_record.c.cmid <= last)
    one = machine.subquery()
    alike = (one.c.grp, one.c.ends, one.c.stays, one.c.server_ends, one.c.server_stays)
    return sa.select(*alike, sa.func.count()).group_by(*alike)


def by_source(tx: Connection, now: int) -> dict[str, int]:
    """How many machines that count now called last from a ``private`` source, and how many from a ``global`` one.

    A machine that called for two products from one of each is in both (K17). Reads every record once.
    """
    address = _record.c.address
    start = sa.case(
        (address.like(f"{_MAPPED}%.%"), sa.func.substr(address, len(_MAPPED) + 1, PREFIX)),
        else_=sa.func.substr(address, 1, PREFIX),
    )
    query = sa.select(start, sa.func.count(_record.c.cmid.distinct())).group_by(start)
    found = {"private": 0, "global": 0}
    for first, machines in tx.execute(query.where(_record.c.expires > now, _record.c.grp != NOWHERE)):
        found["private" if is_private(first) else "global"] += machines
    return found


# --- what a process tells of itself -----------------------------------------------------------------------------


class Facts(NamedTuple):
    """What the store says that costs little to ask.

    Attributes:
        tally: requests to all hosts of the count so far, by outcome and reported state (K13).
        copies: how many copies of identities are listed (K14).
        published: when this host's records were published last, by domain, seconds UTC (D2).
        list_fetched: when the status list was asked for last, with success; None if never.
    """

    tally: Mapping[tuple[str, int], int]
    copies: int
    published: Mapping[str, int]
    list_fetched: int | None


def facts(tx: Connection, host: str) -> Facts:
    """What the store says; a writing transaction, since whether it can be written is one of the questions."""
    table = schema.trusted
    tx.execute(sa.update(table).values(now=table.c.now))
    tally = {(row.outcome, row.state): row.n for row in tx.execute(sa.select(schema.tally))}
    copies = tx.execute(sa.select(sa.func.count()).select_from(_clone)).scalar_one()
    of_host = sa.select(schema.published).where(schema.published.c.host == host)
    published = {row.domain: row.time for row in tx.execute(of_host)}
    fetched = tx.execute(sa.select(schema.status_list.c.fetched)).scalar()
    return Facts(tally, int(copies), published, fetched)


# --- copies of an identity (K14) --------------------------------------------------------------------------------


class Copy(NamedTuple):
    """A machine that called with an identity which another hardware has already.

    Attributes:
        cmid: that identity; the record of this CMID is the machine that it was taken from.
        prd: the product that it called for.
        fp: the copy's own vector, as it is stored.
        address: from where it called last.
        name: as what, in its own words.
        first: when it called first with this identity, seconds UTC.
        last: when last.
        n: how often.
    """

    cmid: str
    prd: str
    fp: str
    address: str
    name: str | None
    first: int
    last: int
    n: int


def note_copies(tx: Connection, seen: Iterable[Copy]) -> None:
    """Keep that copies called: a row for each hardware, and no more than `MOST_COPIES` for one identity."""
    merged: dict[tuple[str, str, str], Copy] = {}
    for one in seen:
        place = one.cmid, one.prd, one.fp
        known = merged.get(place, one._replace(n=0))
        merged[place] = one._replace(n=known.n + one.n)
    # In one order, or two hosts of one count could wait for each other.
    for _, one in sorted(merged.items()):
        _note(tx, one)


def _note(tx: Connection, seen: Copy) -> None:
    of_identity = _clone.c.cmid == seen.cmid, _clone.c.prd == seen.prd
    again = {"address": seen.address, "name": seen.name, "last": seen.last, "n": _clone.c.n + seen.n}
    if tx.execute(sa.update(_clone).where(*of_identity, _clone.c.fp == seen.fp).values(again)).rowcount:
        return
    known = tx.execute(sa.select(sa.func.count()).select_from(_clone).where(*of_identity)).scalar_one()
    if known < MOST_COPIES:
        tx.execute(sa.insert(_clone).values(seen._asdict()))


def copies(tx: Connection) -> list[Copy]:
    """Every copy, those of one identity together, in the order in which they called first."""
    query = sa.select(*[_clone.c[name] for name in Copy._fields])
    return [Copy(*row) for row in tx.execute(query.order_by(_clone.c.cmid, _clone.c.prd, _clone.c.id))]


class Original(NamedTuple):
    """The machine whose record has the identity: its name, address and vector, when it called first and last."""

    name: str | None
    address: str
    fp: str
    first: int
    last: int


def originals(tx: Connection, now: int) -> dict[tuple[str, str], Original]:
    """The records that count now of all identities that have copies, by CMID and product."""
    columns = [_record.c[name] for name in ("cmid", "prd", *Original._fields)]
    copied = sa.select(_clone.c.cmid, _clone.c.prd).distinct().subquery()
    joined = _record.join(copied, sa.and_(copied.c.cmid == _record.c.cmid, copied.c.prd == _record.c.prd))
    query = sa.select(*columns).select_from(joined).where(_record.c.expires > now)
    return {(cmid, prd): Original(*row) for cmid, prd, *row in tx.execute(query)}


def own_identities(tx: Connection, now: int) -> dict[tuple[str, str], tuple[str, str | None]]:
    """The identities that copies have made themselves, by vector and product: CMID and name of the newest record.

    A copy with the same hardware keeps its vector when it makes itself a new key. Reads every record once.
    """
    copied = sa.select(_clone.c.fp, _clone.c.prd).distinct().subquery()
    joined = _record.join(copied, sa.and_(copied.c.fp == _record.c.fp, copied.c.prd == _record.c.prd))
    query = sa.select(_record.c.fp, _record.c.prd, _record.c.cmid, _record.c.name).select_from(joined)
    rows = tx.execute(query.where(_record.c.expires > now).order_by(_record.c.first, _record.c.id))
    return {(fp, prd): (cmid, name) for fp, prd, cmid, name in rows}
