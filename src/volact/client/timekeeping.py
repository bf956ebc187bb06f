"""What time it is on a machine whose clock anybody may turn (PROTOCOL section 8; T12, F16 to F18).

- A is the last signed time that answered this machine's own request, R the running time since, L = A + R.
- now = max(W, L): a clock turned back does not turn the licence back, and running time is never lost.
- H, the highest wall time seen, alone changes nothing for 7 days of running time in doubt; then it counts too.
- A fresh signed time sets everything, forwards or backwards, so that no wrong clock locks a machine for ever.
- Any other signed time only raises L.
"""

from __future__ import annotations

from volact.protocol.policy import CLOCK_TOLERANCE, DOUBT_LIMIT, RUNNING_SAVE
from volact.protocol.values import NamedTuple


class Reading(NamedTuple):
    """One look at the machine's clocks: wall time, seconds since boot (suspend included), and which boot."""

    wall: int
    running: int
    boot: str


class Fold(NamedTuple):
    """What is kept of all looks at the clocks so far.

    Attributes:
        answered: A.
        run: R, seconds.
        highest: H.
        doubt: running seconds in doubt since A.
        running: seconds since boot at the last look.
        boot: the boot of the last look.
        behind: how far the wall clock lay behind A when A came, seconds; 0 if it did not.
        ahead: how far it lay ahead of A then; likewise.
    """

    answered: int
    run: int
    highest: int
    doubt: int
    running: int
    boot: str
    behind: int = 0
    ahead: int = 0


def first(reading: Reading) -> Fold:
    """The fold of a first start: there is no signed time yet, so wall time stands for A and H."""
    return Fold(reading.wall, 0, reading.wall, 0, reading.running, reading.boot)


def observe(fold: Fold, reading: Reading) -> Fold:
    """The fold after another look: adds the time that ran since the last one.

    After a new boot that is the time since that boot; what ran before it and was not saved is lost. Time that
    ran up to a look in doubt counts as doubt as a whole, since nobody looked in between.
    """
    before = fold.running if reading.boot == fold.boot else 0
    elapsed = max(0, reading.running - before)
    seen = fold._replace(
        run=fold.run + elapsed,
        highest=max(fold.highest, reading.wall),
        running=reading.running,
        boot=reading.boot,
    )
    return seen._replace(doubt=fold.doubt + elapsed) if doubtful(seen, reading.wall) else seen


def doubtful(fold: Fold, wall: int) -> bool:
    """Whether wall time lies more than an hour before what has been seen."""
    return wall < max(fold.answered + fold.run, fold.highest) - CLOCK_TOLERANCE


def newly_doubtful(fold: Fold, wall: int) -> bool:
    """Whether the time is doubtful by what befell the clock since the last signed answer.

    A clock that was wrong when that answer came, and is wrong by no more than an hour beyond that, is not put right by
    another one; nor is one that lies an hour behind and is now a second within the limit and now beyond it.
    """
    return wall < max(fold.answered + fold.run, fold.highest) - fold.behind - CLOCK_TOLERANCE


def now(fold: Fold, wall: int) -> int:
    """The time that counts; `fold` has observed the reading that `wall` is from."""
    signed = fold.answered + fold.run
    if fold.doubt >= DOUBT_LIMIT and doubtful(fold, wall):
        return max(wall, signed, fold.highest)
    return max(wall, signed)


def answered(fold: Fold, iat: int, wall: int) -> Fold:
    """The fold after a fresh signed time: it answers this machine's own request, just now, by the clock at `wall`."""
    off = wall - iat
    return fold._replace(answered=iat, run=0, highest=iat, doubt=0, behind=max(0, -off), ahead=max(0, off))


def ahead(fold: Fold, wall: int) -> int:
    """How far the wall clock lies ahead of signed time, seconds, if that is known; 0 if it is not, or at most an hour.

    It is known of the moment of the last signed answer, and holds as long as the clock was not set back since. Time in
    which the machine was off is no running time: that the clock went on by itself proves nothing.
    """
    beyond = wall - (fold.answered + fold.run)
    known = fold.ahead > CLOCK_TOLERANCE and beyond >= fold.ahead - CLOCK_TOLERANCE
    return beyond if known else 0


def signed(fold: Fold, iat: int) -> Fold:
    """The fold after any other time signed by root, issuer or status key: L is at least that."""
    return fold._replace(run=max(fold.run, iat - fold.answered))


def due_for_saving(saved: Fold, seen: Fold) -> bool:
    """Whether so much time ran since `saved` that it must be written down."""
    return seen.boot != saved.boot or seen.running - saved.running >= RUNNING_SAVE
