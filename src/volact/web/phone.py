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
- Limited per source, in size, in speed and in what is answered at once (T20); whatever was sent is escaped (T31).
- What a form's size makes long is done by one thread beside those who activate, after its size was looked at (T20).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

import segno
from markupsafe import Markup

from volact import http, sources
from volact.protocol import ids, jws, qr, trust
from volact.protocol.problems import DocumentRefused, Refusal
from volact.sources import Buckets
from volact.web import form, page, pictures, receiving
from volact.web.receiving import MAX_BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volact.authority.api import Ask
    from volact.authority.authority import Authority
    from volact.authority.keyring import Publisher
    from volact.clock import Clock
    from volact.http import App, Receive, Response, Scope, Send
    from volact.protocol.documents import Document
    from volact.web.form import Part

PATH = "/phone"
MOST_AT_ONCE, MOST_OF_ONE = 12, 4
"""Forms that are being answered at once, in all and of one source."""
MOST_TEXT = 380_000
"""Characters of a request in any form: the largest bundle as QR codes has 368,000, and may have line breaks."""
MOST_CODES_GIVEN = len(qr.split(bytes(trust.MAX_BUNDLE)))
_COLONS = 3
"""Colons in the text of a QR code; blanks may be anywhere in it, but do not change that."""
MOST_PICTURES = 8
MOST_CODES = 16
"""QR codes of an answer that are shown; a longer one, a KMS host's, is a file."""
_RATE, _BURST = 30, 60
"""Forms of one source a minute in the long run, and at once."""
_WAYS = ("file", "pictures", "text")
_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


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
        self._reader = pictures.Reader(clock)
        self._forms: Buckets[str] = Buckets(_RATE, _BURST)
        self._bodies = receiving.Bodies()
        self._at_work: list[str] = []
        # One thread: however many forms there are, it takes turns with the loop as one does.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="phone")

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
        refusal = form.from_elsewhere(scope) or self._forms.limited(source, self._clock.now())
        if refusal:
            return self._start(refusal)
        with self._bodies.of(source) as coming:
            body = await coming.read(scope, receive)
            if isinstance(body, Refusal):
                return self._start(body)
            if len(self._at_work) >= MOST_AT_ONCE or self._at_work.count(source) >= MOST_OF_ONE:
                return self._start(Refusal("busy"))
            self._at_work.append(source)
            try:
                return await self._posted(scope, source, body)
            finally:
                self._at_work.remove(source)

    async def _beside(
        self, function: Callable[_Given, _Made], *given: _Given.args, **named: _Given.kwargs
    ) -> _Made:
        """Call a function in the page's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: function(*given, **named))

    async def _posted(self, scope: Scope, source: str, body: bytes) -> Response:
        parts = await self._beside(form.read, http.header(scope, b"content-type"), body)
        if isinstance(parts, Refusal):
            return self._start(parts)
        photographs = [part.content for part in parts if _is_photograph(part)]
        texts = [part for part in parts if part.field in _WAYS and not _is_photograph(part)]
        requests = [part for part in parts if part.field == "request"][:1]
        if sum(len(part.content) for part in requests or texts) > MOST_TEXT:
            return self._start(Refusal("document-refused", f"A request has at most {MOST_TEXT} characters."))
        if requests:
            as_file = any(part.field == "as" and part.content == b"file" for part in parts)
            return await self._asked(requests[0], scope["client"][0], as_file=as_file)
        read = await self._read(source, photographs) if photographs else []
        if isinstance(read, Refusal):
            return self._start(read)
        return await self._beside(self._compared, texts, read)

    async def _read(self, source: str, photographs: Sequence[bytes]) -> list[str] | Refusal:
        """The different texts of the QR codes in photographs, of which there is one at least."""
        if len(photographs) > MOST_PICTURES:
            return Refusal("body-too-large", f"At most {MOST_PICTURES} pictures at once.")
        read = await self._reader.texts(source, photographs)
        if isinstance(read, Refusal):
            return read
        codes = list(dict.fromkeys(code for picture in read for code in picture))
        return codes or Refusal("picture-unreadable", f"Pictures: {len(photographs)}.")

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

    def _compared(self, parts: list[Part], codes: list[str]) -> Response:
        """The IID to compare, before anything is asked, of what was given as text and what was read in pictures."""
        texts = [text for text in (*(part.text() for part in parts), "\n".join(codes)) if text.strip()]
        bundle = _bundle(texts)
        if isinstance(bundle, Refusal):
            incomplete = bundle.code == "qr-incomplete"
            return self._start(bundle, "\n".join(qr.ordered("\n".join(texts))) if incomplete else "")
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

    async def _asked(self, given: Part, address: str, *, as_file: bool) -> Response:
        request = await self._beside(lambda: self._opened(given.text().encode()))
        if isinstance(request, Refusal):
            return self._start(request)
        answer = await self._ask(request.bundle, address)
        return await self._beside(self._answered, request, answer, as_file=as_file)

    def _answered(self, request: _Request, answer: bytes | Refusal, *, as_file: bool) -> Response:
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


def _is_photograph(part: Part) -> bool:
    return part.field in _WAYS and pictures.is_picture(part.content)


def _bundle(texts: list[str]) -> bytes | Refusal:
    """The one request that was given: as it is, or as the texts of its QR codes."""
    if not texts:
        return Refusal("request-missing")
    if all(map(qr.is_split, texts)):
        whole = "\n".join(texts)
        if len(whole) > MOST_TEXT or whole.count(":") > MOST_CODES_GIVEN * _COLONS:
            return Refusal("qr-damaged", f"No request has more than {MOST_CODES_GIVEN} codes.")
        return qr.join(whole)
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
