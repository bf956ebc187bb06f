"""What a security review found: each of these failed before it was mended."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from kmshost.site import (
    PRODUCT,
    SERVER,
    Numbers,
    Site,
    activated,
    granted,
    refused,
)
from world import DAY

HOUR = 3600


@pytest.fixture
def site(make_site: Callable[..., Site], numbers: Numbers) -> Site:
    return make_site(**numbers.client)


def test_memory_of_one_threshold_is_not_kept_fresh_by_another(make_site: Callable[..., Site]) -> None:
    """K4: two products of a group, record lifetimes shortened; nothing counts any more when the newcomer calls."""
    site = make_site(thresholds=[{"count": "machines", "minimum": 25}])
    small: dict[str, Any] = {"thresholds": [{"count": "machines", "minimum": 10}]}
    site.add_product("com.example.q", **small)
    machines = site.machines(12)
    site.call(machines, "com.example.q")
    short: dict[str, Any] = {"record_lifetime": HOUR, "renewal": HOUR // 2, "retry": HOUR // 4}
    large: dict[str, Any] = {"thresholds": [{"count": "machines", "minimum": 25}]}
    site.add_product(PRODUCT, ver=2, running=True, **large, **short)
    site.add_product("com.example.q", ver=2, running=True, **small, **short)
    site.clock.pass_(120)
    assert granted(site.call(machines, "com.example.q"))
    site.clock.pass_(2 * HOUR)
    assert site.counts() == (0, 0)
    assert refused("count-insufficient", [site.machine().call(PRODUCT)])
    assert refused("count-insufficient", [site.machine().call("com.example.q")])


def test_a_repetition_is_a_contact(site: Site, numbers: Numbers) -> None:
    """K4, K13: a lost answer is asked for again under a fresh nonce; the record lives on from there."""
    machines = activated(site, numbers)
    first = machines[0].call(req="R" * 22)
    before = {(row.outcome, row.state): row.n for row in site.rows("tally")}
    site.clock.pass_(numbers.lifetime - DAY)
    again = machines[0].call(req="R" * 22)
    assert again == first
    after = {(row.outcome, row.state): row.n for row in site.rows("tally")}
    assert after["ok", 2] == before["ok", 2] + 1
    assert site.reported[-1].cmid == machines[0].cmid
    site.clock.pass_(DAY)
    assert site.counts() == (1, 0)


def test_a_replay_is_none(site: Site, numbers: Numbers) -> None:
    """T14: captured bytes, sent again while their nonce is good, change nothing at all."""
    machine = activated(site, numbers)[0]
    body = machine.checkin()
    site.send(body)
    rows = site.rows("record"), site.rows("tally"), site.rows("event")
    site.clock.pass_(300)
    assert isinstance(site.send(body)[0], bytes)
    assert (site.rows("record"), site.rows("tally"), site.rows("event")) == rows


@pytest.mark.parametrize("name", ["a\x00b", "\x1b[31mred", "right\u202eleft"])
def test_a_name_cannot_break_a_batch_or_steer_a_terminal(site: Site, numbers: Numbers, name: str) -> None:
    machines = site.machines(numbers.machines)
    bodies = [one.checkin() for one in machines]
    bodies[1] = machines[1].checkin(name=name)
    assert granted(site.ask(*bodies)[-1:])
    named = [row.name for row in site.rows("record") if row.name is not None]
    assert len(named) == 1
    assert named[0].isprintable()


def day_by_day(site: Site, days: int) -> None:
    """The host runs on, and keeps house."""
    for _ in range(days):
        site.clock.pass_(DAY)
        site.host.expire()


def test_records_of_a_clock_that_was_ahead_do_not_count_for_months(site: Site, numbers: Numbers) -> None:
    """K4 after PROTOCOL section 8's wrong clock: once machines vouch for the right one, none lives on for months."""
    site.clock.time += 300 * DAY
    old = activated(site, numbers)
    site.clock.time -= 300 * DAY
    site.delegate()
    day_by_day(site, 2)
    assert site.counts() == (numbers.machines, 0), "they did call"
    site.call(site.machines(25))
    day_by_day(site, 1)
    site.clock.pass_(numbers.lifetime)
    assert site.counts() == (0, 0)
    assert refused("count-insufficient", [old[0].call()])


def test_a_clock_that_is_behind_for_days_shortens_no_record(site: Site, numbers: Numbers) -> None:
    """K4, K11: still inside the delegation, so nobody but the machines could tell, and none has called."""
    site.clock.pass_(60 * DAY)
    activated(site, numbers)
    site.clock.time -= 40 * DAY
    day_by_day(site, 3)
    site.clock.time += 40 * DAY
    day_by_day(site, 1)
    assert site.counts() == (numbers.machines, 0)


