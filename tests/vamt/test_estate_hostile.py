"""T29: what a machine says of itself gives it no other machine's row, name, host key, address or group (H1, H2)."""

import itertools
from collections.abc import Mapping

import pytest

from volact.vamt.estate import Estate
from volact.vamt.inventory import Product, Report, Sighting

PUB = "P" * 43
VICTIM, EVIL = "ssh-ed25519 VICTIM", "ssh-ed25519 EVIL"
AT_VICTIM, AT_EVIL = ("192.0.2.1",), ("192.0.2.66",)
DC1 = Sighting("known-hosts", "dc1", "a.test", AT_VICTIM, None, "ssh", host_keys=(VICTIM,))
HONEST = Sighting("known-hosts", "evil", "a.test", AT_EVIL, None, "ssh", host_keys=(EVIL,))


def says(name: str = "", domain: str = "a.test", cmid: str = "", identity: str = "") -> Report:
    products = (Product(PUB, "com.example.cad", 1, cmid),) if cmid else ()
    return Report(name, domain if name else "", identity=identity, products=products)


IS_DC1 = says("dc1", cmid="C", identity="I")
IS_EVIL = says("evil", cmid="E", identity="J")


class World:
    """dc1 and evil, each found with its host key."""

    def __init__(
        self, *sightings: Sighting, collected: bool = False, guarded: Mapping[str, list[str]] | None = None
    ) -> None:
        numbers = itertools.count(1)
        self.estate = Estate((), lambda: f"m{next(numbers)}", guarded or {})
        for one in sightings or (DC1, HONEST):
            self.estate.see(one, 100)
        if collected:
            self.estate.report("m1", IS_DC1, 110, VICTIM)
            self.estate.report("m2", IS_EVIL, 110, EVIL)

    @property
    def dc1(self) -> tuple[object, ...]:
        """What evil may not change of dc1."""
        row = self.estate["m1"]
        return row.full_name, row.addresses, row.host_keys, row.cmids, row.identity, row.aliases, row.report


LIES = [
    pytest.param(says("dc1"), id="name"),
    pytest.param(says("dc1", domain=""), id="bare name"),
    pytest.param(says("evil", cmid="C"), id="CMID"),
    pytest.param(says("evil", identity="I"), id="identity"),
    pytest.param(says(cmid="C", identity="I"), id="CMID and identity"),
    pytest.param(says("dc1", cmid="C", identity="I"), id="all of it"),
    pytest.param(says("dc1", cmid="E", identity="J"), id="name, with its own identities"),
    pytest.param(says("dc1", identity="J"), id="name, with its own identity"),
]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("collected", [True, False], ids=["collected", "not collected"])
def test_a_machine_that_says_what_is_anothers_wins_nothing(lie: Report, collected: bool) -> None:
    world = World(collected=collected)
    before = world.dc1
    for at in (200, 300):
        placed = world.estate.report("m2", lie, at, EVIL)
        assert placed.mid == "m2"
        assert world.dc1 == before
        assert world.estate.gone == {}
        assert [row.mid for row in world.estate] == ["m1", "m2"]
        assert world.estate["m2"].host_keys == (EVIL,)
    world.estate.report("m1", IS_DC1, 400, VICTIM)
    assert world.estate["m1"].cmids == {(PUB, "C")}
    assert world.estate["m1"].full_name == "dc1.a.test"


@pytest.mark.parametrize(
    ("lie", "kept"),
    [
        (says("dc1"), False),
        (says(cmid="C", identity="I"), False),
        (IS_DC1, False),
        (says("dc1", cmid="E", identity="J"), True),
        (says("evil", cmid="C", identity=""), True),
    ],
)
def test_whose_it_says_to_be_is_told_and_nothing_of_theirs_is_kept(lie: Report, kept: bool) -> None:
    world = World(collected=True)
    placed = world.estate.report("m2", lie, 200, EVIL)
    assert (placed.kept, placed.claimed) == (kept, ("m1",))
    assert (world.estate["m2"].full_name, world.estate["m2"].identity) == ("evil.a.test", "J")


