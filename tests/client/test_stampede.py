"""100,000 clients after an outage (K6, T21, F37): the planning functions alone, by the second.

Each client here is a moment and a place in the spread; what it does next is what `planning` says, as `noting` and
`running` ask it. The host is a capacity. Nothing of what a client may do is decided here.
"""

import random
from collections import Counter

import pytest

from client.publisher import EPOCH
from volact.client import planning
from volact.client.lifecycle import Situation, standing
from volact.client.planning import HOST, PLACES, Asking, Intervals, drawn, retry_after
from volact.protocol.policy import DAY, HOUR, Policy

CLIENTS = 100_000
MINUTE = 60
USUAL = Intervals(7 * DAY, 2 * HOUR)
MEAN = CLIENTS / (2 * HOUR / MINUTE)  # 833 a minute, 14 a second
MOST = 1.5 * MEAN
DRAWS = random.Random(21)


def wait_of_one() -> int:
    """How long a client waits after each failure: it keeps its place while its tries fail (`noting.failed`)."""
    return retry_after(USUAL, 0, drawn(DRAWS.random()) / PLACES)


@pytest.mark.parametrize("together", [True, False], ids=["all-at-one-second", "over-two-hours"])
def test_after_a_day_without_a_host_no_minute_sees_more_than_one_and_a_half_times_the_mean(
    together: bool,
) -> None:
    """T21: also if all had failed in the same second, which a spread drawn anew each time would still show."""
    minutes: Counter[int] = Counter()
    for _ in range(CLIENTS):
        failed, wait = 0 if together else DRAWS.randrange(2 * HOUR), wait_of_one()
        assert 6480 <= wait <= 7920, "nobody tries earlier, or later, than told"
        first = failed + -(-(DAY - failed) // wait) * wait  # the first try that finds the host again
        minutes[first // MINUTE] += 1
    assert sum(minutes.values()) == CLIENTS
    assert min(minutes) >= DAY // MINUTE
    assert max(minutes.values()) <= MOST
    assert max(minutes) <= (DAY + 7920) // MINUTE


@pytest.mark.parametrize(("asked", "all_by"), [(0, 7920), (600, 7920), (2 * HOUR, 8640)])
def test_a_host_that_sheds_most_of_them_has_served_all_within_2_h_24_min(asked: int, all_by: int) -> None:
    """F37: all come at once; it serves 150 a second, and tells the rest when to come again."""
    capacity, served_by = 150, 0
    load: Counter[int] = Counter()
    for number in range(CLIENTS):
        if number < capacity * MINUTE:
            continue  # in the first minute
        wait = retry_after(USUAL, asked, drawn(DRAWS.random()) / PLACES)
        assert wait >= max(asked, 6480), "nobody tries more often than told"
        load[wait] += 1
    late = 0
    for second in range(max(load) + 1):
        late = max(0, late + load[second] - capacity)
        served_by = second
    assert late == 0, "nobody is sent away a second time"
    assert served_by <= all_by <= 2 * HOUR + 24 * MINUTE


def test_a_fleet_whose_power_comes_back_after_a_week_is_no_storm() -> None:
    """All are licensed and all are overdue; those in need would try at once, and there is none among them."""
    now = EPOCH + 8 * DAY
    licensed = standing(
        Situation(EPOCH, granted=True, lease_from=EPOCH, lease_end=EPOCH + 180 * DAY), Policy(), now
    )
    minutes: Counter[int] = Counter()
    for _ in range(CLIENTS):
        asks = Asking(HOST, USUAL, EPOCH + DRAWS.randrange(int(6.3 * DAY), int(7.7 * DAY)), "", EPOCH)
        held = planning.held_back(licensed, now, asks, DRAWS.random())
        assert 0 <= held <= 2 * HOUR
        minutes[held // MINUTE] += 1
    assert max(minutes.values()) <= MOST