@pytest.mark.parametrize("called", [24, 25])
def test_machines_that_call_say_that_the_clock_is_behind(site: Site, numbers: Numbers, called: int) -> None:
    """Their dates lie 40 days ahead of the host's: it warns, and believes no date of its own."""
    site.clock.pass_(60 * DAY)
    activated(site, numbers)
    site.clock.time -= 40 * DAY
    site.call(site.machines(called), iat=site.clock.now() + 40 * DAY)
    assert bool(site.warned) is (called == 25)
    day_by_day(site, 3)
    site.clock.time += 40 * DAY
    day_by_day(site, 1)
    assert site.counts()[0] >= numbers.machines


@pytest.mark.parametrize("running", [True, False])
def test_a_product_that_moves_to_another_group_takes_its_machines_along(
    site: Site, numbers: Numbers, *, running: bool
) -> None:
    """K1, K2: both groups count what they have, at once and after a restart."""
    site.add_product("com.example.b", **numbers.client)
    few, many = site.machines(5), site.machines(numbers.machines)
    site.call(few)
    site.call(many, "com.example.b")
    moved = {**numbers.client, "count_group": "com.example.x"}
    site.add_product("com.example.b", ver=2, running=running, **moved)
    assert refused("count-insufficient", [few[0].call()])
    assert dict(few[1].call().extra)["count"] == 5
    assert granted([many[0].call("com.example.b")])


def test_machines_of_many_products_are_all_counted_when_some_move(make_site: Callable[..., Site]) -> None:
    products = ("com.example.b", "com.example.c")
    site = make_site()
    for prd in products:
        site.add_product(prd)
    machines = site.machines(30)
    for machine in machines:
        for prd in (PRODUCT, *products):
            machine.call(prd)
    site.clock.pass_(HOUR)
    for prd in products:
        site.add_product(prd, ver=2, count_group="com.example.x")
    assert granted([machines[29].call()])


@pytest.mark.parametrize("jump", [31 * DAY, 390 * DAY])
@pytest.mark.parametrize("stranger", [False, True])
def test_a_clock_that_jumps_ahead_for_a_while_deletes_nothing(
    site: Site, numbers: Numbers, jump: int, *, stranger: bool
) -> None:
    """K11: the count is there again when the clock is right, restarts and calls of that time notwithstanding."""
    activated(site, numbers)
    site.host.expire()
    site.clock.time += jump
    for _ in range(3):
        site.clock.pass_(HOUR)
        site.host.expire()
        if stranger:
            site.machine().call()
        site.restarted()
        site.host.expire()
    site.clock.time -= jump
    assert site.counts()[0] >= numbers.machines


def test_a_host_that_is_restarted_daily_and_was_off_for_weeks_deletes_in_the_end(
    site: Site, numbers: Numbers
) -> None:
    """A day of running time is rested in all, not in one go."""
    activated(site, numbers)
    site.host.expire()
    site.clock.time += numbers.lifetime + DAY
    for night in range(4):
        site.restarted()
        site.host.expire()
        assert bool(site.rows("record")) is (night < 3)
        site.clock.pass_(8 * HOUR)
        site.host.expire()


@pytest.mark.parametrize(("off", "left"), [(-1, True), (0, False), (1, False)])
def test_after_a_day_a_jump_is_believed(site: Site, numbers: Numbers, off: int, left: bool) -> None:
    activated(site, numbers)
    site.clock.time += numbers.lifetime
    site.host.expire()
    site.clock.pass_(DAY + off)
    site.host.expire()
    assert bool(site.rows("record")) is left


def test_a_clock_that_stays_behind_shortens_no_record(site: Site, numbers: Numbers) -> None:
    """PROTOCOL section 8: it is before what the publisher signed, so the host signs nothing, and no date is put right."""
    activated(site, numbers)
    rows = site.rows("record")
    site.clock.time -= 9 * DAY
    for _ in range(3):
        site.clock.pass_(DAY)
        site.host.expire()
    assert site.rows("record") == rows


def test_two_hosts_meet_the_same_new_machines_and_none_is_refused_busy(
    make_site: Callable[..., Site],
) -> None:
    """K12: in opposite orders, at the same moment; every machine is answered by both."""
    one = make_site()
    two = make_site(beside=one)
    machines = one.machines(120)
    bodies = {
        "one": [machine.checkin() for machine in machines],
        "two": [machine.checkin(aud=two.signer.kid, nonce=two.nonce()) for machine in reversed(machines)],
    }
    answers: dict[str, list[Any]] = {}

    def send(name: str, site: Site) -> None:
        answers[name] = site.send(*bodies[name])

    threads = [
        threading.Thread(target=send, args=(name, site)) for name, site in (("one", one), ("two", two))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found in answers.values():
        codes = {"lease" if isinstance(answer, bytes) else answer.code for answer in found}
        assert codes <= {"lease", "count-insufficient"}
        assert len(found) == 120
    assert one.counts() == (120, 0)
    assert SERVER not in one.served
