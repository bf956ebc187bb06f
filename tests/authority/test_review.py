"""What must hold between asks and between processes: locks, batches, what an answer tells, speed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from authority_site import Site
from volact import db, sources
from volact.authority import schema, store
from volact.authority.speed import Speed
from volact.authority.store import Store
from volact.config import AuthoritySettings, SettingInvalid
from volact.protocol.problems import Refusal
from world import DAY, Machine, claims_of, new_key

# --- the lock of a writing transaction --------------------------------------------------------------------------


def test_a_second_writer_waits_and_then_sees_what_the_first_wrote(site: Site) -> None:
    """BEGIN IMMEDIATE on SQLite, FOR UPDATE on PostgreSQL: what a decision read still stands when it is written."""
    site.key("mak", 10)
    (row,) = site.rows("product_key")
    other = site.another_authority().store
    started, seen = threading.Event(), []

    def second() -> None:
        started.set()
        with other.writing() as tx:
            seen.append(store.lock_keys(tx, [row.id])[row.id].order.used)

    with ThreadPoolExecutor(1) as thread:
        with site.store.writing() as tx:
            assert store.lock_keys(tx, [row.id])[row.id].order.used == 0
            waiting = thread.submit(second)
            assert started.wait(5)
            time.sleep(0.2)
            assert not seen
            assert store.count(tx, row.id, 7)
        waiting.result(10)
    assert seen == [7]


def test_two_processes_give_the_last_activation_to_one(site: Site) -> None:
    key = site.key("mak", 1)
    processes = [site.another_authority() for _ in range(4)]
    barrier = threading.Barrier(4)

    def ask(number: int) -> Any:
        request = site.machine().request(key)
        barrier.wait()
        return site.ask_one(request, by=processes[number])

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(4)))
    assert sorted(isinstance(one, Refusal) for one in answers) == [False, True, True, True]
    assert site.counts(key) == (1, 1, 0)


# --- a batch is what its asks would be one by one ------------------------------------------------------------------


def _two_machines(site: Site) -> tuple[Any, Machine, Machine]:
    """A key with two rows; the one whose CMID moves on stands second in the order of ids."""
    key, late, early = site.key("mak", 5), site.machine(), site.machine()
    site.activate(early, key)
    site.clock.pass_(DAY)
    site.activate(late, key)
    return key, early, late


def test_a_cmid_that_one_row_gives_up_is_taken_by_another_in_the_same_batch(site: Site) -> None:
    """The old row is written later than the new one: without `release_cmids` UNIQUE(key, cmid) would be hurt."""
    key, early, late = _two_machines(site)
    # Hardware of `late` is set up anew; its old image then goes to the hardware of `early`.
    moved = Machine(site.pub, parts=early.parts)
    moved.signer = late.signer
    answers = site.ask(late.rebuilt().request(key), moved.request(key))
    assert [isinstance(one, Refusal) for one in answers] == [False, False]
    owners = {row.cmid for row in site.rows("activation")}
    assert moved.cmid in owners
    assert not [cmid for cmid in owners if len(cmid) != 43]


def test_a_batch_counts_what_its_asks_would_count_one_by_one(site: Site) -> None:
    key, early, late = _two_machines(site)
    moved = Machine(site.pub, parts=early.parts)
    moved.signer = late.signer
    site.ask(late.rebuilt().request(key), moved.request(key))
    # One by one the second is the machine of the first row, set up anew: uncounted (row 6).
    assert site.counts(key) == (5, 2, 3)


# --- T5: what an answer tells -----------------------------------------------------------------------------------


def test_an_unknown_and_a_known_key_are_refused_in_one_shape(site: Site) -> None:
    """A right proof of an unknown key and a wrong one of a known key: problem documents of the same members."""
    machine, known = site.machine(), site.key()
    unknown = site.ask_one(machine.request(new_key()))
    wrong = {**machine.request(known), "proof": machine.request(known)["proof"]}
    refused = site.ask_one(wrong)
    assert isinstance(unknown, Refusal)
    assert isinstance(refused, Refusal)
    assert unknown.document().keys() == refused.document().keys()
    assert not site.rows("answer")
    assert not site.rows("source")


def test_a_wrong_proof_does_not_tell_whether_a_key_exists(site: Site) -> None:
    machine = site.machine()

    def refused(key: Any) -> str:
        other = machine.request(key)["proof"]
        head, payload, signature = other.split(".")
        forged = f"{head}.{payload}.{signature[:-8]}{'A' * 8}"
        answer = site.ask_one({**machine.request(key), "proof": forged})
        assert isinstance(answer, Refusal)
        return answer.code

    assert refused(site.key()) == refused(new_key())


# --- M5: the list, older and newer --------------------------------------------------------------------------------


def test_each_list_is_newer_than_the_one_before_and_another_process_goes_on_counting(site: Site) -> None:
    seen = [site.status()[0]["ver"]]
    for _ in range(3):
        site.office.block_activation(site.activate(site.machine(), site.key())["act"])
        seen.append(site.status()[0]["ver"])
    site.clock.pass_(DAY)
    site.another_authority().renew_status_list()
    head, body = site.status()
    assert [*seen, head["ver"]] == [1, 2, 3, 4, 5]
    assert (head["nxt"] - head["iat"], head["len"]) == (7 * DAY, len(body))
    assert body.count(b"\n") == 3


def test_a_blocked_keys_answers_at_the_very_second(site: Site) -> None:
    key, machine = site.key(), site.machine()
    request = machine.request(key)
    first = site.ask_one(request)
    site.office.block_activation(claims_of(first["token"])["act"])
    for answer in site.ask(request, machine.request(key), machine.rebuilt().request(key)):
        assert answer.code == "machine-blocked"
    assert site.activate(site.machine(), key)["act"]  # the key itself is not


# --- M10: speed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["key_rate", "key_burst", "source_rate", "source_burst"])
def test_a_limit_below_0_is_no_limit_that_can_be_set(name: str) -> None:
    with pytest.raises(SettingInvalid, match=name):
        Speed(AuthoritySettings(**{name: -1}))  # type: ignore[arg-type]


def test_the_bucket_that_was_used_last_is_not_the_one_that_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "_REMEMBERED", 2)
    speed = Speed(AuthoritySettings(key_rate=0, source_rate=1, source_burst=2))
    assert speed.limit(1, "a", 0) is None
    assert speed.limit(1, "b", 0) is None
    assert speed.limit(1, "a", 0) is None
    assert speed.limit(1, "c", 0) is None  # b, not a, is forgotten
    assert speed.limit(1, "a", 0) is not None


# --- databases ----------------------------------------------------------------------------------------------------


def test_a_database_that_may_only_be_read_is_storage_that_is_not_there(
    site: Site, database: str | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A standby that was promoted too late, or a role without rights: no fault of ours, and nothing is counted."""
    if isinstance(database, Path):
        pytest.skip("a read-only file is another test's")
    key, machine = site.key(), site.machine()
    other = Store(db.connect(database))

    @sa.event.listens_for(other.engine, "begin")
    def _read_only(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    monkeypatch.setattr(site.authority, "store", other)
    with pytest.raises(Exception) as refused:
        site.ask_one(machine.request(key))
    assert refused.value.refusal.code == "storage-unavailable"  # type: ignore[attr-defined]
    other.close()
    assert site.rows("answer") == []


def test_postgresql_waits_for_a_lock_as_long_as_sqlite_does_and_keeps_commits(database: str | Path) -> None:
    if isinstance(database, Path):
        pytest.skip("SQLite has its own")
    engine = db.connect(f"{database}&options=-csynchronous_commit%3Doff")
    with db.reading(engine) as tx:
        assert tx.exec_driver_sql("SHOW lock_timeout").scalar_one() == "5s"
        assert tx.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
    engine.dispose()


def test_a_file_system_without_wal_gets_the_stricter_journal(tmp_path: Path) -> None:
    """In memory SQLite answers another mode than WAL when it is asked for it."""
    engine = db.connect(":memory:")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 3
    engine.dispose()
    assert schema.metadata.tables
