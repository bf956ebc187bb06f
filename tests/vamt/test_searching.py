"""V3: filters and orders over machines and products, on both databases, against a model in plain Python."""

import fnmatch
import itertools
import random
from typing import Any

import pytest
import sqlalchemy as sa

from vamt.site import PUB, VIEWER, Site, product, report
from volact.protocol.problems import Refusal, Refused
from volact.vamt import groups, records, searching
from volact.vamt.estate import Estate
from volact.vamt.filters import FIELDS, parse
from volact.vamt.inventory import Sighting
from volact.vamt.records import Installed
from volact.vamt.searching import SORTS, Order
from volact.vamt.selecting import Selection, select
from world import DAY, NOW

WORDS = (
    "unlicensed",
    "licensed",
    "initial-grace",
    "out-of-tolerance-grace",
    "non-genuine-grace",
    "notification",
)
Row = dict[str, Any]


def fill(site: Site, machines: int = 40) -> list[Row]:
    """An estate of machines with 0 to 3 products; the rows that it should have, as the filter's fields call them."""
    chance = random.Random(7)
    expected: list[Row] = []
    with site.store.writing() as tx:
        secure = groups.create(tx, "Secure Network", "", NOW)
        for serial in range(machines):
            name, domain = (
                f"{chance.choice(('web', 'db', 'app_x', 'pc%'))}{serial:02d}",
                f"d{serial % 3}.test",
            )
            address, source = f"192.0.2.{serial}", chance.choice(("ldap", "dns", "addresses"))
            seen = NOW - chance.randrange(30) * DAY
            estate = Estate((), site.vamt.machines.new_id)
            mid = estate.see(Sighting(source, name, domain, (address,)), seen)
            assert mid
            said = report(
                name,
                domain,
                [
                    product(
                        f"com.example.p{number}",
                        chance.randrange(6),
                        channel=chance.choice(("mak", "kms", "retail", "")),
                        granted=chance.choice((None, NOW - chance.randrange(60) * DAY)),
                        expires=chance.choice((None, NOW + chance.randrange(60) * DAY)),
                        host=chance.choice(("", "KMS.test:1688")),
                        partial_key=chance.choice(("", "M0001")),
                        reason=chance.choice(("ok", "key-removed")),
                    )
                    for number in range(chance.randrange(4))
                ],
                platform=chance.choice(("linux", "windows")),
                system=chance.choice(("Debian 12", "Ubuntu 24")),
                virtual=chance.choice((True, False)),
                hypervisor=chance.choice(("", "KVM")),
            )
            collected = chance.random() < 0.8
            if collected:
                estate.report(mid, said, seen)
            number = records.save(tx, estate, {})[mid]
            code = chance.choice(("ok", "unreachable-port")) if collected else ""
            if code:
                records.put_outcomes(tx, [(number, code, "")], seen)
            if collected:
                proof = chance.choice(("reported", "proved"))
                records.put_products(
                    tx, {number: (estate[mid], [Installed(one, proof) for one in said.products])}, seen
                )
            in_group = chance.random() < 0.4
            if in_group:
                groups.add(tx, secure, [number])
            row: Row = {
                "name": name,
                "domain": domain,
                "address": address,
                "group": "secure network" if in_group else None,
                "platform": said.platform if collected else "",
                "system": said.system if collected else "",
                "virtual": ("yes" if said.virtual else "no") if collected else None,
                "hypervisor": said.hypervisor if collected else "",
                "source": source,
                "outcome": code or "none",
                "seen": seen,
                "collected": seen if collected else None,
                "id": mid,
            }
            for one in said.products if collected else ():
                expected.append(
                    row
                    | {
                        "publisher": PUB,
                        "product": one.product,
                        "state": WORDS[one.state],
                        "key": one.channel,
                        "label": one.partial_key,
                        "host": one.host,
                        "reason": one.reason,
                        "proof": proof,
                        "granted": one.granted,
                        "expires": one.expires,
                    }
                )
            if not collected or not said.products:
                expected.append(row)
    return expected


