"""What is a check-in: nonce before signature, signature before anything else (PROTOCOL sections 1 and 6; T14, T20)."""

import json
import secrets
from typing import Any

import pytest

from client.publisher import Publisher
from kmshost.site import ADDRESS, PRODUCT
from volact import signing
from volact.kmshost import checkins, nonces
from volact.kmshost.checkins import CheckIn, Frame, Sent
from volact.protocol import ids, jws, machine
from volact.protocol.problems import Refusal
from world import NOW, facts, new_id

KEY = b"k" * 32
PUBLISHER = Publisher(iat=NOW)
OTHER = Publisher(iat=NOW)
HOST = signing.generate().kid
FRAME = Frame(PUBLISHER.pub, True, (HOST,), KEY, NOW)
SIGNER = signing.generate()


def nonce(now: int = NOW, host: str = HOST) -> str:
    return nonces.make(KEY, host, now, secrets.token_bytes(8))


def claims(**more: Any) -> dict[str, Any]:
    return {
        "pub": PUBLISHER.pub,
        "lab": True,
        "iat": NOW,
        "jti": new_id(),
        "sub": SIGNER.kid,
        "aud": HOST,
        "prd": PRODUCT,
        "nonce": nonce(),
        "req": new_id(),
        "fp": machine.fingerprint(PUBLISHER.pub, PRODUCT, facts(1)),
        "prev": None,
        "state": 2,
        "minutes": 60,
        "vm": False,
        **more,
    }


def sent(members: dict[str, Any] | None = None) -> Sent:
    bundle: dict[str, Any] = SIGNER.bundle("checkin", claims() if members is None else members)
    return Sent(str(bundle["token"]), dict(bundle["jwk"]))


def sent_raw(payload: bytes) -> Sent:
    """A payload of these very bytes, signed."""
    return Sent(SIGNER.sign_payload("checkin", payload), SIGNER.jwk.members())


def full(members: dict[str, Any]) -> dict[str, Any]:
    return {"v": 1, "iss": SIGNER.kid, **members}


def open_one(one: Sent) -> CheckIn | Refusal:
    (found,) = checkins.open_all([(one, ADDRESS)], FRAME)
    return found


def code(one: Sent) -> str:
    found = open_one(one)
    return found.code if isinstance(found, Refusal) else "opened"


def with_bad_signature(one: Sent) -> Sent:
    head, payload, signature = one.token.split(".")
    other = "A" if signature[5] != "A" else "B"
    return Sent(f"{head}.{payload}.{signature[:5]}{other}{signature[6:]}", one.jwk)


def test_a_good_one() -> None:
    members = claims()
    found = open_one(sent(members))
    assert isinstance(found, CheckIn)
    assert found.address == ADDRESS
    assert found.document.claims == full(members)


# --- the order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [-1, 301])
def test_a_bad_nonce_is_seen_before_the_signature_is_looked_at(age: int) -> None:
    assert code(with_bad_signature(sent(claims(nonce=nonce(NOW - age))))) == "nonce-refused"
    assert code(with_bad_signature(sent(claims(nonce=nonce(host="A" * 43))))) == "nonce-refused"
    assert code(sent(claims(nonce=nonce(NOW - age)))) == "nonce-refused"


@pytest.mark.parametrize("age", [0, 300])
def test_a_good_nonce_does_not_help_a_bad_signature(age: int) -> None:
    assert code(with_bad_signature(sent(claims(nonce=nonce(NOW - age))))) == "document-refused"


def test_nor_does_a_bad_nonce_let_the_key_be_looked_at() -> None:
    bad = sent(claims(nonce="A" * 43))
    assert code(Sent(bad.token, {})) == "nonce-refused"
    assert code(Sent(bad.token, signing.generate().jwk.members())) == "nonce-refused"


@pytest.mark.parametrize("value", [[], {}, ["x"], 7, None, True])
def test_a_nonce_that_is_no_text_is_none(value: object) -> None:
    payload = jws.write_json(full(claims(nonce=value)))
    assert code(sent_raw(payload)) == "nonce-refused"


