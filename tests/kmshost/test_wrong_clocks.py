"""A host whose clock is an hour, a day, a year or an age off: no lease outside its window, no count lost (F19, PROTOCOL 8).

Each wrong clock is named, and the machines' own clocks are right.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from databases import Databases
from kmshost.site import CUSTOMER, HOUR, LASTS, Machine, Site, granted, refused
from volact.protocol.problems import Refusal
from world import DAY, NOW

YEAR = 365 * DAY
MACHINES = 25
END = NOW + LASTS - 9
"""The last second at which the site's host signs: of its first product's delegation."""

# The machines say that it is a minute after NOW.
BEHIND = {
    "an hour and a second": NOW - HOUR - 1,
    "a day": NOW - DAY,
    "a year": NOW - YEAR,
    "1970": 0,
    "before 1970": -DAY,
}
PAST_THE_END = {
    "a second": END + 1,
    "a year more": END + YEAR,
    "before 2038": 2**31 - 1,
    "2038": 2**31,
    "2106": 2**32,
}
TOLERATED = {"an hour behind": NOW - HOUR, "less than that": NOW - HOUR + 1, "right": NOW}
AHEAD = {"an hour": NOW + HOUR, "a day": NOW + 60 + DAY}
DOUBTED = {"a day and a second": NOW + 60 + DAY + 1, "a year": NOW + YEAR, "the last second": END}


def cases(*tables: dict[str, int]) -> pytest.MarkDecorator:
    found = {name: moment for table in tables for name, moment in table.items()}
    return pytest.mark.parametrize("moment", list(found.values()), ids=list(found))


@pytest.fixture
def database(tmp_path: Path, databases: Databases) -> Path:
    """SQLite: nothing here depends on the kind of store."""
    return databases.sqlite(tmp_path / "kmshost.db")


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


def activated(site: Site) -> list[Machine]:
    """25 machines, each with a lease of now."""
    machines = site.machines(MACHINES)
    site.call(machines)
    assert granted(site.call(machines))
    return machines


def called(site: Site, machines: list[Machine], nonce: str) -> list[Any]:
    """What machines whose clocks are right are told."""
    return site.ask(*[one.checkin(nonce=nonce, iat=NOW + 60) for one in machines])


def results(site: Site) -> set[str]:
    return {row.result for row in site.rows("event") if row.event == 12290}


@cases(BEHIND, PAST_THE_END)
def test_a_clock_that_is_certainly_wrong_signs_nothing_counts_nothing_and_says_so(
    site: Site, moment: int
) -> None:
    machines, nonce = activated(site), site.nonce()
    before = site.rows("record")
    site.clock.time = moment
    said = site.host.introduction()
    assert isinstance(said, Refusal)
    assert said.code == "host-clock-wrong"
    assert refused("host-clock-wrong", called(site, machines, nonce))
    for _ in range(100):
        site.host.expire()
    assert site.rows("record") == before
    assert [(row.time, row.result) for row in site.rows("event") if row.result == "host-clock-wrong"] == [
        (moment, "host-clock-wrong")
    ]
    assert [one.result for one in site.reported].count("host-clock-wrong") == 1
    # Put right, everything goes on, and nobody has left the count.
    site.clock.time = NOW + 60
    assert site.counts() == (MACHINES, 0)
    assert granted(site.call(machines))


@cases(TOLERATED, AHEAD, DOUBTED)
def test_a_clock_that_may_be_right_signs_inside_the_delegation(site: Site, moment: int) -> None:
    machines = activated(site)
    site.clock.time = moment
    for _ in range(2):  # where the records had ended, the first 24 count up to the threshold again
        answers = called(site, machines, site.nonce())
    assert granted(answers)
    assert {(one["iat"], one["cus"]) for one in answers} == {(moment, CUSTOMER)}
    newest = site.keyring().newest
    assert newest
    for one in answers:
        assert newest.iat - HOUR <= one["iat"] <= newest["exp"]
        assert one["exp"] <= one["iat"] + newest["lmax"]
    assert "host-clock-wrong" not in results(site)


@cases(TOLERATED, AHEAD, DOUBTED)
def test_a_clock_that_25_machines_doubt_is_warned_of_once_and_goes_on(site: Site, moment: int) -> None:
    machines = activated(site)
    site.clock.time = moment
    doubted = abs(moment - (NOW + 60)) > DAY
    for _ in range(3):
        called(site, machines, site.nonce())
    assert (site.host.clock_doubted, len(site.warned)) == (doubted, int(doubted))


@cases(BEHIND, PAST_THE_END, TOLERATED, AHEAD, DOUBTED)
def test_a_clock_that_is_wrong_for_a_while_costs_nobody_its_record(site: Site, moment: int) -> None:
    """The host runs on for hours of running time, with housekeeping each second of the clock's."""
    activated(site)
    site.clock.time = moment
    for _ in range(20):
        site.clock.pass_(HOUR)
        site.host.expire()
    assert len(site.rows("record")) == MACHINES
    site.clock.time = NOW + 20 * HOUR
    assert site.counts() == (MACHINES, 0)


@cases(BEHIND, PAST_THE_END, DOUBTED)
def test_a_restart_with_a_wrong_clock_costs_nobody_its_record(site: Site, moment: int) -> None:
    activated(site)
    site.clock.time = moment
    site.clock.uptime = 5
    site.restarted()
    for _ in range(20):
        site.clock.pass_(60)
        site.host.expire()
    site.clock.time = NOW + HOUR
    assert site.counts() == (MACHINES, 0)
