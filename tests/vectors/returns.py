"""Returns and their receipts (PROTOCOL sections 2 and 7)."""

from __future__ import annotations

from vectors.cases import CAD_PUBLISHER as P
from vectors.cases import MALLORY, broken_bundle, case, pinned, refused, self_keyed
from vectors.forge import DROP, JSON, MILL, ident

BAD = "missing or not what it must be"


def good_returns() -> list[JSON]:
    asked = self_keyed(P.give_back(), P.machine.jwk)
    return [
        case("return-bundle", "a return, with nothing besides", {"as": "request", "carried": True}, asked),
        case(
            "return-by-file",
            "a return that was written for a medium",
            {"as": "request", "carried": True},
            self_keyed(P.give_back({"file": True}), P.machine.jwk),
        ),
        case("receipt", "a receipt", pinned("receipt"), P.bundle("receipt")),
        case("answer-receipt", "the answer to a return", pinned("receipt", ask=asked), P.bundle("receipt")),
    ]


def returns() -> list[JSON]:
    return [*_requests(), *_receipts(), *_answers()]


def _requests() -> list[JSON]:
    whole = {"as": "request", "carried": True}
    asked = self_keyed(P.give_back(), P.machine.jwk)
    rows: list[tuple[str, str, JSON, int, str]] = [
        (
            "return-with-proof",
            "a return with a key proof: the machine alone gives back",
            {**asked, "proof": P.proof(P.give_back())},
            9,
            "return comes without a key proof",
        ),
        (
            "return-with-usage",
            "a return with a usage statement",
            {**asked, "usage": self_keyed(P.usage(), P.host_key.jwk)},
            9,
            "with extend, and with nothing else",
        ),
        ("return-ref-null", "no confirmation named", _given({"ref": None}), 5, BAD),
        ("return-ref-thumbprint", "ref is no id", _given({"ref": P.machine.kid}), 5, BAD),
        ("return-ref-missing", "without ref", _given({"ref": DROP}), 5, BAD),
        ("return-wrong-op", "an operation that there is not", _given({"op": "returned"}), 5, BAD),
        ("return-file-text", "file is no truth value", _given({"file": "yes"}), 5, "file is not what"),
        ("return-file-1", "file is a number", _given({"file": 1}), 5, "file is not what"),
        (
            "return-for-another-machine",
            "signed by another machine's own key",
            self_keyed(P.give_back({"sub": P.machine.kid}, by=MALLORY), MALLORY.jwk),
            5,
            "sub is not its signer",
        ),
        (
            "return-kid-forged",
            "kid names the machine, another signed",
            self_keyed(
                P.give_back({"sub": P.machine.kid, "iss": P.machine.kid}, by=MALLORY, kid=P.machine.kid),
                P.machine.jwk,
            ),
            4,
            "does not fit",
        ),
    ]
    return [case(name, why, whole, given, refused(step, detail)) for name, why, given, step, detail in rows]


def _given(change: JSON) -> JSON:
    return self_keyed(P.give_back(change), P.machine.jwk)


def _receipts() -> list[JSON]:
    rows: list[tuple[str, str, JSON]] = [
        ("op-activate", "a receipt for an activation", {"op": "activate"}),
        ("op-missing", "without op", {"op": DROP}),
        ("act-missing", "without the activation", {"act": DROP}),
        ("ref-missing", "without ref", {"ref": DROP}),
        ("req-missing", "without req", {"req": DROP}),
        ("key-missing", "without the key", {"key": DROP}),
        ("act-thumbprint", "act is no id", {"act": P.machine.kid}),
    ]
    made = [
        broken_bundle(f"receipt-{name}", why, "receipt", 5, BAD, change=change) for name, why, change in rows
    ]
    return [
        *made,
        broken_bundle(
            "receipt-by-machine", "signed by the machine", "receipt", 3, "another key", by=P.machine
        ),
        broken_bundle(
            "receipt-product-beyond",
            "for a product that is not its signer's",
            "receipt",
            9,
            "a product beyond",
            change={"prd": "com.other.tool"},
        ),
    ]


def _answers() -> list[JSON]:
    asked = pinned("receipt", ask=self_keyed(P.give_back(), P.machine.jwk))
    older = ident("an older return")
    rows: list[tuple[str, str, JSON, str]] = [
        ("other-machine", "another machine's", {"sub": MALLORY.kid}, "sub is not"),
        ("other-product", "for another product", {"prd": MILL}, "prd is not"),
        ("other-key", "for another key", {"key": MALLORY.kid}, "key is not"),
        ("other-ref", "a receipt for another return", {"ref": older}, "ref is not"),
        ("other-request", "the answer to another request", {"req": older}, "req is not"),
        ("replayed", "the receipt of an older return", {"req": older, "ref": older}, "req is not"),
    ]
    made = [
        case(f"answer-receipt-{name}", why, asked, P.bundle("receipt", change), refused(9, detail))
        for name, why, change, detail in rows
    ]
    activation = pinned("receipt", ask=self_keyed(P.request({"jti": ident("a return")}), P.machine.jwk))
    return [
        *made,
        case(
            "answer-receipt-to-activation",
            "a receipt, where an activation was asked for",
            activation,
            P.bundle("receipt"),
            refused(9, "op is not"),
        ),
    ]
