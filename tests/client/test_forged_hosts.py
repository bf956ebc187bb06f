"""T1: a host without a delegation, built of everything that a client's folder holds: 336 of them, and no lease of theirs.

Half of them introduce themselves by what they forged, and are told nothing. The other half have got hold of a good
host's TLS key, so that its own introduction is theirs, and forge the lease: they get a check-in for nothing.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from client.kms_server import claims_of
from client.machine import Machine, refused
from client.publisher import EPOCH, PRODUCT, Publisher
from volact import signing
from volact.calls import Answer
from volact.protocol import documents, jws
from volact.protocol.policy import DAY
from volact.protocol.problems import DocumentRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from volact.signing import Signer


class Built(NamedTuple):
    """How a forged bundle is made.

    Attributes:
        signer: whose key signs: the forger's own, or the one in the client's folder.
        name: whose name stands in it as the signer's.
        delegation: what is shown as the host's delegation.
        issuer: whose delegation stands before it.
        root: whose root document comes with it.
    """

    signer: str
    name: str
    delegation: str
    issuer: str
    root: str


NAMES = ("own", "host", "issuer", "root")
DELEGATIONS = (
    "the host's",
    "self-made",
    "self-made in the issuer's name",
    "the host's for another key",
    "a lease",
    "a product",
    "none",
)
VARIANTS = [
    *itertools.starmap(Built, itertools.product(("own",), NAMES, DELEGATIONS, ("publisher", "own"), ("publisher", "own"))),
    *itertools.starmap(Built, itertools.product(("client",), NAMES, DELEGATIONS, ("publisher", "own"), ("publisher",))),
]  # fmt: skip
SHARES = [VARIANTS[at::8] for at in range(8)]


class Forger:
    """Somebody with a client's whole folder and keys of its own."""

    def __init__(self, machine: Machine) -> None:
        lease, product = (
            json.loads(machine.file(name).read_bytes()) for name in ("lease.json", "product.json")
        )
        self.lease, self.product = lease["token"], product["token"]
        self.issuer, self.delegation = lease["chain"]
        self.root_1 = product["root"]
        self.client = signing.load(machine.file("identity.pem"))
        self.own = signing.generate()
        self.names = {
            "host": claims_of(self.delegation)["sub"],
            "issuer": claims_of(self.issuer)["sub"],
            "root": machine.publisher.pub,
        }
        self.mine = Publisher()
        self.pub = machine.publisher.pub

    def sign(self, name: str, claims: dict[str, Any], signer: Signer, kid: str) -> str:
        """A document in another's name, signed by a key that is not that one's."""
        payload = documents.write(name, {**claims, "iss": kid})
        return jws.sign(documents.typ_of(name), kid, payload, load_pem_private_key(signer.pem(), None))  # type: ignore[arg-type]

    def bundle(self, name: str, claims: dict[str, Any], how: Built) -> dict[str, Any]:
        """The document with all that should prove it."""
        signer = self.client if how.signer == "client" else self.own
        kid = self.names.get(how.name, signer.kid)
        issuer = self.issuer if how.issuer == "publisher" else self._issuer_of_mine()
        delegation = self._delegation(how.delegation, signer)
        return {
            "root": self.root_1 if how.root == "publisher" else self.mine.root_1,
            "token": self.sign(name, claims, signer, kid),
            "chain": [issuer, *([delegation] if delegation else [])],
            "roots": [],
        }

    def _issuer_of_mine(self) -> str:
        claims = {**claims_of(self.mine.issuer_delegation), "pub": self.pub}
        return self.mine.root.sign("delegation", claims)

    def _delegation(self, kind: str, signer: Signer) -> str:
        claims = {**claims_of(self.delegation), "sub": signer.kid, "cnf": {"jwk": signer.jwk.members()}}
        head, _, signature = self.delegation.split(".")
        if kind == "self-made":
            return self.mine.issuer.sign("delegation", claims)
        if kind == "self-made in the issuer's name":
            return self.sign("delegation", claims, self.mine.issuer, self.names["issuer"])
        if kind == "the host's for another key":
            made = self.sign("delegation", claims, self.own, self.names["issuer"])
            return f"{head}.{made.split('.')[1]}.{signature}"
        shown: dict[str, str] = {
            "the host's": self.delegation,
            "a lease": self.lease,
            "a product": self.product,
            "none": "",
        }
        return shown[kind]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A client with a lease that was good once: its folder is what the forger has."""
    machine = Machine(tmp_path, Publisher())
    machine.leased()
    return machine


@pytest.fixture
def forger(machine: Machine) -> Iterator[Forger]:
    yield Forger(machine)
    assert machine.client.activate().standing.licensed, "the good host is taken at once afterwards"


def test_there_are_300_of_them() -> None:
    assert len({*VARIANTS}) == len(VARIANTS) == 168
    assert sum(map(len, SHARES)) == len(VARIANTS)
    assert 2 * len(VARIANTS) >= 300


@pytest.mark.parametrize("share", range(8))
def test_forged_hosts_are_told_nothing(machine: Machine, forger: Forger, share: int) -> None:
    kept, standing = machine.file("lease.json").read_bytes(), machine.standing()
    calls = len(machine.kms.checkins)
    for how in SHARES[share]:
        document = {**claims_of(machine.kms.document), "tls": ["F" * 43]}
        machine.kms.tls_key = "F" * 43
        forged = {**forger.bundle("host", document, how), "nonce": "n" * 43}
        machine.kms.proofs = [forged]
        refused("host-untrusted", machine.client.activate)
        assert machine.kms.proofs == [], "it was asked who it is"
        assert len(machine.kms.checkins) == calls, how
        assert machine.file("lease.json").read_bytes() == kept
    assert machine.standing() == standing
    machine.kms.tls_key = "T" * 43


@pytest.mark.parametrize("share", range(8))
def test_forged_leases_are_no_leases(machine: Machine, forger: Forger, share: int) -> None:
    kept, standing = machine.file("lease.json").read_bytes(), machine.standing()
    for how in SHARES[share]:
        answers: list[dict[str, Any]] = []

        def forge(asked: Any, how: Built = how, answers: list[dict[str, Any]] = answers) -> Answer:
            claims = {**claims_of(machine.kms.lease(asked)["token"]), "exp": EPOCH + 3000 * DAY}
            answers.append(forger.bundle("lease", claims, how))
            return Answer(200, {}, jws.write_json(answers[0]))

        machine.kms.answers = [forge]
        with pytest.raises(DocumentRefused):
            machine.client.activate()
        assert len(answers) == 1, how
        assert machine.file("lease.json").read_bytes() == kept
    assert machine.standing() == standing


def test_what_they_are_made_of_is_good_in_the_good_host_s_hands(machine: Machine, forger: Forger) -> None:
    """The same bundles with the key that the delegation is for: what is refused above is refused for its key alone."""
    good = Built("own", "own", "the host's", "publisher", "publisher")
    forger.own = machine.kms.key
    document = claims_of(machine.kms.document)
    machine.kms.proofs = [{**forger.bundle("host", document, good), "nonce": machine.kms.nonce}]
    machine.kms.answers = [
        lambda asked: forger.bundle("lease", claims_of(machine.kms.lease(asked)["token"]), good)
    ]
    machine.clock.run(DAY)
    before = machine.file("lease.json").read_bytes()
    assert machine.client.activate().standing.licensed
    assert machine.file("lease.json").read_bytes() != before
    assert claims_of(json.loads(machine.file("lease.json").read_bytes())["token"])["prd"] == PRODUCT
