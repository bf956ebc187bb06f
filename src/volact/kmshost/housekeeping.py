"""What a host does beside its requests: ended records and old events go, wrong dates are put right (K4, PROTOCOL 8).

- A record that has ended is as if it were not there (`counting.is_live`); deleting it only makes room. So nothing is
  deleted for a day after the wall clock has jumped, or while it is behind what the publisher signed: a clock that is
  wrong for an hour must not cost the count.
- A record whose last contact lies ahead was written by a clock that was ahead; it called some time before now, so it
  lives on from now and no longer.
- All in slices (DESIGN section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.kmshost import counting, ledger, store
from volact.protocol import policy

if TYPE_CHECKING:
    from volact.clock import Clock
    from volact.kmshost.store import Store

_LOOK_AT = 2_000
_PEAKS_EVERY = policy.HOUR


class Housekeeping:
    """The housekeeping of one process."""

    def __init__(self) -> None:
        """Begin."""
        self._after = 0
        self._peaks_at = 0
        self._looked: counting.Look | None = None
        self._rests_until = 0

    def start(self, clock: Clock, newest: int | None) -> None:
        """Begin where the store's `newest` event was; a host that was off for long is not told from a wrong clock."""
        look = counting.Look(clock.now(), clock.running())
        if newest is not None and abs(look.now - newest) > policy.DAY:
            self._rests_until = look.running + policy.DAY
        self._looked = look

    def work(self, clock: Clock, books: Store, *, clock_is_behind: bool) -> None:
        """Do a slice of everything.

        Raises:
            VolactError: if the store failed; what is not done is done the next time.
        """
        look = counting.Look(clock.now(), clock.running())
        if clock_is_behind or counting.jumped(self._looked, look):
            self._rests_until = look.running + policy.DAY
        self._looked = look
        if look.running >= self._rests_until:
            self._records(books, look.now)
        with books.writing() as tx:
            store.trim_events(tx)
        if not self._peaks_at <= look.now < self._peaks_at + _PEAKS_EVERY:
            self._peaks_at = look.now
            with books.reading() as tx:  # every record, which must not keep a batch waiting
                counted = store.present(tx, look.now)
            with books.writing() as tx:
                store.note_peaks(tx, counted)

    def _records(self, books: Store, now: int) -> None:
        with books.reading() as tx:
            found, self._after = ledger.out_of_time(tx, self._after, now, _LOOK_AT)
        if found.ended or found.ahead:
            with books.writing() as tx:
                ledger.forget_ended(tx, found.ended, now)
                ledger.set_back(tx, found.ahead, now)
