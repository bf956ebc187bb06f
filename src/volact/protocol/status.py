"""The body of a status list: what the publisher has blocked or taken back (PROTOCOL section 7).

Lines ``kind id mode since``, sorted by their bytes, one a (kind, id); read and written as a stream. The signed
head (`status` document) holds the body's digest and length.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from volact.protocol.ids import b64u
from volact.protocol.problems import DocumentRefused
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from volact.protocol.documents import Document
    from volact.protocol.trust import Granted

MAX_BODY = 64 * 1024 * 1024
MAX_LINE = 128
_LINE = re.compile(
    rb"(act) ([A-Za-z0-9_-]{22}) (all|returned) (0|[1-9][0-9]{0,15})\n"
    rb"|(host|key|machine) ([A-Za-z0-9_-]{43}) (all|new) (0|[1-9][0-9]{0,15})\n"
)


class Entry(NamedTuple):
    """One line: `kind` is act, host, key or machine; `mode` all, new or returned; `since` in seconds UTC."""

    kind: str
    id: str
    mode: str
    since: int


def pair(granted: Granted) -> tuple[int, int]:
    """What lists are ordered by: iat of the status key's delegation, then the version."""
    return granted.chain[-1].iat, int(granted.document["ver"])


def lines(entries: Iterable[Entry]) -> list[bytes]:
    """The lines of a body in order; a list without entries has none."""
    return sorted(f"{one.kind} {one.id} {one.mode} {one.since}\n".encode("ascii") for one in entries)


def check_body(head: Document, body: Iterable[bytes]) -> None:
    """Compare a body, given in any pieces, with its verified head, before any line of it is believed.

    Raises:
        DocumentRefused: if it is longer, shorter or other than the head says, or longer than any may be.
    """
    if head["len"] > MAX_BODY:
        raise DocumentRefused(f"status list: longer than {MAX_BODY} bytes")
    hashed, length = hashlib.sha256(), 0
    for piece in body:
        length += len(piece)
        if length > head["len"]:
            break
        hashed.update(piece)
    if length != head["len"] or b64u(hashed.digest()) != head["dig"]:
        raise DocumentRefused("status list: the body is not the one that its head names")


def read(body: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of a body, given line by line with their line ends.

    Raises:
        DocumentRefused: on a malformed line, wrong order or a repeated (kind, id).
    """
    before = b""
    for line in body:
        found = _LINE.fullmatch(line)
        if not found:
            raise DocumentRefused("status list: a line is not what it must be")
        kind, identifier, mode, since = (part.decode("ascii") for part in found.groups() if part is not None)
        place = line[: line.rindex(b" ", 0, line.rindex(b" "))]
        if place <= before:
            raise DocumentRefused("status list: out of order")
        before = place
        yield Entry(kind, identifier, mode, int(since))


def find(body: bytes, kind: str, identifier: str, *, start: int = 0) -> str:
    """The mode in which a checked body, which begins at `start`, names something; empty if it does not.

    Looks by halves, so that a list of the longest kind need not be taken apart to ask for one machine.
    """
    wanted = f"{kind} {identifier} ".encode("ascii")
    low, high = start, len(body)
    while low < high:
        at = body.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = body.index(b"\n", at) + 1
        line = body[at:end]
        if line.startswith(wanted):
            return line[len(wanted) :].split(b" ", 1)[0].decode("ascii")
        if line < wanted:
            low = end
        else:
            high = at
    return ""
