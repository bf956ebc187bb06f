"""What `run` does next, and when it tries again (M4, K6's spreading, F17)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.publisher import EPOCH
from volact.client.lifecycle import Situation, standing
from volact.client.planning import Action, next_action, retry_after
from volact.protocol import machine
from volact.protocol.policy import DAY, HOUR, STATUS_CHECK_EVERY, Policy

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
    return next_action(found, policy, now, has_key=has_key, next_try=next_try, list_checked=list_checked)


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
        (EPOCH + 7 * DAY, "wait"),
        (EPOCH + 7 * DAY + 1, "activate"),
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
    assert retry_after(Policy(), 0, chance) == seconds


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(7199, 7200), (7200, 7200), (7201, 7201), (7 * DAY, 7 * DAY), (7 * DAY + 1, 7 * DAY)],
)
def test_a_server_s_wait_is_kept_up_to_the_renewal_interval(asked: int, seconds: int) -> None:
    assert retry_after(Policy(), asked, 0.5) == seconds


@given(st.floats(0, 1), st.integers(0, 100 * DAY))
def test_no_try_comes_sooner_than_the_spread_or_the_server_allows(chance: float, asked: int) -> None:
    found = retry_after(Policy(), asked, chance)
    assert 0.9 * 2 * HOUR <= found <= 7 * DAY
    assert found >= min(asked, 7 * DAY)
