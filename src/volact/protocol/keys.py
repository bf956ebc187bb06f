"""Product keys: ``SSSSS-SSSSS-SSSSS-SCCCC-KNNNN`` (PROTOCOL section 4, rules M7 and M8).

- Sixteen secret symbols S, four check symbols C, kind K and label number N; Crockford base32.
- The check symbols find every one or two wrong symbols; a wrong key is explained and never corrected.
- A key is the seed of a signing key pair. Only its last group, the label, is ever shown: it holds no secret.
  A key with one *other* group hidden is no secret any more: the check symbols leave 32 candidates at most.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric import ec

from volact.protocol.problems import Refusal
from volact.protocol.values import NamedTuple

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
KINDS = {"M": "mak", "R": "retail", "H": "kms-host"}
KIND_LETTERS = {kind: letter for letter, kind in KINDS.items()}
SECRET_BYTES = 10
SECRET_SYMBOLS = 16
CHECK_SYMBOLS = 4
KEY_SYMBOLS = 25
GROUP = 5
LABELS_PER_KIND = 32**4
KIND_AT = 20

_READ_AS = {"I": "1", "L": "1", "O": "0"}
_ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SALT = b"volact product key 1"
_SCALAR_BYTES = 48


def _power_table() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Powers and logarithms of a = x in GF(32) modulo x^5 + x^2 + 1."""
    power, logarithm, value = [0] * 62, [0] * 32, 1
    for exponent in range(31):
        power[exponent] = power[exponent + 31] = value
        logarithm[value] = exponent
        value <<= 1
        if value & 32:
            value ^= 0b100101
    return tuple(power), tuple(logarithm)


_POWER, _LOG = _power_table()


def _times(left: int, right: int) -> int:
    return _POWER[_LOG[left] + _LOG[right]] if left and right else 0


def _over(left: int, right: int) -> int:
    return _POWER[_LOG[left] - _LOG[right] + 31] if left else 0


def _syndromes(symbols: list[int]) -> list[int]:
    """c(a), c(a^2), c(a^3), c(a^4), with c(x) = sum of symbol i times x^(24-i)."""
    found = []
    for root in range(1, CHECK_SYMBOLS + 1):
        value, point = 0, _POWER[root]
        for symbol in symbols:
            value = _times(value, point) ^ symbol
        found.append(value)
    return found


def _solve(matrix: list[list[int]]) -> list[int]:
    """Solve a regular square system over GF(32), given with its right-hand side as the last column."""
    size = len(matrix)
    for column in range(size):
        pivot = next(row for row in range(column, size) if matrix[row][column])
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        matrix[column] = [_over(value, matrix[column][column]) for value in matrix[column]]
        for row in range(size):
            factor = matrix[row][column]
            if row != column and factor:
                matrix[row] = [
                    value ^ _times(factor, base)
                    for value, base in zip(matrix[row], matrix[column], strict=True)
                ]
    return [row[-1] for row in matrix]


def _errors_at(positions: tuple[int, ...], syndromes: list[int]) -> list[int]:
    """What must be added at `positions` so that the first len(positions) syndromes vanish."""
    exponents = [KEY_SYMBOLS - 1 - position for position in positions]
    return _solve(
        [
            [_POWER[root * exponent % 31] for exponent in exponents] + [syndromes[root - 1]]
            for root in range(1, len(positions) + 1)
        ]
    )


class ProductKey(NamedTuple):
    """A key that was typed rightly. Holds a secret: never log it, store it or put it in an argument list."""

    symbols: str

    def __repr__(self) -> str:
        """Show the label only, so that a traceback or a log cannot give the key away."""
        return f"ProductKey(…-{self.label})"

    def __str__(self) -> str:
        """As `repr`."""
        return repr(self)

    @property
    def kind(self) -> str:
        """``mak``, ``retail`` or ``kms-host``."""
        return KINDS[self.symbols[KIND_AT]]

    @property
    def label(self) -> str:
        """The last group, the only one that is shown."""
        return self.symbols[KIND_AT:]

    def text(self) -> str:
        """The whole key with hyphens, for the one who issues it."""
        return "-".join(self.symbols[i : i + GROUP] for i in range(0, KEY_SYMBOLS, GROUP))

    def private_key(self, pub: str) -> ec.EllipticCurvePrivateKey:
        """The key pair that proves this key to publisher `pub`: HKDF-SHA256 (RFC 5869) reduced into 1..n-1."""
        secret = _secret_bytes(self.symbols)
        info = (pub + self.label).encode("ascii")
        scalar = int.from_bytes(_hkdf(secret, info), "big") % (_ORDER_P256 - 1) + 1
        return ec.derive_private_key(scalar, ec.SECP256R1())


