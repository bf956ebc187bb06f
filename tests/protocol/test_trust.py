"""The verifier: PROTOCOL sections 1 to 3. Each way to be refused is a vector; here are the properties and values."""

import json
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectors import forge
from vectors.cases import CAD_PUBLISHER as P
from vectors.cases import LAB
from vectors.forge import CAD, DAY, HOUR, MILL, START
from volact.protocol import documents, jws, matching, trust
from volact.protocol.documents import Document
from volact.protocol.ids import Jwk
from volact.protocol.problems import DocumentRefused

ROOTS = trust.open_roots(P.first(), P.pub)
KINDS = ["delegation", "product", "confirmation", "receipt", "statement", "host", "lease", "status"]


def taken(bundle: dict[str, Any], kind: str, roots: trust.Roots = ROOTS) -> bool:
    try:
        trust.take_up(trust.verify(bundle, kind, roots))
    except DocumentRefused:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_goes_on_as_it_came(kind: str) -> None:
    """PROTOCOL 1: holders keep the chain they stored."""
    bundle = P.bundle(kind)
    granted = trust.verify(bundle, kind, ROOTS)
    assert granted.bundle() == bundle
    assert granted.document.claims == forge.claims_of(bundle["token"])
    assert granted.revoked == ""
    assert granted.document.name == kind


def test_known_and_brought_roots_come_together() -> None:
    """PROTOCOL 1: `roots` may be newer; a client keeps the highest root it has seen."""
    bundle = P.bundle("confirmation") | {"roots": [P.root(2), P.root(3)]}
    granted = trust.verify(bundle, "confirmation", ROOTS)
    assert [root["ver"] for root in granted.roots.documents] == [1, 2, 3]
    assert granted.roots.later_tokens() == bundle["roots"]
    older = trust.verify(P.bundle("confirmation"), "confirmation", granted.roots)
    assert older.roots == granted.roots
    assert granted.roots.first == P.first()
    assert (granted.roots.pub, granted.roots.lab) == (P.pub, False)
    assert trust.open_roots(LAB.first(), LAB.pub).lab is True


def test_a_known_root_signed_again_with_the_same_key_is_no_second_one() -> None:
    """PROTOCOL 3: only another *key* for a known version is refused and reported; the one seen first is kept."""
    known = trust.with_later_roots(ROOTS, [P.root(2)])
    again = trust.with_later_roots(known, [P.root(2, {"jti": "A" * 22})])
    assert again == known


lists = st.lists(st.sampled_from([CAD, MILL, "com.example.saw"]), unique=True, max_size=3)


@given(
    theirs=st.just(["*"]) | lists,
    ours=st.just(["*"]) | lists,
    lmax=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dmax=st.integers(0, 3),
    length=st.integers(0, 4),
)
def test_a_host_delegation_only_narrows(
    theirs: list[str], ours: list[str], lmax: tuple[int, int], dmax: int, length: int
) -> None:
    """PROTOCOL 2, mechanically: prd a subset (`*` only from the root), dmax and lmax no larger."""
    iat = START + 10 * DAY
    issuer = P.issuer({"prd": theirs, "lmax": lmax[0], "dmax": dmax})
    host = P.host_delegation({"prd": ours, "lmax": lmax[1], "exp": iat + length, "min_ver": {}})
    within = ours != ["*"] and (theirs == ["*"] or set(ours) <= set(theirs))
    good = within and lmax[1] <= lmax[0] and length <= dmax
    assert taken({"token": host, "chain": [issuer], "roots": []}, "delegation") is good


@given(
    kind=st.sampled_from(["confirmation", "product", "statement", "status", "lease", "host"]),
    early=st.integers(-HOUR - 2, -HOUR + 2),
    late=st.integers(-2, 2),
    at_end=st.booleans(),
)
def test_windows(kind: str, early: int, late: int, at_end: bool) -> None:
    """PROTOCOL 3: good if G.iat - 1 h <= D.iat <= G.exp; both ends count."""
    signer = forge.claims_of(P.chain(kind)[-1])
    iat = signer["exp"] + late if at_end else signer["iat"] + early
    change = {"iat": iat} | ({"exp": iat} if kind == "lease" else {})
    assert taken(P.bundle(kind, change), kind) is (signer["iat"] - HOUR <= iat <= signer["exp"])


@given(st.integers(-2, 2))
def test_a_lease_ends_at_iat_and_lmax_at_the_latest(more: int) -> None:
    """PROTOCOL 3: D.exp <= D.iat + G.lmax."""
    end = START + 20 * DAY + 180 * DAY + more
    assert taken(P.bundle("lease", {"exp": end}), "lease") is (more <= 0)


