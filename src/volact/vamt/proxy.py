"""The MAK proxy: lists that go between a VAMT inside and one outside, and what they do there (P1 to P5).

- Inside: `export` writes what machines, hosts and keys ask. Outside: `intake` takes it in, `acquiring` asks the
  authority, `export_answers` writes what it said. Inside again: `intake` takes that in, `applying` puts it in force.
- What machines ask comes through a function, and files through another: nothing here calls a machine or names a path.
- A list is in the store before its file is there: an answer to a file that somebody has finds its rows.
- Two exports share no row id, and in a list of proxy data nothing says who a machine is (P2).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple

from volact.protocol import ids, jws, machine
from volact.protocol.problems import DocumentRefused, Refusal, Refused
from volact.vamt import cil, receipts, records, selecting
from volact.vamt import store as sql
from volact.vamt.receipts import ANSWER_OUT, ANSWERED, IN, OPEN, OUT, REFUSED, Item, List, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from volact.protocol.documents import Document
    from volact.signing import Signer
    from volact.vamt.acting import Office
    from volact.vamt.inventory import Machine
    from volact.vamt.people import Person
    from volact.vamt.searching import Target
    from volact.vamt.selecting import Selection

BATCH = 256
"""Rows that are one transaction."""
_ID_BYTES = 16
_ANY_ROW = "A" * ids.ID_CHARACTERS
_SPOOLED = 4 * 1024 * 1024
WRITTEN, KEPT, SKIPPED = "written", "kept", "skipped"


class Said(NamedTuple):
    """What a machine came to when it was asked for its request: the bundle, or why there is none."""

    target: Target
    bundle: Mapping[str, Any] | Refusal


Ask = Callable[["Sequence[Target]"], "Iterable[Said]"]
"""Asks machines for the request that is pending for the product of each target; answers as they come."""
Open = Callable[[], "AbstractContextManager[BinaryIO]"]
"""Opens the file that is written; it is in its place once the context has ended well."""


class Outcome(NamedTuple):
    """What became of one row.

    Attributes:
        row: its id in the file; empty for what is in none.
        machine: the machine's name; outside its CMID.
        prd: the product.
        op: what was asked for.
        key: the product key: its label if this VAMT holds it, else its thumbprint.
        state: one word.
        refusal: why, where it is a no.
    """

    row: str
    machine: str
    prd: str
    op: str
    key: str
    state: str
    refusal: Refusal | None = None


class Exported(NamedTuple):
    """What an export came to: the list that was written, and each row that was asked for."""

    written: List
    outcomes: list[Outcome]


class _Question(NamedTuple):
    """Something that is to become a row."""

    mid: str
    name: str
    number: int | None
    bundle: Mapping[str, Any]


class Proxy:
    """The use cases of computer lists on the side that writes them."""

    def __init__(self, office: Office, signer: Signer, random_bytes: Callable[[int], bytes]) -> None:
        """Work in `office`; lists are signed by `signer`, VAMT's own key, and named by `random_bytes`."""
        self._office = office
        self._signer = signer
        self._random_bytes = random_bytes

    def _new_id(self) -> str:
        return ids.b64u(self._random_bytes(_ID_BYTES))

    # --- questions ------------------------------------------------------------------------------------------------

    def export(
        self,
        person: Person,
        pub: str,
        out: Open,
        *,
        selection: Selection | None = None,
        ask: Ask | None = None,
        bundles: Sequence[Mapping[str, Any]] = (),
        mode: str = cil.FULL,
        again: bool = False,
    ) -> Exported:
        """Write a list of what the selected machines ask of publisher `pub`, and of `bundles` besides.

        `bundles` are request bundles that came as files (a KMS host's, one machine's) and remaining bundles. A machine
        for which a confirmation is kept that fits its hardware is left out and said to be `KEPT`, unless `again` (P4).

        Raises:
            Refused: `publisher-unknown`, `list-empty` with the first reason, or as `selecting.select`.
            DocumentRefused: if the list would be longer than any may be.
        """
        what = {"publisher": pub, "mode": mode, "selection": selection.said() if selection else {}}
        with self._office.acting(person, "export", what) as deed:
            with self._office.store.writing() as tx:
                publisher = _publisher(tx, pub)
                chosen = selecting.select(tx, selection, self._office.clock.now()) if selection else []
                known = receipts.machines_of(tx, [_cmid(one) for one in bundles])
                known_names = receipts.names(tx, known.values())
                made = self._list(tx, person, publisher, OUT, mode)
            exporting = _Exporting(self._office, publisher, made, person.name, self._new_id, again=again)
            targets = [one for one in chosen if one.pub == pub]
            exporting.skip([one for one in chosen if not one.pub])
            said = ask(targets) if ask and targets else ()
            questions = exporting.told(said)
            files = (
                _Question(
                    known.get(_cmid(one), ""), known_names.get(known.get(_cmid(one), ""), ""), None, one
                )
                for one in bundles
            )
            with tempfile.SpooledTemporaryFile(_SPOOLED) as rows:
                for batch in _batches(_chained(questions, files)):
                    exporting.write(batch, rows)
                if not exporting.tally.rows:
                    raise Refused(Refusal("list-empty", exporting.first_reason()))
                done = self._finish(made, publisher, exporting.tally, rows, out)
            deed.rows = done.rows
            deed.detail = f"list {done.lid}, {len(exporting.outcomes) - done.rows} left out"
        return Exported(done, exporting.outcomes)

    # --- answers --------------------------------------------------------------------------------------------------

    def export_answers(self, person: Person, lid: str, out: Open) -> List:
        """Write what the authority said to the rows of list `lid`, which came in; the rows that are open are left out.

        Raises:
            Refused: `list-unknown`, or `list-empty` if nothing was acquired yet.
        """
        with self._office.acting(person, "export", {"answers to": lid}) as deed:
            with self._office.store.writing() as tx:
                asked = receipts.find(tx, lid)
                if asked is None or asked.direction != IN:
                    raise Refused(Refusal("list-unknown", f"{lid[:40]!r} is no list that came in here."))
                publisher = _publisher(tx, asked.pub)
                made = self._list(tx, person, publisher, ANSWER_OUT, asked.mode, lid)
            tally = cil.Tally()
            with tempfile.SpooledTemporaryFile(_SPOOLED) as rows:
                for one in self._settled(asked.number):
                    is_good = one.state == ANSWERED
                    row = (
                        cil.Row(one.row, answer=one.answer)
                        if is_good
                        else cil.Row(one.row, problem=one.answer)
                    )
                    line = cil.line_of(row)
                    tally.add(line)
                    rows.write(line)
                if not tally.rows:
                    raise Refused(
                        Refusal("list-empty", "Nothing was acquired for it yet: volact vamt acquire.")
                    )
                done = self._finish(made, publisher, tally, rows, out)
            deed.rows = done.rows
        return done

    def _settled(self, number: int) -> Iterator[Item]:
        after = 0
        while True:
            with self._office.store.reading() as tx:
                found = receipts.items(tx, number, after=after, limit=BATCH, but=[OPEN])
            if not found:
                return
            yield from found
            after = found[-1].number

    # --- looking, trusting ----------------------------------------------------------------------------------------

    def lists(self, person: Person, limit: int) -> list[tuple[List, dict[str, int]]]:
        """The newest lists, newest first, each with how many of its rows are in which state."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            return [(one, receipts.states(tx, one.number)) for one in receipts.lists(tx, limit)]

    def receipt(self, person: Person, lid: str) -> tuple[List, list[tuple[Item, Outcome]]]:
        """A list, and what became of each row: which key, when and through whom stand in the items.

        Raises:
            Refused: `list-unknown`.
        """
        self._office.look(person)
        with self._office.store.reading() as tx:
            found = receipts.find(tx, lid)
            if found is None:
                raise Refused(Refusal("list-unknown", f"{lid[:40]!r}."))
            rows = receipts.items(tx, found.number, limit=cil.MAX_ROWS)
            return found, list(zip(rows, outcomes(tx, rows), strict=True))

    def writers(self, person: Person) -> list[Writer]:
        """The VAMTs whose lists were met, and those that were pinned."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            return receipts.writers(tx)

    def trust(self, person: Person, fingerprint: str, name: str = "", *, trusted: bool = True) -> Writer:
        """Pin a VAMT by the fingerprint that its `init` says, so that names in its lists count; or pin it no more."""
        what = {"writer": fingerprint, "name": name, "trusted": trusted}
        with self._office.acting(person, "trust-writer", what) as deed, self._office.store.writing() as tx:
            known = receipts.writer(tx, fingerprint)
            met = known.met if known else self._office.clock.now()
            made = Writer(fingerprint, name or (known.name if known else ""), trusted, met)
            receipts.put_writer(tx, made)
            deed.rows = 1
        return made

    # --- writing --------------------------------------------------------------------------------------------------

    def _list(
        self,
        tx: Connection,
        person: Person,
        publisher: sql.Publisher,
        direction: str,
        mode: str,
        ref: str | None = None,
    ) -> List:
        """A list that is begun: it has its number, and no digest yet."""
        seq, now = sql.next_sequence(tx), self._office.clock.now()
        made = List(
            0,
            self._new_id(),
            publisher.pub,
            direction,
            mode,
            seq,
            self._signer.kid,
            ref,
            "",
            0,
            now,
            person.name,
        )
        return made._replace(number=receipts.add(tx, made))

    def _finish(
        self,
        made: List,
        publisher: sql.Publisher,
        tally: cil.Tally,
        rows: IO[bytes],
        out: Open,
    ) -> List:
        """Write the file: the signed head, then the rows that were made before."""
        counted = tally.claims()
        claims = {
            "pub": made.pub,
            "lab": publisher.lab,
            "iat": made.at,
            "jti": self._new_id(),
            "sub": made.lid,
            "seq": made.seq,
            "mode": made.mode,
            **counted,
            **({} if made.ref is None else {"ref": made.ref}),
        }
        done = made._replace(digest=counted["dig"], rows=counted["rows"])
        rows.seek(0)
        with out() as file:
            file.write(cil.head_line(self._signer.bundle("cil", claims)))
            shutil.copyfileobj(rows, file, _SPOOLED)
            with self._office.store.writing() as tx:
                receipts.finish(tx, made.number, done.digest, done.rows)
        return done


