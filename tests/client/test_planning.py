"""What `run` does next, and when it tries again (M4, K6's spreading, F17)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.publisher import EPOCH
from volact.client.lifecycle import Situation, standing
from volact.client.planning import (
    HOST,
    KEY,
    NOBODY,
    Action,
    Asking,
    Intervals,
    Rest,
    Surface,
    bounded,
    held_back,
    is_another,
    may_wake,
    next_action,
    renew_after,
    retry_after,
    spread,
)
from volact.protocol import machine
from volact.protocol.policy import DAY, HOUR, STATUS_CHECK_EVERY, Policy

USUAL = Intervals(7 * DAY, 2 * HOUR)
GRANTED = Situation(started=EPOCH, granted=True)


def planned(
    situation: Situation,
    *,
    after: int = 0,
    has_key: bool = True,
    next_try: int | None = None,
    list_checked: int | None = None,
    policy: Policy | None = None,
) -> Action:
    policy = policy or Policy()
    now = EPOCH + after
    found = standing(situation, policy, now)
    asking = Asking(KEY if has_key else NOBODY, Intervals(policy.renewal, policy.retry), next_try)
    return next_action(found, policy, now, asking, list_checked=list_checked)


@pytest.mark.parametrize("after", [0, 31 * DAY])
@pytest.mark.parametrize(
    "situation", [Situation(started=EPOCH), GRANTED._replace(hardware=machine.CHANGED, changed=EPOCH)]
)
def test_what_is_not_activated_and_has_a_key_is_activated(situation: Situation, after: int) -> None:
    """In its grace and after it; M4: at first start, by itself."""
    assert planned(situation, after=after) == Action("activate")
    assert planned(situation, after=after, has_key=False) == Action("nothing")


@pytest.mark.parametrize(
    "situation",
    [
        GRANTED,
        GRANTED._replace(returned=True),
        GRANTED._replace(blocked=EPOCH),
        Situation(started=EPOCH, key_removed=True),
    ],
)
def test_nothing_is_done_about_what_stands_or_was_taken_away(situation: Situation) -> None:
    assert planned(situation) == Action("nothing")


@pytest.mark.parametrize(
    ("next_try", "action"),
    [
        (EPOCH - 1, "activate"),
        (EPOCH, "activate"),
        (EPOCH + 1, "wait"),
        (EPOCH + int(7.7 * DAY), "wait"),
        (EPOCH + int(7.7 * DAY) + 1, "activate"),
    ],
)
def test_the_next_try_is_waited_for_unless_a_wrong_clock_planned_it(next_try: int, action: str) -> None:
    found = planned(Situation(started=EPOCH), next_try=next_try)
    assert found == Action(action, next_try if action == "wait" else None)


@pytest.mark.parametrize(
    ("checked", "action"),
    [
        (None, "fetch-status"),
        (EPOCH - STATUS_CHECK_EVERY - 1, "fetch-status"),
        (EPOCH - STATUS_CHECK_EVERY, "fetch-status"),
        (EPOCH - STATUS_CHECK_EVERY + 1, "wait"),
        (EPOCH, "wait"),
        (EPOCH + 1, "fetch-status"),
    ],
)
def test_the_public_list_is_fetched_daily_if_the_policy_says_so(checked: int | None, action: str) -> None:
    found = planned(GRANTED, list_checked=checked, policy=Policy(status_check=True))
    assert found.name == action
    assert planned(GRANTED, list_checked=checked) == Action("nothing")


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 6480), (0.5, 7200), (1.0, 7920)])
def test_tries_are_spread_by_a_tenth(chance: float, seconds: int) -> None:
    assert retry_after(USUAL, 0, chance) == seconds


@pytest.mark.parametrize(
    ("asked", "chance", "seconds"),
    [
        (6479, 0.0, 6480),
        (6480, 0.0, 6480),
        (6481, 0.0, 6481),
        (7200, 0.0, 7200),
        (7200, 0.5, 7920),
        (7200, 1.0, 8640),  # F37's 2 h 24 min
        (6545, 0.5, 7200),
        (6546, 1.0, 7920),
        (6602, 1.0, 7923),
        (100, 1.0, 7920),
        (DAY, 1.0, DAY + 17280),
        (7 * DAY - 1, 0.0, 7 * DAY - 1),
        (7 * DAY, 0.0, 7 * DAY),
        (7 * DAY + 1, 0.0, 7 * DAY),
        (7 * DAY, 1.0, int(7.7 * DAY)),
        (100 * DAY, 1.0, int(7.7 * DAY)),
    ],
)
def test_a_server_s_wait_is_kept_up_to_the_renewal_interval_and_spread_upwards(
    asked: int, chance: float, seconds: int
) -> None:
    assert retry_after(USUAL, asked, chance) == seconds


@given(st.floats(0, 1), st.integers(0, 100 * DAY))
def test_no_try_comes_sooner_than_the_spread_or_the_server_allows(chance: float, asked: int) -> None:
    found = retry_after(USUAL, asked, chance)
    assert 0.9 * 2 * HOUR <= found <= 7.7 * DAY
    assert found >= min(asked, 7 * DAY)


# A KMS client (K6, K7)

LEASED = Situation(started=EPOCH, granted=True, lease_from=EPOCH, lease_end=EPOCH + 180 * DAY)


def due(
    situation: Situation,
    after: int,
    *,
    next_try: int | None,
    at_start: bool = False,
    woken: bool = False,
    **asking: Any,
) -> str:
    """What a KMS client does `after` seconds; the next try was planned for `next_try` seconds after EPOCH."""
    planned = None if next_try is None else EPOCH + next_try
    found = standing(situation, Policy(), EPOCH + after)
    asks = Asking(HOST, USUAL, planned, **asking)
    return next_action(
        found, Policy(), EPOCH + after, asks, list_checked=None, at_start=at_start, woken=woken
    ).name


@pytest.mark.parametrize(
    ("after", "action"), [(7 * DAY - 1, "wait"), (7 * DAY, "activate"), (7 * DAY + 1, "activate")]
)
def test_a_lease_is_renewed_when_its_renewal_is_due(after: int, action: str) -> None:
    assert due(LEASED, after, next_try=7 * DAY, heard=EPOCH) == action
    assert due(LEASED, after, next_try=7 * DAY, heard=EPOCH, at_start=True) == action, "a start is no reason"


@pytest.mark.parametrize(("after", "action"), [(2 * HOUR - 1, "wait"), (2 * HOUR, "activate")])
@pytest.mark.parametrize(
    "situation", [LEASED, Situation(started=EPOCH), Situation(started=EPOCH, key_removed=True)]
)
def test_a_failed_try_is_repeated_when_that_is_due(situation: Situation, after: int, action: str) -> None:
    assert due(situation, after, next_try=2 * HOUR, failed="count-insufficient") == action


def test_what_has_no_lease_is_tried_at_once_at_a_start_or_with_nothing_planned() -> None:
    fresh = Situation(started=EPOCH)
    assert due(fresh, 0, next_try=None) == "activate"
    assert due(fresh, 1, next_try=2 * HOUR, failed="count-insufficient", at_start=True) == "activate"
    assert due(LEASED, 0, next_try=None) == "activate"


def test_changed_hardware_and_a_clock_that_came_in_doubt_renew_at_once() -> None:
    """M9, PROTOCOL section 8; after a failure at the retry interval, as everything."""
    changed = LEASED._replace(hardware=machine.CHANGED, changed=EPOCH)
    for situation, doubtful in ((changed, False), (LEASED._replace(doubtful=True), True)):
        assert due(situation, 900, next_try=7 * DAY, heard=EPOCH, doubtful=doubtful) == "activate"
        assert due(situation, 1, next_try=7 * DAY, doubtful=doubtful) == "activate"
        failed = "count-insufficient"
        assert due(situation, 1, next_try=2 * HOUR, failed=failed, heard=EPOCH, doubtful=doubtful) == "wait"


@pytest.mark.parametrize(
    ("after", "action"), [(0, "wait"), (899, "wait"), (900, "activate"), (901, "activate")]
)
def test_a_clock_that_came_in_doubt_does_not_call_within_a_quarter_of_an_hour_of_a_grant(
    after: int, action: str
) -> None:
    doubt = LEASED._replace(doubtful=True)
    assert due(doubt, after, next_try=7 * DAY, heard=EPOCH, doubtful=True) == action


@pytest.mark.parametrize("way", [HOST, KEY, NOBODY])
@pytest.mark.parametrize("next_try", [None, EPOCH - 1])
def test_what_was_given_back_is_activated_by_hand_alone(way: str, next_try: int | None) -> None:
    """M6: a machine that was retired does not come back by itself, neither by its key nor by a KMS host."""
    found = standing(Situation(started=EPOCH, returned=True), Policy(), EPOCH)
    for at_start, woken in ((False, False), (True, False), (False, True)):
        done = next_action(
            found,
            Policy(),
            EPOCH,
            Asking(way, USUAL, next_try),
            list_checked=None,
            at_start=at_start,
            woken=woken,
        )
        assert done == Action("nothing")


@pytest.mark.parametrize("situation", [LEASED._replace(lease_end=EPOCH), LEASED._replace(blocked=EPOCH)])
@pytest.mark.parametrize(("after", "action"), [(2 * HOUR - 1, "wait"), (2 * HOUR, "activate")])
def test_a_lease_that_was_lost_before_its_renewal_is_renewed_at_once_and_not_in_a_row(
    situation: Situation, after: int, action: str
) -> None:
    """A client whose clock runs far ahead holds leases that have ended when they come."""
    assert due(situation, after, next_try=7 * DAY, heard=EPOCH) == action
    assert due(situation, after, next_try=7 * DAY) == "activate"


@pytest.mark.parametrize(("ahead", "action"), [(int(7.7 * DAY), "wait"), (int(7.7 * DAY) + 1, "activate")])
def test_a_renewal_that_a_wrong_clock_planned_is_made_now(ahead: int, action: str) -> None:
    """F17: 7 days and a tenth are the longest wait that is ever planned."""
    assert due(LEASED, 0, next_try=ahead, heard=EPOCH) == action


@pytest.mark.parametrize(
    ("failed", "action"),
    [
        ("host-unreachable", "activate"),
        ("host-untrusted", "activate"),
        ("host-not-found", "activate"),
        ("count-insufficient", "wait"),
        ("host-not-activated", "wait"),
        ("", "wait"),
    ],
)
def test_another_network_or_a_resume_tries_again_what_did_not_reach_the_host_and_needs_it(
    failed: str, action: str
) -> None:
    for situation, after in ((Situation(started=EPOCH), 1), (LEASED, 150 * DAY)):
        found = due(situation, after, next_try=after + HOUR, failed=failed, heard=EPOCH, woken=True)
        assert found == action
    for after in (1, 150 * DAY - 1):
        assert due(LEASED, after, next_try=after + HOUR, failed=failed, heard=EPOCH, woken=True) == "wait"


def test_a_key_that_waits_for_the_network_is_activated_when_it_is_there_also_over_a_lease() -> None:
    asks = Asking(KEY, USUAL, EPOCH + HOUR, "authority-unreachable")
    found = standing(LEASED, Policy(), EPOCH)
    assert next_action(found, Policy(), EPOCH, asks, list_checked=None, woken=True).name == "activate"


@pytest.mark.parametrize(("chance", "held"), [(0.0, 0), (0.5, HOUR), (1.0, 2 * HOUR)])
def test_what_became_due_while_the_machine_was_off_is_put_off_within_the_retry_interval(
    chance: float, held: int
) -> None:
    """K6: a building whose power comes back is no storm."""
    asks = Asking(HOST, USUAL, EPOCH, "", EPOCH - 7 * DAY)
    licensed = standing(LEASED, Policy(), EPOCH)
    assert held_back(licensed, EPOCH, asks, chance) == held
    assert held_back(licensed, EPOCH - 1, asks, chance) == 0, "not due yet"
    assert held_back(licensed, EPOCH, asks._replace(next_try=None), chance) == 0
    assert held_back(licensed, EPOCH, asks._replace(way=KEY), chance) == 0
    for situation, after in ((Situation(started=EPOCH), 0), (LEASED, 150 * DAY), (LEASED, 180 * DAY)):
        assert held_back(standing(situation, Policy(), EPOCH + after), EPOCH + after, asks, chance) == 0


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 544_320), (0.5, 604_800), (1.0, 665_280)])
def test_renewals_are_spread_by_a_tenth(chance: float, seconds: int) -> None:
    assert renew_after(USUAL, 180 * DAY, chance) == seconds
    assert spread(7 * DAY, chance) == seconds


@pytest.mark.parametrize(
    ("left", "seconds"), [(14 * DAY + 2, 7 * DAY), (14 * DAY, 7 * DAY), (14 * DAY - 2, 7 * DAY - 1)]
)
def test_a_lease_too_short_for_the_renewal_interval_is_renewed_at_half_of_it(left: int, seconds: int) -> None:
    assert renew_after(USUAL, left, 0.5) == seconds


@pytest.mark.parametrize(
    ("left", "seconds"), [(1, 900), (1799, 900), (1800, 900), (1801, 900), (1802, 901), (3600, 1800)]
)
@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_short_lease_is_not_renewed_within_a_quarter_of_an_hour(
    left: int, seconds: int, chance: float
) -> None:
    assert renew_after(USUAL, left, chance) == seconds


@pytest.mark.parametrize("left", [0, -1, -200 * DAY])
@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 6480), (0.5, 7200), (1.0, 7920)])
def test_after_a_lease_that_does_not_help_the_next_try_is_a_retry(
    left: int, chance: float, seconds: int
) -> None:
    """K6: of a clock that runs ahead of every lease's end."""
    assert renew_after(USUAL, left, chance) == seconds