def _hkdf(secret: bytes, info: bytes) -> bytes:
    """HKDF-SHA256, 48 bytes: two blocks of RFC 5869's expansion. hashlib's hmac: no further import at start."""
    extracted = hmac.digest(_SALT, secret, hashlib.sha256)
    first = hmac.digest(extracted, info + b"\x01", hashlib.sha256)
    second = hmac.digest(extracted, first + info + b"\x02", hashlib.sha256)
    return (first + second)[:_SCALAR_BYTES]


def _secret_bytes(symbols: str) -> bytes:
    value = 0
    for symbol in symbols[:SECRET_SYMBOLS]:
        value = value << 5 | ALPHABET.index(symbol)
    return value.to_bytes(SECRET_BYTES, "big")


def make(secret: bytes, kind: str, number: int) -> ProductKey:
    """The key with 10 `secret` bytes (from the operating system), a kind of `KINDS` and a label number."""
    if len(secret) != SECRET_BYTES or not 0 <= number < LABELS_PER_KIND:
        raise ValueError("10 secret bytes and a label number below 32**4")
    value = int.from_bytes(secret, "big")
    head = [value >> 5 * i & 31 for i in reversed(range(SECRET_SYMBOLS))]
    tail = [ALPHABET.index(KIND_LETTERS[kind])] + [number >> 5 * i & 31 for i in reversed(range(4))]
    checks_at = tuple(range(SECRET_SYMBOLS, SECRET_SYMBOLS + CHECK_SYMBOLS))
    checks = _errors_at(checks_at, _syndromes([*head, *[0] * CHECK_SYMBOLS, *tail]))
    return ProductKey("".join(ALPHABET[symbol] for symbol in [*head, *checks, *tail]))


def label(kind: str, number: int) -> str:
    """The label of key `number` of a kind: its letter and four symbols."""
    return KIND_LETTERS[kind] + "".join(ALPHABET[number >> 5 * i & 31] for i in reversed(range(4)))


def read(text: str) -> ProductKey | Refusal:
    """Read what a person typed.

    Case and hyphens are free, blanks at the ends are dropped, I and L are read as 1, O as 0.
    A wrong key is refused with ``key-mistyped``; the detail names the groups that are likely wrong, counted
    from 1, and never repeats what was typed.
    """
    typed = text.strip().replace("-", "")
    # Only ASCII is raised: Unicode would make two letters of one (ß) and digits of foreign ones (ı).
    upper = (character.upper() if character.isascii() else character for character in typed)
    symbols = "".join(_READ_AS.get(character, character) for character in upper)
    for position, symbol in enumerate(symbols[:KEY_SYMBOLS]):
        if symbol not in ALPHABET:
            return _mistyped(f"Group {position // GROUP + 1} holds a character that no key has.", position)
    if len(symbols) != KEY_SYMBOLS:
        return Refusal(
            "key-mistyped", f"A key has {KEY_SYMBOLS} characters in 5 groups; these are {len(symbols)}."
        )
    numbers = [ALPHABET.index(symbol) for symbol in symbols]
    syndromes = _syndromes(numbers)
    if not any(syndromes):
        if symbols[KIND_AT] in KINDS:
            return ProductKey(symbols)
        return _mistyped("Group 5 begins with a letter that no kind of key has.", KIND_AT)
    positions = _likely(numbers, syndromes)
    if not positions:
        return Refusal("key-mistyped", "The group that is wrong is not known.", (("groups", []),))
    groups = sorted({position // GROUP + 1 for position in positions})
    named = " and ".join(str(group) for group in groups)
    return _mistyped(f"Likely wrong: group {named} of 5.", *positions)


def _mistyped(detail: str, *positions: int) -> Refusal:
    groups = sorted({position // GROUP + 1 for position in positions})
    return Refusal("key-mistyped", detail, (("groups", groups),))


def _likely(numbers: list[int], syndromes: list[int]) -> tuple[int, ...]:
    """The one or two positions whose change gives a key; empty if there are none. Distance 5: at most one way."""
    places = range(KEY_SYMBOLS)
    for positions in [(i,) for i in places] + [(i, j) for i in places for j in range(i)]:
        changed = list(numbers)
        for position, error in zip(positions, _errors_at(positions, list(syndromes)), strict=True):
            changed[position] ^= error
        if not any(_syndromes(changed)) and ALPHABET[changed[KIND_AT]] in KINDS:
            return positions
    return ()
