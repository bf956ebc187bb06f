"""P6: the public page, as HTML through the app."""

import json
import re
from typing import Any

import pytest

from authority_site import Site
from volact.protocol import ids, qr, trust
from volact.web import phone
from web.visitor import Visitor, as_json, asked, drawn, photograph
from world import PRODUCT, claims_of, new_id, remaining, verified


def iid(bundle: dict[str, Any]) -> str:
    return ids.iid_of_request(trust.open_self_keyed(bundle_of(bundle), "request").document.claims)


def bundle_of(bundle: dict[str, Any]) -> dict[str, Any]:
    return {name: bundle[name] for name in ("token", "jwk")}


# --- the way through ----------------------------------------------------------------------------------------------


def test_the_page_offers_three_ways(visitor: Visitor) -> None:
    page = visitor.get()
    assert page.status == 200
    fields = {attrs.get("name"): attrs for tag, attrs in page.parsed.elements if tag in ("input", "textarea")}
    assert fields.keys() == {"pictures", "file", "text"}
    labels = {attrs["for"] for tag, attrs in page.parsed.elements if tag == "label"}
    assert labels == {attrs["id"] for attrs in fields.values()}, "each field has its label"
    assert "slmgr /dti" in page.text
    assert "laboratory" in page.text


@pytest.mark.parametrize("way", ["file", "text", "codes", "codes-file", "with-bom", "with-blanks", "crlf"])
def test_a_request_is_compared_then_answered(site: Site, visitor: Visitor, way: str) -> None:
    """P6: nothing is counted before the nine groups were compared."""
    key, machine, bundle = asked(site)
    text = as_json(bundle)
    codes = qr.split(text.encode())
    parts: dict[str, tuple[Any, ...]] = {
        "file": ("file", text, "request.json"),
        "text": ("text", text),
        "codes": ("text", "\r\n".join(reversed(codes))),
        "codes-file": ("file", "\n".join(codes), "codes.txt"),
        "with-bom": ("file", "\ufeff" + text, "request.json"),
        "with-blanks": ("text", json.dumps(bundle, indent=2)),
        "crlf": ("text", json.dumps(bundle, indent=2).replace("\n", "\r\n")),
    }
    compare = visitor.post(parts[way])
    assert (compare.status, compare.groups()) == (200, iid(bundle))
    assert "Compare these nine groups" in compare.text
    assert "activate this machine" in compare.text
    assert PRODUCT in compare.text
    assert site.counts(key) == (5, 0, 5)
    answer = visitor.press(compare)
    assert (answer.status, answer.groups()) == (200, iid(bundle))
    assert site.counts(key) == (5, 1, 4)
    granted = json.loads(answer.parsed.textareas[0])
    claims = verified(granted, "confirmation", site.keyring.roots.first, site.pub).document.claims
    assert (claims["sub"], claims["prd"]) == (machine.cmid, PRODUCT)
    assert "slmgr /atp FILE" in answer.text


def test_the_answer_comes_as_file_text_and_qr_codes_and_all_say_the_same(
    site: Site, visitor: Visitor
) -> None:
    key, _, bundle = asked(site)
    compare = visitor.post(("text", as_json(bundle)))
    answer = visitor.press(compare)
    text = answer.parsed.textareas[0]
    codes = re.search(r"<pre>(.*?)</pre>", answer.html, re.DOTALL)
    assert codes
    assert qr.join(codes[1]) == text.encode()
    file = visitor.press(answer, ("as", "file"))
    assert file.body.decode() == text + "\n"
    first = iid(bundle).partition(" ")[0]
    assert file.headers["content-disposition"] == f'attachment; filename="confirmation-{first}.json"'
    pictures = re.findall(r'<svg viewBox="0 0 (\d+) \1" class="qr">', answer.html)
    assert len(pictures) == len(qr.split(text.encode()))
    assert site.counts(key) == (5, 1, 4), "the same request is counted once"


def test_the_page_answers_by_the_same_method_as_the_api(site: Site, visitor: Visitor) -> None:
    """STYLE 8: the same bytes by either way."""
    _, _, bundle = asked(site)
    text = as_json(bundle)
    by_page = visitor.press(visitor.post(("text", text)), ("as", "file")).body
    by_api = visitor.send("POST", "/v1/requests", text.encode()).body
    assert by_page == by_api + b"\n"


def test_the_caller_has_the_callers_address(site: Site, visitor: Visitor) -> None:
    """M10: a key that is bound to networks is no less bound on the page."""
    key = site.key()
    site.office.bind_key(key.label, None, ["198.51.100.0/24"])
    compare = visitor.post(("text", as_json(site.machine().request(key))))
    refused = visitor.press(compare)
    assert (refused.status, refused.code) == (403, "machine-not-entitled")


