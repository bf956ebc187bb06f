"""The envelope: JWS compact, ES256, in a closed profile (PROTOCOL section 1).

- The algorithm belongs to the key; nothing in a token chooses it, names a key by value, or fetches one.
- `split` is size, form and header; `check_signature` works on the received bytes; `read_json` is strict.
  `trust` puts them in order. Any JWT library can verify what is written here; not all they take is taken here.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from volact.protocol.ids import THUMBPRINT_CHARACTERS, Jwk, b64u, is_thumbprint, unb64u
from volact.protocol.problems import DocumentRefused
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

ALG = "ES256"
MAX_BYTES = 8 * 1024
MAX_BYTES_LARGE = 32 * 1024
MAX_DEPTH = 8
MAX_INTEGER = 2**53 - 1

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_HALF = 32
_PARTS = 3
_ES256 = ec.ECDSA(hashes.SHA256())
_ES256_DETERMINISTIC = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
# The header as it is written; any other JSON with the same members is read too. No patterns: they start slowly.
_BEFORE_KID, _BEFORE_TYP, _AFTER_TYP = '{"alg":"ES256","kid":"', '","typ":"', '"}'
_KID_AT, _TYP_AT = len(_BEFORE_KID), len(_BEFORE_KID) + THUMBPRINT_CHARACTERS + len(_BEFORE_TYP)
_TYP_LETTERS = "abcdefghijklmnopqrstuvwxyz+-"
_HEADER_MEMBERS = {"alg", "kid", "typ"}
# A string, or one without its end: what cannot fail to match is never tried again, so the scan stays linear.
_STRING = r'(?s)"[^"\\]*(?:\\.[^"\\]*)*"?'  # compiled when a text looks deep, not at every start
_BRACKET = r"[\[\]{}]"  # likewise
_INTEGER_DIGITS = 17


class SignatureMisfit(DocumentRefused):
    """The signature is not that of the key: whoever sent the token does not hold it."""


class Token(NamedTuple):
    """A token whose form and header are good; nothing is verified yet.

    Attributes:
        kid: thumbprint of the key that is said to have signed.
        typ: e.g. ``volact-lease+jwt``.
        payload: the bytes behind the second part, not yet read.
        signature: r and s, 64 bytes.
        signed: the received bytes over which the signature goes.
    """

    kid: str
    typ: str
    payload: bytes
    signature: bytes
    signed: bytes


def split(token: object, *, limit: int = MAX_BYTES) -> Token:
    """Take a token apart: size, form, header.

    Raises:
        DocumentRefused: naming what is wrong with it.
    """
    if not isinstance(token, str):
        raise DocumentRefused("a token is a text")
    if len(token) > limit:
        raise DocumentRefused(f"the token is larger than {limit} bytes")
    parts = token.split(".")
    if len(parts) != _PARTS or not token.isascii():
        raise DocumentRefused("a token has three parts of base64url")
    header, payload, signature = (unb64u(part) for part in parts)
    if len(signature) != 2 * _HALF:
        raise DocumentRefused("the signature has 64 bytes")
    kid, typ = _read_header(header)
    return Token(kid, typ, payload, signature, token[: token.rindex(".")].encode("ascii"))


def _read_header(header: bytes) -> tuple[str, str]:
    written = header.decode("latin-1")
    kid, typ = written[_KID_AT : _TYP_AT - len(_BEFORE_TYP)], written[_TYP_AT : -len(_AFTER_TYP)]
    if (
        written == f"{_BEFORE_KID}{kid}{_BEFORE_TYP}{typ}{_AFTER_TYP}"
        and is_thumbprint(kid)
        and typ
        and not typ.strip(_TYP_LETTERS)
    ):
        return kid, typ
    members = read_json(header)
    if members.keys() != _HEADER_MEMBERS:
        raise DocumentRefused("the header has exactly alg, kid and typ")
    kid, typ = members["kid"], members["typ"]
    if members["alg"] != ALG:
        raise DocumentRefused("the algorithm is not ES256")
    if not is_thumbprint(kid) or not isinstance(typ, str):
        raise DocumentRefused("kid or typ of the header is not what it must be")
    return kid, typ


def load_key(jwk: Jwk) -> EllipticCurvePublicKey:
    """The public key of a jwk.

    Raises:
        DocumentRefused: if the point is not on the curve.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), jwk.point())
    except ValueError:
        raise DocumentRefused("the key's point is not on the curve") from None


def check_signature(token: Token, key: EllipticCurvePublicKey) -> None:
    """Check the signature over the received bytes; both s and n-s are good.

    Raises:
        DocumentRefused: if r or s is out of range; SignatureMisfit if it does not fit.
    """
    r = int.from_bytes(token.signature[:_HALF], "big")
    s = int.from_bytes(token.signature[_HALF:], "big")
    if not (0 < r < _ORDER and 0 < s < _ORDER):
        raise DocumentRefused("r or s of the signature is out of range")
    try:
        key.verify(encode_dss_signature(r, s), token.signed, _ES256)
    except InvalidSignature:
        raise SignatureMisfit("the signature does not fit") from None


def signing_input(typ: str, kid: str, payload: bytes) -> str:
    """The two parts over which a signature goes; what is recorded before it is signed."""
    header = f'{{"alg":"{ALG}","kid":"{kid}","typ":"{typ}"}}'
    return f"{b64u(header.encode('ascii'))}.{b64u(payload)}"


def sign(typ: str, kid: str, payload: bytes, key: EllipticCurvePrivateKey) -> str:
    """The token of `payload`, signed deterministically (RFC 6979): the same bytes each time."""
    head = signing_input(typ, kid, payload)
    r, s = decode_dss_signature(key.sign(head.encode("ascii"), _ES256_DETERMINISTIC))
    return f"{head}.{b64u(r.to_bytes(_HALF, 'big') + s.to_bytes(_HALF, 'big'))}"


def read_json(data: bytes) -> dict[str, Any]:
    """Read a JSON object strictly.

    Raises:
        DocumentRefused: on a byte order mark, bad UTF-8, lone surrogates, a member that stands twice at any
            depth, fractions or exponents, integers beyond 2^53-1, nesting over 8, or anything but an object.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise DocumentRefused("not UTF-8") from None
    # A cheap bound first: the parser recurses, and hostile nesting must not reach its limit.
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_too_deep(text):
        raise DocumentRefused(f"nested more than {MAX_DEPTH} deep")
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError:
        raise DocumentRefused("not JSON") from None
    if not isinstance(value, dict):
        raise DocumentRefused("not a JSON object")
    if "\\u" in text:
        write_json(value)  # refuses a lone surrogate
    return value


def write_json(value: dict[str, Any]) -> bytes:
    """JSON as documents are written: no blanks, UTF-8 unescaped, members in their order.

    Raises:
        DocumentRefused: if a text in it holds a lone surrogate.
    """
    try:
        return _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError:
        raise DocumentRefused("a lone surrogate") from None


def _is_too_deep(text: str) -> bool:
    depth = 0
    for found in re.finditer(_BRACKET, re.sub(_STRING, "", text)):
        depth += 1 if found[0] in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DocumentRefused("a member stands twice")
    return members


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= _INTEGER_DIGITS else MAX_INTEGER + 1
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise DocumentRefused("an integer beyond 2^53-1")
    return value


def _no_fraction(_text: str) -> NoReturn:
    raise DocumentRefused("a fraction, an exponent or no number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_float=_no_fraction, parse_int=_integer, parse_constant=_no_fraction
)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