@given(st.integers(-2, 2))
def test_a_remaining_proof_is_good_for_90_days(more: int) -> None:
    """PROTOCOL 2: key-proof exp, remaining only: 90 d."""
    proof = P.remaining_proof({"exp": START + 19 * DAY + 90 * DAY + more})
    key = P.product_key
    try:
        signed = trust.open_signed(proof, "key-proof", key.kid, jws.load_key(Jwk.read(key.jwk)))
        matching.check_proof_fits(signed, None, pub=P.pub, lab=False)
        good = True
    except DocumentRefused:
        good = False
    assert good is (more <= 0)


modes = st.sampled_from(["", "new", "all"])


@given(
    by_two=modes,
    by_three=modes,
    listed_two=st.booleans(),
    listed_three=st.booleans(),
    key=st.sampled_from(["issuer", "host", "root", "stranger"]),
)
def test_revocation(by_two: str, by_three: str, listed_two: bool, listed_three: bool, key: str) -> None:
    """PROTOCOL 3: rvk is a union over all known root documents, all before new; a delegation stands only if every
    known later root document lists it; a revoked key takes with it all that is chained under it.
    """
    who = {"issuer": P.issuer_key, "host": P.host_key, "root": P.roots[0], "stranger": P.machine}[key]
    jti = forge.jti_of(P.issuer())

    def root(number: int, mode: str, listed: bool) -> str:
        rvk = [{"kid": who.kid, "mode": mode, "since": 0}] if mode else []
        return P.root(number, {"rvk": rvk, "keys": [jti] if listed else []})

    roots = [root(2, by_two, listed_two), root(3, by_three, listed_three)]
    granted = trust.verify(P.bundle("lease") | {"roots": roots}, "lease", ROOTS)
    touched = {by_two, by_three} - {""} if key != "stranger" else set()
    if not (listed_two and listed_three) or "all" in touched:
        assert granted.revoked == "all"
    else:
        assert granted.revoked == ("new" if touched else "")
    assert trust.still_stands(granted) is (granted.revoked != "all")
    if granted.revoked:
        with pytest.raises(DocumentRefused):
            trust.take_up(granted)
    else:
        assert trust.take_up(granted) is granted


@given(st.data())
def test_any_changed_character_of_a_bundle_is_refused_or_changes_nothing(data: st.DataObject) -> None:
    """T19, T22: flip every byte: all detected."""
    bundle = P.bundle("lease") | {"roots": [P.root(2)]}
    text = json.dumps(bundle)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from(forge.ALPHABET + '"{}[],. ')) + text[at + 1 :]
    try:
        found = trust.read_bundle(changed.encode())
        granted = trust.take_up(trust.verify(found, "lease", ROOTS))
    except DocumentRefused:
        return
    assert granted.bundle() == bundle


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["token", "chain", "roots", "jwk"]), inner)
    ),
    max_leaves=8,
)


@given(json_values, st.sampled_from(KINDS))
def test_no_json_value_makes_the_verifier_fail_otherwise_than_by_refusing(value: Any, kind: str) -> None:
    """G13: 0 uncaught exceptions."""
    for attempt in (
        lambda: trust.verify(value, kind, ROOTS),
        lambda: trust.open_self_keyed(value, "request"),
        lambda: trust.open_roots(value, P.pub),
        lambda: trust.with_later_roots(ROOTS, [value]),
    ):
        with pytest.raises(DocumentRefused):
            attempt()


@given(
    st.dictionaries(st.sampled_from("x sub iat exp fp must prd pub rol pol cnf min_ver".split()), json_values)
)
def test_no_signed_payload_makes_the_reader_fail_otherwise_than_by_refusing(change: dict[str, Any]) -> None:
    """G13, for claims that a key of ours signed."""
    for kind in ("lease", "confirmation", "product", "delegation"):
        taken(P.bundle(kind, change), kind)  # anything but a refusal would fail here


@pytest.mark.parametrize(("size", "good"), [(262_143, True), (262_144, True), (262_145, False)])
def test_bundle_size(size: int, good: bool) -> None:
    """PROTOCOL 1: a bundle is at most 256 KiB."""
    data = json.dumps(P.bundle("confirmation")).encode().ljust(size)
    try:
        assert trust.read_bundle(data) == P.bundle("confirmation")
        assert good
    except DocumentRefused:
        assert not good


@pytest.mark.parametrize(("count", "good"), [(15, True), (16, True), (17, False)])
def test_number_of_roots(count: int, good: bool) -> None:
    """PROTOCOL 1: at most 16 roots."""
    roots = [P.root(number) for number in range(2, count + 2)]
    assert taken(P.bundle("confirmation") | {"roots": roots}, "confirmation") is good


