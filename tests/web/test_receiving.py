"""How forms of strangers come in: speed and share (T20)."""

from volact.web import receiving
from volact.web.receiving import Bodies, Pace

SECOND = 64 * 1024
"""Bytes that must come in a second."""
MB = 1024 * 1024


def test_a_form_comes_at_64_kilobytes_a_second() -> None:
    """Five seconds of patience, and no more of it for what came fast."""
    pace = Pace(100)
    assert pace.until == 105
    for now in range(101, 200):
        pace.came(SECOND, now)
        assert pace.until == now + 5
    pace.came(8 * MB, 200)
    assert pace.until == 205, "what came fast earns no pause"
    pace.came(SECOND - 1, 205)
    assert 205.9 < pace.until < 206
    slow = Pace(0)
    for now in range(1, 34):
        assert now <= slow.until
        slow.came(SECOND * 7 // 8, now)
    assert slow.until == 33.875, "an eighth too slow uses the patience up"


def test_a_source_holds_32_megabytes_at_most() -> None:
    for length, taken in ((32 * MB - 1, True), (32 * MB, True), (32 * MB + 1, False)):
        bodies = Bodies()
        assert bodies.take("a", length) is taken
        assert bodies.take("b", 1)


def test_the_source_that_holds_most_gives_way() -> None:
    """128 MB in all: a few cannot shut the others out."""
    bodies = Bodies()
    for source, length in (("a", 32), ("b", 32), ("c", 32), ("d", 31), ("e", 1)):
        assert bodies.take(source, length * MB)
    assert bodies.take("e", 1), "another is heard, though that is more than all may hold"
    assert bodies.take("d", 1)
    assert not bodies.take("a", 0)
    assert bodies.take("a", -MB - 2)
    assert bodies.take("c", 0), "what is answered is held no longer"


def test_what_came_is_held_until_its_end() -> None:
    bodies = Bodies()
    with bodies.of("a") as first:
        first._length = receiving.MOST_HELD_OF_ONE
        assert bodies.take("a", first._length)
        assert not bodies.take("a", 1)
        bodies.take("a", -1)
    assert bodies.take("a", receiving.MOST_HELD_OF_ONE)
