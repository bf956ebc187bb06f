"""Product keys: PROTOCOL section 4, rules M7 and M8."""

from itertools import combinations

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from volact.protocol import keys
from volact.protocol.ids import Jwk
from volact.protocol.keys import ProductKey
from volact.protocol.problems import Refusal

VECTOR = "000G4-0R40M-30E20-913PM-M0001"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford base32: no I, L, O, U
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

made_keys = st.builds(
    keys.make,
    st.binary(min_size=10, max_size=10),
    st.sampled_from(["mak", "retail", "kms-host"]),
    st.integers(0, 32**4 - 1),
)


def product(left: int, right: int) -> int:
    """GF(32), bit by bit: a polynomial product, then reduced by x^5 + x^2 + 1."""
    value = 0
    for bit in range(5):
        if right >> bit & 1:
            value ^= left << bit
    for bit in range(8, 4, -1):
        if value >> bit & 1:
            value ^= 0b100101 << (bit - 5)
    return value


def power(base: int, exponent: int) -> int:
    value = 1
    for _ in range(exponent):
        value = product(value, base)
    return value


# What symbol value 1 at position i adds to c(a), c(a^2), c(a^3), c(a^4), with a = x = 2.
COLUMNS = [[power(power(2, root), 24 - position) for root in range(1, 5)] for position in range(25)]


def syndrome(position: int, value: int) -> int:
    """All four sums that `value` at `position` adds, as one number of 20 bits."""
    parts = [product(value, column) for column in COLUMNS[position]]
    return parts[0] | parts[1] << 5 | parts[2] << 10 | parts[3] << 15


def is_code_word(text: str) -> bool:
    total = 0
    for position, symbol in enumerate(text.replace("-", "")):
        total ^= syndrome(position, CROCKFORD.index(symbol))
    return total == 0


def changed(text: str, changes: dict[int, int]) -> str:
    """The symbols of `text`, each of `changes` moved on by so many places of the alphabet."""
    symbols = list(text.replace("-", ""))
    for position, by in changes.items():
        symbols[position] = CROCKFORD[CROCKFORD.index(symbols[position]) ^ by]
    return "".join(symbols)


def groups_of(read: ProductKey | Refusal) -> object:
    assert isinstance(read, Refusal)
    assert read.code == "key-mistyped"
    return dict(read.extra)["groups"]


def test_vector() -> None:
    """PROTOCOL 4: secret 00 01 .. 09, label M0001."""
    key = keys.make(bytes(range(10)), "mak", 1)
    assert key.text() == VECTOR
    assert (key.kind, key.label) == ("mak", "M0001")
    assert keys.read(VECTOR) == key


def test_vector_of_the_key_pair() -> None:
    """PROTOCOL 4: pub A x 43: thumbprint U0Y3DeZUYd1Tw2ISepV00IRv35YKI20TJL9rkr2Bl_g."""
    key = keys.read(VECTOR)
    assert isinstance(key, ProductKey)
    private = key.private_key("A" * 43)
    assert thumbprint(private) == "U0Y3DeZUYd1Tw2ISepV00IRv35YKI20TJL9rkr2Bl_g"


