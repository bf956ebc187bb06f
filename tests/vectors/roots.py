"""Steps 7 and 10: root documents and what they revoke (PROTOCOL sections 1 and 3); good bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectors.cases import CAD_PUBLISHER as P
from vectors.cases import (
    LAB,
    MALLORY,
    OFF_CURVE,
    OFF_CURVE_KID,
    OTHER,
    broken_chain,
    case,
    pinned,
    refused,
    self_keyed,
)
from vectors.forge import (
    DROP,
    JSON,
    START,
    Key,
    ident,
    jti_of,
)

if TYPE_CHECKING:
    pass


def revoke(key: Key, mode: str) -> JSON:
    return {"kid": key.kid, "mode": mode, "since": START}


def root_documents(most: int) -> list[str]:
    return [P.root(number) for number in range(2, most + 1)]


def first_roots() -> list[JSON]:
    """Root document 1."""
    verify = {"as": "root", "pin": P.pub, "roots": []}
    one = P.roots[0]
    rows: list[tuple[str, str, JSON, int, str]] = [
        ("root-1-other-publisher", "another publisher's root", OTHER.first(), 7, "not the pinned"),
        (
            "root-1-pub-other",
            "pub is not its key",
            self_keyed(P.root(1, {"pub": OTHER.pub}), one.jwk),
            7,
            "not the pinned",
        ),
        (
            "root-1-version-0",
            "version 0",
            self_keyed(P.root(1, {"ver": 0, "keys": []}), one.jwk),
            7,
            "introduces its own signer",
        ),
        (
            "root-1-version-2",
            "version 2",
            self_keyed(P.root(1, {"ver": 2, "keys": []}), one.jwk),
            7,
            "introduces its own signer",
        ),
        (
            "root-1-sub-other",
            "sub is another key",
            self_keyed(P.root(1, {"sub": P.roots[1].kid}), one.jwk),
            7,
            "introduces its own signer",
        ),
        (
            "root-1-cnf-other",
            "introduces another key",
            self_keyed(P.root(1, {"cnf": {"jwk": P.roots[1].jwk}}), one.jwk),
            7,
            "introduces its own signer",
        ),
        ("root-1-rvk-missing", "no rvk", self_keyed(P.root(1, {"rvk": DROP}), one.jwk), 5, "rvk is missing"),
        (
            "root-1-rvk-mode",
            "a mode that there is not",
            self_keyed(P.root(1, {"rvk": [{**revoke(MALLORY, "all"), "mode": "some"}]}), one.jwk),
            5,
            "rvk is missing",
        ),
        (
            "root-1-rvk-no-since",
            "a revocation without since",
            self_keyed(P.root(1, {"rvk": [{"kid": one.kid, "mode": "all"}]}), one.jwk),
            5,
            "rvk is missing",
        ),
        (
            "root-1-signed-by-another",
            "the jwk's key did not sign",
            self_keyed(P.root(1, by=MALLORY, kid=one.kid), one.jwk),
            4,
            "does not fit",
        ),
        (
            "root-1-version-true",
            "ver is true",
            self_keyed(P.root(1, {"ver": True, "keys": []}), one.jwk),
            5,
            "ver is missing",
        ),
    ]
    return [case(name, why, verify, given, refused(step, detail)) for name, why, given, step, detail in rows]


def later_roots() -> list[JSON]:
    """Root documents 2 up, in a bundle."""
    chain = P.chain("confirmation")
    other = Key("another root 2")
    swapped = {"sub": other.kid, "cnf": {"jwk": other.jwk}}
    key_twice = {"sub": P.pub, "cnf": {"jwk": P.roots[0].jwk}}
    rows: list[tuple[str, str, list[object], int, str]] = [
        ("root-gap", "root 3 without root 2", [P.root(3)], 3, "another key"),
        ("root-version-gap", "root 2 calls itself 3", [P.root(2, {"ver": 3})], 7, "rise by exactly 1"),
        ("root-version-same", "root 2 calls itself 1", [P.root(2, {"ver": 1})], 7, "rise by exactly 1"),
        ("root-order", "3 before 2", [P.root(3), P.root(2)], 3, "another key"),
        (
            "root-2-self-signed",
            "root 2 signed by its own new key",
            [P.root(2, by=P.roots[1])],
            3,
            "another key",
        ),
        ("root-2-by-issuer", "root 2 signed by the issuer", [P.root(2, by=P.issuer_key)], 3, "another key"),
        (
            "root-2-kid-forged",
            "root 2 by a stranger under the kid of root 1",
            [P.root(2, by=MALLORY, kid=P.pub, change={"iss": P.pub})],
            4,
            "does not fit",
        ),
        ("root-2-no-keys", "root 2 without keys", [P.root(2, {"keys": DROP})], 5, "keys is missing"),
        (
            "root-2-keys-repeat",
            "keys with a repeat",
            [P.root(2, {"keys": [ident("a")] * 2})],
            5,
            "keys is missing",
        ),
        (
            "root-2-sub-not-cnf",
            "sub is not the key that it introduces",
            [P.root(2, {"sub": other.kid})],
            7,
            "not the key it introduces",
        ),
        (
            "root-2-point-off-curve",
            "the introduced key is not on the curve",
            [P.root(2, {"sub": OFF_CURVE_KID, "cnf": {"jwk": OFF_CURVE}})],
            7,
            "not on the curve",
        ),
        ("root-2-key-twice", "root 2 introduces root key 1 again", [P.root(2, key_twice)], 7, "stands twice"),
        (
            "root-2-pub-other",
            "root 2 of another publisher",
            [P.root(2, {"pub": OTHER.pub})],
            6,
            "another publisher",
        ),
        ("root-is-null", "null among the roots", [None], 1, "is a text"),
        ("roots-17-documents", "17 later root documents", list(root_documents(18)), 7, "more than 16"),
    ]
    made = [
        broken_chain(n, why, "confirmation", chain, step, d, roots=roots) for n, why, roots, step, d in rows
    ]
    made += [
        broken_chain(
            "root-2-other-key",
            "another key for the known version 2: refused, and reported",
            "confirmation",
            chain,
            7,
            "another key for known version 2",
            roots=[P.root(2, swapped)],
            known=[P.root(2)],
        ),
        broken_chain(
            "root-rollback",
            "the bundle knows root 2; root 3, known here, does not list the issuer",
            "confirmation",
            chain,
            10,
            "revoked",
            roots=[P.root(2)],
            known=[P.root(2), P.root(3, {"keys": []})],
        ),
        broken_chain(
            "root-key-as-issuer",
            "the issuer's key is a later root's: a key stands twice",
            "confirmation",
            [P.issuer(key=P.roots[1])],
            8,
            "twice in the chain",
            token=P.confirmation(by=P.roots[1]),
            roots=[P.root(2)],
        ),
    ]
    return made


def revocations() -> list[JSON]:
    """Step 10, as taken up now and as stored before the root document was seen."""
    made = []
    issuer, lease_chain = P.issuer(), P.chain("lease")
    listed = [jti_of(issuer)]
    shapes: list[tuple[str, str, str, list[str], JSON]] = [
        ("issuer", "the issuer's key", "confirmation", [issuer], revoke(P.issuer_key, "all")),
        ("issuer-of-host", "the issuer of a lease's host", "lease", lease_chain, revoke(P.issuer_key, "all")),
        ("host", "the host's key", "lease", lease_chain, revoke(P.host_key, "all")),
        (
            "host-delegation",
            "the key of the delegation itself",
            "delegation",
            [issuer],
            revoke(P.host_key, "all"),
        ),
        (
            "root-key",
            "root key 1, which signed the delegation",
            "confirmation",
            [issuer],
            revoke(P.roots[0], "all"),
        ),
        ("status", "the status key", "status", P.chain("status"), revoke(P.status_key, "all")),
    ]
    for name, why, kind, chain, entry in shapes:
        for mode in ("all", "new"):
            keys = [jti_of(text) for text in chain[:1]]
            bundle = {
                "token": P.write(kind),
                "chain": chain,
                "roots": [P.root(2, {"rvk": [{**entry, "mode": mode}], "keys": keys})],
            }
            for when in ("taken up", "stored"):
                good = mode == "new" and when == "stored"
                full = f"revoked-{name}-{mode}-{when.replace(' ', '-')}"
                text = f"root 2 revokes {why} with {mode}; the document is {when}"
                made.append(
                    case(
                        full,
                        text,
                        pinned(kind, when=when),
                        bundle,
                        "good" if good else refused(10, "revoked"),
                    )
                )
    made += _closed_lists(listed)
    both = [revoke(P.issuer_key, "new"), revoke(P.issuer_key, "all")]
    union = P.bundle("confirmation") | {
        "roots": [P.root(2, {"rvk": both[1:], "keys": listed}), P.root(3, {"rvk": both[:1], "keys": listed})]
    }
    made.append(
        case(
            "revoked-all-before-new",
            "root 2 says all, root 3 new: all",
            pinned("confirmation", when="stored"),
            union,
            refused(10, "revoked"),
        )
    )
    forgotten = P.bundle("confirmation") | {
        "roots": [P.root(2, {"rvk": both[1:], "keys": listed}), P.root(3, {"keys": listed})]
    }
    made.append(
        case(
            "revoked-union",
            "root 3 does not repeat what root 2 revoked",
            pinned("confirmation"),
            forgotten,
            refused(10, "revoked"),
        )
    )
    known = pinned("confirmation") | {"roots": [P.root(2, {"rvk": both[1:], "keys": listed})]}
    made.append(
        case(
            "revoked-by-known-root",
            "the root that revokes is known here, not in the bundle",
            known,
            P.bundle("confirmation"),
            refused(10, "revoked"),
        )
    )
    return made


def _closed_lists(listed: list[str]) -> list[JSON]:
    confirmation = P.bundle("confirmation")
    closed, open_list = P.root(2, {"keys": []}), P.root(2, {"keys": listed})
    made = [
        case(
            f"keys-closed-{when.replace(' ', '-')}",
            f"root 2 does not list the issuer's delegation; {when}",
            pinned("confirmation", when=when),
            confirmation | {"roots": [closed]},
            refused(10, "revoked"),
        )
        for when in ("taken up", "stored")
    ]
    again = P.issuer({"jti": ident("backdated")})
    by_two = P.issuer(by=P.roots[1])
    made += [
        case(
            "keys-backdated",
            "a stolen root key 1 backdates a delegation after root 2 closed the list",
            pinned("confirmation"),
            confirmation | {"chain": [again], "roots": [open_list]},
            refused(10, "revoked"),
        ),
        case(
            "keys-not-listed-by-root-3",
            "root 2 lists it, root 3 does not",
            pinned("confirmation"),
            confirmation | {"roots": [open_list, P.root(3, {"keys": []})]},
            refused(10, "revoked"),
        ),
        case(
            "keys-root-2-not-listed-by-root-3",
            "a delegation of root 2 that root 3 does not list",
            pinned("confirmation"),
            confirmation | {"chain": [by_two], "roots": [closed, P.root(3, {"keys": []})]},
            refused(10, "revoked"),
        ),
        case(
            "keys-listed",
            "listed by root 2 and 3: stands",
            pinned("confirmation"),
            confirmation | {"roots": [open_list, P.root(3, {"keys": listed})]},
        ),
        case(
            "keys-own-root",
            "a delegation of root 2 need not be listed by root 2",
            pinned("confirmation"),
            confirmation | {"chain": [by_two], "roots": [closed]},
        ),
    ]
    return made


def good_bundles() -> list[JSON]:
    kinds = ("delegation", "product", "confirmation", "statement", "host", "lease", "status")
    made = [case(kind, f"a {kind} document", pinned(kind), P.bundle(kind)) for kind in kinds]
    root = {"as": "root", "pin": P.pub, "roots": []}
    sixteen = root_documents(17)
    made += [
        case("root-1", "root document 1", root, P.first()),
        case("root-1-to-3", "root documents 1 to 3", {**root, "roots": root_documents(3)}, P.first()),
        case(
            "roots-in-bundle",
            "a bundle that brings root documents 2 and 3",
            pinned("confirmation"),
            P.bundle("confirmation") | {"roots": root_documents(3)},
        ),
        case(
            "roots-16-documents",
            "16 later root documents",
            pinned("confirmation"),
            P.bundle("confirmation") | {"roots": sixteen},
        ),
        case(
            "roots-known-already",
            "the bundle's root 2 is known",
            pinned("confirmation") | {"roots": [P.root(2)]},
            P.bundle("confirmation") | {"roots": [P.root(2)]},
        ),
        case(
            "product-with-root",
            "a product bundle with root document 1",
            pinned("product"),
            P.bundle("product") | {"root": P.first()},
        ),
        case(
            "bundle-262144-bytes",
            "exactly 256 KiB",
            pinned("confirmation", padded_to=256 * 1024),
            P.bundle("confirmation"),
        ),
        case(
            "lab",
            "a laboratory's confirmation under its root",
            pinned("confirmation", LAB),
            LAB.bundle("confirmation"),
        ),
        case(
            "other", "another publisher's under its own root", pinned("lease", OTHER), OTHER.bundle("lease")
        ),
    ]
    return made