def holds(row: Row, term: str) -> bool:
    """Whether a term holds of a row: an independent reading of the filter's documentation."""
    operator = next(one for one in ("!=", "!~", "=", "~", "<", ">") if one in term)
    field, _, text = term.partition(operator)
    have = row.get(field)
    if operator in "<>":
        if have is None:
            return False
        span = int(text[:-1]) * DAY
        away = have - NOW if field == "expires" else NOW - have
        return bool(away < span if operator == "<" else away > span)
    values = [one.strip('"').lower() for one in text.split(",")]
    if have is None:
        found = False
    elif "~" in operator:
        found = any(fnmatch.fnmatchcase(have.lower(), f"*{one}*") for one in values)
    else:
        found = any(fnmatch.fnmatchcase(have.lower(), one) for one in values)
    return found is not operator.startswith("!")


TERMS = [
    ["name=web*"],
    ["name~web0"],
    ["name=web*,db*"],
    ["name~app_"],
    ["name~pc%"],
    ["name=app_x*"],
    ["name=nobody"],
    ["name!~web", "domain=d1.test"],
    ["domain=d1.test,d2.test"],
    ["address=192.0.2.1*"],
    ["address!=192.0.2.1*"],
    ['group="secure network"'],
    ['group="Secure Network"', "state=licensed", "key=mak"],
    ["group!=secure*"],
    ["platform=linux"],
    ["system=debian*"],
    ["virtual=yes"],
    ["virtual=no", "state!=licensed"],
    ["virtual!=yes"],
    ["hypervisor=kvm"],
    ["source=dns"],
    ["source=d*"],
    ["source~ad"],
    ["outcome=ok"],
    ["outcome!=ok"],
    ["outcome=none"],
    ["outcome!=none"],
    ["outcome~port"],
    ["seen<7d"],
    ["seen>7d", "state=licensed"],
    ["collected<20d"],
    ["publisher=" + PUB],
    ["product=com.example.p1"],
    ["product=com.example.*", "state!=licensed"],
    ["product!=com.example.p1"],
    ["state=licensed"],
    ["state=licensed,unlicensed", "key=kms"],
    ["state!=licensed"],
    ["state!=licensed", "key!=mak"],
    ["key=mak,retail"],
    ["label=m0001"],
    ["host~kms"],
    ["host!~kms"],
    ["reason=key-removed"],
    ["proof=proved"],
    ["proof!=proved"],
    ["granted<30d"],
    ["granted>30d"],
    ["expires<30d"],
    ["expires>30d", "state=notification"],
    ["seen<20d", "product=com.example.p2", "name~1"],
    [],
]


@pytest.fixture
def estate(site: Site) -> tuple[Site, list[Row]]:
    return site, fill(site)


def key(row: Row) -> tuple[str, str, str]:
    return row["name"], row["domain"], row.get("product") or ""


def got(site: Site, terms: list[str], order: Order | None = None, **more: Any) -> list[tuple[str, str, str]]:
    rows = site.listed(" ".join(terms), order, **more).page.rows
    return [
        (one.machine["name"], one.machine["domain"], one.product["prd"] if one.product else "")
        for one in rows
    ]


