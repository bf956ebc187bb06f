"""Reads what a form of a page sends: ``multipart/form-data`` with limits, and from our own pages alone (T20, T31)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from multipart import MultipartError, MultipartParser, parse_options_header

from volact import http
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from volact.http import Scope

_PARTS_MOST = 20
_OURS = ("same-origin", "none")


class Part(NamedTuple):
    """A field's value, or a file that was chosen in it.

    Attributes:
        field: the field's name.
        file: the file's name; empty for a field that is none.
        content: its bytes.
    """

    field: str
    file: str
    content: bytes

    def text(self) -> str:
        """Its content as text; what is no UTF-8 becomes what no reader takes."""
        return self.content.decode("utf-8-sig", "replace")


def from_elsewhere(scope: Scope) -> Refusal | None:
    """Refuse a form that another site's page made the visitor send.

    Browsers say so in ``Sec-Fetch-Site``; those that do not yet, in ``Origin``, which must be the site that is asked.
    """
    site, origin = http.header(scope, b"sec-fetch-site"), http.header(scope, b"origin")
    if site:
        ours = site in _OURS
    else:
        ours = not origin or urlsplit(origin).netloc.lower() == http.header(scope, b"host").lower()
    return None if ours else Refusal("request-malformed", "The form was sent by a page of another site.")


def read(content_type: str, body: bytes) -> list[Part] | Refusal:
    """The filled-in parts of a form, in their order."""
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data" or not options.get("boundary"):
        return Refusal("request-malformed", "It is not what the page's form sends.")
    limit = len(body) + 1
    parser = MultipartParser(
        io.BytesIO(body),
        options["boundary"],
        strict=True,
        part_limit=_PARTS_MOST,
        spool_limit=limit,
        memory_limit=limit,
    )
    try:
        found = [Part(part.name or "", part.filename or "", part.raw) for part in parser]
    except (MultipartError, LookupError, ValueError):
        return Refusal("request-malformed", "It is not what the page's form sends.")
    return [part for part in found if part.content]
