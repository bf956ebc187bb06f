"""A host's foresight: what it will count, and on which day a threshold is lost: pure (K15).

- *Certain*: the count if nobody calls any more. Every record ends when it says (K4); no count falls faster than that.
- *Expected*: the count if every machine goes on as it did. One that calls as it was told stays; an *overdue* one has
  left, and its record ends when it says. Nobody is expected to join.
- *Overdue*: a machine has to call by `last contact + 1.1 x renewal interval`, the longest that K6 lets it wait, and
  from then on, or from when this host began to listen if that was later, it tries every retry interval. Two tries
  (2 x 1.1 x retry interval) after that it is overdue. So the rest after a renewal, a lost answer, and the hours after
  an outage of the host itself make nobody overdue. By RULES.md's numbers that is 7 d 21 h 12 min after a contact.
- A machine that called for several products counts, or is overdue, by the best of its records (K3).
- Days are UTC calendar days, by their number since 1970. What is said of a day is what counts in its last second, so a
  threshold is lost on the first day that ends below it. A product is lost with the last of its alternatives (K1).
- A warning is due when the expected loss is at most 14 days away, once; again only after a day without (hysteresis).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.kmshost.counting import SERVERS
from volact.protocol.policy import CALM, DAY, FORESEEN, LONGEST_SPREAD, MISSED_TRIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from volact.protocol.policy import Threshold

WILL_FALL, HOLDS = "count-will-fall", "ok"
"""Results of the event that tells of a foreseen loss, and of its end."""
SAFE, FORESEEN_LOSS, LOST = "safe", "foreseen", "lost"


class Bucket(NamedTuple):
    """Machines of one group that are alike.

    Attributes:
        ends: the day on which the last of their records ends.
        stays: whether one of these is not overdue.
        server_ends: the same for their records for server products; None if they have none.
        server_stays: likewise.
        machines: how many they are.
    """

    ends: int
    stays: bool
    server_ends: int | None
    server_stays: bool
    machines: int


class Lines(NamedTuple):
    """One count, now and to come.

    Attributes:
        now: the count.
        overdue: how many of these are overdue.
        certain: the count at the end of today and of each day after it, if nobody calls any more.
        expected: likewise, if those who call go on.
    """

    now: int
    overdue: int
    certain: tuple[int, ...]
    expected: tuple[int, ...]


class Prospect(NamedTuple):
    """One alternative of a product's thresholds: the count now, and the days on which it is lost; None for not yet."""

    counted: str
    minimum: int
    now: int
    certain: int | None
    expected: int | None


class Outlook(NamedTuple):
    """A product's future.

    Attributes:
        enough: whether a threshold is reached now.
        certain: the day on which the last one is lost if nobody calls any more; None for not yet.
        expected: likewise, if those who call go on.
        prospects: its alternatives.
    """

    enough: bool
    certain: int | None
    expected: int | None
    prospects: tuple[Prospect, ...]


class Alarm(NamedTuple):
    """Whether a loss was told of, and since when it has not been foreseen any more, seconds UTC; None if it is."""

    raised: bool = False
    calm: int | None = None


# --- who stays --------------------------------------------------------------------------------------------------


def longest(interval: int) -> int:
    """The longest that a machine waits which was told `interval` (K6), seconds."""
    return interval * LONGEST_SPREAD[0] // LONGEST_SPREAD[1]


def heard_since(now: int, listening_since: int, renewal: int, retry: int) -> int:
    """The time of last contact before which a machine is overdue now; 0 if none is.

    `listening_since` is when the host began to take calls, and both intervals are what machines are told, seconds.
    """
    tries = longest(MISSED_TRIES * retry)
    if now - listening_since <= tries:
        return 0
    return max(0, now - longest(renewal) - tries)


# --- lines ------------------------------------------------------------------------------------------------------


def lines(buckets: Iterable[Bucket], today: int, days: int, counted: str) -> Lines:
    """The future of what is `counted` for today and so many `days` more."""
    leaving = [0] * (days + 2)  # how many end on each day; the last place is for later ones
    expected_leaving = [0] * (days + 2)
    now = overdue = 0
    for one in buckets:
        ends, stays = (one.server_ends, one.server_stays) if counted == SERVERS else (one.ends, one.stays)
        if ends is None:
            continue
        place = min(max(ends - today, 0), days + 1)
        now += one.machines
        leaving[place] += one.machines
        if not stays:
            overdue += one.machines
            expected_leaving[place] += one.machines
    return Lines(now, overdue, _falling(now, leaving), _falling(now, expected_leaving))


def _falling(count: int, leaving: Sequence[int]) -> tuple[int, ...]:
    line = []
    for many in leaving[:-1]:
        count -= many
        line.append(count)
    return tuple(line)


def lost_on(line: Sequence[int], minimum: int, today: int) -> int | None:
    """The first day that ends with fewer than `minimum`; None if none of the line's does."""
    return next((today + day for day, count in enumerate(line) if count < minimum), None)


def outlook(thresholds: Iterable[Threshold], counts: Mapping[str, Lines], today: int) -> Outlook:
    """A product's future from its thresholds and the lines of ``machines`` and ``servers``."""
    prospects = tuple(
        Prospect(
            one.counted,
            one.minimum,
            counts[one.counted].now,
            lost_on(counts[one.counted].certain, one.minimum, today),
            lost_on(counts[one.counted].expected, one.minimum, today),
        )
        for one in thresholds
    )
    enough = any(one.now >= one.minimum for one in prospects)
    certain = _last(one.certain for one in prospects)
    return Outlook(enough, certain, _last(one.expected for one in prospects), prospects)


def _last(days: Iterable[int | None]) -> int | None:
    """The last of the days on which alternatives are lost; None if one is not."""
    found: int | None = 0
    for day in days:
        found = None if day is None or found is None else max(found, day)
    return found


# --- warning ----------------------------------------------------------------------------------------------------


def verdict(found: Outlook, today: int) -> str:
    """Whether a loss is ``foreseen`` within the time of warning, has happened (``lost``), or neither (``safe``)."""
    if not found.enough:
        return LOST
    near = found.expected is not None and (found.expected - today) * DAY <= FORESEEN
    return FORESEEN_LOSS if near else SAFE


def watch(alarm: Alarm, seen: str, now: int) -> tuple[Alarm, str | None]:
    """The alarm after a verdict, and what is to be told: `WILL_FALL`, `HOLDS` or nothing.

    A loss that has happened is told by every refusal; it neither raises the alarm nor ends it.
    """
    if seen == FORESEEN_LOSS:
        return Alarm(True), None if alarm.raised else WILL_FALL
    if seen == LOST or not alarm.raised:
        return alarm._replace(calm=None), None
    calm = now if alarm.calm is None else min(alarm.calm, now)
    return (Alarm(), HOLDS) if now - calm >= CALM else (Alarm(True, calm), None)
