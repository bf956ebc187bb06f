"""Somebody who visits the authority's public pages, without a browser and without a network."""

import asyncio
import html
import io
import json
import re
import secrets
from collections.abc import Sequence
from html.parser import HTMLParser
from typing import Any, NamedTuple, Self

import segno
from PIL import Image

from authority.test_api import call
from authority_site import Site
from volact import http
from volact.authority.api import Face
from volact.web import phone

Part = tuple[str, bytes | str] | tuple[str, bytes | str, str]
"""A field's name and value, and a file's name if it is one."""


class Page(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def html(self) -> str:
        return self.body.decode()

    @property
    def text(self) -> str:
        """What a person reads: no tags, one blank between words."""
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", self.html)).split())

    @property
    def code(self) -> str:
        """The code of the refusal that the page shows; empty if it shows none."""
        found = re.search(r"Code: <code>([a-z-]+)</code>", self.html)
        return found[1] if found else ""

    @property
    def parsed(self) -> "Parsed":
        parsed = Parsed()
        parsed.feed(self.html)
        parsed.close()
        return parsed

    def groups(self) -> str:
        """The installation id that it shows."""
        return " ".join(re.findall(r"<li><span>(\d{6})</span></li>", self.html))


class Parsed(HTMLParser):
    """Elements with their attributes, in order; the text of textareas."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.textareas: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "textarea":
            self.textareas.append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "textarea"

    def handle_data(self, data: str) -> None:
        if self._inside:
            # The first line break in a textarea is no part of its value.
            self.textareas[-1] += data if self.textareas[-1] else data.removeprefix("\n")

    def hidden(self) -> dict[str, str]:
        return {
            str(attrs["name"]): str(attrs["value"])
            for tag, attrs in self.elements
            if tag == "input" and attrs.get("type") == "hidden"
        }


class Visitor:
    """Visits the pages of one running site; use as a context."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._runner = asyncio.Runner()
        self.face = Face(site.authority, lambda: None, phone.pages)
        self.source = "192.0.2.1"
        app = self.face.app()

        async def from_here(scope: http.Scope, receive: http.Receive, send: http.Send) -> None:
            await app({**scope, "client": (self.source, 1234)}, receive, send)

        self.app = from_here

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self.face.stop())
        self._runner.close()

    def send(self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Page:
        return Page(*self._runner.run(call(self.app, method, path, body, headers)))

    def at_once(self, *bodies: tuple[bytes, dict[str, str]], sources: Sequence[str] = ()) -> list[Page]:
        """Several at the same time, each from a source of its own if they are named."""

        async def one(source: str, body: bytes, headers: dict[str, str]) -> Any:
            self.source = source
            return await call(self.app, "POST", "/phone", body, headers)

        async def all_of_them() -> list[Any]:
            from_where = sources or [self.source] * len(bodies)
            return await asyncio.gather(
                *(one(where, *body) for where, body in zip(from_where, bodies, strict=True))
            )

        return [Page(*one) for one in self._runner.run(all_of_them())]

    def get(self, path: str = "/phone") -> Page:
        return self.send("GET", path)

    def post(self, *parts: Part, **headers: str) -> Page:
        body, kind = encoded(*parts)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", "/phone", body, {**kind, **more})

    def press(self, page: Page, *more: Part) -> Page:
        """Send a page's form again with its hidden fields."""
        return self.post(*page.parsed.hidden().items(), *more)


def encoded(*parts: Part) -> tuple[bytes, dict[str, str]]:
    """A form as browsers send it."""
    boundary = secrets.token_hex(12)
    body = io.BytesIO()
    for name, value, *file in parts:
        named = f'; filename="{file[0]}"\r\nContent-Type: application/octet-stream' if file else ""
        body.write(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode())
        body.write((value.encode() if isinstance(value, str) else value) + b"\r\n")
    body.write(f"--{boundary}--\r\n".encode())
    return body.getvalue(), {"content-type": f"multipart/form-data; boundary={boundary}"}


def drawn(text: str, scale: int = 4) -> Image.Image:
    """A QR code as it stands on a screen."""
    buffer = io.BytesIO()
    segno.make(text, error="l", micro=False, boost_error=False).save(buffer, kind="png", scale=scale)
    return Image.open(buffer).convert("L")


def photograph(
    *codes: Image.Image, kind: str = "JPEG", turn: float = 3.0, size: tuple[int, int] = (1600, 1200)
) -> bytes:
    """A photograph: the codes beside each other on a grey desk, not quite straight."""
    desk = Image.new("L", size, 150)
    side = 40
    for code in codes:
        desk.paste(code, (side, 60))
        side += code.width + 60
    buffer = io.BytesIO()
    desk.rotate(turn, resample=Image.Resampling.BICUBIC, expand=True, fillcolor=150).save(buffer, kind)
    return buffer.getvalue()


def as_json(bundle: dict[str, Any]) -> str:
    return json.dumps(bundle, separators=(",", ":"))


def asked(site: Site, *keys: Any) -> tuple[Any, Any, dict[str, Any]]:
    """A key, a machine and its request."""
    key, machine = (keys or (site.key(),))[0], site.machine()
    return key, machine, machine.request(key)
