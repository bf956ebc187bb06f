"""How many machines may get a record, and how fast: fake identities must not fill a host, nor stop its service (K17, T10).

- Asked only for a machine that has no record, when it has proved its identity; whoever has one is never held up here.
- A source may add `rate` machines a minute in the long run, and `burst` at once.
- A host keeps at most `cap` records for newcomers to add to. At the cap a machine makes room that called only once, more than two retry
  intervals ago. One that has called again never does: nobody but time and an administrator removes it.
- Machines that make room are looked for beside the requests, a window of records a time, and looked at again before
  they go.
- How many records there are is counted hourly, and at the start if it may be the cap, and kept by adding up between; several hosts of
  one count may so be over the cap by what they add in an hour, and a machine's second product is not held up at all.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.kmshost import schema
from volact.protocol.problems import Refusal
from volact.sources import Buckets, source_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

LONELY_FOR = 2
"""Retry intervals."""
WINDOW = 5_000
"""Records that are looked through a time for machines that make room."""
KNOWN = 1_000
"""So many machines that make room are kept in mind."""

_record = schema.record


class Limits(NamedTuple):
    """What a source may add, and what a host keeps; 0 is no limit."""

    rate: int = 0
    burst: int = 0
    cap: int = 0


class Admission:
    """The gate of one process for machines that have no record."""

    def __init__(self, limits: Limits) -> None:
        """Hold to `limits`."""
        self._cap = limits.cap
        self._buckets: Buckets[str] = Buckets(limits.rate, limits.burst)
        self._records = 0
        self._lonely: deque[str] = deque(maxlen=KNOWN)
        self._after = 0

    def limit(self, limits: Limits) -> None:
        """Hold to these from now on; what a source has used stays used."""
        self._cap = limits.cap
        self._buckets.limit(limits.rate, limits.burst)

    def start(self, tx: Connection) -> None:
        """Know how many records there are at most; count them only if that may be the cap."""
        self._records = int(tx.execute(sa.select(sa.func.max(_record.c.id))).scalar_one() or 0)
        if self.is_full:
            self.count(tx)

    def count(self, tx: Connection) -> None:
        """Count the records; it reads an index of them all."""
        self._records = int(tx.execute(sa.select(sa.func.count()).select_from(_record)).scalar_one())

    def look(self, tx: Connection, before: int) -> None:
        """At the cap, look through a window of records for machines that called only once, before `before`."""
        if not self.is_full or len(self._lonely) == KNOWN:
            return
        places = sa.select(_record.c.id, _record.c.cmid, _record.c.first, _record.c.last)
        window = places.where(_record.c.id > self._after).order_by(_record.c.id).limit(WINDOW)
        rows = tx.execute(window).all()
        found = {row.cmid: None for row in rows if row.first == row.last < before}
        self._lonely.extend(list(found)[: KNOWN - len(self._lonely)])
        self._after = rows[-1].id if len(rows) == WINDOW else 0

    @property
    def is_full(self) -> bool:
        """Whether the cap is reached."""
        return 0 < self._cap <= self._records

    def admit(self, tx: Connection, address: str, now: int, retry: int) -> Refusal | None:
        """Let a new machine have a record, or say why not: `too-many-requests`, `host-full`.

        `retry` is its product's retry interval, seconds.
        """
        source = source_of(address)
        bucket, wait = self._buckets.look(source, now)
        if wait:
            detail = f"{source} brings more new machines than it may at once. Wait {wait} s."
            return Refusal("too-many-requests", detail, (("retry_after", wait),))
        if self.is_full and not self._make_room(tx, now - LONELY_FOR * retry):
            return Refusal("host-full", "", (("retry_after", retry),))
        self._records += 1
        self._buckets.keep(source, bucket)
        return None

    def _make_room(self, tx: Connection, before: int) -> bool:
        while self._lonely:
            if _remove(tx, self._lonely.popleft(), before):
                self._records -= 1
                return True
        return False


def _remove(tx: Connection, cmid: str, before: int) -> bool:
    """Delete a machine's records if it called only once, for whatever product."""
    rows = tx.execute(sa.select(_record.c.first, _record.c.last).where(_record.c.cmid == cmid)).all()
    if not rows or any(first != last or last >= before for first, last in rows):
        return False
    tx.execute(sa.delete(_record).where(_record.c.cmid == cmid))
    return True