def test_who_says_anothers_identity_first_keeps_it_from_nobody() -> None:
    """Evil was asked before dc1 was: each row has what it said, and both are told of."""
    world = World()
    assert world.estate.report("m2", says(cmid="C", identity="I"), 110, EVIL).claimed == ()
    placed = world.estate.report("m1", IS_DC1, 200, VICTIM)
    assert (placed.mid, placed.kept, placed.claimed) == ("m1", True, ("m2",))
    assert (world.estate["m1"].cmids, world.estate["m1"].identity) == (frozenset({(PUB, "C")}), "I")
    world.estate.see(Sighting("addresses", "", "", ("192.0.2.7",)), 300)
    assert world.estate.report("m3", IS_DC1, 310, VICTIM)[:2] == ("m1", False)


def test_a_name_that_its_machine_moves_to_is_not_taken_from_another() -> None:
    """M1: the name's row has another pinned key; evil, with its own CMID and identity, stays evil."""
    world = World(collected=True)
    placed = world.estate.report("m2", says("dc1", cmid="E", identity="J"), 200, EVIL)
    assert placed.claimed == ("m1",)
    assert [row.full_name for row in world.estate] == ["dc1.a.test", "evil.a.test"]
    assert world.estate["m1"].former == ""


def test_a_name_is_not_taken_from_a_machine_that_shows_no_host_key_either() -> None:
    """Windows machines have none."""
    dc1 = Sighting("dns", "dc1", "a.test", AT_VICTIM, None, "winrm")
    world = World(dc1, HONEST)
    world.estate.report("m1", says("dc1", identity="I"), 110)
    before = world.dc1
    assert world.estate.report("m2", says("dc1", identity="J"), 200, EVIL).claimed == ("m1",)
    assert world.dc1 == before


@pytest.mark.parametrize("source", ["dns", "csv", "hand"])
def test_a_row_with_an_address_of_its_own_is_not_taken(source: str) -> None:
    world = World(Sighting(source, "dc1", "a.test", AT_VICTIM), HONEST)
    before = world.dc1
    assert world.estate.report("m2", IS_DC1, 200, EVIL).claimed == ("m1",)
    assert world.dc1 == before
    assert world.estate["m2"].full_name == "evil.a.test"


def test_a_mere_name_of_a_list_is_completed_by_the_machine_that_says_it() -> None:
    world = World(Sighting("ldap", "dc1", "a.test"), Sighting("addresses", "", "", AT_EVIL))
    placed = world.estate.report("m2", IS_DC1, 200, EVIL)
    assert (placed.mid, placed.elsewhere, placed.claimed) == ("m1", False, ())
    assert world.estate.gone == {"m2": "m1"}
    assert world.estate.by_report == {"m2"}
    row = world.estate["m1"]
    assert (row.full_name, row.addresses, row.host_keys) == ("dc1.a.test", AT_EVIL, (EVIL,))


@pytest.mark.parametrize(
    ("of_evil", "united"),
    [([], False), (["Others"], False), (["Servers"], True), (["Servers", "Others"], True)],
)
def test_a_mere_name_in_a_group_with_a_login_is_not(of_evil: list[str], united: bool) -> None:
    """It would win the group's password by a word."""
    guarded = {"m1": ["Servers"], "m2": of_evil}
    world = World(Sighting("ldap", "dc1", "a.test"), Sighting("addresses", "", "", AT_EVIL), guarded=guarded)
    placed = world.estate.report("m2", IS_DC1, 200, EVIL)
    assert placed.claimed == (() if united else ("m1",))
    assert ("m2" in world.estate.gone) is united


def test_a_mere_name_in_a_group_with_a_login_is_not_taken_by_renaming() -> None:
    world = World(Sighting("ldap", "dc1", "a.test"), HONEST, guarded={"m1": ["Servers"]})
    world.estate.report("m2", IS_EVIL, 110, EVIL)
    assert world.estate.report("m2", says("dc1", cmid="E", identity="J"), 200, EVIL).claimed == ("m1",)
    assert world.estate.gone == {}


def test_a_person_who_pins_the_key_says_that_two_rows_are_one() -> None:
    world = World()
    assert world.estate.report("m2", IS_DC1, 200, EVIL).claimed == ("m1",)
    world.estate.trust("m1", (EVIL,), 300)
    fresh = Estate([*world.estate], lambda: "m9")
    fresh.see(Sighting("addresses", "", "", ("192.0.2.77",)), 350)
    placed = fresh.report("m9", says("dc1"), 400, EVIL)
    assert (placed.mid, placed.elsewhere) == ("m1", False)


