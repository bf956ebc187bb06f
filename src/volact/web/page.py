"""Renders pages: everything escaped by the templates, and headers that let nothing foreign run (T31)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from volact import http
from volact.http import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.protocol.problems import Refusal

_HERE = Path(__file__).parent
_OK = 200
_OF_A_PROBLEM = (b"retry-after", b"allow")

# Nothing runs and nothing is loaded but our own style sheet; nobody frames a page, and its forms go to us alone.
_POLICY = b"default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_HEADERS = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

_templates = Environment(
    loader=FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def html(template: str, values: Mapping[str, object], refusal: Refusal | None = None) -> Response:
    """A page from its template and values, with the status and `Retry-After` of the refusal that it shows."""
    text = _templates.get_template(template).render(values, refusal=refusal)
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store"), *_HEADERS]
    if refusal is None:
        return Response(_OK, headers, text.encode())
    problem = http.problem(refusal)
    headers += [(name, value) for name, value in problem.headers if name in _OF_A_PROBLEM]
    return Response(problem.status, headers, text.encode())


def file(content: bytes, name: str) -> Response:
    """A file to save under `name`, which is plain ASCII without quotes."""
    disposition = f'attachment; filename="{name}"'.encode("ascii")
    headers = [(b"content-type", b"application/octet-stream"), (b"content-disposition", disposition)]
    return Response(_OK, [*headers, (b"cache-control", b"no-store"), *_HEADERS], content)


@functools.cache
def style_sheet() -> Response:
    """The one style sheet of all pages; it is read once."""
    content = (_HERE / "static" / "style.css").read_bytes()
    headers = [(b"content-type", b"text/css; charset=utf-8"), (b"cache-control", b"max-age=3600")]
    return Response(_OK, [*headers, *_HEADERS], content)
