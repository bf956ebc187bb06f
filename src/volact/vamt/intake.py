"""Taking in a computer list: questions outside, answers inside; whatever the file is, row by row (P1, P3).

1. The whole file is looked over before any row counts: who wrote it, and whether it is as it was written.
2. Of a damaged list only what the publisher signed counts: its answers, verified to the pinned root. Questions, names and
   problems of a damaged list are dropped. Of a whole one a question is read, and its signature checked when it is asked.
3. An answer finds its row by the question's id that the publisher signed, not by where it stands: from another site's
   list nothing fits. Where the publisher signs no such id (a host's delegation), by the row's id and the host's key.
4. Twice is once: a row that is known stays as it is, and an answered row takes no problem. Of an older list a question
   that a newer one replaced is not taken.
5. A batch of rows is one transaction; one that was stopped goes on when the same file is taken in again.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from volact.protocol import documents, ids, jws, trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused
from volact.vamt import cil, receipts
from volact.vamt import store as sql
from volact.vamt.discovering import names
from volact.vamt.inventory import Sighting
from volact.vamt.proxy import Outcome, outcomes
from volact.vamt.publishers import roots_of
from volact.vamt.receipts import (
    ANSWER_IN,
    ANSWERED,
    APPLIED,
    IN,
    OPEN,
    OUT,
    REFUSED,
    Item,
    Kept,
    List,
    Writer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from volact.protocol.documents import Document
    from volact.protocol.trust import Granted, Roots
    from volact.vamt.acting import Office
    from volact.vamt.people import Person

NEW, KNOWN, DROPPED = "new", "known", "dropped"
SOURCE = "cil"
BATCH = 1000
"""Lines that are one transaction."""
_NOTHING_TO_APPLY = ("receipt", "statement")


class Taken(NamedTuple):
    """What a file came to.

    Attributes:
        lid: the list's id; empty if its first line does not hold.
        pub: the publisher; empty likewise.
        writer: who wrote it; None likewise.
        ref: the list that it answers; None if it asks.
        again: whether it was taken in before.
        older: whether a later list of the same writer was taken in before.
        damage: what is wrong with it as a whole; empty if nothing.
        outcomes: what became of each row; then the rows of the answered list that are still open.
    """

    lid: str
    pub: str
    writer: Writer | None
    ref: str | None
    again: bool
    older: bool
    damage: str
    outcomes: list[Outcome]


class Intake:
    """The use case of taking in a list."""

    def __init__(self, office: Office, own: str) -> None:
        """Work in `office`; `own` is the fingerprint of this VAMT, whose own lists are not for itself."""
        self._office = office
        self._own = own

    def import_(
        self, person: Person, file: BinaryIO, tell: Callable[[int, int], None] | None = None
    ) -> Taken:
        """Take in a computer list; `tell` is told how many of how many rows were looked at.

        Raises:
            Refused: `publisher-unknown`, or `list-foreign` if this VAMT wrote it itself.
            DocumentRefused: if it is no computer list, or larger than any may be; then nothing was taken in.
        """
        with self._office.acting(person, "import", {}) as deed:
            found = cil.survey(_pieces(file))
            with self._office.store.writing() as tx:
                taking = self._begin(tx, found, person)
            done = 0
            for batch in _batches(cil.lines(_pieces(file))):
                with self._office.store.writing() as tx:
                    taking.take(tx, batch)
                done += len(batch)
                if tell:
                    tell(done, found.lines)
            with self._office.store.reading() as tx:
                taken = taking.taken(tx)
            deed.rows = sum(one.state not in (KNOWN, DROPPED, OPEN) for one in taken.outcomes)
            deed.detail = f"list {taken.lid or 'damaged'}, {found.lines} rows"
        return taken

    def _begin(self, tx: Connection, found: cil.Survey, person: Person) -> _Taking:
        roots = {one.pub: roots_of(one) for one in sql.publishers(tx)}
        now, head = self._office.clock.now(), found.head
        if head is None:
            return _Taking(None, None, roots, found.damage, person.name, now)
        if head.kid == self._own:
            raise Refused(
                Refusal("list-foreign", "This VAMT wrote the list itself: carry it to the other one.")
            )
        pub, ref = str(head["pub"]), head.claims.get("ref")
        if pub not in roots:
            raise Refused(Refusal("publisher-unknown", f"The list is about the publisher {pub}."))
        trust.check_publisher(head, pub, lab=roots[pub].lab)
        writer = receipts.writer(tx, head.kid)
        if writer is None:
            writer = Writer(head.kid, "", trusted=False, met=now)
            receipts.put_writer(tx, writer)
        direction = IN if ref is None else ANSWER_IN
        older = head["seq"] < receipts.newest(tx, head.kid, pub, direction)
        made = receipts.find(tx, head["sub"])
        again = made is not None
        if made is None:
            made = List(
                0,
                head["sub"],
                pub,
                direction,
                head["mode"],
                head["seq"],
                head.kid,
                ref,
                head["dig"],
                head["rows"],
                now,
                person.name,
            )
            if not found.damage:
                made = made._replace(number=receipts.add(tx, made))
        elif made.writer != head.kid:
            raise Refused(Refusal("list-foreign", "Another VAMT wrote a list of the same id."))
        return _Taking(made, writer, roots, found.damage, person.name, now, again=again, older=older)


class _Taking:
    """A list that is being taken in."""

    def __init__(
        self,
        made: List | None,
        writer: Writer | None,
        roots: Mapping[str, Roots],
        damage: str,
        who: str,
        now: int,
        *,
        again: bool = False,
        older: bool = False,
    ) -> None:
        self._list, self._writer, self._roots, self._damage = made, writer, roots, damage
        self._who, self._now, self._again, self._older = who, now, again, older
        self._outcomes: list[Outcome] = []
        self._texts: dict[str, str] = {}
        self._chains: trust.Chains = {}

    def taken(self, tx: Connection) -> Taken:
        """What it came to."""
        one = self._list
        ref = one.ref if one else None
        asked = receipts.find(tx, ref) if ref else None
        left = receipts.items(tx, asked.number, limit=cil.MAX_ROWS, but=_ALL_BUT_OPEN) if asked else []
        return Taken(
            one.lid if one else "",
            one.pub if one else "",
            self._writer,
            ref,
            self._again,
            self._older,
            self._damage,
            self._outcomes + outcomes(tx, left),
        )

    def take(self, tx: Connection, batch: Sequence[cil.Line]) -> None:
        """Take in some lines."""
        rows: list[cil.Row] = []
        for line in batch:
            if isinstance(line.row, Refusal):
                refusal = line.row._replace(detail=f"Line {line.number}: {line.row.detail}")
                self._drop("", refusal)
            else:
                rows.append(line.row)
        asked = [one for one in rows if one.answer is None and one.problem is None]
        answered = [one for one in rows if one.answer is not None or one.problem is not None]
        misplaced: list[cil.Row] = []
        if self._list is not None and self._list.ref is None:
            misplaced, answered = answered, []
        elif self._list is not None:
            misplaced, asked = asked, []
        for one in misplaced:
            self._drop(one.row, Refusal("row-malformed", "A list has questions or answers, not both."))
        self._questions(tx, asked)
        self._answers(tx, answered)

    def _drop(
        self, row: str, refusal: Refusal, machine: str = "", prd: str = "", op: str = "", key: str = ""
    ) -> None:
        self._outcomes.append(Outcome(row, machine, prd, op, key, DROPPED, refusal))

    # --- questions ------------------------------------------------------------------------------------------------

    def _questions(self, tx: Connection, rows: Sequence[cil.Row]) -> None:
        if self._damage or self._list is None:
            for row in rows:
                self._drop(row.row, Refusal("list-damaged", f"The list: {self._damage}."))
            return
        here = self._list
        found = self._opened(rows, here.pub)
        there = receipts.known_rows(tx, here.number, [row.row for row, _ in found]) if self._again else set()
        newer = (
            receipts.newer(tx, here.writer, here.seq, [one.kid for _, one in found]) if self._older else {}
        )
        items = []
        for row, one in found:
            item = self._item(row, one, here.number)
            state: str = KNOWN if row.row in there else NEW
            if newer.get((item.mid, item.prd, item.op), item.jti) != item.jti:
                self._drop(row.row, Refusal("list-outdated"), item.mid, item.prd, item.op, item.key)
                continue
            if state == NEW:
                items.append(item)
            self._outcomes.append(Outcome(row.row, item.mid, item.prd, item.op, item.key, state))
        receipts.add_items(tx, items)

    def _opened(self, rows: Sequence[cil.Row], pub: str) -> list[tuple[cil.Row, Document]]:
        """The questions that are some; the others are noted. Their signatures are checked before they are sent on."""
        found = []
        for row in rows:
            try:
                document = cil.read_question(row)
                trust.check_publisher(document, pub, lab=self._roots[pub].lab)
            except DocumentRefused as error:
                self._drop(row.row, error.refusal)
            else:
                found.append((row, document))
        return found

    def _once(self, text: str) -> str:
        """A text that most rows repeat, kept once for all of them."""
        return self._texts.setdefault(text, text)

    def _item(self, row: cil.Row, one: Document, number: int) -> Item:
        mid = one.kid if row.request is not None else ""
        prd, op, key = map(self._once, (str(one["prd"]), cil.operation(one), cil.key_of(one)))
        return Item(
            0,
            number,
            row.row,
            mid,
            prd,
            op,
            one.jti,
            key,
            row.bundle(),
            OPEN,
            "",
            None,
            self._now,
            self._who,
        )

    # --- answers --------------------------------------------------------------------------------------------------

    def _answers(self, tx: Connection, rows: Sequence[cil.Row]) -> None:
        said = [(row, _peek(row.answer)) for row in rows]
        ref = self._list.ref if self._list else None
        by_question = receipts.by_question(tx, [peek.req for _, peek in said if peek.req], OUT)
        by_row = receipts.by_row(tx, [row.row for row, peek in said if not peek.req], OUT, ref)
        settled: dict[int, Item] = {}
        kept: list[Kept] = []
        for row, peek in said:
            asked = (
                by_question.get(peek.req, []) if peek.req else [by_row[row.row]] if row.row in by_row else []
            )
            if not asked:
                self._drop(row.row, peek.refusal or Refusal("list-foreign"))
                continue
            asked = [settled.get(one.number, one) for one in asked]
            if row.problem is not None:
                done = self._problem(asked[0], row.problem)
            else:
                done = self._answer(tx, asked, peek, kept)
            settled.update({one.number: one for one in done})
        receipts.settle(tx, list(settled.values()))
        receipts.keep(tx, kept)

    def _note(self, item: Item, state: str, refusal: Refusal | None = None) -> None:
        prd, op, key = map(self._once, (item.prd, item.op, item.key))
        self._outcomes.append(Outcome(item.row, item.mid, prd, op, key, state, refusal))

    def _problem(self, item: Item, problem: Mapping[str, Any]) -> list[Item]:
        """A no of the authority; the row says so until it is answered. Nobody signed it, so a whole list must say it."""
        refusal = Refusal.received(
            str(problem.get("code", "")), str(problem.get("detail", "")), str(problem.get("title", ""))
        )
        if self._damage:
            self._note(item, DROPPED, Refusal("list-damaged", f"The list: {self._damage}."))
        elif item.state not in (OPEN, REFUSED):
            self._note(item, KNOWN)
        elif self._older and item.state == REFUSED:
            self._note(item, DROPPED, Refusal("list-outdated"))
        else:
            self._note(item, REFUSED, refusal)
            return [self._done(item, REFUSED, refusal.code, refusal.document())]
        return []

    def _answer(self, tx: Connection, asked: Sequence[Item], peek: _Peek, kept: list[Kept]) -> list[Item]:
        """An answer that the publisher signed, for all rows that asked the same."""
        first = asked[0]
        try:
            granted = self._granted(peek)
            cil.check_answer(granted.document, question_of(first))
        except DocumentRefused as error:
            self._note(first, DROPPED, error.refusal)
            return []
        bundle = granted.bundle()
        if all(one.state not in (OPEN, REFUSED) and not _is_later(granted, one) for one in asked):
            self._note(first, KNOWN)
            return []
        self._note(first, ANSWERED)
        self._keep(tx, granted, first.mid, bundle, kept)
        state = APPLIED if granted.document.name in _NOTHING_TO_APPLY else ANSWERED
        return [self._done(one, state, "", bundle) for one in asked]

    def _granted(self, peek: _Peek) -> Granted:
        if peek.refusal:
            raise DocumentRefused(peek.refusal.detail)
        roots = self._roots.get(peek.pub)
        if roots is None:
            raise DocumentRefused("of a publisher that is not known here")
        return trust.take_up(trust.verify(peek.bundle, peek.name, roots, self._chains))

    def _keep(
        self, tx: Connection, granted: Granted, mid: str, bundle: dict[str, Any], kept: list[Kept]
    ) -> None:
        document = granted.document
        if document.name == "confirmation":
            pub, prd, key, cmid, act = (str(document[name]) for name in ("pub", "prd", "key", "sub", "act"))
            made = Kept(pub, prd, key, cmid, act, document["fp"], bundle, mid, document.iat, self._now)
            kept.append(made)
        elif document.name == "receipt":
            receipts.forget(tx, str(document["pub"]), str(document["act"]))
        elif document.name == "statement":
            receipts.state_key(tx, document.claims, bundle)

    def _done(self, item: Item, state: str, code: str, answer: dict[str, Any]) -> Item:
        return item._replace(state=state, code=code, answer=answer, at=self._now, who=self._who)


_ALL_BUT_OPEN = (REFUSED, ANSWERED, APPLIED, receipts.FAILED)


_NAMES = {documents.typ_of(name): name for name in cil.ANSWERS.values()}


class _Peek(NamedTuple):
    """What an answer says of itself, nothing of it verified: enough to find its row."""

    bundle: Mapping[str, Any]
    name: str = ""
    pub: str = ""
    req: str = ""
    refusal: Refusal | None = None


def _peek(bundle: Mapping[str, Any] | None) -> _Peek:
    if bundle is None:
        return _Peek({})
    try:
        parts = jws.split(bundle.get("token"), limit=jws.MAX_BYTES_LARGE)
        claims = jws.read_json(parts.payload)
    except DocumentRefused as error:
        return _Peek(bundle, refusal=error.refusal)
    name = _NAMES.get(parts.typ)
    if name is None:
        return _Peek(bundle, refusal=Refusal("document-refused", "it is nothing that answers a question"))
    req, pub = claims.get("req"), claims.get("pub")
    return _Peek(bundle, name, pub if isinstance(pub, str) else "", str(req) if ids.is_id(req) else "")


def question_of(item: Item) -> Document:
    """The question of a row of ours; it was verified when it was written or taken in."""
    name = "request" if "token" in item.request else "key-proof"
    token = str(item.request["token" if name == "request" else "proof"])
    parts = jws.split(token)
    return documents.read(name, parts.kid, parts.payload, token)


def _is_later(granted: Granted, item: Item) -> bool:
    """Whether an answer was signed after the one that a row has: a confirmation that was issued anew."""
    held = _peek(item.answer)
    if held.refusal:
        return True
    parts = jws.split(held.bundle.get("token"), limit=jws.MAX_BYTES_LARGE)
    return granted.document.iat > int(jws.read_json(parts.payload)["iat"])


def sightings(file: BinaryIO) -> Iterator[Sighting]:
    """What a full list says of its machines, for people; the caller has seen that its writer is trusted and it is whole."""
    for line in cil.lines(_pieces(file)):
        if isinstance(line.row, cil.Row) and line.row.machine is not None:
            seen = _sighting(line.row.machine)
            if seen:
                yield seen


def _sighting(said: Mapping[str, Any]) -> Sighting | None:
    texts = {name: said[name] for name in ("name", "domain", "platform") if isinstance(said.get(name), str)}
    host = names.host(".".join(filter(None, (texts.get("name", ""), texts.get("domain", "")))))
    listed = said.get("addresses")
    found = [names.address(one) for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    addresses = tuple(one for one in found if one)
    if host is None and not addresses:
        return None
    host = host or names.Host("")
    return Sighting(SOURCE, host.name, host.domain, addresses)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    return iter(lambda: file.readline(cil.PIECE), b"")


def _batches(lines: Iterable[cil.Line]) -> Iterator[list[cil.Line]]:
    left = iter(lines)
    while batch := list(islice(left, BATCH)):
        yield batch
