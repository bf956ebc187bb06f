"""T28, T29, V6: whose host key is believed and who is told a group's password is not an operator's to say (M4, M5)."""

import asyncio
import csv
import json
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import pytest

from vamt.site import ADMINISTRATOR, AUDITOR, OPERATOR, VIEWER, Site
from volact.protocol.problems import Refusal, Refused
from volact.vamt import exportrows, reaching
from volact.vamt.collecting.targets import Limits, Login
from volact.vamt.inventory import Sighting
from volact.vamt.people import Person
from volact.vamt.sealing import Sealer
from volact.vamt.selecting import Selection

KEY = "ssh-ed25519 AAAA"
PINNED = Sighting("known-hosts", "web1", "a.test", host_keys=(KEY,))
EVIL = Sighting("csv", "evil", "a.test", ("192.0.2.66",), group="Servers")


@pytest.fixture
def guarded(light_site: Site) -> Site:
    """A group with a login, one without, and a machine in neither."""
    for name in ("Servers", "Desks"):
        light_site.vamt.groups.create(OPERATOR, name)
    light_site.vamt.logins.put(ADMINISTRATOR, "Servers", Login(user="root", agent="/agent"), None)
    light_site.see(Sighting("csv", "pc1", "a.test"))
    return light_site


def refused(act: Callable[[], Any]) -> None:
    with pytest.raises(Refused) as raised:
        act()
    assert raised.value.refusal.code == "role-insufficient"


def groups_of(site: Site, name: str) -> list[str]:
    return site.vamt.machines.show(VIEWER, name).groups


ACTS: list[Callable[[Site, Person], Any]] = [
    lambda site, who: site.vamt.machines.trust(who, "pc1", [KEY]),
    lambda site, who: site.vamt.machines.add(who, PINNED),
    lambda site, who: site.vamt.machines.take_sightings(who, [PINNED]),
    lambda site, who: site.vamt.machines.take_sightings(who, [EVIL]),
    lambda site, who: site.vamt.machines.add(who, EVIL),
    lambda site, who: site.vamt.machines.add(who, Sighting("hand", "pc1", "a.test", group="Servers")),
    lambda site, who: site.vamt.groups.add(who, "Servers", Selection(("pc1",))),
]


@pytest.mark.parametrize("act", ACTS)
def test_an_operator_neither_pins_a_key_nor_gives_a_machine_a_login(
    guarded: Site, act: Callable[[Site, Person], Any]
) -> None:
    before, names = len(guarded.log()), guarded.names()
    refused(lambda: act(guarded, OPERATOR))
    assert guarded.names() == names
    assert groups_of(guarded, "pc1") == []
    assert guarded.vamt.machines.show(VIEWER, "pc1").machine.host_keys == ()
    ((who, _, result, rows),) = guarded.log()[before:]
    assert (who, result, rows or 0) == ("otto", "role-insufficient", 0)
    act(guarded, ADMINISTRATOR)
    assert guarded.log()[-1][2] == "ok"


def test_what_gives_no_login_an_operator_may(guarded: Site) -> None:
    """Groups without a login; a machine that is in the group already, found again."""
    machines = guarded.vamt.machines
    machines.take_sightings(OPERATOR, [EVIL._replace(group="Desks"), EVIL._replace(group="New")])
    guarded.vamt.groups.add(OPERATOR, "Desks", Selection(("pc1",)))
    machines.take_sightings(ADMINISTRATOR, [EVIL])
    machines.take_sightings(OPERATOR, [EVIL])
    guarded.vamt.groups.add(OPERATOR, "Servers", Selection(("evil",)))
    assert groups_of(guarded, "evil") == ["Desks", "New", "Servers"]


def test_a_group_that_was_removed_keeps_its_login_from_who_makes_it_anew(guarded: Site) -> None:
    guarded.vamt.groups.delete(OPERATOR, "Servers")
    refused(lambda: guarded.vamt.machines.take_sightings(OPERATOR, [EVIL]))
    guarded.vamt.groups.create(OPERATOR, "Servers")
    refused(lambda: guarded.vamt.groups.add(OPERATOR, "Servers", Selection(("pc1",))))


