"""Which hosts a client asks, in which order, and when it goes on (D3, D4, T16, T17, F22); nothing is asked here."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from client.names import Records
from volact.client import discovery
from volact.client.address import Address
from volact.client.discovery import CACHE, DNS, HAND, Known, Outcome, Service, Step
from volact.client.finding import Search, Target, Wanted
from volact.protocol.problems import PROBLEMS, Refusal

KNOWN = Known("kms.corp.test", 1688, "192.0.2.7")
CACHED = Step(CACHE, host=Address("kms.corp.test", 1688), ip="192.0.2.7")
BY_HAND = Address("hand.test", 1700)


def seeded(seed: int = 1) -> Callable[[], float]:
    return random.Random(seed).random


# Where is looked


@pytest.mark.parametrize(
    ("by_hand", "domain", "known", "looked"),
    [
        (BY_HAND, "", KNOWN, [Step(HAND, host=BY_HAND)]),
        (BY_HAND, "other.test", KNOWN, [Step(HAND, host=BY_HAND)]),
        (None, "other.test", None, [Step(DNS, domain="other.test")]),
        (None, "other.test", KNOWN, [Step(DNS, domain="other.test"), CACHED]),
        (None, "", KNOWN, [CACHED, Step(DNS, domain="a.test"), Step(DNS, domain="b.test")]),
        (None, "", None, [Step(DNS, domain="a.test"), Step(DNS, domain="b.test")]),
    ],
)
def test_the_order_is_hand_domain_by_hand_cache_own_domain_and_search_list(
    by_hand: Address | None, domain: str, known: Known | None, looked: list[Step]
) -> None:
    """D3."""
    assert list(discovery.steps(by_hand, domain, known, lambda: ("a.test", "b.test"))) == looked


def test_the_machine_s_domains_are_not_looked_for_before_it_comes_to_them() -> None:
    def never() -> tuple[str, ...]:
        raise AssertionError

    assert next(iter(discovery.steps(None, "", KNOWN, never))) == CACHED
    assert list(discovery.steps(BY_HAND, "", None, never)) == [Step(HAND, host=BY_HAND)]
    assert list(discovery.steps(None, "corp.test", None, never)) == [Step(DNS, domain="corp.test")]


def test_each_domain_is_asked_about_once_and_the_root_never() -> None:
    listed = ["Corp.Test.", "corp.test", ".", "", "b.test", "b.test.", "10.0.0.1", "a b.test", "lan"]
    assert discovery.domains(listed) == ("corp.test", "b.test", "lan")
    assert discovery.domains(f"d{n}.test" for n in range(50)) == tuple(f"d{n}.test" for n in range(8))


# What a record says


@pytest.mark.parametrize(
    ("port", "name"),
    [
        (0, "a.test"),  # RFC 2782 knows no port 0
        (1688, ""),  # target `.`: there is no such service
        (1688, "192.0.2.1"),
        (1688, "a..test"),
        (1688, "f\\195\\188r.test"),
        (1688, "a test"),
        (1688, ".".join(["a" * 63] * 3 + ["a" * 62])),  # 254 characters
        (1688, "a" * 64 + ".test"),
        (1688, "a." * 150 + "test"),
    ],
)
def test_a_record_that_names_no_host_is_none(port: int, name: str) -> None:
    assert discovery.targets([Service(0, 0, port, name)], None) == []


@pytest.mark.parametrize("port", [1, 1688, 65535])
@pytest.mark.parametrize(
    "name", ["a.test", ".".join(["a" * 63] * 3 + ["a" * 61]), "xn--fr-tka.test", "a_b.test"]
)
def test_a_record_that_names_a_host_is_a_target(port: int, name: str) -> None:
    assert discovery.targets([Service(5, 7, port, name.upper())], None) == [Service(5, 7, port, name)]


def test_a_host_that_is_named_twice_is_asked_once_by_its_best_record() -> None:
    same = [Service(2, 9, 1688, "a.test"), Service(1, 1, 1688, "A.test"), Service(1, 3, 1688, "a.test")]
    same.append(Service(1, 2, 1688, "a.test"))
    assert discovery.targets(same, None) == [Service(1, 3, 1688, "a.test")]
    assert len(discovery.targets([*same, Service(1, 3, 1689, "a.test")], None)) == 2


def test_a_port_that_was_set_by_hand_replaces_the_records_ports() -> None:
    found = discovery.targets([Service(1, 0, 22, "a.test"), Service(0, 0, 25, "a.test")], 1700)
    assert found == [Service(0, 0, 1700, "a.test")]


# RFC 2782


def test_priorities_ascend_whatever_the_weights_are() -> None:
    services = [Service(p, w, 1688, f"h{p}-{w}.test") for p in (20, 0, 10) for w in (0, 1, 65535)]
    for seed in range(50):
        found = [one.priority for one in discovery.ordered(services, seeded(seed))]
        assert found == [0] * 3 + [10] * 3 + [20] * 3


def shares(weights: list[int], picks: int = 10_000) -> dict[int, float]:
    services = [Service(0, weight, 1688, f"h{number}.test") for number, weight in enumerate(weights)]
    chance = seeded(2782)
    first = Counter(next(discovery.ordered(services, chance)).name for _ in range(picks))
    return {number: first[f"h{number}.test"] / picks for number in range(len(weights))}


@pytest.mark.parametrize("weights", [[75, 25], [25, 75], [3, 1], [1, 3], [49149, 16383]])
def test_ten_thousand_picks_of_three_to_one_are_75_to_25(weights: list[int]) -> None:
    """F22: within 2 %."""
    found = shares(weights)
    heavy = weights.index(max(weights))
    assert abs(found[heavy] - 0.75) < 0.02
    assert abs(found[1 - heavy] - 0.25) < 0.02


def test_weights_of_0_share_alike_among_themselves_and_hardly_get_a_turn_beside_others() -> None:
    assert all(abs(share - 0.25) < 0.02 for share in shares([0, 0, 0, 0]).values())
    beside = shares([0, 100])
    assert beside[0] < 0.01
    first = next(discovery.ordered([Service(0, 100, 1, "a.test"), Service(0, 0, 1, "b.test")], lambda: 0.0))
    assert first.name == "b.test", "a very small chance, not none"


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999999, 1.0])
def test_every_record_gets_its_turn_once_whatever_is_drawn(chance: float) -> None:
    services = [
        Service(0, weight, 1688, f"h{number}.test") for number, weight in enumerate([0, 3, 0, 1, 65535])
    ]
    assert sorted(discovery.ordered(services, lambda: chance)) == sorted(services)


# Which of a host's addresses


ROUTES: Any = {
    "both": lambda _ip: True,
    "4": lambda ip: ":" not in ip,
    "6": lambda ip: ":" in ip,
    "none": lambda _ip: False,
}


@pytest.mark.parametrize(
    ("found", "routes", "tried"),
    [
        (["192.0.2.1"], "both", ("192.0.2.1",)),
        (["192.0.2.1", "192.0.2.2", "192.0.2.3"], "both", ("192.0.2.1", "192.0.2.2")),
        (["192.0.2.1", "192.0.2.2", "2001:db8::1"], "both", ("2001:db8::1", "192.0.2.1")),
        (["2001:db8::1", "2001:db8::2", "192.0.2.1"], "4", ("192.0.2.1",)),
        (["192.0.2.1", "2001:db8::1"], "6", ("2001:db8::1",)),
        (["192.0.2.1", "2001:db8::1"], "none", ("2001:db8::1", "192.0.2.1")),
        (["192.0.2.1", "192.0.2.1"], "both", ("192.0.2.1",)),
        (["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "nonsense"], "both", ()),
        ([], "both", ()),
        (["::1"], "both", ("::1",)),
    ],
)
def test_two_addresses_of_a_host_are_tried_one_of_each_kind(
    found: list[str], routes: str, tried: tuple[str, ...]
) -> None:
    assert discovery.worth_trying(found, ROUTES[routes]) == tried


# When the next one is asked


def proved(code: str) -> Outcome:
    return Outcome(Refusal(code), proved=True)


def unproved(code: str) -> Outcome:
    return Outcome(Refusal(code), proved=False)


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_whatever_an_unproved_host_says_the_next_one_is_asked(code: str) -> None:
    assert discovery.goes_on(unproved(code))


@pytest.mark.parametrize(
    ("code", "goes_on"),
    [
        ("count-insufficient", False),
        ("identity-cloned", False),
        ("machine-blocked", False),
        ("request-id-reused", False),
        ("product-not-served", True),
        ("host-clock-wrong", True),
        ("host-not-activated", True),
        ("busy", True),
        ("storage-unavailable", True),
        ("too-many-requests", True),
        ("host-unreachable", True),
    ],
)
def test_a_proved_host_s_refusal_ends_the_try_unless_it_is_the_host_s_own(code: str, goes_on: bool) -> None:
    assert discovery.goes_on(proved(code)) is goes_on


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ([unproved("host-unreachable"), unproved("host-unreachable")], 0),
        ([unproved("host-unreachable"), unproved("host-untrusted"), unproved("host-unreachable")], 1),
        ([unproved("host-untrusted"), unproved("host-not-activated")], 1),
        ([unproved("host-not-activated"), proved("product-not-served"), unproved("host-unreachable")], 1),
        ([proved("busy"), proved("product-not-served")], 0),
        ([proved("host-unreachable"), unproved("host-not-activated")], 1),
    ],
)
def test_of_several_failures_the_one_that_says_most_is_told(outcomes: list[Outcome], said: int) -> None:
    assert discovery.telling(outcomes) is outcomes[said]


# All together


def search(records: Records, routes: str = "both", **wanted: Any) -> Search:
    whole = Wanted(
        **{"host": None, "port": None, "domain": "", "label": "_volact._tcp", "known": None, **wanted}
    )
    return Search(whole, records.open, ROUTES[routes], seeded())  # type: ignore[arg-type]  # it has the two methods


def test_a_host_set_by_hand_costs_no_question() -> None:
    records = Records()
    assert list(search(records, host=BY_HAND).targets()) == [Target(HAND, BY_HAND, None)]
    assert (records.opened, records.asked) == (0, [])


def test_the_cached_host_comes_first_and_then_the_records_without_it() -> None:
    records = Records()
    records.publish("kms.corp.test", ips=["192.0.2.9"])
    records.publish("other.corp.test", priority=1, ips=["192.0.2.8"])
    found = search(records, known=KNOWN).targets()
    assert next(found) == Target(CACHE, KNOWN.address, ("192.0.2.9",))
    assert records.asked == [("kms.corp.test", "A")], "as long as it answers nobody asks for records"
    assert list(found) == [Target(DNS, Address("other.corp.test", 1688), ("192.0.2.8",))]
    assert records.asked.count(("kms.corp.test", "A")) == 1


def test_the_cached_host_is_asked_where_it_was_when_dns_is_down() -> None:
    """F21."""
    records = Records()
    records.down = True
    looked = search(records, known=KNOWN)
    assert list(looked.targets()) == [Target(CACHE, KNOWN.address, ("192.0.2.7",))]


def test_of_64_records_8_are_asked_and_of_64_domains_no_more() -> None:
    """T17."""
    records = Records()
    for number in range(64):
        records.publish(f"h{number}.corp.test")
    assert len(list(search(records).targets())) == 8
    assert len(list(search(records, known=KNOWN).targets())) == 8
    assert len([one for one in records.asked if one[1] == "A"]) <= 16
    records = Records()
    records.domains = tuple(f"d{number}.test" for number in range(8))
    for domain in records.domains:
        records.publish(f"one.{domain}", domain=domain)
        records.publish(f"two.{domain}", domain=domain)
    assert len(list(search(records).targets())) == 8
    assert len([one for one in records.asked if one[1] == "SRV"]) == 4


def test_the_search_list_is_followed_in_its_order_and_only_as_far_as_needed() -> None:
    records = Records()
    records.domains = ("a.test", "b.test")
    records.publish("far.b.test", domain="b.test")
    records.publish("near.a.test", domain="a.test")
    found = search(records).targets()
    assert next(found).address.name == "near.a.test"
    assert ("_volact._tcp.b.test", "SRV") not in records.asked
    assert next(found).address.name == "far.b.test"


def test_a_domain_set_by_hand_and_another_label_are_asked_instead() -> None:
    records = Records()
    records.publish("near.corp.test")
    records.publish("far.other.test", domain="other.test", label="_vlmcs._tcp")
    found = search(records, domain="other.test", label="_vlmcs._tcp").targets()
    assert [one.address.name for one in found] == ["far.other.test"]
    assert records.asked[0] == ("_vlmcs._tcp.other.test", "SRV")


def test_addresses_that_came_along_save_the_look_up_if_there_is_a_way_to_one() -> None:
    records = Records()
    records.publish("kms.corp.test", ips=["2001:db8::1"])
    records.along = {"kms.corp.test": ("192.0.2.1",)}
    (found,) = search(records).targets()
    assert found.ips == ("192.0.2.1",)
    (found,) = search(records, "6").targets()
    assert found.ips == ("2001:db8::1",)


def test_a_host_without_an_address_is_a_target_that_cannot_be_reached() -> None:
    records = Records()
    records.publish("kms.corp.test", ips=[])
    assert list(search(records).targets()) == [Target(DNS, Address("kms.corp.test", 1688), ())]


def test_nothing_found_says_where_was_looked() -> None:
    records = Records()
    records.publish("x", 0, domain="b.test")
    records.domains = ("a.test", "b.test")
    looked = search(records)
    assert list(looked.targets()) == []
    refusal = looked.nothing_found()
    assert refusal.code == "host-not-found"
    assert "_volact._tcp.a.test: there is no such record" in refusal.detail
    assert "_volact._tcp.b.test: the records there name no host" in refusal.detail
    records.domains = ()
    looked = search(records)
    assert list(looked.targets()) == []
    assert "no domain" in looked.nothing_found().detail