def test_an_activation_is_given_back(site: Site, visitor: Visitor) -> None:
    key, machine, bundle = asked(site)
    granted = claims_of(site.ask_one(bundle)["token"])
    back = machine.request(key, "return", now=site.clock.now(), ref=granted["jti"], file=True)
    compare = visitor.post(("text", as_json(back)))
    assert "give this machine's activation back" in compare.text
    answer = visitor.press(compare)
    assert verified(json.loads(answer.parsed.textareas[0]), "receipt", site.keyring.roots.first, site.pub)
    assert "/atp" not in answer.text


def test_a_kms_host_gets_a_file_when_its_answer_is_too_long_for_codes(site: Site, visitor: Visitor) -> None:
    """P5: a delegation comes with the products that it names."""
    for number in range(6):
        site.product(f"com.example.more{number}")
    key = site.key("kms-host", None, PRODUCT, *[f"com.example.more{number}" for number in range(6)])
    compare = visitor.post(("file", as_json(site.machine().request(key, "host")), "request"))
    assert "activate this KMS host" in compare.text
    answer = visitor.press(compare)
    assert "volact kmshost activate --response-file FILE" in answer.text
    text = answer.parsed.textareas[0]
    assert len(qr.split(text.encode())) > phone.MOST_CODES
    assert "<svg" not in answer.html
    assert visitor.press(answer, ("as", "file")).body == text.encode() + b"\n"
    assert len(json.loads(text)["products"]) == 7


# --- photographs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_photographed_codes_are_read_in_any_order(site: Site, visitor: Visitor, kind: str) -> None:
    _, _, bundle = asked(site)
    codes = qr.split(as_json(bundle).encode())
    shots = [
        photograph(*[drawn(one) for one in codes[at : at + 2]], kind=kind, turn=turn)
        for at, turn in ((4, -4), (0, 2), (2, 0))
    ]
    compare = visitor.post(*[("pictures", shot, f"IMG_{at}.jpg") for at, shot in enumerate(shots)])
    assert (compare.status, compare.groups()) == (200, iid(bundle))


def test_codes_come_one_after_the_other_and_what_was_read_is_kept(site: Site, visitor: Visitor) -> None:
    _, _, bundle = asked(site)
    codes = qr.split(as_json(bundle).encode())
    text = ""
    assert len(codes) == 6
    for first, missing in ((4, "1, 2, 3, 4"), (2, "1, 2"), (0, "")):
        page = visitor.post(
            ("pictures", photograph(*map(drawn, codes[first : first + 2])), "a.jpg"), ("text", text)
        )
        if missing:
            assert (page.status, page.code) == (422, "qr-incomplete")
            assert f"Missing of 6: {missing}." in page.text
            text = page.parsed.textareas[0].strip()
            assert text.splitlines() == codes[first:]
    assert page.groups() == iid(bundle)


def test_a_picture_in_the_field_for_the_file_is_read_too(site: Site, visitor: Visitor) -> None:
    _, _, bundle = asked(site)
    codes = qr.split(as_json(bundle).encode())
    shots = [photograph(*[drawn(one) for one in codes[at : at + 2]]) for at in range(0, len(codes), 2)]
    compare = visitor.post(*[("file", shot, "a.png") for shot in shots])
    assert compare.groups() == iid(bundle)


def test_other_codes_in_the_picture_are_no_matter(site: Site, visitor: Visitor) -> None:
    _, _, bundle = asked(site)
    codes = qr.split(as_json(bundle).encode())
    poster = drawn("HTTPS://EXAMPLE.COM/")
    shots = [photograph(drawn(codes[at]), poster, drawn(codes[at + 1])) for at in (0, 2, 4)]
    assert visitor.post(*[("pictures", shot, "a") for shot in shots]).groups() == iid(bundle)
    alone = visitor.post(("pictures", photograph(poster), "a"))
    assert (alone.status, alone.code) == (422, "picture-unreadable")


# --- refusals -----------------------------------------------------------------------------------------------------


def test_a_refusal_is_a_sentence_what_to_do_and_a_code(site: Site, visitor: Visitor) -> None:
    """E."""
    key = site.key("mak", 1)
    assert isinstance(site.activate(site.machine(), key), dict)
    text = as_json(site.machine().request(key))
    refused = visitor.press(visitor.post(("text", text)))
    assert (refused.status, refused.code) == (403, "no-activations-left")
    assert "All activations of the key are used." in refused.text
    assert "ask the publisher for more; then try again." in refused.text
    assert json.loads(refused.parsed.textareas[0]) == json.loads(text), "it need not be brought again"


