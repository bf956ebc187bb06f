"""The host's store: one schema on both databases, housekeeping, several hosts on one count, and a store that fails."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import migrated
import postgres
from kmshost.site import ADDRESS, PRODUCT, SERVER, Machine, Numbers, Site
from volact import db
from volact.kmshost import ledger, schema, store, surveys
from volact.kmshost.checkins import Sent
from volact.kmshost.store import Event, Store
from volact.protocol.problems import BrokenData, Refused
from world import DAY, NOW, new_id

SCRIPTS = Path(store.__file__).parent / "migrations"
HOUR = 3600


# --- schema -----------------------------------------------------------------------------------------------------


def test_the_migrated_schema_is_the_one_of_the_code(database: str | Path) -> None:
    assert migrated.is_the_schema_of(schema.metadata, database)


def test_the_newest_script_is_the_revision_of_the_code() -> None:
    assert migrated.newest(SCRIPTS) == [schema.REVISION]


def test_a_store_of_a_newer_version_is_refused_and_not_touched(database: str | Path) -> None:
    migrated.newer_is_refused(Store, database, schema.REVISION)


def test_settings_of_the_one_host_before_stay_its_own(tmp_path: Path) -> None:
    engine = db.connect(tmp_path / "k.db")
    db.migrate(engine, SCRIPTS, "0002")
    with db.transaction(engine) as tx:
        tx.exec_driver_sql("INSERT INTO setting VALUES ('port', '1700')")
        for jti in ("first", "second"):
            tx.exec_driver_sql(f"INSERT INTO delegation VALUES ('{jti}', 'a host', 1, 2, '{{}}', 1)")
    made = Store(engine)
    made.migrate()
    with made.reading() as tx:
        assert store.settings(tx, "a host") == {"port": "1700"}
    made.close()


# --- what is kept -----------------------------------------------------------------------------------------------


@pytest.fixture
def books(database: str | Path) -> Any:
    made = Store(db.connect(database))
    yield made
    made.close()


def test_the_publisher_is_one_and_is_replaced(books: Store) -> None:
    with books.writing() as tx:
        assert store.publisher(tx) is None
        first = store.Publisher("-" + "P" * 42, True, None, (), b"\0\xff" * 16)
        store.set_publisher(tx, first)
        assert store.publisher(tx) == first
        second = first._replace(root={"token": "t", "jwk": {"x": "\u00e4"}}, roots=("r2", "r3"))
        store.set_publisher(tx, second)
    with books.reading() as tx:
        assert store.publisher(tx) == second


def test_settings_products_and_delegations(books: Store) -> None:
    with books.writing() as tx:
        store.put_setting(tx, "h" * 43, "port", "1689")
        store.put_setting(tx, "h" * 43, "port", "1690")
        store.put_setting(tx, "h" * 43, "retry_minutes", "15")
        store.put_setting(tx, "h" * 43, "retry_minutes", None)
        store.put_setting(tx, "h" * 43, "never_set", None)
        old = store.Product(PRODUCT, 1, "client", "CAD", {"token": "one"})
        new = old._replace(ver=2, name="CAD \u2713", bundle={"token": "two"})
        other = store.Product("a.product", 1, "server", "A", {})
        for one in (old, other, new):
            store.put_product(tx, one)
        late, early, foreign = (
            store.Delegation(new_id(), host, iat, iat + 9, {"token": str(iat)}, NOW)
            for host, iat in (("h" * 43, 2), ("h" * 43, 1), ("g" * 43, 1))
        )
        for one_of_them in (late, early, foreign):
            store.add_delegation(tx, one_of_them)
    with books.reading() as tx:
        assert store.settings(tx, "h" * 43) == {"port": "1690"}
        assert store.settings(tx, "another") == {}
        assert store.products(tx) == [other, new]
        assert store.delegations(tx, "h" * 43) == [early, late]
        assert store.delegations(tx, "x" * 43) == []


def test_events_by_time_and_the_newest(books: Store) -> None:
    kept = [
        Event(NOW + n, 12290, "ok", PRODUCT, "c", ADDRESS, 25, 25 + n, n, True, 1, 2**40, 3, 4)
        for n in range(5)
    ]
    with books.writing() as tx:
        store.add_event(tx)
        store.add_event(tx, *kept[:3])
        store.add_event(tx, *kept[3:], Event(NOW + 5, 12291, "in-use"))
    with books.reading() as tx:
        assert store.events(tx)[:5] == kept
        assert store.events(tx, since=NOW + 4) == [kept[4], Event(NOW + 5, 12291, "in-use")]
        assert store.events(tx, limit=2) == store.events(tx, since=NOW + 4)
        assert store.events(tx, since=NOW + 6) == []


@pytest.mark.parametrize(("kept", "beyond"), [(10, 0), (10, 1), (10, 7), (3, 1200)])
def test_the_oldest_events_beyond_those_that_are_kept_go_by_slices(
    books: Store, monkeypatch: pytest.MonkeyPatch, kept: int, beyond: int
) -> None:
    monkeypatch.setattr(store, "EVENTS_KEPT", kept)
    with books.writing() as tx:
        assert store.trim_events(tx) == 0
        store.add_event(tx, *[Event(n, 12290, "ok") for n in range(kept + beyond)])
    gone: list[int] = []
    while not gone or gone[-1]:
        with books.writing() as tx:
            gone.append(store.trim_events(tx))
            left = store.events(tx)
        assert left[-kept:] == [Event(n, 12290, "ok") for n in range(beyond, kept + beyond)]
    assert sum(gone) == beyond
    assert len(left) == kept
    assert max(gone) <= 500


def test_handled_requests_do_not_wash_away_what_is_rare(
    books: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule E: that a host could not start, or a publication failed, is looked for after a busy week."""
    monkeypatch.setattr(store, "EVENTS_KEPT", 5)
    monkeypatch.setattr(store, "RARE_KEPT", 3)
    rare = [Event(n, number, "x") for n, number in enumerate((12291, 12293, 12294, 12295, 12293))]
    with books.writing() as tx:
        assert store.trim_rare_events(tx) == 0
        store.add_event(tx, *rare, *[Event(9 + n, 12290, "ok") for n in range(20)])
    with books.writing() as tx:
        assert store.trim_events(tx) == 15
        assert store.trim_events(tx) == 0
        assert store.trim_rare_events(tx) == 2
        assert store.trim_rare_events(tx) == 0
        assert store.events(tx) == [*rare[2:], *[Event(9 + n, 12290, "ok") for n in range(15, 20)]]


