"""Whether this host's clock can be believed: by time since boot, and by what the machines say (PROTOCOL section 8).

- A wall clock that goes another way than time since boot has jumped; what was heard before says nothing any more.
- The median of the last 25 machines decides: over a day away, the clock is doubted; within a day, it is vouched for.
  Fewer machines say neither. What they said counts as a difference at the time of the call, so that the last calls of
  a small fleet may be days old.
"""

from __future__ import annotations

import statistics
import threading
from typing import TYPE_CHECKING

from volact.kmshost import counting
from volact.protocol.policy import CLOCK_WITNESSES, DAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from volact.clock import Clock
    from volact.kmshost.counting import Look


class Clockwatch:
    """The watch over one process's clock; its writer and its housekeeping both look.

    Attributes:
        jumps: how often the clock has jumped.
    """

    def __init__(self) -> None:
        """Begin to watch."""
        self.jumps = 0
        self._looked: Look | None = None
        self._witnesses: dict[str, int] = {}
        self._lock = threading.Lock()

    def look(self, clock: Clock) -> Look:
        """Look at the clock."""
        with self._lock:
            look = counting.Look(clock.now(), clock.running())
            if counting.jumped(self._looked, look):
                self.jumps += 1
                self._witnesses.clear()
            self._looked = look
            return look

    def hear(self, calls: Iterable[tuple[str, int]], now: int) -> None:
        """Note what machines' clocks said, each with its CMID."""
        with self._lock:
            for cmid, said in calls:
                self._witnesses.pop(cmid, None)
                self._witnesses[cmid] = now - said
            for cmid in list(self._witnesses)[:-CLOCK_WITNESSES]:
                del self._witnesses[cmid]

    @property
    def doubted(self) -> bool:
        """Whether enough machines say that the clock is more than a day from theirs."""
        return self._median() > DAY

    @property
    def vouched(self) -> bool:
        """Whether enough machines say that it is not."""
        return 0 <= self._median() <= DAY

    def _median(self) -> int:
        """How far most machines' clocks are from this one, seconds; -1 if too few have called."""
        with self._lock:
            if len(self._witnesses) < CLOCK_WITNESSES:
                return -1
            return abs(statistics.median_low(self._witnesses.values()))
