"""In which state a product is (rule E; M5, M9).

========================================  ==================================  =========================
facts, the first that holds               state                               until, then
========================================  ==================================  =========================
not started here, or the key removed      0 Unlicensed
the activation was given back             0 Unlicensed
granted, the publisher blocks it (all)    4 Non-genuine grace                 30 d from learning, 5
granted, the hardware is foreign          0 Unlicensed (a start makes it 2)
granted, the hardware has changed         3 Out-of-tolerance grace            30 d from seeing it, 5
granted                                   1 Licensed
not granted                               2 Initial grace                     30 d from first start, 5
========================================  ==================================  =========================

- A state falls by time, by the machine's own facts, or by what the publisher signed; a refusal is none of
  these and is no input here (rule E: it never worsens a state).
- A grace is over at its last second: at 30 d it is gone.
- A product may run in the states 1 to 4; only 1 is licensed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.protocol import machine
from volact.protocol.policy import DAY, HOUR
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from volact.protocol.policy import Policy

UNLICENSED, LICENSED, INITIAL_GRACE, OUT_OF_TOLERANCE, NON_GENUINE, NOTIFICATION = range(6)
STATE_NAMES = (
    "Unlicensed",
    "Licensed",
    "Initial grace",
    "Out-of-tolerance grace",
    "Non-genuine grace",
    "Notification",
)
ALLOWED = (LICENSED, INITIAL_GRACE, OUT_OF_TOLERANCE, NON_GENUINE)


class Situation(NamedTuple):
    """What is known of one product on this machine.

    Attributes:
        started: when it was started first, or reset; None before.
        key_removed: whether its key was removed.
        granted: whether a confirmation is stored.
        returned: whether the publisher's list says that its activation was given back.
        blocked: when this machine learned that the publisher blocks it; None if it does not.
        hardware: `machine.at_check`'s verdict on this machine against its baseline.
        changed: when the hardware was first seen to have changed; None if it was not.
        doubtful: whether the machine's clock is in doubt.
    """

    started: int | None
    key_removed: bool = False
    granted: bool = False
    returned: bool = False
    blocked: int | None = None
    hardware: str = machine.SAME
    changed: int | None = None
    doubtful: bool = False


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
    if not situation.granted:
        return _grace(INITIAL_GRACE, "initial-grace", situation.started, policy.initial_grace, now)
    if situation.returned:
        return unlicensed("activation-returned")
    if situation.blocked is not None:
        return _grace(NON_GENUINE, "blocked", situation.blocked, policy.non_genuine_grace, now)
    if situation.hardware == machine.FOREIGN:
        return unlicensed("other-machine")
    if situation.hardware == machine.CHANGED:
        seen = now if situation.changed is None else situation.changed
        return _grace(OUT_OF_TOLERANCE, "hardware-changed", seen, policy.tolerance_grace, now)
    return Licence(LICENSED, "activated", None, _DOUBT if situation.doubtful else "")


_WARNINGS = {
    "product-not-installed": "The product is not installed for licensing on this machine.",
    "not-started": "The licence service has not started on this machine yet.",
    "key-removed": "The product key was removed.",
    "activation-returned": "The activation of this machine was given back.",
    "other-machine": "The activation belongs to another machine.",
    "initial-grace": "The product is not activated yet.",
    "blocked": "The publisher has blocked the activation.",
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