def test_tallies_add_up(books: Store) -> None:
    with books.writing() as tx:
        store.add_tally(tx, {})
        store.add_tally(tx, {("ok", 1): 2, ("ok", 2): 1})
        store.add_tally(tx, {("ok", 1): 3, ("identity-cloned", 1): 1})
        assert store.tally(tx) == {("ok", 1): 5, ("ok", 2): 1, ("identity-cloned", 1): 1}


def test_the_rules_sizes() -> None:
    assert store.EVENTS_KEPT == 100_000
    assert store.RARE_KEPT == 10_000
    assert store.SLICE == 500


# --- housekeeping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [-1, 0, 1])
def test_expire_deletes_what_has_ended_and_nothing_else(site: Site, numbers: Numbers, later: int) -> None:
    old = site.machines(4)
    site.call(old)
    site.clock.pass_(HOUR)
    site.call([old[1], *site.machines(2)])
    site.clock.pass_(numbers.lifetime + later - HOUR)
    site.host.expire()
    assert len(site.rows("record")) == (6 if later < 0 else 3)
    assert site.counts() == (6 if later < 0 else 3, 0)
    site.host.expire()
    assert site.counts() == (6 if later < 0 else 3, 0)


def grown(site: Site, number: int, expires: Callable[[int], int]) -> None:
    """A ledger of so many records, made from one real one."""
    site.machine().call()
    with site.store.writing() as tx:
        (row,) = ledger.pages(tx, 0, 1)
        tx.execute(sa.delete(schema.record))
        values = [
            {**row._asdict(), "id": n, "cmid": f"{n:043d}", "expires": expires(n)}
            for n in range(1, number + 1)
        ]
        tx.execute(sa.insert(schema.record), values)


