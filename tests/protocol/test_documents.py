"""The documents' claims: PROTOCOL section 2's table, section 1's claim types. Broken ones are in tests/vectors."""

import json
from typing import Any

import pytest

from vectors import forge
from vectors.forge import CAD, DROP, Publisher
from volact.protocol import documents, jws
from volact.protocol.problems import DocumentRefused

P = Publisher("cad")
WRITTEN = {
    "root": P.root(2),
    "delegation": P.host_delegation(),
    "product": P.product(),
    "request": P.request(),
    "key-proof": P.proof(),
    "confirmation": P.confirmation(),
    "receipt": P.receipt(),
    "statement": P.statement(),
    "host": P.host(),
    "checkin": P.checkin(),
    "lease": P.lease(),
    "status": P.status(),
    "usage": P.usage(),
    "cil": P.cil(),
}
COMMON = "v pub lab iss iat jti"
# PROTOCOL section 2: sub, aud, exp where the table has them, then "further claims", in its order.
CLAIMS = {
    ("root", "1"): "sub ver cnf rvk",
    ("root", "2"): "sub ver cnf rvk keys",
    ("delegation", "issuer"): "sub exp cnf rol prd lmax dmax",
    ("delegation", "status"): "sub exp cnf rol prd lmax",
    ("delegation", "kms-host"): "sub exp cnf rol prd lmax cus min_ver act cmax",
    ("product", ""): "sub ver name edition pol url tls",
    ("request", "activate"): "sub aud op prd key fp",
    ("request", "host"): "sub aud op prd key fp",
    ("request", "return"): "sub aud op prd key fp ref",
    ("request", "extend"): "sub aud op prd key fp ref",
    ("key-proof", "activate"): "sub aud op prd dig",
    ("key-proof", "remaining"): "aud exp op prd",
    ("confirmation", ""): "sub prd key act fp req",
    ("receipt", ""): "sub op prd key act ref req",
    ("statement", ""): "sub prd bought activated remaining req",
    ("host", ""): "sub ver tls prd",
    ("checkin", ""): "sub aud prd nonce req fp prev state minutes vm",
    ("lease", ""): "sub exp prd cus req fp ren rty cnt sver",
    ("status", ""): "sub ver nxt dig len",
    ("usage", ""): "sub aud ref from to peaks",
    ("cil", ""): "sub seq mode rows dig len",
}


@pytest.mark.parametrize(("name", "which"), CLAIMS)
def test_each_document_has_exactly_the_claims_of_the_table(name: str, which: str) -> None:
    """PROTOCOL 2, claim by claim."""
    row = documents.TABLE[name]
    selected: dict[str, Any] = {row.selector: int(which) if name == "root" else which}
    assert [claim for claim, _ in row.checks(selected)] == CLAIMS[name, which].split()
    optional = {"checkin": {"name"}, "request": {"file"}, "usage": {"sources"}, "cil": {"ref"}}.get(
        name, set()
    )
    assert {claim for claim, _ in row.optional} == optional


def test_the_table_has_these_documents() -> None:
    """Issue 2: those that this issue and the next use."""
    assert set(documents.TABLE) == {name for name, _ in CLAIMS} == set(WRITTEN)
    assert [claim for claim, _ in documents.COMMON] == COMMON.split()


@pytest.mark.parametrize("name", WRITTEN)
def test_sizes_and_typ(name: str) -> None:
    """PROTOCOL 1: 8 KiB, 32 KiB for delegation, root, product and host documents; typ = volact-NAME+jwt."""
    large = name in ("delegation", "root", "product", "host")
    assert documents.TABLE[name].limit == (32768 if large else 8192)
    assert documents.typ_of(name) == f"volact-{name}+jwt"


def refused(name: str, change: dict[str, Any]) -> bool:
    claims = {**forge.claims_of(WRITTEN[name]), **change}
    claims = {claim: value for claim, value in claims.items() if value is not DROP}
    payload = forge.compact(claims)
    try:
        documents.read(name, claims.get("iss", ""), payload, "")
    except DocumentRefused:
        return True
    return False


