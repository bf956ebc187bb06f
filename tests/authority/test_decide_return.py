"""The decision on a return, at value-1, value and value+1 of each limit (M6, PROTOCOL section 7, G5)."""

import pytest

from volact.authority import activation, orders
from volact.authority.activation import Ask, Former, Holding, Recorded, Return, Row
from volact.authority.orders import Order
from volact.protocol import policy
from volact.protocol.problems import Refusal
from world import DAY, NOW, Machine, facts

YEAR = 365 * DAY
MACHINE = Machine("P" * 43)
FP = MACHINE.fp()
ORDER = Order(1, "K" * 43, "mak", "M0001", 1, "c", 10, 3)
ROW = Row("A" * 22, MACHINE.cmid, FP, NOW - 200 * DAY)
ASK = Ask("R" * 22, "d", MACHINE.cmid, FP, "192.0.2.1")
REF = "C" * 22
HOLDING = Holding(ROW, False, (REF,), (), None)


def decide(holding: Holding = HOLDING, ref: str = REF, order: Order = ORDER, ask: Ask = ASK) -> object:
    """The refusal's code, with its retry_after; or what is granted."""
    done = activation.decide_return(ask, ref, order, holding, by_file=False, now=NOW)
    if isinstance(done, Return):
        assert done == (holding.own, NOW)
        return "returned"
    assert isinstance(done, Refusal)
    return (done.code, dict(done.extra)["retry_after"]) if done.extra else done.code


def test_the_seat_is_free_at_once_or_after_30_days() -> None:
    for by_file, frees in ((False, NOW), (True, NOW + 30 * DAY)):
        done = activation.decide_return(ASK, REF, ORDER, HOLDING, by_file=by_file, now=NOW)
        assert done == Return(ROW, frees)


@pytest.mark.parametrize(("ago", "refused"), [(90 * DAY - 1, True), (90 * DAY, False), (90 * DAY + 1, False)])
def test_90_days_after_a_takeover(ago: int, refused: bool) -> None:
    row = ROW._replace(takeovers=(NOW - 300 * DAY, NOW - ago), moves=(NOW - 1,))
    wanted = ("taken-over-recently", 1) if refused else "returned"
    assert decide(HOLDING._replace(own=row)) == wanted


@pytest.mark.parametrize(("ago", "refused"), [(90 * DAY - 1, True), (90 * DAY, False), (90 * DAY + 1, False)])
@pytest.mark.parametrize("who", ["cmid", "hardware", "thin", "other"])
def test_90_days_after_the_machine_s_last_return(ago: int, refused: bool, who: str) -> None:
    """The same machine: by its identity, or by its hardware if enough of it is seen (row 6)."""
    thin = {name: FP[name] for name in ("os", "net", "cpu")}
    former = {
        "cmid": Former(MACHINE.cmid, {}, NOW - ago),
        "hardware": Former("X" * 43, {**FP, "os": "A" * 11}, NOW - ago),
        "thin": Former("X" * 43, thin, NOW - ago),
        "other": Former("X" * 43, Machine("P" * 43, parts=facts()).fp(), NOW - ago),
    }[who]
    counts = refused and who in ("cmid", "hardware")
    wanted = ("returned-too-soon", 1) if counts else "returned"
    old = Former(MACHINE.cmid, FP, NOW - 95 * DAY)
    assert decide(HOLDING._replace(earlier=(former, old))) == wanted


@pytest.mark.parametrize(("ago", "refused"), [(YEAR - 1, True), (YEAR, False), (YEAR + 1, False)])
def test_365_days_for_the_key_s_returns(ago: int, refused: bool) -> None:
    wanted = ("returns-used-up", 1) if refused else "returned"
    assert decide(HOLDING._replace(crowding=NOW - ago)) == wanted


@pytest.mark.parametrize(
    ("bought", "percent", "most"),
    [(1, 10, 2), (2, 10, 2), (19, 10, 2), (20, 10, 2), (29, 10, 2), (30, 10, 3), (31, 10, 3), (39, 10, 3),
     (1_000_000, 10, 100_000), (100, 0, 2), (100, 1, 2), (100, 2, 2), (100, 3, 3), (8, 1000, 80)],
)  # fmt: skip
def test_10_per_cent_of_n_and_at_least_2(bought: int, percent: int, most: int) -> None:
    rules = policy.Policy(returns_per_year=percent)
    assert activation.most_returns(bought, rules) == most
    if percent == 10:
        assert activation.most_returns(bought, policy.Policy()) == most


def test_who_holds_nothing() -> None:
    assert decide(HOLDING._replace(own=None)) == "nothing-to-return"
    assert decide(HOLDING._replace(own=None, returned=True)) == "activation-returned"


def test_blocks() -> None:
    """A key that is blocked for new activations leaves its old ones alone, also to be given back (M5)."""
    assert decide(order=ORDER._replace(blocked=orders.BLOCKED_NEW)) == "returned"
    assert decide(order=ORDER._replace(blocked=orders.BLOCKED_ALL)) == "key-blocked"
    assert decide(HOLDING._replace(own=ROW._replace(blocked="all"))) == "machine-blocked"


def test_the_order_of_the_refusals() -> None:
    """The module's precedence: each fault is named before all that come after it."""
    everything = Holding(
        ROW._replace(blocked="all", takeovers=(NOW,)), True, (), (Former(MACHINE.cmid, FP, NOW),), NOW
    )
    foreign = ASK._replace(fp=Machine("P" * 43, parts=facts()).fp())
    blocked = ORDER._replace(blocked=orders.BLOCKED_ALL)
    assert decide(everything._replace(own=None), order=blocked) == "key-blocked"
    assert decide(everything, ask=foreign) == "machine-blocked"
    free = everything._replace(own=ROW._replace(takeovers=(NOW,)))
    assert decide(free, ask=foreign) == "identity-cloned"
    assert decide(free) == "confirmation-superseded"
    named = free._replace(newest=(REF,))
    assert decide(named) == ("taken-over-recently", 90 * DAY)
    assert decide(named._replace(own=ROW)) == ("returned-too-soon", 90 * DAY)
    assert decide(named._replace(own=ROW, earlier=())) == ("returns-used-up", YEAR)


def test_any_of_several_newest_confirmations_is_named() -> None:
    """Several may have been signed within one second."""
    assert decide(HOLDING._replace(newest=("D" * 22, REF))) == "returned"
    assert decide(HOLDING._replace(newest=("D" * 22, "E" * 22))) == "confirmation-superseded"


@pytest.mark.parametrize("receipt", [True, False])
@pytest.mark.parametrize("key_blocked", ["", "new", "all"])
@pytest.mark.parametrize("blocked", ["", "all", "returned"])
def test_what_becomes_of_a_repeated_request(receipt: bool, key_blocked: str, blocked: str) -> None:
    """PROTOCOL 7: after a return or block the old request id is refused for ever; a receipt is given again."""
    done = activation.repeat(Recorded("d", blocked, receipt), "d", key_blocked)
    wanted: object = activation.Again()
    if not receipt and blocked:
        wanted = Refusal("activation-returned" if blocked == "returned" else "machine-blocked")
    elif not receipt and key_blocked == "all":
        wanted = Refusal("key-blocked")
    assert done == wanted
    assert activation.repeat(Recorded("d", blocked, receipt), "e", key_blocked) == Refusal(
        "request-id-reused"
    )
