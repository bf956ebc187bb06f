"""A publisher and its machines for tests: real keys, real documents, a clock moved by hand, no sockets.

`Machine` asks as a client would, from the protocol alone; `Publisher` is one made in memory whose documents can be
granted here without an authority. Nothing here is a mock of volact's own classes.
"""

from __future__ import annotations

import itertools
import secrets
from functools import cache
from typing import TYPE_CHECKING, Any

from volact import signing
from volact.protocol import ids, jws, keys, machine, trust

if TYPE_CHECKING:
    from volact.protocol.keys import ProductKey
    from volact.signing import Signer

NOW = 1_790_000_000
DAY = 86400
PRODUCT = "com.example.cad"

_serials = itertools.count(1)


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: int = NOW) -> None:
        self.time = now
        self.uptime = 1000
        self.boots = 1

    def now(self) -> int:
        return self.time

    def running(self) -> int:
        return self.uptime

    def boot(self) -> str:
        return f"boot {self.boots}"

    def pass_(self, seconds: int) -> None:
        """Let time pass while the machine runs."""
        self.time += seconds
        self.uptime += seconds


def new_id() -> str:
    return ids.b64u(secrets.token_bytes(16))


@cache
def _facts(serial: int) -> dict[str, str]:
    return {
        "uuid": f"4c4c4544-0000-4000-8000-{serial:012x}",
        "board": f"/BRD{serial}/",
        "disk": f"DSK{serial}",
        "os": f"{serial:032x}",
        "net": f"02:00:{serial >> 24 & 255:02x}:{serial >> 16 & 255:02x}:{serial >> 8 & 255:02x}:{serial & 255:02x}",
        "cpu": "genuineintel 6 85 7",
    }


def facts(serial: int | None = None) -> dict[str, str]:
    """The values of one machine's parts; another serial, another machine."""
    return dict(_facts(next(_serials) if serial is None else serial))


class Machine:
    """A machine with its own key and hardware, which asks a publisher's authority."""

    def __init__(self, pub: str, *, parts: dict[str, str] | None = None, lab: bool = True) -> None:
        self.pub = pub
        self.lab = lab
        self.signer: Signer = signing.generate()
        self.parts = facts() if parts is None else dict(parts)

    @property
    def cmid(self) -> str:
        return self.signer.kid

    def rebuilt(self) -> Machine:
        """The same hardware after its disk image was set up anew: another key, another OS id."""
        return Machine(self.pub, parts={**self.parts, "os": secrets.token_hex(16)}, lab=self.lab)

    def fp(self, product: str = PRODUCT) -> dict[str, str]:
        return machine.fingerprint(self.pub, product, self.parts)

    def request(
        self, key: ProductKey, op: str = "activate", product: str = PRODUCT, now: int = NOW, **claims: Any
    ) -> dict[str, Any]:
        """A request bundle: token, jwk, and the key's proof where the operation has one."""
        holder = key_signer(key, self.pub)
        members = {
            "pub": self.pub,
            "lab": self.lab,
            "iat": now,
            "jti": new_id(),
            "sub": self.cmid,
            "aud": self.pub,
            "op": op,
            "prd": product,
            "key": holder.kid,
            "fp": self.fp(product),
            **claims,
        }
        bundle = self.signer.bundle("request", members)
        if op in ("activate", "host"):
            bundle["proof"] = prove(holder, str(bundle["token"]), members)
        return bundle

    def usage(self, ref: str, now: int = NOW) -> dict[str, Any]:
        """A host's usage statement."""
        members = {
            "pub": self.pub,
            "lab": self.lab,
            "iat": now,
            "jti": new_id(),
            "sub": self.cmid,
            "aud": self.pub,
        }
        return self.signer.bundle(
            "usage", {**members, "ref": ref, "from": now - DAY, "to": now, "peaks": {PRODUCT: 7}}
        )


@cache
def key_signer(key: ProductKey, pub: str) -> Signer:
    """What a product key signs with."""
    return signing.Signer(key.private_key(pub))


def prove(holder: Signer, token: str, request: dict[str, Any], **claims: Any) -> str:
    """The key proof of a request."""
    members = {
        "pub": request["pub"],
        "lab": request["lab"],
        "iat": request["iat"],
        "jti": new_id(),
        "aud": request["pub"],
        "op": request["op"],
        "prd": request["prd"],
        "sub": request["sub"],
        "dig": ids.digest(token.rpartition(".")[0].encode("ascii")),
        **claims,
    }
    return holder.sign("key-proof", members)


def remaining(
    key: ProductKey, pub: str, product: str = PRODUCT, *, lab: bool = True, now: int = NOW
) -> dict[str, Any]:
    """The bundle that asks for a key's remaining count."""
    holder = key_signer(key, pub)
    members = {
        "pub": pub,
        "lab": lab,
        "iat": now,
        "jti": new_id(),
        "aud": pub,
        "op": "remaining",
        "prd": product,
    }
    return {"proof": holder.sign("key-proof", {**members, "exp": now + 90 * DAY})}


def new_key(kind: str = "mak", number: int | None = None) -> ProductKey:
    """A product key that no authority has issued."""
    return keys.make(secrets.token_bytes(10), kind, secrets.randbelow(32**4) if number is None else number)


def verified(answer: dict[str, Any], name: str, root: dict[str, Any], pub: str) -> trust.Granted:
    """An answer, verified by the one verifier to the pinned root."""
    return trust.take_up(trust.verify(answer, name, trust.open_roots(root, pub)))


def claims_of(token: str) -> dict[str, Any]:
    """A token's payload, unverified."""
    return jws.read_json(ids.unb64u(token.split(".")[1]))
