"""The same machine: PROTOCOL section 5, rules M2, M9, K14."""

import base64
import hashlib
import hmac
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.protocol import machine
from volact.protocol.machine import Candidate, compare, own_key, recognise

# PROTOCOL 5: firmware UUID 6, board serial 4, system disk serial 4, OS install id 3, card 3, CPU 1, hypervisor 0.
WEIGHT = {"uuid": 6, "board": 4, "disk": 4, "os": 3, "net": 3, "cpu": 1, "hv": 0}
LENGTH = {"uuid": 11, "board": 3, "disk": 3, "os": 11, "net": 3, "cpu": 3, "hv": 11}


def fp(parts: str, letter: str = "A") -> dict[str, str]:
    return {name: letter * LENGTH[name] for name in LENGTH if name in parts.split()}


def pair(
    equal: str, different: str = "", known: str = "", seen: str = ""
) -> tuple[dict[str, str], dict[str, str]]:
    """Two fingerprints: parts that are equal, different, in the known one only, in the seen one only."""
    return fp(equal) | fp(different) | fp(known), fp(equal) | fp(different, "B") | fp(seen)


def model(known: dict[str, str], seen: dict[str, str]) -> tuple[int, int, str]:
    """S, S + D and the verdict by the words of PROTOCOL 5, with exact fractions."""
    shared = known.keys() & seen.keys()
    equal = sum(WEIGHT[name] for name in shared if known[name] == seen[name])
    total = sum(WEIGHT[name] for name in shared)
    if not total:
        return equal, total, "no-verdict"
    r = Fraction(equal, total)
    if "uuid" in shared:
        same = known["uuid"] == seen["uuid"] and r >= Fraction(1, 2)
    else:
        same = r >= Fraction(6, 10)
    if same:
        return equal, total, "same"
    return equal, total, "changed" if r >= Fraction(35, 100) else "foreign"


def every_pair() -> list[tuple[dict[str, str], dict[str, str]]]:
    """All 4^7 ways: each part absent in both, in the known one only, equal or different."""
    pairs = []
    for states in product("-=xk", repeat=7):
        names = dict(zip(WEIGHT, states, strict=True))
        by = {state: " ".join(name for name in names if names[name] == state) for state in "=xk"}
        pairs.append(pair(by["="], by["x"], by["k"]))
    return pairs


def test_every_combination_of_parts_against_fractions() -> None:
    """PROTOCOL 5, same / changed / foreign, thin, and check() - all 16,384 combinations."""
    for known, seen in every_pair():
        equal, total, verdict = model(known, seen)
        found = compare(known, seen)
        assert (found.equal, found.equal + found.different, found.verdict) == (equal, total, verdict)
        assert found.thin == (equal < 7 or total < 8)
        assert compare(seen, known).verdict == verdict
        relaxed = verdict == "no-verdict" or (verdict == "changed" and total < 8)
        assert machine.at_check(known, seen) == ("same" if relaxed else verdict)
        recognised = recognise(seen, [Candidate(1, known, 0)]) is not None
        assert recognised == (verdict == "same" and equal >= 7 and total >= 8)


BOUNDARIES = [
    # uuid equal: same from r = 1/2
    ("uuid cpu", "disk net", "same", "S 7 of 14: r = 1/2 exactly"),
    ("uuid", "board cpu", "same", "S 6 of 11"),
    ("uuid", "os net", "same", "S 6 of 12: r = 1/2 exactly"),
    ("uuid", "disk os", "changed", "S 6 of 13: below 1/2"),
    ("uuid cpu", "board disk", "changed", "S 7 of 15: below 1/2"),
    # no uuid: same from r = 6/10
    ("board disk cpu", "os net", "same", "S 9 of 15: r = 0.6 exactly"),
    ("board disk", "os net", "changed", "S 8 of 14: r = 0.571"),
    ("os", "cpu", "same", "S 3 of 4"),
    ("os net", "board", "same", "S 6 of 10: r = 0.6 exactly"),
    ("os net", "board cpu", "changed", "S 6 of 11"),
    # uuid different: never same
    ("board disk os net cpu", "uuid", "changed", "S 15 of 21: r = 0.71, but another uuid"),
    # changed from r = 0.35
    ("board os", "uuid disk net", "changed", "S 7 of 20: r = 0.35 exactly"),
    ("os net cpu", "uuid board disk", "foreign", "S 7 of 21: r = 1/3"),
    ("os net", "uuid board disk", "foreign", "S 6 of 20: r = 0.3"),
    ("disk os cpu", "uuid board net", "changed", "S 8 of 21: r = 0.38"),
    ("board", "os net", "changed", "S 4 of 10"),
    ("os", "board cpu", "changed", "S 3 of 8: r = 0.375"),
    ("cpu", "os", "foreign", "S 1 of 4"),
    ("", "cpu", "foreign", "S 0 of 1"),
    ("hv", "", "no-verdict", "S + D = 0"),
    ("", "", "no-verdict", "nothing at all"),
]


