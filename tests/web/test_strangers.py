"""What strangers send to the public page: T20, T31, T36, T39."""

import threading
from typing import Any

import pytest
import segno

from authority_site import Site
from volact.protocol import qr, trust
from volact.protocol.problems import Refusal
from volact.web import form, receiving
from volact.web import page as page_module
from web.visitor import Visitor, as_json, asked, drawn, encoded, photograph

PAYLOADS = """\
<script>alert(1)</script>
"><script>alert(1)</script>
'><img src=x onerror=alert(1)>
</textarea><svg onload=alert(1)>
</title><script>alert(1)</script>
<iframe srcdoc="<script>alert(1)</script>">
{{ 7*7 }}{% debug %}
javascript:alert(1)
"""


def test_nothing_that_is_sent_comes_back_as_markup(site: Site, visitor: Visitor) -> None:
    """T31, T36: through every field, as value, name and file name, and through the publisher's own name."""
    allowed = {tag for tag, _ in visitor.get().parsed.elements} | {*"section h2 ol li span a".split()}
    key = site.key()
    for payload in PAYLOADS.splitlines():
        machine = site.machine()
        hostile = as_json({**machine.request(key), "filling": payload})
        pages = [
            visitor.post(("text", payload), (payload, payload), ("file", payload, payload.replace('"', ""))),
            visitor.post(("text", '{"token": "' + payload.replace('"', "'") + '"}')),
            visitor.post(("text", "V1:1/2:AAAAAAAA:AAAA " + payload)),
            visitor.post(("request", payload), ("as", payload)),
            visitor.post(("text", hostile)),
        ]
        assert pages[-1].groups(), "it is shown for comparison, with the payload hidden in the request"
        for page in pages:
            elements = page.parsed.elements
            assert {tag for tag, _ in elements} <= allowed, payload
            assert not [attrs for _, attrs in elements if any(name.startswith("on") for name in attrs)]
            assert "49" not in page.text.replace(page.groups(), "")
        site.clock.pass_(600)
    assert visitor.press(pages[-1]).code == "request-malformed"


def test_a_publishers_name_is_text(site: Site) -> None:
    site.keyring.publisher = site.keyring.publisher._replace(name="<script>alert(1)</script> & Co")
    with Visitor(site) as visitor:
        page = visitor.get()
    assert "script" not in {tag for tag, _ in page.parsed.elements}
    assert "<script>alert(1)</script> & Co" in page.text or "alert(1)" in page.text


def test_headers_let_nothing_foreign_run(site: Site, visitor: Visitor) -> None:
    """T31: strict CSP without inline, frame deny; no script, no style in the markup, on every kind of page."""
    _, _, bundle = asked(site)
    compare = visitor.post(("text", as_json(bundle)))
    answer = visitor.press(compare)
    file = visitor.press(answer, ("as", "file"))
    refused = visitor.post(("text", "x"))
    for page in (visitor.get(), visitor.get("/phone/style.css"), compare, answer, file, refused):
        policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            "style-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["referrer-policy"] == "no-referrer"
        if page.headers["content-type"].startswith("text/html"):
            assert page.headers["cache-control"] == "no-store"
            assert not [
                tag for tag, attrs in page.parsed.elements if tag in ("script", "style") or "style" in attrs
            ]


def test_a_form_of_another_site_is_refused(site: Site, visitor: Visitor) -> None:
    """T31: a page elsewhere cannot make a visitor inside a key's network spend its activations."""
    key, _, bundle = asked(site)
    part = ("request", as_json(bundle))
    refusing = (
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://evil.example", "host": "licensing.example"},
        {"origin": "null", "host": "licensing.example"},
    )
    for headers in refusing:
        assert visitor.post(part, **headers).code == "request-malformed", headers
    assert site.counts(key) == (5, 0, 5)
    taking: tuple[dict[str, str], ...] = (
        {"sec_fetch_site": "same-origin", "origin": "https://inside", "host": "proxied"},
        {"sec_fetch_site": "none"},
        {"origin": "https://Licensing.example:8443", "host": "licensing.example:8443"},
        {},
    )
    for headers in taking:
        assert visitor.post(part, **headers).status == 200, headers


def test_forms_that_are_none_are_refused(visitor: Visitor) -> None:
    good, kind = encoded(("text", "x"))
    many, many_kind = encoded(*[("text", "")] * 21)
    for body, headers in (
        (b"", {}),
        (b"text=x", {"content-type": "application/x-www-form-urlencoded"}),
        (good, {"content-type": "multipart/form-data"}),
        (good, {"content-type": "multipart/form-data; boundary=other"}),
        (good[:-10], kind),
        (good.replace(b"form-data", b"nonsense"), kind),
        (good.replace(b'name="text"', b""), kind),
        (many, many_kind),
    ):
        page = visitor.send("POST", "/phone", body, headers)
        assert (page.status, page.code) == (400, "request-malformed"), body


