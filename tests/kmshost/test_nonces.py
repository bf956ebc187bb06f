"""A host's nonce (PROTOCOL section 6; T14): good for five minutes, here, and only as it was given."""

import base64
import hashlib
import hmac

import pytest

from volact.kmshost import nonces
from world import NOW

KEY, HOST, RANDOM = b"k" * 32, "-" + "H" * 42, bytes(range(8))


def as_protocol_says(now: int = NOW, key: bytes = KEY, host: str = HOST) -> str:
    """Time | random | HMAC over both and the host id, made from the protocol's words alone."""
    head = now.to_bytes(8, "big") + RANDOM
    mac = hmac.new(key, head + host.encode(), hashlib.sha256).digest()[:16]
    return base64.urlsafe_b64encode(head + mac).decode().rstrip("=")


def test_the_form() -> None:
    made = nonces.make(KEY, HOST, NOW, RANDOM)
    assert made == as_protocol_says()
    assert len(made) == nonces.CHARACTERS == 43
    assert len(RANDOM) == nonces.RANDOM_BYTES


@pytest.mark.parametrize(
    ("age", "good"),
    [
        (-86400, False),
        (-1, False),
        (0, True),
        (1, True),
        (299, True),
        (300, True),
        (301, False),
        (86400, False),
    ],
)
def test_it_is_good_for_five_minutes(age: int, good: bool) -> None:
    assert nonces.given(KEY, HOST, as_protocol_says(NOW - age), NOW) == (NOW - age if good else None)


def test_it_is_of_this_host_and_key() -> None:
    assert nonces.given(KEY, HOST, as_protocol_says(host="-" + "G" * 42), NOW) is None
    assert nonces.given(KEY, HOST, as_protocol_says(key=b"l" * 32), NOW) is None
    assert nonces.given(b"", HOST, as_protocol_says(), NOW) is None


def test_every_mistyped_character_is_seen() -> None:
    good = as_protocol_says()
    for place in range(43):
        other = "A" if good[place] != "A" else "B"
        assert nonces.given(KEY, HOST, good[:place] + other + good[place + 1 :], NOW) is None, place


def test_only_the_canonical_form_is_good() -> None:
    """The last character has two bits behind the last byte: three other spellings decode to the same bytes."""
    good = as_protocol_says()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = alphabet.index(good[-1])
    assert place % 4 == 0
    for one in (1, 2, 3):
        assert nonces.given(KEY, HOST, good[:-1] + alphabet[place + one], NOW) is None


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "",
        7,
        True,
        [],
        {},
        b"A" * 43,
        "A" * 42,
        "A" * 44,
        "=" * 43,
        " " * 43,
        "\u0660" * 43,
        "+" + "A" * 42,
        "A" * 43,
        "_" * 43,
    ],
    ids=repr,
)
def test_anything_else_is_none(bad: object) -> None:
    assert nonces.given(KEY, HOST, bad, NOW) is None


@pytest.mark.parametrize("around", ["{}=", "{}\n", " {}", "{}A"])
def test_nothing_may_stand_around_it(around: str) -> None:
    assert nonces.given(KEY, HOST, around.format(as_protocol_says()), NOW) is None