def test_every_filter_lets_through_what_it_says(
    estate: tuple[Site, list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of reading: few rows that are then sorted, and many that are read in order; and where they begin."""
    site, rows = estate
    assert {
        term.split(op)[0] for terms in TERMS for term in terms for op in ("!", "=", "~", "<", ">")
    } >= set(FIELDS) - {"id"}
    for few, some in ((5_000, 20_000), (0, 0)):
        monkeypatch.setattr(searching, "_FEW", few)
        monkeypatch.setattr(searching, "_SOME", some)
        for terms in TERMS:
            expected = [key(row) for row in rows if all(holds(row, term) for term in terms)]
            page = site.listed(" ".join(terms)).page
            assert got(site, terms) == sorted(expected), terms
            assert page.total == len(expected), terms
    mid = rows[0]["id"]
    assert {row.machine["mid"] for row in site.listed(f"id={mid}").page.rows} == {mid}


def test_rows_stand_in_every_order(estate: tuple[Site, list[Row]], monkeypatch: pytest.MonkeyPatch) -> None:
    site, rows = estate
    products = ["product=com.example.*"]
    for field, few, terms in itertools.product(SORTS, (5_000, 0), (products, [])):
        monkeypatch.setattr(searching, "_FEW", few)
        wanted = {key(row): row for row in rows if all(holds(row, term) for term in terms)}
        up = got(site, terms, Order(field))
        down = got(site, terms, Order(field, descending=True))
        assert sorted(up) == sorted(wanted)
        if field in ("state", "virtual", "address", "system", "outcome"):
            continue  # their order is a number's, or a database's own
        values = [wanted[one].get(field) for one in up]
        there = [value for value in values if value not in (None, "")]
        assert there == sorted(there)
        there = [value for value in [wanted[one].get(field) for one in down] if value not in (None, "")]
        assert there == sorted(there, reverse=True)


def test_states_stand_in_the_order_of_their_numbers(estate: tuple[Site, list[Row]]) -> None:
    site, _ = estate
    states = [
        row.product["state"]
        for row in site.listed("state=0,1,2,3,4,5", Order("state")).page.rows
        if row.product
    ]
    assert states == sorted(states)
    assert len(set(states)) == 6


def test_pages_are_the_list_in_parts(estate: tuple[Site, list[Row]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows, which are sorted, and many, which are put together, stand in one order."""
    site, rows = estate
    bare = [key(row) for row in rows if "product" not in row]
    assert 7 < len(bare) < 30
    for where, order in (
        (["name=*"], "name"),
        (["name=*"], "-state"),
        (["name=*"], "state"),
        ([], "-granted"),
        (["platform=linux"], "-seen"),
        (["state=licensed,unlicensed"], "name"),
        (["state!=licensed"], "expires"),
        (["virtual=yes"], "domain"),
    ):
        by = searching.order_of(order)
        monkeypatch.setattr(searching, "_FEW", 5_000)
        whole = got(site, where, by)
        assert len(set(whole)) == len(whole)
        for few in (5_000, 0):
            monkeypatch.setattr(searching, "_FEW", few)
            parts = [
                one for at in range(0, len(whole), 7) for one in got(site, where, by, limit=7, offset=at)
            ]
            assert parts == whole
            assert got(site, where, by, limit=7, offset=len(whole)) == []
            assert got(site, where, by, limit=1, offset=len(whole) - 1) == whole[-1:]
            empty = site.listed(" ".join(where), by, limit=0).page
            assert (empty.total, empty.rows) == (len(whole), [])


@pytest.mark.parametrize(
    ("where", "plan"),
    [
        ("reason=ok", "SCAN installed USING COVERING INDEX ix_installed_asked"),
        ("proof=proved state=licensed", "SCAN installed USING COVERING INDEX ix_installed_asked"),
        (
            "system=debian* state=licensed",
            "SEARCH installed USING COVERING INDEX ix_installed_asked (machine=?)",
        ),
        (
            "state=licensed",
            "SEARCH installed USING COVERING INDEX ix_installed_state_name_domain_prd (state=?)",
        ),
    ],
)
def test_filters_over_many_products_read_an_index_alone(
    where: str, plan: str, light_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would look up each product, or each one's machine, in a table ten times as wide (issue 5)."""
    fill(light_site)
    monkeypatch.setattr(searching, "_SOME", 0)
    said: list[tuple[str, Any]] = []
    sa.event.listen(light_site.store.engine, "before_cursor_execute", lambda *said_: said.append(said_[2:4]))
    terms = parse(where)
    assert not isinstance(terms, Refusal)
    with light_site.store.reading() as tx:
        searching.count(tx, terms, NOW)
        found = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {said[-1][0]}", said[-1][1]).all()
    assert plan in [row[3] for row in found]


# --- selections -----------------------------------------------------------------------------------------------------


@pytest.fixture
def named(light_site: Site) -> Site:
    light_site.see(
        Sighting("dns", "web1", "a.test", ("192.0.2.1",), group="Secure"),
        Sighting("dns", "web2", "a.test", ("192.0.2.2",), group="Secure"),
        Sighting("dns", "web2", "b.test", ("192.0.2.3",)),
    )
    return light_site


def chosen(site: Site, selection: Selection) -> list[str]:
    with site.store.reading() as tx:
        return [one.name for one in select(tx, selection, NOW)]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(("web1",)), ["web1"]),
        (Selection(("WEB1.a.test.", "192.0.2.1")), ["web1"]),
        (Selection(("web2.b.test", "192.0.2.2")), ["web2", "web2"]),
        (Selection(group="Secure"), ["web1", "web2"]),
        (Selection(where="domain=b.test"), ["web2"]),
        (Selection(("web1", "web2.b.test"), group="Secure"), ["web1"]),
        (Selection(all=True), ["web1", "web2", "web2"]),
    ],
)
def test_a_selection_is_what_all_of_it_lets_through(
    named: Site, selection: Selection, expected: list[str]
) -> None:
    assert chosen(named, selection) == expected


