"""The computer list, the file that goes between two VAMTs on a medium (PROTOCOL section 7; P1 to P3). Pure.

- JSON Lines. Line 1 is the `cil` document, self-keyed; its `dig` and `len` cover every byte after line 1, `rows` counts
  the lines. Whoever reads learns from it whether the list is whole, and who wrote it; never whether a row is true.
- A row going out is a request that its machine signed, with its key proof; or a proof alone, for the remaining count. A
  row coming back is what the publisher signed, or why there is nothing. Only the publisher's signature makes an answer
  good, so a good one is good in a damaged list, too.
- Reading gives a row or a reason for each line, whatever the bytes are, and never holds more than a line.
- Proxy data only: a row says nothing but pseudonyms (P2). A request with a member that the protocol does not know is
  not written, for who knows what stands in it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.protocol import documents, ids, jws, matching, trust
from volact.protocol.problems import DocumentRefused, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from volact.protocol.documents import Document

MAX_FILE = 512 * 1024 * 1024
MAX_ROWS = 200_000
MAX_LINE = 16 * 1024
"""Bytes of a line, without its line end."""
PIECE = MAX_LINE + 2
"""Bytes of a line that are read at once: one more than the longest with its line end, so that a longer one is seen."""
FULL, PROXY = "full", "proxy"
MODES = (FULL, PROXY)

_WHO = ("name", "domain", "addresses", "macs", "platform")
_TRAVELS = {"token", "jwk"}


class Row(NamedTuple):
    """One row. Going out: `request` and what it carries, or `proof` alone. Coming back: `answer` or `problem`.

    Attributes:
        row: its id, 128 random bits.
        request: ``{"token", "jwk"}``.
        proof: the key proof's token.
        usage: a host's usage statement, ``{"token", "jwk"}``.
        answer: the bundle that the publisher granted.
        problem: why it granted none, a problem document.
        machine: in a full list, who it is, for people.
    """

    row: str
    request: Mapping[str, Any] | None = None
    proof: str | None = None
    usage: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None
    machine: Mapping[str, Any] | None = None

    def bundle(self) -> dict[str, Any]:
        """What goes to the authority of a row going out: a request bundle, or a remaining bundle."""
        members: dict[str, Any] = dict(self.request or {})
        if self.proof is not None:
            members["proof"] = self.proof
        if self.usage is not None:
            members["usage"] = dict(self.usage)
        return members


class Line(NamedTuple):
    """What a line came to.

    Attributes:
        number: the line's, from 1; the first row stands in line 2.
        row: the row, or why there is none.
    """

    number: int
    row: Row | Refusal


class Survey(NamedTuple):
    """A whole file, looked over before any row of it counts.

    Attributes:
        head: what its first line says, verified; None if that does not hold.
        damage: what is wrong with the file as a whole; empty if it is as it was written.
        lines: lines after the first.
    """

    head: Document | None
    damage: str
    lines: int


# --- writing --------------------------------------------------------------------------------------------------


class Tally:
    """Counts and digests rows as they are written, for the head."""

    def __init__(self) -> None:
        """No row yet."""
        self._hash = hashlib.sha256()
        self.rows = self.length = 0

    def add(self, line: bytes) -> None:
        """One more line, with its line end.

        Raises:
            DocumentRefused: if the list would be longer than any may be.
        """
        if self.rows == MAX_ROWS or self.length + len(line) > MAX_FILE - PIECE:
            raise DocumentRefused(
                f"a list has at most {MAX_ROWS} rows and {MAX_FILE} bytes; take fewer machines"
            )
        self._hash.update(line)
        self.rows += 1
        self.length += len(line)

    def claims(self) -> dict[str, Any]:
        """``rows``, ``dig`` and ``len`` of the `cil` document."""
        return {"rows": self.rows, "dig": ids.b64u(self._hash.digest()), "len": self.length}


def head_line(bundle: Mapping[str, Any]) -> bytes:
    """The first line: the signed `cil` document as it travels."""
    return jws.write_json(dict(bundle)) + b"\n"


def line_of(row: Row) -> bytes:
    """A row as it is written.

    Raises:
        DocumentRefused: if it is longer than a row may be.
    """
    members = {name: value for name, value in row._asdict().items() if value is not None}
    line = jws.write_json(members)
    if len(line) > MAX_LINE:
        raise DocumentRefused(f"a row has at most {MAX_LINE} bytes")
    return line + b"\n"


def question(row: str, bundle: Mapping[str, Any], machine: Mapping[str, Any] | None = None) -> Row:
    """The row for a request bundle or a remaining bundle, without what is neither.

    Raises:
        DocumentRefused: if it is none, or says more than the protocol knows.
    """
    whole = {name: bundle[name] for name in ("token", "jwk") if name in bundle}
    made = Row(row, whole or None, bundle.get("proof"), bundle.get("usage"), machine=machine)
    document = open_question(made)
    for one in (document, *([_usage(made)] if made.usage is not None else [])):
        checked = documents.TABLE[one.name]
        known = {claim for claim, _ in (*documents.COMMON, *checked.checks(one.claims), *checked.optional)}
        if not one.claims.keys() <= known:
            more = ", ".join(sorted(one.claims.keys() - known))
            raise DocumentRefused(f"{one.name}: says more than a list may carry: {more[:100]}")
    return made


def who(**said: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON, or a row
    """The member `machine` of a full row: what of `name`, `domain`, `addresses`, `macs`, `platform` is known."""
    return {name: said[name] for name in _WHO if said.get(name)}


# --- reading --------------------------------------------------------------------------------------------------


def survey(pieces: Iterable[bytes]) -> Survey:
    """Look a file over, given in pieces of at most `PIECE` bytes that end where a line ends or in the midst of one.

    Raises:
        DocumentRefused: if it is no computer list, or a larger one than any may be.
    """
    whole = iter(pieces)
    first = next(whole, b"")
    head, why = _head(first)
    hashed, length, lines, like_rows, begins = hashlib.sha256(), 0, 0, 0, first.endswith(b"\n")
    for piece in whole:
        hashed.update(piece)
        length += len(piece)
        if begins:
            lines += 1
            like_rows += b'"row"' in piece
        begins = piece.endswith(b"\n")
        if lines > MAX_ROWS or length > MAX_FILE:
            raise DocumentRefused(f"a computer list has at most {MAX_ROWS} rows and {MAX_FILE} bytes")
    if head is None:
        if not like_rows:
            raise DocumentRefused(f"it is no computer list: {why}")
        return Survey(None, f"its first line does not hold: {why}", lines)
    if head["rows"] > MAX_ROWS or head["len"] > MAX_FILE:
        raise DocumentRefused(f"a computer list has at most {MAX_ROWS} rows and {MAX_FILE} bytes")
    if (lines, length) != (head["rows"], head["len"]) or not begins:
        return Survey(
            head,
            f"it has {lines} rows and {length} bytes, and was written with {head['rows']} and {head['len']}",
            lines,
        )
    if ids.b64u(hashed.digest()) != head["dig"]:
        return Survey(head, "it is not the list that was signed", lines)
    return Survey(head, "", lines)


def _head(line: bytes) -> tuple[Document | None, str]:
    if not line.endswith(b"\n"):
        return None, "it has no first line of its own"
    try:
        return trust.open_self_keyed(jws.read_json(line[:-1]), "cil").document, ""
    except DocumentRefused as error:
        return None, error.refusal.detail


def lines(pieces: Iterable[bytes]) -> Iterator[Line]:
    """The rows of a file, given as `survey` takes it; one row or one reason for each line after the first."""
    whole = iter(pieces)
    while not next(whole, b"\n").endswith(b"\n"):
        continue
    seen: set[str] = set()
    rest = False
    number = 1
    for piece in whole:
        if rest:
            rest = not piece.endswith(b"\n")
            continue
        number += 1
        rest = not piece.endswith(b"\n")
        found = _row(piece)
        if isinstance(found, Row):
            if found.row in seen:
                found = Refusal("row-repeated", f"Row {found.row} stands in the list twice.")
            else:
                seen.add(found.row)
        yield Line(number, found)


def _row(line: bytes) -> Row | Refusal:
    if len(line) > MAX_LINE + 1:
        return Refusal("row-malformed", f"A row has at most {MAX_LINE} bytes.")
    if not line.endswith(b"\n"):
        return Refusal("row-malformed", "It is cut off.")
    try:
        return read_row(line[:-1])
    except DocumentRefused as error:
        return Refusal("row-malformed", f"{error.refusal.detail}.")


def read_row(line: bytes) -> Row:
    """Read a row; nothing in it is verified yet. Members that are not known are left out.

    Raises:
        DocumentRefused: if it is none.
    """
    members = jws.read_json(line)
    row = Row(
        **{name: members[name] for name in Row._fields if name in members and name != "row"},
        row=members.get("row", ""),
    )
    if not ids.is_id(row.row):
        raise DocumentRefused("row is not the id of one")
    for name in ("request", "usage", "answer", "problem", "machine"):
        if name in members and not isinstance(members[name], dict):
            raise DocumentRefused(f"{name} is no object")
    for name in ("request", "usage"):
        if name in members and members[name].keys() != _TRAVELS:
            raise DocumentRefused(f"{name} has exactly token and jwk")
    if "proof" in members and not isinstance(members["proof"], str):
        raise DocumentRefused("proof is no text")
    asks = row.request is not None or row.proof is not None
    if asks + (row.answer is not None) + (row.problem is not None) != 1:
        raise DocumentRefused("a row is a question, an answer or a problem")
    if row.usage is not None and row.request is None:
        raise DocumentRefused("a usage statement comes with a request")
    return row


def open_question(row: Row) -> Document:
    """Verify the request of a row going out, and see that it carries what its operation needs; or read its proof.

    A key proof has no key with it: only the authority, which has it, can tell whether the proof holds.

    Raises:
        DocumentRefused: naming the failed check.
    """
    opening = trust.Opening.self_keyed(row.request, "request") if row.request is not None else None
    return check_question(row, opening.finish() if opening else None)


def read_question(row: Row) -> Document:
    """As `open_question`, but for the request's signature, which takes most of the time.

    For the rows of a list that is as it was written; whoever sends the request on opens it before.

    Raises:
        DocumentRefused: naming the failed check.
    """
    if row.request is None:
        return check_question(row, None)
    opening = trust.Opening.self_keyed(row.request, "request")
    opening.take_apart()
    if ids.Jwk.read(opening.jwk).thumbprint() != opening.parts.kid:
        raise DocumentRefused("request: signed by another key than expected")
    opening.read()
    return check_question(row, opening.document)


def check_question(row: Row, request: Document | None) -> Document:
    """What is left to see to when a row's `request`, if it has one, is verified: `open_question` in two steps."""
    if request is None:
        parts = jws.split(row.proof)
        if parts.typ != documents.typ_of("key-proof"):
            raise DocumentRefused("not a key-proof document")
        proof = documents.read("key-proof", parts.kid, parts.payload, str(row.proof))
        if proof["op"] != "remaining":
            raise DocumentRefused("key-proof: it needs the request that it is for")
        return proof
    documents.check_carried(request, proof=row.proof, usage=row.usage)
    if row.usage is not None:
        usage = _usage(row)
        if (usage["iss"], usage["ref"], usage["pub"]) != (request["iss"], request["ref"], request["pub"]):
            raise DocumentRefused("usage: of another host or delegation than the request")
    return request


