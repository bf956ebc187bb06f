"""Where calls come from and how often they may (M10, K17)."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact import sources
from volact.protocol.problems import Refusal
from volact.sources import Bucket, Buckets


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("file", "file"),
        ("", ""),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_64(address: str, source: str) -> None:
    assert sources.source_of(address) == source


@pytest.mark.parametrize(
    ("text", "network"),
    [("192.0.2.0/24", "192.0.2.0/24"), (" 2001:db8::/32 ", "2001:db8::/32"), ("192.0.2.1", "192.0.2.1/32"),
     ("::ffff:192.0.2.0/120", "192.0.2.0/24"), ("::ffff:0:0/95", None), ("::/0", "::/0"),
     ("192.0.2.1/24", None), ("x", None), ("", None), ("192.0.2.0/33", None)],
)  # fmt: skip
def test_networks(text: str, network: str | None) -> None:
    assert sources.network(text) == network


_PRIVATE = [
    ipaddress.ip_network(one)
    for one in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
        "fc00::/7", "fe80::/10", "::1/128",
    )
]  # fmt: skip
_EDGES = [edge for one in _PRIVATE for edge in (int(one[0]) - 1, int(one[0]), int(one[-1]), int(one[-1]) + 1)]


@given(
    st.one_of(
        st.ip_addresses(),
        st.sampled_from(_PRIVATE).flatmap(lambda one: st.ip_addresses(network=one)),
        st.sampled_from(_EDGES[:24]).map(ipaddress.IPv4Address),
        st.sampled_from(_EDGES[24:]).map(ipaddress.IPv6Address),
    )
)
def test_the_first_characters_say_whether_an_address_is_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    private = any(address.version == one.version and address in one for one in _PRIVATE)
    assert sources.is_private(str(address)[: sources.PREFIX]) == private
    assert sources.is_private(str(address)) == private


@given(
    st.lists(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).flatmap(
        lambda one: st.integers(0, one.max_prefixlen).map(
            lambda bits: str(ipaddress.ip_network((one, bits), strict=False))
        )
    ), max_size=5),
    st.ip_addresses(),
    st.integers(0, 128),
)  # fmt: skip
def test_an_address_is_held_by_the_networks_that_it_lies_in(
    networks: list[str], other: ipaddress.IPv4Address | ipaddress.IPv6Address, bits: int
) -> None:
    found = [ipaddress.ip_network(one) for one in networks]
    asked = [other, *(edge for one in found for edge in (one[0], one[-1]))]
    asked += [type(one)(int(one) ^ (1 << bits % one.max_prefixlen)) for one in asked]
    held = sources.Networks(networks)
    assert bool(held) == bool(networks)
    for address in asked:
        if getattr(address, "ipv4_mapped", None) is None:
            expected = any(address.version == one.version and address in one for one in found)
            assert held.hold(str(address)) == expected
            if address.version == 4:
                assert held.hold(f"::ffff:{address}") == expected


@pytest.mark.parametrize("text", ["", "file", "10.0.0.0/8", "10.0.0", "10.0.0.256"])
def test_what_is_no_address_lies_in_no_network(text: str) -> None:
    assert not sources.Networks(["0.0.0.0/0", "::/0"]).hold(text)


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    bucket: Bucket | None = None
    for _ in range(3):
        bucket, wait = sources.take(bucket, 30, 3, 100)
        assert wait == 0
    bucket, wait = sources.take(bucket, 30, 3, 100)
    assert wait == 2
    bucket, wait = sources.take(bucket, 30, 3, 101)
    assert wait == 1
    bucket, wait = sources.take(bucket, 30, 3, 102)
    assert wait == 0
    _, wait = sources.take(bucket, 30, 3, 102)
    assert wait == 2
    full, _ = sources.take(bucket, 30, 3, 10_000)
    assert full == Bucket(120, 10_000)


def test_a_clock_that_goes_back_neither_fills_nor_empties_a_bucket() -> None:
    bucket, _ = sources.take(Bucket(60, 1000), 60, 10, 1)
    assert bucket == Bucket(0, 1000)
    assert sources.take(bucket, 60, 10, 1)[1] == 1


def test_no_limit_keeps_no_bucket() -> None:
    assert sources.take(None, 0, 0, 5) == (None, 0)
    assert sources.take(None, 1, 0, 5) == (Bucket(0, 5), 0)


def test_what_is_looked_at_and_not_kept_is_not_taken() -> None:
    buckets: Buckets[str] = Buckets(60, 1)
    assert [buckets.look("a", 5)[1] for _ in range(3)] == [0, 0, 0]
    buckets.keep("a", buckets.look("a", 5)[0])
    assert [buckets.look("a", 5)[1], buckets.look("b", 5)[1], buckets.look("a", 6)[1]] == [1, 0, 0]
    buckets.limit(0, 1)
    assert buckets.look("a", 5) == (Bucket(0, 5), 0)


def test_who_is_limited_is_told_when_to_come_again_and_pays_nothing() -> None:
    buckets: Buckets[str] = Buckets(30, 1)
    assert buckets.limited("a", 5) is None
    refusal = buckets.limited("a", 5)
    assert refusal == Refusal("too-many-requests", "Wait 2 s.", (("retry_after", 2),))
    assert buckets.limited("a", 6) == sources.too_many(1)
    assert buckets.limited("b", 6) is None
    assert buckets.limited("a", 7) is None
    assert sources.too_many(1, "Too fast.").detail == "Too fast. Wait 1 s."


@pytest.mark.parametrize(("asks", "wait"), [(0, 0), (1, 0), (2, 2), (3, 4), (12, 22)])
def test_what_is_charged_may_leave_a_debt(asks: int, wait: int) -> None:
    """Of a bucket that holds 2 asks and gets one every 2 s."""
    buckets: Buckets[str] = Buckets(30, 2)
    buckets.charge("a", asks, 5)
    assert buckets.look("a", 5)[1] == wait


def test_without_a_limit_nothing_is_charged() -> None:
    buckets: Buckets[str] = Buckets(0, 2)
    buckets.charge("a", 100, 5)
    buckets.limit(30, 2)
    assert buckets.look("a", 5)[1] == 0


def test_names_that_have_filled_up_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_REMEMBERED", 2)
    buckets: Buckets[str] = Buckets(1, 1)
    for name in ("a", "b", "a", "c"):
        buckets.keep(name, Bucket(0, 5))
    assert [buckets.look(name, 5)[1] > 0 for name in ("a", "b", "c")] == [True, False, True]
