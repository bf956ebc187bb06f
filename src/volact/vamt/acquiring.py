"""Acquiring, outside: the rows of a list are asked of the authority, batch by batch, and what it says is kept (P1, F40).

- A batch is at most 100 rows, as the authority takes them. Each is kept as soon as it is answered: who stops, or is cut
  off, goes on with the rest. A row that was refused is asked again, for a key may have been topped up.
- An answer is kept only if it verifies to the pinned root and answers its row's question.
- The publisher's status list is fetched besides, and travels back on the same medium, as a file of its own (M5).
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from volact.protocol import jws, status, trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused, Unreachable
from volact.vamt import cil, receipts
from volact.vamt import store as sql
from volact.vamt.intake import question_of
from volact.vamt.proxy import Outcome, outcomes
from volact.vamt.publishers import roots_of
from volact.vamt.receipts import ANSWERED, APPLIED, FAILED, IN, REFUSED, Item, List, StatusList

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from volact.calls import Answer
    from volact.protocol.trust import Roots
    from volact.vamt.acting import Office
    from volact.vamt.people import Person

MOST_AT_ONCE = 100
_MOST_BYTES = 900_000
"""Bytes of a batch: below what the authority takes as a body."""
_OK, _NOT_FOUND = 200, 404
_SETTLED = (ANSWERED, APPLIED, FAILED)


class Authority(Protocol):
    """A connection to the authority: `calls.Caller`."""

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """POST a body."""

    def get(self, path: str) -> Answer:
        """GET a path."""

    def __enter__(self) -> Self:
        """Use as a context."""

    def __exit__(self, *error: object) -> None:
        """Close it."""


Connect = "Callable[[str, Sequence[str]], Authority]"
"""Connects to an authority by its address and the digests of its keys."""


class Acquired(NamedTuple):
    """What acquiring came to.

    Attributes:
        answered: rows that have their answer now.
        before: rows that had it before.
        outcomes: all rows of the list, as they are now.
        status_list: why the status list was not had; None if it was, or there is none.
    """

    answered: int
    before: int
    outcomes: list[Outcome]
    status_list: Refusal | None


class Acquiring:
    """The use case of acquiring."""

    def __init__(self, office: Office) -> None:
        """Work in `office`."""
        self._office = office

    def acquire(
        self,
        person: Person,
        lid: str,
        connect: Callable[[str, Sequence[str]], Authority],
        tell: Callable[[int, int], None] | None = None,
    ) -> Acquired:
        """Ask the authority for the rows of list `lid` that have no answer yet; `tell` is told how far it is.

        Raises:
            Refused: `list-unknown`, or what the authority says to the whole of a batch, e.g. `too-many-requests`.
            Unreachable: if nobody answers. What was answered until then is kept.
        """
        with self._office.acting(person, "acquire", {"list": lid}) as deed:
            with self._office.store.reading() as tx:
                asked = receipts.find(tx, lid)
                if asked is None or asked.direction != IN:
                    raise Refused(Refusal("list-unknown", f"{lid[:40]!r} is no list that came in here."))
                publisher = sql.publisher(tx, asked.pub)
                counts = receipts.states(tx, asked.number)
            if publisher is None or not publisher.url:
                raise Refused(
                    Refusal("publisher-unknown", "No product of the publisher says where its authority is.")
                )
            roots, before = roots_of(publisher), sum(counts.get(state, 0) for state in _SETTLED)
            deed.rows = 0
            with connect(publisher.url, publisher.tls) as authority:
                after = 0
                while batch := self._batch(asked, after):
                    deed.rows += self._ask(authority, batch, roots, person.name)
                    after = batch[-1].number
                    if tell:
                        tell(before + deed.rows, asked.rows)
                missing = self.fetch_status(authority, roots)
            with self._office.store.reading() as tx:
                rows = receipts.items(tx, asked.number, limit=cil.MAX_ROWS)
                return Acquired(deed.rows, before, outcomes(tx, rows), missing)

    def _batch(self, asked: List, after: int) -> list[Item]:
        with self._office.store.reading() as tx:
            found = receipts.items(tx, asked.number, after=after, limit=MOST_AT_ONCE, but=_SETTLED)
        size = 0
        for count, one in enumerate(found):
            size += len(jws.write_json(one.request)) + 1
            if size > _MOST_BYTES:
                return found[:count]
        return found

    def _ask(self, authority: Authority, batch: Sequence[Item], roots: Roots, who: str) -> int:
        """Ask for a batch and keep what is said; how many rows were answered. What its machine did not sign is not sent."""
        wrong = _unsigned(batch)
        sent = [one for one in batch if one.number not in wrong]
        said: list[dict[str, Any]] = []
        if sent:
            answer = authority.post("/v1/requests", {"requests": [one.request for one in sent]})
            said = answers(answer, len(sent))
        done = [_refused(one, wrong[one.number]) for one in batch if one.number in wrong]
        done += [_settled(item, one, roots) for item, one in zip(sent, said, strict=True)]
        now = self._office.clock.now()
        with self._office.store.writing() as tx:
            receipts.settle(tx, [one._replace(at=now, who=who) for one in done])
        return sum(one.state == ANSWERED for one in done)

    # --- status lists ---------------------------------------------------------------------------------------------

    def fetch_status(self, authority: Authority, roots: Roots) -> Refusal | None:
        """Fetch the status list; a publisher that has none, or fails in it, holds up no activation."""
        try:
            answer = authority.get("/v1/status")
            if answer.status == _NOT_FOUND:
                return None
            if answer.status != _OK:
                return Refusal("answer-nonsense", f"Status {answer.status} instead of a status list.")
            self._keep(answer.body, roots)
        except (Unreachable, DocumentRefused) as error:
            return error.refusal
        return None

    def _keep(self, data: bytes, roots: Roots) -> tuple[int, int]:
        head, _, body = data.partition(b"\n")
        bundle = trust.read_bundle(head)
        granted = trust.take_up(trust.verify(bundle, "status", roots))
        status.check_body(granted.document, [body])
        for _line in status.read(io.BytesIO(body)):
            continue  # one that is none refuses the list
        issued, ver = status.pair(granted)
        with self._office.store.writing() as tx:
            held = receipts.status_list(tx, roots.pub)
            if held is None or (held.issued, held.ver) < (issued, ver):
                made = StatusList(roots.pub, issued, ver, granted.bundle(), body, self._office.clock.now())
                receipts.put_status_list(tx, made)
        return issued, ver

    def status_file(self, person: Person, pub: str) -> bytes | None:
        """The newest status list of a publisher as it travels, head line and body; None if none is known."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            held = receipts.status_list(tx, pub)
        return None if held is None else held.travels()

    def take_status(self, person: Person, data: bytes) -> tuple[str, int]:
        """Take in a status list that came by a medium; its publisher and version. An older one changes nothing.

        Raises:
            Refused: `publisher-unknown`.
            DocumentRefused: if it does not hold.
        """
        with self._office.acting(person, "import", {"file": "status list"}) as deed:
            token = trust.read_bundle(data.partition(b"\n")[0]).get("token")
            parts = jws.split(token)
            pub = jws.read_json(parts.payload).get("pub")
            with self._office.store.reading() as tx:
                found = sql.publisher(tx, pub) if isinstance(pub, str) else None
            if found is None:
                raise Refused(Refusal("publisher-unknown", "The status list is another publisher's."))
            _, ver = self._keep(data, roots_of(found))
            deed.rows = 1
        return found.pub, ver


