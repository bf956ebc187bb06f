"""The verifier: from bytes that anybody may have sent to a document that the pinned publisher answers for.

One path for every document, told as numbered steps. Each step says which attack it stops; the code repeats
the numbers. A document is judged *as of its signing* (PROTOCOL section 3): no clock is read or passed in.

1.  Size, form, header (`jws.split`): no large or nested input reaches a parser; the algorithm is not the
    token's to choose; no header member can name, carry or fetch a key.
2.  typ: a document of one kind cannot serve as another.
3.  Key: the one that the verified chain names; or, for a self-keyed document, the jwk whose thumbprint is the
    kid and whose point is on the curve. An attacker's own key is never the chain's.
4.  Signature, over the received bytes. Only what is signed is read any further.
5.  Payload by its row of the table (`documents.read`): strict JSON, types, iss = kid, unknown `must`.
6.  Publisher and laboratory: both are those of root document 1. Nothing crosses publishers; nothing from a
    laboratory serves outside it.
7.  Root documents: 1 has the pinned thumbprint; n + 1 is signed by n; versions rise by one; no other key for
    a known version. A stolen later root cannot go back, a rollback is seen.
8.  Delegations: root, then issuer, then kms-host, or root, then status; each narrows the one before (products,
    longest delegation, longest lease), is inside its window, and no key stands twice.
9.  The document: its kind is its signer's to sign, its products are within, its window and end fit.
10. Revocation: root documents after the delegation's own must list it, and none may revoke a key of the
    chain. Not an error but a value, since what is stored and what is taken up are judged differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.protocol import documents, jws, policy
from volact.protocol.ids import Jwk
from volact.protocol.problems import DocumentRefused
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from volact.protocol.documents import Document

    Chain = tuple[tuple[Document, ...], EllipticCurvePublicKey, int]
    Chains = dict[tuple[object, ...], Chain]

MAX_BUNDLE = 256 * 1024
MAX_CHAIN = 2
MAX_ROOTS = 16
EVERY_PRODUCT = ["*"]

_CHAIN_OF = {"issuer": ("issuer",), "status": ("status",), "kms-host": ("issuer", "kms-host")}
_SIGNER_OF = {
    "delegation": "issuer",
    "product": "issuer",
    "confirmation": "issuer",
    "receipt": "issuer",
    "statement": "issuer",
    "status": "status",
    "host": "kms-host",
    "lease": "kms-host",
}
_OWN_SUBJECT = ("request", "checkin", "host", "usage")
_FOR_PUBLISHER = ("request", "key-proof", "usage")


class SelfKeyed(NamedTuple):
    """A verified document that brought its own key; the key proves nothing but itself."""

    document: Document
    jwk: Jwk
    key: EllipticCurvePublicKey


class Roots(NamedTuple):
    """A publisher's verified root documents, 1 to n.

    Attributes:
        first: root document 1 as it travels: ``{"token", "jwk"}``.
        documents: all of them, in order.
        keys: the public keys that they introduce, in the same order.
    """

    first: dict[str, Any]
    documents: tuple[Document, ...]
    keys: tuple[EllipticCurvePublicKey, ...]

    @property
    def pub(self) -> str:
        """The publisher: the thumbprint of root key 1."""
        return str(self.documents[0]["pub"])

    @property
    def lab(self) -> bool:
        """Whether the publisher is a laboratory's."""
        return bool(self.documents[0]["lab"])

    def later_tokens(self) -> list[str]:
        """Root documents 2 to n, as a bundle carries them."""
        return [document.token for document in self.documents[1:]]

    def revocation(self, kid: str) -> str:
        """How `kid` is revoked by any known root document: ``all`` before ``new``; empty if it is not."""
        modes = {one["mode"] for document in self.documents for one in document["rvk"] if one["kid"] == kid}
        return _worst(modes)


class Granted(NamedTuple):
    """A document that was granted under the pinned root.

    Attributes:
        document: the document itself.
        chain: its delegations, from the root down.
        roots: the known root documents, those of its bundle included.
        revoked: ``""``; ``new`` (stands if it was stored before this was known); ``all`` (no longer stands).
    """

    document: Document
    chain: tuple[Document, ...]
    roots: Roots
    revoked: str

    def bundle(self) -> dict[str, Any]:
        """The bundle, as it travels and is stored."""
        return {
            "token": self.document.token,
            "chain": [delegation.token for delegation in self.chain],
            "roots": self.roots.later_tokens(),
        }


def read_bundle(data: bytes) -> dict[str, Any]:
    """Read a file or body that should hold a bundle.

    Raises:
        DocumentRefused: if it is too large or no JSON object.
    """
    if len(data) > MAX_BUNDLE:
        raise DocumentRefused(f"the bundle is larger than {MAX_BUNDLE} bytes")
    return jws.read_json(data)


