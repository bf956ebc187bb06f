"""In which state a product is (rule E; K7, K22, M5, M9).

========================================  ==================================  =========================
facts, the first that holds               state                               until, then
========================================  ==================================  =========================
not started here, or the key removed      0 Unlicensed
the activation was given back (M6)        0 Unlicensed
granted, the publisher blocks it (all)    4 Non-genuine grace                 30 d from learning, 5
granted, the hardware is foreign          0 Unlicensed (a start makes it 2)
granted, the hardware has changed         3 Out-of-tolerance grace            30 d from seeing it, 5
granted by a lease, which has ended       3 Out-of-tolerance grace            30 d from its end, 5
granted by a lease                        1 Licensed                          the lease's end, 3
granted by a confirmation                 1 Licensed
not granted                               2 Initial grace                     30 d from first start, 5
========================================  ==================================  =========================

- A state falls by time, by the machine's own facts, or by what the publisher signed; a refusal is none of
  these and is no input here (rule E: it never worsens a state).
- A grace is over at its last second: at 30 d it is gone. So is a lease: at day 180 it has ended (K7).
- A lease that ended on hardware that has changed: the grace that ends first decides, so that neither fact
  lengthens what the other leaves.
- A product may run in the states 1 to 4; only 1 is licensed.

One channel at a time (K22). Without a key a product is a KMS client; what is granted follows:

======================================  ================================================================
what happens                            what is in force afterwards
======================================  ================================================================
a lease is granted                      the lease
a key is installed over a lease         the lease, until the key's confirmation is stored; that removes it
a key is removed, confirmation stored   nothing: 0 `key-removed` until a host grants a lease
a key is removed that never activated   the lease if there is one (it was not the key's); else 0 as above
the activation is given back            nothing: 0 `activation-returned` until another is granted
`/rearm`, or started on another machine nothing: lease and confirmation are set aside, 2 as at first start
a confirmation without a key (VAMT)     the confirmation; no host is asked
======================================  ================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.protocol import documents, machine
from volact.protocol.policy import DAY, HOUR
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from volact.protocol.policy import Policy

UNLICENSED, LICENSED, INITIAL_GRACE, OUT_OF_TOLERANCE, NON_GENUINE, NOTIFICATION = range(6)
STATE_NAMES = documents.STATE_NAMES[: NOTIFICATION + 1]
ALLOWED = (LICENSED, INITIAL_GRACE, OUT_OF_TOLERANCE, NON_GENUINE)


class Situation(NamedTuple):
    """What is known of one product on this machine.

    Attributes:
        started: when it was started first, or reset; None before.
        key_removed: whether its key was removed.
        granted: whether a confirmation or a lease is stored.
        returned: whether its activation was given back, by this machine or as the publisher's list says.
        blocked: when this machine learned that the publisher blocks it; None if it does not.
        hardware: `machine.at_check`'s verdict on this machine against its baseline.
        changed: when the hardware was first seen to have changed; None if it was not.
        doubtful: whether the machine's clock is in doubt.
        lease_from: when the lease was granted; None for a confirmation.
        lease_end: when it ends; None for a confirmation.
    """

    started: int | None
    key_removed: bool = False
    granted: bool = False
    returned: bool = False
    blocked: int | None = None
    hardware: str = machine.SAME
    changed: int | None = None
    doubtful: bool = False
    lease_from: int | None = None
    lease_end: int | None = None


class Licence(NamedTuple):
    """What `volact.check()` answers.

    Attributes:
        state: 0 Unlicensed, 1 Licensed, 2 Initial grace, 3 Out-of-tolerance grace, 4 Non-genuine grace,
            5 Notification.
        reason: why; one of a stable list of words.
        end: when this state ends by itself, seconds UTC; None if it does not.
        warn: a sentence for the person in front of the product; empty if there is nothing to say.
    """

    state: int
    reason: str
    end: int | None = None
    warn: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the product may run."""
        return self.state in ALLOWED

    @property
    def licensed(self) -> bool:
        """Whether it is activated."""
        return self.state == LICENSED

    @property
    def expires(self) -> datetime | None:
        """When this state ends by itself, as an aware time; None if it does not."""
        if self.end is None:
            return None
        from datetime import UTC, datetime  # noqa: PLC0415 - most products never ask, and it starts slowly

        return datetime.fromtimestamp(self.end, UTC)


