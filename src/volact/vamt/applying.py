"""MAK Proxy Activate, inside: what was granted goes to the machines, and stays here to be given again (P1, P4, P5).

- Whether it fits is the machine's to say: a confirmation fits by product and hardware, whoever asked for it (row 12 of
  PROTOCOL section 5). Nothing is counted and nobody is contacted but the machine itself.
- What the publisher's status list names as returned or blocked is brought to no machine (M5, M6): one that has not seen
  that list would take it, also the one that gave it back and was set up anew since.
- The publisher's status list itself is brought to machines that nobody else tells, by the same way (M5).
- A machine that fails holds up none of the others; its row says why, and is tried again next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.protocol import jws
from volact.protocol.problems import Refusal, Refused
from volact.vamt import cil, receipts, selecting
from volact.vamt.proxy import Outcome, asker, outcomes
from volact.vamt.receipts import APPLIED, FAILED, HANDED, OPEN, OUT, REFUSED, Item

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.vamt.acting import Office
    from volact.vamt.people import Person
    from volact.vamt.selecting import Selection

MANY = 100
"""Rows that are kept at once."""
_SAYS = {"returned": "activation-returned"}
"""What a row comes to whose activation is listed in a mode; in every other one it is blocked."""


STATUS_LIST = "status-list"
"""What a status list is as an operation: nobody asked for it."""


class Work(NamedTuple):
    """What is to be put in force on a machine.

    Attributes:
        mid: the machine's row; empty for one that is not known here, e.g. a KMS host that asked by a file.
        name: its name; its CMID if it is not known here, nothing if it is a KMS host.
        prd: the product; empty for a status list.
        op: what was asked for: ``activate``, ``host`` or ``extend``; or `STATUS_LIST`.
        bundle: what the publisher granted; nothing for a status list.
        file: a status list as it travels; else empty, and the bundle travels.
    """

    mid: str
    name: str
    prd: str
    op: str
    bundle: Mapping[str, Any]
    file: bytes = b""

    def data(self) -> bytes:
        """What is brought, as it travels."""
        return self.file or jws.write_json(dict(self.bundle))


class Applied(NamedTuple):
    """What became of it.

    Attributes:
        work: what was to be brought.
        refusal: why it is not in force; None if it is, or if it is in a file now.
        handed: whether it is in a file, for a person to bring.
    """

    work: Work
    refusal: Refusal | None
    handed: bool = False

    @property
    def state(self) -> str:
        """What its row comes to."""
        return FAILED if self.refusal else HANDED if self.handed else APPLIED


Apply = Callable[[Sequence[Work]], Iterable[Applied]]
"""Brings bundles to machines; what became of each comes as it is ready, in any order."""


class Applying:
    """The use cases of putting in force what was granted."""

    def __init__(self, office: Office) -> None:
        """Work in `office`."""
        self._office = office

    def apply(self, person: Person, lid: str, apply: Apply, *, again: bool = False) -> list[Outcome]:
        """Bring what list `lid` was granted to its machines; `again` also what is in force already, or in a host's file.

        Raises:
            Refused: `list-unknown`, or `list-empty` if nothing is there to bring.
        """
        with self._office.acting(person, "apply", {"list": lid}) as deed:
            with self._office.store.reading() as tx:
                asked = receipts.find(tx, lid)
                if asked is None or asked.direction != OUT:
                    raise Refused(Refusal("list-unknown", f"{lid[:40]!r} is no list that was exported here."))
                but = (OPEN, REFUSED) if again else (OPEN, REFUSED, APPLIED)
                rows = [
                    one
                    for one in receipts.items(tx, asked.number, limit=cil.MAX_ROWS, but=but)
                    if one.op == "activate"
                    or (one.op in ("host", "extend") and (again or one.state != HANDED))
                ]
                listed = receipts.listed(tx, asked.pub, [_act(one) for one in rows])
                named = receipts.names(tx, [one.mid for one in rows])
            if not rows:
                raise Refused(
                    Refusal("list-empty", "It has no answer that is not in force: volact vamt import.")
                )
            works = {
                id(work): (work, one)
                for one in rows
                if _act(one) not in listed
                for work in [Work(one.mid, _name(one, named), one.prd, one.op, one.answer or {})]
            }
            said: dict[int, Refusal] = {}
            fallen = [(one, listed[_act(one)]) for one in rows if _act(one) in listed]
            done = self._bring(person, apply, works, said) if works else []
            done += self._keep([self._fallen(person, one, mode) for one, mode in fallen])
            deed.rows = sum(one.state != FAILED for one in done)
            deed.detail = f"{len(done) - deed.rows} failed"
            with self._office.store.reading() as tx:
                told = outcomes(tx, done)
            return [
                one._replace(refusal=said.get(item.number, one.refusal))
                for item, one in zip(done, told, strict=True)
            ]

    def _bring(
        self,
        person: Person,
        apply: Apply,
        works: Mapping[int, tuple[Work, Item]],
        said: dict[int, Refusal],
    ) -> list[Item]:
        """Bring them; the rows as they are now, and into `said` in full why not, of which the store keeps the code."""
        done: list[Item] = []
        waiting: list[Item] = []
        try:
            for found in apply([work for work, _ in works.values()]):
                _, item = works[id(found.work)]
                code = ""
                if found.refusal:
                    said[item.number], code = found.refusal, found.refusal.code
                state = APPLIED if found.handed and item.state == APPLIED else found.state
                now = self._office.clock.now()
                waiting.append(item._replace(state=state, code=code, at=now, who=person.name))
                if len(waiting) == MANY:
                    done += self._keep(waiting)
                    waiting = []
        finally:
            done += self._keep(waiting)
        return done

    def _fallen(self, person: Person, one: Item, mode: str) -> Item:
        """A row whose activation the publisher's list names."""
        code = _SAYS.get(mode, "machine-blocked")
        return one._replace(state=FAILED, code=code, at=self._office.clock.now(), who=person.name)

    def _keep(self, rows: list[Item]) -> list[Item]:
        if rows:
            with self._office.store.writing() as tx:
                receipts.settle(tx, rows)
        return rows

    def reactivate(self, person: Person, selection: Selection, apply: Apply) -> list[Outcome]:
        """Activate machines again from the confirmations that are kept for them: no count is spent (P4).

        Each product gets the newest that is kept; one that does not fit the hardware any more is refused there.

        Raises:
            Refused: `list-empty` if none that stands is kept for the selection, or as `selecting.select`.
        """
        with self._office.acting(person, "apply", {"kept": selection.said()}) as deed:
            with self._office.store.reading() as tx:
                targets = selecting.select(tx, selection, self._office.clock.now())
                names = {one.mid: one.name for one in targets}
                kept = receipts.kept(tx, names)
                labels = receipts.labels(tx, [one.key for one in kept])
            wanted = {(one.mid, one.prd) for one in targets}
            newest: dict[tuple[str, str], receipts.Kept] = {}
            for one in kept:
                if (one.mid, one.prd) in wanted or (one.mid, "") in wanted:
                    newest.setdefault((one.mid, one.prd), one)
            if not newest:
                raise Refused(
                    Refusal("list-empty", "No confirmation that stands is kept for these machines.")
                )
            works = [
                Work(one.mid, names[one.mid] or one.mid, one.prd, "activate", one.bundle)
                for one in newest.values()
            ]
            done = [
                _told(found, labels.get(key := newest[found.work.mid, found.work.prd].key, key))
                for found in apply(works)
            ]
            deed.rows = sum(one.refusal is None for one in done)
            deed.detail = f"{len(done) - deed.rows} failed"
        return done

    def bring_list(self, person: Person, selection: Selection, apply: Apply) -> list[Outcome]:
        """Bring the newest status list that is known here to machines with a product of its publisher (M5).

        Raises:
            Refused: `list-empty` if there is none for any of them, or as `selecting.select`.
        """
        with self._office.acting(person, "apply", {STATUS_LIST: selection.said()}) as deed:
            with self._office.store.reading() as tx:
                targets = selecting.select(tx, selection, self._office.clock.now())
                known = {
                    pub: receipts.status_list(tx, pub) for pub in {one.pub for one in targets if one.pub}
                }
            files = {pub: held.travels() for pub, held in known.items() if held}
            works = {
                (one.mid, one.pub): Work(one.mid, one.name or one.mid, "", STATUS_LIST, {}, files[one.pub])
                for one in targets
                if one.pub in files
            }
            if not works:
                raise Refused(
                    Refusal("list-empty", "No status list is known here: volact vamt import FILE.cil.status.")
                )
            done = [_told(found, "") for found in apply(list(works.values()))]
            deed.rows = sum(one.refusal is None for one in done)
            deed.detail = f"{len(done) - deed.rows} failed"
        return done


def _told(found: Applied, key: str) -> Outcome:
    return Outcome("", found.work.name, found.work.prd, found.work.op, key, found.state, found.refusal)


def _name(one: Item, named: Mapping[str, str]) -> str:
    return named.get(one.mid) or (one.mid or asker(one) if one.op == "activate" else "")


def _act(one: Item) -> str:
    """The activation that the answer of a row grants a machine; empty for a host's, which is not looked up here."""
    if one.op != "activate" or not one.answer:
        return ""
    parts = jws.split(one.answer.get("token"), limit=jws.MAX_BYTES_LARGE)
    return str(jws.read_json(parts.payload)["act"])
