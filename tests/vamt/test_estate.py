"""V1: each machine is found once, whichever way: by CMID, then machine identity, then name and domain."""

import itertools
from collections.abc import Iterable

import pytest

from volact.vamt.estate import Estate
from volact.vamt.inventory import WINDOWS, Machine, Product, Report, Sighting

PUB = "P" * 43


def estate(machines: Iterable[Machine] = ()) -> Estate:
    numbers = itertools.count(1)
    return Estate(machines, lambda: f"m{next(numbers)}")


def rows(of: Estate) -> list[tuple[str, str]]:
    """What the rows are called, and what their CMIDs are."""
    return sorted(
        (row.full_name or ",".join(row.addresses), ",".join(sorted(c for _, c in row.cmids))) for row in of
    )


def names(of: Estate) -> list[str]:
    return [name for name, _ in rows(of)]


def says(
    name: str = "", domain: str = "", cmid: str = "", identity: str = "", publisher: str = PUB
) -> Report:
    products = (Product(publisher, "com.example.cad", 1, cmid),) if cmid else ()
    return Report(name, domain, identity=identity, products=products)


WEB = Sighting("ldap", "web1", "a.test")
DNS = Sighting("dns", "web1", "a.test", ("192.0.2.1",))
SCAN = Sighting("addresses", addresses=("192.0.2.1",))
BARE = Sighting("known-hosts", "web1", host_keys=("ssh-ed25519 AAAA",))
OTHER_DOMAIN = Sighting("ldap", "web1", "b.test")
MAC = ("02000000aaaa",)


@pytest.mark.parametrize(
    ("sightings", "expected"),
    [
        pytest.param([WEB, DNS], ["web1.a.test"], id="two sources"),
        pytest.param([DNS, SCAN], ["web1.a.test"], id="name and address"),
        pytest.param([WEB, SCAN], ["192.0.2.1", "web1.a.test"], id="an address that no name has"),
        pytest.param([WEB, BARE], ["web1.a.test"], id="without a domain"),
        pytest.param([BARE, SCAN], ["192.0.2.1", "web1"], id="nothing in common"),
        pytest.param([WEB, OTHER_DOMAIN], ["web1.a.test", "web1.b.test"], id="two domains are two machines"),
        pytest.param(
            [WEB, OTHER_DOMAIN, BARE], ["web1.a.test", "web1.b.test"], id="without a domain, of two"
        ),
        pytest.param(
            [WEB._replace(macs=MAC), Sighting("csv", "db1", "a.test", macs=MAC)],
            ["db1.a.test", "web1.a.test"],
            id="equal MACs",
        ),
        pytest.param(
            [DNS, Sighting("dns", "db1", "a.test", ("192.0.2.1",))],
            ["db1.a.test", "web1.a.test"],
            id="one address of two names",
        ),
        pytest.param(
            [DNS, Sighting("dns", "db1", "a.test", ("192.0.2.1",)), SCAN],
            ["db1.a.test", "web1.a.test"],
            id="an address of two names",
        ),
        pytest.param(
            [
                DNS,
                DNS._replace(addresses=("2001:db8::1",)),
                SCAN,
                Sighting("addresses", addresses=("2001:db8::1",)),
            ],
            ["web1.a.test"],
            id="two addresses of one name",
        ),
        pytest.param(
            [
                SCAN,
                Sighting("addresses", addresses=("192.0.2.2",)),
                Sighting("csv", addresses=("192.0.2.1", "192.0.2.2")),
            ],
            ["192.0.2.1,192.0.2.2"],
            id="one machine of two addresses",
        ),
    ],
)
def test_each_machine_is_found_once_in_whichever_order(
    sightings: list[Sighting], expected: list[str]
) -> None:
    for order in itertools.permutations(sightings):
        found = estate()
        for one in order:
            found.see(one, 100)
        assert names(found) == expected, order


def test_what_says_nothing_is_no_machine() -> None:
    found = estate()
    assert found.see(Sighting("csv"), 100) is None
    assert names(found) == []


def test_a_bare_name_of_several_machines_is_the_one_with_its_address() -> None:
    found = estate()
    one = found.see(DNS, 100)
    found.see(OTHER_DOMAIN, 100)
    assert found.see(BARE._replace(addresses=("192.0.2.1",)), 100) == one
    assert found.see(BARE, 100) is None


def test_a_source_replaces_what_it_said_before() -> None:
    found = estate()
    mid = found.see(DNS, 100)
    assert mid
    found.see(DNS._replace(addresses=("192.0.2.9",)), 200)
    found.see(DNS._replace(addresses=("192.0.2.5",)), 150)
    assert found[mid].addresses == ("192.0.2.9",)
    assert (found[mid].first, found[mid].last) == (100, 200)


