"""The public page `/phone`: one machine without a network and without a VAMT is activated by hand (P6).

`GET /phone`
    The form: the request as a file, as text, or as photographs of its QR codes.
`POST /phone` with ``file``, ``pictures``, ``text``
    Shows the request's IID, to be compared with what the machine shows. Nothing is counted or written.
`POST /phone` with ``request``
    Asks as `POST /v1/requests` does, by the same method, and shows the answer as text and QR codes; with
    ``as=file`` gives it as a file. Nothing is kept in between: the same request gets the same answer again.

- HTML only, for people; its twin for programs is `POST /v1/requests`.
- A refusal is shown as its sentence, what to do, and its code, with everything that was entered well kept (E).
- Limited per source, in size and in what is read at once (T20); whatever was sent is escaped (T31).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import segno
from markupsafe import Markup

from volact import http, sources
from volact.protocol import ids, jws, qr, trust
from volact.protocol.problems import DocumentRefused, Refusal
from volact.sources import Buckets
from volact.web import form, page, pictures

if TYPE_CHECKING:
    from volact.authority.api import Ask
    from volact.authority.authority import Authority
    from volact.authority.keyring import Publisher
    from volact.clock import Clock
    from volact.http import App, Receive, Response, Scope, Send
    from volact.protocol.documents import Document
    from volact.web.form import Part

PATH = "/phone"
MAX_BODY = 8 * 1024 * 1024
BODY_SECONDS = 60.0
"""Seconds in which a form must come: a telephone may be slow."""
MOST_AT_ONCE, MOST_OF_ONE = 12, 4
"""Forms that are being received or answered at once, in all and of one source."""
MOST_PICTURES = 8
MOST_CODES = 16
"""QR codes of an answer that are shown; a longer one, a KMS host's, is a file."""
_RATE, _BURST = 30, 60
_PICTURES_RATE, _PICTURES_BURST = 6, 12
"""Forms of one source a minute in the long run and at once, and those of them that have pictures."""


class Operation(NamedTuple):
    """What a request asks for, in words.

    Attributes:
        wish: what it would do, as the button says it.
        done: what has happened when it is answered.
        file: what the answer's file is called, without its end.
        command: what takes the answer up where the request came from; empty if nothing has to.
    """

    wish: str
    done: str
    file: str
    command: str


OPERATIONS = {
    "activate": Operation(
        "Activate this machine", "The machine is activated.", "confirmation", "slmgr /atp FILE"
    ),
    "return": Operation(
        "Give this machine's activation back", "The activation was given back.", "receipt", ""
    ),
    "host": Operation(
        "Activate this KMS host",
        "The KMS host is activated.",
        "response",
        "volact kmshost activate --response-file FILE",
    ),
    "extend": Operation(
        "Extend this KMS host's delegation",
        "The delegation is extended.",
        "response",
        "volact kmshost extend --response-file FILE",
    ),
}

_NEXT = {
    "body-too-large": "Send the pictures one at a time: what was read of each is kept.",
    "request-malformed": "Write the request again with `slmgr /dti FILE`, and send it by this page's own form.",
    "document-refused": "Write the request again with `slmgr /dti FILE`, on a machine with this publisher's product.",
    "internal": "Try again later; if it fails again, tell the publisher the correlation id.",
}
"""What to do next, where the list of refusals tells it to programs or to the publisher."""


