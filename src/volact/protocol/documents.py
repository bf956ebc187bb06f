"""The signed documents and their claims: PROTOCOL section 2's table as data.

`write` makes a payload and `read` reads one; both go by the same table, so what is written can be read.
A claim that is not in a document's row is kept and ignored, unless `must` names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.protocol import ids, jws
from volact.protocol.ids import Jwk
from volact.protocol.problems import DocumentRefused
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSION = 1
FP_LENGTHS = {"uuid": 11, "board": 3, "disk": 3, "os": 11, "net": 3, "cpu": 3, "hv": 11}
"""Parts of a fingerprint in document order, with their length in characters."""

ROLES = ("issuer", "status", "kms-host")
REQUEST_OPS = ("activate", "return", "host", "extend")
PROOF_OPS = ("activate", "host", "remaining")
REVOCATIONS = ("all", "new")
MAX_TLS = 4
MAX_TEXT = 200
MAX_URL = 2000
STATE_NAMES = (
    "Unlicensed",
    "Licensed",
    "Initial grace",
    "Out-of-tolerance grace",
    "Non-genuine grace",
    "Notification",
    "Extended grace",
)
"""Of the states 0 to 6 (rule E); a machine of volact's is never in the last."""


def _text(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_TEXT


def _url(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_URL


def _integer(value: object) -> bool:
    return type(value) is int and 0 <= value <= jws.MAX_INTEGER


def _bool(value: object) -> bool:
    return isinstance(value, bool)


_thumbprint, _id = ids.is_thumbprint, ids.is_id


def _id_or_null(value: object) -> bool:
    return value is None or _id(value)


def _state(value: object) -> bool:
    return _integer(value) and value < len(STATE_NAMES)  # type: ignore[operator]  # _integer() says it is one


def _one_of(*names: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in names


def _array(item: Callable[[object], bool], *, most: int | None = None) -> Callable[[object], bool]:
    """An array of `item` without repeats."""

    def check(value: object) -> bool:
        return (
            isinstance(value, list)
            and (most is None or len(value) <= most)
            and all(item(one) for one in value)
            and len(set(value)) == len(value)
        )

    return check


_product_array = _array(ids.is_product_id)


def _products(value: object) -> bool:
    return value == ["*"] or _product_array(value)


def _object(value: object) -> bool:
    return isinstance(value, dict)


def _per_product(value: object) -> bool:
    return isinstance(value, dict) and all(
        ids.is_product_id(name) and _integer(n) for name, n in value.items()
    )


def _by_source(value: object) -> bool:
    return isinstance(value, dict) and all(_integer(value.get(name)) for name in ("private", "global"))


def _confirmation_key(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"jwk"}:
        return False
    Jwk.read(value["jwk"])
    return True


def _revocations(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and _thumbprint(one.get("kid"))
        and one.get("mode") in REVOCATIONS
        and _integer(one.get("since"))
        for one in value
    )


def _fingerprint(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_part, value, value.values()))


def _is_part(name: str, part: object) -> bool:
    return ids.has_form(part, FP_LENGTHS.get(name, -1))


_Check = tuple[str, "Callable[[object], bool]"]

COMMON: tuple[_Check, ...] = (
    ("v", lambda value: type(value) is int and value == VERSION),
    ("pub", ids.is_thumbprint),
    ("lab", _bool),
    ("iss", _thumbprint),
    ("iat", _integer),
    ("jti", _id),
)
_MUST: _Check = ("must", _array(lambda value: isinstance(value, str)))


class Row(NamedTuple):
    """A document's row of the table.

    Attributes:
        claims: names and types of what every such document has, in the order in which they are written.
        optional: names and types of what may be there; written last.
        when: all that is there for one value of ``op``, ``rol`` or ``ver``, and under "" for the other values.
        selector: the claim that chooses in `when`.
        limit: bytes of the longest token.
    """

    claims: tuple[_Check, ...]
    optional: tuple[_Check, ...] = ()
    when: Mapping[str, tuple[_Check, ...]] = {}
    selector: str = ""
    limit: int = jws.MAX_BYTES

    def checks(self, claims: Mapping[str, Any]) -> tuple[_Check, ...]:
        """The required claims of the document that has `claims`."""
        if not self.selector:
            return self.claims
        return self.when.get(str(claims.get(self.selector))) or self.when.get("") or self.claims


def _variants(
    selector: str,
    claims: tuple[_Check, ...],
    when: Mapping[str, tuple[_Check, ...]],
    limit: int = jws.MAX_BYTES,
) -> Row:
    """A row whose documents have `claims` and, by the value of `selector`, those of `when` besides."""
    return Row(claims, (), {value: claims + more for value, more in when.items()}, selector, limit)


_SUB: _Check = ("sub", _thumbprint)
_AUD: _Check = ("aud", _thumbprint)
_EXP: _Check = ("exp", _integer)
_PRD: _Check = ("prd", ids.is_product_id)
_KEY: _Check = ("key", _thumbprint)
_REQ: _Check = ("req", _id)
_FP: _Check = ("fp", _fingerprint)
_CNF: _Check = ("cnf", _confirmation_key)
_PROOF_OP: _Check = ("op", _one_of(*PROOF_OPS))

TABLE: Mapping[str, Row] = {
    "root": _variants(
        "ver",
        (_SUB, ("ver", _integer), _CNF, ("rvk", _revocations)),
        {"1": (), "": (("keys", _array(_id)),)},
        jws.MAX_BYTES_LARGE,
    ),
    "delegation": _variants(
        "rol",
        (_SUB, _EXP, _CNF, ("rol", _one_of(*ROLES)), ("prd", _products), ("lmax", _integer)),
        {
            "issuer": (("dmax", _integer),),
            "status": (),
            "kms-host": (("cus", _text), ("min_ver", _per_product), ("act", _id), ("cmax", _integer)),
        },
        jws.MAX_BYTES_LARGE,
    ),
    "product": Row(
        (
            ("sub", ids.is_product_id),
            ("ver", _integer),
            ("name", _text),
            ("edition", _one_of("client", "server")),
            ("pol", _object),
            ("url", _url),
            ("tls", _array(_thumbprint, most=MAX_TLS)),
        ),
        limit=jws.MAX_BYTES_LARGE,
    ),
    "request": _variants(
        "op",
        (_SUB, _AUD, ("op", _one_of(*REQUEST_OPS)), _PRD, _KEY, _FP),
        {"return": (("ref", _id),), "extend": (("ref", _id),)},
    )._replace(optional=(("file", _bool),)),
    "key-proof": _variants(
        "op",
        (),
        {
            "remaining": (_AUD, _EXP, _PROOF_OP, _PRD),
            "": (_SUB, _AUD, _PROOF_OP, _PRD, ("dig", _thumbprint)),
        },
    ),
    "confirmation": Row((_SUB, _PRD, _KEY, ("act", _id), _FP, _REQ)),
    "receipt": Row((_SUB, ("op", _one_of("return")), _PRD, _KEY, ("act", _id), ("ref", _id), _REQ)),
    "statement": Row(
        (_SUB, _PRD, ("bought", _integer), ("activated", _integer), ("remaining", _integer), _REQ)
    ),
    "host": Row(
        (_SUB, ("ver", _integer), ("tls", _array(_thumbprint, most=MAX_TLS)), ("prd", _product_array)),
        limit=jws.MAX_BYTES_LARGE,
    ),
    "checkin": Row(
        (
            _SUB,
            _AUD,
            _PRD,
            ("nonce", _text),
            _REQ,
            _FP,
            ("prev", _id_or_null),
            ("state", _state),
            ("minutes", _integer),
            ("vm", _bool),
        ),
        optional=(("name", _text),),
    ),
    "lease": Row(
        (
            _SUB,
            _EXP,
            _PRD,
            ("cus", _text),
            _REQ,
            _FP,
            ("ren", _integer),
            ("rty", _integer),
            ("cnt", _integer),
            (
                "sver",
                lambda value: (
                    isinstance(value, list)
                    and len(value) == len(("iat", "ver"))
                    and all(map(_integer, value))
                ),
            ),
        )
    ),
    "status": Row((_SUB, ("ver", _integer), ("nxt", _integer), ("dig", _thumbprint), ("len", _integer))),
    "usage": Row(
        (_SUB, _AUD, ("ref", _id), ("from", _integer), ("to", _integer), ("peaks", _per_product)),
        optional=(("sources", _by_source),),
    ),
    "cil": Row(
        (
            ("sub", _id),
            ("seq", _integer),
            ("mode", _one_of("full", "proxy")),
            ("rows", _integer),
            ("dig", _thumbprint),
            ("len", _integer),
        ),
        optional=(("ref", _id),),
    ),
}


def typ_of(name: str) -> str:
    """The header's typ of a document, e.g. ``volact-lease+jwt``."""
    return f"volact-{name}+jwt"


class Document:
    """A document that was read by its row. Whether it is *trusted* is `trust`'s to say.

    Never changed once it is read. No named tuple: it is indexed by claim.

    Attributes:
        name: its row, e.g. ``lease``.
        kid: thumbprint of the key that signed it.
        claims: all claims, unknown ones included.
        token: the compact form as received.
    """

    __slots__ = ("claims", "kid", "name", "token")

    def __init__(self, name: str, kid: str, claims: dict[str, Any], token: str) -> None:
        """Hold what `read` has checked."""
        self.name = name
        self.kid = kid
        self.claims = claims
        self.token = token

    def __repr__(self) -> str:
        """Name the document, not its content."""
        return f"Document({self.name} {self.jti})"

    def __getitem__(self, claim: str) -> Any:  # noqa: ANN401 - claims are JSON; the row has checked the type
        """The claim, which the document's row demands."""
        return self.claims[claim]

    @property
    def iat(self) -> int:
        """When it was signed, seconds UTC."""
        return int(self.claims["iat"])

    @property
    def jti(self) -> str:
        """What it is: 22 characters."""
        return str(self.claims["jti"])


def read(name: str, kid: str, payload: bytes, token: str) -> Document:
    """Read a payload by the row of `name`.

    Raises:
        DocumentRefused: on anything that PROTOCOL section 1 and the row forbid.
    """
    claims = jws.read_json(payload)
    row = TABLE[name]
    _check(row, claims, name)
    if claims["iss"] != kid:
        raise DocumentRefused("iss is not the key that signed")
    return Document(name, kid, claims, token)


def _check(row: Row, claims: dict[str, Any], name: str) -> None:
    required = row.checks(claims)
    for checks in (COMMON, required):
        for claim, check in checks:
            if claim not in claims or not check(claims[claim]):
                raise DocumentRefused(f"{name}: {claim} is missing or not what it must be")
    for claim, check in row.optional:
        if claim in claims and not check(claims[claim]):
            raise DocumentRefused(f"{name}: {claim} is not what it must be")
    if "must" in claims:
        _check_must(claims["must"], {claim for claim, _ in (*COMMON, *required, *row.optional)}, name)


def _check_must(must: object, known: set[str], name: str) -> None:
    if not _MUST[1](must):
        raise DocumentRefused(f"{name}: must is not what it must be")
    for claim in must:  # type: ignore[attr-defined]  # an array, just checked
        if claim not in known:
            raise DocumentRefused(f"{name}: must names {claim[:40]!r}, which is not known here")


def check_carried(request: Document, *, proof: object, usage: object) -> None:
    """Check what a request's bundle carries besides it, None for what it does not.

    `activate` and `host` come with a key proof, `extend` with a usage statement, `return` with neither.

    Raises:
        DocumentRefused: naming what is missing, or too much.
    """
    op = request["op"]
    proves = op in PROOF_OPS
    if proves is (proof is None):
        raise DocumentRefused(f"request: {op} comes {'with' if proves else 'without'} a key proof")
    if (op == "extend") is (usage is None):
        raise DocumentRefused("request: a usage statement comes with extend, and with nothing else")


def write(name: str, claims: dict[str, Any]) -> bytes:
    """The payload bytes of a document: common claims first, then the row's, in their order.

    Raises:
        DocumentRefused: if the claims are not those of the row; a writer that would write it is broken.
    """
    row = TABLE[name]
    claims = {"v": VERSION, **claims}
    _check(row, claims, name)
    order = [claim for claim, _ in (*COMMON, _MUST, *row.checks(claims), *row.optional)]
    ordered = {claim: claims[claim] for claim in order if claim in claims}
    ordered.update((claim, value) for claim, value in claims.items() if claim not in ordered)
    return jws.write_json(ordered)
