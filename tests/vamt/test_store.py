"""VAMT's store: one schema on both databases, and what a batch of sightings and reports writes."""

from pathlib import Path

import pytest
import sqlalchemy as sa

import migrated
from vamt.site import ADMINISTRATOR, OPERATOR, PUB, Site, product, report
from volact.vamt import groups, records, schema, store
from volact.vamt.collecting.targets import Login
from volact.vamt.estate import Estate
from volact.vamt.inventory import Machine, Report, Sighting
from volact.vamt.records import Installed
from volact.vamt.selecting import Selection
from volact.vamt.store import Store
from world import NOW

SCRIPTS = Path(store.__file__).parent / "migrations"


def test_the_migrated_schema_is_the_one_of_the_code(database: str | Path) -> None:
    assert migrated.is_the_schema_of(schema.metadata, database)


def test_the_newest_script_is_the_revision_of_the_code() -> None:
    assert migrated.newest(SCRIPTS) == [schema.REVISION]


def test_a_store_of_a_newer_version_is_refused_and_not_touched(database: str | Path) -> None:
    migrated.newer_is_refused(Store, database, schema.REVISION)


def test_groups_of_the_schema_before_are_found_after_the_upgrade(site: Site) -> None:
    site.see(Sighting("dns", "web1", group="Ärzte"))
    with site.store.writing() as tx:
        tx.exec_driver_sql("ALTER TABLE grp DROP COLUMN small")
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '0004'")
    site.store.migrate()
    with site.store.reading() as tx:
        assert groups.alike(tx) == {"ärzte": "Ärzte"}


def test_the_number_of_a_list_only_rises(site: Site) -> None:
    for expected in (1, 2, 3):
        with site.store.writing() as tx:
            assert store.next_sequence(tx) == expected


# --- machines -----------------------------------------------------------------------------------------------------

DNS = Sighting("dns", "web1", "a.test", ("192.0.2.1",), 22, "ssh", "linux", ("02000000aaaa",), ("ssh-rsa A",))


def machine(site: Site, name: str) -> Machine:
    return site.vamt.machines.show(OPERATOR, name).machine


def told(site: Site, name: str, said: Report) -> str:
    """A report of the machine of that name, which shows the key of `DNS`, as collection writes it."""
    with site.store.writing() as tx:
        (number,) = records.numbers(tx, [machine(site, name).mid]).values()
        loaded = records.load(tx, records.about(tx, [], [said]) | {number})
        estate = Estate(loaded.values(), site.vamt.machines.new_id)
        placed = estate.report(loaded[number].mid, said, site.clock.now(), "ssh-rsa A")
        known = records.save(tx, estate, {one.mid: at for at, one in loaded.items()})
        installed = [Installed(one, "reported") for one in said.products]
        records.put_products(tx, {known[placed.mid]: (estate[placed.mid], installed)}, site.clock.now())
    return placed.mid


def test_what_was_said_of_a_machine_comes_back_as_it_was(site: Site) -> None:
    site.see(DNS)
    said = report(
        "web1",
        "a.test",
        [
            product(
                cmid="X",
                channel="mak",
                partial_key="M0001",
                granted=NOW,
                expires=NOW + 5,
                grant={"token": "t"},
            )
        ],
        system="Debian 12",
        platform="linux",
        identity="I" * 43,
        virtual=True,
        hypervisor="kvm",
        host_identity="h",
        instances=3,
        macs=("02000000bbbb",),
    )
    told(site, "web1", said)
    shown = site.vamt.machines.show(OPERATOR, "web1.a.test")
    one = shown.machine
    assert one.report == said._replace(products=())
    assert (one.addresses, one.port, one.transport, one.host_keys) == (
        ("192.0.2.1",),
        22,
        "ssh",
        ("ssh-rsa A",),
    )
    assert one.macs == ("02000000aaaa", "02000000bbbb")
    assert one.cmids == {(PUB, "X")}
    assert (one.first, one.last, one.collected) == (NOW, NOW, NOW)
    assert [each.product for each in shown.products] == list(said.products)
    assert {each.proof for each in shown.products} == {"reported"}


def test_a_report_replaces_what_is_installed(site: Site) -> None:
    site.see(DNS)
    told(site, "web1", report("web1", "a.test", [product("a", 0), product("b", 1)]))
    told(site, "web1", report("web1", "a.test", [product("b", 5)]))
    assert site.names() == ["web1/b"]
    told(site, "web1", report("web1", "a.test"))
    assert site.names() == ["web1"]


def test_a_product_that_is_named_twice_is_one_row(site: Site) -> None:
    site.see(DNS)
    told(site, "web1", report("web1", "a.test", [product(state=0), product(state=1)]))
    assert [row.product["state"] for row in site.listed().page.rows if row.product] == [1]