class _Exporting:
    """A list of questions in the making.

    Attributes:
        outcomes: what became of each that was asked for.
        tally: the rows that were written.
    """

    def __init__(
        self,
        office: Office,
        publisher: sql.Publisher,
        made: List,
        who: str,
        new_id: Callable[[], str],
        *,
        again: bool,
    ) -> None:
        self._office, self._publisher, self._made, self._who = office, publisher, made, who
        self._new_id, self._again = new_id, again
        self._labels: dict[str, str] = {}
        self.outcomes: list[Outcome] = []
        self.tally = cil.Tally()

    def first_reason(self) -> str:
        """Why the first that was left out was, for a list without rows."""
        return next(
            (f"{one.machine}: {one.refusal}" for one in self.outcomes if one.refusal),
            "Nothing was asked for.",
        )

    def skip(self, targets: Sequence[Target]) -> None:
        """Machines on which no product is known ask for nothing."""
        refusal = Refusal("product-not-installed", "No product is known on it: volact vamt collect.")
        self.outcomes += [Outcome("", one.name or one.mid, "", "", "", SKIPPED, refusal) for one in targets]

    def told(self, said: Iterable[Said]) -> Iterator[_Question]:
        """The questions in what machines said; the others are noted."""
        for target, bundle in said:
            if isinstance(bundle, Refusal):
                self.outcomes.append(
                    Outcome("", target.name or target.mid, target.prd, "", "", SKIPPED, bundle)
                )
            else:
                yield _Question(target.mid, target.name, target.number, bundle)

    def write(self, batch: Sequence[_Question], rows: IO[bytes]) -> None:
        """Write rows, into the store and the file of rows."""
        with self._office.store.writing() as tx:
            known = (
                records.load(tx, [one.number for one in batch if one.number is not None])
                if self._made.mode == cil.FULL
                else {}
            )
            kept = receipts.kept(tx, [one.mid for one in batch if one.mid])
            items = []
            for one in batch:
                row = self._new_id()
                try:
                    who = _who(known.get(one.number or 0), one) if self._made.mode == cil.FULL else None
                    made = cil.question(row, one.bundle, who)
                    document = cil.open_question(made)
                    self._check(document)
                    line = cil.line_of(made)
                except DocumentRefused as error:
                    self._note(tx, one, None, "", error.refusal)
                    continue
                if not self._again and _kept_for(kept, one.mid, document):
                    self._note(tx, one, document, "", None)
                    continue
                self.tally.add(line)
                rows.write(line)
                items.append(self._item(one, row, document, made.bundle()))
                self._note(tx, one, document, row, None)
            receipts.add_items(tx, items)

    def _check(self, document: Document) -> None:
        if document["pub"] != self._publisher.pub or document["lab"] is not self._publisher.lab:
            raise DocumentRefused("of another publisher than the list")

    def _item(self, one: _Question, row: str, document: Document, bundle: dict[str, Any]) -> Item:
        return Item(
            0,
            self._made.number,
            row,
            one.mid,
            str(document["prd"]),
            cil.operation(document),
            document.jti,
            cil.key_of(document),
            bundle,
            OPEN,
            "",
            None,
            self._made.at,
            self._who,
        )

    def _note(
        self, tx: Connection, one: _Question, document: Document | None, row: str, refusal: Refusal | None
    ) -> None:
        state = SKIPPED if refusal else WRITTEN if row else KEPT
        if document is None:
            self.outcomes.append(Outcome(row, one.name or one.mid, "", "", "", state, refusal))
            return
        key = cil.key_of(document)
        if key not in self._labels:
            self._labels[key] = receipts.labels(tx, [key]).get(key, key)
        name = one.name or one.mid or document.kid
        self.outcomes.append(
            Outcome(
                row, name, str(document["prd"]), cil.operation(document), self._labels[key], state, refusal
            )
        )


