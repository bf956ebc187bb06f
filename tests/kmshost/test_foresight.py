"""K15 with a real ledger: surveys, warnings that a restart does not repeat, and K8 foreseen day by day."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kmshost.site import HOUR, PRODUCT, SERVER, Machine, Numbers, Site, activated
from volact.kmshost import foresight, placing, surveys
from volact.kmshost import store as sql
from volact.kmshost.forecast import HOLDS, WILL_FALL, Bucket
from volact.kmshost.foresight import Foresight, Future
from volact.kmshost.terms import Intervals
from world import DAY, NOW

GROUP = "publisher"
NO_INTERVALS = Intervals()


def patience(numbers: Numbers) -> int:
    """After how long a silence a machine is overdue: its longest wait, and two tries more (K6)."""
    return numbers.renewal * 11 // 10 + 2 * numbers.retry * 11 // 10


def foresee(site: Site, since: int = 0, days: int = 30) -> Future:
    return foresight.foresee(site.store, site.keyring().products, NO_INTERVALS, site.clock.now(), since, days)


def look(site: Site, watcher: Foresight, since: int = 0) -> None:
    watcher.look(site.keyring(), NO_INTERVALS, site.clock.now(), since)


def told(site: Site, product: str = PRODUCT) -> list[sql.Event]:
    with site.store.reading() as tx:
        return sql.events(tx, event=12295, product=product)


# --- surveys ----------------------------------------------------------------------------------------------------


def test_a_survey_counts_each_machine_once_whatever_it_calls_for(site: Site) -> None:
    both, server, client = site.machines(3)
    site.call([both, client])
    site.clock.pass_(DAY)
    site.call([both, server], SERVER)
    now = site.clock.now()
    day = now // DAY
    lifetime = site.keyring().products[PRODUCT].policy.record_lifetime // DAY
    found = surveys.survey(site.store, now, {PRODUCT: now - HOUR, SERVER: now - HOUR})
    assert found == {
        GROUP: [
            Bucket(day - 1 + lifetime, False, None, False, 1),
            Bucket(day + lifetime, True, day + lifetime, True, 2),
        ]
    }


@pytest.mark.parametrize("page", [1, 2, 3, 7, 1000])
def test_a_survey_gives_the_same_whatever_its_pages_hold(site: Site, page: int) -> None:
    """Machines with several records lie on one page, and none is left out or seen twice."""
    chance = random.Random(4)
    machines = site.machines(20)
    for one in machines:
        site.clock.pass_(HOUR)
        for prd in chance.choice([[PRODUCT], [SERVER], [PRODUCT, SERVER]]):
            one.call(prd)
    now = site.clock.now()
    heard = {PRODUCT: now - 10 * HOUR, SERVER: now - 5 * HOUR}
    found = surveys.survey(site.store, now, heard, page)
    assert found == surveys.survey(site.store, now, heard)
    assert sum(one.machines for one in found[GROUP]) == 20
    rows = by_machine(site)
    expected = Counter(
        (
            max(expires for expires, _, _ in of_one) // DAY,
            any(last >= heard[prd] for _, last, prd in of_one),
            max((expires // DAY for expires, _, prd in of_one if prd == SERVER), default=None),
            any(last >= heard[prd] for _, last, prd in of_one if prd == SERVER),
        )
        for of_one in rows.values()
    )
    assert Counter({tuple(one)[:4]: one.machines for one in found[GROUP]}) == expected


def by_machine(site: Site) -> dict[str, list[tuple[int, int, str]]]:
    """The ledger as it is, without the survey's SQL."""
    found: dict[str, list[tuple[int, int, str]]] = {}
    with site.store.reading() as tx:
        for row in tx.exec_driver_sql("SELECT cmid, expires, last, prd FROM record"):
            found.setdefault(row[0], []).append((row[1], row[2], row[3]))
    return found


def test_who_counts_towards_nothing_is_no_part_of_the_future(
    make_site: Callable[..., Site], kind: str
) -> None:
    """K17: under a strong count only enrolled machines count."""
    site = make_site(strong_count=True)
    machines = site.machines(3)
    with site.store.writing() as tx:
        placing.enrol(tx, [machines[0].cmid], NOW, alone=True)
    site.call(machines)
    assert foresee(site).counts[GROUP, "machines"].now == 1


def test_an_empty_ledger_has_a_future(site: Site, numbers: Numbers) -> None:
    found = foresee(site)
    assert set(found.products) == {PRODUCT, SERVER}
    assert found.products[PRODUCT].enough is False
    assert found.counts[GROUP, "machines"].certain == (0,) * 31


@pytest.mark.parametrize("after", [-1, 0, 1])
def test_a_record_that_has_ended_is_not_counted(site: Site, numbers: Numbers, after: int) -> None:
    """K4 at its second."""
    site.machine().call()
    site.clock.pass_(numbers.lifetime + after)
    assert foresee(site).counts[GROUP, "machines"].now == (1 if after < 0 else 0)


@pytest.mark.parametrize("after", [-1, 0, 1])
def test_a_machine_is_overdue_by_the_intervals_that_it_was_told(
    site: Site, numbers: Numbers, after: int
) -> None:
    site.machine().call()
    site.clock.pass_(patience(numbers) + after)
    assert foresee(site).counts[GROUP, "machines"].overdue == (1 if after > 0 else 0)
    faster = foresight.foresee(
        site.store, site.keyring().products, Intervals(HOUR, HOUR), site.clock.now(), 0
    )
    assert faster.counts[GROUP, "machines"].overdue == 1
    after_an_outage = foresee(site, since=site.clock.now() - HOUR)
    assert after_an_outage.counts[GROUP, "machines"].overdue == 0


