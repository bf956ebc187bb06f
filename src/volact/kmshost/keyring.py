"""The host's signing key with the delegations under which it signs (PROTOCOL sections 1 and 3).

A bundle carries the delegation that was in force when its lease was signed, so every one that was ever held is kept.
A delegation that the publisher's later root documents take back serves no more.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import policy, trust
from volact.protocol.problems import BrokenData, DocumentRefused, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volact.kmshost import store
    from volact.protocol.documents import Document
    from volact.protocol.policy import Policy
    from volact.protocol.trust import Granted, Roots
    from volact.signing import Signer


class Product(NamedTuple):
    """A product that the host may serve: its policy, whether it is a server's, and who counts together."""

    policy: Policy
    server: bool
    group: str


class Keyring:
    """What signs, and the documents that a signature travels with.

    Attributes:
        roots: the publisher's root documents.
        signer: the host's key.
        products: the products that the host has documents of, by id.
        hosts: the ids of the hosts of this count, this one first.
        held: every delegation that the host was ever given, the newest last; also those that were taken back.
    """

    def __init__(
        self,
        roots: Roots,
        signer: Signer,
        delegations: Sequence[store.Delegation],
        products: Sequence[store.Product],
        hosts: Sequence[str] = (),
    ) -> None:
        """Sign with `signer` under the stored `delegations`; everything is verified to the roots here.

        `hosts` are those that share the count (K12).

        Raises:
            BrokenData: if a stored document does not hold.
        """
        self.roots = roots
        self.signer = signer
        self.hosts = (signer.kid, *[host for host in hosts if host != signer.kid])
        try:
            granted = [trust.verify(row.bundle, "delegation", roots) for row in delegations]
            opened = [trust.verify(row.bundle, "product", roots) for row in products]
        except DocumentRefused as error:
            raise BrokenData(f"A stored document does not hold: {error.refusal.detail}.") from None
        self._all = {one.document.jti: one for one in granted}
        granted.sort(key=lambda one: (one.document.iat, one.document["exp"]))
        self.held = [one.document for one in granted]
        self._newest: Document | None = next(
            (one.document for one in reversed(granted) if not one.revoked), None
        )
        self.products = {one.document["sub"]: _product(one.document) for one in opened}
        signed = [*granted, *opened]
        self._newest_date = max(
            (one.iat for found in signed for one in (found.document, *found.chain)),
            default=0,
        )
        self._newest_date = max(self._newest_date, *(one.iat for one in roots.documents))
        self._tails: dict[str, str] = {}

    @property
    def pub(self) -> str:
        """The publisher's id."""
        return self.roots.pub

    @property
    def host(self) -> str:
        """The host's id."""
        return self.signer.kid

    @property
    def newest(self) -> Document | None:
        """The newest delegation that stands; None if the host is not activated."""
        return self._newest

    def in_force(self, now: int) -> Document | Refusal:
        """The delegation under which the host signs now (PROTOCOL section 8).

        `host-not-activated` if there is none; `host-clock-wrong` if the clock is more than an hour before the newest
        date that the publisher signed for this host, or past the delegation's end.
        """
        if self._newest is None:
            return Refusal("host-not-activated")
        if self.is_behind(now):
            return Refusal("host-clock-wrong", "The clock is before what the publisher has signed.")
        if now > self._newest["exp"]:
            return Refusal("host-clock-wrong", "The delegation is past its end.")
        return self._newest

    def is_behind(self, now: int) -> bool:
        """Whether the clock is more than an hour before the newest date that the publisher signed for this host."""
        return now < self._newest_date - policy.CLOCK_TOLERANCE

    def common(self) -> dict[str, object]:
        """The claims that every document of this publisher has."""
        return {"pub": self.pub, "lab": self.roots.lab}

    def introduction(
        self, tls: Sequence[str], delegation: Document, now: int, new_id: Callable[[], str]
    ) -> dict[str, object]:
        """What `GET /v1/host` answers, without the nonce: the chain and a fresh `host` document."""
        token = self.signer.sign(
            "host",
            {
                **self.common(),
                "iat": now,
                "jti": new_id(),
                "sub": self.host,
                "ver": now,
                "tls": list(tls),
                "prd": delegation["prd"],
            },
        )
        return {
            "root": self.roots.first,
            "roots": self.roots.later_tokens(),
            "chain": self._chain(delegation.jti),
            "token": token,
        }

    def bundle(self, payload: bytes, kid: str, delegation: str) -> bytes:
        """The bundle of a recorded lease as JSON, the same bytes each time.

        Raises:
            BrokenData: if it was another key that is to sign it.
        """
        if kid != self.signer.kid:
            raise BrokenData("A recorded lease is to be signed by a key that is not here.")
        tail = self._tails.get(delegation)
        if tail is None:
            rest = {"chain": self._chain(delegation), "roots": self.roots.later_tokens()}
            tail = self._tails[delegation] = "," + json.dumps(rest, separators=(",", ":"))[1:]
        return f'{{"token":"{self.signer.sign_payload("lease", payload)}"{tail}'.encode("ascii")

    def _chain(self, jti: str) -> list[str]:
        granted: Granted = self._all[jti]
        return [*(one.token for one in granted.chain), granted.document.token]


def _product(document: Document) -> Product:
    found = policy.read(document["pol"], document["edition"])
    return Product(found, document["edition"] == "server", found.count_group)
