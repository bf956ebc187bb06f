"""Steps 5 and 6: JSON, claims, publishers, laboratories (PROTOCOL sections 1 and 9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectors.cases import CAD_PUBLISHER as P
from vectors.cases import (
    LAB,
    OTHER,
    broken_bundle,
    case,
    pinned,
    refused,
)
from vectors.forge import (
    CAD,
    DAY,
    DROP,
    FP,
    JSON,
    MILL,
    START,
    claims_of,
    compact,
)

if TYPE_CHECKING:
    pass

BIG = 2**53
BAD = "missing or not what it must be"


def json_texts() -> list[JSON]:
    """A payload that is not the JSON that documents are made of; its signature is good."""
    good = compact(claims_of(P.confirmation()))
    open_end = good[:-1]

    def plus(member: str) -> bytes:
        return open_end + b"," + member.encode() + b"}"

    rows = [
        ("bom", "a byte order mark", b"\xef\xbb\xbf" + good, "not JSON"),
        ("utf-16", "UTF-16", good.decode().encode("utf-16-le"), "not JSON"),
        ("bad-utf-8", "a byte that is no UTF-8", open_end + b',"x":"\xff"}', "not UTF-8"),
        ("overlong-utf-8", "an overlong form", open_end + b',"x":"\xc0\xaf"}', "not UTF-8"),
        ("utf-8-surrogate", "a surrogate written as UTF-8", open_end + b',"x":"\xed\xa0\x80"}', "not UTF-8"),
        ("lone-surrogate", "a lone surrogate, escaped", plus('"x":"\\ud800"'), "lone surrogate"),
        ("lone-low-surrogate", "a lone low surrogate", plus('"x":"\\udc00y"'), "lone surrogate"),
        ("lone-surrogate-in-name", "a lone surrogate in a name", plus('"\\ud800":1'), "lone surrogate"),
        ("surrogates-reversed", "low before high", plus('"x":"\\udc00\\ud800"'), "lone surrogate"),
        ("duplicate-member", "prd stands twice", plus(f'"prd":"{MILL}"'), "stands twice"),
        ("duplicate-member-escaped", "prd again, escaped", plus(f'"p\\u0072d":"{MILL}"'), "stands twice"),
        ("duplicate-member-unknown", "an unknown member twice", plus('"x":1,"x":1'), "stands twice"),
        ("duplicate-member-depth-2", "twice, one level down", plus('"x":{"y":1,"y":2}'), "stands twice"),
        ("duplicate-member-depth-3", "twice, two levels down", plus('"x":[{"y":1,"y":1}]'), "stands twice"),
        ("payload-fraction", "a fraction", plus('"x":1.5'), "fraction"),
        ("payload-fraction-zero", "1.0 is a fraction", plus('"x":1.0'), "fraction"),
        ("payload-exponent", "an exponent", plus('"x":1e3'), "fraction"),
        ("payload-exponent-upper", "1E0", plus('"x":1E0'), "fraction"),
        ("payload-nan", "NaN", plus('"x":NaN'), "fraction"),
        ("payload-infinity", "-Infinity", plus('"x":-Infinity'), "fraction"),
        ("integer-2^53", "an integer beyond 2^53-1", plus(f'"x":{BIG}'), "beyond 2^53-1"),
        ("integer-minus-2^53", "an integer below -(2^53-1)", plus(f'"x":-{BIG}'), "beyond 2^53-1"),
        ("integer-5000-digits", "an integer of 5000 digits", plus(f'"x":{"9" * 5000}'), "beyond 2^53-1"),
        ("integer-leading-zero", "a leading zero", plus('"x":01'), "not JSON"),
        ("integer-plus", "a plus sign", plus('"x":+1'), "not JSON"),
        ("nesting-9", "nested 9 deep", plus('"x":' + "[" * 8 + "]" * 8), "nested more than 8"),
        ("nesting-3000", "nested 3000 deep", plus('"x":' + "[" * 3000), "nested more than 8"),
        ("trailing-comma", "a comma before the end", open_end + b",}", "not JSON"),
        ("comment", "a comment", open_end + b"/* */}", "not JSON"),
        ("single-quotes", "single quotes", plus("'x':1"), "not JSON"),
        ("control-in-string", "a raw control character in a string", plus('"x":"\x01"'), "not JSON"),
        ("raw-line-end-in-string", "a raw line end in a string", plus('"x":"\n"'), "not JSON"),
        ("bad-escape", "an escape that there is not", plus('"x":"\\x41"'), "not JSON"),
        ("two-values", "two objects", good + good, "not JSON"),
        ("payload-trailing-nul", "a zero byte behind", good + b"\0", "not JSON"),
        ("payload-cut", "the last byte is missing", open_end, "not JSON"),
        ("payload-empty", "no bytes", b"", "not JSON"),
        ("payload-array", "an array", b"[" + good + b"]", "not a JSON object"),
        ("payload-null", "null", b"null", "not a JSON object"),
        ("payload-text", "a string", b'"x"', "not a JSON object"),
    ]
    return [
        broken_bundle(name, why, "confirmation", 5, detail, payload=data) for name, why, data, detail in rows
    ]


def good_json() -> list[JSON]:
    good = compact(claims_of(P.confirmation()))[:-1]
    texts = {
        "nesting-8": ("nested 8 deep is good", good + b',"x":[[[[[[[]]]]]]]}'),
        "nesting-in-strings": ("brackets in a string are no nesting", good + b',"x":"[[[[[[[[[[\\"{{{{"}'),
        "integer-2^53-1": (
            "the greatest and the least integer",
            good + b',"x":[9007199254740991,-9007199254740991]}',
        ),
        "unknown-member": ("unknown members are kept and ignored", good + b',"later":{"a":[1,true,null]}}'),
        "surrogate-pair": ("a pair of escaped surrogates is one character", good + b',"x":"\\ud83d\\ude00"}'),
        "blanks": ("JSON's own blanks", b" \t\r\n" + good.replace(b",", b" ,\n") + b" } \n"),
        "other-order": ("members in any order", compact(dict(sorted(claims_of(P.confirmation()).items())))),
    }
    return [
        case(name, why, pinned("confirmation"), P.bundle("confirmation", payload=data))
        for name, (why, data) in texts.items()
    ] + [
        case(
            "header-blanks-and-order",
            "a header in another order, with blanks",
            pinned("confirmation"),
            P.bundle(
                "confirmation",
                header=f'{{ "typ": "volact-confirmation+jwt", "kid":"{P.issuer_key.kid}", "alg":"ES256" }}'.encode(),
            ),
        ),
        case(
            "must-known",
            "must names claims that are known",
            pinned("confirmation"),
            P.bundle("confirmation", {"must": ["prd", "fp", "iss"]}),
        ),
        case(
            "empty-fingerprint",
            "{} is a fingerprint",
            pinned("confirmation"),
            P.bundle("confirmation", {"fp": {}}),
        ),
    ]


COMMON_BROKEN: list[tuple[str, JSON]] = [
    ("v-2", {"v": 2}),
    ("v-true", {"v": True}),
    ("v-missing", {"v": DROP}),
    ("pub-missing", {"pub": DROP}),
    ("pub-short", {"pub": "A" * 42}),
    ("lab-missing", {"lab": DROP}),
    ("lab-0", {"lab": 0}),
    ("iss-missing", {"iss": DROP}),
    ("iat-missing", {"iat": DROP}),
    ("iat-text", {"iat": "1800000000"}),
    ("iat-negative", {"iat": -1}),
    ("iat-true", {"iat": True}),
    ("jti-missing", {"jti": DROP}),
    ("jti-21-characters", {"jti": "A" * 21}),
    ("jti-blank", {"jti": "A" * 21 + " "}),
]
CLAIMS_BROKEN: list[tuple[str, str, JSON]] = [
    ("confirmation", "sub-missing", {"sub": DROP}),
    ("confirmation", "prd-upper-case", {"prd": "com.example.CAD"}),
    ("confirmation", "prd-65-characters", {"prd": "a" * 65}),
    ("confirmation", "prd-array", {"prd": [CAD]}),
    ("confirmation", "prd-double-dot", {"prd": "com..cad"}),
    ("confirmation", "key-missing", {"key": DROP}),
    ("confirmation", "act-43-characters", {"act": "A" * 43}),
    ("confirmation", "req-missing", {"req": DROP}),
    ("confirmation", "fp-missing", {"fp": DROP}),
    ("confirmation", "fp-array", {"fp": []}),
    ("confirmation", "fp-unknown-part", {"fp": {**FP, "mac": "AAA"}}),
    ("confirmation", "fp-part-too-long", {"fp": {"board": "AAAA"}}),
    ("confirmation", "fp-part-number", {"fp": {"board": 123}}),
    ("confirmation", "fp-part-not-base64url", {"fp": {"board": "A+A"}}),
    ("confirmation", "fp-part-empty", {"fp": {"board": ""}}),
    ("product", "edition-desktop", {"edition": "desktop"}),
    ("product", "name-empty", {"name": ""}),
    ("product", "name-201-characters", {"name": "x" * 201}),
    ("product", "pol-missing", {"pol": DROP}),
    ("product", "tls-5", {"tls": ["A" * 42 + letter for letter in "AEIMQ"]}),
    ("product", "tls-repeat", {"tls": ["A" * 43] * 2}),
    ("product", "url-null", {"url": None}),
    ("statement", "remaining-missing", {"remaining": DROP}),
    ("statement", "bought-negative", {"bought": -1}),
    ("statement", "activated-true", {"activated": True}),
    ("status", "dig-missing", {"dig": DROP}),
    ("status", "len-negative", {"len": -1}),
    ("host", "prd-star", {"prd": ["*"]}),
    ("host", "prd-text", {"prd": CAD}),
    ("host", "prd-repeat", {"prd": [CAD, CAD]}),
    ("lease", "exp-missing", {"exp": DROP}),
    ("lease", "cus-empty", {"cus": ""}),
    ("lease", "sver-one-number", {"sver": [1]}),
    ("lease", "sver-null", {"sver": None}),
    ("lease", "ren-text", {"ren": "7d"}),
    ("delegation", "rol-unknown", {"rol": "admin"}),
    ("delegation", "rol-missing", {"rol": DROP}),
    ("delegation", "prd-star-and-more", {"prd": ["*", CAD]}),
    ("delegation", "prd-repeat", {"prd": [CAD, CAD]}),
    ("delegation", "cus-missing", {"cus": DROP}),
    ("delegation", "cmax-missing", {"cmax": DROP}),
    ("delegation", "act-missing", {"act": DROP}),
    ("delegation", "min-ver-text", {"min_ver": {CAD: "2"}}),
    ("delegation", "min-ver-array", {"min_ver": []}),
    ("delegation", "cnf-missing", {"cnf": DROP}),
    ("delegation", "cnf-empty", {"cnf": {}}),
    ("delegation", "exp-missing", {"exp": DROP}),
]


def claims() -> list[JSON]:
    made = [
        broken_bundle(f"claim-{name}", f"confirmation with {name}", "confirmation", 5, BAD, change=change)
        for name, change in COMMON_BROKEN
    ]
    made += [
        broken_bundle(f"claim-{kind}-{name}", f"{kind} with {name}", kind, 5, BAD, change=change)
        for kind, name, change in CLAIMS_BROKEN
    ]
    private = {**P.host_key.jwk, "d": "A" * 43}
    rows: list[tuple[str, str, str, JSON, str]] = [
        (
            "iss-not-kid",
            "iss is not the key of the header",
            "confirmation",
            {"iss": P.host_key.kid},
            "iss is not the key",
        ),
        (
            "must-unknown",
            "must names a claim that nobody knows",
            "confirmation",
            {"must": ["seats"], "seats": 2},
            "must names",
        ),
        (
            "must-unknown-absent",
            "must names a claim that is not there",
            "confirmation",
            {"must": ["seats"]},
            "must names",
        ),
        (
            "must-not-of-this-document",
            "must names exp, which a confirmation has not",
            "confirmation",
            {"must": ["exp"], "exp": 1},
            "must names",
        ),
        ("must-text", "must is a text", "confirmation", {"must": "prd"}, "must is not"),
        ("must-number", "must holds a number", "confirmation", {"must": [1]}, "must is not"),
        ("must-repeat", "must names a claim twice", "confirmation", {"must": ["prd", "prd"]}, "must is not"),
        (
            "cnf-private",
            "cnf.jwk has a private member",
            "delegation",
            {"cnf": {"jwk": private}},
            "exactly kty",
        ),
        (
            "lease-exp-before-iat",
            "the lease ends before it begins",
            "lease",
            {"exp": START + 20 * DAY - 1},
            "exp lies before iat",
        ),
        (
            "delegation-exp-before-iat",
            "the delegation ends before it begins",
            "delegation",
            {"exp": START + 10 * DAY - 1},
            "exp lies before iat",
        ),
        (
            "host-sub-not-iss",
            "a host document about another host",
            "host",
            {"sub": P.machine.kid},
            "sub is not its signer",
        ),
    ]
    return made + [
        broken_bundle(name, why, kind, 5, detail, change=change) for name, why, kind, change, detail in rows
    ]


def publishers() -> list[JSON]:
    """Step 6: nothing crosses publishers."""
    made = [
        broken_bundle(
            f"pub-other-{kind}",
            f"a {kind} that names another publisher",
            kind,
            6,
            "another publisher",
            change={"pub": OTHER.pub},
        )
        for kind in ("confirmation", "product", "statement", "lease", "host", "delegation")
    ]
    made += [
        case(
            f"cross-publisher-{kind}",
            f"another publisher's own {kind}",
            pinned(kind),
            OTHER.bundle(kind),
            refused(8, "no known root key"),
        )
        for kind in ("confirmation", "product", "lease", "status")
    ]
    chain = P.bundle("confirmation") | {"chain": [P.issuer({"pub": OTHER.pub})]}
    made.append(
        case(
            "pub-other-issuer",
            "the delegation names another publisher",
            pinned("confirmation"),
            chain,
            refused(6, "another publisher"),
        )
    )
    mixed = OTHER.bundle("confirmation") | {"chain": P.chain("confirmation")}
    made.append(
        case(
            "cross-publisher-token",
            "another publisher's token under our chain",
            pinned("confirmation"),
            mixed,
            refused(3, "another key"),
        )
    )
    return made


def laboratory() -> list[JSON]:
    """Step 6, laboratory: nothing of one serves outside it, nothing from outside in it."""
    mixed = "laboratory"
    made = [
        broken_bundle(
            f"lab-{kind}",
            f"a {kind} that says lab under a root that is none",
            kind,
            6,
            mixed,
            change={"lab": True},
        )
        for kind in ("confirmation", "product", "lease", "status", "delegation")
    ]
    bundle = LAB.bundle("confirmation", {"lab": False})
    made.append(
        case(
            "lab-root-other-document",
            "a document outside a laboratory under its root",
            pinned("confirmation", LAB),
            bundle,
            refused(6, mixed),
        )
    )
    chain = P.bundle("confirmation") | {"chain": [P.issuer({"lab": True})]}
    made.append(
        case(
            "lab-issuer", "the issuer's delegation says lab", pinned("confirmation"), chain, refused(6, mixed)
        )
    )
    root2 = P.bundle("confirmation") | {"roots": [P.root(2, {"lab": True})]}
    made.append(
        case(
            "lab-root-2",
            "root document 2 turns into a laboratory's",
            pinned("confirmation"),
            root2,
            refused(6, mixed),
        )
    )
    return made