def test_what_came_before_what_is_refused_is_kept(guarded: Site) -> None:
    many = [Sighting("csv", f"pc{number}", "a.test") for number in range(2, 502)]
    refused(lambda: guarded.vamt.machines.take_sightings(OPERATOR, [*many, EVIL]))
    assert guarded.listed().page.total == 501
    assert guarded.log()[-1] == ("otto", "discover", "role-insufficient", 500)


OF_SERVERS, OF_EVIL = ("192.0.2.1",), ("192.0.2.66",)


@pytest.mark.parametrize("person", [OPERATOR, ADMINISTRATOR], ids=lambda one: one.role)
@pytest.mark.parametrize("first", ["Servers", "evil"])
@pytest.mark.parametrize(
    ("of_servers", "of_evil"),
    [("", ""), ("", "evil"), ("dc1", "")],
    ids=["no name", "its name", "another's name"],
)
def test_an_operator_gives_no_login_by_saying_that_two_rows_are_one(
    guarded: Site, person: Person, first: str, of_servers: str, of_evil: str
) -> None:
    """One is in the group, and has no pinned key; the other has one, and would be told the group's password by it."""
    two = {
        "Servers": Sighting("addresses", of_servers, "", OF_SERVERS * (not of_servers), group="Servers"),
        "evil": Sighting("csv", of_evil, "", OF_EVIL, host_keys=(KEY,)),
    }
    for name in (first, *(two.keys() - {first})):
        guarded.clock.pass_(60)  # the older one is that which stays
        guarded.see(two[name])
    name = of_servers or of_evil
    addresses = (OF_SERVERS * (not of_servers)) + (OF_EVIL * (not of_evil))
    guarded.vamt.machines.take_sightings(person, [Sighting("dns", name, "", addresses)])
    targets = guarded.vamt.collecting.targets(person, Selection(group="Servers"), ["Servers"])
    if person is ADMINISTRATOR:
        assert [(one.host_keys, one.login) for one in targets] == [((KEY,), "Servers")]
    else:
        assert [one.host_keys for one in targets] == [()]
        assert guarded.listed().page.total == 3


# --- logins are opened where they are used (M9) -----------------------------------------------------------------------


class Seal:
    """The seal, and what it was asked for."""

    def __init__(self, site: Site) -> None:
        self._site, self._sealer = site, Sealer(b"k" * 32)
        self.asked: list[str] = []
        for name in ("Servers", "Desks"):
            site.vamt.groups.create(OPERATOR, name)
            site.see(Sighting("csv", f"of-{name.lower()}", "a.test", group=name))
        site.vamt.logins.put(ADMINISTRATOR, "Servers", Login("root", "a password"), self._sealer)
        site.vamt.logins.put(ADMINISTRATOR, "Desks", Login("desk", agent="/agent"), None)
        site.see(Sighting("csv", "other", "a.test"))

    def unlock(self) -> Sealer:
        """Open it, which is slow and asks a person: nobody may be kept from writing meanwhile."""
        self.asked.append("unlock")
        with self._site.store.writing() as tx:
            tx.exec_driver_sql("UPDATE own SET name = 'written while the seal is opened'")
        return self._sealer

    def logins(self, **environ: str) -> Mapping[str, Login]:
        return reaching.by_group(self._site.store, self.unlock, environ)


@pytest.fixture
def seal(light_site: Site) -> Seal:
    return Seal(light_site)


@pytest.mark.parametrize(
    ("machines", "wanted"),
    [
        (("of-desks",), []),
        (("other",), []),
        (("of-servers",), ["unlock"]),
        (("of-desks", "of-servers"), ["unlock"]),
    ],
)
def test_the_seal_is_opened_once_and_only_if_a_machine_needs_it(
    light_site: Site, seal: Seal, machines: tuple[str, ...], wanted: list[str]
) -> None:
    logins, collecting = seal.logins(), light_site.vamt.collecting
    targets = collecting.targets(OPERATOR, Selection(machines), logins)
    assert seal.asked == wanted
    collecting.reach(OPERATOR, [one.mid for one in targets], logins)
    assert [logins[one.login].user for one in targets if one.login] == [
        {"Servers": "root", "Desks": "desk"}[one.login] for one in targets if one.login
    ]
    assert seal.asked == wanted