@pytest.mark.parametrize(
    ("selection", "code", "said"),
    [
        (Selection(), "selection-empty", "Nothing was selected."),
        (Selection(where="name=nobody"), "selection-empty", ""),
        (Selection(("nobody",)), "machine-unknown", "'nobody'."),
        (Selection(("web1.b.test",)), "machine-unknown", "'web1.b.test'."),
        (Selection(("web2",)), "machine-unknown", "'web2' (which of web2.a.test, web2.b.test?)."),
        (
            Selection(tuple(f"no{n}" for n in range(7))),
            "machine-unknown",
            "'no0', 'no1', 'no2', 'no3', 'no4' and 2 more.",
        ),
        (Selection(group="secure"), "group-unknown", "'secure'."),
        (Selection(view="mine"), "view-unknown", "'mine'."),
        (
            Selection(where="grup=a"),
            "filter-malformed",
            "At character 1: there is no field 'grup'; did you mean 'group'?",
        ),
    ],
)
def test_a_selection_that_says_nothing_or_nonsense_is_refused(
    named: Site, selection: Selection, code: str, said: str
) -> None:
    with pytest.raises(Refused) as refused:
        chosen(named, selection)
    assert (refused.value.refusal.code, refused.value.refusal.detail) == (code, said)


def test_a_view_keeps_a_filter_and_an_order(named: Site) -> None:
    named.vamt.views.save(VIEWER, "mine", "name=web*", "-name")
    assert named.names(view="mine") == ["web2", "web2", "web1"]
    assert named.names("domain=a.test", view="mine") == ["web2", "web1"]
    assert named.names("", Order("name"), view="mine") == ["web1", "web2", "web2"]
    assert chosen(named, Selection(("web1",), view="mine")) == ["web1"]


def test_a_selection_is_logged_as_what_was_given() -> None:
    assert Selection(("a",), where="b=c").said() == {"machines": ("a",), "where": "b=c"}
    assert parse("name=a") != parse("name=b")


@pytest.mark.parametrize("said", ["group=Ärzte", "group=ärzte", "group=ÄRZTE", "group~rzt", "group=ä*"])
def test_small_and_large_letters_are_equal_beyond_ascii_too(site: Site, said: str) -> None:
    site.see(Sighting("dns", "web1", "a.test", ("192.0.2.1",), group="Ärzte"), Sighting("dns", "web2"))
    assert chosen(site, Selection(where=said)) == ["web1"]
