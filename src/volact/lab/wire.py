"""A KMS host as machines meet it: its proof, and one kept connection to it (PROTOCOL section 6).

Before a machine says anything about itself the host has proved its delegation under the pinned root, and that this
connection's key is one that its document names (D4). Made-up machines besides call laboratories only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from volact.calls import HostCaller, problem_of
from volact.lab.machines import not_a_laboratory
from volact.protocol import jws, trust
from volact.protocol.documents import MAX_TEXT
from volact.protocol.problems import DocumentRefused, Refusal, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from volact.calls import Answer
    from volact.client.address import Address
    from volact.protocol.trust import Roots

HOST_PATH, LEASES_PATH = "/v1/host", "/v1/leases"


class ProvedHost(NamedTuple):
    """A host that has proved its delegation.

    Attributes:
        host_id: the thumbprint of its key; `aud` of check-ins.
        products: what it serves.
        roots: its publisher's root documents.
        nonce: what the next check-ins carry; good for five minutes.
        tls: digests of the connection keys that are its own.
    """

    host_id: str
    products: tuple[str, ...]
    roots: Roots
    nonce: str
    tls: tuple[str, ...]


def proved(bundle: dict[str, Any], pub: str) -> ProvedHost:
    """Check what ``GET /v1/host`` answered as a client must; the connection's key is the caller's to compare.

    Raises:
        Refused: with the host's own problem, or `not-a-laboratory`.
        Unreachable: `host-untrusted` if it proves nothing under the root `pub`.
    """
    said = problem_of(bundle)
    if said:
        raise Refused(said)
    try:
        roots = trust.open_roots(bundle.get("root"), pub)
        granted = trust.take_up(trust.verify(bundle, "host", roots))
    except DocumentRefused as error:
        raise _untrusted(f"{error.refusal.detail}.") from None
    if not roots.lab:
        raise Refused(not_a_laboratory("this host's publisher"))
    claims = granted.document.claims
    return ProvedHost(
        claims["sub"], tuple(claims["prd"]), granted.roots, _nonce(bundle), tuple(claims["tls"])
    )


def _nonce(bundle: dict[str, Any]) -> str:
    nonce = bundle.get("nonce")
    if not isinstance(nonce, str) or not 1 <= len(nonce) <= MAX_TEXT:
        raise _untrusted("It gives no nonce.")
    return nonce


def _untrusted(detail: str) -> Unreachable:
    return Unreachable(Refusal("host-untrusted", detail))


class HostConnection:
    """One kept connection to a host, opened at the first call and once more if it was closed meanwhile."""

    def __init__(self, address: Address, pub: str) -> None:
        """Call the host at `address`, which must prove itself under the root `pub`."""
        self._caller = HostCaller(address.name, address.port)
        self._pub = pub

    def __enter__(self) -> Self:
        """Use as a context: the connection is closed at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._caller.close()

    def prove(self) -> ProvedHost:
        """Fetch ``/v1/host`` and check it; from then on only the keys that it names are taken for the host's.

        Raises:
            Refused, Unreachable: as `proved` says, and `host-unreachable` if nobody answers.
        """
        answer = self._twice(lambda: self._caller.get(HOST_PATH))
        try:
            bundle = trust.read_bundle(answer.body)
        except DocumentRefused as error:
            raise _untrusted(f"{error.refusal.detail}.") from None
        found = proved(bundle, self._pub)
        self._caller.take_only(found.tls)
        return found

    def lease(self, checkin: bytes) -> dict[str, Any] | Refusal:
        """Send a check-in; answer the lease's bundle, unverified, or the host's refusal.

        Raises:
            Unreachable: if nobody answers, somebody else, or nonsense.
        """
        body = jws.read_json(checkin)
        bundle = self._twice(lambda: self._caller.post(LEASES_PATH, body)).bundle()
        return problem_of(bundle) or bundle

    def _twice(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except Unreachable as error:
            if error.refusal.code != "host-unreachable":
                raise
        return call()
