"""Many documents under one chain: `verify` with `chains` says of every bundle what it says without (steps 7 to 10)."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from protocol.test_vectors import VECTORS, roots_of
from vectors import forge
from vectors.cases import CAD_PUBLISHER as P
from vectors.cases import LAB
from volact.protocol import documents, trust
from volact.protocol.problems import DocumentRefused

ROOTS = trust.open_roots(P.first(), P.pub)
Said = tuple[Any, ...]


def said(bundle: object, kind: str, roots: trust.Roots, chains: trust.Chains | None) -> Said:
    """All that is told of a bundle: what it grants and how it stands, or why it is refused."""
    try:
        found = trust.verify(bundle, kind, roots, chains)
    except DocumentRefused as error:
        return (error.refusal,)
    chain = [(one.claims, one.kid, one.token) for one in found.chain]
    roots_ = [root.token for root in found.roots.documents]
    return found.document.claims, found.bundle(), found.revoked, chain, roots_


@pytest.fixture(scope="module")
def cases() -> list[tuple[object, str, trust.Roots]]:
    """Every bundle of the vectors, good or broken, with what is known when it comes."""
    found = []
    for _, vector in VECTORS:
        wanted, given = vector["verify"], vector["input"]
        if wanted["as"] == "status-body":
            found.append((given["bundle"], "status", roots_of(wanted)))
        elif (
            wanted["as"] in documents.TABLE
            and {"root", "pin", "roots"} <= wanted.keys()
            and wanted["as"] != "root"
        ):
            found.append((given, wanted["as"], roots_of(wanted)))
    assert len(found) > 150
    return found


@pytest.mark.parametrize("turn", [1, -1])
def test_what_was_verified_before_changes_no_verdict(
    turn: int, cases: list[tuple[object, str, trust.Roots]]
) -> None:
    """One dictionary for all, in both orders, each bundle twice: publishers, laboratories, roles and roots are mixed."""
    chains: trust.Chains = {}
    kept: set[Any] = set()
    for bundle, kind, roots in itertools.chain(cases[::turn], cases[::turn]):
        assert said(bundle, kind, roots, chains) == said(bundle, kind, roots, None)
        assert kept <= chains.keys()
        kept |= chains.keys()
    assert len(chains) > 10


def test_every_bundle_under_the_roots_and_as_the_kind_of_every_other(
    cases: list[tuple[object, str, trust.Roots]],
) -> None:
    """Nothing that one set of roots made good is good under another."""
    all_roots = list({json.dumps(one.later_tokens()) + one.pub: one for _, _, one in cases}.values())
    good = [
        (bundle, kind, roots) for bundle, kind, roots in cases if len(said(bundle, kind, roots, None)) > 1
    ]
    assert len(all_roots) > 3
    chains: trust.Chains = {}
    for bundle, kind, roots in good:
        said(bundle, kind, roots, chains)
    for (bundle, kind, _), roots in itertools.product(good[::3], all_roots):
        assert said(bundle, kind, roots, chains) == said(bundle, kind, roots, None)
    for (bundle, _, roots), kind in itertools.product(
        good[::3], ("delegation", "confirmation", "lease", "status")
    ):
        assert said(bundle, kind, roots, chains) == said(bundle, kind, roots, None)


def test_a_chain_that_stands_under_two_documents_is_verified_once() -> None:
    chains: trust.Chains = {}
    first = trust.verify(P.bundle("confirmation"), "confirmation", ROOTS, chains)
    second = trust.verify(P.bundle("receipt"), "receipt", ROOTS, chains)
    assert [*first.chain] == [*second.chain]
    assert first.chain[0] is second.chain[0]
    assert len(chains) == 1
    trust.verify(P.bundle("lease"), "lease", ROOTS, chains)
    assert len(chains) == 2
    other = trust.verify(P.bundle("confirmation"), "confirmation", ROOTS)
    assert other.chain[0] is not first.chain[0], "nothing is remembered but in the caller's dictionary"


def test_a_refusal_is_not_kept() -> None:
    chains: trust.Chains = {}
    bundle = P.bundle("confirmation")
    whole = bundle["chain"][0]
    broken: list[list[Any]] = [[whole[:-4] + "AAAA"], [], [whole, whole], [None], [[]], [{}], [5]]
    for chain in broken:
        with pytest.raises(DocumentRefused):
            trust.verify({**bundle, "chain": chain}, "confirmation", ROOTS, chains)
    assert chains == {}


def test_a_document_is_judged_itself_however_well_its_chain_is_known() -> None:
    """Signature, window and products are the document's, not the chain's."""
    chains: trust.Chains = {}
    good = P.bundle("confirmation")
    trust.verify(good, "confirmation", ROOTS, chains)
    late = forge.claims_of(good["chain"][0])["exp"] + 1
    for bundle, detail in (
        ({**good, "token": good["token"][:-4] + "AAAA"}, "signature"),
        (P.bundle("confirmation", {"iat": late}), "outside"),
        (P.bundle("confirmation", {"prd": "com.example.unknown"}), "beyond"),
        (P.bundle("confirmation", {"pub": LAB.pub}), "another publisher"),
    ):
        with pytest.raises(DocumentRefused, match=detail):
            trust.verify(bundle, "confirmation", ROOTS, chains)


def test_a_revocation_that_comes_later_counts_for_a_chain_that_is_known() -> None:
    """Step 10 is done for each document: a root document that revokes the issuer takes back what it signed."""
    chains: trust.Chains = {}
    bundle = P.bundle("confirmation")
    assert trust.verify(bundle, "confirmation", ROOTS, chains).revoked == ""
    issuer = forge.claims_of(bundle["chain"][0])
    for mode in ("new", "all"):
        revoking = P.root(
            2, {"rvk": [{"kid": issuer["sub"], "mode": mode, "since": 0}], "keys": [issuer["jti"]]}
        )
        found = trust.verify({**bundle, "roots": [revoking]}, "confirmation", ROOTS, chains)
        assert found.revoked == mode
    assert trust.verify(bundle, "confirmation", ROOTS, chains).revoked == ""


def test_one_publisher_s_chain_is_none_of_another_s() -> None:
    chains: trust.Chains = {}
    trust.verify(P.bundle("confirmation"), "confirmation", ROOTS, chains)
    lab = trust.open_roots(LAB.first(), LAB.pub)
    with pytest.raises(DocumentRefused):
        trust.verify(P.bundle("confirmation"), "confirmation", lab, chains)


def test_an_issuer_s_chain_does_not_make_a_status_key() -> None:
    chains: trust.Chains = {}
    bundle = P.bundle("confirmation")
    trust.verify(bundle, "confirmation", ROOTS, chains)
    with pytest.raises(DocumentRefused, match="not the role status"):
        trust.verify(bundle, "status", ROOTS, chains)
