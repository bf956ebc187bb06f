"""Steps 1 to 4: size, form, header, typ, key, signature (PROTOCOL section 1)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from vectors.cases import CAD_PUBLISHER as P
from vectors.cases import (
    broken_bundle,
    case,
    pinned,
    refused,
    self_keyed,
)
from vectors.forge import (
    ALPHABET,
    JSON,
    ORDER,
    VAMT,
    Key,
    b64,
    compact,
    thumbprint,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1


def headers() -> list[JSON]:
    kid, typ = P.issuer_key.kid, "volact-confirmation+jwt"
    good = {"alg": "ES256", "kid": kid, "typ": typ}
    exactly = "exactly alg, kid and typ"
    members = {
        "jwk": P.issuer_key.jwk,
        "jku": "https://evil.example/keys",
        "x5u": "https://evil.example/chain",
        "x5c": ["AAAA"],
        "x5t": "A" * 27,
        "crit": ["exp"],
        "b64": False,
        "zip": "DEF",
        "cty": "JWT",
        "enc": "A128GCM",
        "nonce": "1",
    }
    rows: list[tuple[str, str, JSON | bytes, str]] = [
        (f"header-{name}-member", f"the header has a further member {name}", {**good, name: value}, exactly)
        for name, value in members.items()
    ]
    names = {"": "empty", "None": "none-capital", "es256": "es256-lower-case"}
    rows += [
        (
            f"header-alg-{names.get(alg, alg.lower())}",
            f"alg is {alg or 'empty'}",
            {**good, "alg": alg},
            "not ES256",
        )
        for alg in ("none", "None", "HS256", "ES384", "ES256K", "RS256", "PS256", "EdDSA", "es256", "")
    ]
    rows += [
        (
            f"header-no-{name}",
            f"the header lacks {name}",
            {k: v for k, v in good.items() if k != name},
            exactly,
        )
        for name in good
    ]
    rows += [
        ("header-alg-null", "alg is null", {**good, "alg": None}, "not ES256"),
        ("header-alg-array", "alg is an array", {**good, "alg": ["ES256"]}, "not ES256"),
        ("header-kid-number", "kid is a number", {**good, "kid": 1}, "kid or typ"),
        ("header-kid-short", "kid has 42 characters", {**good, "kid": kid[:-1]}, "kid or typ"),
        ("header-kid-line-end", "kid ends with a line end", {**good, "kid": kid + "\n"}, "kid or typ"),
        ("header-typ-null", "typ is null", {**good, "typ": None}, "kid or typ"),
        ("header-duplicate-alg", "alg stands twice", compact(good)[:-1] + b',"alg":"ES256"}', "stands twice"),
        (
            "header-alg-none-then-es256",
            "alg twice, none first",
            b'{"alg":"none",' + compact(good)[1:],
            "stands twice",
        ),
        (
            "header-bom",
            "the header begins with a byte order mark",
            b"\xef\xbb\xbf" + compact(good),
            "not JSON",
        ),
        ("header-not-json", "the header is no JSON", compact(good)[:-1], "not JSON"),
        ("header-array", "the header is an array", compact([good]), "not a JSON object"),
        ("header-empty", "the header has no bytes", b"", "not JSON"),
        ("header-empty-object", "the header has no members", {}, exactly),
        ("header-trailing-bytes", "a byte behind the header's JSON", compact(good) + b"x", "not JSON"),
        ("header-not-utf-8", "the header is not UTF-8", compact(good)[:-2] + b'\xff"}', "not UTF-8"),
        (
            "header-open-string",
            "nested, with a string of escaped quotes and no end",
            b'[[[[[[[[["' + b'\\"' * 2500,
            "nested more than 8",
        ),
        ("header-nested", "the header is 2000 arrays deep", b"[" * 2000 + b"]" * 2000, "nested more than 8"),
    ]
    return [
        broken_bundle(name, why, "confirmation", 1, detail, header=header)
        for name, why, header, detail in rows
    ]


def _text(name: str, why: str, change: Callable[[str], object], detail: str) -> JSON:
    bundle = P.bundle("confirmation")
    bundle["token"] = change(bundle["token"])
    return case(name, why, pinned("confirmation"), bundle, refused(1, detail))


def _with_spare_bits(part: str) -> str:
    """The same bytes, with a bit set behind the last one."""
    return part[:-1] + ALPHABET[ALPHABET.index(part[-1]) | 1]


def _of_length(kind: str, length: int) -> str:
    """A token of `kind` with exactly `length` characters, filled up by an unknown claim and blanks in the header."""
    header = base64.urlsafe_b64decode(P.write(kind).split(".")[0] + "==")
    blank = len(P.write(kind, {"fill": ""}))
    fill = (length - blank) * 3 // 4
    return next(
        text
        for n in range(fill - 4, fill + 5)
        for blanks in range(3)
        if len(text := P.write(kind, {"fill": "x" * n}, header=header + b" " * blanks)) == length
    )


def forms() -> list[JSON]:
    def parts(text: str) -> list[str]:
        return text.split(".")

    canonical, three, not_b64 = "not canonical base64url", "three parts", "base64url"
    return [
        _text("padding-signature", "the signature is padded", lambda t: t + "==", not_b64),
        _text("padding-header", "the header is padded", lambda t: t.replace(".", "=.", 1), not_b64),
        _text("noncanonical-last-char", "spare bits set behind the signature", _with_spare_bits, canonical),
        _text(
            "noncanonical-last-char-header",
            "spare bits set behind the header",
            lambda t: ".".join(
                [_with_spare_bits(b64(base64.urlsafe_b64decode(parts(t)[0] + "==") + b" ")), *parts(t)[1:]]
            ),
            canonical,
        ),
        _text(
            "standard-base64",
            "+ and / instead of - and _",
            lambda t: t.replace("-", "+").replace("_", "/"),
            not_b64,
        ),
        _text("blank-before", "a blank before the token", lambda t: " " + t, not_b64),
        _text("blank-inside", "a blank inside the payload", lambda t: t[:200] + " " + t[200:], not_b64),
        _text("line-end-behind", "a line end behind the token", lambda t: t + "\n", not_b64),
        _text("nul-behind", "a zero byte behind the token", lambda t: t + "\0", not_b64),
        _text(
            "trailing-bytes", "a further byte behind the signature", lambda t: t + "AA", "64 bytes|base64url"
        ),
        _text("trailing-part", "a fourth part", lambda t: t + ".AAAA", three),
        _text("trailing-dot", "a dot behind the token", lambda t: t + ".", three),
        _text("two-parts", "no signature part", lambda t: t.rpartition(".")[0], three),
        _text("one-part", "one part", lambda t: parts(t)[1], three),
        _text("empty-token", "nothing", lambda _: "", three),
        _text("only-dots", "two dots", lambda _: "..", "64 bytes"),
        _text(
            "not-ascii", "a letter that looks like an ASCII one", lambda t: t.replace("e", "\u0435", 1), three
        ),
        _text(
            "json-serialization",
            "JWS JSON form instead of compact",
            lambda t: {"payload": parts(t)[1]},
            "is a text",
        ),
        _text("token-null", "null", lambda _: None, "is a text"),
        _text("jwe-five-parts", "five parts, as JWE", lambda t: t + ".AAAA.AAAA", three),
        _text(
            "signature-empty", "the signature part is empty", lambda t: t.rpartition(".")[0] + ".", "64 bytes"
        ),
        _text(
            "token-8193-bytes",
            "a byte over 8 KiB",
            lambda _: _of_length("confirmation", 8193),
            "larger than 8192",
        ),
        case(
            "product-32769-bytes",
            "a byte over 32 KiB, the limit of delegation, root, product and host documents",
            pinned("product"),
            P.bundle("product") | {"token": _of_length("product", 32769)},
            refused(1, "larger than 32768"),
        ),
    ]


def good_sizes() -> list[JSON]:
    text = "exactly the limit is good"
    return [
        case(f"{kind}-{size}-bytes", text, pinned(kind), P.bundle(kind) | {"token": _of_length(kind, size)})
        for kind, size in (("confirmation", 8192), ("product", 32768))
    ]


def _half(r: int | None = None, s: int | None = None) -> Callable[[bytes], bytes]:
    return lambda good: b"".join(
        part if number is None else number.to_bytes(32, "big")
        for number, part in ((r, good[:32]), (s, good[32:]))
    )


def signatures() -> list[JSON]:
    out, unfit = "out of range", "does not fit"
    high = 2**256 - 1
    rows: list[tuple[str, str, Callable[[bytes], bytes], int, str]] = [
        ("r-zero", "r is 0", _half(r=0), 4, out),
        ("s-zero", "s is 0", _half(s=0), 4, out),
        ("r-and-s-zero", "r and s are 0 (CVE-2022-21449)", _half(0, 0), 4, out),
        ("r-equals-n", "r is the order of the curve", _half(r=ORDER), 4, out),
        ("s-equals-n", "s is the order of the curve", _half(s=ORDER), 4, out),
        ("r-and-s-equal-n", "r and s are the order", _half(ORDER, ORDER), 4, out),
        ("r-all-ones", "r is 2^256-1", _half(r=high), 4, out),
        ("s-all-ones", "s is 2^256-1", _half(s=high), 4, out),
        ("r-and-s-one", "r and s are 1", _half(1, 1), 4, unfit),
        ("r-and-s-swapped", "r and s are swapped", lambda good: good[32:] + good[:32], 4, unfit),
        (
            "signature-bit",
            "one bit of the signature is wrong",
            lambda good: good[:-1] + bytes([good[-1] ^ 1]),
            4,
            unfit,
        ),
        (
            "signature-der",
            "the signature is DER, not r and s",
            lambda good: b"\x30\x44\x02\x20" + good,
            1,
            "64 bytes",
        ),
        ("signature-63-bytes", "a byte of the signature is missing", lambda good: good[:-1], 1, "64 bytes"),
        (
            "signature-65-bytes",
            "the signature has a zero byte before it",
            lambda good: b"\0" + good,
            1,
            "64 bytes",
        ),
        ("signature-96-bytes", "the length of ES384's", lambda good: good + good[:32], 1, "64 bytes"),
    ]
    made = [
        broken_bundle(name, why, "confirmation", step, detail, signature=change)
        for name, why, change, step, detail in rows
    ]
    good = P.confirmation().split(".")
    other = P.confirmation({"jti": "A" * 22}).split(".")
    mixed = {
        "payload-of-another": ("the payload of another document", [good[0], other[1], good[2]]),
        "signature-of-another": ("the signature of another document", [*good[:2], other[2]]),
        "header-blank-added": (
            "a blank put into the signed header",
            [b64(base64.urlsafe_b64decode(good[0] + "==") + b" "), *good[1:]],
        ),
    }
    for name, (why, parts) in mixed.items():
        bundle = P.bundle("confirmation") | {"token": ".".join(parts)}
        made.append(case(name, why, pinned("confirmation"), bundle, refused(4, unfit)))
    return made


def good_signatures() -> list[JSON]:
    def mirrored(good: bytes) -> bytes:
        return good[:32] + (ORDER - int.from_bytes(good[32:], "big")).to_bytes(32, "big")

    bundle = P.bundle("confirmation", signature=mirrored)
    return [case("s-mirrored", "n-s verifies as s does", pinned("confirmation"), bundle)]


def keys() -> list[JSON]:
    """Step 3: which key."""
    machine, text = P.machine, P.request()
    off = b64(
        (int.from_bytes(base64.urlsafe_b64decode(machine.jwk["y"] + "="), "big") ^ 1).to_bytes(32, "big")
    )
    zero, prime = "A" * 43, b64(PRIME.to_bytes(32, "big"))
    spare = _with_spare_bits(machine.jwk["x"])
    exactly, letters = "exactly kty, crv, x and y", "43 characters"
    rows: list[tuple[str, str, object, str]] = [
        ("jwk-of-another", "the jwk is not the key that kid names", P.host_key.jwk, "another key"),
        ("jwk-private", "the jwk has a private member d", {**machine.jwk, "d": zero}, exactly),
        ("jwk-further-member", "the jwk has a member kid", {**machine.jwk, "kid": machine.kid}, exactly),
        ("jwk-no-y", "y is missing", {k: v for k, v in machine.jwk.items() if k != "y"}, exactly),
        ("jwk-null", "the jwk is null", None, exactly),
        ("jwk-p-384", "the curve is P-384", {**machine.jwk, "crv": "P-384"}, "curve P-256"),
        (
            "jwk-oct",
            "kty is oct: a public key as an HMAC secret",
            {**machine.jwk, "kty": "oct"},
            "curve P-256",
        ),
        ("jwk-x-number", "x is a number", {**machine.jwk, "x": 1}, letters),
        ("jwk-x-42-characters", "x has 42 characters", {**machine.jwk, "x": machine.jwk["x"][:-1]}, letters),
        ("jwk-x-padded", "x is padded", {**machine.jwk, "x": machine.jwk["x"] + "="}, letters),
    ]
    made = [
        case(n, why, {"as": "request"}, {"token": text, "jwk": jwk}, refused(3, d)) for n, why, jwk, d in rows
    ]
    for name, why, x, y, detail in (
        ("point-off-curve", "the point is not on the curve", machine.jwk["x"], off, "not on the curve"),
        ("point-zero", "x and y are 0, as some write infinity", zero, zero, "not on the curve"),
        ("point-x-is-p", "x is the field's prime, 0 once more", prime, machine.jwk["y"], "not on the curve"),
        ("jwk-x-noncanonical", "spare bits set behind x", spare, machine.jwk["y"], "canonical"),
    ):
        jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        forged = Key("cad machine")
        forged.kid = thumbprint(x, y)
        made.append(
            case(
                name, why, {"as": "request"}, {"token": P.request(by=forged), "jwk": jwk}, refused(3, detail)
            )
        )
    made += [
        broken_bundle(
            "signed-by-another-key",
            "the signer is not the chain's",
            "confirmation",
            3,
            "another key",
            by=Key("mallory"),
        ),
        broken_bundle(
            "kid-of-the-issuer",
            "kid names the issuer, another key signed",
            "confirmation",
            4,
            "does not fit",
            by=Key("mallory"),
            kid=P.issuer_key.kid,
        ),
        case(
            "no-token",
            "a request without a token",
            {"as": "request"},
            {"jwk": machine.jwk},
            refused(1, "is a text"),
        ),
        case(
            "request-is-array",
            "an array instead of a request",
            {"as": "request"},
            [text],
            refused(1, "is a text"),
        ),
        case(
            "request-self-keyed-signature",
            "signed by another than its jwk",
            {"as": "request"},
            self_keyed(token("volact-request+jwt", P.host_key, {}, kid=machine.kid), machine.jwk),
            refused(4, "does not fit"),
        ),
    ]
    return made


FAMILIES = {
    "issuer": ("delegation", "product", "confirmation", "receipt", "statement", "status"),
    "host": ("host", "lease", "usage", "request"),
    "machine": ("request", "checkin", "key-proof"),
    "root": ("root", "delegation"),
    "vamt": ("cil", "request"),
}


def types() -> list[JSON]:
    """Step 2: every document of one signer in place of every other that the same key may sign."""
    made = []
    for family, kinds in FAMILIES.items():
        for given in kinds:
            for wanted in kinds:
                if given != wanted:
                    made.append(_in_place_of(family, given, wanted))
    typ = "volact-confirmation+jwt"
    for name, why, written in (
        ("typ-jwt", "typ is JWT", "JWT"),
        ("typ-upper-case", "typ in upper case", typ.upper()),
        ("typ-with-application", "typ with application/", "application/" + typ),
        ("typ-empty", "typ is empty", ""),
        ("typ-unknown", "typ of a document that there is not", "volact-ticket+jwt"),
    ):
        header = {"alg": "ES256", "kid": P.issuer_key.kid, "typ": written}
        made.append(broken_bundle(name, why, "confirmation", 2, "not a confirmation", header=header))
    return made


def _in_place_of(family: str, given: str, wanted: str) -> JSON:
    name, why = f"typ-{given}-as-{wanted}-of-{family}", f"a {given} document where a {wanted} is due"
    by = {"host": P.host_key, "machine": P.machine, "vamt": VAMT}.get(family)
    text = (
        P.write(given, by=by)
        if by
        else (P.issuer() if family == "root" and given == "delegation" else P.write(given))
    )
    expect = refused(2, f"not a {wanted}")
    if wanted in ("request", "checkin", "usage", "cil", "root"):
        key = {"host": P.host_key, "machine": P.machine, "root": P.roots[0], "vamt": VAMT}[family]
        verify = {"as": "root", "pin": P.pub, "roots": []} if wanted == "root" else {"as": wanted}
        return case(name, why, verify, self_keyed(text, key.jwk), expect)
    if wanted == "key-proof":
        return case(
            name, why, {"as": "key-proof", "key": P.machine.jwk, "pub": P.pub, "lab": False}, text, expect
        )
    bundle: JSON = {"token": text, "chain": P.chain(wanted), "roots": []}
    if family == "root":
        bundle = {"token": P.host_delegation(), "chain": [text], "roots": []}
    return case(name, why, pinned(wanted), bundle, expect)