def test_expire_goes_round_by_slices(make_site: Callable[..., Site]) -> None:
    """Of 2,600 records every second one has ended: 500 at once at most, and a look at 2,000 at most."""
    site = make_site()
    grown(site, 2600, lambda n: NOW if n % 2 else NOW + DAY)
    left = [2600]
    for _ in range(8):
        site.host.expire()
        left.append(len(site.rows("record")))
    assert max(before - after for before, after in itertools.pairwise(left)) == 500
    assert left[-1] == 1300
    assert all(row.expires == NOW + DAY for row in site.rows("record"))
    # Round again: what ends later is found, wherever it stands.
    site.clock.pass_(DAY)
    for _ in range(8):
        site.host.expire()
    assert site.rows("record") == []


@pytest.mark.parametrize("number", [499, 500, 501, 2000, 2001])
def test_expire_ends_whatever_the_number(make_site: Callable[..., Site], number: int) -> None:
    site = make_site()
    grown(site, number, lambda _n: NOW)
    for _ in range(8):
        site.host.expire()
    assert site.rows("record") == []


def test_expire_keeps_who_has_called_again_meanwhile(site: Site, numbers: Numbers) -> None:
    one = site.machine()
    one.call()
    site.clock.pass_(numbers.lifetime)
    with site.store.reading() as tx:
        (ended, _), _ = ledger.out_of_time(tx, 0, site.clock.now(), 10)
    assert len(ended) == 1
    one.call()
    with site.store.writing() as tx:
        assert ledger.forget_ended(tx, ended, site.clock.now()) == 0
    assert site.counts() == (1, 0)


def test_peaks_are_looked_for_once_an_hour_and_kept(site: Site, numbers: Numbers) -> None:
    def peaks() -> dict[str, int]:
        with site.store.reading() as tx:
            return store.peaks(tx, site.clock.now())

    machines = site.machines(4)
    site.call(machines)
    machines[0].call(SERVER)
    assert peaks() == {PRODUCT: 4, SERVER: 1}
    site.host.expire()
    site.call(site.machines(2))
    site.clock.pass_(HOUR - 1)
    site.host.expire()
    assert {row.prd: row.n for row in site.rows("peak")} == {PRODUCT: 4, SERVER: 1}
    site.clock.pass_(1)
    site.host.expire()
    assert {row.prd: row.n for row in site.rows("peak")} == {PRODUCT: 6, SERVER: 1}
    site.clock.pass_(numbers.lifetime)
    site.host.expire()
    assert site.rows("record") == []
    assert peaks() == {PRODUCT: 6, SERVER: 1}
    with site.store.writing() as tx:
        store.clear_peaks(tx)
    assert peaks() == {}


# --- clocks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [-DAY - 1, -DAY, DAY, DAY + 1])
def test_25_machines_that_say_another_day_warn_once(make_site: Callable[..., Site], ahead: int) -> None:
    site = make_site()
    warns = abs(ahead) > DAY
    machines = site.machines(25)
    site.call(machines[:24] * 2, iat=NOW + ahead)  # the same ones do not speak twice
    assert site.warned == []
    site.call(machines[24:], iat=NOW + ahead)
    assert len(site.warned) == warns
    site.call(machines, iat=NOW + ahead)
    assert len(site.warned) == warns
    # It goes on serving; and it is the median that speaks.
    assert isinstance(machines[0].call(iat=NOW + ahead), dict)
    site.call(machines[:13], iat=NOW)
    assert len(site.warned) == warns
    site.call(machines, iat=NOW + ahead)
    assert len(site.warned) == 2 * warns


