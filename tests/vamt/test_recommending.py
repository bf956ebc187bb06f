"""V4: the key, or the keys, that a need takes; compared with an independent look at all sets of keys."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.vamt.recommending import Candidate, plan

PUB, PRODUCT = "P" * 43, "com.example.cad"


def key(label: str, remaining: int | None, kind: str = "mak", **more: object) -> Candidate:
    made = Candidate(label * 8, label, kind, PUB, PRODUCT, remaining, blocked=False)
    return made._replace(**more)  # type: ignore[arg-type]


def chosen(*keys: Candidate, need: int) -> list[tuple[str, int]]:
    found = plan(keys, PUB, PRODUCT, need)
    assert sum(one.machines for one in found.parts) + found.missing == need
    return [(one.key.label, one.machines) for one in found.parts]


def test_the_key_with_the_fewest_left_that_suffice() -> None:
    keys = (key("A", 50), key("B", 10), key("C", 9), key("D", 11))
    assert chosen(*keys, need=10) == [("B", 10)]
    assert chosen(*keys, need=11) == [("D", 11)]
    assert chosen(*keys, need=9) == [("C", 9)]
    assert chosen(*keys, need=12) == [("A", 12)]


def test_several_keys_spill_over() -> None:
    """100 machines on keys with 60 and 30 and 40: the largest, then the smallest that suffices for the rest."""
    assert chosen(key("A", 30), key("B", 60), key("C", 40), need=100) == [("B", 60), ("C", 40)]
    assert chosen(key("A", 30), key("B", 60), key("C", 40), need=89) == [("B", 60), ("A", 29)]
    assert chosen(key("A", 30), key("B", 60), key("C", 40), need=90) == [("B", 60), ("A", 30)]
    assert chosen(key("A", 30), key("B", 60), key("C", 40), need=91) == [("B", 60), ("C", 31)]


def test_what_is_missing_is_said() -> None:
    assert plan([key("A", 60)], PUB, PRODUCT, 100).missing == 40
    assert plan([key("A", 60)], PUB, PRODUCT, 60).missing == 0
    assert plan([key("A", 60)], PUB, PRODUCT, 61).missing == 1
    assert plan([], PUB, PRODUCT, 1).missing == 1


def test_nothing_is_needed() -> None:
    assert plan([key("A", 60), key("R", 1, "retail")], PUB, PRODUCT, 0) == ((), 0)


@pytest.mark.parametrize(
    "other",
    [
        {"pub": "Q" * 43},
        {"product": "com.example.other"},
        {"blocked": True},
        {"remaining": 0},
    ],
)
def test_a_key_that_does_not_fit(other: dict[str, object]) -> None:
    one = key("A", 60)._replace(**other)  # type: ignore[arg-type]
    assert plan([one], PUB, PRODUCT, 1) == ((), 1)


def test_a_mak_comes_before_a_retail_key_and_a_retail_key_is_for_one_machine() -> None:
    retail = [key(label, 1, "retail") for label in "STR"]
    assert chosen(*retail, key("M", 1), need=1) == [("M", 1)]
    assert chosen(*retail, need=1) == [("R", 1)]
    assert chosen(*retail, key("M", 2), need=4) == [("M", 2), ("R", 1), ("S", 1)]
    assert chosen(*retail, need=4) == [("R", 1), ("S", 1), ("T", 1)]
    assert chosen(key("R", 0, "retail"), need=1) == []


def test_a_count_that_was_never_asked_comes_last_and_is_not_assured() -> None:
    keys = [key("N", None), key("R", None, "retail"), key("M", 2), key("S", 1, "retail")]
    found = plan(keys, PUB, PRODUCT, 9)
    assert [(one.key.label, one.machines, one.assured) for one in found.parts] == [
        ("M", 2, True),
        ("S", 1, True),
        ("N", 6, False),
    ]
    assert found.missing == 0
    alone = plan(keys[1:2], PUB, PRODUCT, 2)
    assert [(one.key.label, one.machines, one.assured) for one in alone.parts] == [("R", 1, False)]
    assert alone.missing == 1


counts = st.lists(st.integers(0, 12), max_size=6)


@given(maks=counts, retail=st.integers(0, 3), need=st.integers(0, 40))
def test_as_few_keys_as_can_be_and_all_that_there_is(maks: list[int], retail: int, need: int) -> None:
    keys = [key("ABCDEF"[place], count) for place, count in enumerate(maks)]
    keys += [key("RST"[place], 1, "retail") for place in range(retail)]
    found = plan(keys, PUB, PRODUCT, need)
    assert found.missing == max(0, need - sum(maks) - retail)
    used = {one.key.thumbprint for one in found.parts}
    assert len(used) == len(found.parts)
    assert all(0 < one.machines <= (one.key.remaining or 0) for one in found.parts)
    by_mak = [one for one in found.parts if one.key.kind == "mak"]
    assert sum(one.machines for one in by_mak) == min(need, sum(maks))
    assert len(by_mak) == _fewest(maks, min(need, sum(maks)))
    enough = [count for count in maks if count >= need]
    if need and enough:
        assert [one.key.remaining for one in found.parts] == [min(enough)]


def _fewest(counts: list[int], need: int) -> int:
    """The size of the smallest set of keys that has enough."""
    return next(
        size for size in range(len(counts) + 1) for some in combinations(counts, size) if sum(some) >= need
    )
