"""A machine of the laboratory: its own key, generated facts, and check-ins as the protocol has them (PROTOCOL 2, 6).

- One machine, one key, one CMID (K3); no two of its facts are another's, so no host takes two for clones (K14).
- Every ask has a request id of its own; a lost answer is asked for again under the same one (PROTOCOL section 6).
- A machine calls under a laboratory's publisher and no other: `lab` is true in all that it signs.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from volact.client import lifecycle
from volact.files import PRIVATE, write_durably
from volact.protocol import ids, jws, machine, policy, trust
from volact.protocol.problems import BrokenData, DocumentRefused, Refusal, Refused
from volact.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from volact.protocol.policy import Policy
    from volact.protocol.trust import Roots

VERSION = 1
_DOTS = 2
_VIRTUAL_EVERY = 3
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Product(NamedTuple):
    """A product as its machines know it.

    Attributes:
        name: its id.
        edition: ``client`` or ``server``.
        policy: its numbers.
        roots: its publisher's root documents.
    """

    name: str
    edition: str
    policy: Policy
    roots: Roots

    @property
    def pub(self) -> str:
        """The publisher's id."""
        return self.roots.pub


def read_product(data: bytes, pub: str) -> Product:
    """A product from the bytes of its signed file.

    Raises:
        DocumentRefused: if it is not signed under the root `pub`.
        Refused: `not-a-laboratory` if that is no laboratory's.
    """
    bundle = trust.read_bundle(data)
    roots = trust.open_roots(bundle.get("root"), pub)
    granted = trust.take_up(trust.verify(bundle, "product", roots))
    document = granted.document
    if not roots.lab:
        raise Refused(not_a_laboratory("the product's publisher"))
    return Product(
        document["sub"],
        document["edition"],
        policy.read(document["pol"], document["edition"]),
        granted.roots,
    )


def not_a_laboratory(whose: str) -> Refusal:
    """The refusal to bring made-up machines before a publisher's real hosts."""
    return Refusal("not-a-laboratory", f"Made-up machines call laboratories only; {whose} is none.")


def facts(number: int, seed: int) -> dict[str, str]:
    """The values of the parts that machine `number` of the fleet `seed` shows; every third has no board (virtual)."""
    serial = f"{seed:08x}{number:08x}"
    values = {
        "uuid": f"4c4c4544-{serial[:4]}-4{serial[4:7]}-8{serial[7:10]}-{serial[10:]:0>12}",
        "board": f"/LB{serial}/",
        "disk": f"S4LAB{serial}",
        "os": f"1ab{serial:0>29}",
        "net": f"02:{serial[6:8]}:{serial[8:10]}:{serial[10:12]}:{serial[12:14]}:{serial[14:16]}",
        "cpu": "GenuineIntel 6 158 10",
    }
    if is_virtual(number):
        del values["board"]
    return values


def is_virtual(number: int) -> bool:
    """Whether machine `number` runs on a hypervisor (they count alike, K1)."""
    return number % _VIRTUAL_EVERY == 0


class Lease(NamedTuple):
    """What a machine keeps of its last lease: its id, and from when until when it is good (seconds UTC)."""

    jti: str
    start: int
    end: int


class LabMachine:
    """A machine that checks in.

    Attributes:
        number: its place in the fleet.
        name: as the host's ledger shows it.
        product: what it is to be licensed for.
        signer: its key; `cmid` is that key's thumbprint.
        fp: its fingerprint for the product.
        lease: its last lease; None before the first.
    """

    __slots__ = ("fp", "lease", "name", "number", "product", "signer", "virtual")

    def __init__(self, number: int, seed: int, product: Product, signer: Signer) -> None:
        """Be machine `number` of the fleet `seed`, with the key `signer`."""
        self.number = number
        self.name = f"lab-{number:06}"
        self.product = product
        self.signer = signer
        self.virtual = is_virtual(number)
        self.fp = machine.fingerprint(product.pub, product.name, facts(number, seed))
        self.lease: Lease | None = None

    @property
    def cmid(self) -> str:
        """Its identity at hosts of this publisher."""
        return self.signer.kid

    def checkin(
        self,
        nonce: str,
        host_id: str,
        now: int,
        *,
        state: int | None = None,
        minutes: int | None = None,
        prev: str | None = None,
        req: str | None = None,
    ) -> Checkin:
        """Sign a check-in for the host `host_id`; `req` repeats an ask whose answer was lost.

        State, minutes and `prev` are, unless given, what follows from the machine's lease at `now`.
        """
        own_state, own_minutes = self.standing(now)
        req = req or _random_id()
        claims = {
            "pub": self.product.pub,
            "lab": True,
            "iat": now,
            "jti": _random_id(),
            "sub": self.cmid,
            "aud": host_id,
            "prd": self.product.name,
            "nonce": nonce,
            "req": req,
            "fp": self.fp,
            "prev": prev or (self.lease.jti if self.lease else None),
            "state": own_state if state is None else state,
            "minutes": own_minutes if minutes is None else minutes,
            "vm": self.virtual,
            "name": self.name,
        }
        return Checkin(self, req, jws.write_json(self.signer.bundle("checkin", claims)))

    def standing(self, now: int) -> tuple[int, int]:
        """The state that it reports and the minutes to that state's end, by its lease alone."""
        if self.lease is None:
            return lifecycle.INITIAL_GRACE, self.product.policy.initial_grace // policy.MINUTE
        if now < self.lease.end:
            return lifecycle.LICENSED, (self.lease.end - now) // policy.MINUTE
        left = self.lease.end + self.product.policy.tolerance_grace - now
        if left > 0:
            return lifecycle.OUT_OF_TOLERANCE, left // policy.MINUTE
        return lifecycle.NOTIFICATION, 0

    def take(self, claims: dict[str, Any]) -> None:
        """Keep the lease with these claims (its end: PROTOCOL section 3)."""
        start = claims["iat"]
        self.lease = Lease(claims["jti"], start, min(claims["exp"], start + self.product.policy.validity))