@pytest.mark.parametrize(
    ("kind", "limit"), [("confirmation", 8192), ("lease", 8192), ("product", 32768), ("delegation", 32768)]
)
def test_token_size(kind: str, limit: int) -> None:
    """PROTOCOL 1: 8 KiB; 32 KiB for delegation, root, product and host documents."""
    for more, good in ((-3, True), (64, False)):
        blank = len(P.write(kind, {"fill": ""}))
        text = P.write(kind, {"fill": "x" * ((limit - blank + more) * 3 // 4)})
        assert taken(P.bundle(kind) | {"token": text}, kind) is good, len(text)


def opened(text: str, name: str, key: forge.Key) -> Document:
    return trust.open_signed(text, name, key.kid, jws.load_key(Jwk.read(key.jwk)))


def test_answers_fit_their_asks() -> None:
    """PROTOCOL 2: on receipt a client compares sub, req, prd, fp, op, key, ref with its ask; req is the request's jti, a
    check-in's own choice, for a statement the proof's jti.
    """
    asks = {
        "confirmation": opened(P.request(), "request", P.machine),
        "receipt": opened(P.give_back(), "request", P.machine),
        "lease": opened(P.checkin(), "checkin", P.machine),
        "statement": opened(P.remaining_proof(), "key-proof", P.product_key),
    }
    for kind, ask in asks.items():
        matching.check_answer(trust.verify(P.bundle(kind), kind, ROOTS).document, ask)


@pytest.mark.parametrize(
    ("op", "proof", "usage", "good"),
    [
        ("activate", "p", None, True),
        ("activate", None, None, False),
        ("activate", "p", {}, False),
        ("host", "p", None, True),
        ("host", None, None, False),
        ("return", None, None, True),
        ("return", "p", None, False),
        ("return", None, {}, False),
        ("extend", None, {}, True),
        ("extend", "p", {}, False),
        ("extend", None, None, False),
    ],
)
def test_a_request_s_bundle_carries_what_its_op_needs_and_nothing_else(
    op: str, proof: object, usage: object, good: bool
) -> None:
    """PROTOCOL 2: `activate` and `host` need a proof, `return` and `extend` none; `extend` adds usage."""
    request = opened(P.request({"op": op, "ref": "A" * 22}), "request", P.machine)
    with nullcontext() if good else pytest.raises(DocumentRefused):
        documents.check_carried(request, proof=proof, usage=usage)


def test_an_unknown_claim_req_in_a_request_does_not_choose_the_answer() -> None:
    """PROTOCOL 1: unknown members are ignored: a request's answer names its jti."""
    ask = opened(P.request({"req": "A" * 22}), "request", P.machine)
    matching.check_answer(trust.verify(P.bundle("confirmation"), "confirmation", ROOTS).document, ask)


def test_a_request_opens_with_its_own_key() -> None:
    """PROTOCOL 1: self-keyed: thumbprint(jwk) = kid, the point, the signature, iss = kid."""
    found = trust.open_self_keyed({"token": P.request(), "jwk": P.machine.jwk, "proof": P.proof()}, "request")
    assert found.document["iss"] == found.jwk.thumbprint() == P.machine.kid
    product_key = jws.load_key(Jwk.read(P.product_key.jwk))
    proof = trust.open_signed(P.proof(), "key-proof", P.product_key.kid, product_key)
    matching.check_proof_fits(proof, found.document, pub=P.pub, lab=False)
    assert proof["op"] == "activate"


def test_many_are_opened_together_as_one_by_one() -> None:
    """Each token meets the same steps; one that is refused stops at its step and hinders no other."""
    good = {"token": P.request(), "jwk": P.machine.jwk}
    bundles: list[object] = [
        good,
        None,
        {"token": P.checkin(), "jwk": P.machine.jwk},
        {**good, "jwk": P.host_key.jwk},
        {**good, "token": P.request(signature=lambda _: bytes(64))},
        {**good, "token": P.request({"aud": LAB.pub})},
        good,
    ]
    openings = [trust.Opening.self_keyed(bundle, "request") for bundle in bundles]
    trust.open_all(openings)
    for bundle, opening in zip(bundles, openings, strict=True):
        if opening.refused is None:
            assert trust.open_self_keyed(bundle, "request").document.token == opening.document.token
        else:
            with pytest.raises(DocumentRefused) as caught:
                trust.open_self_keyed(bundle, "request")
            assert caught.value.refusal == opening.refused.refusal
    assert [opening.refused is None for opening in openings] == [
        True,
        False,
        False,
        False,
        False,
        False,
        True,
    ]
