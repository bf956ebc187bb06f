"""V2: what a machine says is reported; what a lease or confirmation proves to the pinned root is proved (T26)."""

from typing import Any

import pytest

from client.publisher import Publisher, random_id
from volact import signing
from volact.protocol import trust
from volact.signing import Signer
from volact.vamt.inventory import Product
from volact.vamt.proving import proof
from world import DAY, NOW, PRODUCT

LMAX = 3650 * DAY


class Granting:
    """A publisher, a KMS host of its, and a machine that shows what they signed."""

    def __init__(self) -> None:
        self.publisher = Publisher(iat=NOW)
        self.roots = trust.open_roots(self.publisher.root_1, self.publisher.pub)
        self.machine, self.host = signing.generate(), signing.generate()

    def claims(self, **more: Any) -> dict[str, Any]:
        fp = {"uuid": "A" * 11}
        return self.publisher.claims(
            **{"sub": self.machine.kid, "prd": PRODUCT, "fp": fp, "req": random_id(), **more}
        )

    def confirmation(self, signer: Signer | None = None, **more: Any) -> dict[str, Any]:
        claims = self.claims(key="K" * 43, act=random_id(), **more)
        return self.publisher.bundle((signer or self.publisher.issuer).sign("confirmation", claims))

    def lease(self, signer: Signer | None = None, **more: Any) -> dict[str, Any]:
        delegation = self.publisher.claims(
            sub=self.host.kid,
            exp=NOW + 400 * DAY,
            cnf={"jwk": self.host.jwk.members()},
            rol="kms-host",
            prd=[PRODUCT],
            lmax=LMAX,
            cus="Example Ltd",
            min_ver={},
            act=random_id(),
            cmax=1000,
        )
        terms = {
            "exp": NOW + 180 * DAY,
            "cus": "Example Ltd",
            "ren": 7 * DAY,
            "rty": 7200,
            "cnt": 25,
            "sver": [0, 0],
        }
        token = (signer or self.host).sign("lease", self.claims(**{**terms, **more}))
        bundle = self.publisher.bundle(token)
        return {**bundle, "chain": [*bundle["chain"], self.publisher.issuer.sign("delegation", delegation)]}

    def said(self, grant: dict[str, Any] | None, **more: Any) -> Product:
        said = Product(self.publisher.pub, PRODUCT, 1, self.machine.kid, "mak", grant=grant)
        return said._replace(**more)

    def document(self, **policy: Any) -> dict[str, Any]:
        return {"pol": policy, "edition": "client"}


@pytest.fixture
def granting() -> Granting:
    return Granting()


def test_a_confirmation_proves_for_ever(granting: Granting) -> None:
    said = granting.said(granting.confirmation())
    for now in (NOW - 400 * DAY, NOW, NOW + 4000 * DAY):
        assert proof(said, granting.roots, None, now) == "proved"
        assert proof(said, granting.roots, granting.document(), now) == "proved"


@pytest.mark.parametrize(
    ("document", "end"),
    [
        (None, NOW + 180 * DAY),
        ({}, NOW + 180 * DAY),
        ({"validity": 90 * DAY}, NOW + 90 * DAY),
        ({"validity": 300 * DAY}, NOW + 180 * DAY),
    ],
)
def test_a_lease_proves_until_its_end(granting: Granting, document: dict[str, int] | None, end: int) -> None:
    """PROTOCOL 3: min(exp, iat + the validity of the product's document); good while now < end."""
    said = granting.said(granting.lease(), channel="kms")
    known = None if document is None else granting.document(**document)
    assert proof(said, granting.roots, known, end - 1) == "proved"
    assert proof(said, granting.roots, known, end) == "reported"
    assert proof(said, granting.roots, known, end + 1) == "reported"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda at: at.said(None), id="shows nothing"),
        pytest.param(lambda at: at.said({}), id="an empty grant"),
        pytest.param(lambda at: at.said({"token": "x", "chain": [], "roots": []}), id="nonsense"),
        pytest.param(lambda at: at.said({"token": 1, "chain": {}, "roots": None}), id="other types"),
        pytest.param(lambda at: at.said(at.confirmation(sub=at.host.kid)), id="another machine's"),
        pytest.param(lambda at: at.said(at.confirmation(prd="com.example.other")), id="another product's"),
        pytest.param(lambda at: at.said(at.confirmation(at.machine)), id="signed by the machine"),
        pytest.param(lambda at: at.said(at.lease(at.machine)), id="a lease signed by the machine"),
        pytest.param(lambda at: at.said(at.confirmation(pub="Q" * 43)), id="another publisher in it"),
        pytest.param(lambda at: at.said(at.confirmation(lab=False)), id="not of the laboratory"),
        pytest.param(lambda at: at.said(at.confirmation(), cmid="C" * 43), id="says another CMID"),
        pytest.param(lambda at: at.said(at.confirmation(), state=0), id="says it is not licensed"),
        pytest.param(lambda at: at.said(at.confirmation(), state=3), id="says it is in a grace"),
        pytest.param(lambda at: at.said(Granting().confirmation()), id="of a publisher that is not pinned"),
        pytest.param(lambda at: at.said(at.publisher.product()), id="a signed product"),
    ],
)
def test_what_does_not_hold_is_only_reported(granting: Granting, make: Any) -> None:
    assert proof(make(granting), granting.roots, granting.document(), NOW) == "reported"


def test_a_publisher_that_is_not_known_proves_nothing(granting: Granting) -> None:
    assert proof(granting.said(granting.confirmation()), None, None, NOW) == "reported"


@pytest.mark.parametrize(("mode", "expected"), [("new", "proved"), ("all", "reported")])
def test_a_revoked_issuer(granting: Granting, mode: str, expected: str) -> None:
    """PROTOCOL 3: `new` leaves what was stored standing, `all` does not."""
    grant = granting.confirmation()
    granting.publisher.new_root(granting.publisher.issuer, mode)
    roots = trust.with_later_roots(granting.roots, granting.publisher.roots_later)
    assert proof(granting.said(grant), roots, None, NOW) == expected