@pytest.mark.parametrize("next_try", [6480, 7200, 7919, 7920])
def test_a_try_that_is_planned_after_a_lease_that_did_not_help_keeps_its_spread(next_try: int) -> None:
    ended = LEASED._replace(lease_end=EPOCH)
    assert due(ended, next_try - 1, next_try=next_try, heard=EPOCH) == "wait"
    assert due(ended, next_try, next_try=next_try, heard=EPOCH) == "activate"


@pytest.mark.parametrize(
    ("running", "over"), [(999, True), (1000, False), (1001, False), (8199, False), (8200, True), (0, True)]
)
def test_a_rest_lasts_its_length_of_running_time(running: int, over: bool) -> None:
    """Before its beginning the machine was off in between."""
    assert Rest(1000, 7200).is_over(running) is over


@pytest.mark.parametrize(
    ("told", "adopted"),
    [
        ((900, 900), (900, 900)),
        ((899, 900), (900, 900)),
        ((901, 900), (901, 900)),
        ((901, 901), (901, 901)),
        ((901, 902), (901, 901)),
        ((7 * DAY, 0), (7 * DAY, 900)),
        ((30 * DAY, 30 * DAY), (30 * DAY, 30 * DAY)),
        ((30 * DAY + 1, 2 * HOUR), (30 * DAY, 2 * HOUR)),
        ((30 * DAY - 1, 2 * HOUR), (30 * DAY - 1, 2 * HOUR)),
    ],
)
def test_a_host_s_intervals_are_adopted_within_fifteen_minutes_and_thirty_days(
    told: tuple[int, int], adopted: tuple[int, int]
) -> None:
    assert bounded(*told) == adopted


