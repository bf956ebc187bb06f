"""K14: the host lists which machines called with another one's identity, since when, how often, and what became of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from databases import Databases
from kmshost.site import ADDRESS, HOUR, PRODUCT, SERVER, Machine, Numbers, Site, activated, refused
from volact import signing
from volact.kmshost import clones, schema, surveys
from volact.kmshost.surveys import Copy
from world import DAY, NOW, facts


def opened(site: Site) -> Any:
    """As much of an opened host as the list looks at."""
    return SimpleNamespace(store=site.store, clock=site.clock)


def listed(site: Site) -> list[dict[str, Any]]:
    return clones.images(opened(site))


def copy_of(one: Machine, site: Site, serial: int) -> Machine:
    """The same disk in another machine: its identity, and other hardware."""
    return Machine(site, parts=facts(serial), signer=one.signer)


def fresh(copy: Machine, site: Site) -> Machine:
    """The copy after it has made itself an identity of its own."""
    return Machine(site, parts=copy.parts, signer=signing.generate())


def at(seconds: int) -> str:
    from volact.commands import when

    return when(seconds)


def test_nothing_is_listed_where_nobody_was_copied(site: Site, numbers: Numbers) -> None:
    activated(site, numbers)
    assert listed(site) == []
    assert clones.prose([]) == "No machine has called with another one's identity."


def test_a_copy_is_listed_with_its_image_and_with_its_own_identity_once_it_has_one(
    site: Site, numbers: Numbers
) -> None:
    image = activated(site, numbers)[0]
    image.call(name="golden")
    start = site.clock.now()
    copy = copy_of(image, site, 900_001)
    for passed in (60, 60, 60):
        site.clock.pass_(passed)
        assert refused("identity-cloned", [copy.call(name="desk-7")])
    (found,) = listed(site)
    assert found == {
        "cmid": image.cmid,
        "product": PRODUCT,
        "name": "golden",
        "address": ADDRESS,
        "since": at(start),
        "last": at(start),
        "copies": [
            {
                "name": "desk-7",
                "address": ADDRESS,
                "since": at(start + 60),
                "last": at(start + 180),
                "times": 3,
                "own_cmid": None,
            }
        ],
    }
    own = fresh(copy, site)
    own.call(name="desk-7b")
    (row,) = listed(site)[0]["copies"]
    assert (row["own_cmid"], row["name"], row["times"]) == (own.cmid, "desk-7b", 3)
    text = clones.prose(listed(site))
    assert "1 copy, 1 with an identity of their own" in text
    assert image.cmid in text
    assert own.cmid in text
    assert site.counts()[0] == numbers.machines + 1  # it counts for itself


def test_twenty_copies_of_one_image_and_one_of_another(site: Site, numbers: Numbers) -> None:
    first, second = activated(site, numbers)[:2]
    copies = [copy_of(first, site, 910_000 + n) for n in range(20)]
    site.call([*copies, copy_of(second, site, 920_000)])
    by_image = {one["cmid"]: one["copies"] for one in listed(site)}
    assert {cmid: len(rows) for cmid, rows in by_image.items()} == {first.cmid: 20, second.cmid: 1}
    for copy in copies[:5]:
        fresh(copy, site).call()
    by_image = {one["cmid"]: one["copies"] for one in listed(site)}
    assert sum(row["own_cmid"] is not None for row in by_image[first.cmid]) == 5


def test_who_switches_back_is_listed_too(site: Site, numbers: Numbers) -> None:
    """Row 4 of PROTOCOL section 5: A, B, A; two are alive, and the one that has called before is told."""
    one = site.machine()
    board = facts(930_000)
    swapped = Machine(
        site, parts={**one.parts, "uuid": board["uuid"], "board": board["board"]}, signer=one.signer
    )
    one.call()
    swapped.call()
    assert refused("identity-cloned", [one.call()])
    (found,) = listed(site)
    assert len(found["copies"]) == 1


def test_a_copy_is_listed_for_each_product_and_the_image_is_gone_with_its_record(
    site: Site, numbers: Numbers
) -> None:
    image = site.machine()
    image.call()
    image.call(SERVER)
    copy = copy_of(image, site, 940_000)
    copy.call()
    copy.call(SERVER)
    assert {one["product"] for one in listed(site)} == {PRODUCT, SERVER}
    site.clock.pass_(numbers.lifetime)
    for one in listed(site):
        assert (one["name"], one["address"], one["since"]) == (None, None, None)
        assert "its own record has ended" in clones.prose([one])


def test_many_calls_in_one_batch_are_counted_each(site: Site, numbers: Numbers) -> None:
    image = site.machine()
    image.call()
    copy = copy_of(image, site, 950_000)
    site.ask(*[copy.checkin() for _ in range(7)])
    assert [row["times"] for row in listed(site)[0]["copies"]] == [7]


def test_a_name_steers_no_terminal(site: Site, numbers: Numbers) -> None:
    """T36."""
    image = site.machine()
    image.call()
    copy_of(image, site, 960_000).call(name="desk\x1b[2J\n7")
    assert [row["name"] for row in listed(site)[0]["copies"]] == ["desk?[2J?7"]


def test_a_failed_batch_lists_nothing(site: Site, numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is written with the refusal's event, or neither is."""
    image = site.machine()
    image.call()
    copy = copy_of(image, site, 970_000)
    body = copy.checkin()
    before = site.rows("event")
    monkeypatch.setattr("volact.kmshost.store.add_tally", _fails)
    with pytest.raises(RuntimeError):
        site.send(body)
    monkeypatch.undo()
    assert (site.rows("event"), listed(site)) == (before, [])


