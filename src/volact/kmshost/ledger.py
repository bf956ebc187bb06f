"""The ledger: a record of every machine for every product, and a batch's view of it (K3, K4, K13; DESIGN section 4).

- A batch reads its callers' records once and writes them once, whatever they ask.
- *Enough* may be said from memory for a minute after it was counted: once `minimum` records count until T, at least
  as many count at every moment before T. Contact moves an end on; a newer policy may set it back, but never to within
  that minute, which each threshold has for itself. Only rows, read in the writing transaction with the callers of this very batch, say *not enough*.
- The question reads at most twice the largest threshold of machines, whatever the size of the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import sqlalchemy as sa

from volact.kmshost import counting, schema, store
from volact.kmshost.counting import SERVERS
from volact.statements import IsIn, Statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from volact.protocol.policy import Threshold

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode
_table = schema.record
COLUMNS = tuple(column.name for column in _table.columns if column.name != "id")
RECOUNTED = 60
"""Seconds for which a count from memory may be shown in a lease."""


class Record(NamedTuple):
    """One machine for one product; times in seconds UTC, JSON as it is stored.

    Attributes:
        id: its number; 0 for one that is not written yet.
        first: when it called first; a record that ended and came back is a new one.
        last: its last contact.
        expires: until when it counts.
        before: the vector that `fp` replaced.
        state: what it reported, and the `minutes` to that state's end.
        outcome: ``ok`` or the code of the last refusal.
        req: the check-in that was granted last, `digest` of its content, `payload` of the lease, and the `kid`,
            `delegation` and id (`lease`) of it, until `lease_end`.
        renewals: how often it was granted after the first time.
    """

    id: int
    cmid: str
    prd: str
    grp: str
    server: bool
    first: int
    last: int
    expires: int
    fp: str
    before: str | None
    state: int
    minutes: int
    virtual: bool
    name: str | None
    address: str
    outcome: str
    req: str | None = None
    digest: str | None = None
    payload: bytes | None = None
    kid: str | None = None
    delegation: str | None = None
    lease: str | None = None
    lease_end: int | None = None
    renewals: int = 0

    def known(self) -> counting.Known:
        """What decides."""
        before = _decode(self.before) if self.before else None
        return counting.Known(_decode(self.fp), before, self.expires, self.req, self.digest, self.lease_end)


_SELECT = sa.select(*[_table.c[name] for name in Record._fields])
# Locked until they are written: else another process of this count could delete them or write them first. In one
# order, so that two batches wait for each other and not both.
_BY_CMID = Statement(_SELECT.where(IsIn(_table.c.cmid, "cmids")).order_by(_table.c.id).with_for_update())
_ADD = Statement(sa.insert(_table), COLUMNS)
# Nothing that an index knows: SQLite writes an index anew for every column that is set, changed or not. Where a
# product's records stand is `store.place`'s to change.
_CHANGED = tuple(name for name in COLUMNS if name not in ("cmid", "prd", "grp", "server"))
_CHANGE = Statement(
    sa.update(_table)
    .where(_table.c.id == sa.bindparam("of"))
    .values({name: sa.bindparam(name) for name in _CHANGED}),
    (*_CHANGED, "of"),
)
_LIVE = (
    sa.select(_table.c.cmid, _table.c.server, _table.c.expires)
    .where(_table.c.grp == sa.bindparam("grp"), _table.c.expires > sa.bindparam("now"))
    .limit(sa.bindparam("most", type_=sa.Integer))
    .offset(sa.literal_column("0"))  # else SQLite gets a parameter without a name
)
_LIVE_MACHINES = Statement(_LIVE)
_LIVE_SERVERS = Statement(_LIVE.where(_table.c.server == sa.true()))


class Group(NamedTuple):
    """Products that count together: how many they are, and how far to count."""

    name: str
    products: int
    most: int


class _Counted:
    """The machines of one group that count now, as rows and the callers of this batch say."""

    def __init__(self, rows: Sequence[tuple[str, bool, int]]) -> None:
        self.ends: dict[str, int] = {}
        self.servers: dict[str, int] = {}
        for cmid, server, expires in rows:
            self.add(cmid, expires, server=server)

    def add(self, cmid: str, expires: int, *, server: bool) -> None:
        self.ends[cmid] = max(expires, self.ends.get(cmid, 0))
        if server:
            self.servers[cmid] = max(expires, self.servers.get(cmid, 0))

    def of(self, counted: str) -> dict[str, int]:
        return self.servers if counted == SERVERS else self.ends


class Memory:
    """What one process remembers between batches: of each threshold when it was counted, until when it is reached."""

    def __init__(self) -> None:
        """Remember nothing."""
        self._reached: dict[tuple[str, Threshold], tuple[int, int, int]] = {}

    def count(self, group: str, thresholds: Sequence[Threshold], now: int) -> int | None:
        """The count to show if a threshold is certainly reached now; None if rows must be asked."""
        for one in thresholds:
            at, until, count = self._reached.get((group, one), (0, 0, 0))
            if at <= now < min(at + RECOUNTED, until):
                return count
        return None

    def learn(self, group: Group, counted: _Counted, thresholds: Sequence[Threshold], now: int) -> None:
        """Remember what was counted; only what is on disk may be remembered."""
        count = min(len(counted.ends), group.most)
        for one in thresholds:
            until = counting.until(counted.of(one.counted).values(), one.minimum)
            self._reached[group.name, one] = now, until, count

    def forget(self) -> None:
        """Forget everything: the clock went back."""
        self._reached.clear()


class Batch:
    """The records of a batch's callers, in its transaction."""

    def __init__(self, tx: Connection, memory: Memory, cmids: set[str], now: int) -> None:
        """Read them."""
        self._tx = tx
        self._memory = memory
        self._now = now
        found = (Record(*row) for row in _BY_CMID.read(tx, cmids=sorted(cmids)))
        self._records = {(one.cmid, one.prd): one for one in found}
        self._cmids = {cmid for cmid, _ in self._records}
        self._touched: dict[tuple[str, str], None] = {}
        self._counted: dict[str, tuple[Group, _Counted, Sequence[Threshold]]] = {}
        self._shown: dict[tuple[str, Sequence[Threshold]], int | None] = {}
        self._called: dict[str, list[tuple[str, bool, int]]] = {}
        self._locked = False

    def knows(self, cmid: str) -> bool:
        """Whether the machine has a record, for whatever product, and be it one that has ended."""
        return cmid in self._cmids

    def find(self, cmid: str, prd: str) -> Record | None:
        """The record, as long as it counts (K4)."""
        found = self._records.get((cmid, prd))
        return found if found and counting.is_live(found.expires, self._now) else None

    def put(self, record: Record) -> None:
        """Keep a record; the row of one that has ended is taken over."""
        place = record.cmid, record.prd
        stale = self._records.get(place)
        self._records[place] = record._replace(id=stale.id) if stale and not record.id else record
        self._touched[place] = None
        self._cmids.add(record.cmid)

    def call(self, record: Record) -> None:
        """Count a caller (K2); `put` follows when it is decided."""
        entry = record.cmid, record.server, record.expires
        self._called.setdefault(record.grp, []).append(entry)
        known = self._counted.get(record.grp)
        if known:
            known[1].add(record.cmid, record.expires, server=record.server)

    def missing(
        self, group: Group, thresholds: Sequence[Threshold]
    ) -> tuple[tuple[int, int, str] | None, int]:
        """What is missing to the nearest threshold, or None; and the count to show, at most the group's `most`."""
        if group.name not in self._counted:
            place = group.name, tuple(thresholds)
            if place not in self._shown:
                self._shown[place] = self._memory.count(group.name, thresholds, self._now)
            shown = self._shown[place]
            if shown is not None:
                return None, shown
            self._count(group, thresholds)
        counted = self._counted[group.name][1]
        machines = min(len(counted.ends), group.most)
        return counting.shortfall(thresholds, len(counted.ends), len(counted.servers)), machines

    def _count(self, group: Group, thresholds: Sequence[Threshold]) -> None:
        if not self._locked:
            store.lock(self._tx)
            self._locked = True
        asked = {"grp": group.name, "now": self._now, "most": group.most * group.products}
        rows = [tuple(row) for row in _LIVE_MACHINES.read(self._tx, **asked)]
        if len(rows) == asked["most"]:
            rows += [tuple(row) for row in _LIVE_SERVERS.read(self._tx, **asked)]
        counted = _Counted(rows)
        for cmid, server, expires in self._called.get(group.name, ()):
            counted.add(cmid, expires, server=server)
        self._counted[group.name] = group, counted, thresholds

    def write(self) -> None:
        """Write what was put."""
        records = [self._records[place] for place in self._touched]
        # In one order, or two hosts of one count could wait for each other.
        new = sorted(record[1:] for record in records if not record.id)
        known = sorted((record for record in records if record.id), key=lambda record: record.id)
        if new:
            _ADD.write(self._tx, new)
        if known:
            _CHANGE.write(self._tx, [(*record[5:], record.id) for record in known])

    def remember(self) -> None:
        """After the commit: what was counted may be said from memory."""
        for group, counted, thresholds in self._counted.values():
            self._memory.learn(group, counted, thresholds, self._now)