class Opening:
    """A token on its way through steps 1 to 5; `open_all` takes many through each step together."""

    __slots__ = ("document", "jwk", "key", "kid", "name", "parts", "refused", "token")

    def __init__(
        self, token: object, name: str, *, kid: str = "", key: EllipticCurvePublicKey | None = None
    ) -> None:
        """Open `token` as document `name`, which must be signed by `key`, whose thumbprint is `kid`."""
        self.token = token
        self.name = name
        self.kid = kid
        self.key = key
        self.jwk: object = None
        self.parts: jws.Token
        self.document: Document
        self.refused: DocumentRefused | None = None

    @classmethod
    def self_keyed(cls, bundle: object, name: str) -> Opening:
        """Open a document that travels with its own key: ``{"token", "jwk"}``."""
        members = bundle if isinstance(bundle, dict) else {}
        opening = cls(members.get("token"), name)
        opening.jwk = members.get("jwk", {})
        return opening

    def take_apart(self) -> None:
        """Steps 1 and 2."""
        self.parts = jws.split(self.token, limit=documents.TABLE[self.name].limit)  # 1
        if self.parts.typ != documents.typ_of(self.name):
            raise DocumentRefused(f"not a {self.name} document")  # 2

    def find_key(self) -> None:
        """Step 3."""
        if self.key is None:
            jwk = Jwk.read(self.jwk)
            self.jwk, self.kid, self.key = jwk, jwk.thumbprint(), jws.load_key(jwk)
        if self.parts.kid != self.kid:
            raise DocumentRefused(f"{self.name}: signed by another key than expected")  # 3

    def check_signature(self) -> None:
        """Step 4."""
        assert self.key is not None, "find_key comes first"  # noqa: S101 - the order of the steps is fixed below
        jws.check_signature(self.parts, self.key)  # 4

    def read(self) -> None:
        """Step 5, and what a document says of itself."""
        parts, name = self.parts, self.name
        document = documents.read(name, parts.kid, parts.payload, str(self.token))  # 5
        claims = document.claims
        if name in _OWN_SUBJECT and claims["sub"] != claims["iss"]:
            raise DocumentRefused(f"{name}: sub is not its signer")
        if name in _FOR_PUBLISHER and claims["aud"] != claims["pub"]:
            raise DocumentRefused(f"{name}: aud is not the publisher")
        if "exp" in claims and _has_exp(name, claims) and claims["exp"] < document.iat:
            raise DocumentRefused(f"{name}: exp lies before iat")
        self.document = document

    STEPS = (take_apart, find_key, check_signature, read)

    def finish(self) -> Document:
        """Take this one through all steps.

        Raises:
            DocumentRefused: naming the failed check.
        """
        for step in self.STEPS:
            step(self)
        return self.document


def open_all(openings: Sequence[Opening]) -> None:
    """Take many through each step together; one that fails keeps its error in `refused` and stops there.

    Step by step over all, and not one after the other: the code of a step then stays in the processor's cache
    (measured on 64 requests with their proofs: 241 us each, one after the other 290).
    """
    for step in Opening.STEPS:
        for opening in openings:
            if opening.refused is None:
                try:
                    step(opening)
                except DocumentRefused as error:
                    opening.refused = error


def open_self_keyed(bundle: object, name: str) -> SelfKeyed:
    """Verify a document that travels with its own key (root 1, request, check-in, usage): steps 1 to 5.

    Raises:
        DocumentRefused: naming the failed check.
    """
    opening = Opening.self_keyed(bundle, name)
    document = opening.finish()
    assert isinstance(opening.jwk, Jwk)  # noqa: S101 - find_key has read it
    assert opening.key is not None  # noqa: S101 - and loaded it
    return SelfKeyed(document, opening.jwk, opening.key)


def open_signed(token: object, name: str, kid: str, key: EllipticCurvePublicKey) -> Document:
    """Verify a document that must be signed by `key`, whose thumbprint is `kid`: steps 1 to 5.

    Raises:
        DocumentRefused: naming the failed check.
    """
    return Opening(token, name, kid=kid, key=key).finish()


def _has_exp(name: str, claims: Mapping[str, Any]) -> bool:
    return any(claim == "exp" for claim, _ in documents.TABLE[name].checks(claims))


def check_publisher(document: Document, pub: str, *, lab: bool) -> None:
    """Step 6: the document is of publisher `pub`, and of a laboratory or not as the publisher is."""
    if document["pub"] != pub:
        raise DocumentRefused(f"{document.name}: of another publisher")
    if document["lab"] is not lab:
        raise DocumentRefused(f"{document.name}: a laboratory's document and another are mixed")


