"""A publisher that a test holds in its hand: it signs whatever it is asked to, right or wrong.

Independent of `volact.authority`: what it issues follows PROTOCOL.md alone, so that client and authority cannot
be wrong together.
"""

import hashlib
import json
import os
from typing import Any

from volact import signing
from volact.protocol import ids, jws, keys, status, trust
from volact.protocol.documents import Document
from volact.protocol.policy import DAY
from volact.signing import Signer

EPOCH = 1_800_000_000
PRODUCT = "com.example.cad"


def random_id() -> str:
    return ids.b64u(os.urandom(16))


class Publisher:
    """Root, issuer and status keys, and everything that they sign.

    Attributes:
        iat: the time at which it signs.
    """

    def __init__(self, *, lab: bool = True, iat: int = EPOCH) -> None:
        self.lab, self.iat = lab, iat
        self.root, self.issuer, self.status_key = (signing.generate() for _ in range(3))
        self.pub = self.root.kid
        self.roots_later: list[str] = []
        self.root_key = self.root
        self.root_1 = self.root.bundle("root", self._root_claims(self.root, 1, []))
        self.issuer_delegation = self.delegate(self.issuer, "issuer", ["*"], dmax=400 * DAY, lmax=3650 * DAY)
        self.status_delegation = self.delegate(self.status_key, "status", [], lmax=0)
        self.version = 0

    def claims(self, **more: Any) -> dict[str, Any]:
        return {"pub": self.pub, "lab": self.lab, "iat": self.iat, "jti": random_id(), **more}

    def _root_claims(
        self, new: Signer, ver: int, revoked: list[dict[str, Any]], **more: Any
    ) -> dict[str, Any]:
        return self.claims(sub=new.kid, ver=ver, cnf={"jwk": new.jwk.members()}, rvk=revoked, **more)

    def delegate(self, key: Signer, rol: str, prd: list[str], **more: Any) -> str:
        claims = self.claims(
            sub=key.kid, exp=self.iat + 365 * DAY, cnf={"jwk": key.jwk.members()}, rol=rol, prd=prd, **more
        )
        return self.root_key.sign("delegation", claims)

    def new_root(self, revoke: Signer, mode: str) -> None:
        """Root document 2 or later: revokes a key and lists the status key's delegation as staying good."""
        new = signing.generate()
        kept = [jti_of(self.status_delegation)] + ([jti_of(self.issuer_delegation)] if mode == "new" else [])
        revoked = [{"kid": revoke.kid, "mode": mode, "since": self.iat}]
        ver = len(self.roots_later) + 2
        self.roots_later.append(self.root_key.sign("root", self._root_claims(new, ver, revoked, keys=kept)))
        self.root_key = new

    def new_issuer(self) -> None:
        """Another issuer under the newest root."""
        self.issuer = signing.generate()
        self.issuer_delegation = self.delegate(self.issuer, "issuer", ["*"], dmax=400 * DAY, lmax=3650 * DAY)

    def bundle(self, token: str, delegation: str = "") -> dict[str, Any]:
        return {
            "token": token,
            "chain": [delegation or self.issuer_delegation],
            "roots": list(self.roots_later),
        }

    def product(
        self, product: str = PRODUCT, *, ver: int = 1, url: str = "", tls: tuple[str, ...] = (), **policy: Any
    ) -> dict[str, Any]:
        claims = self.claims(
            sub=product, ver=ver, name="Example CAD", edition="client", pol=policy, url=url, tls=list(tls)
        )
        return {**self.bundle(self.issuer.sign("product", claims)), "root": self.root_1}

    def product_file(self, product: str = PRODUCT, **more: Any) -> bytes:
        return jws.write_json(self.product(product, **more))

    def key(self, kind: str = "mak", number: int = 1) -> keys.ProductKey:
        return keys.make(os.urandom(10), kind, number)

    def confirmation(self, request: Document, *, act: str = "", **other: Any) -> dict[str, Any]:
        """The answer to a request; `other` claims make it a wrong one."""
        asked = request.claims
        claims = {
            "sub": asked["iss"],
            "prd": asked["prd"],
            "key": asked["key"],
            "fp": asked["fp"],
            "req": asked["jti"],
        }
        return self.bundle(
            self.issuer.sign("confirmation", self.claims(act=act or random_id(), **{**claims, **other}))
        )

    def receipt(self, request: Document, *, act: str = "", **other: Any) -> dict[str, Any]:
        """The answer to a return; `other` claims make it a wrong one."""
        asked = request.claims
        claims = {
            "sub": asked["iss"],
            "op": "return",
            "prd": asked["prd"],
            "key": asked["key"],
            "ref": asked["jti"],
            "req": asked["jti"],
        }
        return self.bundle(
            self.issuer.sign("receipt", self.claims(act=act or random_id(), **{**claims, **other}))
        )

    def status_list(self, *entries: tuple[str, str, str], version: int | None = None) -> bytes:
        """A status list: head, LF, body."""
        self.version = self.version + 1 if version is None else version
        body = b"".join(status.lines([status.Entry(*entry, self.iat) for entry in entries]))
        digest = ids.b64u(hashlib.sha256(body).digest())
        head = self.claims(sub=self.pub, ver=self.version, nxt=self.iat + 7 * DAY, dig=digest, len=len(body))
        token = self.status_key.sign("status", head)
        return jws.write_json(self.bundle(token, self.status_delegation)) + b"\n" + body


def jti_of(token: str) -> str:
    return str(json.loads(ids.unb64u(token.split(".")[1]))["jti"])


def request_of(bundle: dict[str, Any]) -> Document:
    return trust.open_self_keyed(bundle, "request").document
