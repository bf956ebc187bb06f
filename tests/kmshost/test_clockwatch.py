"""Whether a host believes its clock, at both sides of each bound, and what it deletes meanwhile (K4, PROTOCOL 8)."""

from pathlib import Path

import pytest

from volact import db
from volact.kmshost import store
from volact.kmshost.clockwatch import Clockwatch
from volact.kmshost.housekeeping import Housekeeping
from volact.kmshost.store import Store, Trusted
from world import DAY, HandClock

HOUR = 3600
WITNESSES = 25


def heard(apart: int, machines: int = WITNESSES) -> Clockwatch:
    """A watch that `machines` told a time `apart` from its own."""
    watch, clock = Clockwatch(), HandClock()
    watch.look(clock)
    watch.hear(((f"machine {number}", clock.now() - apart) for number in range(machines)), clock.now())
    return watch


@pytest.mark.parametrize("sign", [1, -1])
def test_a_clock_is_doubted_beyond_a_day_and_vouched_for_up_to_one(sign: int) -> None:
    said = [(heard(sign * apart).doubted, heard(sign * apart).vouched) for apart in (DAY - 1, DAY, DAY + 1)]
    assert said == [(False, True), (False, True), (True, False)]


def test_24_machines_say_nothing_and_25_do() -> None:
    few, enough = heard(2 * DAY, WITNESSES - 1), heard(2 * DAY, WITNESSES)
    assert (few.doubted, few.vouched) == (False, False)
    assert (enough.doubted, enough.vouched) == (True, False)
    assert not heard(0, WITNESSES - 1).vouched
    assert heard(0, WITNESSES).vouched


def test_the_last_25_machines_decide_each_once() -> None:
    watch = heard(2 * DAY)
    now = HandClock().now()
    watch.hear([("one", now)] * WITNESSES, now)
    assert watch.doubted
    watch.hear([(f"new {number}", now) for number in range(12)], now)
    assert watch.vouched  # 13 of the last 25: the one and these


# --- what is deleted meanwhile ----------------------------------------------------------------------------------


class House:
    """A housekeeping over an own store; whether it believes is seen in what it keeps."""

    def __init__(self, path: Path) -> None:
        self.clock = HandClock()
        self.books = Store(db.connect(path))
        self.books.migrate()
        self.restart()

    def restart(self) -> None:
        self.watch = Clockwatch()
        self.keeping = Housekeeping(self.watch)
        self.keeping.start(self.clock, self.books)

    def work(self, *, behind: bool = False) -> None:
        self.keeping.work(self.clock, self.books, clock_is_behind=behind)

    def kept(self) -> Trusted:
        with self.books.reading() as tx:
            found = store.trusted(tx)
        assert found
        return found

    def believes(self) -> bool:
        """Whether records of ended machines go now: looked at from outside, by a record."""
        with self.books.writing() as tx:
            tx.exec_driver_sql(
                "INSERT INTO record (cmid, prd, grp, server, first, last, expires, fp, state, minutes, virtual,"
                f" address, outcome, renewals) VALUES ('c', 'p', 'g', false, 0, 0, {self.clock.now()}, '{{}}',"
                " 0, 0, false, '', '', 0)"
            )
        self.work()
        with self.books.writing() as tx:
            left = tx.exec_driver_sql("SELECT COUNT(*) FROM record").scalar_one()
            tx.exec_driver_sql("DELETE FROM record")
        return not left


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "k.db")


@pytest.mark.parametrize(("away", "believed"), [(DAY - 1, True), (DAY, True), (DAY + 1, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_after_a_restart_a_clock_a_day_from_what_was_believed_deletes_nothing(
    house: House, sign: int, away: int, believed: bool
) -> None:
    assert house.believes()
    house.clock.pass_(sign * away)
    house.restart()
    assert house.believes() == believed


@pytest.mark.parametrize("reason", ["behind", "doubted", "jumped"])
def test_it_rests_a_day_of_running_after_each_reason_to(house: House, reason: str) -> None:
    house.work()
    if reason == "doubted":
        now = house.clock.now()
        house.watch.hear(((str(number), now - 2 * DAY) for number in range(WITNESSES)), now)
    if reason == "jumped":
        house.clock.time += 2 * HOUR
    house.work(behind=reason == "behind")
    house.watch.hear(((str(number), house.clock.now()) for number in range(WITNESSES)), house.clock.now())
    house.clock.pass_(DAY - 1)
    assert not house.believes()
    house.clock.pass_(1)
    assert house.believes()


def test_what_is_believed_is_kept_every_hour_of_running(house: House) -> None:
    first = house.kept()
    house.clock.pass_(HOUR - 1)
    house.work()
    assert house.kept() == first
    house.clock.pass_(1)
    house.work()
    assert house.kept() == Trusted(first.now + HOUR, 0)


def test_a_rest_goes_on_over_restarts(house: House) -> None:
    house.clock.pass_(DAY + 1)
    house.restart()
    for _ in range(23):
        house.clock.pass_(HOUR)
        house.work()
        house.restart()
    assert not house.believes()
    house.clock.pass_(HOUR)
    assert house.believes()


def test_another_reason_begins_the_day_anew(house: House) -> None:
    house.work(behind=True)
    house.clock.pass_(DAY - 1)
    house.work()
    house.work(behind=True)
    house.clock.pass_(DAY - 1)
    assert not house.believes()
    house.clock.pass_(1)
    assert house.believes()
