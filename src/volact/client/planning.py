"""What a licensed machine does next by itself (K6, K7, M4, M9).

- A key's activation is tried where none stands, and never where the publisher took one away.
- A KMS client checks in: unlicensed at once, licensed at the renewal interval, after a failure at the retry
  interval. Every success restarts both.
- A clock that came in doubt since the last answer: at once, but not within a quarter of an hour of a grant
  (PROTOCOL section 8).
- Tries are spread by +/- 10 %, and never come sooner than the server asked: where it asks for a longer wait, all of
  the spread lies after it.
- While its tries fail a machine keeps the spread that it drew at the first of them. So machines that failed at one
  moment drift apart by 24 minutes a try instead of in a random walk, and after a day of 2 hours +/- 10 % they call
  as evenly as if they had never been together (K6, T21). Drawn anew each time they would still call twice as often
  in the worst minute as in the mean one.
- A resume, another network or a start makes at once only those try that are in need: not licensed, or warned that
  nobody has renewed them for long. All others come at their planned moment, and if that has passed while the machine
  was off, within a retry interval: a building whose power comes back is no storm for its host.
- Where no next try could be written down (a full disk), the service rests in memory for the retry interval.
- An online return whose answer did not come is sent again at the retry interval, at a start, and in another network,
  before anything else: until its receipt is here the machine may use a seat that is another's (M6).
- A moment further off than anything that is ever planned was planned by a clock that was wrong, and holds
  nothing up (F17).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.policy import LONGEST_RENEWAL, MINUTE, SHORTEST_WAIT, STATUS_CHECK_EVERY

if TYPE_CHECKING:
    from volact.client.lifecycle import Licence
    from volact.client.timekeeping import Reading
    from volact.protocol.policy import Policy

ACTIVATE, RETURN, FETCH_STATUS, WAIT, NOTHING = "activate", "return", "fetch-status", "wait", "nothing"
KEY, HOST, NOBODY = "key", "host", ""
"""Whom a product asks: the authority with its key, a KMS host, or nobody (its key was dropped, or never was here)."""

UNREACHED = (
    "host-not-found",
    "host-unreachable",
    "host-untrusted",
    "authority-unreachable",
    "authority-untrusted",
    "answer-nonsense",
)
"""Failures that another network may mend: nobody is known there or answered, or somebody else (a portal) did."""

_NOTICED = 5
"""Seconds of suspend, or of a jump, that count as one, against the noise of two clocks that are read one by one."""
_WAKE_EVERY = MINUTE
PLACES = 1_000_000
"""Into so many places a spread is divided where one of them is remembered."""


class Action(NamedTuple):
    """What `run` does next: ``activate``, ``return``, ``fetch-status``, ``wait`` until a moment, or ``nothing``."""

    name: str
    until: int | None = None


class Intervals(NamedTuple):
    """Renewal and retry interval in force, seconds."""

    renewal: int
    retry: int


class Asking(NamedTuple):
    """How a product is activated, and how the last try went.

    Attributes:
        way: `KEY`, `HOST` or `NOBODY`.
        intervals: in force.
        next_try: the moment that was planned; None if there is none.
        failed: the code of the last try; empty after a success or before the first.
        heard: when a KMS host granted last.
        doubtful: whether the clock came in doubt since then (PROTOCOL section 8: renew at once).
        returning: whether an online return waits for its answer; then the last try may have been one of it.
    """

    way: str
    intervals: Intervals
    next_try: int | None = None
    failed: str = ""
    heard: int | None = None
    doubtful: bool = False
    returning: bool = False


_TO_ACTIVATE = (
    "initial-grace",
    "initial-grace-ended",
    "hardware-changed",
    "hardware-changed-ended",
    "lease",
    "lease-ended",
    "lease-ended-ended",
)


def next_action(
    found: Licence,
    policy: Policy,
    now: int,
    asking: Asking,
    *,
    list_checked: int | None,
    at_start: bool = False,
    woken: bool = False,
) -> Action:
    """What is due: a return that waits, an activation or renewal; else, if the policy says so, the publisher's list.

    What was given back is not activated again by itself, what is blocked not with its key. `at_start` tries at once what
    is not licensed; `woken` (resumed, or in another network) what is in need and did not reach its server.
    """
    sent_again = _sent_again(now, asking, at_start=at_start, woken=woken)
    if sent_again is not None and sent_again <= now:
        return Action(RETURN)
    planned = _planned(found, now, asking, at_start=at_start, woken=woken)
    if planned is not None:
        return Action(WAIT, planned) if planned > now else Action(ACTIVATE)
    if policy.status_check:
        if list_checked is None or not now - STATUS_CHECK_EVERY < list_checked <= now:
            return Action(FETCH_STATUS)
        return Action(WAIT, list_checked + STATUS_CHECK_EVERY)
    return Action(NOTHING) if sent_again is None else Action(WAIT, sent_again)


def _sent_again(now: int, asking: Asking, *, at_start: bool, woken: bool) -> int | None:
    """When a return that waits is sent again, `now` for at once; None if there is none."""
    if not asking.returning:
        return None
    planned = asking.next_try
    if planned is None or at_start or (woken and asking.failed in UNREACHED):
        return now
    return planned if planned <= now + spread(asking.intervals.renewal, 1) else now


def _planned(found: Licence, now: int, asking: Asking, *, at_start: bool, woken: bool) -> int | None:
    """When the next try is due, `now` for at once; None if there is nothing to try."""
    by_key = asking.way == KEY and found.reason in _TO_ACTIVATE
    if not by_key and (asking.way != HOST or found.reason == "activation-returned"):
        return None
    planned = asking.next_try
    if planned is None or (at_start and (by_key or not found.licensed)):
        return now
    if woken and asking.failed in UNREACHED and (by_key or in_need(found)):
        return now
    if not by_key and not asking.failed:
        if found.reason.startswith("hardware-changed"):
            return now
        if asking.doubtful:
            # Not in a row, whatever befalls the clock: a quarter of an hour after a grant at the soonest.
            planned = min(planned, now if asking.heard is None else asking.heard + SHORTEST_WAIT)
        if not found.licensed:
            # A lease that is over before its renewal was due is lost, and asked for as after a failure. What was
            # planned within a retry interval of the grant stays: its spread is not cut.
            since, retry = asking.heard or 0, asking.intervals.retry
            planned = planned if planned <= since + spread(retry, 1) else since + retry
    return planned if planned <= now + spread(asking.intervals.renewal, 1) else now


def in_need(found: Licence) -> bool:
    """Whether a product is hurt by waiting: it is not licensed, or warns."""
    return not found.licensed or bool(found.warn)


def held_back(found: Licence, now: int, asking: Asking, chance: float) -> int:
    """Seconds by which a try is put off that became due while the machine was off or suspended; 0 for none.

    At most the retry interval: machines that were off together do not call together when they start (K6).
    """
    passed = asking.way == HOST and asking.next_try is not None and asking.next_try <= now
    return int(asking.intervals.retry * chance) if passed and not in_need(found) else 0


def drawn(chance: float) -> int:
    """A place in the spread, as it is kept while tries fail."""
    return int(chance * PLACES)


def spread(interval: int, chance: float) -> int:
    """An interval +/- 10 %, so that a fleet that started together does not call together (K6)."""
    return int(interval * (90 + 20 * chance) / 100)


def retry_after(intervals: Intervals, asked: int, chance: float) -> int:
    """Seconds until the next try: the retry interval +/- 10 % (K6), never sooner than the server `asked`.

    `asked` is cut to the renewal interval (PROTOCOL section 6); `chance` is from 0 to 1. The spread of what a server
    asked is as wide as every other and lies after it, as far as a wait may be planned: whoever it sheds together does
    not come back together (F37).
    """
    asked = min(asked, intervals.renewal)
    width = min(spread(asked, 1) - spread(asked, 0), spread(intervals.renewal, 1) - asked)
    return max(min(spread(intervals.retry, chance), intervals.renewal), asked + int(width * chance))


def renew_after(intervals: Intervals, left: int, chance: float) -> int:
    """Seconds until the renewal: its interval +/- 10 % (K6).

    At half of what is `left` of a lease that is too short for that (its host may give no longer ones), but not
    within a quarter of an hour. A lease that has ended when it comes does not help (this machine's clock runs
    ahead), and is no success: the retry interval +/- 10 %.
    """
    if left <= 0:
        return spread(intervals.retry, chance)
    return min(spread(intervals.renewal, chance), max(left // 2, SHORTEST_WAIT))


def bounded(renewal: int, retry: int) -> Intervals:
    """Intervals that a host told, as they are adopted: a host cannot make a client call more or less often (K6)."""
    renewal = min(max(renewal, SHORTEST_WAIT), LONGEST_RENEWAL)
    return Intervals(renewal, min(max(retry, SHORTEST_WAIT), renewal))


class Rest(NamedTuple):
    """What a service lets rest, in memory: its next try could not be written down, or many would come together.

    Attributes:
        since: running time at the failure, seconds since boot; no jump of the wall clock shortens or lengthens it.
        length: seconds.
        plan: the planned try that is held back; another plan ends the rest. None where there was no plan to write.
    """

    since: int
    length: int
    plan: int | None = None

    def is_over(self, running: int) -> bool:
        """Whether it is over; after another boot it is."""
        return not self.since <= running < self.since + self.length


class Surface(NamedTuple):
    """What a service sees of suspend and network, to notice a change.

    Attributes:
        running: seconds since boot, suspend included.
        awake: seconds since boot without suspend.
        network: the routes and addresses, as a text.
    """

    running: float
    awake: float
    network: bytes


def is_another(before: Surface, now: Surface) -> bool:
    """Whether the machine was suspended between two looks, or is in another network."""
    suspended = (now.running - before.running) - (now.awake - before.awake)
    return suspended > _NOTICED or now.network != before.network


def is_jump(before: Reading, now: Reading) -> bool:
    """Whether the wall clock was moved between two looks, by more than time that ran explains."""
    return abs((now.wall - before.wall) - (now.running - before.running)) > _NOTICED


def may_wake(last: float | None, running: float) -> bool:
    """Whether a change may start tries again: once a minute, for a network that comes and goes."""
    return last is None or running - last >= _WAKE_EVERY