@pytest.mark.parametrize(
    ("running", "awake", "network", "another"),
    [
        (10.0, 10.0, b"net", False),
        (15.0, 10.0, b"net", False),
        (15.1, 10.0, b"net", True),
        (10.0, 10.0, b"other", True),
    ],
)
def test_a_suspend_shows_in_two_clocks_and_a_network_in_its_routes(
    running: float, awake: float, network: bytes, another: bool
) -> None:
    before = Surface(1000.0, 500.0, b"net")
    assert is_another(before, Surface(1000.0 + running, 500.0 + awake, network)) is another


@pytest.mark.parametrize(
    ("last", "may"), [(None, True), (1000.0, True), (1000.1, False), (941.0 + 60, False)]
)
def test_a_change_wakes_at_most_once_a_minute(last: float | None, may: bool) -> None:
    assert may_wake(last, 1060.0) is may


@pytest.mark.parametrize("way", [KEY, NOBODY])
@pytest.mark.parametrize("situation", [GRANTED, GRANTED._replace(hardware=machine.CHANGED, changed=EPOCH)])
@pytest.mark.parametrize(
    ("next_try", "failed", "moment", "action"),
    [
        (None, "", "", "return"),
        (EPOCH - 1, "busy", "", "return"),
        (EPOCH, "busy", "", "return"),
        (EPOCH + 1, "busy", "", "wait"),
        (EPOCH + int(7.7 * DAY), "busy", "", "wait"),
        (EPOCH + int(7.7 * DAY) + 1, "busy", "", "return"),
        (EPOCH + 1, "busy", "start", "return"),
        (EPOCH + 1, "busy", "woken", "wait"),
        (EPOCH + 1, "authority-unreachable", "woken", "return"),
        (EPOCH + 1, "authority-unreachable", "", "wait"),
    ],
)
def test_a_return_that_waits_comes_before_all_else_when_its_time_has_come(
    way: str, situation: Situation, next_try: int | None, failed: str, moment: str, action: str
) -> None:
    """M6: the authority may have given the seat to another machine."""
    found = standing(situation, Policy(), EPOCH)
    asks = Asking(way, USUAL, next_try, failed, returning=True)
    done = next_action(
        found, Policy(), EPOCH, asks, list_checked=EPOCH, at_start=moment == "start", woken=moment == "woken"
    )
    assert done == Action(action, next_try if action == "wait" else None)


def test_while_a_return_waits_the_daily_list_is_fetched() -> None:
    found, policy = standing(GRANTED, Policy(), EPOCH), Policy(status_check=True)
    asks = Asking(KEY, USUAL, EPOCH + 1, "busy", returning=True)
    assert next_action(found, policy, EPOCH, asks, list_checked=None) == Action("fetch-status")