@pytest.mark.parametrize("name", WRITTEN)
def test_each_claim_is_needed_and_typed(name: str) -> None:
    """PROTOCOL 1: a required claim that is missing, or any claim of another type, refuses."""
    claims = forge.claims_of(WRITTEN[name])
    optional = {claim for claim, _ in documents.TABLE[name].optional}
    assert not refused(name, {})
    for claim in claims:
        assert refused(name, {claim: DROP}) is (claim not in optional), claim
        others: list[Any] = [{"a": [1]}, [[]], 1.5, "", -1, []]
        for wrong in others:
            fits = (
                wrong == [] and claim in ("rvk", "keys", "tls", "prd") and isinstance(claims[claim], list)
            ) or (wrong == "" and claim == "url")
            anything = claim == "pol" and isinstance(wrong, dict)
            assert refused(name, {claim: wrong}) is not (fits or anything), (claim, wrong)


@pytest.mark.parametrize(
    ("name", "claim", "good", "wrong"),
    [
        ("confirmation", "jti", ["A" * 22], ["A" * 21, "A" * 23, "A" * 21 + "=", "A" * 22 + "\n"]),
        ("confirmation", "pub", ["A" * 43, "-_" * 21 + "A"], ["A" * 42, "A" * 44, "A" * 42 + "+"]),
        ("confirmation", "iat", [0, 1, 2**53 - 1], [-1, True, False, "1", None]),
        ("confirmation", "v", [1], [0, 2, True, "1", None]),
        ("confirmation", "lab", [True, False], [0, 1, None, "false"]),
        ("confirmation", "prd", ["a", "a" * 64], ["a" * 65, "", "*", ["a"]]),
        ("confirmation", "must", [[], ["prd"], ["prd", "fp"]], [["x"], ["prd", "prd"], "prd", [1], None, {}]),
        ("checkin", "nonce", ["n", "n" * 199, "n" * 200], ["", "n" * 201, 1]),
        ("checkin", "name", ["n", "ü" * 200], ["", "n" * 201, None]),
        ("checkin", "state", [0, 1, 5, 6], [-1, 7, True, "1"]),
        ("checkin", "prev", [None, "A" * 22], ["", "A" * 21, False]),
        ("checkin", "vm", [True, False], [0, 1, None]),
        ("checkin", "must", [["name"]], [["exp"]]),
        ("lease", "cus", ["c", "c" * 200], ["", "c" * 201]),
        ("lease", "sver", [[0, 0], [2**53 - 1, 1]], [[0], [0, 0, 0], [0, -1], [0, True], "00", {}, None]),
        (
            "product",
            "tls",
            [[], ["A" * 43], ["A" * 42 + c for c in "ABCD"]],
            [["A" * 42 + c for c in "ABCDE"], ["A"]],
        ),
        ("product", "url", ["", "x" * 2000], ["x" * 2001, None]),
        ("product", "edition", ["client", "server"], ["", "Client", None, ["client"]]),
        ("host", "tls", [["A" * 42 + c for c in "ABCD"]], [["A" * 42 + c for c in "ABCDE"]]),
        ("delegation", "prd", [["*"], [], ["a", "b"]], ["*", ["*", "a"], ["a", "a"], ["A"], [1]]),
        ("delegation", "min_ver", [{}, {"a": 2}], [[], {"A": 2}, {"a": -1}, {"a": True}]),
        ("request", "file", [True, False], [0, 1, None, "true"]),
        ("receipt", "op", ["return"], ["activate", "extend", "", None]),
        ("receipt", "act", ["A" * 22], ["A" * 21, "A" * 43, None]),
        ("usage", "peaks", [{}, {CAD: 0}], [{"": 1}, {CAD: -1}]),
        ("cil", "mode", ["full", "proxy"], ["", "Full", None, ["full"]]),
        ("cil", "sub", ["A" * 22], ["A" * 21, "A" * 43, None]),
        ("cil", "ref", ["A" * 22], ["A" * 21, "", None]),
        ("cil", "rows", [0, 200_000], [-1, True, "1", None]),
        ("root", "rvk", [[], [{"kid": "A" * 43, "mode": "new", "since": 0}]], [[1], [{}], {}, "none"]),
        ("root", "keys", [[], ["A" * 22]], [["A"], ["A" * 22] * 2, None]),
        (
            "request",
            "fp",
            [{}, {"uuid": "A" * 11}, {"cpu": "-_9"}],
            [{"cpu": "AA"}, {"cpu": "A A"}, {"x": "AAA"}, []],
        ),
        ("key-proof", "op", ["activate", "host"], ["return", "extend", "", None, []]),
    ],
)
def test_claim_types(name: str, claim: str, good: list[Any], wrong: list[Any]) -> None:
    """PROTOCOL 1, "Claim types", each at value-1, value and value+1 where it is a length or a number."""
    for value in good:
        assert not refused(name, {claim: value}), value
    for value in wrong:
        assert refused(name, {claim: value}), value