def test_an_address_that_went_to_another_machine_is_found_there() -> None:
    """DHCP: the scan of day 1 met web1 there, which DNS says has another address by now."""
    found = estate()
    found.see(DNS, 100)
    found.see(SCAN, 100)
    found.see(DNS._replace(addresses=("192.0.2.9",)), 200)
    found.see(SCAN, 200)
    assert names(found) == ["192.0.2.1", "web1.a.test"]


def test_what_was_entered_by_hand_goes_first() -> None:
    found = estate()
    mid = found.see(Sighting("hand", "web1", "a.test", port=2222, host_keys=("ssh-ed25519 HAND",)), 100)
    assert mid
    found.see(Sighting("csv", "web1", "a.test", port=22, transport="winrm", host_keys=("ssh-rsa CSV",)), 200)
    row = found[mid]
    assert (row.port, row.transport, row.host_keys) == (2222, "winrm", ("ssh-ed25519 HAND",))


# --- reports ------------------------------------------------------------------------------------------------------


def collected(*reports: tuple[str, Report]) -> tuple[Estate, dict[str, str]]:
    """Rows that were found by DNS as 192.0.2.N and have reported; their ids by the name they were found by."""
    found, ids = estate(), {}
    for number, (name, report) in enumerate(reports, 1):
        mid = found.see(Sighting("dns", name, "a.test", (f"192.0.2.{number}",)), 100)
        assert mid
        ids[name] = found.report(mid, report, 100, shows(report.name)).mid
    return found, ids


def shows(name: str) -> str:
    """The host key of the machine that was called that at first."""
    return f"ssh-ed25519 {name}"


WEB1 = says("web1", "a.test", "X", "I")
DB1 = says("db1", "a.test", "Y", "J")


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        pytest.param(says("web1", "a.test", "X", "I"), [("web1.a.test", "X")], id="the same"),
        pytest.param(says("web2", "a.test", "X", "I"), [("web2.a.test", "X")], id="renamed"),
        pytest.param(says("web1", "b.test", "X", "I"), [("web1.b.test", "X")], id="moved to another domain"),
        pytest.param(
            says("web2", "b.test", "X", ""), [("web2.b.test", "X")], id="renamed, firmware unreadable"
        ),
        pytest.param(says("web1", "a.test", "Z", "I"), [("web1.a.test", "Z")], id="rebuilt"),
        pytest.param(says("web1", "", "Z", "I"), [("web1.a.test", "Z")], id="rebuilt, says no domain"),
        pytest.param(says("localhost", "", "Z", "I"), [("web1.a.test", "Z")], id="rebuilt, has no name"),
        pytest.param(says("web1", "a.test", "X", "K"), [("web1.a.test", "X")], id="another main board"),
        pytest.param(
            says("web1", "a.test"), [("web1.a.test", "X")], id="the product is not installed any more"
        ),
        pytest.param(
            says("web1", "a.test", "Z", "K"),
            [("", "X"), ("web1.a.test", "Z")],
            id="a new machine has its name",
        ),
        pytest.param(
            says("web9", "a.test", "Z", ""),
            [("web1.a.test", "X"), ("web9.a.test", "Z")],
            id="another machine there",
        ),
        pytest.param(
            says("web9", "a.test", "X", "K"),
            [("web1.a.test", "X"), ("web9.a.test", "X")],
            id="a copied image",
        ),
        pytest.param(
            says("web9", "a.test", "Z", "I"), [("web1.a.test", "X"), ("web9.a.test", "Z")], id="a copied VM"
        ),
        pytest.param(
            says("web9", "a.test"), [("web1.a.test", "X"), ("web9.a.test", "")], id="an unknown machine there"
        ),
    ],
)
def test_a_second_report_of_a_row(report: Report, expected: list[tuple[str, str]]) -> None:
    found, ids = collected(("web1", WEB1))
    placed = found.report(ids["web1"], report, 200, shows("web1"))
    kept = [(name, cmid) for name, cmid in rows(found) if name != "192.0.2.1"]
    assert kept == [one for one in expected if one[0]]
    assert placed.elsewhere is (len(expected) > 1)
    if len(expected) > 1:
        assert found[ids["web1"]].cmids == {(PUB, "X")}
        assert found[placed.mid].addresses == ("192.0.2.1",)


def test_a_machine_that_lost_its_name_says_which_it_had() -> None:
    found, ids = collected(("web1", WEB1))
    found.report(ids["web1"], says("web1", "a.test", "Z", "K"), 200, shows("web1"))
    assert (found[ids["web1"]].name, found[ids["web1"]].former) == ("", "web1.a.test")