def _fails(*_: object) -> None:
    raise RuntimeError("the transaction ends here")


@pytest.fixture
def plain(databases: Databases, tmp_path: Path) -> Iterator[Site]:
    made = Site(databases.sqlite(tmp_path / "kmshost.db"))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("known", "more", "expected"), [(9_998, 1, 9_999), (9_999, 2, 10_000), (10_000, 1, 10_000)]
)
def test_an_image_whose_key_got_about_does_not_fill_the_store(
    plain: Site, known: int, more: int, expected: int
) -> None:
    rows = [Copy("image", PRODUCT, f"fp{n}", ADDRESS, None, NOW, NOW, 1) for n in range(known)]
    with plain.store.writing() as tx:
        tx.execute(schema.clone.insert(), [one._asdict() for one in rows])
    new = [Copy("image", PRODUCT, f"new{n}", ADDRESS, None, NOW, NOW, 1) for n in range(more)]
    with plain.store.writing() as tx:
        surveys.note_copies(tx, new)
        surveys.note_copies(tx, [Copy("another", PRODUCT, "fp", ADDRESS, None, NOW, NOW, 1)])
    with plain.store.reading() as tx:
        found = surveys.copies(tx)
    assert sum(one.cmid == "image" for one in found) == expected
    assert sum(one.cmid == "another" for one in found) == 1
    with plain.store.writing() as tx:
        surveys.note_copies(tx, [rows[0]._replace(last=NOW + DAY)])  # a known one is counted on
    with plain.store.reading() as tx:
        assert next(one for one in surveys.copies(tx) if one.fp == "fp0")[-2:] == (NOW + DAY, 2)


def test_two_hosts_of_one_count_list_together(make_site: Callable[..., Site], kind: str) -> None:
    """K12."""
    first = make_site()
    second = make_site(beside=first)
    image = first.machine()
    image.call()
    copy = copy_of(image, first, 980_000)
    copy.call()
    second.clock.pass_(HOUR)
    elsewhere = Machine(second, parts=copy.parts, signer=image.signer)
    assert refused("identity-cloned", [elsewhere.call()])
    assert [row["times"] for row in listed(first)[0]["copies"]] == [2]
