"""The JSON of asks and answers, the same over HTTP and in request and response files (PROTOCOL section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from volact.authority.asks import Sent
from volact.protocol.policy import BATCH_MOST
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence


class Bundle(msgspec.Struct, forbid_unknown_fields=True):
    """What one ask is sent as."""

    token: str | None = None
    jwk: dict[str, Any] | None = None
    proof: str | None = None
    usage: dict[str, Any] | None = None
    requests: list[msgspec.Raw] | None = None


_decode = msgspec.json.Decoder(Bundle).decode


def read_sent(body: bytes | msgspec.Raw) -> Bundle | Refusal:
    """Read a body, or one entry of a batch."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refusal("request-malformed", "It is not the JSON that this address takes.")


def read_batch(body: bytes) -> list[Sent | Refusal] | Sent | Refusal:
    """Read a body: one ask, or the asks of a batch in their order; an entry that is none is refused alone."""
    read = read_sent(body)
    if isinstance(read, Refusal) or read.requests is None:
        return read if isinstance(read, Refusal) else _sent(read)
    if read.token is not None or read.jwk is not None or read.proof is not None or read.usage is not None:
        return Refusal("request-malformed", "A batch has requests and nothing else.")
    if not 1 <= len(read.requests) <= BATCH_MOST:
        return Refusal("request-malformed", f"A batch has 1 to {BATCH_MOST} requests.")
    return [_entry(read_sent(one)) for one in read.requests]


def _entry(read: Bundle | Refusal) -> Sent | Refusal:
    if isinstance(read, Refusal):
        return read
    if read.requests is not None:
        return Refusal("request-malformed", "A batch has no batches in it.")
    return _sent(read)


def _sent(read: Bundle) -> Sent:
    return Sent(read.token, read.jwk, read.proof, read.usage)


def answers_json(answers: Sequence[bytes | Refusal]) -> bytes:
    """The answers of a batch as one JSON object."""
    parts = [msgspec.json.encode(one.document()) if isinstance(one, Refusal) else one for one in answers]
    return b'{"answers":[' + b",".join(parts) + b"]}"
