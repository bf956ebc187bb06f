"""What a host refuses of itself is an event, once an hour, and costs nobody who asks a write (rule E, K10, T10)."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from databases import Databases
from kmshost.site import HOUR, Site
from volact import db, http
from volact.kmshost import ledger
from volact.kmshost.lapses import Lapses
from volact.kmshost.store import Store
from volact.protocol.problems import BrokenData, Refusal
from world import NOW, HandClock

HANDLED = 12290


class Books:
    """Lapses over a store of their own."""

    def __init__(self, path: Path) -> None:
        self.clock = HandClock()
        self.store = Store(db.connect(path))
        self.store.migrate()
        self.lapses = Lapses()

    def note(self) -> list[str]:
        """Note, and say what was."""
        return [one.result for one in self.lapses.note(self.clock, self.store)]

    def rows(self) -> list[tuple[int, int, str]]:
        with self.store.reading() as tx:
            return [
                tuple(row) for row in tx.exec_driver_sql("SELECT time, event, result FROM event ORDER BY id")
            ]


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "k.db")


def test_what_was_met_is_an_event_once(books: Books) -> None:
    assert books.note() == []
    for _ in range(1000):
        books.lapses.meet("host-clock-wrong")
    books.lapses.meet("host-blocked")
    assert books.rows() == []
    assert books.note() == ["host-blocked", "host-clock-wrong"]
    assert books.rows() == [(NOW, HANDLED, "host-blocked"), (NOW, HANDLED, "host-clock-wrong")]
    assert books.note() == []


@pytest.mark.parametrize(("after", "again"), [(HOUR - 1, False), (HOUR, True), (HOUR + 1, True)])
@pytest.mark.parametrize("jump", [0, -40 * 365 * 86400])
def test_each_at_most_once_an_hour_of_running_time(books: Books, after: int, again: bool, jump: int) -> None:
    books.lapses.meet("busy")
    books.note()
    books.clock.pass_(after)
    books.clock.time += jump
    books.lapses.meet("busy")
    books.lapses.meet("internal")
    assert books.note() == (["busy", "internal"] if again else ["internal"])
    # What was met within the hour is not noted when it is over.
    books.clock.pass_(2 * HOUR)
    assert books.note() == []


def test_what_the_store_does_not_take_is_noted_when_it_does(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk first of all."""

    def full(_store: Store) -> None:
        raise BrokenData("The disk is full.", "storage-unavailable")

    books.lapses.meet("storage-unavailable")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "writing", full)
        with pytest.raises(BrokenData):
            books.note()
    books.clock.pass_(5 * HOUR)
    assert books.note() == ["storage-unavailable"]
    assert books.rows() == [(NOW + 5 * HOUR, HANDLED, "storage-unavailable")]


def test_many_threads_meet_while_one_notes(books: Books) -> None:
    stop = threading.Event()

    def meet() -> None:
        while not stop.is_set():
            for code in ("busy", "internal", "host-blocked", "host-clock-wrong"):
                books.lapses.meet(code)

    threads = [threading.Thread(target=meet) for _ in range(4)]
    for thread in threads:
        thread.start()
    noted = []
    for _ in range(200):
        noted += books.note()
    stop.set()
    for thread in threads:
        thread.join()
    assert len(noted) == len(set(noted))


# --- through the host -----------------------------------------------------------------------------------------------


def fail(site: Site, body: dict[str, Any]) -> str:
    """The code with which a batch fails on a full disk, that takes what needs no new page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger.Batch, "write", lambda _batch: _raise(BrokenData("full", "storage-unavailable")))
        with pytest.raises(BrokenData) as caught:
            site.send(body)
    return caught.value.refusal.code


def _raise(error: Exception) -> None:
    raise error


@pytest.fixture
def site(tmp_path: Path, databases: Databases) -> Iterator[Site]:
    made = Site(databases.sqlite(tmp_path / "k.db"))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("after", "said"), [(59, "storage-unavailable"), (60, ""), (61, "")], ids=["59 s", "60 s", "61 s"]
)
def test_a_batch_that_is_not_recorded_is_a_problem_of_the_store_for_a_minute(
    site: Site, after: int, said: str
) -> None:
    assert site.host.store_problem == ""
    assert fail(site, site.machine().checkin()) == "storage-unavailable"
    site.clock.pass_(after)
    assert site.host.store_problem == said
    site.host.expire()
    assert [one.result for one in site.reported] == ["storage-unavailable"]


def test_or_until_one_is_recorded(site: Site) -> None:
    machine = site.machine()
    body = machine.checkin()
    fail(site, body)
    site.send(body)
    assert site.host.store_problem == ""


def test_a_host_that_is_not_activated_says_so_when_it_is_asked_and_not_before(
    tmp_path: Path, databases: Databases
) -> None:
    site = Site(databases.sqlite(tmp_path / "new.db"), activated=False)
    site.host.expire()
    assert site.reported == []
    site.host.introduction()
    site.host.expire()
    assert [(one.event, one.result) for one in site.reported] == [(HANDLED, "host-not-activated")]
    site.close()


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (Refusal("storage-unavailable"), b"30"),
        (Refusal("busy"), b"5"),
        (Refusal("busy", "", (("retry_after", 7),)), b"7"),
        (Refusal("host-full", "", (("retry_after", 7200),)), b"7200"),
        (Refusal("host-clock-wrong"), None),
        (Refusal("count-insufficient"), None),
    ],
)
def test_what_passes_by_itself_says_when_to_come_again(refusal: Refusal, said: bytes | None) -> None:
    """T20, F5, F6: a busy host or a full disk; nobody knows when a wrong clock is put right."""
    assert dict(http.problem(refusal).headers).get(b"retry-after") == said