def standing(situation: Situation, policy: Policy, now: int) -> Licence:
    """The state of a product, by the table above."""
    if situation.started is None:
        return unlicensed("not-started")
    if situation.key_removed:
        return unlicensed("key-removed")
    if situation.returned:
        return unlicensed("activation-returned")
    if not situation.granted:
        return _grace(INITIAL_GRACE, "initial-grace", situation.started, policy.initial_grace, now)
    if situation.blocked is not None:
        return _grace(NON_GENUINE, "blocked", situation.blocked, policy.non_genuine_grace, now)
    if situation.hardware == machine.FOREIGN:
        return unlicensed("other-machine")
    found = _first_to_end(
        _grace(OUT_OF_TOLERANCE, reason, since, policy.tolerance_grace, now)
        for reason, since in _out_of_tolerance(situation, now)
    )
    return found or _licensed(situation, policy, now)


def _out_of_tolerance(situation: Situation, now: int) -> Iterator[tuple[str, int]]:
    """What puts a product out of tolerance, and since when."""
    if situation.hardware == machine.CHANGED:
        yield "hardware-changed", now if situation.changed is None else situation.changed
    if situation.lease_end is not None and now >= situation.lease_end:
        yield "lease-ended", situation.lease_end


def _first_to_end(graces: Iterable[Licence]) -> Licence | None:
    """The grace that ends first, one that is over before all others; None if there is none."""
    return min(graces, key=lambda one: -1 if one.end is None else one.end, default=None)


def _licensed(situation: Situation, policy: Policy, now: int) -> Licence:
    doubt = _DOUBT if situation.doubtful else ""
    if situation.lease_from is None or situation.lease_end is None:
        return Licence(LICENSED, "activated", None, doubt)
    if now < situation.lease_from + policy.warn_from:
        return Licence(LICENSED, "lease", situation.lease_end, doubt)
    warn = f"{_WARNINGS['lease']} {_left(situation.lease_end - now)} left."
    return Licence(LICENSED, "lease", situation.lease_end, f"{warn} {doubt}".rstrip())


_WARNINGS = {
    "product-not-installed": "The product is not installed for licensing on this machine.",
    "not-started": "The licence service has not started on this machine yet.",
    "key-removed": "The product key was removed.",
    "activation-returned": "The activation of this machine was given back.",
    "other-machine": "The activation belongs to another machine.",
    "initial-grace": "The product is not activated yet.",
    "blocked": "The publisher has blocked the activation.",
    "lease": "No KMS host has renewed the activation for long.",
    "lease-ended": "The activation by a KMS host has ended; none has renewed it.",
    "hardware-changed": "The machine has changed; the product must be activated again.",
    "lab-publisher": "The licence is from a laboratory publisher.",
    "data-broken": "The licence files are damaged.",
    "document-refused": "A licence document is not valid here.",
    "store-newer": "The licence files were written by a newer version.",
}
_DOUBT = "The machine's clock is in doubt."


def unlicensed(reason: str) -> Licence:
    """State 0, and why."""
    return Licence(UNLICENSED, reason, None, _WARNINGS.get(reason, reason))


def _grace(state: int, reason: str, since: int, length: int, now: int) -> Licence:
    # What was noted by a clock that ran ahead and was put right counts from now on (F17).
    end = min(since, now) + length
    if now >= end:
        return Licence(NOTIFICATION, f"{reason}-ended", None, f"{_WARNINGS[reason]} The time for it is over.")
    return Licence(state, reason, end, f"{_WARNINGS[reason]} {_left(end - now)} left.")


def _left(seconds: int) -> str:
    """What remains, rounded down, in the unit that a person would use."""
    for unit, name in ((DAY, "days"), (HOUR, "hours")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds // 60} minutes"