def _usage(row: Row) -> Document:
    return trust.open_self_keyed(row.usage, "usage").document


def operation(question: Document) -> str:
    """What a question asks for: ``activate``, ``return``, ``host``, ``extend`` or ``remaining``."""
    return str(question["op"])


def key_of(question: Document) -> str:
    """Thumbprint of the product key that a question is about."""
    return question.kid if question.name == "key-proof" else str(question["key"])


ANSWERS: Mapping[str, str] = {
    "activate": "confirmation",
    "return": "receipt",
    "remaining": "statement",
    "host": "delegation",
    "extend": "delegation",
}
"""What is granted to each operation."""


def check_answer(granted: Document, ask: Document) -> None:
    """See that what was granted, verified, answers this question.

    Raises:
        DocumentRefused: naming what differs.
    """
    if granted.name != ANSWERS[operation(ask)]:
        raise DocumentRefused(f"{granted.name}: not what was asked for")
    if granted.name == "delegation":
        if granted["sub"] != ask["iss"] or ask["prd"] not in granted["prd"]:
            raise DocumentRefused("delegation: of another host or product than the request")
    elif granted.name == "statement":
        if (granted["sub"], granted["prd"], granted["req"]) != (ask.kid, ask["prd"], ask.jti):
            raise DocumentRefused("statement: of another key or question")
    else:
        matching.check_answer(granted, ask)