@pytest.mark.parametrize(("equal", "different", "verdict", "why"), BOUNDARIES)
def test_boundaries(equal: str, different: str, verdict: str, why: str) -> None:
    """PROTOCOL 5: compared exactly: 2S >= S+D, 10S >= 6(S+D), 100S >= 35(S+D)."""
    assert own_key(*pair(equal, different)) == verdict, why


@pytest.mark.parametrize(
    ("equal", "different", "recognised"),
    [
        ("uuid", "board", False),  # S = 6, S + D = 10
        ("uuid", "net cpu", False),  # S = 6
        ("uuid cpu", "board", True),  # S = 7, S + D = 11
        ("board os", "", False),  # S = 7, S + D = 7
        ("uuid cpu", "", False),  # S = 7, S + D = 7
        ("board os", "cpu", True),  # S = 7, S + D = 8
        ("board disk", "", True),  # S = 8, S + D = 8
        ("os net cpu", "", False),  # a virtual machine without firmware data: S = S + D = 7
    ],
)
def test_thin(equal: str, different: str, recognised: bool) -> None:
    """PROTOCOL 5: recognised only if also S >= 7 and S+D >= 8; with less it is thin and counts as new."""
    known, seen = pair(equal, different)
    assert compare(known, seen).verdict == "same"
    assert (recognise(seen, [Candidate(1, known, 0)]) is not None) is recognised


@pytest.mark.parametrize(
    ("equal", "different", "verdict"),
    [
        ("os", "disk", "same"),  # changed, S + D = 7: an ordinary user sees less than root
        ("board", "disk", "changed"),  # S + D = 8
        ("", "os disk", "foreign"),  # S + D = 7 and foreign: refuses
        ("", "", "same"),
    ],
)
def test_check_with_few_parts(equal: str, different: str, verdict: str) -> None:
    """PROTOCOL 5: in check() with S+D < 8 only foreign refuses; with S+D = 0 it accepts."""
    assert machine.at_check(*pair(equal, different)) == verdict


fingerprints = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from([letter * LENGTH[name] for letter in "ABC"]) for name in LENGTH}
)


@given(fingerprints, fingerprints)
def test_search_tokens_find_all_that_recognise_would(known: dict[str, str], seen: dict[str, str]) -> None:
    """Two fingerprints that `recognise` matches share at least one token: no match is missed by the index."""
    if recognise(seen, [Candidate(1, known, 0)]):
        assert set(machine.search_tokens(known)) & set(machine.search_tokens(seen))


def test_search_tokens_find_every_combination() -> None:
    """The same, exhaustively."""
    matched = 0
    for known, seen in every_pair():
        if recognise(seen, [Candidate(1, known, 0)]):
            matched += 1
            assert set(machine.search_tokens(known)) & set(machine.search_tokens(seen))
    assert matched > 1000


@given(fingerprints, st.lists(st.tuples(fingerprints, st.integers(0, 3)), max_size=5))
def test_several_rows_against_a_model(seen: dict[str, str], rows: list[tuple[dict[str, str], int]]) -> None:
    """Row 7: highest r, then latest; rows never merge."""
    candidates = [Candidate(number, known, granted) for number, (known, granted) in enumerate(rows)]
    best: list[tuple[Fraction, int]] = []
    for known, granted in rows:
        equal, total, verdict = model(known, seen)
        if verdict == "same" and equal >= 7 and total >= 8:
            best.append((Fraction(equal, total), granted))
    found = recognise(seen, candidates)
    if not best:
        assert found is None
    else:
        assert found is not None
        equal, total, _ = model(dict(found.fp), seen)
        assert (Fraction(equal, total), found.granted) == max(best)


PUB, CAD = "A" * 43, "com.example.cad"


def part(name: str, value: str, length: int) -> str:
    mac = hmac.new((PUB + CAD).encode(), name.encode() + b"\x00" + value.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac[:length]).decode().rstrip("=")


def test_a_part_is_a_keyed_hash() -> None:
    """PROTOCOL 5: the first 8 (uuid, os, hv) or 2 (board, disk, net, cpu) bytes of HMAC-SHA256."""
    values = {name: f"a{index}" for index, name in enumerate(reversed(WEIGHT))}
    made = machine.fingerprint(PUB, CAD, values)
    assert made == {name: part(name, values[name], 8 if LENGTH[name] == 11 else 2) for name in values}
    assert list(made) == ["uuid", "board", "disk", "os", "net", "cpu", "hv"]
    assert {name: len(value) for name, value in made.items()} == LENGTH
    assert machine.fingerprint(PUB, "com.example.mill", values)["uuid"] != made["uuid"]


@pytest.mark.parametrize(
    ("name", "value", "normal"),
    [
        ("board", "  To Be\t Filled \n", "to be filled"),
        ("disk", "S3Z9 NB0K", "s3z9 nb0k"),
        ("cpu", "GenuineIntel 6 158 10", "genuineintel 6 158 10"),
        (
            "uuid",
            "4C4C4544-0042-3510-8051-B2C04F4D3432",
            "4c4c45440042351080 51b2c04f4d3432".replace(" ", ""),
        ),
        ("net", "00:1A:2b:3C:4d:5E", "001a2b3c4d5e"),
        ("os", "{B08DFA60-83E7} \n", "b08dfa6083e7"),
        ("hv", "KVM Node-1", "kvm node-1"),
    ],
)
def test_values_are_normalised(name: str, value: str, normal: str) -> None:
    """PROTOCOL 5: trimmed, inner whitespace made one space, lower-cased; of uuid, os, net only hex digits."""
    assert machine.normalise(name, value) == normal
    assert machine.fingerprint(PUB, CAD, {name: value}) == {
        name: part(name, normal, 8 if LENGTH[name] == 11 else 2)
    }