def open_roots(first: object, pin: str, later: Sequence[object] = ()) -> Roots:
    """Verify root document 1 against the pinned publisher id, and later ones (2 up, without a gap): step 7.

    Raises:
        DocumentRefused: naming the failed check.
    """
    opened = open_self_keyed(first, "root")
    claims = opened.document.claims
    if opened.document.kid != pin or claims["pub"] != pin:
        raise DocumentRefused("root: not the pinned publisher's")
    if claims["ver"] != 1 or claims["sub"] != pin or Jwk.read(claims["cnf"]["jwk"]) != opened.jwk:
        raise DocumentRefused("root: document 1 introduces its own signer")
    as_it_travels = {"token": opened.document.token, "jwk": opened.jwk.members()}
    return with_later_roots(Roots(as_it_travels, (opened.document,), (opened.key,)), later)


def with_later_roots(roots: Roots, later: Sequence[object]) -> Roots:
    """The roots, and what `later` (root documents 2 up, without a gap) adds to them: step 7.

    Raises:
        DocumentRefused: also if a known version comes with another key, which the caller reports.
    """
    if len(later) > MAX_ROOTS:
        raise DocumentRefused(f"more than {MAX_ROOTS} root documents")
    for index, token in enumerate(later, start=1):
        if index < len(roots.documents) and token == roots.documents[index].token:
            continue
        document, key = _open_later_root(token, roots, index)
        if index < len(roots.documents):
            if document["sub"] != roots.documents[index]["sub"]:
                raise DocumentRefused(f"root: another key for known version {index + 1}")
            continue
        if document["sub"] in {known["sub"] for known in roots.documents}:
            raise DocumentRefused("root: a key stands twice")
        roots = Roots(roots.first, (*roots.documents, document), (*roots.keys, key))
    return roots


def _open_later_root(token: object, roots: Roots, index: int) -> tuple[Document, EllipticCurvePublicKey]:
    before = roots.documents[index - 1]
    document = open_signed(token, "root", before["sub"], roots.keys[index - 1])
    check_publisher(document, roots.pub, lab=roots.lab)  # 6
    if document["ver"] != index + 1:
        raise DocumentRefused("root: versions rise by exactly 1")
    return document, _introduced_key(document)


def _introduced_key(document: Document) -> EllipticCurvePublicKey:
    jwk = Jwk.read(document["cnf"]["jwk"])
    if jwk.thumbprint() != document["sub"]:
        raise DocumentRefused(f"{document.name}: sub is not the key it introduces")
    return jws.load_key(jwk)


def verify(bundle: object, name: str, roots: Roots, chains: Chains | None = None) -> Granted:
    """Verify a granted document's bundle under known `roots`: all steps.

    The answer may be revoked (step 10): `take_up` and `still_stands` say what follows. Who verifies many documents passes
    `chains`, a dictionary of his own, empty at first: of a chain that stands under several, step 8 is then done once.

    Raises:
        DocumentRefused: naming the failed check.
    """
    token, chain, later = _parts(bundle)
    roots = with_later_roots(roots, later)  # 7
    delegations, key, root_at = _chain(chain, name, roots, {} if chains is None else chains)  # 8
    signer, introduced = delegations[-1], list(delegations)
    if name == "delegation":
        document, _ = _issuer_signed(token, signer, key, roots)
        introduced.append(document)  # its key must be new and unrevoked as well
    else:
        document = open_signed(token, name, signer["sub"], key)
        _check_granted(document, signer, roots)  # 9
    _no_key_twice(introduced, roots)
    return Granted(document, delegations, roots, _revocation(introduced, roots, root_at))  # 10


def _parts(bundle: object) -> tuple[object, list[object], list[object]]:
    if not isinstance(bundle, dict):
        raise DocumentRefused("not a bundle")
    chain, later = bundle.get("chain"), bundle.get("roots")
    if not isinstance(chain, list) or not isinstance(later, list) or len(chain) > MAX_CHAIN:
        raise DocumentRefused(f"a bundle has token, chain (at most {MAX_CHAIN}) and roots")
    return bundle.get("token"), chain, later


def _chain(chain: list[object], name: str, roots: Roots, chains: Chains) -> Chain:
    """Step 8: the delegations, the last one's key, and which root document's key signed the first.

    It depends on nothing but the wanted roles, the texts and the root documents, so the same of them have the same
    answer, which is kept in `chains`. A refusal is not.
    """
    wanted = _CHAIN_OF[_SIGNER_OF[name]]
    if len(chain) != len(wanted):
        raise DocumentRefused(f"{name}: its chain has {len(wanted)} delegations")
    same = (wanted, *chain, *(root.token for root in roots.documents))
    if all(isinstance(text, str) for text in chain) and same in chains:
        return chains[same]
    first, key, root_at = _root_signed(chain[0], wanted[0], roots)
    delegations = [first]
    for text in chain[1:]:
        child, key = _issuer_signed(text, delegations[-1], key, roots)
        delegations.append(child)
    chains[same] = (*delegations,), key, root_at
    return chains[same]


