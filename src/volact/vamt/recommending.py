"""Which key, or which keys, for so many machines (V4). Pure.

1. A key fits if it is this publisher's and for this product, and the publisher has not blocked it.
2. A MAK that has enough left is taken, of several the one with the fewest left: the large ones stay for large needs.
3. A retail key is for one machine: one is taken where a single machine needs a key and no MAK has any left.
4. If none suffices alone, keys spill over: as few MAKs as possible, the last of them chosen as in 2, then retail keys.
5. A key whose count nobody has asked for comes after all others, and the plan says that it is not known to suffice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAK, RETAIL = "mak", "retail"


class Candidate(NamedTuple):
    """A key as it is chosen by.

    Attributes:
        thumbprint: its id.
        label: its last group.
        kind: `MAK` or `RETAIL`.
        pub: its publisher.
        product: what it is for.
        remaining: activations left as the publisher said last; None if that was never asked.
        blocked: whether the publisher has blocked it.
    """

    thumbprint: str
    label: str
    kind: str
    pub: str
    product: str
    remaining: int | None
    blocked: bool


class Part(NamedTuple):
    """So many machines by this key; `assured` if it is known to have so many left."""

    key: Candidate
    machines: int
    assured: bool


class Plan(NamedTuple):
    """How a need is met.

    Attributes:
        parts: the keys in the order in which they are used.
        missing: machines for which no key is left.
    """

    parts: tuple[Part, ...]
    missing: int


def plan(keys: Iterable[Candidate], pub: str, product: str, need: int) -> Plan:
    """The keys for `need` machines that need one for a publisher's product."""
    fitting = [one for one in keys if one.pub == pub and one.product == product and not one.blocked]
    maks = [one for one in fitting if one.kind == MAK]
    parts, rest = _of_maks([(one.remaining, one) for one in maks if one.remaining], need)
    for one in sorted(fitting, key=_name):
        if rest and one.kind == RETAIL and one.remaining:
            parts.append(Part(one, 1, assured=True))
            rest -= 1
    for one in sorted(fitting, key=lambda one: (one.kind != MAK, *_name(one))):
        if rest and one.remaining is None:
            count = rest if one.kind == MAK else 1
            parts.append(Part(one, count, assured=False))
            rest -= count
    return Plan(tuple(parts), rest)


def _of_maks(maks: Sequence[tuple[int, Candidate]], need: int) -> tuple[list[Part], int]:
    """As few MAKs as can be, and what is left of the need."""
    left = sorted(maks, key=lambda one: (one[0], *_name(one[1])))
    parts = []
    while left and need:
        # The smallest that suffices; if none does, the largest: that leaves the least for the next ones.
        enough = next((place for place, one in enumerate(left) if one[0] >= need), len(left) - 1)
        remaining, key = left.pop(enough)
        count = min(remaining, need)
        parts.append(Part(key, count, assured=True))
        need -= count
    return parts, need


def _name(one: Candidate) -> tuple[str, str]:
    return one.label, one.thumbprint