@pytest.mark.parametrize("order", [("web1", "db1"), ("db1", "web1")])
def test_swapped_names_keep_their_rows(order: tuple[str, str]) -> None:
    found, ids = collected(("web1", WEB1), ("db1", DB1))
    answers = {"web1": DB1._replace(name="web1"), "db1": WEB1._replace(name="db1")}
    for name in order:  # known_hosts has both keys under both names by now
        found.see(Sighting("known-hosts", name, "a.test", host_keys=(shows("web1"), shows("db1"))), 150)
    for name in order:
        other = {"web1": "db1", "db1": "web1"}[name]
        assert found.report(ids[name], answers[name], 200, shows(other)).elsewhere
    assert rows(found) == [("db1.a.test", "X"), ("web1.a.test", "Y")]
    assert found[ids["web1"]].full_name == "db1.a.test"
    assert found[ids["web1"]].former == ""


@pytest.mark.parametrize("order", [("web1", "db1"), ("db1", "web1")])
def test_swapped_addresses_keep_their_rows(order: tuple[str, str]) -> None:
    found, ids = collected(("web1", WEB1), ("db1", DB1))
    answers = {"web1": DB1, "db1": WEB1}
    for name in order:
        found.report(ids[name], answers[name], 200, shows(answers[name].name))
    assert rows(found) == [("db1.a.test", "Y"), ("web1.a.test", "X")]


def test_a_second_name_of_a_machine_becomes_its_alias() -> None:
    found, ids = collected(("web1", WEB1), ("www", WEB1))
    assert ids["web1"] == ids["www"]
    assert rows(found) == [("web1.a.test", "X")]
    assert found.gone == {"m2": "m1"}
    assert found.see(Sighting("dns", "www", "a.test", ("192.0.2.2",)), 200) == ids["web1"]
    assert found.see(Sighting("ldap", "www", "a.test"), 200) == ids["web1"]


def test_an_alias_that_leads_elsewhere_now_is_another_machine() -> None:
    found, _ = collected(("web1", WEB1), ("www", WEB1))
    assert found.see(Sighting("dns", "www", "a.test", ("192.0.2.77",)), 200) == "m3"
    assert names(found) == ["web1.a.test", "www.a.test"]
    found.report("m3", says("www", "a.test", "N", "M"), 200)
    assert found["m1"].aliases == frozenset()


def test_rows_that_became_one_in_turn_lead_to_the_last() -> None:
    """An address, then a name, then that name's machine."""
    found, ids = collected(("web1", WEB1))
    found.see(Sighting("addresses", addresses=("192.0.2.8",)), 100)
    found.see(Sighting("addresses", addresses=("192.0.2.9",)), 100)
    found.see(Sighting("csv", addresses=("192.0.2.8", "192.0.2.9")), 100)
    assert found.gone == {"m3": "m2"}
    found.report("m2", WEB1, 200, shows("web1"))
    assert found.gone == {"m3": ids["web1"], "m2": ids["web1"]}
    assert names(found) == ["web1.a.test"]


def test_a_machine_that_moves_takes_the_row_that_the_directory_made_for_it() -> None:
    found, ids = collected(("web1", WEB1))
    new = found.see(Sighting("ldap", "web1", "b.test"), 200)
    assert new
    placed = found.report(new, says("web1", "b.test", "X", "I"), 200, shows("web1"))
    assert placed[:2] == (ids["web1"], False)
    assert rows(found) == [("web1.b.test", "X")]
    assert found[ids["web1"]].aliases == {("web1", "a.test")}


def test_a_bare_host_name_is_completed_by_the_name_it_was_reached_by() -> None:
    """A machine that was renamed and says no domain: the directory's row has it."""
    found, ids = collected(("web1", says("web1", "", "X", "I")))
    assert names(found) == ["web1.a.test"]
    new = found.see(Sighting("ldap", "web2", "a.test"), 200)
    assert new
    assert found.report(new, says("web2", "", "X", "I"), 200, shows("web1")).mid == ids["web1"]
    assert names(found) == ["web2.a.test"]


def test_machines_of_one_host_name_stay_apart() -> None:
    """As they come from an image: each calls itself debian, none has a client yet."""
    found, _ = collected(*((f"pc{number}", says("debian")) for number in range(3)))
    assert names(found) == ["pc0.a.test", "pc1.a.test", "pc2.a.test"]
    for number in range(3):
        mid = found.see(Sighting("addresses", addresses=(f"198.51.100.{number}",)), 100)
        assert mid
        found.report(mid, says("debian", cmid=f"C{number}"), 100, shows(f"scanned{number}"))
    assert names(found)[:3] == ["debian", "debian", "debian"]
    assert len(list(found)) == 6