def test_the_median_of_the_last_25(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.call(site.machines(12), iat=NOW + 2 * DAY)
    site.call(site.machines(13), iat=NOW)
    assert site.warned == []
    site.call(site.machines(1), iat=NOW + 2 * DAY)  # the first of the 12 goes out
    assert site.warned == []
    site.call(site.machines(12), iat=NOW + 2 * DAY)
    assert len(site.warned) == 1


# --- a store that fails -----------------------------------------------------------------------------------------


def test_a_store_that_cannot_write_counts_nothing_and_reports_nothing(
    site: Site, numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = site.machines(numbers.machines)
    site.call(machines[:-1])
    site.reported.clear()
    body = machines[-1].checkin()

    def full(*_anything: object) -> None:
        raise db.StorageUnavailable("The disk is full, broken or not writable.")

    with monkeypatch.context() as patched:
        patched.setattr(store, "add_tally", full)  # the last thing before the commit
        with pytest.raises(BrokenData) as refused:
            site.ask(body)
    assert refused.value.refusal.code == "storage-unavailable"
    assert site.counts() == (numbers.machines - 1, 0)
    assert site.reported == []
    # Neither did it stay in memory that the count was reached.
    assert dict(site.call(machines[:1])[0].extra)["count"] == numbers.machines - 1
    assert site.ask(body)[0]["cnt"] == numbers.machines


def test_a_database_that_is_gone_is_said(make_site: Callable[..., Site], tmp_path: Path) -> None:
    site = make_site()
    body = site.machine().checkin()
    good = site.host.store
    site.host.store = Store(db.connect(tmp_path / "no folder" / "kmshost.db"))
    with pytest.raises(BrokenData) as refused:
        site.ask(body)
    assert refused.value.refusal.code == "storage-unavailable"
    assert refused.value.refusal.problem.status == 503
    with pytest.raises(BrokenData):
        site.host.expire()
    with pytest.raises(BrokenData):
        site.host.start()
    assert isinstance(site.host.introduction(), bytes)
    site.host.store.close()
    site.host.store = good
    assert dict(site.ask(body)[0].extra)["count"] == 1


def test_postgresql_that_was_away_serves_again_without_a_restart(
    server: postgres.Postgres, databases: Any
) -> None:
    site = Site(databases.postgresql(server))
    body = site.machine().checkin()
    server.stop()
    try:
        with pytest.raises(BrokenData) as refused:
            site.ask(body)
        assert refused.value.refusal.code == "storage-unavailable"
    finally:
        server.start()
    assert dict(site.ask(body)[0].extra)["count"] == 1
    site.close()


def test_a_store_that_another_process_holds_is_busy_and_goes_on_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "_BUSY_MS", 50)
    site = Site(tmp_path / "kmshost.db")
    body = site.machine().checkin()
    other = Store(db.connect(tmp_path / "kmshost.db"))
    with other.writing(), pytest.raises(Refused) as refused:
        site.ask(body)
    assert refused.value.refusal.code == "busy"
    assert dict(site.ask(body)[0].extra)["count"] == 1
    other.close()
    site.close()


def test_the_ledger_reads_page_by_page(site: Site, numbers: Numbers) -> None:
    site.call(site.machines(3))
    site.clock.pass_(HOUR)
    site.call(site.machines(4))
    site.clock.time = NOW + numbers.lifetime
    with site.store.reading() as tx:
        first = ledger.pages(tx, 0, 4)
        rest = ledger.pages(tx, first[-1].id, 4)
        assert (len(first), len(rest)) == (4, 3)
        assert first[-1].id < rest[0].id
        live = ledger.pages(tx, 0, 7, live_at=site.clock.now())
    assert len(live) == 4
    assert {row.last for row in live} == {NOW + HOUR}
    assert [row.id for row in live] == sorted(row.id for row in live)


def test_machines_are_counted_by_private_and_global_source(site: Site, numbers: Numbers) -> None:
    """K17. Of a machine that counts, the last address of each product; of one that does not, nothing."""

    def call(address: str, machine: Machine, product: str = PRODUCT) -> None:
        body = machine.checkin(product)
        site.host.answer([(Sent(body["token"], body["jwk"]), address)])

    def by_source() -> tuple[int, int]:
        with site.store.reading() as tx:
            found = surveys.by_source(tx, site.clock.now())
        assert set(found) == {"private", "global"}
        return found["private"], found["global"]

    assert by_source() == (0, 0)
    private = ["10.0.0.1", "::ffff:192.168.7.7", "fd00::ffff:1", "127.0.0.1", "172.31.255.255"]
    others = ["198.51.100.7", "::ffff:8.8.8.8", "2001:db8::1", "172.32.0.1", "100.128.0.1", "fd1::2"]
    machines = site.machines(len(private) + len(others))
    for machine, address in zip(machines, private + others, strict=True):
        call(address, machine)
    assert by_source() == (5, 6)
    call("10.0.0.1", machines[0], SERVER)
    assert by_source() == (5, 6)
    call("8.8.4.4", machines[0], SERVER)
    assert by_source() == (5, 7)
    site.clock.pass_(numbers.lifetime)
    assert by_source() == (0, 0)
