"""What the store holds to: one schema on both databases, one winner for a last activation, journals, migrations."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import migrated
import postgres
from authority_site import Site
from volact import db
from volact.authority import schema, store
from volact.authority.asks import Asked
from volact.authority.store import Store
from volact.protocol import ids
from volact.protocol.documents import Document
from volact.protocol.problems import BrokenData, Refusal, Refused
from world import NOW, PRODUCT, new_id

SCRIPTS = Path(store.__file__).parent / "migrations"


# --- T7, F26: the last activation -------------------------------------------------------------------------------


def made_ask(key: store.KnownKey, cmid: str) -> Asked:
    """An ask as if it had been verified: the store's part is what is under test."""
    claims: dict[str, Any] = {
        "iss": cmid,
        "jti": new_id(),
        "iat": NOW,
        "fp": {},
        "prd": PRODUCT,
        "key": key.thumbprint,
    }
    document = Document("request", cmid, claims, "")
    return Asked("activate", key, document, ids.digest(claims["jti"].encode()), "192.0.2.1", "192.0.2.1")


def race(site: Site, rounds: int, at_once: int) -> None:
    """64 racers for the last activation of each of `rounds` keys, in 8 concurrent transactions."""
    processes = [site.another_authority() for _ in range(8)]
    barrier = threading.Barrier(8)

    def run(number: int, batches: list[list[Asked]]) -> list[Any]:
        outcomes: list[Any] = []
        for batch in batches:
            barrier.wait()
            while True:
                try:
                    outcomes += zip(batch, processes[number].decide(batch), strict=True)
                    break
                except Refused as error:
                    if error.refusal.code != "busy":
                        raise
        return outcomes

    labels = []
    keys = []
    for _ in range(rounds):
        made = site.key("retail")
        labels.append(made.label)
    with site.store.reading() as tx:
        for row in tx.execute(sa.select(schema.product_key.c.thumbprint)):
            keys.append(store.find_key(tx, row.thumbprint))
    batches: list[list[list[Asked]]] = [[] for _ in range(8)]
    for start in range(0, rounds, at_once):
        for of_one in batches:
            of_one.append(
                [
                    made_ask(key, ids.digest(new_id().encode()))
                    for key in keys[start : start + at_once]
                    if key
                    for _ in range(8)
                ]
            )
    with ThreadPoolExecutor(8) as threads:
        outcomes = [one for of_one in threads.map(run, range(8), batches) for one in of_one]
    winners = [asked.key.id for asked, outcome in outcomes if not isinstance(outcome, Refusal)]
    assert len(outcomes) == rounds * 64
    assert sorted(winners) == sorted({key.id for key in keys if key})
    assert {outcome.code for _, outcome in outcomes if isinstance(outcome, Refusal)} == {
        "no-activations-left"
    }
    assert len(site.rows("activation")) == rounds
    assert {(row.bought, row.used) for row in site.rows("product_key")} == {(1, 1)}


def test_t7_64_racers_for_the_last_activation_100_rounds(site: Site) -> None:
    race(site, 100, 10)


@pytest.mark.slow
def test_t7_10_000_rounds(site: Site) -> None:
    race(site, 10_000, 25)


def test_the_same_request_from_two_processes_at_once_is_one_row(site: Site) -> None:
    key = site.key("mak", 1000)
    requests = [site.machine().request(key) for _ in range(20)]
    left, right = site.ask_twice(requests)
    assert left == right
    assert len(site.rows("activation")) == len(site.rows("answer")) == 20
    assert site.counts(key)[1] == 20


def test_the_counter_cannot_pass_what_was_bought(site: Site) -> None:
    site.key("mak", 2)
    (row,) = site.rows("product_key")
    with site.store.writing() as tx:
        assert store.count(tx, row.id, 2)
        assert not store.count(tx, row.id, 1)
    assert site.rows("product_key")[0].used == 2


# --- migrations -------------------------------------------------------------------------------------------------


def test_the_migrated_schema_is_the_one_of_the_code(database: str | Path) -> None:
    assert migrated.is_the_schema_of(schema.metadata, database)


def test_the_newest_script_is_the_revision_of_the_code() -> None:
    assert migrated.newest(SCRIPTS) == [schema.REVISION]


def test_a_store_of_a_newer_version_is_refused_and_not_touched(database: str | Path) -> None:
    migrated.newer_is_refused(Store, database, schema.REVISION)


def test_a_file_that_is_no_database_is_data_broken(tmp_path: Path) -> None:
    path = tmp_path / "authority.db"
    path.write_bytes(b"this is no database, and long enough to be sure about it" * 100)
    with pytest.raises(BrokenData) as refused:
        Store(db.connect(path)).migrate()
    assert refused.value.refusal.code == "data-broken"