def pages(tx: Connection, after: int, limit: int, *, live_at: int | None = None) -> list[Record]:
    """Records behind the number `after`, in their order; with `live_at` those that count then."""
    query = _SELECT.where(_table.c.id > after).order_by(_table.c.id).limit(limit)
    if live_at is not None:
        query = query.where(_table.c.expires > live_at)
    return [Record(*row) for row in tx.execute(query)]


class OutOfTime(NamedTuple):
    """Numbers of records: those that have ended, and those whose last contact lies ahead."""

    ended: list[int]
    ahead: list[int]


def out_of_time(tx: Connection, after: int, now: int, look_at: int) -> tuple[OutOfTime, int]:
    """Look through `look_at` records behind `after`: at most a slice, and where to look next (0: from the beginning)."""
    query = (
        sa.select(_table.c.id, _table.c.last, _table.c.expires)
        .where(_table.c.id > after)
        .order_by(_table.c.id)
        .limit(look_at)
    )
    rows = tx.execute(query).all()
    found = OutOfTime([], [])
    for identifier, last, expires in rows:
        if len(found.ended) + len(found.ahead) == store.SLICE:
            return found, after
        after = identifier
        if counting.is_ahead(last, now):
            found.ahead.append(identifier)
        elif not counting.is_live(expires, now):
            found.ended.append(identifier)
    return found, after if len(rows) == look_at else 0


def forget_ended(tx: Connection, identifiers: Sequence[int], now: int) -> int:
    """Delete records by their numbers, as far as none has called again meanwhile; how many there were."""
    ended = _table.c.id.in_(identifiers), _table.c.expires <= now
    return int(tx.execute(sa.delete(_table).where(*ended)).rowcount)


def set_back(tx: Connection, identifiers: Sequence[int], now: int) -> None:
    """Let records live on from now whose last contact lies ahead, as far as none has called again meanwhile."""
    ahead = _table.c.id.in_(identifiers), _table.c.last > now
    lifetime = _table.c.expires - _table.c.last
    tx.execute(sa.update(_table).where(*ahead).values(last=now, expires=now + lifetime))


def as_json(fp: Mapping[str, str] | None) -> str | None:
    """A vector as it is stored."""
    return None if fp is None else _encode(fp).decode()
