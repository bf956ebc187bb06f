"""Names of things: PROTOCOL sections 1 and 5."""

import base64
import hashlib
import json
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.protocol import ids
from volact.protocol.ids import Jwk
from volact.protocol.problems import DocumentRefused

# RFC 7515 appendix A.3: the key of its ES256 example.
RFC_7515 = Jwk("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")

# Damm 2004, the table as it is published (rows: interim digit, columns: input digit).
DAMM = """
0 3 1 7 5 9 8 6 4 2
7 0 9 2 1 5 4 8 6 3
4 2 0 6 8 7 1 3 5 9
1 7 5 0 9 8 3 4 2 6
6 1 2 3 0 4 5 9 7 8
3 6 7 4 2 0 9 5 8 1
5 8 6 9 7 2 0 1 3 4
8 9 4 5 3 6 2 0 1 7
9 4 3 8 6 1 7 2 0 5
2 5 8 1 4 3 6 7 9 0
"""
QUASIGROUP = [[int(cell) for cell in row.split()] for row in DAMM.strip().splitlines()]


def damm_remainder(digits: str) -> int:
    """Damm's check as a fold: a number with its check digit folds to 0."""
    return reduce(lambda interim, digit: QUASIGROUP[interim][int(digit)], digits, 0)


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"", ""), (b"f", "Zg"), (b"fo", "Zm8"), (b"foo", "Zm9v"), (b"foob", "Zm9vYg"), (b"\xfb\xff", "-_8")],
)
def test_base64url_is_that_of_rfc_4648_without_padding(data: bytes, text: str) -> None:
    """RFC 4648 section 10, and section 5's two other letters."""
    assert ids.b64u(data) == text
    assert ids.unb64u(text) == data


@given(st.binary(max_size=80))
def test_base64url_round_trip(data: bytes) -> None:
    assert ids.unb64u(ids.b64u(data)) == data


@given(st.text(alphabet=st.characters(max_codepoint=0x180) | st.sampled_from("AZaz09-_=+/ \n"), max_size=24))
def test_base64url_takes_only_the_one_canonical_form(text: str) -> None:
    """PROTOCOL 1: refused: padding or non-canonical base64url, whitespace. Independent: what a decoder takes
    and an encoder gives back unchanged.
    """
    letters = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    canonical = False
    if set(text) <= letters and len(text) % 4 != 1:
        data = base64.b64decode(text + "==="[: -len(text) % 4], altchars=b"-_", validate=True)
        canonical = base64.b64encode(data, altchars=b"-_").decode().rstrip("=") == text
    try:
        ids.unb64u(text)
        taken = True
    except DocumentRefused:
        taken = False
    assert taken == canonical


def test_a_thumbprint_is_that_of_rfc_7638() -> None:
    """RFC 7638 section 3: SHA-256 over the required members in lexicographic order, without blanks."""
    members = {"crv": "P-256", "kty": "EC", "x": RFC_7515.x, "y": RFC_7515.y}
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    expected = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    assert RFC_7515.thumbprint() == expected
    assert len(expected) == 43


def test_a_point_is_written_uncompressed_and_read_back() -> None:
    """SEC 1 section 2.3.3."""
    point = RFC_7515.point()
    assert point[:1] == b"\x04"
    assert len(point) == 65
    assert point[1:] == base64.urlsafe_b64decode(RFC_7515.x + "=") + base64.urlsafe_b64decode(
        RFC_7515.y + "="
    )
    assert Jwk.of_point(point) == RFC_7515
    assert Jwk.read(RFC_7515.members()) == RFC_7515


@pytest.mark.parametrize(
    "change",
    [
        {"d": "A" * 43},
        {"kty": "RSA"},
        {"crv": "P-384"},
        {"x": "A" * 42},
        {"x": "A" * 44},
        {"y": "A" * 44},
        {"x": 1},
        {"y": None},
        {"y": "+" * 43},
    ],
)
def test_a_jwk_has_exactly_its_four_members(change: dict[str, object]) -> None:
    """PROTOCOL 1: a jwk has exactly kty, crv, x, y (43 characters each)."""
    with pytest.raises(DocumentRefused):
        Jwk.read({**RFC_7515.members(), **change})


@pytest.mark.parametrize("value", [None, [], "jwk", {"kty": "EC", "crv": "P-256", "x": "A" * 43}])
def test_what_is_no_jwk_is_refused(value: object) -> None:
    with pytest.raises(DocumentRefused):
        Jwk.read(value)