# --- K8, foreseen -----------------------------------------------------------------------------------------------


def renew(site: Site, machines: list[Machine]) -> None:
    site.call(machines)
    site.call(machines, state=1)


def test_k15_k8_two_leave_and_the_day_of_23_is_said_from_the_day_they_are_overdue(
    site: Site, numbers: Numbers
) -> None:
    machines = activated(site, numbers)
    gone = site.clock.now()
    lost = (gone + numbers.lifetime) // DAY
    overdue = gone + patience(numbers)
    fleet, watcher = machines[2:], Foresight(site.store)
    said: list[int] = []
    while site.clock.now() < gone + numbers.lifetime + 2 * DAY:
        if (site.clock.now() - gone) % (numbers.renewal - DAY) == 0:
            renew(site, fleet)
        now = site.clock.now()
        found = foresee(site).products[PRODUCT]
        if now < gone + numbers.lifetime:
            assert found.enough is True
            assert found.expected == (lost if now > overdue and lost <= now // DAY + 30 else None)
        else:
            assert (found.enough, found.expected) == (False, now // DAY)
        look(site, watcher)
        if len(told(site)) > len(said):
            said.append(now)
        site.clock.pass_(DAY)
    # Within two weeks of the loss, and not before they are overdue, once.
    (at,) = said
    (event,) = told(site)
    assert overdue < at
    assert lost - 14 <= at // DAY
    assert at <= max(overdue, (lost - 14) * DAY) + DAY
    assert (event.result, event.required, event.current) == (WILL_FALL, numbers.machines, numbers.machines)
    assert event.minutes == (lost * DAY - at) // 60


def test_the_numbers_of_rules_give_the_dates_of_rules(make_site: Callable[..., Site], kind: str) -> None:
    """25 machines; two call last on day 0; from day 7.9 on the host says that it falls on day 30, and on 16 it warns."""
    site = make_site()
    machines = site.machines(25)
    site.call(machines)
    start = site.clock.now()
    for day in (0, 7, 14, 21, 28):
        site.clock.pass_(start + day * DAY - site.clock.now())
        site.call(machines[2:] if day else machines)
    dates = {}
    for day in (29, 30):
        site.clock.pass_(start + day * DAY - site.clock.now())
        dates[day] = foresee(site)
    assert dates[29].counts[GROUP, "machines"].now == 25
    assert dates[29].products[PRODUCT].expected == (start + 30 * DAY) // DAY
    assert dates[30].counts[GROUP, "machines"].now == 23


# --- warnings ---------------------------------------------------------------------------------------------------


def near_loss(site: Site, numbers: Numbers) -> list[Machine]:
    """One machine of the threshold's number has left, and its record ends within two weeks."""
    machines = activated(site, numbers)
    silent = max(patience(numbers) + 1, numbers.lifetime - 14 * DAY)
    site.clock.pass_(silent)
    renew(site, machines[1:])
    return machines


def test_a_warning_is_an_event_and_a_line_once(site: Site, numbers: Numbers, capfd: Any) -> None:
    machines = near_loss(site, numbers)
    heard: list[sql.Event] = []
    watcher = Foresight(site.store, heard.append)
    for _ in range(3):
        look(site, watcher)
        site.clock.pass_(HOUR)
    assert [(one.result, one.product) for one in told(site)] == [(WILL_FALL, PRODUCT)]
    assert [one for one in heard if one.product == PRODUCT] == told(site)
    machines[0].call()
    look(site, watcher)
    site.clock.pass_(DAY - 1)
    look(site, watcher)
    assert len(told(site)) == 1
    site.clock.pass_(HOUR)
    look(site, watcher)
    assert [one.result for one in told(site)] == [WILL_FALL, HOLDS]


def test_neither_a_restart_nor_a_second_process_warns_again(site: Site, numbers: Numbers) -> None:
    near_loss(site, numbers)
    first, second = Foresight(site.store), Foresight(site.store)
    for watcher in (first, second):
        watcher.look(
            site.keyring(), NO_INTERVALS, site.clock.now() - 1, site.clock.now()
        )  # nobody is overdue yet
    site.clock.pass_(HOUR + 1)
    for watcher in (first, second, Foresight(site.store)):
        look(site, watcher)
    assert [one.result for one in told(site)] == [WILL_FALL]


def test_a_product_that_is_not_served_is_not_warned_of(site: Site, numbers: Numbers) -> None:
    near_loss(site, numbers)
    site.served = [SERVER]
    site.delegate()
    look(site, Foresight(site.store))
    assert told(site) == []


def test_it_surveys_once_a_minute_at_most_and_at_once_when_the_clock_went_back(site: Site) -> None:
    watcher = Foresight(site.store)
    seen = []
    for passed in (0, 59, 1, -5):
        site.clock.pass_(passed)
        look(site, watcher)
        assert watcher.latest
        seen.append(watcher.latest.now - NOW)
    assert seen == [0, 0, 60, 55]


def test_a_large_ledger_is_surveyed_once_an_hour(site: Site) -> None:
    """A survey that takes 4 s would take more than a thousandth of the time."""
    seconds = iter(range(0, 400, 4))
    watcher = Foresight(site.store, timer=lambda: next(seconds))
    look(site, watcher)
    for passed, at in ((HOUR - 1, 0), (1, HOUR)):
        site.clock.pass_(passed)
        look(site, watcher)
        assert watcher.latest
        assert watcher.latest.now == NOW + at


def test_a_host_without_products_has_nothing_to_warn_of(make_site: Callable[..., Site], kind: str) -> None:
    site = make_site(activated=False)
    watcher = Foresight(site.store)
    watcher.look(None, NO_INTERVALS, NOW, 0)
    assert watcher.latest == Future(NOW, {}, {})