def test_of_many_each_has_its_own_answer() -> None:
    good, late, broken = (
        sent(),
        sent(claims(nonce=nonce(NOW - 301))),
        with_bad_signature(sent()),
    )
    found = checkins.open_all(
        [(one, str(n)) for n, one in enumerate([late, good, broken, good, late])], FRAME
    )
    codes = [one.code if isinstance(one, Refusal) else one.address for one in found]
    assert codes == ["nonce-refused", "1", "document-refused", "3", "nonce-refused"]
    assert checkins.open_all([], FRAME) == []


# --- the nonce in the bytes -------------------------------------------------------------------------------------


def test_the_nonce_is_found_however_the_json_is_written() -> None:
    members = full(claims())
    for payload in (
        json.dumps(members),  # blanks behind : and ,
        json.dumps(members, indent=2),
        json.dumps(members, separators=(" ,\n", "\t: ")),
        json.dumps(dict(reversed(members.items())), separators=(",", ":")),
        json.dumps(members, separators=(",", ":")).replace('"nonce"', '"n\\u006fnce"'),
        json.dumps(members, separators=(",", ":")).replace(
            f'"{members["nonce"]}"', f'"\\u{ord(members["nonce"][0]):04x}{members["nonce"][1:]}"'
        ),
    ):
        assert code(sent_raw(payload.encode())) == "opened", payload


def test_a_members_name_inside_another_claim_misleads_nobody() -> None:
    assert code(sent(claims(name=f'"nonce":"{"A" * 43}"'))) == "opened"
    unknown = json.dumps({"other": {"nonce": "A" * 43}, **full(claims())}, separators=(",", ":"))
    assert code(sent_raw(unknown.encode())) == "opened"


def test_a_good_nonce_in_another_claim_does_not_help() -> None:
    decoy = {"other": {"nonce": nonce()}, **full(claims(nonce=nonce(NOW - 301)))}
    assert code(sent_raw(json.dumps(decoy, separators=(",", ":")).encode())) == "nonce-refused"


@pytest.mark.parametrize(
    "value", [None, 7, True, [], {}, "", "A" * 42, "A" * 43, "A" * 44, "A" * 201, "\u00e4" * 43], ids=repr
)
def test_what_is_no_nonce(value: object) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        payload = json.dumps(full(claims(nonce=value)), separators=separators)
        assert code(sent_raw(payload.encode())) == "nonce-refused"


def test_a_missing_nonce_is_refused() -> None:
    members = full(claims())
    del members["nonce"]
    assert code(sent_raw(jws.write_json(members))) == "nonce-refused"


def test_a_nonce_with_something_behind_it_is_refused() -> None:
    """Its first 43 characters are good, and all of it is what was signed."""
    assert code(sent(claims(nonce=nonce() + "A"))) == "nonce-refused"


# --- what it says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": "A" * 43},
        {"aud": PUBLISHER.pub},
        {"pub": OTHER.pub},
        {"lab": False},
        {"sub": "A" * 43},
        {"must": ["colour"], "colour": "red"},
        {"must": "prd"},
        {"prd": "No Product"},
        {"prd": ["com.example.cad"]},
        {"req": "A" * 21},
        {"req": None},
        {"fp": None},
        {"fp": {"other": "AAAAAAAAAAA"}},
        {"fp": {"uuid": "AAA"}},
        {"prev": "x"},
        {"state": 7},
        {"state": -1},
        {"state": True},
        {"minutes": -1},
        {"minutes": 2**53},
        {"vm": 1},
        {"name": ""},
        {"name": "n" * 201},
        {"iat": "now"},
        {"jti": 1},
    ],
)
def test_a_wrong_claim_refuses(wrong: dict[str, Any]) -> None:
    found = open_one(sent_raw(jws.write_json(full(claims(**wrong)))))
    assert isinstance(found, Refusal)
    assert found.code == "document-refused"
    assert found.detail