class Phone:
    """The page, for the authority of one publisher."""

    def __init__(self, publisher: Publisher, ask: Ask, clock: Clock) -> None:
        """Ask by `ask`, in the name of who calls; limit by the time of `clock`."""
        self._publisher = publisher
        self._ask = ask
        self._clock = clock
        self._reader = pictures.Reader()
        self._forms: Buckets[str] = Buckets(_RATE, _BURST)
        self._pictures: Buckets[str] = Buckets(_PICTURES_RATE, _PICTURES_BURST)
        self._at_work: list[str] = []

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application below `PATH`."""
        try:
            response = await self._routed(scope, receive)
        except Exception as error:  # noqa: BLE001 - translated here, once
            response = self._start(http.refusal_of(error))
        await response.send(send)

    async def _routed(self, scope: Scope, receive: Receive) -> Response:
        method = scope["method"]
        if scope["path"] == f"{PATH}/style.css" and method == "GET":
            return page.style_sheet()
        if scope["path"] != PATH:
            return self._start(Refusal("not-found"))
        if method == "GET":
            return self._start()
        if method != "POST":
            return self._start(Refusal("method-not-allowed", "", (("allow", "GET, POST"),)))
        source = sources.source_of(scope["client"][0])
        refusal = form.from_elsewhere(scope) or self._limited(self._forms, scope)
        if len(self._at_work) >= MOST_AT_ONCE or self._at_work.count(source) >= MOST_OF_ONE:
            refusal = refusal or Refusal("busy", "", (("retry_after", int(BODY_SECONDS)),))
        if refusal:
            return self._start(refusal)
        self._at_work.append(source)
        try:
            return await self._posted(scope, receive)
        finally:
            self._at_work.remove(source)

    def _limited(self, buckets: Buckets[str], scope: Scope) -> Refusal | None:
        source, now = sources.source_of(scope["client"][0]), self._clock.now()
        bucket, wait = buckets.look(source, now)
        if wait:
            return Refusal("too-many-requests", f"Wait {wait} s.", (("retry_after", wait),))
        buckets.keep(source, bucket)
        return None

    async def _posted(self, scope: Scope, receive: Receive) -> Response:
        body = await http.read_body(scope, receive, limit=MAX_BODY, seconds=BODY_SECONDS)
        if isinstance(body, Refusal):
            return self._start(body)
        # In a thread: megabytes of a stranger's form must not keep the others waiting.
        parts = await asyncio.to_thread(form.read, http.header(scope, b"content-type"), body)
        if isinstance(parts, Refusal):
            return self._start(parts)
        request = _field(parts, "request")
        if request:
            return await self._asked(request, scope["client"][0], as_file=_field(parts, "as") == "file")
        given = await self._given(parts, scope)
        if isinstance(given, Refusal):
            return self._start(given)
        joined = _bundle(given)
        if isinstance(joined, Refusal):
            return self._start(joined, "\n".join(qr.ordered("\n".join(given))))
        return self._comparing(joined)

    async def _given(self, parts: list[Part], scope: Scope) -> list[str] | Refusal:
        """The texts that were given, whichever way: those of the pictures come last."""
        found = [part for part in parts if part.field in ("file", "pictures", "text")]
        photographs = [part for part in found if pictures.is_picture(part.content)]
        texts = [part.text() for part in found if part not in photographs]
        if not photographs:
            return texts
        if len(photographs) > MOST_PICTURES:
            return Refusal("body-too-large", f"At most {MOST_PICTURES} pictures at once.")
        refusal = self._limited(self._pictures, scope)
        read = refusal or await self._reader.texts([part.content for part in photographs])
        if isinstance(read, Refusal):
            return read
        if not any(read):
            return Refusal("picture-unreadable", f"Pictures: {len(photographs)}.")
        return [*texts, *("\n".join(codes) for codes in read if codes)]

    def _start(self, refusal: Refusal | None = None, text: str = "") -> Response:
        """The form, with what is wrong with what was sent, and what of it can stay."""
        values = {
            "publisher": self._publisher,
            "next_step": _next_step(refusal),
            "text": text,
            "megabytes": MAX_BODY // 2**20,
            "most_pictures": MOST_PICTURES,
        }
        return page.html("phone_start.html", values, refusal)

    def _comparing(self, bundle: bytes) -> Response:
        """The IID to compare, before anything is asked."""
        opened = self._opened(bundle)
        if isinstance(opened, Refusal):
            return self._start(opened)
        return page.html("phone_compare.html", {"publisher": self._publisher, **opened.shown()})

    def _opened(self, bundle: bytes) -> _Request | Refusal:
        """The request in a bundle, its signature checked; whether it is granted is the role's to say."""
        try:
            members = trust.read_bundle(bundle)
            if "token" not in members:
                return Refusal("request-missing", "What was given is a list, or another document.")
            opened = trust.open_self_keyed({name: members.get(name) for name in ("token", "jwk")}, "request")
            trust.check_publisher(opened.document, self._publisher.pub, lab=self._publisher.lab)
            return _Request(opened.document, jws.write_json(members))
        except DocumentRefused as error:
            return error.refusal

    async def _asked(self, given: str, address: str, *, as_file: bool) -> Response:
        request = self._opened(given.encode())
        if isinstance(request, Refusal):
            return self._start(request)
        answer = await self._ask(request.bundle, address)
        if isinstance(answer, Refusal):
            return self._start(answer, request.bundle.decode())
        name = f"{request.operation.file}-{request.groups[0]}.json"
        if as_file:
            return page.file(answer + b"\n", name)
        texts = qr.split(answer) if len(answer) <= trust.MAX_BUNDLE else []
        values = {
            "publisher": self._publisher,
            **request.shown(),
            "name": name,
            "answer": answer.decode(),
            "texts": texts,
            "codes": [_drawn(text) for text in texts] if len(texts) <= MOST_CODES else [],
        }
        return page.html("phone_answer.html", values)


class _Request(NamedTuple):
    """A machine's or host's request, opened, and its bundle's JSON."""

    document: Document
    bundle: bytes

    @property
    def operation(self) -> Operation:
        return OPERATIONS[self.document["op"]]

    @property
    def groups(self) -> list[str]:
        """The IID's nine groups."""
        return ids.iid_of_request(self.document.claims).split(" ")

    def shown(self) -> dict[str, object]:
        """What a page shows of it, and sends back."""
        return {
            "operation": self.operation,
            "product": self.document["prd"],
            "groups": self.groups,
            "request": self.bundle.decode(),
        }


def pages(authority: Authority, ask: Ask) -> dict[str, App]:
    """The authority's public pages: where they begin, and what answers there."""
    return {PATH: Phone(authority.keyring.publisher, ask, authority.clock).app}


def _field(parts: list[Part], name: str) -> str:
    """A field's text; empty if it was not filled in."""
    return next((part.text() for part in parts if part.field == name), "")


def _bundle(texts: list[str]) -> bytes | Refusal:
    """The one request that was given: as it is, or as the texts of its QR codes."""
    texts = [text for text in texts if text.strip()]
    if not texts:
        return Refusal("request-missing")
    split = [qr.is_split(text) for text in texts]
    if all(split):
        return qr.join("\n".join(texts))
    if len(texts) > 1 or not texts[0].lstrip().startswith("{"):
        return Refusal(
            "request-missing", "What was given is neither one request nor the texts of its QR codes."
        )
    return texts[0].encode()


def _next_step(refusal: Refusal | None) -> str:
    return _NEXT.get(refusal.code, refusal.problem.next_step) if refusal else ""


def _drawn(text: str) -> Markup:
    """A QR code as an image for the page. Its text is base64url and digits, and segno puts only numbers into it."""
    code = segno.make(text, error="l", boost_error=False, micro=False)
    return Markup(code.svg_inline(omitsize=True, dark="#000", light="#fff", svgclass="qr", lineclass=None))  # noqa: S704
