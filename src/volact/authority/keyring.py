"""The authority's signing keys with the delegations under which they sign (PROTOCOL sections 1 and 3).

A payload is recorded with the key and the delegation that sign it; the bundle is made from that record whenever
it is needed. File keys sign deterministically, so it is the same bundle each time. Root keys are not here: after
`init` their file may be kept elsewhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import jws
from volact.protocol.policy import CLOCK_TOLERANCE
from volact.protocol.problems import BrokenData, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volact.signing import Signer

ISSUER, STATUS = "issuer", "status"


class Publisher(NamedTuple):
    """Who the authority is of: its id for ever, its name and address for people, and whether it is a laboratory."""

    pub: str
    name: str
    url: str
    lab: bool


class Delegation(NamedTuple):
    """A delegation that the root signed for one of the authority's working keys."""

    jti: str
    sub: str
    rol: str
    iat: int
    exp: int
    token: str


class Roots(NamedTuple):
    """The publisher's root documents: number 1 as it travels, and the tokens of later ones."""

    first: dict[str, object]
    later: tuple[str, ...] = ()


class Recorded(NamedTuple):
    """A document as it was recorded before it was signed."""

    name: str
    payload: bytes
    kid: str
    delegation: str


class Keyring:
    """What signs, and the documents that a signature travels with.

    Attributes:
        publisher: whose keys these are.
        roots: its root documents.
        issuer: the key that signs confirmations, statements, products and host delegations.
        status: the key that signs status lists.
    """

    def __init__(
        self,
        publisher: Publisher,
        roots: Roots,
        delegations: Sequence[Delegation],
        issuer: Signer,
        status: Signer,
    ) -> None:
        """Sign with `issuer` and `status` under `delegations`."""
        self.publisher = publisher
        self.roots = roots
        self.issuer = issuer
        self.status = status
        self._delegations = {one.jti: one for one in delegations}
        self._signers = {ISSUER: issuer, STATUS: status}
        self._tails: dict[str, str] = {}

    def common(self) -> dict[str, object]:
        """The claims that every document of this publisher has."""
        return {"pub": self.publisher.pub, "lab": self.publisher.lab}

    def in_force(self, rol: str, now: int) -> Delegation | Refusal:
        """The newest delegation of a working key that is in force now."""
        kid = self._signers[rol].kid
        good = [
            one
            for one in self._delegations.values()
            if one.sub == kid and one.rol == rol and one.iat - CLOCK_TOLERANCE <= now <= one.exp
        ]
        if not good:
            return Refusal("authority-expired", f"No delegation of the {rol} key is in force.")
        return max(good, key=lambda one: one.iat)

    def delegation(self, jti: str) -> Delegation:
        """A delegation by its id."""
        return self._delegations[jti]

    def token(self, recorded: Recorded) -> str:
        """Sign a recorded document.

        Raises:
            BrokenData: if the key that is to sign it is not the one here.
        """
        signer = self._signers[self._delegations[recorded.delegation].rol]
        if signer.kid != recorded.kid:
            raise BrokenData("A recorded answer is to be signed by a key that is not here.")
        return signer.sign_payload(recorded.name, recorded.payload)

    def bundle(self, recorded: Recorded) -> bytes:
        """The bundle of a recorded document as JSON, the same bytes each time."""
        return f'{{"token":"{self.token(recorded)}"{self._tail(recorded.delegation)}'.encode("ascii")

    def product_file(self, recorded: Recorded) -> bytes:
        """A recorded product as it goes to machines and hosts: its bundle, and root document 1."""
        return jws.write_json({"root": self.roots.first})[:-1] + b"," + self.bundle(recorded)[1:]

    def _tail(self, delegation: str) -> str:
        tail = self._tails.get(delegation)
        if tail is None:
            rest = {"chain": [self._delegations[delegation].token], "roots": list(self.roots.later)}
            tail = "," + json.dumps(rest, separators=(",", ":"))[1:]
            self._tails[delegation] = tail
        return tail