class Checkin(NamedTuple):
    """A signed check-in on its way: who asks, under which id, and the bytes to POST."""

    machine: LabMachine
    req: str
    body: bytes

    def is_answered_by(self, claims: dict[str, Any]) -> bool:
        """Whether a lease with these claims is the answer to this very ask (PROTOCOL section 2)."""
        wanted = {
            "sub": self.machine.cmid,
            "req": self.req,
            "prd": self.machine.product.name,
            "fp": self.machine.fp,
        }
        return all(claims.get(name) == value for name, value in wanted.items())


def claims_of(bundle: dict[str, Any]) -> dict[str, Any]:
    """The claims of a bundle's token, *unverified*: what a generator of load reads that has no time for more.

    Raises:
        DocumentRefused: if there is no token with a payload.
    """
    token = bundle.get("token")
    if not isinstance(token, str) or token.count(".") != _DOTS:
        raise DocumentRefused("no token")
    return jws.read_json(ids.unb64u(token.split(".")[1]))


def make(number: int, seed: int, product: Product) -> LabMachine:
    """A new machine with a new key."""
    return LabMachine(number, seed, product, Signer(ec.generate_private_key(ec.SECP256R1())))


def _random_id() -> str:
    return ids.b64u(secrets.token_bytes(16))


def new_seed() -> int:
    """What tells the facts of one fleet from those of another."""
    return secrets.randbits(32)


def save(path: Path, pub: str, seed: int, machines: Iterable[LabMachine]) -> None:
    """Write keys and last leases to a file that only its owner can read, JSON Lines, durably."""
    lines = [json.dumps({"v": VERSION, "pub": pub, "seed": seed})]
    for one in machines:
        row = {
            "number": one.number,
            "product": one.product.name,
            "key": one.signer.pem().decode("ascii"),
            "lease": one.lease,
        }
        lines.append(json.dumps(row, separators=(",", ":")))
    write_durably(path, ("\n".join(lines) + "\n").encode(), PRIVATE)


def load(path: Path, products: dict[str, Product]) -> tuple[int, list[LabMachine]]:
    """The seed and the machines of a file that `save` wrote.

    Raises:
        BrokenData: if others can read it, it is damaged, or another publisher's or product's.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only a kept fleet needs it

    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & _READABLE_BY_OTHERS:
            raise BrokenData(f"{path} can be read by others.", "key-file-exposed")
        lines = file.read().splitlines()
    machines = []
    try:
        head = json.loads(lines[0])
        if head["v"] != VERSION or head["pub"] not in {product.pub for product in products.values()}:
            raise BrokenData(f"{path} holds machines of another publisher, or of another version.")
        for line in lines[1:]:
            row = json.loads(line)
            key = serialization.load_pem_private_key(row["key"].encode("ascii"), password=None)
            if row["product"] not in products or not isinstance(key, ec.EllipticCurvePrivateKey):
                raise BrokenData(f"{path} holds machines of another product.")
            one = LabMachine(int(row["number"]), int(head["seed"]), products[row["product"]], Signer(key))
            one.lease = Lease(*row["lease"]) if row["lease"] else None
            machines.append(one)
        return int(head["seed"]), machines
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise BrokenData(f"{path} is no file of a fleet's machines, or damaged.") from None