def test_a_digest_is_sha_256_in_43_characters() -> None:
    """FIPS 180: SHA-256 of the empty string."""
    assert base64.urlsafe_b64decode(ids.digest(b"") + "=").hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


@pytest.mark.parametrize("text", ["a", "com.example.cad", "7-zip", "a-b.c-d", "a" * 63, "a" * 64])
def test_product_ids(text: str) -> None:
    """PROTOCOL 1: [a-z0-9]+([.-][a-z0-9]+)*, at most 64 characters."""
    assert ids.is_product_id(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", "a..b", "a-.b", "A", "a b", "a_b", "ä", "a\n", "*", "a" * 65, "٣", None, 1, ["a"]],
)
def test_what_is_no_product_id(text: object) -> None:
    """PROTOCOL 1: 64 characters are the most."""
    assert not ids.is_product_id(text)


def test_the_damm_table_is_anti_symmetric() -> None:
    """Damm 2004: zero diagonal, a Latin square, and (c*x)*y = (c*y)*x only for x = y: what a swap needs."""
    digits = range(10)
    assert all(QUASIGROUP[d][d] == 0 for d in digits)
    assert all(sorted(row) == list(digits) for row in [*QUASIGROUP, *zip(*QUASIGROUP, strict=True)])
    star = QUASIGROUP
    triples = [(c, x, y) for c in digits for x in digits for y in digits if x != y]
    assert not [1 for c, x, y in triples if star[star[c][x]][y] == star[star[c][y]][x]]


def test_damm_vector() -> None:
    """PROTOCOL 5: 572 gives 4."""
    assert ids.damm("572") == "4"


@given(st.text("0123456789", max_size=12))
def test_a_number_with_its_damm_digit_folds_to_zero(digits: str) -> None:
    assert damm_remainder(digits + ids.damm(digits)) == 0


@given(st.text("0123456789", min_size=2, max_size=8), st.data())
def test_damm_finds_a_wrong_digit_and_a_swap(digits: str, data: st.DataObject) -> None:
    """Every single wrong digit, every swap of neighbours."""
    text = digits + ids.damm(digits)
    at = data.draw(st.integers(0, len(text) - 2))
    other = data.draw(st.sampled_from("0123456789"))
    wrong = text[:at] + other + text[at + 1 :]
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    assert (damm_remainder(wrong) == 0) == (wrong == text)
    assert (damm_remainder(swapped) == 0) == (swapped == text)


FP = {"uuid": "AAAAAAAAAAA", "board": "AAA", "cpu": "___"}
IID = "570870 356136 907678 486012 892244 012792 733998 148366 364387"


def test_installation_id_vector() -> None:
    """PROTOCOL 5, vector: pub A x 43, prd com.example.cad, key B x 43, cmid C x 43."""
    made = ids.installation_id(pub="A" * 43, prd="com.example.cad", key="B" * 43, cmid="C" * 43, fp=FP)
    assert made == IID
    claims = {"pub": "A" * 43, "prd": "com.example.cad", "key": "B" * 43, "iss": "C" * 43, "fp": FP}
    assert ids.iid_of_request(claims) == IID


@given(st.text("ABCabc-_", min_size=43, max_size=43), st.sampled_from([{}, FP, {"os": "A" * 11}]))
def test_installation_id_by_an_independent_model(cmid: str, fp: dict[str, str]) -> None:
    """PROTOCOL 5: the top 149 bits as 45 digits, five at a time; each group with a Damm digit over its number."""
    text = "volact iid 1\n" + "\n".join(["A" * 43, "p", "B" * 43, cmid])
    text += "".join(f"\n{name}={part}" for name, part in fp.items())
    bits = "".join(format(byte, "08b") for byte in hashlib.sha256(text.encode()).digest())[:149]
    number = str(int(bits, 2)).rjust(45, "0")
    made = ids.installation_id(pub="A" * 43, prd="p", key="B" * 43, cmid=cmid, fp=fp).split(" ")
    assert "".join(group[:5] for group in made) == number
    assert all(len(group) == 6 and damm_remainder(f"{at}{group}") == 0 for at, group in enumerate(made, 1))
    assert len(made) == 9


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("A" * 43, True),
        ("-_" * 21 + "9", True),
        ("A" * 42, False),
        ("A" * 44, False),
        ("+" * 43, False),
        (None, False),
    ],
)
def test_the_form_of_a_thumbprint(text: object, good: bool) -> None:
    """PROTOCOL 1: digests and thumbprints 43 characters base64url."""
    assert ids.is_thumbprint(text) is good
