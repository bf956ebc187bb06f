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
from volact.kmshost.kmshost import Intervals
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
    host = site.host
    short: dict[str, Any] = {"record_lifetime": HOUR, "renewal": HOUR // 2, "retry": HOUR // 4}
    site.add_product(PRODUCT, ver=2, thresholds=[{"count": "machines", "minimum": 25}], **short)
    site.add_product("com.example.q", ver=2, **small, **short)
    # The same process goes on.
    host.use(keyring=site.keyring(), intervals=Intervals(), tls=["A" * 43])
    site.host = host
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


def test_records_of_a_clock_that_was_ahead_do_not_count_for_months(site: Site, numbers: Numbers) -> None:
    """K4 after PROTOCOL section 8's wrong clock: once it is right again, no record lives longer than from then on."""
    site.clock.time += 300 * DAY
    activated(site, numbers)
    site.clock.time -= 300 * DAY
    site.delegate()
    for _ in range(3):
        site.clock.pass_(DAY)
        site.host.expire()
    assert site.counts() == (numbers.machines, 0), "they did call"
    site.clock.pass_(numbers.lifetime)
    assert site.counts() == (0, 0)
    assert refused("count-insufficient", [site.machine().call()])


@pytest.mark.parametrize("jump", [31 * DAY, 390 * DAY])
def test_a_clock_that_jumps_ahead_for_a_while_deletes_nothing(
    site: Site, numbers: Numbers, jump: int
) -> None:
    """K11: the count is there again when the clock is right."""
    activated(site, numbers)
    site.clock.time += jump
    for _ in range(3):
        site.clock.pass_(HOUR)
        site.host.expire()
    site.restarted()
    site.host.expire()
    site.clock.time -= jump
    assert site.counts() == (numbers.machines, 0)


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
