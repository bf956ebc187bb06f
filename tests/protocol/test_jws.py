"""The envelope: PROTOCOL section 1. What is broken, by name, is in tests/vectors; here are the properties."""

import base64
import json
import re
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st

from vectors import forge
from volact.protocol import jws
from volact.protocol.ids import Jwk
from volact.protocol.problems import DocumentRefused

MOST = 9007199254740991  # 2^53 - 1


class NotStrict(Exception):
    """The oracle's no."""


class Oracle:
    """A strict reader of JSON written from RFC 8259's grammar and PROTOCOL section 1 alone."""

    def __init__(self, data: bytes) -> None:
        try:
            self.text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotStrict from error
        self.at = 0

    def read(self) -> dict[str, Any]:
        value = self.value(0)
        self.blanks()
        if self.at != len(self.text) or not isinstance(value, dict):
            raise NotStrict
        return value

    def blanks(self) -> None:
        while self.text[self.at : self.at + 1] in (" ", "\t", "\n", "\r"):
            self.at += 1

    def expect(self, literal: str) -> None:
        if not self.text.startswith(literal, self.at):
            raise NotStrict
        self.at += len(literal)

    def peek(self) -> str:
        self.blanks()
        return self.text[self.at : self.at + 1]

    def value(self, depth: int) -> Any:
        first = self.peek()
        if first == "{":
            return self.members(depth + 1)
        if first == "[":
            return self.items(depth + 1)
        if first == '"':
            return self.string()
        for word, value in (("true", True), ("false", False), ("null", None)):
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return value
        return self.integer()

    def integer(self) -> int:
        found = re.compile(r"-?(0|[1-9][0-9]*)(?![.eE0-9])").match(self.text, self.at)
        if not found or abs(int(found[0])) > MOST:
            raise NotStrict
        self.at = found.end()
        return int(found[0])

    def members(self, depth: int) -> dict[str, Any]:
        self.enter(depth)
        found: dict[str, Any] = {}
        while self.peek() != "}":
            if found:
                self.expect(",")
                self.blanks()
            name = self.string()
            self.blanks()
            self.expect(":")
            if name in found:
                raise NotStrict
            found[name] = self.value(depth)
        self.at += 1
        return found

    def items(self, depth: int) -> list[Any]:
        self.enter(depth)
        found: list[Any] = []
        while self.peek() != "]":
            if found:
                self.expect(",")
            found.append(self.value(depth))
        self.at += 1
        return found

    def enter(self, depth: int) -> None:
        if depth > 8:
            raise NotStrict
        self.at += 1

    def string(self) -> str:
        self.expect('"')
        units: list[str] = []
        while (letter := self.text[self.at : self.at + 1]) != '"':
            if not letter or letter < " ":
                raise NotStrict
            self.at += 1
            units.append(self.escape() if letter == "\\" else letter)
        self.at += 1
        try:
            return "".join(units).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError as error:
            raise NotStrict from error

    def escape(self) -> str:
        found = re.compile(r'u([0-9a-fA-F]{4})|["\\/bfnrt]').match(self.text, self.at)
        if not found:
            raise NotStrict
        self.at = found.end()
        if found[1]:
            return chr(int(found[1], 16))
        return {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}.get(found[0], found[0])


def ours(data: bytes) -> tuple[bool, Any]:
    try:
        return True, jws.read_json(data)
    except DocumentRefused:
        return False, None


def theirs(data: bytes) -> tuple[bool, Any]:
    try:
        return True, Oracle(data).read()
    except NotStrict:
        return False, None


scalars = st.none() | st.booleans() | st.integers(-MOST - 2, MOST + 2) | st.text(max_size=5) | st.floats()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)
PIECES = '{ } [ ] , : "a" "b" "" 1 0 -0 -1 01 1.0 1e2 true false null "\\ud800" "\\udc00" "\\ud83d\\ude00" "\\n" "\\x" NaN'
pieces = st.sampled_from(
    [*PIECES.split(), " ", "\n", "\x0b", "\ufeff", '"', "\\", "9007199254740992", "\x00", "é"]
)


@given(st.dictionaries(st.text(max_size=3), values, max_size=4), st.booleans())
def test_json_is_read_as_an_independent_reader_reads_it(value: dict[str, Any], ascii_only: bool) -> None:
    """PROTOCOL 1: refuses fractions or exponents, |n| > 2^53-1, nesting over 8, lone surrogates, ..."""
    data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert ours(data) == theirs(data)


@given(st.lists(pieces, max_size=14))
def test_ugly_json_is_refused_as_an_independent_reader_refuses_it(parts: list[str]) -> None:
    """PROTOCOL 1, the same from broken pieces."""
    for text in ("".join(parts), "{" + "".join(parts) + "}", '{"a":' + "".join(parts) + "}"):
        data = text.encode()
        assert ours(data) == theirs(data), text


@given(st.binary(max_size=40))
@example(b'{"a":"\xed\xa0\x80"}')
@example(b"\xef\xbb\xbf{}")
def test_bytes_that_are_no_text_are_refused_as_well(data: bytes) -> None:
    assert ours(data) == theirs(data)


