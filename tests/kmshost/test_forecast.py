"""K15: who is expected to stay, the count of each day to come, the day of a loss, and when to warn of it."""

import random
from typing import Any

import pytest

from volact.kmshost import forecast
from volact.kmshost.forecast import FORESEEN_LOSS, HOLDS, LOST, SAFE, WILL_FALL, Alarm, Bucket, Lines, Outlook
from volact.protocol import policy
from volact.protocol.policy import Threshold
from world import DAY, NOW

HOUR = 3600
WEEK, TWO_HOURS = 7 * DAY, 2 * HOUR
PATIENCE = 7 * DAY + 21 * HOUR + 12 * 60
"""RULES' numbers: 7 d and 10 % of it, and twice 2 h and 10 % of these."""
TODAY = NOW // DAY
MACHINES, SERVERS = "machines", "servers"


# --- who is overdue ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("silent", "overdue"), [(PATIENCE - 1, False), (PATIENCE, False), (PATIENCE + 1, True)]
)
def test_a_machine_is_overdue_when_it_has_missed_its_renewal_and_two_tries(
    silent: int, overdue: bool
) -> None:
    last = NOW - silent
    assert (last < forecast.heard_since(NOW, 0, WEEK, TWO_HOURS)) is overdue


def test_the_longest_wait_that_k6_allows_is_never_overdue() -> None:
    """A machine that renews as late as its spread allows, and whose first answer is lost, calls in time."""
    latest = WEEK * 110 // 100 + TWO_HOURS * 110 // 100
    assert NOW - latest >= forecast.heard_since(NOW, 0, WEEK, TWO_HOURS)


@pytest.mark.parametrize(
    ("listening", "anybody"),
    [(4 * HOUR + 24 * 60 - 1, False), (4 * HOUR + 24 * 60, False), (4 * HOUR + 24 * 60 + 1, True)],
)
def test_nobody_is_overdue_before_the_host_has_listened_for_two_tries(listening: int, anybody: bool) -> None:
    """After an outage of the host itself of a month nobody has called, and nobody has left."""
    assert (forecast.heard_since(NOW, NOW - listening, WEEK, TWO_HOURS) > NOW - 30 * DAY) is anybody


def test_no_time_is_before_the_beginning_of_time() -> None:
    assert forecast.heard_since(5 * HOUR, 0, WEEK, TWO_HOURS) == 0


@pytest.mark.parametrize(("renewal", "retry"), [(900, 900), (5 * DAY, 3 * HOUR), (30 * DAY, 900)])
def test_the_intervals_that_machines_are_told_decide(renewal: int, retry: int) -> None:
    longest = renewal + renewal // 10 + (2 * retry + 2 * retry // 10)
    assert forecast.heard_since(NOW, 0, renewal, retry) == NOW - longest


# --- lines ------------------------------------------------------------------------------------------------------


def bucket(ends: int, machines: int = 1, *, stays: bool = False, **more: Any) -> Bucket:
    members = {"server_ends": None, "server_stays": False, **more}
    return Bucket(TODAY + ends, stays, members["server_ends"], members["server_stays"], machines)


def test_nothing_is_counted_of_nothing() -> None:
    assert forecast.lines([], TODAY, 2, MACHINES) == Lines(0, 0, (0, 0, 0), (0, 0, 0))


def test_the_certain_line_falls_on_the_day_of_each_end_and_the_expected_with_the_overdue_alone() -> None:
    buckets = [bucket(0, 1), bucket(1, 2), bucket(1, 4, stays=True), bucket(3, 8), bucket(30, 16, stays=True)]
    found = forecast.lines(buckets, TODAY, 3, MACHINES)
    assert found == Lines(31, 11, (30, 24, 24, 16), (30, 28, 28, 20))


def test_ends_beyond_the_days_asked_for_are_none_of_the_lines_business() -> None:
    assert forecast.lines([bucket(3), bucket(4)], TODAY, 2, MACHINES) == Lines(2, 2, (2, 2, 2), (2, 2, 2))


