"""Where calls come from and how often they may (M10, K17)."""

import pytest

from volact import sources
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


def test_names_that_have_filled_up_longest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_REMEMBERED", 2)
    buckets: Buckets[str] = Buckets(1, 1)
    for name in ("a", "b", "a", "c"):
        buckets.keep(name, Bucket(0, 5))
    assert [buckets.look(name, 5)[1] > 0 for name in ("a", "b", "c")] == [True, False, True]
