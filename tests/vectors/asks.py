"""Requests, check-ins, key proofs, answers and status bodies (PROTOCOL sections 2 and 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vectors.cases import CAD_PUBLISHER as P
from vectors.cases import (
    OTHER,
    case,
    pinned,
    refused,
    self_keyed,
)
from vectors.forge import (
    DAY,
    DROP,
    FP,
    JSON,
    MILL,
    START,
    VAMT,
    Key,
    b64,
    ident,
    sha,
    status_body,
)

if TYPE_CHECKING:
    pass

BAD = "missing or not what it must be"


def asks() -> list[JSON]:
    """Self-keyed documents: request, check-in, usage."""
    rows: list[tuple[str, str, JSON, int, str]] = [
        ("request-sub-not-iss", "request", {"sub": P.host_key.kid}, 5, "sub is not its signer"),
        ("request-aud-other", "request", {"aud": OTHER.pub}, 5, "aud is not the publisher"),
        ("request-aud-missing", "request", {"aud": DROP}, 5, BAD),
        ("request-op-unknown", "request", {"op": "steal"}, 5, BAD),
        ("request-op-remaining", "request", {"op": "remaining"}, 5, BAD),
        ("request-op-missing", "request", {"op": DROP}, 5, BAD),
        ("request-return-without-ref", "request", {"op": "return"}, 5, BAD),
        ("request-extend-without-ref", "request", {"op": "extend"}, 5, BAD),
        ("request-fp-missing", "request", {"fp": DROP}, 5, BAD),
        ("request-iss-other", "request", {"iss": P.host_key.kid}, 5, "iss is not the key"),
        ("checkin-sub-not-iss", "checkin", {"sub": P.host_key.kid}, 5, "sub is not its signer"),
        ("checkin-state-7", "checkin", {"state": 7}, 5, BAD),
        ("checkin-state-true", "checkin", {"state": True}, 5, BAD),
        ("checkin-vm-1", "checkin", {"vm": 1}, 5, BAD),
        ("checkin-prev-missing", "checkin", {"prev": DROP}, 5, BAD),
        ("checkin-prev-empty", "checkin", {"prev": ""}, 5, BAD),
        ("checkin-nonce-201", "checkin", {"nonce": "n" * 201}, 5, BAD),
        ("checkin-name-empty", "checkin", {"name": ""}, 5, "name is not what it must be"),
        ("usage-aud-other", "usage", {"aud": OTHER.pub}, 5, "aud is not the publisher"),
        ("usage-peaks-array", "usage", {"peaks": []}, 5, BAD),
        ("usage-peaks-product", "usage", {"peaks": {"*": 1}}, 5, BAD),
        (
            "usage-sources-text",
            "usage",
            {"sources": {"private": 1, "global": "2"}},
            5,
            "sources is not what it must be",
        ),
        ("usage-sources-half", "usage", {"sources": {"private": 1}}, 5, "sources is not what it must be"),
        ("cil-mode-unknown", "cil", {"mode": "part"}, 5, BAD),
        ("cil-seq-missing", "cil", {"seq": DROP}, 5, BAD),
        ("cil-rows-negative", "cil", {"rows": -1}, 5, BAD),
        ("cil-dig-short", "cil", {"dig": "A" * 42}, 5, BAD),
        ("cil-ref-empty", "cil", {"ref": ""}, 5, "ref is not what it must be"),
        ("cil-iss-other", "cil", {"iss": P.machine.kid}, 5, "iss is not the key"),
    ]
    made = []
    for name, kind, change, step, detail in rows:
        key = {"usage": P.host_key, "cil": VAMT}.get(kind, P.machine)
        given = self_keyed(P.write(kind, change), key.jwk)
        made.append(
            case(
                name,
                f"a {kind} with {change}".replace(repr(DROP), "no value"),
                {"as": kind},
                given,
                refused(step, detail),
            )
        )
    theirs = self_keyed(OTHER.request(), OTHER.machine.jwk)
    here = {"as": "request", "pub": P.pub, "lab": False}
    made.append(
        case(
            "request-of-another-publisher",
            "a request to another publisher",
            here,
            theirs,
            refused(6, "another publisher"),
        )
    )
    labs = self_keyed(P.request({"lab": True}), P.machine.jwk)
    made.append(case("request-lab", "a laboratory's request", here, labs, refused(6, "laboratory")))
    return made


def proofs() -> list[JSON]:
    """Key proofs: for which machine, operation, product, request and key."""
    request, mallory = P.request(), Key("mallory")
    verify = {
        "as": "key-proof",
        "key": P.product_key.jwk,
        "pub": P.pub,
        "lab": False,
        "request": self_keyed(request, P.machine.jwk),
    }
    other = P.request({"jti": ident("another request")})
    hosts = self_keyed(P.request({"op": "host"}, by=P.host_key), P.host_key.jwk)
    rows: list[tuple[str, str, JSON, str, int, str]] = [
        (
            "proof-other-machine",
            "sub is another machine",
            verify,
            P.proof(change={"sub": mallory.kid}),
            9,
            "another machine or key",
        ),
        (
            "proof-other-op",
            "for a host",
            verify,
            P.proof(change={"op": "host"}),
            9,
            "another operation or product",
        ),
        (
            "proof-other-product",
            "for another product",
            verify,
            P.proof(change={"prd": MILL}),
            9,
            "another operation or product",
        ),
        (
            "proof-other-digest",
            "for another request of this machine",
            verify,
            P.proof(other),
            9,
            "another request",
        ),
        (
            "proof-digest-of-token",
            "the digest goes over the whole token",
            verify,
            P.proof(change={"dig": b64(sha(request))}),
            9,
            "another request",
        ),
        ("proof-other-key", "signed by another product key", verify, P.proof(by=mallory), 3, "another key"),
        (
            "proof-kid-forged",
            "kid names the key, another signed",
            verify,
            P.proof(by=mallory, kid=P.product_key.kid),
            4,
            "does not fit",
        ),
        (
            "proof-aud-other",
            "to another publisher",
            verify,
            P.proof(change={"aud": OTHER.pub}),
            5,
            "aud is not the publisher",
        ),
        (
            "proof-pub-other",
            "of another publisher",
            verify,
            P.proof(change={"pub": OTHER.pub, "aud": OTHER.pub}),
            6,
            "another publisher",
        ),
        ("proof-lab", "a laboratory's", verify, P.proof(change={"lab": True}), 6, "laboratory"),
        ("proof-no-digest", "no digest", verify, P.proof(change={"dig": DROP}), 5, BAD),
        (
            "proof-op-return",
            "a return needs no proof and takes none",
            verify,
            P.proof(change={"op": "return"}),
            5,
            BAD,
        ),
        (
            "proof-remaining-for-activate",
            "a proof for the remaining count, for an activation",
            verify,
            P.remaining_proof(),
            9,
            "another operation or product",
        ),
        (
            "proof-of-host-for-machine",
            "a host's proof for a machine's request",
            verify,
            P.proof(hosts["token"], {"op": "host", "sub": P.host_key.kid}),
            9,
            "another operation or product",
        ),
        (
            "proof-request-key-other",
            "the request names another key",
            {**verify, "request": self_keyed(P.request({"key": mallory.kid}), P.machine.jwk)},
            P.proof(P.request({"key": mallory.kid})),
            9,
            "another machine or key",
        ),
        (
            "proof-request-pub-other",
            "the request is another publisher's",
            {**verify, "request": self_keyed(P.request({"pub": OTHER.pub, "aud": OTHER.pub}), P.machine.jwk)},
            P.proof(),
            6,
            "another publisher",
        ),
    ]
    asked = {member: value for member, value in verify.items() if member != "request"}
    end = START + 19 * DAY + 90 * DAY
    rows += [
        (
            "remaining-proof-for-activation",
            "an activation's proof for the remaining count",
            asked,
            P.proof(),
            9,
            "not for the remaining count",
        ),
        (
            "remaining-proof-90-d-1-s",
            "good for 90 d and 1 s",
            asked,
            P.remaining_proof({"exp": end + 1}),
            9,
            "too long",
        ),
        ("remaining-proof-no-exp", "without an end", asked, P.remaining_proof({"exp": DROP}), 5, BAD),
        (
            "remaining-proof-exp-before-iat",
            "ends before it begins",
            asked,
            P.remaining_proof({"exp": START}),
            5,
            "exp lies before iat",
        ),
    ]
    return [
        case(name, why, under, text, refused(step, detail)) for name, why, under, text, step, detail in rows
    ]


def answers() -> list[JSON]:
    """A good document that does not answer the ask."""
    mallory = Key("mallory")
    fp = {**FP, "board": "BBB"}
    request = {"ask": self_keyed(P.request(), P.machine.jwk)}
    checkin = {"ask": self_keyed(P.checkin(), P.machine.jwk)}
    asked = {"ask": {"token": P.remaining_proof(), "jwk": P.product_key.jwk}}
    rows: list[tuple[str, str, JSON, JSON, str]] = [
        ("confirmation", "other-machine", request, {"sub": mallory.kid}, "sub is not"),
        ("confirmation", "other-product", request, {"prd": MILL}, "prd is not"),
        ("confirmation", "other-fingerprint", request, {"fp": fp}, "fp is not"),
        ("confirmation", "other-request", request, {"req": ident("an older request")}, "req is not"),
        ("confirmation", "other-key", request, {"key": mallory.kid}, "key is not"),
        ("lease", "other-machine", checkin, {"sub": mallory.kid}, "sub is not"),
        ("lease", "other-request", checkin, {"req": ident("an older check-in")}, "req is not"),
        ("lease", "other-fingerprint", checkin, {"fp": fp}, "fp is not"),
        ("statement", "other-key", asked, {"sub": mallory.kid}, "sub is not"),
        ("statement", "other-product", asked, {"prd": MILL}, "prd is not"),
        ("statement", "other-request", asked, {"req": ident("an older ask")}, "req is not"),
    ]
    return [
        case(
            f"answer-{kind}-{name}",
            f"a good {kind} that answers another ask: {name}",
            pinned(kind, **ask),
            P.bundle(kind, change),
            refused(9, detail),
        )
        for kind, name, ask, change, detail in rows
    ]


def status_bodies() -> list[JSON]:
    body = status_body().decode()
    first, *rest = body.splitlines(keepends=True)
    verify, form, order = pinned("status-body"), "a line is not what it must be", "out of order"
    act, host = ident("x"), P.host_key.kid

    def given(text: str, change: JSON | None = None) -> dict[str, Any]:
        data = text.encode()
        return {
            "bundle": P.bundle("status", {"dig": b64(sha(data)), "len": len(data)} | (change or {})),
            "body": text,
        }

    rows = [
        (
            "body-byte-changed",
            "a byte of the body is another",
            given(body.replace("all", "new", 1), {"dig": b64(sha(body))}),
            "not the one that its head",
        ),
        (
            "body-longer",
            "a line more than the head says",
            given(body + rest[-1], {"dig": b64(sha(body)), "len": len(body)}),
            "not the one that its head",
        ),
        (
            "body-shorter",
            "a line less than the head says",
            given(first, {"len": len(body)}),
            "not the one that its head",
        ),
        (
            "body-too-long",
            "longer than any may be",
            given(body, {"len": 64 * 1024 * 1024 + 1}),
            "longer than 67108864",
        ),
        ("body-out-of-order", "lines not sorted", given("".join([*rest, first])), order),
        ("body-line-twice", "a line twice", given(first + first), order),
        (
            "body-id-twice",
            "an id twice, with other modes",
            given(f"host {host} all 1\nhost {host} new 1\n"),
            order,
        ),
        ("body-kind-unknown", "a kind that there is not", given(f"user {host} all 1\n"), form),
        ("body-act-new", "act with new", given(f"act {act} new 1\n"), form),
        ("body-machine-returned", "machine with returned", given(f"machine {host} returned 1\n"), form),
        ("body-act-id-43", "act with a thumbprint", given(f"act {host} all 1\n"), form),
        ("body-host-id-22", "host with 22 characters", given(f"host {act} all 1\n"), form),
        ("body-since-negative", "since below 0", given(f"host {host} all -1\n"), form),
        ("body-since-leading-zero", "since with a leading zero", given(f"host {host} all 01\n"), form),
        ("body-carriage-return", "CR LF", given(f"host {host} all 1\r\n"), form),
        ("body-two-blanks", "two blanks", given(f"host  {host} all 1\n"), form),
        ("body-no-last-line-end", "the last line has no end", given(body[:-1]), form),
        ("body-empty-line", "an empty line", given("\n" + body), form),
    ]
    made = [case(name, why, verify, value, refused(9, detail)) for name, why, value, detail in rows]
    broken = P.bundle("status", {"sub": OTHER.pub})
    return [
        *made,
        case(
            "status-sub-other",
            "a status list about another publisher",
            pinned("status"),
            broken,
            refused(9, "sub is not the publisher"),
        ),
    ]


def good_asks() -> list[JSON]:
    asked = {"as": "key-proof", "key": P.product_key.jwk, "pub": P.pub, "lab": False}
    request = self_keyed(P.request(), P.machine.jwk)
    host = self_keyed(P.request({"op": "host"}, by=P.host_key), P.host_key.jwk)
    hosts_proof = P.proof(host["token"], {"op": "host", "sub": P.host_key.kid})
    body = status_body().decode()
    return [
        case("request", "an activation's request", {"as": "request", "pub": P.pub, "lab": False}, request),
        case(
            "request-return",
            "a return",
            {"as": "request"},
            self_keyed(P.request({"op": "return", "ref": ident("r")}), P.machine.jwk),
        ),
        case("request-host", "a host's request", {"as": "request"}, host),
        case(
            "request-extend",
            "a request to extend a delegation",
            {"as": "request"},
            self_keyed(P.request({"op": "extend", "ref": ident("r")}, by=P.host_key), P.host_key.jwk),
        ),
        case("key-proof", "a key proof for a request", {**asked, "request": request}, P.proof()),
        case("key-proof-host", "a key proof for a host", {**asked, "request": host}, hosts_proof),
        case(
            "key-proof-remaining", "a key proof for the remaining count, for 90 d", asked, P.remaining_proof()
        ),
        case("checkin", "a check-in", {"as": "checkin"}, self_keyed(P.checkin(), P.machine.jwk)),
        case(
            "checkin-with-prev",
            "a check-in that names its last lease, without a name",
            {"as": "checkin"},
            self_keyed(P.checkin({"prev": ident("lease"), "name": DROP, "state": 6}), P.machine.jwk),
        ),
        case("usage", "a usage statement", {"as": "usage"}, self_keyed(P.usage(), P.host_key.jwk)),
        case("cil", "the head of a computer list", {"as": "cil"}, self_keyed(P.cil(), VAMT.jwk)),
        case(
            "cil-answer",
            "the head of a full list that answers another",
            {"as": "cil"},
            self_keyed(P.cil({"mode": "full", "ref": ident("list asked")}), VAMT.jwk),
        ),
        case(
            "answer-confirmation",
            "the answer to a request",
            pinned("confirmation", ask=request),
            P.bundle("confirmation"),
        ),
        case(
            "answer-lease",
            "the answer to a check-in",
            pinned("lease", ask=self_keyed(P.checkin(), P.machine.jwk)),
            P.bundle("lease"),
        ),
        case(
            "answer-statement",
            "the answer to a proof",
            pinned("statement", ask={"token": P.remaining_proof(), "jwk": P.product_key.jwk}),
            P.bundle("statement"),
        ),
        case(
            "status-body",
            "a status list and its body",
            pinned("status-body"),
            {"bundle": P.bundle("status"), "body": body},
        ),
        case(
            "status-body-empty",
            "a list without entries has no bytes",
            pinned("status-body"),
            {"bundle": P.bundle("status", {"dig": b64(sha("")), "len": 0}), "body": ""},
        ),
    ]
