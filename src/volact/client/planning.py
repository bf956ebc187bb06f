"""What a licensed machine does next by itself (M4, M9, K6's spreading).

- An activation is tried where there is a key and no licence, and never where the publisher took one away.
- Tries are spread by +/- 10 %, and never come sooner than the server asked.
- A moment further off than anything that is ever planned was planned by a clock that was wrong, and holds
  nothing up (F17).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.policy import STATUS_CHECK_EVERY

if TYPE_CHECKING:
    from volact.client.lifecycle import Licence
    from volact.protocol.policy import Policy

ACTIVATE, FETCH_STATUS, WAIT, NOTHING = "activate", "fetch-status", "wait", "nothing"


class Action(NamedTuple):
    """What `run` does next: ``activate``, ``fetch-status``, ``wait`` until a moment, or ``nothing``."""

    name: str
    until: int | None = None


_TO_ACTIVATE = ("initial-grace", "initial-grace-ended", "hardware-changed", "hardware-changed-ended")


def next_action(
    found: Licence,
    policy: Policy,
    now: int,
    *,
    has_key: bool,
    next_try: int | None,
    list_checked: int | None,
) -> Action:
    """What is due: an activation where there is a key and none stands; else, if the policy says so, the list.

    What was given back or blocked is not activated again by itself.
    """
    if has_key and found.reason in _TO_ACTIVATE:
        if next_try is None or not now < next_try <= now + policy.renewal:
            return Action(ACTIVATE)
        return Action(WAIT, next_try)
    if policy.status_check:
        if list_checked is None or not now - STATUS_CHECK_EVERY < list_checked <= now:
            return Action(FETCH_STATUS)
        return Action(WAIT, list_checked + STATUS_CHECK_EVERY)
    return Action(NOTHING)


def retry_after(policy: Policy, asked: int, chance: float) -> int:
    """Seconds until the next try: the retry interval +/- 10 % (K6), never sooner than the server `asked`.

    `asked` is cut to the renewal interval (PROTOCOL section 6); `chance` is from 0 to 1.
    """
    jittered = policy.retry * (90 + 20 * chance) / 100
    return min(max(int(jittered), asked), policy.renewal)
