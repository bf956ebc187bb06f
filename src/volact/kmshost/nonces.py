"""A host's nonce: time, randomness, and a keyed hash over both and the host's id (PROTOCOL section 6; T14). Pure.

- No memory of it is kept: the hash says that this host, or another of the same count, gave it for this host id.
- It is good for five minutes, both ends included; one that was given later than now is not good.
"""

from __future__ import annotations

import hashlib
import hmac

from volact.protocol import ids, policy
from volact.protocol.problems import DocumentRefused

RANDOM_BYTES = 8
_TIME_BYTES, _MAC_BYTES = 8, 16
_BYTES = _TIME_BYTES + RANDOM_BYTES + _MAC_BYTES
CHARACTERS = 43


def make(key: bytes, host: str, now: int, random: bytes) -> str:
    """The nonce of a moment; `random` has 8 bytes."""
    head = now.to_bytes(_TIME_BYTES, "big") + random
    return ids.b64u(head + _mac(key, host, head))


def given(key: bytes, host: str, nonce: object, now: int) -> int | None:
    """When this host gave the nonce, if it is good now: within the last five minutes; else None."""
    if not ids.has_form(nonce, CHARACTERS):
        return None
    try:
        data = ids.unb64u(str(nonce))
    except DocumentRefused:
        return None
    head, mac = data[: _BYTES - _MAC_BYTES], data[_BYTES - _MAC_BYTES :]
    at = int.from_bytes(head[:_TIME_BYTES], "big")
    if 0 <= now - at <= policy.NONCE_LIFETIME and hmac.compare_digest(mac, _mac(key, host, head)):
        return at
    return None


def _mac(key: bytes, host: str, head: bytes) -> bytes:
    return hmac.digest(key, head + host.encode("ascii"), hashlib.sha256)[:_MAC_BYTES]