def test_logins_by_group(seal: Seal) -> None:
    logins = seal.logins(SSH_AUTH_SOCK="/mine")
    assert (sorted(logins), len(logins), "Servers" in logins, "None" in logins) == (
        ["", "Desks", "Servers"],
        3,
        True,
        False,
    )
    assert logins[""] == Login(agent="/mine")
    assert seal.asked == []
    assert logins["Servers"].password == "a password"
    assert logins.get("None") is None
    assert seal.asked == ["unlock"]


def test_an_agent_of_the_environment_takes_no_logins_place(light_site: Site, seal: Seal) -> None:
    light_site.vamt.logins.put(ADMINISTRATOR, "", Login("all", agent="/agent"), None)
    logins = seal.logins(SSH_AUTH_SOCK="/mine")
    assert (logins[""].user, len(logins)) == ("all", 3)
    assert "" in logins
    light_site.vamt.logins.remove(ADMINISTRATOR, "")
    assert "" not in seal.logins()


def test_a_seal_that_does_not_open_ends_a_collection_before_anybody_is_asked(
    light_site: Site, seal: Seal
) -> None:
    def locked() -> Sealer:
        raise Refused(Refusal("passphrase-wrong"))

    logins = reaching.by_group(light_site.store, locked, {})
    with pytest.raises(Refused) as raised:
        asyncio.run(
            light_site.vamt.collecting.collect(
                OPERATOR, Selection(all=True), logins, Limits(), lambda _: pytest.fail("somebody was asked")
            )
        )
    assert raised.value.refusal.code == "passphrase-wrong"
    assert light_site.log()[-1] == ("otto", "collect", "passphrase-wrong", 0)
    assert light_site.vamt.machines.show(VIEWER, "of-servers").tried is None


# --- looks that are refused are in the log, too (M5) ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "act", "action"),
    [
        (OPERATOR, lambda site, who: site.vamt.access.log(who, limit=1), "look-at-log"),
        (VIEWER, lambda site, who: site.vamt.access.log(who, limit=1), "look-at-log"),
        (Person("eve", "root"), lambda site, who: site.vamt.machines.list(who, limit=1), "look"),
        (Person("eve", ""), lambda site, who: site.vamt.logins.list(who), "look"),
    ],
)
def test_a_look_that_is_refused_is_in_the_log(
    light_site: Site, person: Person, act: Callable[[Site, Person], Any], action: str
) -> None:
    refused(lambda: act(light_site, person))
    (entry,) = light_site.vamt.access.log(AUDITOR, limit=9)
    assert (entry.who, entry.role, entry.action, entry.result, entry.rows) == (
        person.name,
        person.role,
        action,
        "role-insufficient",
        None,
    )


# --- what is carried away at once is in the log (M5) ------------------------------------------------------------------


@pytest.mark.parametrize("person", [VIEWER, OPERATOR, ADMINISTRATOR, AUDITOR], ids=lambda one: one.role)
def test_who_may_look_may_export_and_the_log_has_it(light_site: Site, person: Person) -> None:
    light_site.see(Sighting("csv", "web1", "a.test"), Sighting("csv", "web2", "a.test"))
    out = BytesIO()
    assert exportrows.write(light_site.vamt, person, "csv", out, Selection(where="name=web1")) == 1
    assert [row["name"] for row in csv.DictReader(out.getvalue().decode().splitlines())] == ["web1"]
    (entry,) = light_site.vamt.access.log(AUDITOR, limit=1)
    assert (entry.who, entry.action, entry.result, entry.rows) == (person.name, "export-table", "ok", 1)
    assert json.loads(entry.what) == {"table": "machines", "selection": {"where": "name=web1"}, "kind": "csv"}


@pytest.mark.parametrize("person", [VIEWER, OPERATOR, ADMINISTRATOR, AUDITOR], ids=lambda one: one.role)
def test_the_log_is_exported_by_who_may_look_at_it(light_site: Site, person: Person) -> None:
    out = BytesIO()
    if person in (ADMINISTRATOR, AUDITOR):
        assert exportrows.write(light_site.vamt, person, "json", out, None) == 1
        assert json.loads(out.getvalue())[0]["result"] == "running"
    else:
        refused(lambda: exportrows.write(light_site.vamt, person, "json", out, None))
    entries = [one for one in light_site.vamt.access.log(AUDITOR, limit=9) if one.action == "export-table"]
    assert [(one.who, one.result) for one in entries] == [
        (person.name, "ok" if person in (ADMINISTRATOR, AUDITOR) else "role-insufficient")
    ]
