"""Requests that were refused for a reason of the host's own, and left no row: an event says so (rule E, K10, K13).

A host whose clock is wrong, that is not activated or blocked, or whose store cannot be written, decides nothing: who asks
has proved nothing, or the proof cannot be kept. So no request of that kind writes anything. What was met is kept in
memory and noted beside the requests, when the store takes it: each code at most once an hour of running time, however
many ask (T10, T20).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.kmshost import store
from volact.kmshost.store import Event
from volact.protocol.policy import HOUR

if TYPE_CHECKING:
    from volact.clock import Clock
    from volact.kmshost.store import Store

_EVERY = HOUR


class Lapses:
    """What one process has refused of itself since it was noted last."""

    def __init__(self) -> None:
        """Nothing was met yet."""
        self._met: set[str] = set()
        self._noted: dict[str, int] = {}

    def meet(self, code: str) -> None:
        """A request was refused with this code; may be called from any thread, and costs nothing."""
        self._met.add(code)

    def note(self, clock: Clock, books: Store) -> list[Event]:
        """Write what is due, and answer it.

        Raises:
            VolactError: if the store failed; then it is due still.
        """
        met, running = sorted(self._met.copy()), clock.running()
        due = [code for code in met if code not in self._noted or running - self._noted[code] >= _EVERY]
        events = [Event(clock.now(), store.HANDLED, code) for code in due]
        if events:
            with books.writing() as tx:
                store.add_event(tx, *events)
        self._noted.update(dict.fromkeys(due, running))
        self._met.difference_update(met)
        return events
