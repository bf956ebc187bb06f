"""Which machine is this? Fingerprints and the same-machine rule (PROTOCOL section 5; M2, M9, K14).

- A part of a fingerprint is a keyed hash under publisher and product: it says "equal" or "different" within
  one product and nothing else. Random ids get 8 bytes, guessable ones 2.
- Verdicts are exact integer comparisons; nothing here is a float.
- Nobody is *recognised* on thin evidence, and nobody is thrown out on missing evidence.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from volact.protocol.documents import FP_LENGTHS
from volact.protocol.ids import b64u
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WEIGHTS: Mapping[str, int] = {"uuid": 6, "board": 4, "disk": 4, "os": 3, "net": 3, "cpu": 1, "hv": 0}
HEX_ONLY = ("uuid", "os", "net")
_LONG, _SHORT = 8, 2
_LONG_CHARACTERS = 11

RECOGNISE_EQUAL = 7
"""Least S for recognising rebuilt hardware."""
RECOGNISE_SEEN = 8
"""Least S + D for recognising rebuilt hardware, and for `check()` to refuse what has merely changed."""

SAME, CHANGED, FOREIGN, NO_VERDICT, CLONED = "same", "changed", "foreign", "no-verdict", "identity-cloned"


def normalise(name: str, value: str) -> str:
    """A part's value as it is hashed: trimmed, inner blanks one space, lower case; ids hex digits only."""
    text = " ".join(value.split()).lower()
    return "".join(digit for digit in text if digit in "0123456789abcdef") if name in HEX_ONLY else text


def fingerprint(pub: str, prd: str, values: Mapping[str, str]) -> dict[str, str]:
    """The `fp` of a machine for one product, from the values of its present parts; absent parts are left out."""
    key = (pub + prd).encode("ascii")
    parts = {}
    for name, characters in FP_LENGTHS.items():
        value = normalise(name, values.get(name, ""))
        if value:
            hashed = hmac.digest(key, name.encode("ascii") + b"\0" + value.encode(), hashlib.sha256)
            parts[name] = b64u(hashed[: _LONG if characters == _LONG_CHARACTERS else _SHORT])
    return parts


class Comparison(NamedTuple):
    """Two fingerprints of one product, compared.

    Attributes:
        equal: S, weight present in both and equal.
        different: D, weight present in both and different.
        verdict: ``same``, ``changed``, ``foreign`` or ``no-verdict`` (nothing in common to compare).
    """

    equal: int
    different: int
    verdict: str

    @property
    def thin(self) -> bool:
        """Too little to recognise a machine by, when its key is new."""
        return self.equal < RECOGNISE_EQUAL or self.equal + self.different < RECOGNISE_SEEN


def compare(known: Mapping[str, str], seen: Mapping[str, str]) -> Comparison:
    """Compare two fingerprints of one product."""
    both = [name for name in WEIGHTS if name in known and name in seen]
    equal = sum(WEIGHTS[name] for name in both if known[name] == seen[name])
    total = sum(WEIGHTS[name] for name in both)
    return Comparison(equal, total - equal, _verdict(known, seen, equal, total))


def _verdict(known: Mapping[str, str], seen: Mapping[str, str], equal: int, total: int) -> str:
    if total == 0:
        return NO_VERDICT
    if "uuid" in known and "uuid" in seen:
        same = known["uuid"] == seen["uuid"] and 2 * equal >= total
    else:
        same = 10 * equal >= 6 * total
    if same:
        return SAME
    return CHANGED if 100 * equal >= 35 * total else FOREIGN


def own_key(known: Mapping[str, str], seen: Mapping[str, str]) -> str:
    """Verdict on a machine that shows its own key (rows 1, 2, 3 and 5 of the table)."""
    return compare(known, seen).verdict


def at_check(baseline: Mapping[str, str], seen: Mapping[str, str]) -> str:
    """Verdict of `check()` on this machine against its grant: ``same``, ``changed`` or ``foreign``.

    An ordinary user sees less than root: with S + D < 8 only *foreign* refuses, and with nothing to compare
    nothing does.
    """
    found = compare(baseline, seen)
    if found.verdict == NO_VERDICT:
        return SAME
    if found.verdict == CHANGED and found.equal + found.different < RECOGNISE_SEEN:
        return SAME
    return found.verdict


class Candidate(NamedTuple):
    """A row that a machine with a new key might be: its id, its fingerprint, and when it was last granted."""

    row: int
    fp: Mapping[str, str]
    granted: int


def recognise(seen: Mapping[str, str], candidates: Sequence[Candidate]) -> Candidate | None:
    """The row of the machine that comes with a new key (rows 6, 7 and 8): highest r, then latest; or None."""
    best: tuple[Comparison, Candidate] | None = None
    for candidate in candidates:
        found = compare(candidate.fp, seen)
        if found.verdict != SAME or found.thin:
            continue
        if best is None or _fits_better(found, candidate, *best):
            best = found, candidate
    return best[1] if best else None


def _fits_better(found: Comparison, candidate: Candidate, than: Comparison, other: Candidate) -> bool:
    left = found.equal * (than.equal + than.different)
    right = than.equal * (found.equal + found.different)
    return (left, candidate.granted) > (right, other.granted)


def at_host(known: Mapping[str, str], before: Mapping[str, str] | None, seen: Mapping[str, str]) -> str:
    """What a KMS host makes of a known CMID's vector `seen` (rows 1, 2, 4 and 5).

    `known` is the record's vector and `before` the one that it replaced, if any. ``identity-cloned`` for a
    newcomer whose vector is foreign (row 5) and for the caller that switches back (row 4): A, B, A.
    """
    verdict = own_key(known, seen)
    if verdict == FOREIGN:
        return CLONED
    if verdict == CHANGED and before is not None and own_key(before, seen) == SAME:
        return CLONED
    return verdict


def search_tokens(fp: Mapping[str, str]) -> tuple[str, ...]:
    """What to look rows up by: two fingerprints that `recognise` would match share at least one of these.

    With a UUID in both it is equal; without, S >= 7 needs the board, the disk, or OS and card together.
    """
    tokens = [name[0] + fp[name] for name in ("uuid", "board", "disk") if name in fp]
    if "os" in fp and "net" in fp:
        tokens.append("n" + fp["os"] + fp["net"])
    return tuple(tokens)
