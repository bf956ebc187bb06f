"""Decides one activation. Pure: the records as the transaction read them and `now` in, what to write out.

Invariants:

- M1: a new row is granted only while `used` < `bought`; every other grant counts nothing.
- M2: the same machine again is the same activation. Rebuilt hardware is taken over 6 times in 365 days (policy
  `rebuilds_per_year`), the seventh is `reactivated-too-often` until the oldest is 365 days old.
- M9: an activation moves to changed hardware once in 365 days (`moves_per_year`), then `moved-too-often`.
- M5: a blocked activation grants nothing more, whoever asks: itself, its rebuilt machine, or a repeated request.
- A recorded answer is given again, to the letter, while its activation stands and to the same content only.
- Rows never merge; a row belongs to one CMID, the one it was last granted to.
- PROTOCOL section 5, by the table's numbers: 1 same, 2 moved, 5 `identity-cloned`, 6 and 7 taken over,
  8 new, 14 `machine-blocked`. (Row 3 is the client's: it comes back with a new key.)
- M6, PROTOCOL section 7: only the CMID that holds a row returns it, naming the row's newest confirmation; after a
  takeover that is the new CMID (row 6). A machine (its CMID, or its hardware as row 6 knows it) returns once in 90
  days under one key, nobody within 90 days of a takeover, and a key has at most max(2, 10 % of N) in 365 days.
- After a return the row grants nothing more: its old requests are `activation-returned` for ever, its receipt is
  given again for ever, and the machine is as new: it is counted when it activates again (row 13).
- A blocked activation is not returned, for that would make the block void; nor is one of a key blocked with ``all``.

Precedence, first to last: `request-id-reused`; for a recorded request `machine-blocked`, `key-blocked` (mode all)
or the answer again; `key-blocked`, `machine-not-entitled` (`orders`); on an own row `machine-blocked`,
`identity-cloned`, `moved-too-often`; on a recognised row `machine-blocked`, `reactivated-too-often`;
`no-activations-left`. For a return: `request-id-reused` or the receipt again; `key-blocked` (mode all);
`activation-returned` or `nothing-to-return`; `machine-blocked`, `identity-cloned`, `confirmation-superseded`,
`taken-over-recently`, `returned-too-soon`, `returns-used-up`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.authority import orders
from volact.protocol import machine
from volact.protocol.policy import FEWEST_RETURNS, REBUILD_WINDOW, RETURN_PAUSE, RETURNED_BY_FILE
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volact.authority.orders import Order
    from volact.protocol.policy import Policy

SAME, MOVED, TAKEN_OVER, NEW = "same", "moved", "taken over", "new"
RETURNED = "returned"
"""In the place of a block: the row was given back."""


class Row(NamedTuple):
    """An activation.

    Attributes:
        act: its id; empty for one that is still to be made.
        cmid: the machine it was last granted to.
        fp: that machine's vector at the last grant.
        granted: when that was.
        moves: when it moved to changed hardware, within the window.
        takeovers: when rebuilt hardware took it over, within the window.
        blocked: ``""``, ``all`` or ``returned``.
    """

    act: str
    cmid: str
    fp: Mapping[str, str]
    granted: int
    moves: tuple[int, ...] = ()
    takeovers: tuple[int, ...] = ()
    blocked: str = orders.OPEN


class Ask(NamedTuple):
    """A verified request to activate: its id, the digest of its content, who asks, its vector, where from."""

    req: str
    digest: str
    cmid: str
    fp: Mapping[str, str]
    source: str


class Recorded(NamedTuple):
    """An answer that was given before.

    Attributes:
        digest: of what was asked.
        blocked: how its activation is blocked now, or that it was returned.
        receipt: whether the answer is a return's.
    """

    digest: str
    blocked: str
    receipt: bool = False


class Again(NamedTuple):
    """The recorded answer is to be given again."""


class Grant(NamedTuple):
    """A confirmation is to be given.

    Attributes:
        how: ``same``, ``moved``, ``taken over`` or ``new``; only ``new`` is counted.
        row: the row as it is to be from now on.
    """

    how: str
    row: Row


def repeat(recorded: Recorded, digest: str, key_blocked: str) -> Again | Refusal:
    """What becomes of a request whose id is recorded already; the same for machines and hosts."""
    if recorded.digest != digest:
        return Refusal("request-id-reused")
    if recorded.receipt:
        return Again()
    if recorded.blocked == RETURNED:
        return Refusal("activation-returned")
    if recorded.blocked:
        return Refusal("machine-blocked")
    if key_blocked == orders.BLOCKED_ALL:
        return Refusal("key-blocked")
    return Again()


def decide(
    ask: Ask,
    order: Order,
    policy: Policy,
    *,
    own: Row | None,
    similar: Sequence[Row],
    listed: bool,
    now: int,
) -> Grant | Refusal:
    """Decide on a request that is not recorded yet.

    `own` is the key's row of the asking CMID; `similar` are the key's rows that share a search token with its
    vector, asked only if there is no own row; `listed`: its CMID is on the key's list of machines.
    """
    refusal = orders.check_blocked(order) or orders.check_entitled(order, ask.source, listed=listed)
    if refusal:
        return refusal
    if own:
        return _own(ask, own, policy, now)
    known = machine.recognise(
        ask.fp, [machine.Candidate(place, row.fp, row.granted) for place, row in enumerate(similar)]
    )
    if known:
        return _rebuilt(ask, similar[known.row], policy, now)
    if order.remaining < 1:
        return orders.none_left(order)
    return Grant(NEW, Row("", ask.cmid, ask.fp, now))


def _own(ask: Ask, row: Row, policy: Policy, now: int) -> Grant | Refusal:
    if row.blocked:
        return Refusal("machine-blocked")
    verdict = machine.own_key(row.fp, ask.fp)
    if verdict == machine.FOREIGN:
        return _cloned()
    if verdict == machine.NO_VERDICT:
        # Nothing in common to compare: the key has proved the machine, the known vector stays.
        return Grant(SAME, row._replace(granted=now))
    if verdict == machine.SAME:
        return Grant(SAME, row._replace(fp=ask.fp, granted=now))
    moves = within_window(row.moves, now)
    if len(moves) >= policy.moves_per_year:
        return Refusal("moved-too-often", "", _retry_after(moves, policy.moves_per_year, now))
    return Grant(MOVED, row._replace(fp=ask.fp, granted=now, moves=(*moves, now)))


def _cloned() -> Refusal:
    detail = "The hardware is not that of the machine that was activated under this identity."
    return Refusal("identity-cloned", detail)


def _rebuilt(ask: Ask, row: Row, policy: Policy, now: int) -> Grant | Refusal:
    if row.blocked:
        return Refusal("machine-blocked")
    takeovers = within_window(row.takeovers, now)
    if len(takeovers) >= policy.rebuilds_per_year:
        return Refusal("reactivated-too-often", "", _retry_after(takeovers, policy.rebuilds_per_year, now))
    return Grant(TAKEN_OVER, row._replace(cmid=ask.cmid, fp=ask.fp, granted=now, takeovers=(*takeovers, now)))


def within_window(times: Sequence[int], now: int) -> tuple[int, ...]:
    """Those that still count: a rebuild or move counts for 365 days and is gone at that very second (M2)."""
    return tuple(time for time in times if now - time < REBUILD_WINDOW)


def _retry_after(times: Sequence[int], most: int, now: int) -> tuple[tuple[str, int], ...]:
    """Until so many have fallen out of the window that one more fits; nothing if a policy allows none at all."""
    if most == 0:
        return ()
    falls_out = sorted(times)[len(times) - most]
    return (("retry_after", falls_out + REBUILD_WINDOW - now),)


# --- returns (M6) -----------------------------------------------------------------------------------------------


class Former(NamedTuple):
    """An activation that was returned: whose it was, on what hardware, and when it was given back."""

    cmid: str
    fp: Mapping[str, str]
    at: int


class Holding(NamedTuple):
    """What a return is decided on, beside the ask and the key.

    Attributes:
        own: the row of the asking CMID; None if it holds none.
        returned: whether the asking CMID has ever returned an activation of this key.
        newest: ids of the row's newest confirmation (of several, if they were signed in one second).
        earlier: the key's returns within 90 days by this CMID, or whose hardware may be this one's.
        crowding: when the return of this key was made that is the `most_returns`-th newest; None if there are fewer.
    """

    own: Row | None
    returned: bool
    newest: Sequence[str]
    earlier: Sequence[Former]
    crowding: int | None


class Return(NamedTuple):
    """A receipt is to be given: for which row, and when its seat is free again."""

    row: Row
    frees: int


def most_returns(bought: int, policy: Policy) -> int:
    """How many returns a key has in 365 days: a percentage of what was bought, rounded down, and at least 2."""
    return max(FEWEST_RETURNS, bought * policy.returns_per_year // 100)


def decide_return(
    ask: Ask, ref: str, order: Order, holding: Holding, *, by_file: bool, now: int
) -> Return | Refusal:
    """Decide on a return that is not recorded yet; `ref` is the confirmation that it names."""
    if order.blocked == orders.BLOCKED_ALL:
        return Refusal("key-blocked")
    row = holding.own
    if row is None:
        return Refusal("activation-returned" if holding.returned else "nothing-to-return")
    if row.blocked:
        return Refusal("machine-blocked")
    if machine.own_key(row.fp, ask.fp) == machine.FOREIGN:
        return _cloned()
    if ref not in holding.newest:
        return Refusal("confirmation-superseded")
    return _too_early(row, holding, now) or Return(row, now + RETURNED_BY_FILE if by_file else now)


def _too_early(row: Row, holding: Holding, now: int) -> Refusal | None:
    """The limits in time."""
    before = [one.at for one in holding.earlier if _is_same_machine(one, row)]
    for code, since, length in (
        ("taken-over-recently", max(row.takeovers, default=None), RETURN_PAUSE),
        ("returned-too-soon", max(before, default=None), RETURN_PAUSE),
        ("returns-used-up", holding.crowding, REBUILD_WINDOW),
    ):
        if since is not None and now - since < length:
            return Refusal(code, "", (("retry_after", since + length - now),))
    return None


def _is_same_machine(former: Former, row: Row) -> bool:
    """Whether who returned before has the row now: by the identity, or by the hardware, seen well enough.

    The hardware as the row has it: what a request says of itself could be left out.
    """
    if former.cmid == row.cmid:
        return True
    return machine.recognise(row.fp, [machine.Candidate(0, former.fp, former.at)]) is not None
