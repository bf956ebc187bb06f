"""What a KMS host decides of a check-in: pure, values in, a verdict out (K1 to K5, K14; PROTOCOL sections 5 and 6).

- K1: a product is activated when any alternative of its thresholds is reached; servers are machines too.
- K2: the requester is counted before the answer, so the 25th client to call is the first to be activated.
- K3: one CMID is one machine, whatever it calls for and however often.
- K4: a record counts while now < its end, which each contact sets anew; afterwards it is as if it were not there.
- K5: below the threshold activation and renewal are refused alike, unless the policy says ``activation``.

Precedence of refusals: `request-id-reused`, `identity-cloned`, then `count-insufficient`, so that a request is
counted only if it passes every check but the count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import machine
from volact.protocol.policy import CLOCK_TOLERANCE
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from volact.protocol.policy import Policy, Threshold

CAP = 2
"""A host counts to so many times the largest threshold and no further: more decides nothing."""
SERVERS = "servers"
GRANTED = "ok"


class Known(NamedTuple):
    """A machine's record for the product, as far as it decides anything.

    Attributes:
        fp: the vector that it showed last.
        before: the one before that; None if it never changed.
        expires: when the record ends, seconds UTC.
        req: the id of the check-in that was granted last; None if none was.
        digest: of that check-in's content.
        lease_end: when that lease ends; None likewise.
    """

    fp: Mapping[str, str]
    before: Mapping[str, str] | None
    expires: int
    req: str | None
    digest: str | None
    lease_end: int | None


class Seen(NamedTuple):
    """What follows for the record: the vectors that it holds from now on, and whether they have changed."""

    fp: Mapping[str, str]
    before: Mapping[str, str] | None
    changed: bool


class Look(NamedTuple):
    """One look at the host's clocks: wall time and time since boot, seconds."""

    now: int
    running: int


def jumped(before: Look | None, look: Look) -> bool:
    """Whether the wall clock went another way than time since boot, by more than clocks may lie apart."""
    if before is None:
        return False
    return abs((look.now - before.now) - (look.running - before.running)) > CLOCK_TOLERANCE


def is_ahead(last: int, now: int) -> bool:
    """Whether a contact is dated by a clock that was ahead."""
    return last > now + CLOCK_TOLERANCE


def is_live(expires: int, now: int) -> bool:
    """Whether a record still counts (K4)."""
    return now < expires


def repeats(known: Known | None, req: str, digest: str) -> bool | Refusal:
    """Whether a check-in repeats the one that was granted last; the same id with other content is refused."""
    if known is None or known.req != req:
        return False
    return True if known.digest == digest else Refusal("request-id-reused")


def recognise(known: Known | None, fp: Mapping[str, str]) -> Seen | Refusal:
    """What a known CMID's vector says (rows 1, 2, 4 and 5 of PROTOCOL section 5); no record is judged by nothing."""
    if known is None:
        return Seen(fp, None, changed=False)
    if fp == known.fp:
        return Seen(fp, known.before, changed=False)
    verdict = machine.at_host(known.fp, known.before, fp)
    if verdict == machine.CLONED:
        return Refusal("identity-cloned")
    if verdict == machine.CHANGED:
        return Seen(fp, known.fp, changed=True)
    if verdict == machine.NO_VERDICT:
        return Seen(known.fp, known.before, changed=False)
    return Seen(fp, known.before, changed=False)


def shortfall(thresholds: Iterable[Threshold], machines: int, servers: int) -> tuple[int, int, str] | None:
    """What is missing for every alternative: (count, required, counted) of the nearest one; None if one is reached."""
    missing = []
    for threshold in thresholds:
        count = servers if threshold.counted == SERVERS else machines
        if count >= threshold.minimum:
            return None
        missing.append((threshold.minimum - count, count, threshold.minimum, threshold.counted))
    _, count, required, counted = min(missing, key=lambda one: one[0])
    return count, required, counted


def threshold_applies(policy: Policy, known: Known | None, now: int) -> bool:
    """Whether the count decides here: always, or with ``activation`` only where no lease of ours is alive (K5)."""
    if policy.threshold_applies_to == "both":
        return True
    return known is None or known.lease_end is None or now >= known.lease_end


def insufficient(missing: tuple[int, int, str], renewal: int, retry: int) -> Refusal:
    """`count-insufficient`, with the numbers and the intervals that the client adopts (K5, K6)."""
    count, required, counted = missing
    return Refusal(
        "count-insufficient",
        f"The count is {count}, {required} {counted} are required.",
        (
            ("count", count),
            ("required", required),
            ("counted", counted),
            ("renewal", renewal),
            ("retry", retry),
        ),
    )


def most_to_count(policies: Iterable[Policy]) -> int:
    """How far a host counts for these products: twice their largest threshold."""
    return CAP * max((one.minimum for policy in policies for one in policy.thresholds), default=0)


def until(ends: Iterable[int], minimum: int) -> int:
    """Until when at least `minimum` of the records with these `ends` count; 0 if there are fewer."""
    latest = sorted(ends, reverse=True)
    return latest[minimum - 1] if len(latest) >= minimum else 0
