"""V6: every action through one place: who may, and what the log says of it; groups, views, people, publishers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client.publisher import Publisher
from vamt.site import ADMINISTRATOR, AUDITOR, OPERATOR, VIEWER, Site
from volact.protocol.problems import DocumentRefused, Refusal, Refused, UsageError
from volact.vamt import people
from volact.vamt.inventory import Sighting
from volact.vamt.people import Person
from volact.vamt.selecting import Selection
from world import DAY, NOW

WEB = Sighting("dns", "web1", "a.test", ("192.0.2.1",))
Act = Callable[[Site, Person], Any]
FILE = Publisher(iat=NOW)


def product_file(publisher: Publisher, **more: Any) -> bytes:
    return json.dumps(publisher.product(**more)).encode()


# Every acting method, in an order in which each can be done.
ACTS: list[tuple[str, Act]] = [
    ("discover", lambda site, who: site.vamt.machines.take_sightings(who, [WEB], source="dns")),
    ("change-machines", lambda site, who: site.vamt.machines.add(who, WEB._replace(source="hand"))),
    ("change-machines", lambda site, who: site.vamt.machines.note(who, Selection(("web1",)), "a note")),
    ("change-groups", lambda site, who: site.vamt.groups.create(who, "Secure")),
    ("change-groups", lambda site, who: site.vamt.groups.add(who, "Secure", Selection(("web1",)))),
    ("change-groups", lambda site, who: site.vamt.groups.take_out(who, "Secure", Selection(("web1",)))),
    ("change-groups", lambda site, who: site.vamt.groups.delete(who, "Secure")),
    ("save-view", lambda site, who: site.vamt.views.save(who, "mine", "name=web*")),
    ("save-view", lambda site, who: site.vamt.views.delete(who, "mine")),
    ("change-people", lambda site, who: site.vamt.access.put(who, "zoe", "viewer")),
    ("change-people", lambda site, who: site.vamt.access.make_token(who, "zoe", "a script")),
    ("change-people", lambda site, who: site.vamt.access.revoke_tokens(who, "zoe")),
    ("change-people", lambda site, who: site.vamt.access.remove(who, "zoe")),
    ("change-publishers", lambda site, who: site.vamt.publishers.add(who, product_file(FILE), FILE.pub)),
    ("change-machines", lambda site, who: site.vamt.machines.remove(who, Selection(all=True))),
]
LOOKS: list[Act] = [
    lambda site, who: site.vamt.machines.list(who, limit=10),
    lambda site, who: site.vamt.groups.list(who),
    lambda site, who: site.vamt.views.list(who),
    lambda site, who: site.vamt.access.people(who),
    lambda site, who: site.vamt.publishers.list(who),
]


@pytest.mark.parametrize("person", [VIEWER, OPERATOR, ADMINISTRATOR, AUDITOR], ids=lambda one: one.role)
def test_each_role_does_what_it_may_and_all_of_it_is_logged(light_site: Site, person: Person) -> None:
    """The matrix of `test_people`, through every acting method there is."""
    expected = []
    for action, act in ACTS:
        allowed = people.may(person.role, action)
        if allowed:
            act(light_site, person)
        else:
            with pytest.raises(Refused) as refused:
                act(light_site, person)
            assert refused.value.refusal.code == "role-insufficient"
            act(light_site, ADMINISTRATOR)
        expected.append((person.name, action, "ok" if allowed else "role-insufficient"))
    mine = [entry[:3] for entry in light_site.log() if entry[0] == person.name]
    assert mine == expected
    for look in LOOKS:
        look(light_site, person)
    assert len(light_site.log()) == len(ACTS) + sum(not people.may(person.role, one) for one, _ in ACTS)


@pytest.mark.parametrize("person", [VIEWER, OPERATOR], ids=lambda one: one.role)
def test_the_log_is_for_those_who_may(light_site: Site, person: Person) -> None:
    with pytest.raises(Refused) as refused:
        light_site.vamt.access.log(person, limit=1)
    assert refused.value.refusal.code == "role-insufficient"
    assert light_site.vamt.access.log(ADMINISTRATOR, limit=1)[0].action == "look-at-log"


def test_a_role_that_is_none_may_nothing(light_site: Site) -> None:
    for look in LOOKS:
        with pytest.raises(Refused):
            look(light_site, Person("eve", "root"))


# --- the log --------------------------------------------------------------------------------------------------------


def test_an_action_that_fails_is_logged_with_its_code(site: Site) -> None:
    with pytest.raises(Refused):
        site.vamt.groups.add(OPERATOR, "nowhere", Selection(all=True))
    assert site.log() == [("otto", "change-groups", "group-unknown", None)]


def test_an_action_that_breaks_or_is_stopped_is_logged(light_site: Site) -> None:
    for raised, result in ((RuntimeError("secret text"), "internal"), (KeyboardInterrupt(), "stopped")):

        def source(error: BaseException = raised) -> Iterator[Sighting]:
            yield WEB
            raise error

        with pytest.raises(type(raised)):
            light_site.vamt.machines.take_sightings(OPERATOR, source(), source="dns")
        assert light_site.log()[-1] == ("otto", "discover", result, 1)
        assert "secret text" not in str(light_site.vamt.access.log(AUDITOR, limit=9))
        assert light_site.names() == ["web1"]  # what came before is kept
        light_site.vamt.machines.remove(OPERATOR, Selection(all=True))


def test_an_action_is_in_the_log_while_it_runs(light_site: Site) -> None:
    seen = []

    def source() -> Iterator[Sighting]:
        seen.append(light_site.log())
        yield WEB

    light_site.vamt.machines.take_sightings(OPERATOR, source(), source="dns")
    assert seen == [[("otto", "discover", "running", None)]]
    assert light_site.log() == [("otto", "discover", "ok", 1)]


def test_the_log_says_what_was_done_to_what(light_site: Site) -> None:
    light_site.vamt.groups.create(OPERATOR, "Secure")
    light_site.clock.pass_(60)
    light_site.vamt.machines.take_sightings(OPERATOR, [WEB])
    light_site.vamt.groups.add(ADMINISTRATOR, "Secure", Selection(("web1",), where="name~web"))
    newest, *_ = light_site.vamt.access.log(AUDITOR, limit=1)
    assert json.loads(newest.what) == {
        "add": "Secure",
        "selection": {"machines": ["web1"], "where": "name~web"},
    }
    assert (newest.who, newest.role, newest.at, newest.rows) == ("ada", "key-administrator", NOW + 60, 1)
    assert [one.action for one in light_site.vamt.access.log(AUDITOR, limit=9, who="otto")] == [
        "discover",
        "change-groups",
    ]
    assert [one.at for one in light_site.vamt.access.log(AUDITOR, limit=9, since=NOW + 60)] == [NOW + 60] * 2
    assert len(light_site.vamt.access.log(AUDITOR, limit=9, since=NOW + 61)) == 0
    assert len(light_site.vamt.access.log(AUDITOR, limit=9, action="discover")) == 1


def test_no_token_is_in_the_log_or_the_store(light_site: Site) -> None:
    light_site.vamt.access.put(ADMINISTRATOR, "zoe", "viewer")
    token = light_site.vamt.access.make_token(ADMINISTRATOR, "zoe")
    file = Path(str(light_site.store.engine.url.database))
    whole = b"".join(one.read_bytes() for one in file.parent.glob(f"{file.name}*"))
    assert b"zoe" in whole
    assert token.removeprefix("vamt_").encode() not in whole


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_a_token_is_its_person_with_the_role_of_now(site: Site) -> None:
    access = site.vamt.access
    access.put(ADMINISTRATOR, "zoe", "viewer")
    one, other = access.make_token(ADMINISTRATOR, "zoe", "a"), access.make_token(ADMINISTRATOR, "zoe", "b")
    assert len({one, other}) == 2
    assert access.identify(one) == access.identify(other) == Person("zoe", "viewer")
    assert access.put(ADMINISTRATOR, "zoe", "operator") is False
    assert access.identify(one) == Person("zoe", "operator")
    assert [(each.name, each.tokens) for each in access.people(VIEWER)] == [("zoe", 2)]
    assert access.revoke_tokens(ADMINISTRATOR, "zoe") == 2
    assert access.identify(one) == Refusal("token-refused")


def test_a_removed_person_has_no_token(site: Site) -> None:
    site.vamt.access.put(ADMINISTRATOR, "zoe", "viewer")
    token = site.vamt.access.make_token(ADMINISTRATOR, "zoe")
    site.vamt.access.remove(ADMINISTRATOR, "zoe")
    assert site.vamt.access.identify(token) == Refusal("token-refused")
    site.vamt.access.put(ADMINISTRATOR, "zoe", "key-administrator")
    assert site.vamt.access.identify(token) == Refusal("token-refused")


@pytest.mark.parametrize("token", ["", "vamt_", "vamt_" + "A" * 43, "\ud800", "x" * 10_000])
def test_what_is_no_token_is_refused(light_site: Site, token: str) -> None:
    assert light_site.vamt.access.identify(token) == Refusal("token-refused")


def test_a_use_is_noted_not_more_often_than_every_five_minutes(light_site: Site) -> None:
    access, clock = light_site.vamt.access, light_site.clock

    def used() -> int | None:
        with light_site.store.reading() as tx:
            return tx.exec_driver_sql("SELECT used FROM token").scalar()

    access.put(ADMINISTRATOR, "zoe", "viewer")
    token = access.make_token(ADMINISTRATOR, "zoe")
    assert used() is None
    for after, expected in ((0, NOW), (299, NOW), (1, NOW + 300), (1, NOW + 300)):
        clock.pass_(after)
        access.identify(token)
        assert used() == expected


@pytest.mark.parametrize("act", ["remove", "make_token", "revoke_tokens"])
def test_a_person_who_is_not_there(light_site: Site, act: str) -> None:
    with pytest.raises(Refused) as refused:
        getattr(light_site.vamt.access, act)(ADMINISTRATOR, "nobody")
    assert refused.value.refusal.code == "person-unknown"


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "x" * 65, "\x1b[2J"])
def test_what_is_no_name_is_refused(light_site: Site, name: str) -> None:
    for act in (
        lambda: light_site.vamt.access.put(ADMINISTRATOR, name, "viewer"),
        lambda: light_site.vamt.groups.create(ADMINISTRATOR, name),
        lambda: light_site.vamt.views.save(ADMINISTRATOR, name, ""),
    ):
        with pytest.raises(UsageError):
            act()
    assert light_site.log() == []


def test_a_name_of_64_characters_is_one(light_site: Site) -> None:
    light_site.vamt.groups.create(ADMINISTRATOR, "x" * 64)


def test_a_role_that_there_is_none_of(light_site: Site) -> None:
    with pytest.raises(UsageError, match="administrater"):
        light_site.vamt.access.put(ADMINISTRATOR, "zoe", "administrater")


# --- groups and views -----------------------------------------------------------------------------------------------


def test_machines_are_in_groups(site: Site) -> None:
    groups = site.vamt.groups
    site.see(WEB, WEB._replace(name="web2"), WEB._replace(name="db1"))
    groups.create(OPERATOR, "Secure", "behind the gap")
    assert groups.add(OPERATOR, "Secure", Selection(where="name=web*")) == 2
    assert groups.add(OPERATOR, "Secure", Selection(all=True)) == 1
    assert groups.take_out(OPERATOR, "Secure", Selection(("db1",))) == 1
    assert groups.take_out(OPERATOR, "Secure", Selection(("db1",))) == 0
    assert [(one.name, one.notes, one.machines) for one in groups.list(VIEWER)] == [
        ("Secure", "behind the gap", 2)
    ]
    with pytest.raises(Refused) as refused:
        groups.create(OPERATOR, "SECURE")
    assert refused.value.refusal.code == "already-exists"
    groups.delete(OPERATOR, "Secure")
    assert (groups.list(VIEWER), len(site.names())) == ([], 3)
    acts: list[Callable[[], object]] = [
        lambda: groups.delete(OPERATOR, "Secure"),
        lambda: groups.take_out(OPERATOR, "x", Selection(all=True)),
    ]
    for act in acts:
        with pytest.raises(Refused) as refused:
            act()
        assert refused.value.refusal.code == "group-unknown"


def test_a_view_is_its_owners(light_site: Site) -> None:
    views = light_site.vamt.views
    views.save(VIEWER, "mine", "name=a", "-name")
    views.save(VIEWER, "mine", "name=b")
    acts: list[Callable[[], object]] = [
        lambda: views.save(OPERATOR, "mine", ""),
        lambda: views.delete(OPERATOR, "mine"),
    ]
    for act in acts:
        with pytest.raises(Refused) as refused:
            act()
        assert refused.value.refusal.code == "already-exists"
    assert [(one.name, one.filter, one.sort, one.owner) for one in views.list(OPERATOR)] == [
        ("mine", "name=b", "", "vera")
    ]
    views.delete(ADMINISTRATOR, "mine")
    with pytest.raises(Refused) as refused:
        views.delete(VIEWER, "mine")
    assert refused.value.refusal.code == "view-unknown"


def test_a_view_that_could_not_be_shown_is_not_saved(light_site: Site) -> None:
    with pytest.raises(Refused) as refused:
        light_site.vamt.views.save(VIEWER, "mine", "nam=a")
    assert refused.value.refusal.code == "filter-malformed"
    with pytest.raises(UsageError, match="'size'"):
        light_site.vamt.views.save(VIEWER, "mine", "", "size")
    assert light_site.vamt.views.list(VIEWER) == []


# --- machines -------------------------------------------------------------------------------------------------------


def test_what_a_source_says_is_counted(site: Site) -> None:
    told: list[int] = []
    take = site.vamt.machines.take_sightings
    scan = Sighting("addresses", addresses=("192.0.2.1",))
    assert take(OPERATOR, [scan, WEB, Sighting("csv")], source="csv", tell=told.append) == (3, 1, 1, 1)
    assert take(OPERATOR, [WEB], tell=told.append) == (1, 1, 0, 0)
    assert take(OPERATOR, []) == (0, 0, 0, 0)
    assert told == [3, 1]


def test_groups_that_differ_in_case_are_one(site: Site) -> None:
    """As for who makes one by name: a filter makes no difference between them."""
    site.vamt.groups.create(OPERATOR, "Ärzte")
    site.see(Sighting("csv", "pc1", group="ärzte"), Sighting("csv", "pc2", group="Labor"))
    site.see(Sighting("csv", "pc3", group="LABOR"), Sighting("csv", "pc4", group="ÄRZTE"))
    assert [(one.name, one.machines) for one in site.vamt.groups.list(VIEWER)] == [("Labor", 2), ("Ärzte", 2)]
    for name in ("Labor", "labor", "Ärzte", "äRZTE"):
        with pytest.raises(Refused, match="already"):
            site.vamt.groups.create(OPERATOR, name)


@pytest.mark.parametrize("notes", ["a\tb", "\x1b[31m", "x" * 1001])
def test_what_could_not_be_shown_is_noted_of_no_group(light_site: Site, notes: str) -> None:
    with pytest.raises(UsageError):
        light_site.vamt.groups.create(OPERATOR, "Labor", notes)
    assert light_site.vamt.groups.list(VIEWER) == []
    light_site.vamt.groups.create(OPERATOR, "Labor", "x" * 1000)


def test_what_was_found_is_there_before_the_source_waits(light_site: Site) -> None:
    """None says that nothing more has come yet: a source that asks around may be silent for long."""
    seen: list[list[str]] = []

    def source() -> Iterator[Sighting | None]:
        yield None
        yield WEB
        yield None
        seen.append(light_site.names())
        yield None
        yield Sighting("dns", "web2")

    told: list[int] = []
    take = light_site.vamt.machines.take_sightings
    assert take(OPERATOR, source(), source="dns", tell=told.append) == (2, 2, 2, 0)
    assert (seen, told) == ([["web1"]], [1, 2])


def test_more_than_a_batch_is_taken_in(light_site: Site) -> None:
    many = [Sighting("csv", f"pc{n}", "a.test", group="All") for n in range(1001)]
    told: list[int] = []
    assert light_site.vamt.machines.take_sightings(OPERATOR, iter(many), tell=told.append).new == 1001
    assert told == [500, 1000, 1001]
    assert light_site.vamt.groups.list(VIEWER)[0].machines == 1001


def test_a_machine_by_hand_is_found_again(light_site: Site) -> None:
    add = light_site.vamt.machines.add
    mid, is_new = add(OPERATOR, Sighting("hand", "web1", "a.test", group="Secure"), "a note")
    assert is_new
    assert add(OPERATOR, WEB) == (mid, False)
    shown = light_site.vamt.machines.show(VIEWER, mid)
    assert (shown.notes, shown.groups) == ("a note", ["Secure"])
    light_site.see(WEB._replace(domain="b.test"))
    with pytest.raises(Refused) as refused:
        add(OPERATOR, Sighting("hand", "web1"))
    assert refused.value.refusal.code == "machine-unknown"


def test_removing_says_how_many(light_site: Site) -> None:
    light_site.see(WEB, WEB._replace(name="web2"), WEB._replace(name="db1"))
    assert light_site.vamt.machines.remove(OPERATOR, Selection(where="name=web*")) == 2
    assert light_site.names() == ["db1"]
    assert light_site.log()[-1][3] == 2


# --- publishers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(iat=NOW)


def test_a_publisher_is_known_by_its_product_files(site: Site, publisher: Publisher) -> None:
    add, pub = site.vamt.publishers.add, publisher.pub
    first = product_file(publisher, url="https://one.test", tls=("D" * 43,))
    assert add(ADMINISTRATOR, first, pub, "Contoso") == (pub, True, "com.example.cad", 1, True)
    assert add(ADMINISTRATOR, first, pub) == (pub, False, "com.example.cad", 1, False)
    newer = product_file(publisher, ver=3, url="https://two.test")
    assert add(ADMINISTRATOR, newer, pub) == (pub, False, "com.example.cad", 3, True)
    assert add(ADMINISTRATOR, first, pub) == (pub, False, "com.example.cad", 3, False)
    other = product_file(publisher, product="com.example.server")
    assert add(ADMINISTRATOR, other, pub) == (pub, False, "com.example.server", 1, True)
    ((found, products),) = site.vamt.publishers.list(VIEWER)
    assert (found.pub, found.name, found.lab, found.url) == (pub, "Contoso", True, "https://two.test")
    assert [(one.prd, one.ver) for one in products] == [("com.example.cad", 3), ("com.example.server", 1)]


def test_a_publisher_without_a_name_is_called_by_its_id(light_site: Site, publisher: Publisher) -> None:
    light_site.vamt.publishers.add(ADMINISTRATOR, product_file(publisher), publisher.pub)
    ((found, _),) = light_site.vamt.publishers.list(VIEWER)
    assert found.name == publisher.pub[:8]


def test_a_later_root_document_is_kept(light_site: Site, publisher: Publisher) -> None:
    add = light_site.vamt.publishers.add
    old = product_file(publisher)
    publisher.new_root(publisher.issuer, "new")
    publisher.new_issuer()
    add(ADMINISTRATOR, product_file(publisher, ver=2), publisher.pub)
    ((found, _),) = light_site.vamt.publishers.list(VIEWER)
    assert len(found.roots) == 1
    with pytest.raises(DocumentRefused):
        add(ADMINISTRATOR, old, publisher.pub)  # its issuer is revoked
    ((again, _),) = light_site.vamt.publishers.list(VIEWER)
    assert again == found


def test_another_publishers_file_is_refused(light_site: Site, publisher: Publisher) -> None:
    with pytest.raises(Refused) as refused:
        light_site.vamt.publishers.add(ADMINISTRATOR, product_file(Publisher()), publisher.pub)
    assert refused.value.refusal.code == "root-mismatch"
    assert light_site.vamt.publishers.list(VIEWER) == []
    assert light_site.log() == [("ada", "change-publishers", "root-mismatch", None)]


@pytest.mark.parametrize("data", [b"", b"{}", b'{"root": 1}', b"\xff", b"[" * 99])
def test_what_is_no_product_file_is_refused(light_site: Site, data: bytes) -> None:
    with pytest.raises(DocumentRefused):
        light_site.vamt.publishers.add(ADMINISTRATOR, data, "P" * 43)
    assert light_site.vamt.publishers.list(VIEWER) == []


def test_of_several_files_all_are_learned_or_none(light_site: Site, publisher: Publisher) -> None:
    add = light_site.vamt.publishers.add_all
    good = product_file(publisher)
    with pytest.raises(DocumentRefused, match="second: ") as refused:
        add(ADMINISTRATOR, {"first": good, "second": b"{}"}, publisher.pub)
    assert "first" not in refused.value.refusal.detail
    assert light_site.vamt.publishers.list(VIEWER) == []
    assert [one.added for one in add(ADMINISTRATOR, {"first": good, "again": good}, publisher.pub)] == [
        True,
        False,
    ]
    assert light_site.log()[-1] == ("ada", "change-publishers", "ok", 2)


def test_a_changed_product_file_is_refused(light_site: Site, publisher: Publisher) -> None:
    data = product_file(publisher)
    at = data.index(b'"token": "') + 200
    for place in range(at, at + 40, 7):
        broken = data[:place] + (b"A" if data[place : place + 1] != b"A" else b"B") + data[place + 1 :]
        with pytest.raises(DocumentRefused):
            light_site.vamt.publishers.add(ADMINISTRATOR, broken, publisher.pub)
    assert light_site.vamt.publishers.list(VIEWER) == []


def test_days_pass_as_the_clock_says(light_site: Site) -> None:
    light_site.see(WEB)
    light_site.clock.pass_(7 * DAY - 1)
    assert light_site.names("seen<7d") == ["web1"]
    light_site.clock.pass_(1)
    assert (light_site.names("seen<7d"), light_site.names("seen>7d")) == ([], [])
    light_site.clock.pass_(1)
    assert light_site.names("seen>7d") == ["web1"]