def answers(answer: Answer, wanted: int) -> list[dict[str, Any]]:
    """What was said to each row.

    Raises:
        Refused: if the whole was refused.
        Unreachable: `answer-nonsense`.
    """
    try:
        members = jws.read_json(answer.body)
    except DocumentRefused as error:
        raise Unreachable(
            Refusal("answer-nonsense", f"Status {answer.status}: {error.refusal.detail}.")
        ) from None
    if answer.status != _OK:
        code, title = members.get("code"), members.get("title")
        if isinstance(code, str) and isinstance(title, str):
            raise Refused(Refusal.received(code, str(members.get("detail", "")), title))
        raise Unreachable(Refusal("answer-nonsense", f"Status {answer.status}."))
    said = members.get("answers")
    if not isinstance(said, list) or len(said) != wanted or not all(isinstance(one, dict) for one in said):
        raise Unreachable(Refusal("answer-nonsense", "It does not answer row by row."))
    return said


def _unsigned(batch: Sequence[Item]) -> dict[int, Refusal]:
    """The rows whose request does not hold, with the reason, by their numbers: a list's writer may have made them up."""
    openings = {
        one.number: trust.Opening.self_keyed(one.request, "request") for one in batch if one.op != "remaining"
    }
    trust.open_all(list(openings.values()))
    return {number: one.refused.refusal for number, one in openings.items() if one.refused}


def _refused(item: Item, refusal: Refusal) -> Item:
    return item._replace(state=REFUSED, code=refusal.code, answer=refusal.document())


def _settled(item: Item, said: dict[str, Any], roots: Roots) -> Item:
    if "code" in said and "token" not in said:
        refusal = Refusal.received(str(said["code"]), str(said.get("detail", "")), str(said.get("title", "")))
        return _refused(item, refusal)
    try:
        granted = trust.take_up(trust.verify(said, cil.ANSWERS[item.op], roots))
        cil.check_answer(granted.document, question_of(item))
    except DocumentRefused as error:
        return _refused(item, Refusal("answer-nonsense", error.refusal.detail))
    return item._replace(state=ANSWERED, code="", answer=granted.bundle())