def test_a_renamed_machine_keeps_its_row_groups_and_products(site: Site) -> None:
    site.see(DNS._replace(group="Secure"))
    mid = told(site, "web1", report("web1", "a.test", [product(cmid="X")], identity="I"))
    site.see(Sighting("ldap", "web2", "a.test", group="Other"))
    site.vamt.machines.note(OPERATOR, Selection(("web2",)), "new name")
    assert told(site, "web2", report("web2", "a.test", [product(cmid="X")], identity="I")) == mid
    shown = site.vamt.machines.show(OPERATOR, "web2")
    assert (shown.machine.mid, shown.groups, shown.notes) == (mid, ["Other", "Secure"], "new name")
    assert site.names() == ["web2/com.example.cad"]
    assert site.names("name=web2 state=licensed") == ["web2/com.example.cad"]


@pytest.mark.parametrize("with_login", ["Other", "Secure"])
def test_what_a_machine_says_brings_its_row_into_no_group_with_a_login(site: Site, with_login: str) -> None:
    """Two rows of one key become one: it has its own groups, and none with a login is added."""
    site.see(DNS._replace(group="Secure"))
    mid = told(site, "web1", report("web1", "a.test", [product(cmid="X")], identity="I"))
    site.see(Sighting("known-hosts", "web2", "a.test", host_keys=DNS.host_keys, group="Other"))
    site.vamt.logins.put(ADMINISTRATOR, with_login, Login(user="root", agent="/agent"), None)
    assert told(site, "web2", report("web2", "a.test", [product(cmid="X")], identity="I")) == mid
    groups = site.vamt.machines.show(OPERATOR, "web2").groups
    assert groups == (["Secure"] if with_login == "Other" else ["Other", "Secure"])


def test_what_was_asked_of_a_row_is_asked_of_the_one_it_became(site: Site) -> None:
    site.see(DNS, Sighting("ldap", "web2", "a.test"))
    old = machine(site, "web2").mid
    mid = told(site, "web1", report("web1", "a.test", [product(cmid="X")]))
    with site.store.writing() as tx:
        action = tx.execute(
            sa.insert(schema.action)
            .values(aid="A", what="x", options="", selection="", dry=False, state="running", who="w", at=NOW)
            .returning(schema.action.c.id)
        ).scalar_one()
        row = {
            "action": action,
            "machine": "",
            "state": "waiting",
            "code": "",
            "detail": "",
            "tries": 0,
            "key": "",
        }
        rows = [
            {**row, "mid": old, "pub": "p", "prd": "a"},
            {**row, "mid": old, "pub": "p", "prd": "b"},
            {**row, "mid": mid, "pub": "p", "prd": "b"},
        ]
        tx.execute(sa.insert(schema.action_row), rows)
    told(site, "web2", report("web2", "a.test", [product(cmid="X")]))
    with site.store.reading() as tx:
        columns = (schema.action_row.c.mid, schema.action_row.c.prd)
        assert sorted(tx.execute(sa.select(*columns)).all()) == sorted([(mid, "a"), (mid, "b"), (old, "b")])


def test_a_batch_unites_rows_that_are_there_with_new_ones(site: Site) -> None:
    """An address was found and put into a group; then a list names it."""
    site.see(Sighting("addresses", addresses=("192.0.2.1",), group="Found"))
    before = machine(site, "192.0.2.1").mid
    site.see(Sighting("ldap", "web1", "a.test"), DNS)
    shown = site.vamt.machines.show(OPERATOR, "web1")
    assert shown.groups == ["Found"]
    assert shown.machine.mid != before
    assert site.names() == ["web1"]


def test_how_collection_ended_is_kept(site: Site) -> None:
    site.see(DNS)
    with site.store.writing() as tx:
        numbers = records.numbers(tx, [machine(site, "web1").mid])
        records.put_outcomes(tx, [(one, "unreachable-port", "22") for one in numbers.values()], NOW)
    shown = site.vamt.machines.show(OPERATOR, "web1")
    assert (shown.code, shown.detail, shown.tried) == ("unreachable-port", "22", NOW)
    assert site.names("outcome=unreachable-*") == ["web1"]
    assert site.names("outcome=none") == []


def test_a_machine_that_is_removed_leaves_nothing(site: Site) -> None:
    site.see(DNS._replace(group="Secure"))
    told(site, "web1", report("web1", "a.test", [product(cmid="X", grant={"token": "t"})], identity="I"))
    told(site, "web1", report("web2", "a.test", [product(cmid="X", grant={"token": "t"})], identity="I"))
    assert machine(site, "web2").aliases == {("web1", "a.test")}
    assert site.vamt.machines.remove(OPERATOR, Selection(("web2",))) == 1
    with site.store.reading() as tx:
        for table in ("machine", "said", "alias", "address", "cmid", "installed", "shown", "member"):
            assert (
                tx.execute(sa.select(sa.func.count()).select_from(schema.metadata.tables[table])).scalar()
                == 0
            )
