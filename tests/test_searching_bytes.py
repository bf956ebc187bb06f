"""What `searching_bytes` finds: without it "0 of 50 planted words" would say nothing."""

import base64
import bz2
import gzip
import hashlib
import json
import lzma
import zlib

import pytest

from searching_bytes import found_in

WORD = "Canary-7.secure.example"
MAC, ADDRESS, ADDRESS6 = "02:6a:3f:5e:c7:9b", "10.77.201.143", "fd00:77::8f"


def url64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


TOKEN = url64(json.dumps({"name": WORD}).encode()) + b"." + url64(b"\x00\xff" * 20)
HIDDEN = {
    "clear": WORD.encode(),
    "other case": WORD.upper().encode(),
    "utf-16": WORD.encode("utf-16-le"),
    "base64": base64.b64encode(b"\x01\x02" + WORD.encode()),
    "base64url of a token": b'{"token":"' + TOKEN + b'"}',
    "twice base64": base64.b64encode(base64.b64encode(WORD.encode())),
    "hexadecimal": WORD.encode().hex().encode(),
    "escaped": "".join(f"\\u{ord(one):04x}" for one in WORD).encode(),
    "gzip": gzip.compress(WORD.encode()),
    "zlib in base64": base64.b64encode(zlib.compress(WORD.encode())),
    "deflate": zlib.compress(WORD.encode(), wbits=-15),
    "bzip2": bz2.compress(WORD.encode()),
    "xz": lzma.compress(WORD.encode()),
    "a digest": hashlib.sha256(WORD.encode()).digest(),
    "a digest in base64": url64(hashlib.md5(WORD.encode(), usedforsecurity=False).digest()),
    "a digest in hexadecimal": hashlib.sha1(WORD.encode(), usedforsecurity=False).hexdigest().encode(),
}


@pytest.mark.parametrize("how", HIDDEN)
def test_a_word_is_found_however_it_is_hidden(how: str) -> None:
    assert found_in(b"before \x00 " * (how in ("clear", "utf-16")) + HIDDEN[how], [WORD, "another"]) == [WORD]


def test_addresses_and_macs_are_found_as_bytes() -> None:
    words = [MAC, ADDRESS, ADDRESS6, "10.77.201.144"]
    for data in (
        b"026a3f5ec79b 10.77.201.143 fd00:77::8f",
        b"02-6A-3F-5E-C7-9B,10.77.201.143,FD00:77::8F",
        bytes([2, 0x6A, 0x3F, 0x5E, 0xC7, 0x9B, 10, 77, 201, 143])
        + b"\xfd\x00\x00\x77"
        + b"\x00" * 11
        + b"\x8f",
    ):
        assert found_in(data, words) == words[:3]


def test_what_is_not_there_is_not_found() -> None:
    data = json.dumps({"token": TOKEN.decode(), "proof": url64(bytes(range(256))).decode()}).encode()
    assert found_in(data, ["Canary-8.secure.example", MAC, ADDRESS]) == []
