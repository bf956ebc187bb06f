"""What a host does beside its requests: ended records and old events go, wrong dates are put right (K4, PROTOCOL 8).

- A record that has ended is as if it were not there (`counting.is_live`); deleting it only makes room. So nothing is
  deleted for a day of running time after the clock has jumped, while it is behind what the publisher signed, or while
  the machines doubt it: a clock that is wrong for an hour must not cost the count. What was believed last is kept in
  the store, or a restart with a wrong clock would look like a host that was off for long.
- A record whose last contact lies ahead was written by a clock that was ahead; it called some time before now, so it
  lives on from now and no longer. That is done only while the machines vouch for the clock.
- All in slices (DESIGN section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.kmshost import ledger, store
from volact.protocol import policy

if TYPE_CHECKING:
    from volact.clock import Clock
    from volact.kmshost.clockwatch import Clockwatch
    from volact.kmshost.store import Store

_LOOK_AT = 2_000
_TRIMS = 10  # slices of old events a second: twice what a host can write
_PEAKS_EVERY = _KEPT_EVERY = policy.HOUR
_RESTS = policy.DAY


class Housekeeping:
    """The housekeeping of one process."""

    def __init__(self, watch: Clockwatch) -> None:
        """Believe the clock as far as `watch` does."""
        self._watch = watch
        self._after = 0
        self._peaks_at = 0
        self._trusted = store.Trusted(0, 0)
        self._resting = False
        self._jumps = 0
        self._running = self._kept = 0

    @property
    def resting(self) -> bool:
        """Whether nothing is deleted now, because the clock has jumped or is doubted."""
        return self._resting

    def start(self, clock: Clock, books: Store) -> None:
        """Begin with what was believed last; a host that was off for long is not told from one with a wrong clock."""
        look = self._watch.look(clock)
        with books.reading() as tx:
            known = store.trusted(tx)
        self._trusted = known or store.Trusted(look.now, 0)
        self._resting = abs(look.now - self._trusted.now) > policy.DAY
        self._jumps = self._watch.jumps
        self._running = self._kept = look.running
        if known is None:
            self._keep(books)

    def work(self, clock: Clock, books: Store, *, clock_is_behind: bool) -> None:
        """Do a slice of everything.

        Raises:
            VolactError: if the store failed; what is not done is done the next time.
        """
        look = self._watch.look(clock)
        self._rest(look.running, doubted=clock_is_behind or self._watch.doubted)
        if not self._resting:
            self._trusted = store.Trusted(look.now, 0)
            self._records(books, look.now)
        if look.running - self._kept >= _KEPT_EVERY:
            self._keep(books)
        for _ in range(_TRIMS):
            with books.writing() as tx:
                if store.trim_events(tx) < store.SLICE:
                    break
        if not self._peaks_at <= look.now < self._peaks_at + _PEAKS_EVERY:
            self._peaks_at = look.now
            with books.reading() as tx:  # every record, which must not keep a batch waiting
                counted = store.present(tx, look.now)
            with books.writing() as tx:
                store.note_peaks(tx, counted)
                store.trim_rare_events(tx)

    def _rest(self, running: int, *, doubted: bool) -> None:
        """Decide whether to rest; a day is counted up over restarts."""
        elapsed, self._running = running - self._running, running
        if doubted or self._watch.jumps != self._jumps:
            self._jumps = self._watch.jumps
            self._resting = True
            self._trusted = self._trusted._replace(rested=0)
        elif self._resting:
            self._trusted = self._trusted._replace(rested=self._trusted.rested + elapsed)
            self._resting = self._trusted.rested < _RESTS

    def _keep(self, books: Store) -> None:
        with books.writing() as tx:
            store.put_trusted(tx, self._trusted)
        self._kept = self._running

    def _records(self, books: Store, now: int) -> None:
        with books.reading() as tx:
            found, self._after = ledger.out_of_time(tx, self._after, now, _LOOK_AT)
        ahead = found.ahead if self._watch.vouched else []
        if found.ended or ahead:
            with books.writing() as tx:
                ledger.forget_ended(tx, found.ended, now)
                ledger.set_back(tx, ahead, now)