def outcomes(tx: Connection, rows: Sequence[Item]) -> list[Outcome]:
    """Rows of the store as people see them: machines by name, keys by label."""
    named = receipts.names(tx, [one.mid for one in rows])
    labels = receipts.labels(tx, [one.key for one in rows])
    return [
        Outcome(
            one.row,
            named.get(one.mid) or one.mid or asker(one),
            one.prd,
            one.op,
            labels.get(one.key, one.key),
            one.state,
            _refusal(one),
        )
        for one in rows
    ]


def asker(one: Item) -> str:
    """Who signed the request of a row of ours: a CMID, or a host's id; nobody, if it is a question about a key."""
    return jws.split(one.request["token"]).kid if "token" in one.request else ""


def _refusal(one: Item) -> Refusal | None:
    if not one.code:
        return None
    said = one.answer if one.state == REFUSED and one.answer else {}
    return Refusal.received(one.code, str(said.get("detail", "")), str(said.get("title", one.code)))


def _publisher(tx: Connection, pub: str) -> sql.Publisher:
    found = sql.publisher(tx, pub)
    if found is None:
        raise Refused(Refusal("publisher-unknown", f"{pub[:43]!r}."))
    return found


def _cmid(bundle: Mapping[str, Any]) -> str:
    """Whose request a bundle says it is; empty for one that says nothing."""
    try:
        row = cil.question(_ANY_ROW, bundle)
        return cil.open_question(row).kid if row.request else ""
    except DocumentRefused:
        return ""


def _who(known: Machine | None, one: _Question) -> dict[str, Any]:
    if known is None:
        return cil.who(name=one.name)
    return cil.who(
        name=known.name,
        domain=known.domain,
        addresses=list(known.addresses)[:16],
        macs=list(known.macs)[:16],
        platform=known.platform,
    )


def _kept_for(kept: Sequence[receipts.Kept], mid: str, ask: Document) -> bool:
    """Whether a confirmation is kept for the hardware of a request to activate (row 12 of PROTOCOL section 5)."""
    if cil.operation(ask) != "activate":
        return False
    return any(
        one.mid == mid
        and (one.prd, one.key) == (ask["prd"], ask["key"])
        and machine.compare(one.fp, ask["fp"]).verdict == machine.SAME
        for one in kept
    )


def _chained(*parts: Iterable[_Question]) -> Iterator[_Question]:
    for part in parts:
        yield from part


def _batches(questions: Iterable[_Question]) -> Iterator[list[_Question]]:
    left = iter(questions)
    while batch := list(islice(left, BATCH)):
        yield batch