@pytest.mark.parametrize(("depth", "good"), [(7, True), (8, True), (9, False)])
def test_nesting(depth: int, good: bool) -> None:
    """PROTOCOL 1: nesting over 8."""
    data = b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    assert ours(data)[0] is good


@pytest.mark.parametrize(("integer", "good"), [(2**53 - 2, True), (2**53 - 1, True), (2**53, False)])
def test_integers(integer: int, good: bool) -> None:
    """PROTOCOL 1: |n| > 2^53-1 is refused."""
    assert ours(b'{"a":%d}' % integer)[0] is good
    assert ours(b'{"a":-%d}' % integer)[0] is good


@pytest.mark.parametrize(
    "text",
    [
        '["' + '\\"' * 120_000,
        "[" * 9 + '"' + '\\"' * 120_000,
        "{" * 250_000,
        '["' * 80_000,
        "[" * 9 + '"\\' * 60_000,
    ],
)
def test_a_hostile_text_is_refused_in_linear_time(text: str) -> None:
    """RELIABILITY G13: 50 ms an input; here with room for a slow machine. 256 KiB, the largest bundle."""
    began = time.perf_counter()
    assert not ours(text.encode())[0]
    assert time.perf_counter() - began < 1


@given(st.dictionaries(st.text(max_size=4), st.integers(-MOST, MOST) | st.text(max_size=4), max_size=4))
def test_what_is_written_is_read(value: dict[str, Any]) -> None:
    """PROTOCOL 1: no blanks, UTF-8 unescaped."""
    data = jws.write_json(value)
    assert jws.read_json(data) == value
    assert data == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def test_a_lone_surrogate_is_not_written() -> None:
    """A writer that would write what nobody may read is refused as well."""
    with pytest.raises(DocumentRefused):
        jws.write_json({"name": "\udcff"})


def test_the_header_has_exactly_these_bytes() -> None:
    """PROTOCOL 1: {"alg":"ES256","kid":"...","typ":"..."}."""
    head = jws.signing_input("volact-lease+jwt", "K" * 43, b"{}").split(".")[0]
    expected = '{"alg":"ES256","kid":"' + "K" * 43 + '","typ":"volact-lease+jwt"}'
    assert base64.urlsafe_b64decode(head + "==").decode() == expected


def test_signing_is_deterministic_and_agrees_with_an_independent_writer() -> None:
    """PROTOCOL 1: file keys sign deterministically (RFC 6979)."""
    key = forge.Key("jws")
    made = jws.sign("volact-lease+jwt", key.kid, b'{"a":1}', key._private)
    assert made == forge.token("volact-lease+jwt", key, {"a": 1})
    assert made == jws.sign("volact-lease+jwt", key.kid, b'{"a":1}', key._private)


def test_rfc_6979_vector() -> None:
    """RFC 6979 A.2.5: P-256, SHA-256, message "sample"."""
    private = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    key = forge.Key("jws")
    key._private = ec.derive_private_key(private, ec.SECP256R1())
    assert key.sign(b"sample").hex().upper() == (
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )


def test_the_example_of_rfc_7515_verifies_as_a_signature() -> None:
    """RFC 7515 appendix A.3: the same signature format (raw r and s)."""
    signed = (
        b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl"
        b"LmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    jwk = Jwk("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")
    raw = base64.urlsafe_b64decode(signature + "==")
    key = jws.load_key(jwk)
    jws.check_signature(jws.Token("", "", b"", raw, signed), key)
    with pytest.raises(DocumentRefused):
        jws.check_signature(jws.Token("", "", b"", raw, signed + b"x"), key)


def good_token() -> str:
    key = forge.Key("jws")
    return forge.token("volact-lease+jwt", key, {"a": 1})


@given(st.data())
def test_any_changed_character_is_refused(data: st.DataObject) -> None:
    """PROTOCOL 1: the signature goes over the received bytes, and each byte has one form."""
    text = good_token()
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from(forge.ALPHABET + ".= \n\x00é"))
    changed = text[:at] + letter + text[at + 1 :]
    if changed != text:
        key = jws.load_key(Jwk.read(forge.Key("jws").jwk))
        with pytest.raises(DocumentRefused):
            jws.check_signature(jws.split(changed), key)


@pytest.mark.parametrize(("length", "good"), [(8191, True), (8192, True), (8193, False)])
def test_size(length: int, good: bool) -> None:
    """PROTOCOL 1: more than 8 KiB is refused, before anything is decoded."""
    with pytest.raises(DocumentRefused) as caught:
        jws.split("A" * length)
    assert ("larger" in str(caught.value)) is not good


def test_a_token_is_taken_apart() -> None:
    text = good_token()
    parts = jws.split(text)
    assert (parts.kid, parts.typ, parts.payload) == (forge.Key("jws").kid, "volact-lease+jwt", b'{"a":1}')
    assert parts.signed.decode() + "." + text.rpartition(".")[2] == text