def _root_signed(text: object, rol: str, roots: Roots) -> tuple[Document, EllipticCurvePublicKey, int]:
    """Step 8 for the first delegation; also says which root document's key signed it."""
    kid = jws.split(text, limit=jws.MAX_BYTES_LARGE).kid
    places = [at for at, root in enumerate(roots.documents) if root["sub"] == kid]
    if not places:
        raise DocumentRefused("delegation: signed by no known root key")
    document = open_signed(text, "delegation", kid, roots.keys[places[0]])
    check_publisher(document, roots.pub, lab=roots.lab)  # 6
    if document["rol"] != rol:
        raise DocumentRefused(f"delegation: not the role {rol}")
    if rol == "status" and (document["prd"] or document["lmax"]):
        raise DocumentRefused("delegation: a status key has no products and no leases")
    return document, _introduced_key(document), places[0]


def _issuer_signed(
    text: object, parent: Document, key: EllipticCurvePublicKey, roots: Roots
) -> tuple[Document, EllipticCurvePublicKey]:
    """Step 8 for a host's delegation: an issuer signs it, and it only narrows."""
    document = open_signed(text, "delegation", parent["sub"], key)
    check_publisher(document, roots.pub, lab=roots.lab)  # 6
    if parent["rol"] != "issuer" or document["rol"] != "kms-host":
        raise DocumentRefused("delegation: root, then issuer, then kms-host, and nothing else")
    if document["prd"] == EVERY_PRODUCT or not _within(document["prd"], parent):
        raise DocumentRefused("delegation: products beyond those of its signer")
    if document["lmax"] > parent["lmax"]:
        raise DocumentRefused("delegation: longer leases than its signer may give")
    _check_window(document, parent)
    if document["exp"] > document.iat + parent["dmax"]:
        raise DocumentRefused("delegation: longer than its signer may give")
    return document, _introduced_key(document)


def _check_granted(document: Document, signer: Document, roots: Roots) -> None:
    """Step 9."""
    claims = document.claims
    check_publisher(document, roots.pub, lab=roots.lab)  # 6
    _check_window(document, signer)
    if not _within(_products_of(document), signer):
        raise DocumentRefused(f"{document.name}: a product beyond those of its signer")
    if document.name == "status" and claims["sub"] != roots.pub:
        raise DocumentRefused("status: sub is not the publisher")
    if document.name == "product":
        policy.read(claims["pol"], claims["edition"])  # PROTOCOL section 10: out of bounds refuses it
    if document.name == "lease":
        if claims["exp"] > document.iat + signer["lmax"]:
            raise DocumentRefused("lease: longer than its host may give")
        if claims["cus"] != signer["cus"]:
            raise DocumentRefused("lease: of another customer than its host")


def _products_of(document: Document) -> list[str]:
    if document.name == "product":
        return [document["sub"]]
    if document.name == "status":
        return []
    products = document["prd"]
    return products if isinstance(products, list) else [products]


def _within(products: Iterable[str], signer: Document) -> bool:
    return signer["prd"] == EVERY_PRODUCT or set(products) <= set(signer["prd"])


def _check_window(document: Document, signer: Document) -> None:
    """PROTOCOL section 3: both ends count."""
    if not signer.iat - policy.CLOCK_TOLERANCE <= document.iat <= signer["exp"]:
        raise DocumentRefused(f"{document.name}: signed outside its signer's delegation")


def _no_key_twice(delegations: Sequence[Document], roots: Roots) -> None:
    keys = [document["sub"] for document in (*roots.documents, *delegations)]
    if len(set(keys)) != len(keys):
        raise DocumentRefused("a key stands twice in the chain")


def _revocation(delegations: Sequence[Document], roots: Roots, root_at: int) -> str:
    """Step 10. An unlisted delegation has no standing at all, so it counts as revoked with ``all``."""
    first = delegations[0]
    if any(first.jti not in later["keys"] for later in roots.documents[root_at + 1 :]):
        return "all"
    keys = [first.kid, *(document["sub"] for document in delegations)]
    return _worst({roots.revocation(kid) for kid in keys})


def _worst(modes: Iterable[str]) -> str:
    found = set(modes)
    return "all" if "all" in found else "new" if "new" in found else ""


def take_up(granted: Granted) -> Granted:
    """The document, if it may be stored and used from now on: nothing of its chain is revoked in any way.

    Raises:
        DocumentRefused: if it is.
    """
    if granted.revoked:
        raise DocumentRefused(f"{granted.document.name}: a key of its chain is revoked")
    return granted


def still_stands(granted: Granted) -> bool:
    """Whether a document that was stored earlier goes on standing: ``new`` takes nothing from it."""
    return granted.revoked != "all"
