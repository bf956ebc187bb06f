"""Steps 8 and 9: delegations, narrowing, windows (PROTOCOL sections 2 and 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectors.cases import CAD_PUBLISHER as P
from vectors.cases import (
    MALLORY,
    OFF_CURVE,
    OFF_CURVE_KID,
    broken_chain,
    case,
    pinned,
    refused,
)
from vectors.forge import (
    CAD,
    DAY,
    FOREIGN,
    HOUR,
    JSON,
    MILL,
    START,
)

if TYPE_CHECKING:
    pass

ISSUER_END = START + 365 * DAY
HOST_START, HOST_END = START + 10 * DAY, START + 100 * DAY


def chains() -> list[JSON]:
    """Step 8: who may delegate what to whom."""
    issuer: object = P.issuer()
    host: object = P.host_delegation()
    under = P.host_delegation({"rol": "issuer", "dmax": 1})
    status: object = P.status_delegation()
    c, le = "confirmation", "lease"
    by_status, by_host = P.confirmation(by=P.status_key), P.confirmation(by=P.host_key)
    rows: list[tuple[str, str, str, list[object], int, str, JSON]] = [
        ("chain-empty", "no delegation", c, [], 8, "has 1 delegations", {}),
        ("chain-too-long", "three delegations", le, [issuer, host, host], 1, "at most 2", {}),
        (
            "chain-host-for-confirmation",
            "a host's delegation below the issuer's: a host signs a confirmation",
            c,
            [issuer, host],
            8,
            "has 1 delegations",
            {"token": by_host},
        ),
        (
            "confirmation-by-host-key",
            "the host's key signs, the chain ends at the issuer",
            c,
            [issuer],
            3,
            "another key",
            {"token": by_host},
        ),
        (
            "confirmation-by-status-key",
            "a status key signs a confirmation",
            c,
            [status],
            8,
            "not the role issuer",
            {"token": by_status},
        ),
        (
            "status-by-issuer",
            "an issuer signs a status list",
            "status",
            [issuer],
            8,
            "not the role status",
            {"token": P.status(by=P.issuer_key)},
        ),
        (
            "lease-by-issuer",
            "an issuer signs a lease",
            le,
            [issuer],
            8,
            "has 2 delegations",
            {"token": P.lease(by=P.issuer_key)},
        ),
        (
            "lease-without-issuer",
            "the host's delegation stands first",
            le,
            [host, host],
            8,
            "no known root key",
            {},
        ),
        ("chain-reversed", "host before issuer", le, [host, issuer], 8, "no known root key", {}),
        (
            "issuer-signs-issuer",
            "an issuer makes an issuer",
            "delegation",
            [issuer],
            8,
            "issuer, then kms-host",
            {"token": under},
        ),
        (
            "issuer-signs-status",
            "an issuer makes a status key",
            "delegation",
            [issuer],
            8,
            "issuer, then kms-host",
            {"token": P.status_delegation({"iat": HOST_START}, by=P.issuer_key)},
        ),
        (
            "issuer-under-issuer",
            "a confirmation by a second issuer under the first, in a lease's place",
            le,
            [issuer, under],
            8,
            "issuer, then kms-host",
            {},
        ),
        (
            "root-signs-host",
            "the root makes a host",
            le,
            [P.host_delegation(by=P.roots[0]), host],
            8,
            "not the role issuer",
            {},
        ),
        (
            "status-signs-host",
            "a status key makes a host",
            le,
            [status, P.host_delegation(by=P.status_key)],
            8,
            "not the role issuer",
            {},
        ),
        (
            "host-signs-host",
            "a host makes a host",
            "delegation",
            [issuer],
            3,
            "another key",
            {"token": P.host_delegation(by=P.host_key)},
        ),
        (
            "issuer-self-signed",
            "the issuer signs its own delegation",
            c,
            [P.issuer(by=P.issuer_key)],
            8,
            "no known root key",
            {},
        ),
        (
            "issuer-by-stranger",
            "a stranger signs under the root's kid",
            c,
            [P.issuer(by=MALLORY, kid=P.pub, change={"iss": P.pub})],
            4,
            "does not fit",
            {},
        ),
        (
            "issuer-sub-not-cnf",
            "sub is not the key that it introduces",
            c,
            [P.issuer({"sub": MALLORY.kid})],
            8,
            "not the key it introduces",
            {},
        ),
        (
            "host-sub-not-cnf",
            "the host's sub is another key",
            le,
            [issuer, P.host_delegation({"sub": MALLORY.kid})],
            8,
            "not the key it introduces",
            {},
        ),
        (
            "issuer-point-off-curve",
            "the introduced key is not on the curve",
            c,
            [P.issuer({"sub": OFF_CURVE_KID, "cnf": {"jwk": OFF_CURVE}})],
            8,
            "not on the curve",
            {},
        ),
        (
            "status-with-products",
            "a status delegation with a product",
            "status",
            [P.status_delegation({"prd": [CAD]})],
            8,
            "no products and no leases",
            {},
        ),
        (
            "status-with-leases",
            "a status delegation with lmax",
            "status",
            [P.status_delegation({"lmax": 1})],
            8,
            "no products and no leases",
            {},
        ),
        (
            "issuer-is-the-root",
            "the root delegates to itself",
            c,
            [P.issuer(key=P.roots[0])],
            8,
            "twice in the chain",
            {"token": P.confirmation(by=P.roots[0])},
        ),
        (
            "host-is-the-issuer",
            "the issuer delegates to itself",
            "delegation",
            [issuer],
            8,
            "twice in the chain",
            {"token": P.host_delegation({"sub": P.issuer_key.kid, "cnf": {"jwk": P.issuer_key.jwk}})},
        ),
        ("delegation-is-null", "null in the chain", c, [None], 1, "is a text", {}),
        (
            "delegation-is-confirmation",
            "a confirmation in the chain",
            c,
            [P.confirmation(by=P.roots[0])],
            2,
            "not a delegation",
            {},
        ),
    ]
    return [broken_chain(n, why, kind, chain, step, d, **more) for n, why, kind, chain, step, d, more in rows]


def narrowing() -> list[JSON]:
    """Steps 8 and 9: products, longest lease, longest delegation, customer."""
    issuer: object = P.issuer()
    short = P.issuer({"lmax": 30 * DAY})
    star: list[object] = [P.issuer({"prd": ["*"]})]
    only_mill: list[object] = [P.issuer({"prd": [MILL]})]
    beyond = "beyond those of its signer"
    lease_end = START + 20 * DAY + 180 * DAY

    def host_chain(change: JSON) -> list[object]:
        return [issuer, P.host_delegation(change)]

    rows: list[tuple[str, str, str, list[object], int, str, JSON]] = [
        (
            "prd-wider",
            "the host may serve more than its issuer",
            "lease",
            host_chain({"prd": [CAD, FOREIGN]}),
            8,
            beyond,
            {},
        ),
        ("prd-star-from-issuer", "* from an issuer", "lease", host_chain({"prd": ["*"]}), 8, beyond, {}),
        (
            "prd-star-from-star-issuer",
            "* from an issuer that has *",
            "lease",
            [*star, P.host_delegation({"prd": ["*"]})],
            8,
            beyond,
            {},
        ),
        (
            "lmax-wider",
            "longer leases than the issuer's",
            "lease",
            host_chain({"lmax": 180 * DAY + 1}),
            8,
            "longer leases",
            {},
        ),
        (
            "lmax-wider-than-short",
            "the issuer has 30 d",
            "lease",
            [short, P.host_delegation()],
            8,
            "longer leases",
            {},
        ),
        (
            "dmax-exceeded-by-1-s",
            "a second more than dmax",
            "lease",
            host_chain({"exp": HOST_START + 400 * DAY + 1}),
            8,
            "longer than its signer",
            {},
        ),
        (
            "lease-product-not-served",
            "a product that the host has not",
            "lease",
            host_chain({}),
            9,
            beyond,
            {"token": P.lease({"prd": MILL})},
        ),
        (
            "lease-longer-by-1-s",
            "a second more than lmax",
            "lease",
            host_chain({}),
            9,
            "longer than its host",
            {"token": P.lease({"exp": lease_end + 1})},
        ),
        (
            "lease-other-customer",
            "another customer's lease",
            "lease",
            host_chain({}),
            9,
            "another customer",
            {"token": P.lease({"cus": "Other Works"})},
        ),
        (
            "host-product-not-served",
            "a host document with more products",
            "host",
            host_chain({}),
            9,
            beyond,
            {"token": P.host({"prd": [CAD, MILL]})},
        ),
        (
            "confirmation-product-not-issued",
            "the issuer has not this product",
            "confirmation",
            only_mill,
            9,
            beyond,
            {},
        ),
        (
            "confirmation-no-products",
            "the issuer has no products",
            "confirmation",
            [P.issuer({"prd": []})],
            9,
            beyond,
            {},
        ),
        (
            "statement-product-not-issued",
            "the issuer has not this product",
            "statement",
            only_mill,
            9,
            beyond,
            {},
        ),
        ("product-not-issued", "the issuer has not this product", "product", only_mill, 9, beyond, {}),
        (
            "product-policy-out-of-bounds",
            "validity below 1 h",
            "product",
            [issuer],
            9,
            "policy: validity",
            {"token": P.product({"pol": {"validity": HOUR - 1}})},
        ),
        (
            "product-policy-retry",
            "retry above renewal",
            "product",
            [issuer],
            9,
            "policy: retry",
            {"token": P.product({"pol": {"retry": 7 * DAY + 1}})},
        ),
        (
            "product-policy-threshold",
            "a threshold of 0",
            "product",
            [issuer],
            9,
            "policy: thresholds",
            {"token": P.product({"pol": {"thresholds": [{"count": "machines", "minimum": 0}]}})},
        ),
    ]
    made = [broken_chain(n, why, kind, chain, step, d, **more) for n, why, kind, chain, step, d, more in rows]
    padded = pinned("confirmation", padded_to=256 * 1024 + 1)
    made.append(
        case(
            "bundle-too-large",
            "a byte over 256 KiB",
            padded,
            P.bundle("confirmation"),
            refused(1, "larger than 262144"),
        )
    )
    for name, why, given in (
        (
            "bundle-no-roots",
            "a bundle without roots",
            {k: v for k, v in P.bundle("confirmation").items() if k != "roots"},
        ),
        (
            "bundle-no-chain",
            "a bundle without chain",
            {k: v for k, v in P.bundle("confirmation").items() if k != "chain"},
        ),
        ("bundle-chain-text", "chain is a text", P.bundle("confirmation") | {"chain": P.issuer()}),
        ("bundle-roots-object", "roots is an object", P.bundle("confirmation") | {"roots": {}}),
    ):
        made.append(case(name, why, pinned("confirmation"), given, refused(1, "a bundle has token")))
    made.append(
        case(
            "bundle-no-token",
            "a bundle without token",
            pinned("confirmation"),
            {"chain": [issuer], "roots": []},
            refused(1, "is a text"),
        )
    )
    made.append(
        case(
            "bundle-array", "an array", pinned("confirmation"), [P.confirmation()], refused(1, "JSON object")
        )
    )
    return made