def thumbprint(private: ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    return Jwk.of_point(private.public_key().public_bytes(encoding, form)).thumbprint()


@given(
    st.binary(min_size=10, max_size=10),
    st.integers(0, 32**4 - 1),
    st.text("ABab01-_", min_size=43, max_size=43),
)
def test_the_key_pair_by_another_hkdf(secret: bytes, number: int, pub: str) -> None:
    """RFC 5869 as `cryptography` has it: 48 bytes, mod (n-1) + 1; salt and info of PROTOCOL 4."""
    key = keys.make(secret, "kms-host", number)
    hkdf = HKDF(hashes.SHA256(), 48, b"volact product key 1", (pub + key.text()[-5:]).encode())
    scalar = int.from_bytes(hkdf.derive(secret), "big") % (ORDER - 1) + 1
    assert key.private_key(pub).private_numbers().private_value == scalar


@given(made_keys)
def test_a_key_is_read_as_it_was_written(key: ProductKey) -> None:
    assert keys.read(key.text()) == key
    assert is_code_word(key.text())
    assert [len(group) for group in key.text().split("-")] == [5] * 5


@given(st.binary(min_size=10, max_size=10), st.integers(0, 32**4 - 1))
def test_secret_and_label_are_big_endian(secret: bytes, number: int) -> None:
    """PROTOCOL 4: 16 secret symbols = 10 bytes, big-endian; NNNN the label's number."""
    key = keys.make(secret, "retail", number)
    bits = "".join(format(byte, "08b") for byte in secret) + "".join(format(number, "020b"))
    symbols = "".join(CROCKFORD[int(bits[i : i + 5], 2)] for i in range(0, len(bits), 5))
    assert key.symbols[:16] == symbols[:16]
    assert key.label == keys.label("retail", number) == "R" + symbols[16:]


def test_kinds() -> None:
    """PROTOCOL 4: M MAK, R retail, H KMS host; others refused."""
    assert {kind: keys.label(kind, 0) for kind in ("mak", "retail", "kms-host")} == {
        "mak": "M0000",
        "retail": "R0000",
        "kms-host": "H0000",
    }


@pytest.mark.parametrize("letter", sorted(set(CROCKFORD) - set("MRH")))
def test_a_code_word_with_another_kind_letter_is_refused(letter: str) -> None:
    """PROTOCOL 4: others refused; the check symbols fit, so it is the letter that is said to be wrong."""
    key = code_word_with(VECTOR, letter)
    assert is_code_word(key)
    assert groups_of(keys.read(key)) == [5]


LAST_TWO = {syndrome(18, c) ^ syndrome(19, d): {18: c, 19: d} for c in range(32) for d in range(32)}


def test_any_one_or_two_wrong_symbols_are_found_and_told_apart() -> None:
    """PROTOCOL 4: distance 5. All 775 one-symbol and 288,300 two-symbol errors have sums of their own."""
    ones = {(position, value): syndrome(position, value) for position in range(25) for value in range(1, 32)}
    sums = list(ones.values())
    for first, second in combinations(range(25), 2):
        sums += [ones[first, a] ^ ones[second, b] for a in range(1, 32) for b in range(1, 32)]
    assert 0 not in sums
    assert len(set(sums)) == len(sums) == 775 + 288_300


def test_every_one_symbol_change_names_its_group() -> None:
    """M7: names the group that is likely wrong. Exhaustive: 25 places, 31 changes."""
    for position in range(25):
        for by in range(1, 32):
            wrong = changed(VECTOR, {position: by})
            assert groups_of(keys.read(wrong)) == [position // 5 + 1], wrong


@given(made_keys, st.integers(0, 24), st.integers(1, 31), st.integers(0, 24), st.integers(1, 31))
def test_every_two_symbol_change_names_its_groups(
    key: ProductKey, at: int, by: int, at2: int, by2: int
) -> None:
    """PROTOCOL 4: if changing one symbol, or else two, gives a key, their groups are named, never corrected."""
    wrong = changed(key.text(), {at: by, at2: by2})
    read = keys.read(wrong)
    assert groups_of(read) == sorted({at // 5 + 1, at2 // 5 + 1})
    assert wrong not in str(read)
    assert key.text() not in str(read)


@given(made_keys, st.sets(st.integers(0, 24), min_size=3, max_size=6), st.data())
def test_more_wrong_symbols_are_never_corrected(
    key: ProductKey, places: set[int], data: st.DataObject
) -> None:
    """Three or four wrong symbols are always found (distance 5); what is named is likely, or not known."""
    changes = {place: data.draw(st.integers(1, 31)) for place in sorted(places)}
    wrong = changed(key.text(), changes)
    read = keys.read(wrong)
    if isinstance(read, ProductKey):
        assert is_code_word(wrong)
        assert len(places) >= 5
        return
    named = groups_of(read)
    assert named == [] or 1 <= len(named) <= 2  # type: ignore[arg-type]  # a list of groups
    assert ("not known" in read.detail) == (named == [])


def test_the_group_is_not_known_where_the_nearest_code_word_is_no_key() -> None:
    """PROTOCOL 4: otherwise "group not known". One change away from a code word whose letter is no kind."""
    no_kind = keys.make(bytes(range(10)), "mak", 1)
    for letter in sorted(set(CROCKFORD) - set("MRH")):
        code_word = code_word_with(no_kind.text(), letter)
        read = keys.read(changed(code_word, {0: 1}))
        assert groups_of(read) == []


def code_word_with(text: str, letter: str) -> str:
    """The code word that differs from `text` in its kind letter and in check symbols only."""
    by = CROCKFORD.index(letter) ^ CROCKFORD.index(text[-5])
    total = syndrome(20, by)
    for a in range(32):
        for b in range(32):
            rest = total ^ syndrome(16, a) ^ syndrome(17, b)
            if rest in LAST_TWO:
                return changed(text, {20: by, 16: a, 17: b, **LAST_TWO[rest]})
    raise AssertionError


@pytest.mark.parametrize(
    "typed",
    [
        VECTOR.lower(),
        VECTOR.replace("-", ""),
        f"  {VECTOR}\n",
        "0-00G40R4-0M30E20913PMM0001",
        "-" + VECTOR + "--",
        VECTOR.replace("0", "O"),
        VECTOR.replace("0", "o").replace("1", "l"),
        VECTOR.replace("1", "I"),
        VECTOR.replace("1", "L"),
    ],
)
def test_what_may_be_typed(typed: str) -> None:
    """PROTOCOL 4: I, L read as 1, O as 0, case and hyphens free, blanks dropped at the ends."""
    assert keys.read(typed) == ProductKey(VECTOR.replace("-", ""))


@pytest.mark.parametrize(
    ("typed", "groups"),
    [
        (VECTOR.replace("G", "U"), [1]),
        ("000G4 0R40M-30E20-913PM-M0001", [2]),
        (VECTOR.replace("R", "?"), [2]),
        (VECTOR.replace("M0001", "M000ß"), [5]),
        (VECTOR.replace("1", "ı"), [4]),
        (VECTOR.replace("E", "ſ"), [3]),
        (VECTOR.replace("0001", "000１"), [5]),
    ],
)
def test_a_character_that_no_key_has_names_its_group(typed: str, groups: list[int]) -> None:
    """PROTOCOL 4: U is no symbol; nor is anything beyond ASCII, however it is folded."""
    assert groups_of(keys.read(typed)) == groups


def test_a_sharp_s_is_not_read_as_two_letters() -> None:
    """Unicode's upper case of ß is SS: 24 characters typed must not pass for 25."""
    doubled = next(
        key.text() for n in range(32**3) if "SS" in (key := keys.make(bytes(10), "mak", n)).symbols
    )
    assert isinstance(keys.read(doubled.replace("-", "").replace("SS", "ß", 1)), Refusal)


@pytest.mark.parametrize("typed", ["", "-----", VECTOR[:-1], VECTOR + "0", "0" * 24, "0" * 26, VECTOR * 2])
def test_another_length_is_refused(typed: str) -> None:
    """PROTOCOL 4: 25 symbols."""
    read = keys.read(typed)
    assert isinstance(read, Refusal)
    assert read.code == "key-mistyped"
    assert "25" in read.detail


def test_a_key_shows_its_label_only() -> None:
    """M8: everywhere it is shown, it is the last group only."""
    key = keys.read(VECTOR)
    for shown in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert "M0001" in shown
        assert not [group for group in VECTOR.split("-")[:4] if group in shown]


@pytest.mark.parametrize(
    ("secret", "number"), [(bytes(9), 0), (bytes(11), 0), (bytes(10), -1), (bytes(10), 32**4)]
)
def test_a_key_is_made_of_ten_bytes_and_a_label_number(secret: bytes, number: int) -> None:
    with pytest.raises(ValueError, match="10 secret bytes"):
        keys.make(secret, "mak", number)


def test_the_greatest_label_number() -> None:
    assert keys.make(bytes(10), "mak", 32**4 - 1).label == "MZZZZ"


def test_a_key_with_one_other_group_hidden_can_be_completed() -> None:
    """PROTOCOL 4: a key with one other group hidden can be completed from the check symbols: 32 ways are left
    of 32^5, so only the last group is ever shown.
    """
    partial = 0
    for position, symbol in enumerate(VECTOR.replace("-", "")):
        if position >= 5:
            partial ^= syndrome(position, CROCKFORD.index(symbol))
    # five unknowns, four equations of full rank: 32 ** (5 - 4) solutions
    found = 0
    last_four: dict[int, list[tuple[int, int]]] = {}
    for a in range(32):
        for b in range(32):
            last_four.setdefault(syndrome(3, a) ^ syndrome(4, b), []).append((a, b))
    for a in range(32):
        for b in range(32):
            for c in range(32):
                rest = partial ^ syndrome(0, a) ^ syndrome(1, b) ^ syndrome(2, c)
                found += len(last_four.get(rest, []))
    assert found == 32
