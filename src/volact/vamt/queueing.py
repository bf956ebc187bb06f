"""The queue: rows of actions whose machine is off wait for it, and are tried again when they are due (V5).

- Who begins a row looks at the machine first: what was done there before it went silent is not done again.
- A row waits for the person who began it: if they may not do it any more, it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.problems import Refusal, Refused, VolactError
from volact.vamt import actionrecords, acts, undertakings
from volact.vamt.actionrecords import FAILED
from volact.vamt.performing import Performing, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from volact.protocol.keys import ProductKey
    from volact.vamt.acting import Office
    from volact.vamt.actionrecords import Row
    from volact.vamt.collecting.targets import Progress
    from volact.vamt.collection import Collecting
    from volact.vamt.keyrecords import Key
    from volact.vamt.people import Person
    from volact.vamt.performing import Means
    from volact.vamt.undertakings import Undertaking


class Waiting(NamedTuple):
    """A row that waits for its machine, and the action that it is of."""

    task: Undertaking
    row: Row


class Queue:
    """The use cases of the queue."""

    def __init__(self, office: Office, collecting: Collecting) -> None:
        """Work in `office`; `collecting` says how machines are reached."""
        self._office, self._collecting = office, collecting

    def cancel(self, person: Person, names: Sequence[str], *, every: bool = False) -> int:
        """Let rows wait no longer, by the ids of their actions or of their machines, or `every` one; how many.

        Raises:
            Refused: `action-not-queued` if nothing of that waits, or `role-insufficient`.
        """
        with self._office.store.reading() as tx:
            waiting = _waiting(tx, actionrecords.queued(tx))
        wanted = [
            one for one in waiting if every or {one.task.aid, one.row.mid, one.row.machine} & set(names)
        ]
        with self._office.acting(person, "schedule", {"cancel": "all" if every else list(names)}) as deed:
            for least in sorted({acts.action_of(one.task).least for one in wanted}):
                self._office.check(person, least)
            if not wanted:
                raise Refused(Refusal("action-not-queued", ", ".join(name[:40] for name in names[:5])))
            with self._office.store.writing() as tx:
                deed.rows = actionrecords.cancel(tx, [one.row.number for one in wanted])
        return deed.rows

    async def run_due(
        self, now: int, means: Means, tell: Callable[[Progress], None] = lambda _: None
    ) -> list[Row]:
        """Try all rows that are due at `now`, each for the person who began it; as they stand then.

        Raises:
            VolactError: what `Means.unlock` raises, if a key is to be installed, or machines of an action have a sealed
                login; what takes neither is done then.
        """
        with self._office.store.reading() as tx:
            due = _waiting(tx, actionrecords.queued(tx, now))
            held = acts.held(tx, [one.row for one in due])
        locked: VolactError | None = None
        keys: dict[str, tuple[Key, ProductKey]] = {}
        try:
            keys = acts.opened(held, means.unlock()) if held else {}
        except VolactError as error:  # what takes no key is done all the same
            locked = error
            due = [one for one in due if not one.row.key]
        done, locked_too = await self._perform(due, keys, means, tell)
        locked = locked or locked_too
        if locked:
            raise locked
        return done

    async def _perform(
        self,
        due: Sequence[Waiting],
        keys: Mapping[str, tuple[Key, ProductKey]],
        means: Means,
        tell: Callable[[Progress], None],
    ) -> tuple[list[Row], VolactError | None]:
        """The rows as they stand then, and why actions could not be gone on with, if one could not: the others are."""
        by_action: dict[str, list[Waiting]] = {}
        for one in due:
            by_action.setdefault(one.task.aid, []).append(one)
        done: list[Row] = []
        locked: VolactError | None = None
        for waiting in by_action.values():
            task, rows = waiting[0].task, [one.row for one in waiting]
            try:
                with self._office.store.reading() as tx:
                    person = acts.person_of(tx, task.who, task.options)
            except Refused as refused:
                done += self._end(rows, refused.refusal)
                continue
            work = Work(person, task.aid, acts.action_of(task), rows, True, keys)
            try:
                done += await Performing(self._office, self._collecting, means, tell).perform(work)
            except VolactError as error:  # before any of its rows was begun
                locked = error
        return done, locked

    def _end(self, rows: Sequence[Row], refusal: Refusal) -> list[Row]:
        ended = [
            one._replace(state=FAILED, code=refusal.code, detail=refusal.detail, due=None) for one in rows
        ]
        with self._office.store.writing() as tx:
            actionrecords.settle(tx, *ended)
        return ended

    def list(self, person: Person) -> list[Waiting]:
        """What waits, those due first."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            return _waiting(tx, actionrecords.queued(tx))


def _waiting(tx: Connection, rows: Sequence[Row]) -> list[Waiting]:
    tasks = undertakings.by_number(tx, {one.action for one in rows})
    return [Waiting(tasks[one.action], one) for one in rows]
