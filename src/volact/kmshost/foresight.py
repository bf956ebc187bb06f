"""Looks ahead for a host: surveys the ledger, forecasts, and warns before a threshold is lost (K15).

- A serving process surveys once an hour; a small ledger more often, so that a survey takes a thousandth of the time at
  most, and no more than once a minute. What was surveyed last is kept for metrics.
- The warning is event 12295, result ``count-will-fall``, once; when no loss has been in sight for a day, 12295 ``ok``.
  The newest of these events in the store says what was told, so that neither a restart nor another process of the
  same count tells it again.
- A clock that is not believed forecasts nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import structlog

from volact.kmshost import forecast, store, surveys
from volact.kmshost.forecast import HOLDS, WILL_FALL, Alarm
from volact.kmshost.placing import NOWHERE
from volact.kmshost.store import Event
from volact.protocol.policy import DAY, FORECAST_DAYS, HOUR, MINUTE, THRESHOLD_COUNTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from volact.kmshost.forecast import Lines, Outlook, Prospect
    from volact.kmshost.keyring import Keyring, Product
    from volact.kmshost.store import Store
    from volact.kmshost.terms import Intervals

EVENT = 12295
"""The number of the events that tell of the count's future; it is volact's own."""
_SHARE = 1000
_log = structlog.get_logger()


class Future(NamedTuple):
    """What is foreseen at a moment.

    Attributes:
        now: the moment, seconds UTC.
        counts: the lines of each group, and of what is counted.
        products: each product's outlook.
    """

    now: int
    counts: Mapping[tuple[str, str], Lines]
    products: Mapping[str, Outlook]

    @property
    def today(self) -> int:
        """The day of it."""
        return self.now // DAY


def foresee(
    books: Store,
    products: Mapping[str, Product],
    intervals: Intervals,
    now: int,
    listening_since: int,
    days: int = FORECAST_DAYS,
    rest: Callable[[float], object] = lambda _seconds: None,
) -> Future:
    """Survey the ledger and forecast for today and so many `days` more; `rest` as `surveys.survey` does.

    Raises:
        VolactError: if the store cannot be read.
    """
    heard = {}
    for prd, one in products.items():
        heard[prd] = forecast.heard_since(now, listening_since, *intervals.told(one.policy))
    groups = surveys.survey(books, now, heard, rest=rest)
    today = now // DAY
    counts = {
        (group, counted): forecast.lines(groups.get(group, ()), today, days, counted)
        for group in sorted({*groups, *(one.group for one in products.values())} - {NOWHERE})
        for counted in THRESHOLD_COUNTS
    }
    found = {}
    for prd, one in sorted(products.items()):
        of_group = {counted: counts[one.group, counted] for counted in THRESHOLD_COUNTS}
        found[prd] = forecast.outlook(one.policy.thresholds, of_group, today)
    return Future(now, counts, found)


class Foresight:
    """The foresight of one serving process.

    Attributes:
        latest: what was foreseen last; None before the first survey.
        cost: what the last survey took, seconds.
    """

    def __init__(
        self,
        books: Store,
        tell: Callable[[Event], None] = lambda _event: None,
        timer: Callable[[], float] = time.perf_counter,
        rest: Callable[[float], object] = lambda _seconds: None,
    ) -> None:
        """Look at the ledger in `books`; `tell` hears of each event that was kept, `timer` says what a survey takes.

        `rest` is called after each page of a survey with the seconds that it took.
        """
        self.latest: Future | None = None
        self.cost = 0.0
        self._books = books
        self._tell = tell
        self._timer = timer
        self._rest = rest
        self._alarms: dict[str, Alarm] | None = None
        self._next = (0, 0)
        self._asked: tuple[Mapping[str, Product], Intervals] | None = None

    def look(self, keyring: Keyring | None, intervals: Intervals, now: int, listening_since: int) -> None:
        """Survey and forecast if it is time for it or products or intervals have changed, and warn; `now` is believed.

        Raises:
            VolactError: if the store failed; the next look tries again.
        """
        looked, until = self._next
        products = keyring.products if keyring else {}
        if looked <= now < until and (products, intervals) == self._asked:
            return
        began = self._timer()
        future = foresee(self._books, products, intervals, now, listening_since, rest=self._rest)
        self.cost = self._timer() - began
        newest = keyring.newest if keyring else None
        self._warn(future, [prd for prd in future.products if newest and prd in newest["prd"]])
        self.latest = future
        self._asked = products, intervals
        self._next = now, now + min(max(int(self.cost * _SHARE), MINUTE), HOUR)

    def _warn(self, future: Future, served: list[str]) -> None:
        if self._alarms is None:
            with self._books.reading() as tx:
                told = store.newest_results(tx, EVENT)
            self._alarms = {prd: Alarm(result == WILL_FALL) for prd, result in told.items()}
        for prd in served:
            found = future.products[prd]
            seen = forecast.verdict(found, future.today)
            alarm, result = forecast.watch(self._alarms.get(prd, Alarm()), seen, future.now)
            if result is not None:
                self._keep(_event(future.now, prd, found, result))
            self._alarms[prd] = alarm

    def _keep(self, event: Event) -> None:
        """Keep an event, unless another process of this count was first."""
        with self._books.writing() as tx:
            store.lock(tx)
            told = store.newest_results(tx, EVENT).get(event.product or "")
            if told == event.result or (told is None and event.result == HOLDS):
                return
            store.add_event(tx, event)
        text, say = ("holds", _log.info) if event.result == HOLDS else ("will fall", _log.warning)
        members = {name: value for name, value in event._asdict().items() if value is not None}
        number = members.pop("event")
        say(f"count {text}", event_id=number, **members)
        self._tell(event)


def _event(now: int, prd: str, found: Outlook, result: str) -> Event:
    last = last_to_be_lost(found)
    until = None if found.expected is None or result == HOLDS else max(0, found.expected * DAY - now)
    minutes = None if until is None else until // MINUTE
    return Event(now, EVENT, result, prd, required=last.minimum, current=last.now, minutes=minutes)


def last_to_be_lost(found: Outlook) -> Prospect:
    """The alternative on which a product will live longest; of several the first."""
    return max(found.prospects, key=lambda one: float("inf") if one.expected is None else one.expected)
