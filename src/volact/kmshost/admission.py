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
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.kmshost import schema, store
from volact.protocol.problems import Refusal
from volact.sources import Bucket, Buckets, source_of, too_many

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
    """The gate of one process for machines that have no record.

    Attributes:
        cap: how many records it keeps at most; 0: no limit.
        buckets: what each source may still add.
        records: how many there are.
        lonely: machines that may make room, in the order in which they were found.
    """

    def __init__(self, limits: Limits) -> None:
        """Hold to `limits`."""
        self.cap = limits.cap
        self.buckets: Buckets[str] = Buckets(limits.rate, limits.burst)
        self.records = 0
        self.lonely: deque[str] = deque(maxlen=KNOWN)
        self._after = 0

    def limit(self, limits: Limits) -> None:
        """Hold to these from now on; what a source has used stays used."""
        self.cap = limits.cap
        self.buckets.limit(limits.rate, limits.burst)

    def start(self, tx: Connection) -> None:
        """Know how many records there are at most; count them only if that may be the cap."""
        self.records = int(tx.execute(sa.select(sa.func.max(_record.c.id))).scalar_one() or 0)
        if self.is_full:
            self.count(tx)

    def count(self, tx: Connection) -> None:
        """Count the records."""
        self.records = store.records(tx)

    def look(self, tx: Connection, before: int) -> None:
        """At the cap, look through a window of records for machines that called only once, before `before`."""
        if not self.is_full or len(self.lonely) == KNOWN:
            return
        places = sa.select(_record.c.id, _record.c.cmid, _record.c.first, _record.c.last)
        window = places.where(_record.c.id > self._after).order_by(_record.c.id).limit(WINDOW)
        rows = tx.execute(window).all()
        found = {row.cmid: None for row in rows if row.first == row.last < before}
        self.lonely.extend(list(found)[: KNOWN - len(self.lonely)])
        self._after = rows[-1].id if len(rows) == WINDOW else 0

    @property
    def is_full(self) -> bool:
        """Whether the cap is reached."""
        return 0 < self.cap <= self.records

    def turn(self, tx: Connection) -> Turn:
        """What one transaction admits."""
        return Turn(self, tx)


class Turn:
    """What one transaction admits; it holds once it is on disk (`remember`), and else as if nobody had called."""

    def __init__(self, gate: Admission, tx: Connection) -> None:
        """Admit at `gate` in the transaction `tx`."""
        self._gate = gate
        self._tx = tx
        self._added = 0
        self._looked = 0
        self._buckets: dict[str, Bucket | None] = {}

    def admit(self, address: str, now: int, retry: int) -> Refusal | None:
        """Let a new machine have a record, or say why not: `too-many-requests`, `host-full`.

        `retry` is its product's retry interval, seconds.
        """
        gate, source = self._gate, source_of(address)
        bucket, wait = gate.buckets.look(source, now, self._buckets.get(source))
        if wait:
            return too_many(wait, f"{source} brings more new machines than it may at once.")
        is_full = 0 < gate.cap <= gate.records + self._added
        if is_full and not self._make_room(now - LONELY_FOR * retry):
            return Refusal("host-full", "", (("retry_after", retry),))
        self._added += 1
        self._buckets[source] = bucket
        return None

    def _make_room(self, before: int) -> bool:
        for cmid in islice(self._gate.lonely, self._looked, None):
            self._looked += 1
            if _remove(self._tx, cmid, before):
                self._added -= 1
                return True
        return False

    def remember(self) -> None:
        """The transaction is on disk."""
        gate = self._gate
        gate.records += self._added
        for source, bucket in self._buckets.items():
            gate.buckets.keep(source, bucket)
        for _ in range(self._looked):
            gate.lonely.popleft()


def _remove(tx: Connection, cmid: str, before: int) -> bool:
    """Delete a machine's records if it called only once, for whatever product."""
    rows = tx.execute(sa.select(_record.c.first, _record.c.last).where(_record.c.cmid == cmid)).all()
    if not rows or any(first != last or last >= before for first, last in rows):
        return False
    tx.execute(sa.delete(_record).where(_record.c.cmid == cmid))
    return True