@pytest.mark.parametrize("name", WRITTEN)
def test_must_may_name_only_claims_that_the_document_has(name: str) -> None:
    """PROTOCOL 1: `-` in the table means: not there, and refused when `must` names it."""
    claims = set(forge.claims_of(WRITTEN[name]))
    for claim in ("exp", "aud", "sub", "prd", "nbf", "dmax", "x"):
        assert refused(name, {"must": [claim], "x": 1}) is (claim not in claims), claim


@pytest.mark.parametrize("name", WRITTEN)
def test_a_writer_puts_the_claims_in_the_order_of_the_table(name: str) -> None:
    """PROTOCOL 1: the common claims first, in that order, then the table's, no blanks, UTF-8 unescaped; the
    independent writer of the vectors writes the same bytes.
    """
    claims = forge.claims_of(WRITTEN[name])
    shuffled = dict(reversed(claims.items()))
    written = documents.write(name, shuffled)
    assert json.loads(written) == claims
    assert list(json.loads(written))[:6] == COMMON.split()
    variants = [order.split() for (kind, _), order in CLAIMS.items() if kind == name]
    wanted = max((order for order in variants if set(order) <= set(claims)), key=len)
    assert [claim for claim in json.loads(written) if claim in wanted] == wanted
    assert b": " not in written
    read = documents.read(name, claims["iss"], written, "t")
    assert (read.claims, read.token, read.iat, read.jti) == (claims, "t", claims["iat"], claims["jti"])
    assert read["iss"] == claims["iss"]


def test_a_writer_adds_the_version_and_keeps_must_and_unknown_claims() -> None:
    """PROTOCOL 1: v = 1; unknown members are kept."""
    claims = forge.claims_of(P.confirmation({"must": ["fp"], "later": "ü"}))
    del claims["v"]
    written = documents.write("confirmation", claims)
    assert list(json.loads(written)) == [
        *COMMON.split(),
        "must",
        *CLAIMS["confirmation", ""].split(),
        "later",
    ]
    assert "ü".encode() in written
    assert documents.read("confirmation", claims["iss"], written, "")["later"] == "ü"


@pytest.mark.parametrize("change", [{"prd": "A"}, {"fp": None}, {"must": ["x"]}, {"later": "\udcff"}])
def test_a_writer_writes_nothing_that_a_reader_refuses(change: dict[str, Any]) -> None:
    with pytest.raises(DocumentRefused):
        documents.write("confirmation", {**forge.claims_of(P.confirmation()), **change})


def test_the_name_in_must_is_cut_and_escaped_in_the_detail() -> None:
    """T36: no raw input in a log."""
    payload = forge.compact({**forge.claims_of(P.confirmation()), "must": ["\x1b[2J" + "x" * 5000]})
    with pytest.raises(DocumentRefused) as caught:
        documents.read("confirmation", P.issuer_key.kid, payload, "")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_independent_writer_writes_the_same_token() -> None:
    """The vectors' writer shares no code with ours: byte for byte the same document."""
    claims = forge.claims_of(P.confirmation())
    payload = documents.write("confirmation", claims)
    typ = documents.typ_of("confirmation")
    assert jws.sign(typ, P.issuer_key.kid, payload, P.issuer_key._private) == P.confirmation()


def test_a_document_shows_its_name_and_id_only() -> None:
    """M8, G18: no claims in a log or traceback by accident."""
    claims = forge.claims_of(P.confirmation())
    read = documents.read("confirmation", claims["iss"], forge.compact(claims), "t")
    assert repr(read) == f"Document(confirmation {claims['jti']})"