def test_at_most_eight_megabytes_and_eight_pictures_at_once(visitor: Visitor) -> None:
    """T20: value - 1, value, value + 1."""
    _, kind = encoded(("file", b"", "x"))
    around = len(encoded(("file", b"", "x"))[0])
    for more, code in ((-1, "document-refused"), (0, "document-refused"), (1, "body-too-large")):
        body, kind = encoded(("file", b"{" + b" " * (receiving.MAX_BODY - around - 1 + more), "x"))
        assert len(body) == 8 * 1024 * 1024 + more
        page = visitor.send("POST", "/phone", body, kind)
        assert page.code == code, (more, page.text)
    tiny = photograph(size=(10, 10))
    for number, code in ((7, "picture-unreadable"), (8, "picture-unreadable"), (9, "body-too-large")):
        assert visitor.post(*[("pictures", tiny, "x")] * number).code == code


def test_ten_megabytes_are_refused_with_what_to_do(visitor: Visitor) -> None:
    body, kind = encoded(("pictures", b"\xff\xd8\xff" + bytes(10 * 2**20), "x"))
    page = visitor.send("POST", "/phone", body, kind)
    assert (page.status, page.code) == (413, "body-too-large")
    assert "one at a time" in page.text


def test_a_source_is_limited_and_another_is_not(site: Site, visitor: Visitor) -> None:
    """T20: 60 forms at once, then 30 a minute."""
    codes = [visitor.post(("text", "x")).code for _ in range(61)]
    assert codes == ["request-missing"] * 60 + ["too-many-requests"]
    assert visitor.get().status == 200, "who only looks is not limited"
    waits = visitor.post(("text", "x"))
    assert (waits.status, waits.headers["retry-after"]) == (429, "2")
    site.clock.pass_(2)
    assert visitor.post(("text", "x")).code == "request-missing"
    for _ in range(60):
        visitor.post(("text", "x"))
    assert visitor.post(("text", "x")).code == "too-many-requests"
    visitor.source = "192.0.2.2"
    assert visitor.post(("text", "x")).code == "request-missing"


def test_pictures_are_limited_further(site: Site, visitor: Visitor) -> None:
    """T20: one form of a source, 12 seconds of reading at once, then 6 a minute."""
    tiny = encoded(("pictures", photograph(size=(10, 10)), "x"))
    found = sorted(page.code for page in visitor.at_once(*[tiny] * 4))
    assert found == ["busy"] * 3 + ["picture-unreadable"]


def test_twelve_forms_are_answered_at_once_and_four_of_one_source(visitor: Visitor) -> None:
    """T20."""
    form_ = encoded(("text", "x"))
    for sources, taken in (([1] * 5, 4), ([1] * 5 + [2] * 5, 8), ([*range(12)], 12), ([*range(13)], 12)):
        pages = visitor.at_once(*[form_] * len(sources), sources=[f"192.0.2.{one}" for one in sources])
        assert sorted(page.code for page in pages) == sorted(
            ["request-missing"] * taken + ["busy"] * (len(sources) - taken)
        )
    assert visitor.post(("text", "x")).code == "request-missing", "and it goes on"