# --- journals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ((3, 51, 3), "WAL"),
        ((3, 51, 2), "DELETE"),
        ((3, 51, 0), "DELETE"),
        ((3, 53, 4), "WAL"),
        ((4, 0, 0), "WAL"),
        ((3, 50, 7), "WAL"),
        ((3, 50, 6), "DELETE"),
        ((3, 49, 9), "DELETE"),
        ((3, 44, 6), "WAL"),
        ((3, 44, 5), "DELETE"),
        ((3, 45, 9), "DELETE"),
        ((3, 40, 1), "DELETE"),
    ],
)
def test_wal_is_used_only_where_the_library_has_the_fix(version: tuple[int, ...], mode: str) -> None:
    assert db.journal_for(version) == ((mode, "FULL") if mode == "WAL" else (mode, "EXTRA"))


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 53, 4)])
def test_both_journals_serve(
    tmp_path: Path, version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = db.sqlite_library()
    monkeypatch.setattr(library, "sqlite_version_info", version)
    site = Site(tmp_path / "authority.db", library=library)
    mode = "WAL, synchronous=FULL" if version == (3, 53, 4) else "DELETE, synchronous=EXTRA"
    assert mode in db.describe(site.store.engine)
    site.product()
    key = site.key("mak", 10)
    answers = site.ask(*[site.machine().request(key) for _ in range(11)])
    assert isinstance(answers[10], Refusal)
    # A reader sees a consistent state while a writer is at work, and a second writer waits its turn.
    with site.store.writing() as tx:
        store.add_event(tx, NOW, "test", None, {})
        with site.store.reading() as reader:
            assert (
                reader.execute(sa.select(sa.func.count()).select_from(schema.activation)).scalar_one() == 10
            )
    site.close()


def test_the_standard_librarys_sqlite_serves_too(tmp_path: Path) -> None:
    site = Site(tmp_path / "authority.db", library=sqlite3)
    site.product()
    key = site.key("mak", 1)
    assert site.activate(site.machine(), key)["act"]
    assert site.activate(site.machine(), key) == "no-activations-left"
    assert sqlite3.sqlite_version in db.describe(site.store.engine)
    site.close()


def test_a_store_that_another_process_holds_is_busy_and_goes_on_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "_BUSY_MS", 50)
    site = Site(tmp_path / "authority.db")
    site.product()
    key, request = site.key(), None
    request = site.machine().request(key)
    other = site.another_authority()
    with other.store.writing(), pytest.raises(Refused) as refused:
        site.ask_one(request)
    assert refused.value.refusal.code == "busy"
    assert site.ask_one(request)["token"]
    site.close()


# --- PostgreSQL goes away ---------------------------------------------------------------------------------------


def test_a_database_that_went_away_is_503_and_serves_again_without_a_restart(
    server: postgres.Postgres, make_site: Callable[..., Site], database: str | Path
) -> None:
    if isinstance(database, Path):
        pytest.skip("SQLite has no server")
    site = make_site()
    site.product()
    key = site.key()
    request = site.machine().request(key)
    server.stop()
    try:
        with pytest.raises(BrokenData) as refused:
            site.ask_one(request)
        assert refused.value.refusal.code == "storage-unavailable"
        assert refused.value.refusal.problem.status == 503
    finally:
        server.start()
    assert site.ask_one(request)["token"]
    assert site.counts(key)[1] == 1


@pytest.mark.parametrize(
    "url",
    [
        "mysql://x/y",
        "nonsense://",
        "postgresql://u:SE:CRET/x",
        "postgresql:///x?host=/no&colour=red",
        "postgresql:///x?host=/no/such/folder",
    ],
)
def test_a_database_that_cannot_be_reached_is_said_without_its_url(url: str) -> None:
    with pytest.raises((BrokenData, db.StorageUnavailable)) as refused:
        Store(db.connect(url)).migrate()
    assert url not in str(refused.value)


def test_a_checkpoint_moves_what_the_wal_holds_into_the_database(site: Site) -> None:
    """DESIGN 4: checkpoints off the writer's path; nothing is lost by one, and nothing is to be done elsewhere."""
    site.product()
    key = site.key("mak", 2)
    assert site.activate(site.machine(), key)["act"]
    site.store.checkpoint()
    if site.store.engine.dialect.name == "sqlite" and "WAL" in db.describe(site.store.engine):
        with site.store.reading() as tx:
            busy, frames, copied = tx.exec_driver_sql("PRAGMA wal_checkpoint").one()
        assert (busy, frames) == (0, copied)
    assert site.counts(key) == (2, 1, 1)