def test_an_address_that_says_its_name_is_the_machine_of_that_name() -> None:
    found = estate()
    by_name, by_address = found.see(WEB, 100), found.see(SCAN, 100)
    assert by_address
    assert by_name
    assert found.report(by_address, says("web1", "a.test"), 100)[:2] == (by_name, False)
    assert names(found) == ["web1.a.test"]
    assert found.gone == {by_address: by_name}
    assert found[by_name].addresses == ("192.0.2.1",)


def test_a_row_that_showed_nothing_of_itself_becomes_one_with_its_machine() -> None:
    """Reached twice before a client was there; the CMID then shows that the two were one."""
    found = estate()
    one, two = found.see(SCAN, 100), found.see(Sighting("addresses", addresses=("192.0.2.2",)), 100)
    assert one
    assert two
    for mid in (one, two):
        found.report(mid, says("debian"), 100, shows("debian"))
    assert len(list(found)) == 2
    found.report(one, says("debian", cmid="X"), 200, shows("debian"))
    assert found.report(two, says("debian", cmid="X"), 200, shows("debian"))[:2] == (one, False)
    assert rows(found) == [("debian", "X")]


def test_what_windows_says_of_itself_tells_no_machines_apart() -> None:
    """Windows images that were not generalized repeat their CMID."""
    found, ids = collected(
        ("pc1", says("pc1", "a.test", "W", publisher=WINDOWS)),
        ("pc2", says("pc2", "a.test", "W", publisher=WINDOWS)),
    )
    assert ids["pc1"] != ids["pc2"]
    assert names(found) == ["pc1.a.test", "pc2.a.test"]


def test_what_is_not_asked_again_is_kept() -> None:
    """An ordinary user sees no firmware; a product of another publisher is not installed any more."""
    other = "Q" * 43
    found, ids = collected(("web1", WEB1))
    found.report(ids["web1"], says("web1", "a.test", "Z", publisher=other), 200)
    row = found[ids["web1"]]
    assert row.cmids == {(PUB, "X"), (other, "Z")}
    assert row.identity == "I"


def test_only_rows_that_changed_are_named() -> None:
    found = estate(
        [Machine("kept", "db1", "a.test", first=1, last=1), Machine("seen", "web1", "a.test", first=1)]
    )
    found.see(WEB, 100)
    assert found.changed == {"seen"}


def test_a_believed_host_key_stands_until_known_hosts_or_a_person_vouches_for_another() -> None:
    found, ids = collected(("web1", WEB1))
    mid = ids["web1"]
    found.pin(mid, "ssh-ed25519 SHOWN", 200)
    assert found[mid].host_keys == ("ssh-ed25519 SHOWN",)
    found.see(BARE._replace(domain="a.test"), 300)
    assert found[mid].host_keys == ("ssh-ed25519 AAAA",)
    found.trust(mid, ("ssh-ed25519 HAND",), 400)
    assert found[mid].host_keys == ("ssh-ed25519 HAND",)
    assert mid in found
    assert "nobody" not in found


def test_what_a_machine_says_of_itself_goes_before_what_a_source_says() -> None:
    found = estate()
    mid = found.see(DNS._replace(platform="windows", macs=("02000000aaaa",)), 100)
    assert mid
    assert found[mid].platform == "windows"
    found.report(mid, WEB1._replace(platform="linux", macs=("02000000bbbb",)), 200)
    assert found[mid].platform == "linux"
    assert found[mid].macs == ("02000000aaaa", "02000000bbbb")
    found.see(SCAN, 200)
    assert found[mid].sources == ("addresses", "dns")


def test_a_row_with_a_cmid_alone_is_not_taken_for_another_machine() -> None:
    """The machine that answers there now has no name of its own; the row's machine is still somewhere."""
    found, ids = collected(("web1", says("web1", "a.test", "X")), ("db1", says("db1", "a.test", "Y")))
    placed = found.report(ids["web1"], says("localhost", cmid="Y"), 200, shows("db1"))
    assert placed[:2] == (ids["db1"], True)
    assert rows(found) == [("db1.a.test", "Y"), ("web1.a.test", "X")]


@pytest.mark.parametrize(
    ("at", "expected"),
    [(99, ("192.0.2.1", "192.0.2.9")), (100, ("192.0.2.1", "192.0.2.9")), (101, ("192.0.2.9",))],
)
def test_an_address_without_a_name_counts_until_a_newer_word(at: int, expected: tuple[str, ...]) -> None:
    found = estate()
    mid = found.see(SCAN, 100)
    assert mid
    found.report(mid, WEB1, 100)
    found.see(DNS._replace(addresses=("192.0.2.9",)), at)
    assert found[mid].addresses == expected
