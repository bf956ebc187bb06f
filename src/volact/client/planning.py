"""What a licensed machine does next by itself (K6, K7, M4, M9).

- A key's activation is tried where none stands, and never where the publisher took one away.
- A KMS client checks in: unlicensed at once, licensed at the renewal interval, after a failure at the retry
  interval. Every success restarts both.
- Tries are spread by +/- 10 %, and never come sooner than the server asked.
- Where no next try could be written down (a full disk), the service rests in memory for the retry interval.
- A moment further off than anything that is ever planned was planned by a clock that was wrong, and holds
  nothing up (F17).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.policy import LONGEST_RENEWAL, MINUTE, SHORTEST_WAIT, STATUS_CHECK_EVERY

if TYPE_CHECKING:
    from volact.client.lifecycle import Licence
    from volact.protocol.policy import Policy

ACTIVATE, FETCH_STATUS, WAIT, NOTHING = "activate", "fetch-status", "wait", "nothing"
KEY, HOST, NOBODY = "key", "host", ""
"""Whom a product asks: the authority with its key, a KMS host, or nobody (no key, and no host set)."""

UNREACHED = (
    "host-unreachable",
    "host-untrusted",
    "authority-unreachable",
    "authority-untrusted",
    "answer-nonsense",
)
"""Failures that another network may mend: nobody answered, or somebody else (a portal) did."""

_RESUMED = 5
"""Seconds of suspend that count as one, against the noise of two clocks that are read one after the other."""
_WAKE_EVERY = MINUTE


class Action(NamedTuple):
    """What `run` does next: ``activate``, ``fetch-status``, ``wait`` until a moment, or ``nothing``."""

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
    """

    way: str
    intervals: Intervals
    next_try: int | None = None
    failed: str = ""
    heard: int | None = None
    doubtful: bool = False


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
    """What is due: an activation or renewal; else, if the policy says so, the publisher's list.

    What was given back or blocked is not activated again with its key by itself. `at_start` tries at once what
    is not licensed; `woken` (resumed, or in another network) what did not reach its server.
    """
    planned = _planned(found, now, asking, at_start=at_start, woken=woken)
    if planned is not None:
        return Action(WAIT, planned) if planned > now else Action(ACTIVATE)
    if policy.status_check:
        if list_checked is None or not now - STATUS_CHECK_EVERY < list_checked <= now:
            return Action(FETCH_STATUS)
        return Action(WAIT, list_checked + STATUS_CHECK_EVERY)
    return Action(NOTHING)


def _planned(found: Licence, now: int, asking: Asking, *, at_start: bool, woken: bool) -> int | None:
    """When the next try is due, `now` for at once; None if there is nothing to try."""
    by_key = asking.way == KEY and found.reason in _TO_ACTIVATE
    if not by_key and asking.way != HOST:
        return None
    planned = asking.next_try
    if planned is None or (at_start and (by_key or not found.licensed)):
        return now
    if woken and asking.failed in UNREACHED:
        return now
    if not by_key and not asking.failed:
        if asking.doubtful or found.reason.startswith("hardware-changed"):
            return now
        if not found.licensed:
            # A lease that is over before its renewal was due is lost, and asked for as after a failure. What was
            # planned within a retry interval of the grant stays: its spread is not cut.
            since, retry = asking.heard or 0, asking.intervals.retry
            planned = planned if planned <= since + spread(retry, 1) else since + retry
    longest = asking.intervals.renewal if by_key else spread(asking.intervals.renewal, 1)
    return planned if planned <= now + longest else now


def spread(interval: int, chance: float) -> int:
    """An interval +/- 10 %, so that a fleet that started together does not call together (K6)."""
    return int(interval * (90 + 20 * chance) / 100)


def retry_after(intervals: Intervals, asked: int, chance: float) -> int:
    """Seconds until the next try: the retry interval +/- 10 % (K6), never sooner than the server `asked`.

    `asked` is cut to the renewal interval (PROTOCOL section 6); `chance` is from 0 to 1.
    """
    return min(max(spread(intervals.retry, chance), asked), intervals.renewal)


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
    """What a service lets rest, in memory, because a failure of the disk kept the next try from being planned there.

    Attributes:
        since: running time at the failure, seconds since boot; no jump of the wall clock shortens or lengthens it.
        length: seconds.
    """

    since: int
    length: int

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
    return suspended > _RESUMED or now.network != before.network


def may_wake(last: float | None, running: float) -> bool:
    """Whether a change may start tries again: once a minute, for a network that comes and goes."""
    return last is None or running - last >= _WAKE_EVERY
