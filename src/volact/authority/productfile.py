"""Reads a product file: a publisher's TOML to the claims of a product document.

A name that nobody knows, a wrong type and a number out of its bounds are `product-file-invalid`, each with its
line and, for a name, the nearest one. Nothing is ignored in a publisher's own file.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from volact.config import line_of, nearest
from volact.protocol import policy
from volact.protocol.documents import MAX_TEXT, MAX_URL
from volact.protocol.ids import is_product_id
from volact.protocol.problems import DocumentRefused, Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

_MEMBERS: Mapping[str, object] = dict.fromkeys(("id", "name", "edition", "authority", "policy"))
_AUTHORITY: Mapping[str, object] = dict.fromkeys(("url",))
_POLICY: Mapping[str, object] = dict.fromkeys(policy.Policy._fields)
_EDITIONS = ("client", "server")
_URL = re.compile(r"https://[!-~]+")
_TOML_LINE = re.compile(r"line (\d+)")


MOST_BYTES = 1_000_000


def read_bytes(content: bytes) -> dict[str, Any]:
    """The claims of a product file as it was read; `read` says which.

    Raises:
        Refused: `product-file-invalid`, with the line.
    """
    if len(content) > MOST_BYTES:
        _refuse(1, f"the file is larger than {MOST_BYTES} bytes")
    try:
        return read(content.decode("utf-8-sig"))  # some editors put a mark before the text
    except UnicodeDecodeError as error:
        _refuse(content.count(b"\n", 0, error.start) + 1, "not UTF-8 text")


def read(text: str) -> dict[str, Any]:
    """The claims sub, name, edition, pol and url of a product file.

    Raises:
        Refused: `product-file-invalid`, with the line.
    """
    try:
        members = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.search(str(error))
        _refuse(int(found[1]) if found else max(1, text.count("\n")), f"not TOML: {error}")
    except RecursionError:
        _refuse(1, "not TOML that can be read: nested too deeply")
    _known(text, members, _MEMBERS, "")
    prd = _required(text, members, "id", is_product_id, 'a product id such as "com.example.cad"')
    name = _required(text, members, "name", _is_name, f"a text of 1 to {MAX_TEXT} printable characters")
    edition = _required(text, members, "edition", _EDITIONS.__contains__, '"client" or "server"')
    authority = _section(text, members, "authority", _AUTHORITY)
    url = authority.get("url", "")
    if url != "" and not is_url(url):
        _refuse(
            line_of(text, "url", "authority"), "url must be an address such as https://licensing.example.com"
        )
    return {"sub": prd, "name": name, "edition": edition, "pol": _policy(text, members, edition), "url": url}


def _policy(text: str, members: dict[str, Any], edition: str) -> dict[str, Any]:
    given = _section(text, members, "policy", _POLICY)
    for name in policy.DURATIONS:
        if name in given:
            seconds = policy.duration(given[name])
            if seconds is None:
                _refuse(
                    line_of(text, name, "policy"), f'{name} must be a duration such as "180d", "2h" or "15m"'
                )
            given[name] = seconds
    try:
        return policy.written(policy.read(given, edition), edition)
    except policy.OutOfBounds as error:
        _refuse(line_of(text, error.member, "policy"), f"{error.member} must be {error.allowed}")
    except DocumentRefused as error:
        _refuse(line_of(text, "policy"), error.refusal.detail)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MAX_TEXT and value.isprintable()


def is_url(value: object) -> bool:
    """Whether it is an address at which machines can reach an authority."""
    if not isinstance(value, str) or len(value) > MAX_URL or not _URL.fullmatch(value):
        return False
    try:
        parts = urlsplit(value)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _required(text: str, members: dict[str, Any], name: str, check: Any, wanted: str) -> str:  # noqa: ANN401
    if name not in members:
        _refuse(1, f"{name} is missing; it is {wanted}")
    value = members[name]
    if not isinstance(value, str) or not check(value):
        _refuse(line_of(text, name), f"{name} must be {wanted}")
    return value


def _section(text: str, members: dict[str, Any], name: str, known: Mapping[str, object]) -> dict[str, Any]:
    value = members.get(name, {})
    if not isinstance(value, dict):
        _refuse(line_of(text, name), f"[{name}] must be a section")
    _known(text, value, known, name)
    return value


def _known(text: str, members: Mapping[str, object], known: Mapping[str, object], section: str) -> None:
    for name in members:
        if name not in known:
            _refuse(line_of(text, name, section), f"there is no {name[:40]!r} here{nearest(name, known)}")


def _refuse(line: int, what: str) -> NoReturn:
    raise Refused(Refusal("product-file-invalid", f"Line {line}: {what}.", (("line", line),)))
