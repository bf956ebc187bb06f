"""K17, T10, T11: how fast a source adds machines, and who makes room at the cap."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from volact import db
from volact.kmshost import admission
from volact.kmshost.admission import Admission, Limits
from volact.kmshost.store import Store
from world import NOW

RETRY = 7200


@pytest.fixture
def books(database: str | Path) -> Iterator[Store]:
    made = Store(db.connect(database))
    yield made
    made.close()


def keep(books: Store, cmid: str, first: int, last: int, prd: str = "p") -> None:
    with books.writing() as tx:
        tx.exec_driver_sql(
            "INSERT INTO record (cmid, prd, grp, server, first, last, expires, fp, state, minutes, virtual, address,"
            f" outcome, renewals) VALUES ('{cmid}', '{prd}', 'g', false, {first}, {last}, {last + 10**6}, '{{}}', 0,"
            " 0, false, '', '', 0)"
        )


def kept(books: Store) -> set[str]:
    with books.reading() as tx:
        return {row[0] for row in tx.exec_driver_sql("SELECT cmid FROM record")}


def gate(books: Store, **limits: int) -> Admission:
    made = Admission(Limits(**limits))
    with books.reading() as tx:
        made.start(tx)
    return made


def admitted(gate: Admission, books: Store, address: str = "192.0.2.1", now: int = NOW) -> str:
    with books.reading() as tx:
        gate.look(tx, now - 2 * RETRY)
    with books.writing() as tx:
        turn = gate.turn(tx)
        refusal = turn.admit(address, now, RETRY)
    turn.remember()
    return refusal.code if refusal else ""


# --- rates --------------------------------------------------------------------------------------------------------


def test_a_source_brings_its_burst_then_its_rate(books: Store) -> None:
    made = gate(books, rate=30, burst=3)
    assert [admitted(made, books) for _ in range(4)] == ["", "", "", "too-many-requests"]
    assert admitted(made, books, now=NOW + 1) == "too-many-requests"
    assert admitted(made, books, now=NOW + 2) == ""
    assert admitted(made, books, "192.0.2.2") == ""
    with books.writing() as tx:
        refusal = made.turn(tx).admit("192.0.2.1", NOW + 2, RETRY)
    assert refusal
    assert dict(refusal.extra) == {"retry_after": 2}


def test_a_64_of_ipv6_is_one_source(books: Store) -> None:
    made = gate(books, rate=1, burst=1)
    assert admitted(made, books, "2001:db8:1:2::1") == ""
    assert admitted(made, books, "2001:db8:1:2:3::4") == "too-many-requests"
    assert admitted(made, books, "2001:db8:1:3::1") == ""
    assert admitted(made, books, "::ffff:192.0.2.9") == ""
    assert admitted(made, books, "192.0.2.9") == "too-many-requests"


def test_no_limit_is_none_and_new_limits_hold_at_once(books: Store) -> None:
    made = gate(books)
    assert [admitted(made, books) for _ in range(50)] == [""] * 50
    made.limit(Limits(rate=1, burst=1))
    assert [admitted(made, books) for _ in range(2)] == ["", "too-many-requests"]


# --- the cap ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("machines", "code"), [(4, ""), (5, "host-full"), (6, "host-full")])
def test_a_host_keeps_as_many_records_as_it_may(books: Store, machines: int, code: str) -> None:
    for number in range(machines - 1):
        keep(books, f"m{number}", NOW - 99, NOW)
    keep(books, "m0", NOW - 99, NOW, "another product of the same machine")
    assert admitted(gate(books, cap=5), books) == code


def test_records_that_have_gone_are_no_reason_to_refuse_after_a_start(books: Store) -> None:
    for number in range(5):
        keep(books, f"m{number}", NOW - 99, NOW)
    with books.writing() as tx:
        tx.exec_driver_sql("DELETE FROM record WHERE cmid IN ('m0', 'm1')")
    assert [admitted(gate(books, cap=4), books) for _ in range(2)] == ["", ""]


def test_machines_that_are_admitted_are_added_up(books: Store) -> None:
    made = gate(books, cap=2)
    assert [admitted(made, books) for _ in range(3)] == ["", "", "host-full"]
    with books.reading() as tx:
        made.count(tx)
    assert admitted(made, books) == ""


@pytest.mark.parametrize(("ago", "goes"), [(2 * RETRY - 1, False), (2 * RETRY, False), (2 * RETRY + 1, True)])
def test_one_that_called_once_two_retries_ago_makes_room(books: Store, ago: int, goes: bool) -> None:
    keep(books, "once", NOW - ago, NOW - ago)
    assert admitted(gate(books, cap=1), books) == ("" if goes else "host-full")
    assert kept(books) == (set() if goes else {"once"})


def test_one_that_called_again_never_does(books: Store) -> None:
    keep(books, "again", NOW - 20 * RETRY, NOW - 19 * RETRY)
    keep(books, "for two", NOW - 20 * RETRY, NOW - 20 * RETRY)
    keep(books, "for two", NOW - 20 * RETRY, NOW - 19 * RETRY, "another")
    made = gate(books, cap=3)
    assert [admitted(made, books) for _ in range(3)] == ["host-full"] * 3
    assert kept(books) == {"again", "for two"}


def test_one_that_has_called_since_it_was_found_stays(books: Store) -> None:
    keep(books, "once", NOW - 9 * RETRY, NOW - 9 * RETRY)
    made = gate(books, cap=1)
    with books.reading() as tx:
        made.look(tx, NOW - 2 * RETRY)
    with books.writing() as tx:
        tx.exec_driver_sql(f"UPDATE record SET last = {NOW}")
    with books.writing() as tx:
        assert made.turn(tx).admit("192.0.2.1", NOW, RETRY)
    assert kept(books) == {"once"}


def test_all_records_are_looked_through_in_time(books: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WINDOW", 2)
    monkeypatch.setattr(admission, "KNOWN", 1)
    for number in range(9):
        keep(books, f"m{number}", NOW - 9 * RETRY, NOW - (9 * RETRY if number in (1, 6, 7) else 0))
    made = gate(books, cap=9)
    answers = [admitted(made, books) for _ in range(20)]
    assert answers.count("") == 3
    assert kept(books) == {f"m{number}" for number in (0, 2, 3, 4, 5, 8)}


# --- a transaction that is not kept -------------------------------------------------------------------------------


def test_what_is_not_on_disk_was_not_taken(books: Store) -> None:
    """A full disk, or another host that was first: the same machines may come again, and be as many."""
    keep(books, "once", NOW - 9 * RETRY, NOW - 9 * RETRY)
    made = gate(books, cap=1)
    with books.reading() as tx:
        made.look(tx, NOW - 2 * RETRY)
    made.limit(Limits(rate=1, burst=3, cap=3))
    for remembered in (False, False, True):
        with books.engine.connect() as tx, tx.begin() as begun:
            turn = made.turn(tx)
            codes = [turn.admit("192.0.2.1", NOW, RETRY) for _ in range(4)]
            assert [one.code if one else "" for one in codes] == ["", "", "", "too-many-requests"]
            other = turn.admit("192.0.2.2", NOW, RETRY)
            assert other
            assert other.code == "host-full"
            if not remembered:
                begun.rollback()
        if remembered:
            turn.remember()
    assert kept(books) == set()
    assert made.records == 3
    assert admitted(made, books) == "too-many-requests"
    assert admitted(made, books, "192.0.2.2") == "host-full"
