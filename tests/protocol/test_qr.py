"""A bundle as QR codes: PROTOCOL section 5, by an encoder of the tests' own."""

import base64
import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.protocol import qr
from volact.protocol.problems import Refusal


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def texts(bundle: bytes, size: int = 400) -> list[str]:
    """As PROTOCOL section 5 says it, written a second time."""
    digest, data = b64(hashlib.sha256(bundle).digest())[:8], b64(bundle)
    count = -(-len(data) // size)
    return [f"V1:{i + 1}/{count}:{digest}:{data[i * size : (i + 1) * size]}" for i in range(count)]


def code_of(text: str) -> str:
    joined = qr.join(text)
    assert isinstance(joined, Refusal)
    return joined.code


BUNDLE = bytes(random.Random(5).randbytes(1700))


@pytest.mark.parametrize(
    ("length", "count"), [(1, 1), (299, 1), (300, 1), (301, 2), (600, 2), (601, 3), (256 * 1024, 874)]
)
def test_a_code_holds_at_most_400_characters(length: int, count: int) -> None:
    """300 bytes are 400 characters of base64url."""
    bundle = random.Random(length).randbytes(length)
    made = qr.split(bundle)
    assert made == texts(bundle)
    assert len(made) == count
    assert max(map(len, made)) <= 425, "what version 13 L holds"
    assert qr.join("\n".join(made)) == bundle


def test_a_bundle_larger_than_any_is_refused() -> None:
    assert code_of("\n".join(texts(bytes(256 * 1024 + 1)))) == "qr-damaged"
    assert code_of("V1:1/875:AAAAAAAA:AAAA") == "qr-damaged"
    assert code_of("V1:1/874:AAAAAAAA:AAAA") == "qr-incomplete"


@given(
    bundle=st.binary(min_size=1, max_size=3000),
    size=st.integers(20, 400),
    blank=st.sampled_from(["\n", " ", "", "\r\n\t", "\u200b\n", "\ufeff"]),
    chance=st.randoms(use_true_random=False),
)
def test_order_repetition_and_blanks_do_not_matter(
    bundle: bytes, size: int, blank: str, chance: random.Random
) -> None:
    made = texts(bundle, size)
    shuffled = made + chance.choices(made, k=3)
    chance.shuffle(shuffled)
    text = blank.join(shuffled)
    cut = chance.randrange(len(text))
    assert qr.join(text[:cut] + blank + text[cut:] + blank) == bundle
    assert qr.ordered(text) == made
    assert qr.is_split(blank.strip("\u200b\ufeff") + text)


@given(bundle=st.binary(min_size=400, max_size=3000), size=st.integers(20, 200), chance=st.randoms())
def test_what_is_missing_is_named(bundle: bytes, size: int, chance: random.Random) -> None:
    made = texts(bundle, size)
    gone = sorted(chance.sample(range(1, len(made) + 1), k=chance.randrange(1, len(made))))
    joined = qr.join("\n".join(made[at - 1] for at in range(len(made), 0, -1) if at not in gone))
    assert isinstance(joined, Refusal)
    assert joined.code == "qr-incomplete"
    assert dict(joined.extra) == {"missing": gone, "count": len(made)}
    assert f": {', '.join(map(str, gone[:10]))}" in joined.detail


@pytest.mark.parametrize(
    ("missing", "said"), [(9, "9, 10."), (10, "10, 11."), (11, "10, 11 and 1 more."), (12, "and 2 more.")]
)
def test_no_more_than_ten_are_named(missing: int, said: str) -> None:
    joined = qr.join(texts(bytes(600), 20)[0].replace("/40:", f"/{missing + 1}:"))
    assert isinstance(joined, Refusal)
    assert joined.detail.endswith(said)


@given(bundle=st.binary(min_size=1, max_size=2000), at=st.integers(0), to=st.characters(codec="utf-8"))
def test_any_changed_character_is_found(bundle: bytes, at: int, to: str) -> None:
    """Whatever it is changed into: nothing but the very bundle comes out."""
    text = "\n".join(texts(bundle))
    at %= len(text)
    joined = qr.join(text[:at] + to + text[at + 1 :])
    assert isinstance(joined, Refusal) or joined == bundle


@given(st.text())
def test_any_text_is_refused_or_read(text: str) -> None:
    """Nothing is raised, whatever is pasted."""
    for given_text in (text, "V1:" + text, "V1:1/1:AAAAAAAA:" + text):
        assert isinstance(qr.join(given_text), Refusal)
        qr.ordered(given_text)


ONE = texts(BUNDLE)
OTHER = texts(BUNDLE[::-1])
SHORT = texts(b"{}")[0]


@pytest.mark.parametrize(
    ("given_text", "code"),
    [
        ("", "qr-damaged"),
        ("{}", "qr-damaged"),
        ("\n".join(ONE) + "x y", "qr-damaged"),
        ("\n".join(ONE) + "\nV1:", "qr-damaged"),
        ("\n".join(ONE) + "\nhello", "qr-damaged"),
        ("\n".join(ONE[1:] + OTHER[:1]), "qr-mixed"),
        ("\n".join([*ONE, SHORT]), "qr-mixed"),
        (ONE[0].replace("/6:", "/7:") + ONE[1], "qr-mixed"),
        (ONE[0] + ONE[0][:-1] + ("A" if ONE[0][-1] != "A" else "B"), "qr-damaged"),
        (ONE[0].replace("V1:1/", "V1:7/"), "qr-damaged"),
        (ONE[0].replace("V1:1/", "V1:0/"), "qr-damaged"),
        (ONE[0].replace("V1:1/", "V1:01/"), "qr-damaged"),
        (ONE[0].replace("V1:", "V2:"), "qr-damaged"),
        (ONE[0].replace("V1:", "v1:"), "qr-damaged"),
        (ONE[0] + "A", "qr-damaged"),
        (SHORT.replace(":e30", ":e31"), "qr-damaged"),
        (SHORT.replace(":e30", ":e3"), "qr-damaged"),
        (SHORT.replace(":e30", ":e30="), "qr-damaged"),
        (SHORT.replace(":e30", ":fXs"), "qr-damaged"),
    ],
)
def test_what_is_no_list_of_one_bundles_codes_is_refused(given_text: str, code: str) -> None:
    assert code_of(given_text) == code


def test_a_digest_that_ends_like_a_code_begins_is_no_end() -> None:
    """Every character of the digest and the data is from an alphabet that has no colon."""
    text = "V1:1/1:abcdefV1:" + b64(b"{}")
    assert code_of(text) == "qr-damaged", "the digest is wrong, and the text was read to its end"
    assert qr.ordered(text) == [text]
    data = "AAV1"
    two = f"V1:1/2:abcdefV1:{data}V1:2/2:abcdefV1:{data}"
    assert qr.ordered(two) == [f"V1:1/2:abcdefV1:{data}", f"V1:2/2:abcdefV1:{data}"]


def test_what_cannot_be_taken_apart_has_no_codes() -> None:
    assert qr.ordered("V1:1/2:xx") == []
    assert not qr.is_split("{}")
    assert qr.is_split(" \nV1:")
