"""A small JWS writer and a publisher of the vectors; shares no code with volact, so that it can break things.

Keys come from their names, ids from their labels, signatures are RFC 6979: the same bytes every time.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = dict[str, Any]

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
HOUR, DAY = 3600, 86400
START = 1_800_000_000
"""When the issuer's delegation of the vectors begins."""
CAD, MILL, FOREIGN = "com.example.cad", "com.example.mill", "com.other.tool"
FP = {"uuid": "AAAAAAAAAAA", "board": "AAA", "cpu": "___"}
DROP = object()
"""As the value of a change: the claim is left out."""


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def sha(text: str | bytes) -> bytes:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).digest()


def ident(label: str) -> str:
    """22 characters."""
    return b64(sha("volact vector id " + label)[:16])


def thumbprint(x: str, y: str) -> str:
    """RFC 7638."""
    return b64(sha(f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'))


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Key:
    """A key pair made from a name."""

    made: dict[str, Key] = {}  # noqa: RUF012 - one list of all keys of a run, by kid

    def __init__(self, name: str) -> None:
        self.name = name
        scalar = int.from_bytes(sha("volact vector key " + name), "big") % (ORDER - 1) + 1
        self._private = ec.derive_private_key(scalar, ec.SECP256R1())
        numbers = self._private.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        self.jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        self.kid = thumbprint(x, y)
        Key.made[self.kid] = self

    def sign(self, data: bytes) -> bytes:
        der = self._private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        r, s = decode_dss_signature(der)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


VAMT = Key("vamt")


def token(
    typ: str,
    key: Key,
    payload: JSON | bytes,
    *,
    header: JSON | bytes | None = None,
    kid: str = "",
    signature: Callable[[bytes], bytes] = bytes,
) -> str:
    """A token, with any part replaced; `signature` turns the good signature into another."""
    if header is None:
        header = {"alg": "ES256", "kid": kid or key.kid, "typ": typ}
    parts = [part if isinstance(part, bytes) else compact(part) for part in (header, payload)]
    signed = ".".join(b64(part) for part in parts)
    return f"{signed}.{b64(signature(key.sign(signed.encode())))}"


class Publisher:
    """A publisher with all its keys, one host and one machine; each method writes one document.

    `change` replaces claims (`DROP` leaves one out); `how` goes to `token`, `by` is another signer.
    """

    def __init__(self, name: str = "cad", *, lab: bool = False) -> None:
        self.name, self.lab = name, lab
        self.roots = [Key(f"{name} root {number}") for number in range(1, 19)]
        self.issuer_key, self.issuer2_key = Key(f"{name} issuer"), Key(f"{name} issuer 2")
        self.status_key, self.host_key = Key(f"{name} status"), Key(f"{name} host")
        self.machine, self.product_key = Key(f"{name} machine"), Key(f"{name} product key")
        self.pub = self.roots[0].kid

    def doc(self, kind: str, by: Key, iat: int, claims: JSON, change: JSON | None = None, **how: Any) -> str:
        common = {"v": 1, "pub": self.pub, "lab": self.lab, "iss": by.kid, "iat": iat}
        common["jti"] = ident(f"{self.name} {kind} {by.name}")
        payload = {**common, **claims, **(change or {})}
        payload = {claim: value for claim, value in payload.items() if value is not DROP}
        return token(f"volact-{kind}+jwt", by, how.pop("payload", payload), **how)

    def root(self, number: int = 1, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        new = self.roots[number - 1]
        claims: JSON = {"sub": new.kid, "ver": number, "cnf": {"jwk": new.jwk}, "rvk": []}
        if number > 1:
            claims["keys"] = [jti_of(self.issuer()), jti_of(self.status_delegation())]
        signer = by or self.roots[max(number - 2, 0)]
        return self.doc(
            "root", signer, START - DAY, claims, {"jti": ident(f"root {number}")} | (change or {}), **how
        )

    def first(self) -> JSON:
        return {"token": self.root(), "jwk": self.roots[0].jwk}

    def issuer(
        self, change: JSON | None = None, by: Key | None = None, key: Key | None = None, **how: Any
    ) -> str:
        child = key or self.issuer_key
        claims: JSON = {
            "sub": child.kid,
            "exp": START + 365 * DAY,
            "cnf": {"jwk": child.jwk},
            "rol": "issuer",
        }
        claims |= {"prd": [CAD, MILL], "lmax": 180 * DAY, "dmax": 400 * DAY}
        return self.doc(
            "delegation",
            by or self.roots[0],
            START,
            claims,
            {"jti": ident(child.name)} | (change or {}),
            **how,
        )

    def status_delegation(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        child = self.status_key
        claims: JSON = {
            "sub": child.kid,
            "exp": START + 365 * DAY,
            "cnf": {"jwk": child.jwk},
            "rol": "status",
        }
        claims |= {"prd": [], "lmax": 0, "jti": ident(child.name)}
        return self.doc("delegation", by or self.roots[0], START, claims, change, **how)

    def host_delegation(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        child = self.host_key
        iat = START + 10 * DAY
        claims: JSON = {"sub": child.kid, "exp": iat + 90 * DAY, "cnf": {"jwk": child.jwk}, "rol": "kms-host"}
        claims |= {"prd": [CAD], "lmax": 180 * DAY, "cus": "Example Works", "min_ver": {CAD: 2}}
        claims |= {"act": ident("host activation"), "cmax": 50_000, "jti": ident(child.name)}
        return self.doc("delegation", by or self.issuer_key, iat, claims, change, **how)

    def product(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        claims: JSON = {"sub": CAD, "ver": 3, "name": "Example CAD – größer", "edition": "client"}
        claims |= {"pol": {"rearms": 2}, "url": "https://licensing.example.com", "tls": [b64(sha("tls"))]}
        return self.doc("product", by or self.issuer_key, START + DAY, claims, change, **how)

    def confirmation(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        claims: JSON = {"sub": self.machine.kid, "prd": CAD, "key": self.product_key.kid, "act": ident("act")}
        claims |= {"fp": FP, "req": jti_of(self.request())}
        return self.doc("confirmation", by or self.issuer_key, START + 20 * DAY, claims, change, **how)

    def give_back(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        """The machine's request to return its activation."""
        claims: JSON = {"op": "return", "ref": jti_of(self.confirmation()), "jti": ident("a return")}
        return self.request(claims | (change or {}), by, **how)

    def receipt(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        asked = jti_of(self.give_back())
        claims: JSON = {"sub": self.machine.kid, "op": "return", "prd": CAD, "key": self.product_key.kid}
        claims |= {"act": ident("act"), "ref": asked, "req": asked}
        return self.doc("receipt", by or self.issuer_key, START + 21 * DAY, claims, change, **how)

    def statement(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        claims: JSON = {
            "sub": self.product_key.kid,
            "prd": CAD,
            "bought": 100,
            "activated": 3,
            "remaining": 97,
        }
        claims |= {"req": jti_of(self.remaining_proof())}
        return self.doc("statement", by or self.issuer_key, START + 20 * DAY, claims, change, **how)

    def status(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        body = status_body()
        claims: JSON = {
            "sub": self.pub,
            "ver": 7,
            "nxt": START + 37 * DAY,
            "dig": b64(sha(body)),
            "len": len(body),
        }
        return self.doc("status", by or self.status_key, START + 30 * DAY, claims, change, **how)

    def host(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        signer = by or self.host_key
        claims: JSON = {"sub": signer.kid, "ver": 1, "tls": [b64(sha("host tls"))], "prd": [CAD]}
        return self.doc("host", signer, START + 11 * DAY, claims, change, **how)

    def lease(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        iat = START + 20 * DAY
        claims: JSON = {"sub": self.machine.kid, "exp": iat + 180 * DAY, "prd": CAD, "cus": "Example Works"}
        claims |= {"req": ident("checkin req"), "fp": FP, "ren": 7 * DAY, "rty": 2 * HOUR, "cnt": 27}
        return self.doc("lease", by or self.host_key, iat, claims | {"sver": [START, 7]}, change, **how)

    def request(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        signer = by or self.machine
        claims: JSON = {"sub": signer.kid, "aud": self.pub, "op": "activate", "prd": CAD}
        claims |= {"key": self.product_key.kid, "fp": FP}
        return self.doc("request", signer, START + 19 * DAY, claims, change, **how)

    def proof(
        self, of: str | None = None, change: JSON | None = None, by: Key | None = None, **how: Any
    ) -> str:
        signing_input = (of or self.request()).rpartition(".")[0]
        claims: JSON = {"sub": self.machine.kid, "aud": self.pub, "op": "activate", "prd": CAD}
        claims |= {"dig": b64(sha(signing_input))}
        return self.doc("key-proof", by or self.product_key, START + 19 * DAY, claims, change, **how)

    def remaining_proof(self, change: JSON | None = None, **how: Any) -> str:
        iat = START + 19 * DAY
        claims: JSON = {
            "aud": self.pub,
            "exp": iat + 90 * DAY,
            "op": "remaining",
            "prd": CAD,
            "jti": ident("ask"),
        }
        return self.doc("key-proof", self.product_key, iat, claims, change, **how)

    def checkin(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        signer = by or self.machine
        claims: JSON = {"sub": signer.kid, "aud": self.host_key.kid, "prd": CAD, "nonce": "n" * 40}
        claims |= {
            "req": ident("checkin req"),
            "fp": FP,
            "prev": None,
            "state": 2,
            "minutes": 1440,
            "vm": True,
        }
        return self.doc("checkin", signer, START + 20 * DAY, claims | {"name": "pc-1"}, change, **how)

    def usage(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        signer = by or self.host_key
        claims: JSON = {"sub": signer.kid, "aud": self.pub, "ref": ident(self.host_key.name), "from": START}
        claims |= {"to": START + 90 * DAY, "peaks": {CAD: 31}}
        return self.doc("usage", signer, START + 90 * DAY, claims, change, **how)

    def cil(self, change: JSON | None = None, by: Key | None = None, **how: Any) -> str:
        claims: JSON = {
            "sub": ident("list"),
            "seq": 3,
            "mode": "proxy",
            "rows": 2,
            "dig": b64(sha("two rows")),
        }
        claims |= {"len": 3000}
        return self.doc("cil", by or VAMT, START + 30 * DAY, claims, change, **how)

    def chain(self, kind: str) -> list[str]:
        """The delegations above a document of `kind`."""
        if kind == "status":
            return [self.status_delegation()]
        return [self.issuer(), self.host_delegation()] if kind in ("host", "lease") else [self.issuer()]

    def write(self, kind: str, change: JSON | None = None, **how: Any) -> str:
        """A document of `kind`."""
        if kind == "delegation":
            return self.host_delegation(change, **how)
        if kind == "root":
            return self.root(1, change, **how)
        method = getattr(self, "proof" if kind == "key-proof" else kind)
        return str(method(change=change, **how))

    def bundle(self, kind: str, change: JSON | None = None, **how: Any) -> JSON:
        """A granted document's bundle."""
        return {"token": self.write(kind, change, **how), "chain": self.chain(kind), "roots": []}


def jti_of(text: str) -> str:
    """The jti of a token."""
    return str(claims_of(text)["jti"])


def claims_of(text: str) -> JSON:
    payload = text.split(".")[1]
    value: JSON = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return value


def status_body() -> bytes:
    lines = [
        f"act {ident('act')} returned {START + DAY}\n",
        f"host {Key('cad host').kid} new {START + 2 * DAY}\n",
        f"key {Key('cad product key').kid} all {START + 3 * DAY}\n",
        f"machine {Key('cad machine').kid} all {START + 4 * DAY}\n",
    ]
    return "".join(sorted(lines)).encode()
