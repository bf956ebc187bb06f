"""Opens what was sent to the host: from anybody's bytes to a check-in that a machine signed.

Writes nothing and counts nothing. A bad nonce is seen before a signature is looked at, and a bad signature before
anything is written (PROTOCOL section 6; T14, T20).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from volact.kmshost import nonces
from volact.protocol import ids, jws, trust
from volact.protocol.problems import DocumentRefused, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from volact.protocol.documents import Document

    _Look = Callable[[str], "_Nonce | None"]

_NONCE = b'"nonce":"'
_encode = msgspec.json.Encoder(order="deterministic").encode
_CONTENT = ("prd", "fp", "prev", "vm", "name")


class Sent(NamedTuple):
    """What came as the body of a check-in; nothing of it is verified."""

    token: str
    jwk: dict[str, Any]


class Frame(NamedTuple):
    """What check-ins are held against.

    Attributes:
        pub: the publisher.
        lab: whether it is a laboratory's.
        hosts: the ids of the hosts of this count, any of which may have been asked for the nonce (K12).
        nonce_key: the key of its nonces.
        now: seconds UTC.
    """

    pub: str
    lab: bool
    hosts: tuple[str, ...]
    nonce_key: bytes
    now: int


class CheckIn(NamedTuple):
    """A verified check-in.

    Attributes:
        document: the check-in.
        digest: of its content; the same when a lost answer is asked for again.
        address: where it came from.
        given: when this host gave its nonce, seconds UTC.
    """

    document: Document
    digest: str
    address: str
    given: int


class _Nonce(NamedTuple):
    """A good nonce, when it was given, and by which host."""

    text: str
    given: int
    host: str


_UNSEEN = _Nonce("", 0, "")
"""For a check-in that is refused before its nonce is looked at."""


def open_all(sent: Sequence[tuple[Sent, str]], frame: Frame) -> list[CheckIn | Refusal]:
    """Verify what was sent, each with its address; all go through each step together (`trust.open_all` says why)."""
    openings = [trust.Opening.self_keyed({"token": one.token, "jwk": one.jwk}, "checkin") for one, _ in sent]
    for opening in openings:
        try:
            opening.take_apart()
        except DocumentRefused as error:
            opening.refused = error
    # Whoever asked in the same second holds the same nonce: each is looked at once a batch.
    good = functools.cache(functools.partial(_good, frame))
    seen = [_nonce_of(opening, good) if opening.refused is None else _UNSEEN for opening in openings]
    _go_on([opening for opening, nonce in zip(openings, seen, strict=True) if nonce is not None])
    return [
        Refusal("nonce-refused") if nonce is None else _conclude(opening, nonce, address, frame, good)
        for opening, nonce, (_, address) in zip(openings, seen, sent, strict=True)
    ]


def _go_on(openings: Sequence[trust.Opening]) -> None:
    for step in trust.Opening.STEPS[1:]:
        for opening in openings:
            if opening.refused is None:
                try:
                    step(opening)
                except DocumentRefused as error:
                    opening.refused = error


def _nonce_of(opening: trust.Opening, good: _Look) -> _Nonce | None:
    """The good nonce in a payload: where our own client writes it; only if there is none, by reading the JSON."""
    payload = opening.parts.payload
    start = payload.find(_NONCE) + len(_NONCE)
    found = good(payload[start : start + nonces.CHARACTERS].decode("latin-1"))
    if found is not None:
        return found
    try:
        text = jws.read_json(payload).get("nonce")
    except DocumentRefused:
        return None
    return good(text) if isinstance(text, str) else None


def _good(frame: Frame, text: str) -> _Nonce | None:
    for host in frame.hosts:
        given = nonces.given(frame.nonce_key, host, text, frame.now)
        if given is not None:
            return _Nonce(text, given, host)
    return None


def _conclude(
    opening: trust.Opening, nonce: _Nonce, address: str, frame: Frame, good: _Look
) -> CheckIn | Refusal:
    if opening.refused is not None:
        return opening.refused.refusal
    document = opening.document
    try:
        trust.check_publisher(document, frame.pub, lab=frame.lab)
    except DocumentRefused as error:
        return error.refusal
    # What was looked at before the signature may have been another text than the one that was signed as the nonce.
    signed = nonce if document["nonce"] == nonce.text else good(document["nonce"])
    if signed is None:
        return Refusal("nonce-refused")
    if document["aud"] != signed.host:
        return Refusal("document-refused", "checkin: for another host")
    return CheckIn(document, content_digest(document), address, signed.given)


def content_digest(document: Document) -> str:
    """The digest of what a repetition must have in common with the check-in that it repeats."""
    claims = document.claims
    content = {name: claims[name] for name in _CONTENT if name in claims}
    return ids.digest(_encode(content))
