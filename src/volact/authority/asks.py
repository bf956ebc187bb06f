"""Opens what was sent to the authority: from anybody's bytes to an ask that a key holder and a machine signed.

Writes nothing and counts nothing; a request that does not pass here leaves no trace. An unknown key costs the
same work as a known one with a wrong proof, so neither time nor shape of the answer tells which keys exist (T5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from volact import sources
from volact.authority import orders
from volact.protocol import documents, ids, jws, matching, trust
from volact.protocol.problems import DocumentRefused, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from volact.authority.keyring import Publisher
    from volact.authority.store import KnownKey
    from volact.protocol.documents import Document

# Verifies like the key that is not there would. A public point of a published constant: it proves nothing.
_DECOY = ec.derive_private_key(1, ec.SECP256R1()).public_key()


_PROVED_BY = {"extend": "host", "return": "activate"}
"""An operation without a proof -> the one whose kind of key it is about."""
UNPROVED = frozenset(_PROVED_BY)
"""Operations that name a key and do not prove it."""


class Sent(NamedTuple):
    """A bundle as it was sent, nothing verified: a request with its jwk and proof, or a proof alone."""

    token: str | None
    jwk: Any
    proof: str | None
    usage: Any = None


class Asked(NamedTuple):
    """A verified ask.

    Attributes:
        op: activate, return, host, extend or remaining.
        key: the product key that it is about.
        document: the request; for the remaining count, the key proof.
        digest: of what was signed; the same for the same content.
        source: where it came from, as `sources.source_of` names it.
        address: the caller's address itself, or ``file``.
        jwk: the asker's public key.
        usage: the host's usage statement, with `extend`.
    """

    op: str
    key: KnownKey
    document: Document
    digest: str
    source: str
    address: str
    jwk: ids.Jwk | None = None
    usage: Document | None = None

    @property
    def by_file(self) -> bool:
        """Whether it came on a medium, or says that it set out on one (ADR 4): nobody asks a second time soon."""
        return self.address == orders.BY_FILE or self.document.claims.get("file") is True


class KeyAndPublic(NamedTuple):
    """A known key and its public half, ready to verify with."""

    known: KnownKey
    public: EllipticCurvePublicKey


FindKey = Callable[[str], KeyAndPublic | None]


class _Ask:
    """One ask on its way through the steps of `open_all`."""

    def __init__(self, sent: Sent, address: str) -> None:
        self.sent = sent
        self.address = address
        self.outcome: Asked | Refusal | None = None
        self.request = trust.Opening.self_keyed({"token": sent.token, "jwk": sent.jwk}, "request")
        self.proof: trust.Opening | None = None
        self.key: KeyAndPublic | None = None


def open_all(
    sent: Sequence[tuple[Sent, str]], publisher: Publisher, find_key: FindKey, now: int
) -> list[Asked | Refusal]:
    """Verify what was sent, each with the address it came from; `find_key` finds a key by its thumbprint.

    All go through each step together: `trust.open_all` says why.
    """
    asks = [_Ask(one, address) for one, address in sent]
    trust.open_all([ask.request for ask in asks if ask.sent.token is not None])
    for ask in asks:
        _step(_prepare, ask, publisher, find_key)
    trust.open_all([ask.proof for ask in asks if ask.proof is not None and ask.outcome is None])
    for ask in asks:
        _step(_conclude, ask, publisher, now)
    return [ask.outcome for ask in asks if ask.outcome is not None]


def _step(step: Callable[..., Asked | Refusal | None], ask: _Ask, *more: object) -> None:
    if ask.outcome is None:
        try:
            ask.outcome = step(ask, *more)
        except DocumentRefused as error:
            ask.outcome = error.refusal


def _prepare(ask: _Ask, publisher: Publisher, find_key: FindKey) -> Refusal | None:
    """Between the signatures: what the request says, and the key that must have signed its proof."""
    sent = ask.sent
    if sent.token is None:
        if sent.proof is None or sent.jwk is not None or sent.usage is not None:
            return Refusal(
                "request-malformed", "A bundle has a token, its jwk and its proof, or a proof alone."
            )
        kid = jws.split(sent.proof).kid
    else:
        if ask.request.refused:
            raise ask.request.refused
        request = ask.request.document
        trust.check_publisher(request, publisher.pub, lab=publisher.lab)
        documents.check_carried(request, proof=sent.proof, usage=sent.usage)
        kid = request["key"]
    ask.key = find_key(kid)
    if sent.proof is not None:
        public = ask.key.public if ask.key else _DECOY
        ask.proof = trust.Opening(sent.proof, "key-proof", kid=kid, key=public)
    return None


def _conclude(ask: _Ask, publisher: Publisher, now: int) -> Asked | Refusal:
    """After the signatures: whether key, proof and request belong together."""
    if ask.proof is not None and ask.proof.refused:
        if isinstance(ask.proof.refused, jws.SignatureMisfit):
            return Refusal("key-unknown")  # whether or not there is such a key
        raise ask.proof.refused
    if ask.key is None:
        return Refusal("key-unknown")
    known, source = ask.key.known, sources.source_of(ask.address)
    if ask.sent.token is None:
        return _remaining(ask, publisher, now)
    request = ask.request.document
    op, usage = request["op"], None
    if ask.proof is not None:
        matching.check_proof_fits(ask.proof.document, request, pub=publisher.pub, lab=publisher.lab)
        digest = ask.proof.document["dig"]
    else:
        digest = ids.digest(request.token[: request.token.rindex(".")].encode("ascii"))
    refusal = orders.check_kind(known.kind, _PROVED_BY.get(op, op))
    refusal = refusal or orders.check_product(known.products, request["prd"])
    if refusal:
        return refusal
    if op == "extend":
        usage = _open_usage(ask.sent.usage, request, publisher)
    jwk = ask.request.jwk if isinstance(ask.request.jwk, ids.Jwk) else None
    return Asked(op, known, request, digest, source, ask.address, jwk, usage)


def _remaining(ask: _Ask, publisher: Publisher, now: int) -> Asked | Refusal:
    if ask.key is None or ask.proof is None:
        return Refusal("key-unknown")
    proof = ask.proof.document
    matching.check_proof_fits(proof, None, pub=publisher.pub, lab=publisher.lab)
    if now > proof["exp"]:
        raise DocumentRefused("key-proof: past its end")
    refusal = orders.check_product(ask.key.known.products, proof["prd"])
    source = sources.source_of(ask.address)
    return refusal or Asked("remaining", ask.key.known, proof, "", source, ask.address)


def _open_usage(usage: object, request: Document, publisher: Publisher) -> Document:
    opened = trust.open_self_keyed(usage, "usage").document
    trust.check_publisher(opened, publisher.pub, lab=publisher.lab)
    if opened["iss"] != request["iss"] or opened["ref"] != request["ref"]:
        raise DocumentRefused("usage: of another host or delegation than the request")
    return opened