@pytest.mark.parametrize("values", [{}, {"board": ""}, {"board": " \n"}, {"uuid": "-"}, {"mac": "00"}])
def test_absent_parts_are_left_out(values: dict[str, str]) -> None:
    """PROTOCOL 5: absent ones left out, {} allowed, other names never made."""
    assert machine.fingerprint(PUB, CAD, values) == {}


A, BOARD_SWAP = pair("uuid disk os net cpu", "board")
UUID_AND_BOARD = pair("disk os net cpu", "uuid board")
ELSEWHERE = pair("os", "uuid board disk net cpu")
REBUILT = pair("uuid board disk net cpu", "os")
THIN = pair("os net cpu", "")


def found_row(pair_of: tuple[dict[str, str], dict[str, str]]) -> object:
    found = recognise(pair_of[1], [Candidate(6, pair_of[0], 0)])
    return found and found.row


SEVERAL = [
    Candidate(1, REBUILT[0] | fp("cpu", "C"), 9),
    Candidate(2, REBUILT[0], 5),
    Candidate(3, REBUILT[0], 7),
]
OVER_THERE = {**A, "hv": "B" * 11}
ROWS: list[tuple[int, str, object, object]] = [
    (1, "own key, same", own_key(A, A), "same"),
    (2, "own key, board swap with its uuid: changed", own_key(*UUID_AND_BOARD), "changed"),
    (2, "a host updates the record", machine.at_host(UUID_AND_BOARD[0], None, UUID_AND_BOARD[1]), "changed"),
    (3, "own key, foreign: image on another machine", own_key(*ELSEWHERE), "foreign"),
    (
        4,
        "A, B, A: the caller that switches back",
        machine.at_host(UUID_AND_BOARD[1], A, A),
        "identity-cloned",
    ),
    (4, "A, B, B: no switch back", machine.at_host(UUID_AND_BOARD[1], A, UUID_AND_BOARD[1]), "same"),
    (4, "A, B, C: another change", machine.at_host(UUID_AND_BOARD[1], ELSEWHERE[1], A), "changed"),
    (
        5,
        "one CMID, foreign to the record",
        machine.at_host(ELSEWHERE[0], None, ELSEWHERE[1]),
        "identity-cloned",
    ),
    (6, "new CMID, same as one row", found_row(REBUILT), 6),
    (7, "new CMID, same as several: highest r, then latest", recognise(REBUILT[1], SEVERAL), SEVERAL[2]),
    (8, "new CMID, thin", found_row(THIN), None),
    (8, "new CMID, changed", found_row(UUID_AND_BOARD), None),
    (8, "new CMID, foreign to all", found_row(ELSEWHERE), None),
    (9, "exact VM copy, uuid kept: cannot know", own_key(A, dict(A)), "same"),
    (9, "exact VM copy at a host: one record", machine.at_host(A, None, dict(A)), "same"),
    (10, "VM moved to another hypervisor", own_key({**A, "hv": "A" * 11}, OVER_THERE), "same"),
    (12, "kept CID on rebuilt hardware: same", machine.at_check(*REBUILT), "same"),
    (12, "kept CID on other hardware: not same", machine.at_check(*ELSEWHERE), "foreign"),
]
ELSEWHERE_TESTED = {
    11: "tests/client/: a container is recognised by its marker, machine-is-container",
    13: "tests/authority/: after a return it is counted again (the store knows the row)",
    14: "tests/authority/: the block sits on the activation, machine-blocked",
}


@pytest.mark.parametrize(
    ("row", "facts", "found", "expected"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS]
)
def test_the_table(row: int, facts: str, found: object, expected: object) -> None:
    """PROTOCOL 5's table of 14 rows, as far as fingerprints decide it."""
    assert found == expected


def test_every_row_of_the_table_is_tested_somewhere() -> None:
    assert {row[0] for row in ROWS} | set(ELSEWHERE_TESTED) == set(range(1, 15))


def test_row_7_the_better_row_stands_whichever_is_seen_first() -> None:
    """PROTOCOL 5, row 7: new CMID, same as several: highest r, then latest, in any order of the rows."""
    seen = {"uuid": "A" * 11, "board": "AAA", "disk": "AAA", "os": "A" * 11, "net": "AAA", "cpu": "AAA"}
    better = machine.Candidate(1, seen, 100)
    worse = machine.Candidate(2, {**seen, "cpu": "BBB"}, 200)
    later = machine.Candidate(3, seen, 101)
    for rows in ([better, worse], [worse, better]):
        assert machine.recognise(seen, rows) == better
    for rows in ([better, later], [later, better]):
        assert machine.recognise(seen, rows) == later