def test_a_must_that_is_known_and_an_unknown_member_are_taken() -> None:
    assert code(sent_raw(jws.write_json(full(claims(must=["prd", "fp"], colour="red"))))) == "opened"


def test_the_iat_is_the_clients_own_matter() -> None:
    """PROTOCOL section 8: a client's clock refuses nothing."""
    for iat in (0, NOW - 10**8, NOW + 10**8):
        assert code(sent(claims(iat=iat))) == "opened"


def test_another_documents_type_is_refused() -> None:
    for name in ("request", "host", "usage"):
        token = SIGNER.sign_payload(name, jws.write_json(full(claims())))
        assert code(Sent(token, SIGNER.jwk.members())) == "document-refused"


# --- keys and garbage -------------------------------------------------------------------------------------------


def test_the_key_must_be_a_point_and_the_signers() -> None:
    good = sent()
    off_the_curve = {**good.jwk, "y": ids.b64u(bytes(31) + b"\1")}
    wrong: tuple[Any, ...] = (
        off_the_curve,
        {**good.jwk, "x": "A" * 43, "y": "A" * 43},
        signing.generate().jwk.members(),
        {**good.jwk, "kid": good.jwk["x"]},
        {**good.jwk, "crv": "P-384"},
        {name: value for name, value in good.jwk.items() if name != "y"},
        {**good.jwk, "x": 7},
        {},
        [],
        None,
    )
    for jwk in wrong:
        assert code(Sent(good.token, jwk)) == "document-refused"


def test_a_key_off_the_curve_whose_thumbprint_is_named() -> None:
    jwk = ids.Jwk(ids.b64u(bytes(31) + b"\1"), ids.b64u(bytes(31) + b"\1"))
    members = {**full(claims()), "iss": jwk.thumbprint(), "sub": jwk.thumbprint()}
    header = f'{{"alg":"ES256","kid":"{jwk.thumbprint()}","typ":"volact-checkin+jwt"}}'
    token = ".".join(
        (ids.b64u(header.encode()), ids.b64u(jws.write_json(members)), ids.b64u(secrets.token_bytes(64)))
    )
    assert code(Sent(token, jwk.members())) == "document-refused"


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "...", "a.b.c", "A" * 9000, "\u00e4.b.c", None, 7, [], {}, b"a.b.c"],
    ids=lambda token: repr(token)[:20],
)
def test_garbage_is_refused(token: object) -> None:
    assert code(Sent(token, SIGNER.jwk.members())) == "document-refused"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'"x"', b"1", b"null", b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"[" * 5000, b"{}"]
)
def test_a_payload_that_is_no_check_in_has_no_good_nonce(payload: bytes) -> None:
    assert code(sent_raw(payload)) == "nonce-refused"


def test_a_good_nonce_before_a_payload_that_is_no_json() -> None:
    assert code(sent_raw(b'"nonce":"' + nonce().encode() + b'"')) == "document-refused"


# --- the same content -------------------------------------------------------------------------------------------


def test_what_a_repetition_has_in_common() -> None:
    base = claims(name="pc-17")

    def digest(**more: Any) -> str:
        found = open_one(sent({**base, **more}))
        assert isinstance(found, CheckIn)
        return found.digest

    same = digest()
    assert digest(nonce=nonce(NOW - 60), jti=new_id(), iat=NOW + 5, state=1, minutes=3) == same
    assert digest(req=new_id()) == same  # the id is compared beside it
    others = [
        digest(prd="com.example.other"),
        digest(fp={}),
        digest(prev=new_id()),
        digest(vm=True),
        digest(name="pc-18"),
    ]
    assert len({same, *others}) == 6
    without = {name: value for name, value in base.items() if name != "name"}
    nameless = open_one(sent(without))
    assert isinstance(nameless, CheckIn)
    assert nameless.digest != same