def test_forms_that_do_not_come_take_nobodys_place(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """T20: they are given up, and meanwhile others are answered."""
    monkeypatch.setattr(receiving, "PAUSE_SECONDS", 0.2)
    slow: list[Any] = [([b"wait"], {})]
    pages = visitor.at_once(
        *slow * 12, encoded(("text", "x")), sources=[f"192.0.2.{at % 3}" for at in range(12)] + ["192.0.2.9"]
    )
    assert [page.code for page in pages] == ["request-malformed"] * 12 + ["request-missing"]
    assert "more slowly than 64 KB a second" in pages[0].text


def test_who_sends_too_much_at_once_is_turned_away(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "MOST_HELD_OF_ONE", 1000)
    assert visitor.post(("text", "x" * 1000)).code == "busy"
    assert visitor.post(("text", "x")).code == "request-missing"


def test_a_text_is_looked_at_only_if_a_request_can_be_so_long(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T20: 380,000 bytes, which the largest bundle keeps within; nothing takes longer texts apart."""
    taken: list[int] = []
    join = qr.join

    def noted(text: str) -> Any:
        taken.append(len(text))
        return join(text)

    monkeypatch.setattr(qr, "join", noted)
    largest = b'{"a":"' + b"x" * (256 * 1024 - 8) + b'"}'
    codes = "\r\n".join(qr.split(largest))
    assert visitor.post(("text", codes)).code == "request-missing", "it is whole, but no request"
    assert taken.pop() == len(codes)
    start = "V1:1/2:AAAAAAAA:"
    for length, code in ((379_999, "qr-damaged"), (380_000, "qr-damaged"), (380_001, "document-refused")):
        assert visitor.post(("text", start.ljust(length, "A"))).code == code
        assert visitor.post(("text", start), ("file", "A" * (length - len(start)), "x")).code == (
            "document-refused" if length > 380_000 else "request-missing"
        )
        assert visitor.post(("request", "{".ljust(length))).code == "document-refused"
    assert taken == [379_999, 380_000]


def test_texts_and_photographed_codes_together_are_no_longer_than_a_request(
    site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T20: what is typed keeps within the bound; what a photograph adds to it is counted, too."""
    taken: list[int] = []

    def noted(text: str) -> Refusal:
        taken.append(len(text))
        return Refusal("qr-incomplete")

    monkeypatch.setattr(qr, "join", noted)
    start, photographed = "V1:1/2:AAAAAAAA:", "V1:2/2:AAAAAAAA:AAAA"
    shot = ("pictures", photograph(drawn(photographed)), "a.jpg")
    rest = 380_000 - len("\n") - len(photographed)
    for length, code in ((rest - 1, "qr-incomplete"), (rest, "qr-incomplete"), (rest + 1, "qr-damaged")):
        assert visitor.post(("text", start.ljust(length, "A")), shot).code == code
        site.clock.pass_(60)  # of pictures six a minute are read
    assert taken == [379_999, 380_000]


def test_as_many_codes_are_taken_as_the_largest_bundle_has(visitor: Visitor) -> None:
    """T20: ceil(ceil(262144 * 4 / 3) / 400) = 874; and what comes back are the different ones."""
    one = "V1:1/2:AAAAAAAA:AAAA"
    for many, code, kept in (
        (873, "qr-incomplete", one),
        (874, "qr-incomplete", one),
        (875, "qr-damaged", ""),
    ):
        for text in ("\n".join([one] * many), "V1:1 /2\n:AAAA AAAA:AAAA" * many):
            page = visitor.post(("text", text))
            assert (page.code, page.parsed.textareas[0].strip()) == (code, kept)
    mixed = visitor.post(("text", one + "V1:1/2:BBBBBBBB:AAAA"))
    assert (mixed.code, mixed.parsed.textareas[0].strip()) == ("qr-mixed", "")


def test_what_may_take_long_is_done_beside_the_loop(
    site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T20: who activates meanwhile need not wait for it."""
    called: dict[str, set[bool]] = {}

    def note(module: Any, name: str) -> None:
        function = getattr(module, name)

        def noted(*given: Any, **named: Any) -> Any:
            called.setdefault(name, set()).add(threading.current_thread() is threading.main_thread())
            return function(*given, **named)

        monkeypatch.setattr(module, name, noted)

    _, _, bundle = asked(site)
    codes = qr.split(as_json(bundle).encode())
    for module, name in (
        (form, "read"),
        (qr, "join"),
        (qr, "ordered"),
        (qr, "split"),
        (segno, "make"),
        (page_module, "html"),
        (trust, "read_bundle"),
    ):
        note(module, name)
    visitor.post(("text", "\n".join(codes[1:])))
    visitor.press(visitor.post(("text", "\n".join(codes))))
    names = ("read", "join", "ordered", "split", "make", "html", "read_bundle")
    assert called == {name: {False} for name in names}


@pytest.mark.parametrize("path", ["/phone/", "/phone/x"])
def test_links_lead_to_the_page_from_every_address(visitor: Visitor, path: str) -> None:
    elements = visitor.get(path).parsed.elements
    leads = {attrs[name] for _, attrs in elements for name in ("href", "action") if name in attrs}
    assert leads == {"/phone", "/phone/style.css"}


def test_a_fault_is_told_by_a_correlation_id_alone(
    site: Site, visitor: Visitor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """T39."""

    def fails(_kind: str, _body: bytes) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(form, "read", fails)
    page = visitor.post(("text", "x"))
    assert (page.status, page.code) == (500, "internal")
    assert "secret" not in page.html
    assert "Correlation id" in page.text
    capsys.readouterr()