def test_what_is_united_keeps_its_own_keys_and_what_was_entered_by_hand() -> None:
    """The key agrees; the row by which it was reached has another key, too, and things entered by hand."""
    by_hand = Sighting("hand", "dc1", "a.test", AT_VICTIM, 2222, host_keys=(VICTIM,))
    world = World(by_hand, Sighting("hand", "x", "a.test", AT_EVIL, 22, host_keys=(EVIL, VICTIM)))
    world.estate.report("m1", IS_DC1, 110, VICTIM)
    assert world.estate.report("m2", IS_DC1, 200, VICTIM).mid == "m1"
    row = world.estate["m1"]
    assert (row.host_keys, row.port, row.addresses) == ((VICTIM,), 2222, AT_VICTIM)


@pytest.mark.parametrize("source", ["known-hosts", "csv"])
def test_what_is_united_brings_no_host_key_from_any_source(source: str) -> None:
    other = Sighting(source, "x", "a.test", ("192.0.2.7",), host_keys=(EVIL, VICTIM))
    world = World(DC1, other)
    world.estate.report("m1", IS_DC1, 110, VICTIM)
    assert world.estate.report("m2", IS_DC1, 200, VICTIM).mid == "m1"
    assert world.estate["m1"].host_keys == (VICTIM,)
    assert world.estate["m1"].addresses == ("192.0.2.1", "192.0.2.7")


# --- which keys are pinned (H2) -----------------------------------------------------------------------------------


def test_a_key_is_pinned_at_the_row_that_was_reached_if_it_has_none() -> None:
    world = World(DC1._replace(host_keys=()))
    world.estate.report("m1", IS_DC1, 110, VICTIM)
    assert world.estate["m1"].host_keys == (VICTIM,)
    placed = world.estate.report("m1", IS_DC1, 120, EVIL)  # pinned while evil was asked
    assert placed.claimed == ("m1",) or placed.mid != "m1"
    assert world.estate["m1"].host_keys == (VICTIM,)
    assert world.estate["m1"].collected == 110


def test_a_known_hosts_row_without_an_address_is_no_mere_name() -> None:
    """Its host key alone says whose it is: another machine that says its name neither becomes it nor is it."""
    world = World(DC1._replace(addresses=()), Sighting("addresses", "", "", AT_EVIL))
    before = world.dc1
    placed = world.estate.report("m2", IS_DC1, 200, EVIL)
    assert (placed.claimed, placed.kept) == (("m1",), True)
    assert world.dc1 == before
    assert world.estate.gone == {}
    assert world.estate["m2"].host_keys == (EVIL,)


def test_of_two_pinned_keys_the_one_that_is_shown_adds_none_and_takes_none_away() -> None:
    """A machine has a key of each kind; the one that it shows is no news."""
    other = "ecdsa-sha2-nistp256 VICTIM"
    world = World(DC1._replace(host_keys=(other, VICTIM)))
    assert world.estate.report("m1", IS_DC1, 110, VICTIM)[:3] == ("m1", False, True)
    row = world.estate["m1"]
    assert row.host_keys == (other, VICTIM)
    assert set(row.seen) == {"known-hosts"}
    assert world.estate.believed == {}


def test_a_key_is_not_pinned_at_a_row_that_was_not_reached() -> None:
    world = World(DC1, HONEST, collected=True)
    world.estate.trust("m1", (), 120)
    for lie in (says("dc1"), IS_DC1, says(cmid="C", identity="I")):
        world.estate.report("m2", lie, 200, EVIL)
        assert world.estate["m1"].host_keys == (VICTIM,)


def test_a_new_machine_at_a_rows_place_has_the_key_that_it_showed() -> None:
    world = World(DC1, collected=False)
    world.estate.report("m1", IS_DC1, 110, VICTIM)
    placed = world.estate.report("m1", says("new", cmid="N", identity="K"), 200, VICTIM)
    assert placed.elsewhere
    assert world.estate[placed.mid].host_keys == (VICTIM,)
    assert world.estate.believed == {}


def test_a_machine_that_takes_a_mere_name_has_its_row() -> None:
    """Renamed; the directory knows the new name already."""
    world = World(Sighting("ldap", "new", "a.test"), HONEST)
    world.estate.report("m2", IS_EVIL, 110, EVIL)
    placed = world.estate.report("m2", says("new", cmid="E", identity="J"), 200, EVIL)
    assert (placed.mid, placed.claimed, world.estate.gone) == ("m2", (), {"m1": "m2"})
    assert world.estate["m2"].full_name == "new.a.test"