def test_another_publishers_request_is_refused_before_anything(
    site: Site, visitor: Visitor, tmp_path: Any
) -> None:
    other = Site(tmp_path / "other.db")
    other.product()
    _, _, bundle = asked(other)
    other.close()
    refused = visitor.post(("text", as_json(bundle)))
    assert (refused.status, refused.code) == (400, "document-refused")
    assert "of another publisher" in refused.text
    assert visitor.post(("request", as_json(bundle))).code == "document-refused"
    assert site.rows("activation") == []


def broken(site: Site) -> dict[str, str]:
    key, machine, bundle = asked(site)
    token, jwk, proof = bundle["token"], bundle["jwk"], bundle["proof"]
    codes, others = qr.split(as_json(bundle).encode()), qr.split(as_json(machine.request(key)).encode())
    return {
        "nothing": "",
        "blanks": " \n ",
        "words": "hello",
        "a list": as_json({"requests": [bundle]}),
        "a proof alone": as_json(remaining(key, site.pub)),
        "no object": "[1]",
        "no JSON": "{",
        "deep": "{" + '"a":{' * 500,
        "no token": "{}",
        "token of a number": as_json({"token": 1, "jwk": jwk, "proof": proof}),
        "no jwk": as_json({"token": token, "proof": proof}),
        "a changed token": as_json({**bundle, "token": token[:-1] + ("A" if token[-1] != "A" else "Q")}),
        "another's key": as_json({**bundle, "jwk": site.machine().request(key)["jwk"]}),
        "too large": as_json({**bundle, "filling": "x" * 256 * 1024}),
        "a confirmation": as_json({"token": site.ask_one(bundle)["token"], "jwk": jwk}),
        "code missing": "\n".join(codes[1:]),
        "codes mixed": "\n".join([*codes[1:], others[0]]),
        "code damaged": "\n".join([codes[0][:-1] + "!", *codes[1:]]),
        "code changed": "\n".join([codes[0][:-3] + "AAA", *codes[1:]]),
        "codes and JSON": as_json(bundle) + "\n" + codes[0],
    }


CODES = {
    **dict.fromkeys(
        ["nothing", "blanks", "words", "a list", "a proof alone", "no object"], "request-missing"
    ),
    "no token": "request-missing",
    "code missing": "qr-incomplete",
    "codes mixed": "qr-mixed",
    "code damaged": "qr-damaged",
    "code changed": "qr-damaged",
}


def test_wrong_input_is_refused_with_what_is_wrong(site: Site, visitor: Visitor) -> None:
    """By text and as file; nothing is counted."""
    given = broken(site)
    before = site.rows("activation")
    for name, text in given.items():
        expected = CODES.get(name, "document-refused")
        for part in (("text", text), ("file", text, "x")):
            page = visitor.post(part)
            assert page.code == expected, (name, page.text)
            assert 400 <= page.status < 500
            assert 'role="alert"' in page.html
            site.clock.pass_(60)  # the limit of speed is not the matter here
        if name not in ("nothing", "blanks", "code missing", "codes mixed", "code damaged", "code changed"):
            assert visitor.post(("request", text)).code in ("document-refused", "request-missing"), name
    assert site.rows("activation") == before


def test_one_request_is_taken_at_a_time(site: Site, visitor: Visitor) -> None:
    _, _, bundle = asked(site)
    text = as_json(bundle)
    page = visitor.post(("text", text), ("file", text, "request"))
    assert page.code == "request-missing"


def test_what_is_proved_wrongly_is_refused_by_the_role(site: Site, visitor: Visitor) -> None:
    """The page looks at the machine's signature alone; the rest is the role's to say."""
    key, machine, bundle = asked(site)
    mixed = {**bundle, "proof": machine.request(key, jti=new_id())["proof"]}
    compare = visitor.post(("text", as_json(mixed)))
    assert compare.status == 200
    assert visitor.press(compare).code == "document-refused"
    more = {**bundle, "extra": 1}
    assert visitor.press(visitor.post(("text", as_json(more)))).code == "request-malformed"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("PUT", "/phone", 405, "method-not-allowed"),
        ("HEAD", "/phone", 405, "method-not-allowed"),
        ("GET", "/phone/", 404, "not-found"),
        ("GET", "/phone/../keys", 404, "not-found"),
        ("POST", "/phone/style.css", 404, "not-found"),
    ],
)
def test_other_addresses_and_methods(
    visitor: Visitor, method: str, path: str, status: int, code: str
) -> None:
    page = visitor.send(method, path)
    assert (page.status, page.code) == (status, code)
    if status == 405:
        assert page.headers["allow"] == "GET, POST"


def test_the_api_beside_it_is_as_before(visitor: Visitor) -> None:
    assert visitor.get("/v1/root").status == 200
    assert json.loads(visitor.get("/phones").body)["code"] == "not-found"
    assert json.loads(visitor.get("/").body)["code"] == "not-found"
