"""Looking for what must not be in a file: in its bytes, and in all that can be decoded or decompressed out of them.

A word is looked for in every spelling that a program could have given it by accident: any case, UTF-8 or UTF-16, its
bytes in hexadecimal or base64, an address or MAC as bytes, or an unsalted digest of it.
"""

import base64
import binascii
import bz2
import contextlib
import hashlib
import ipaddress
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial

_DEEPEST = 6
_RUN = re.compile(rb"[A-Za-z0-9_+/-]{16,}")
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}){8,}")
_ESCAPED = re.compile(rb"\\u([0-9a-fA-F]{4})")
_WAYS: tuple[Callable[[bytes], bytes], ...] = (
    partial(zlib.decompress, wbits=47),  # zlib or gzip
    partial(zlib.decompress, wbits=-15),
    bz2.decompress,
    lzma.decompress,
)
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def layers(data: bytes, depth: int = 0) -> Iterator[bytes]:
    """The bytes themselves, and what is inside of them, as deep as it goes."""
    yield data
    if depth == _DEEPEST:
        return
    for inner in {*_decompressed(data), *_decoded(data)}:
        yield from layers(inner, depth + 1)


def _decompressed(data: bytes) -> Iterator[bytes]:
    for how in _WAYS:
        try:
            found = how(data)
        except (zlib.error, OSError, ValueError, lzma.LZMAError, EOFError):
            continue
        if found:
            yield found


def _decoded(data: bytes) -> Iterator[bytes]:
    for run in _RUN.findall(data):
        text = run.translate(bytes.maketrans(b"-_", b"+/"))
        whole = text[: len(text) - (len(text) % 4 == 1)]
        yield base64.b64decode(whole + b"=" * (-len(whole) % 4))
    for run in _HEX.findall(data):
        yield binascii.unhexlify(run)
    if _ESCAPED.search(data):
        yield _ESCAPED.sub(lambda found: chr(int(found[1], 16)).encode("utf-8", "replace"), data)


def spellings(word: str) -> set[bytes]:
    """How a word could stand in bytes, in small letters where it has letters."""
    small = word.lower()
    found = {small.encode(), small.encode("utf-16-le"), small.encode("utf-16-be")}
    found |= {hashlib.new(name, word.encode()).digest().lower() for name in ("md5", "sha1", "sha256")}
    if _MAC.fullmatch(small):
        bare = small.replace(":", "")
        found |= {bare.encode(), small.replace(":", "-").encode(), bytes.fromhex(bare).lower()}
    with contextlib.suppress(ValueError):
        found.add(ipaddress.ip_address(word).packed.lower())
    return found


def found_in(data: bytes, words: Iterable[str]) -> list[str]:
    """Which of these words are in a file, in any layer and spelling."""
    small = [one.lower() for one in layers(data)]
    return [word for word in words if any(one in layer for one in spellings(word) for layer in small)]
