"""Names of things: base64url, thumbprints, product ids, installation ids (PROTOCOL sections 1 and 5)."""

from __future__ import annotations

import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Any

from volact.protocol.problems import DocumentRefused
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

PRODUCT_ID = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
PRODUCT_ID_MAX = 64
THUMBPRINT_CHARACTERS = 43
ID_CHARACTERS = 22

# Standard base64's alphabet to base64url's and back; what base64url does not have becomes what base64 refuses.
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_PADDING = (b"", b"===", b"==", b"=")
# By length modulo 4: the last characters that leave no bit set behind the last byte.
_LAST = ("", "", "AQgw", "AEIMQUYcgkosw048")
_JWK_MEMBERS = {"kty", "crv", "x", "y"}


class Jwk(NamedTuple):
    """A P-256 public key as RFC 7517 writes it; `x` and `y` are 43 base64url characters each."""

    x: str
    y: str

    def members(self) -> dict[str, str]:
        """The JSON object, exactly the four members."""
        return {"kty": "EC", "crv": "P-256", "x": self.x, "y": self.y}

    def thumbprint(self) -> str:
        """RFC 7638 thumbprint, SHA-256, 43 characters."""
        canonical = f'{{"crv":"P-256","kty":"EC","x":"{self.x}","y":"{self.y}"}}'
        return b64u(hashlib.sha256(canonical.encode("ascii")).digest())

    def point(self) -> bytes:
        """The uncompressed point of SEC 1: 4, x, y; 65 bytes. Whether it is on the curve is not checked here."""
        return b"\x04" + unb64u(self.x) + unb64u(self.y)

    @classmethod
    def of_point(cls, point: bytes) -> Jwk:
        """The key whose uncompressed point is `point` (65 bytes)."""
        return cls(b64u(point[1:33]), b64u(point[33:]))

    @classmethod
    def read(cls, value: object) -> Jwk:
        """Read a JSON value.

        Raises:
            DocumentRefused: if it is not exactly kty, crv, x, y of a P-256 key.
        """
        if not isinstance(value, dict) or value.keys() != _JWK_MEMBERS:
            raise DocumentRefused("a jwk has exactly kty, crv, x and y")
        x, y = value["x"], value["y"]
        if value["kty"] != "EC" or value["crv"] != "P-256":
            raise DocumentRefused("the key is not of the curve P-256")
        if not (is_thumbprint(x) and is_thumbprint(y)):
            raise DocumentRefused("x and y of a jwk have 43 characters each")
        return cls(x, y)


def b64u(data: bytes) -> str:
    """base64url without padding (RFC 4648 section 5)."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def unb64u(text: str) -> bytes:
    """Decode base64url, only in its one canonical form.

    Raises:
        DocumentRefused: on padding, blanks, other characters, or bits set behind the last byte.
    """
    rest = len(text) % 4
    try:
        data = binascii.a2b_base64(
            text.encode("ascii").translate(_FROM_URL) + _PADDING[rest], strict_mode=True
        )
    except ValueError:
        raise DocumentRefused("not base64url") from None
    if rest and text[-1] not in _LAST[rest]:
        raise DocumentRefused("not canonical base64url")
    return data


def digest(data: bytes) -> str:
    """SHA-256 in base64url, 43 characters."""
    return b64u(hashlib.sha256(data).digest())


def is_product_id(text: object) -> bool:
    """Whether `text` is a product id, e.g. ``com.example.cad``."""
    return isinstance(text, str) and len(text) <= PRODUCT_ID_MAX and PRODUCT_ID.fullmatch(text) is not None


def has_form(text: object, characters: int) -> bool:
    """Whether `text` is `characters` characters of base64url. No pattern: each would be compiled at every start."""
    return (
        isinstance(text, str)
        and len(text) == characters
        and not text.encode("ascii", "replace").translate(None, _ALPHABET)
    )


def is_thumbprint(text: object) -> bool:
    """Whether `text` has the form of a thumbprint or digest: 43 characters of base64url."""
    return has_form(text, THUMBPRINT_CHARACTERS)


def is_id(text: object) -> bool:
    """Whether `text` has the form of an id: 22 characters of base64url."""
    return has_form(text, ID_CHARACTERS)


# Damm, "Total anti-symmetrische Quasigruppen" (2004): finds every single wrong digit and every neighbour swap.
_DAMM = (
    "0317598642",
    "7092154863",
    "4206871359",
    "1750983426",
    "6123045978",
    "3674209581",
    "5869720134",
    "8945362017",
    "9438617205",
    "2581436790",
)
_IID_BITS = 149
_IID_DIGITS = 45
_GROUP = 5


def damm(digits: str) -> str:
    """The Damm check digit of a decimal string; ``damm("572") == "4"``."""
    interim = 0
    for digit in digits:
        interim = int(_DAMM[interim][int(digit)])
    return str(interim)


def installation_id(*, pub: str, prd: str, key: str, cmid: str, fp: Mapping[str, str]) -> str:
    """The IID of a pending request: nine groups of five digits and a check digit, parted by blanks.

    For people to compare, and to find a row; it grants nothing. `fp` in its document order.
    """
    lines = ["volact iid 1", pub, prd, key, cmid, *(f"{name}={part}" for name, part in fp.items())]
    value = int.from_bytes(hashlib.sha256("\n".join(lines).encode()).digest(), "big") >> (256 - _IID_BITS)
    digits = str(value).zfill(_IID_DIGITS)
    groups = [digits[i : i + _GROUP] for i in range(0, _IID_DIGITS, _GROUP)]
    return " ".join(group + damm(str(number) + group) for number, group in enumerate(groups, start=1))


def iid_of_request(claims: Mapping[str, Any]) -> str:
    """The IID of a request document's claims."""
    return installation_id(
        pub=claims["pub"], prd=claims["prd"], key=claims["key"], cmid=claims["iss"], fp=claims["fp"]
    )