def test_servers_have_lines_of_their_own() -> None:
    """K1: a machine is a server as long as one of its records for a server product counts."""
    both = bucket(5, stays=True, server_ends=TODAY + 1)
    server = bucket(2, server_ends=TODAY + 2, server_stays=True)
    buckets = [both, server, bucket(9)]
    assert forecast.lines(buckets, TODAY, 2, SERVERS) == Lines(2, 1, (2, 1, 0), (2, 1, 1))
    assert forecast.lines(buckets, TODAY, 2, MACHINES) == Lines(3, 2, (3, 3, 2), (3, 3, 2))


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_what_counting_each_machine_on_each_day_gives(seed: int) -> None:
    """Against a model that knows single machines and seconds, and no buckets."""
    chance = random.Random(seed)
    machines = [(NOW + chance.randrange(1, 40 * DAY), chance.random() < 0.5) for _ in range(200)]
    buckets = [bucket(ends // DAY - TODAY, stays=stays) for ends, stays in machines]
    found = forecast.lines(buckets, TODAY, 30, MACHINES)
    for day in range(31):
        last_second = (TODAY + day + 1) * DAY - 1
        assert found.certain[day] == sum(last_second < ends for ends, _ in machines)
        assert found.expected[day] == sum(stays or last_second < ends for ends, stays in machines)


@pytest.mark.parametrize(("minimum", "lost"), [(24, 2), (25, 2), (26, 0), (23, None), (22, None)])
def test_a_threshold_is_lost_on_the_first_day_that_ends_below_it(minimum: int, lost: int | None) -> None:
    line = (25, 25, 23, 23)
    assert forecast.lost_on(line, minimum, TODAY) == (None if lost is None else TODAY + lost)


# --- a product's future -----------------------------------------------------------------------------------------


def counts(machines: list[Bucket], days: int = 30) -> dict[str, Lines]:
    return {counted: forecast.lines(machines, TODAY, days, counted) for counted in (MACHINES, SERVERS)}


def test_a_product_is_lost_with_the_last_of_its_alternatives() -> None:
    """K1: a server product by 5 servers or 25 machines."""
    rules = policy.SERVER_THRESHOLDS
    servers = [bucket(9, 5, server_ends=TODAY + 9)]
    found = forecast.outlook(rules, counts([*servers, bucket(4, 20)]), TODAY)
    assert [(one.counted, one.minimum, one.now, one.expected) for one in found.prospects] == [
        ("servers", 5, 5, TODAY + 9),
        ("machines", 25, 25, TODAY + 4),
    ]
    assert (found.enough, found.certain, found.expected) == (True, TODAY + 9, TODAY + 9)
    stays = forecast.outlook(rules, counts([*servers, bucket(4, 25, stays=True)]), TODAY)
    assert (stays.enough, stays.certain, stays.expected) == (True, TODAY + 9, None)


@pytest.mark.parametrize(("machines", "enough"), [(24, False), (25, True), (26, True)])
def test_what_is_not_reached_is_lost_today(machines: int, enough: bool) -> None:
    found = forecast.outlook([Threshold(MACHINES, 25)], counts([bucket(40, machines, stays=True)]), TODAY)
    assert found.enough is enough
    assert found.expected == (None if enough else TODAY)


# --- warning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("enough", "expected", "verdict"),
    [
        (True, None, SAFE),
        (True, 15, SAFE),
        (True, 14, FORESEEN_LOSS),
        (True, 13, FORESEEN_LOSS),
        (True, 0, FORESEEN_LOSS),
        (False, 0, LOST),
    ],
)
def test_a_loss_is_near_from_14_days_before_it(enough: bool, expected: int | None, verdict: str) -> None:
    day = None if expected is None else TODAY + expected
    assert forecast.verdict(Outlook(enough, TODAY, day, ()), TODAY) == verdict


def told(*story: tuple[int, str]) -> list[tuple[int, str]]:
    """What is told, and when, of verdicts at times."""
    alarm, found = Alarm(), []
    for at, seen in story:
        alarm, result = forecast.watch(alarm, seen, NOW + at)
        if result:
            found.append((at, result))
    return found


def test_a_foreseen_loss_is_told_once() -> None:
    assert told((0, SAFE), (1, FORESEEN_LOSS), (2, FORESEEN_LOSS), (40 * DAY, FORESEEN_LOSS)) == [
        (1, WILL_FALL)
    ]


@pytest.mark.parametrize(("calm", "again"), [(DAY - 1, False), (DAY, True), (DAY + 1, True)])
def test_it_is_told_again_only_after_a_day_without(calm: int, again: bool) -> None:
    found = told((0, FORESEEN_LOSS), (10, SAFE), (10 + calm, SAFE), (20 + calm, FORESEEN_LOSS))
    assert found == [(0, WILL_FALL)] + ([(10 + calm, HOLDS), (20 + calm, WILL_FALL)] if again else [])


def test_a_day_without_begins_anew_with_each_sight_of_it() -> None:
    assert told((0, FORESEEN_LOSS), (1, SAFE), (DAY, FORESEEN_LOSS), (DAY + 1, SAFE), (2 * DAY, SAFE)) == [
        (0, WILL_FALL)
    ]


def test_a_loss_that_has_happened_neither_warns_nor_calms() -> None:
    """K8: below the threshold every refusal says so; when two machines have joined for a day, all is well."""
    assert told((0, LOST), (DAY, LOST)) == []
    found = told((0, FORESEEN_LOSS), (1, LOST), (5 * DAY, LOST), (6 * DAY, SAFE), (7 * DAY, SAFE))
    assert found == [(0, WILL_FALL), (7 * DAY, HOLDS)]


def test_a_clock_that_goes_back_begins_the_calm_day_anew() -> None:
    found = told((0, FORESEEN_LOSS), (5 * DAY, SAFE), (0, SAFE), (DAY - 1, SAFE), (DAY, SAFE))
    assert found == [(0, WILL_FALL), (DAY, HOLDS)]
