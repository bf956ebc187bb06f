"""A bundle as the texts of several QR codes, and back (PROTOCOL section 5, P6).

- Each text is ``V1:INDEX/COUNT:DIGEST:DATA``: DIGEST the first 8 characters of the SHA-256 of the bundle's JSON in
  base64url, DATA at most 400 characters of the base64url of that JSON. Version 13 of a QR code at level L holds one.
- Read in any order and as often as they were photographed or pasted; blanks and line breaks anywhere are no part of
  them. What is missing is named; nothing is given out but the very bytes that were split.
- No image is made or read here. The digest finds slips and mixed-up codes; trust is the signatures' matter.
"""

from __future__ import annotations

import re

from volact.protocol import ids
from volact.protocol.problems import DocumentRefused, Refusal
from volact.protocol.trust import MAX_BUNDLE
from volact.protocol.values import NamedTuple

PREFIX = "V1:"
DATA_MOST = 400
"""Characters of base64url in one QR code."""
_DIGEST_CHARACTERS = 8
_LARGEST = (MAX_BUNDLE + 2) // 3 * 4
_MOST = (_LARGEST + DATA_MOST - 1) // DATA_MOST
"""QR codes of the largest bundle."""
_NAMED_MOST = 10
"""Missing QR codes that are named one by one."""

_HEAD = re.compile(rf"V1:([1-9][0-9]{{0,2}})/([1-9][0-9]{{0,2}}):([A-Za-z0-9_-]{{{_DIGEST_CHARACTERS}}}):")
_DATA = re.compile(r"[A-Za-z0-9_-]+?(?=V1:|$)")
_BLANKS = re.compile(r"[\s\u200b\ufeff]+")


class _Code(NamedTuple):
    """The text of one QR code, taken apart."""

    number: int
    of: int
    digest: str
    data: str

    def text(self) -> str:
        return f"{PREFIX}{self.number}/{self.of}:{self.digest}:{self.data}"


def split(bundle: bytes) -> list[str]:
    """The texts of the QR codes that carry a bundle's JSON, which is at most MAX_BUNDLE bytes long."""
    digest, whole = ids.digest(bundle)[:_DIGEST_CHARACTERS], ids.b64u(bundle)
    pieces = [whole[at : at + DATA_MOST] for at in range(0, len(whole), DATA_MOST)]
    return [_Code(at, len(pieces), digest, piece).text() for at, piece in enumerate(pieces, start=1)]


def is_split(text: str) -> bool:
    """Whether a text looks like those of QR codes, and not like a bundle itself."""
    return text.lstrip().startswith(PREFIX)


def ordered(text: str) -> list[str]:
    """The different QR codes' texts among those in `text`, by their numbers; none if it cannot be taken apart."""
    read = _read(text)
    return [] if isinstance(read, Refusal) else [code.text() for code in sorted(set(read))]


def join(text: str) -> bytes | Refusal:
    """The bundle's JSON from the texts of its QR codes, in any order.

    Refused in this order: ``qr-damaged`` if a text is none, ``qr-mixed`` if they are of several bundles,
    ``qr-damaged`` if two say different things under one number, ``qr-incomplete`` with those that are missing,
    ``qr-damaged`` if what they make is not what was split.
    """
    read = _read(text)
    if isinstance(read, Refusal):
        return read
    bundles = {(code.digest, code.of) for code in read}
    if len(bundles) > 1:
        return Refusal("qr-mixed", f"There are codes of {len(bundles)} bundles.")
    count, digest = read[0].of, read[0].digest
    found: dict[int, str] = {}
    for code in read:
        if code.number > count or found.setdefault(code.number, code.data) != code.data:
            return Refusal("qr-damaged", f"Code {code.number} of {count} is not what it was.")
    missing = [at for at in range(1, count + 1) if at not in found]
    if missing:
        return Refusal("qr-incomplete", _named(missing, count), (("missing", missing), ("count", count)))
    try:
        bundle = ids.unb64u("".join(found[at] for at in range(1, count + 1)))
    except DocumentRefused:
        bundle = b""
    if len(bundle) > MAX_BUNDLE or ids.digest(bundle)[:_DIGEST_CHARACTERS] != digest:
        return Refusal("qr-damaged", "All codes are there, but what they say together is not what it was.")
    return bundle


def _read(text: str) -> list[_Code] | Refusal:
    """The codes one after the other. No data holds a colon, so where the next one begins is certain."""
    text = _BLANKS.sub("", text)
    codes: list[_Code] = []
    at = 0
    while at < len(text):
        head = _HEAD.match(text, at)
        data = head and _DATA.match(text, head.end())
        if not head or not data or len(data[0]) > DATA_MOST or int(head[2]) > _MOST:
            return Refusal("qr-damaged", f"What comes after {len(codes)} readable codes is none.")
        codes.append(_Code(int(head[1]), int(head[2]), head[3], data[0]))
        at = data.end()
    return codes or Refusal("qr-damaged", "There is no code.")


def _named(missing: list[int], count: int) -> str:
    named = ", ".join(str(at) for at in missing[:_NAMED_MOST])
    more = len(missing) - _NAMED_MOST
    return f"Missing of {count}: {named}{f' and {more} more' if more > 0 else ''}."
