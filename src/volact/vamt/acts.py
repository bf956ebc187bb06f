"""Actions on selections: planning them, beginning them, going on with them (V5, F40, F45).

- What will be done is planned in one transaction, which says for each row what it takes: of the keys, as many as the
  publisher's last count leaves after those that others are to take already, then the next key's (V4).
- A dry run is that plan and nothing else: nothing is written, and no machine hears of it.
- An action that was stopped, died, or was left with rows that failed goes on with these; what is done stays done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.problems import Refusal, Refused, UsageError
from volact.vamt import actionrecords, actions, keyrecords, people, persons, planning, receipts, undertakings
from volact.vamt import keys as product_keys
from volact.vamt import store as sql
from volact.vamt.actionrecords import DONE, FAILED, OPEN, QUEUED, RUNNING, WAITING, WOULD, Row
from volact.vamt.people import Person
from volact.vamt.performing import Performing, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from sqlalchemy import Connection

    from volact.protocol.keys import ProductKey
    from volact.vamt.acting import Office
    from volact.vamt.actions import Action
    from volact.vamt.collecting.targets import Progress
    from volact.vamt.collection import Collecting
    from volact.vamt.keyrecords import Key
    from volact.vamt.performing import Means
    from volact.vamt.sealing import Sealer
    from volact.vamt.selecting import Selection
    from volact.vamt.undertakings import Undertaking


class Acted(NamedTuple):
    """An action and its rows.

    Attributes:
        task: what was begun; for a dry run with an empty id.
        action: what is to be done.
        rows: on which machines, in the order of the selection.
        labels: of the keys that they take, by thumbprint.
    """

    task: Undertaking
    action: Action
    rows: list[Row]
    labels: Mapping[str, str]


class Acts:
    """The use cases of actions."""

    def __init__(self, office: Office, collecting: Collecting, new_id: Callable[[], str]) -> None:
        """Work in `office`; `collecting` says how machines are reached, and actions are named by `new_id`."""
        self._office, self._collecting, self._new_id = office, collecting, new_id

    # --- planning -------------------------------------------------------------------------------------------------

    def plan(self, person: Person, action: Action, selection: Selection, *, key: str = "") -> Acted:
        """What an action would do, row by row, and why not; nothing is done. `key` is a label or thumbprint.

        Raises:
            Refused: `role-insufficient`, `selection-empty`, `machine-unknown`, `key-not-held`, `product-unknown`.
            UsageError: if the action is given wrongly, or several keys have the label.
        """
        check(action)
        self._office.look(person, action.least)
        now = self._office.clock.now()
        with self._office.store.reading() as tx:
            action = _with_key(tx, action, key)
            rows = planning.planned(tx, action, selection, now)
            labels = _labels(tx, action, rows)
            rows = planning.judged(tx, action, rows, labels)
        task = undertakings.Undertaking("", action.name, selection, WOULD, person.name, now)
        return Acted(task, action, rows, labels)

    def begin(
        self, person: Person, action: Action, selection: Selection, *, key: str = "", queue: bool = False
    ) -> str:
        """Plan an action and write that it is begun; its id, by which `run` does it.

        `queue`: whether machines that are off are waited for.

        Raises:
            Refused: as `plan`.
            UsageError: likewise.
        """
        check(action)
        product_keys.check_names([key] if key else [])  # before it comes into the log
        now, aid = self._office.clock.now(), self._new_id()
        what = {"begin": aid, **action.said(), "selection": selection.said(), **({"key": key} if key else {})}
        with self._office.acting(person, action.least, what) as deed, self._office.store.writing() as tx:
            sql.lock(tx)
            action = _with_key(tx, action, key)
            rows = planning.planned(tx, action, selection, now)
            options: dict[str, Any] = {**action.said(), **role_of(tx, person)}
            if queue:
                options["queue"] = True
            task = undertakings.Undertaking(
                aid, action.name, selection, undertakings.STOPPED, person.name, now, options
            )
            number = undertakings.begin(tx, task)
            actionrecords.add(tx, [one._replace(action=number) for one in rows])
            deed.rows = len(rows)
        return aid

    # --- doing ----------------------------------------------------------------------------------------------------

    async def run(
        self,
        person: Person,
        aid: str,
        means: Means,
        tell: Callable[[Progress], None] = lambda _: None,
        *,
        resume: bool = False,
    ) -> Acted:
        """Do an action that was begun; with `resume` also the rows of it that failed or wait, those first looked at.

        Raises:
            Refused: `action-unknown`, `role-insufficient`, or as `Means.unlock`.
            asyncio.CancelledError: when it is stopped; what came out until then is kept.
        """
        with self._office.store.reading() as tx:
            task, action = _found(tx, aid)
            needs_seal = action.name == actions.INSTALL_KEY and keyrecords.is_any(tx)
        what = {"action": aid, "what": action.name, **({"resume": True} if resume else {})}
        with self._office.acting(person, action.least, what) as deed:
            sealer = means.unlock() if needs_seal else None
            with self._office.store.writing() as tx:
                sql.lock(tx)
                rows = self._begun(tx, task, action, resume=resume)
                keys = opened(held(tx, rows), sealer) if sealer else {}
                undertakings.end(tx, aid, undertakings.RUNNING, self._office.clock.now())
            work = Work(person, aid, action, rows, bool(task.options.get("queue")), keys)
            state = undertakings.STOPPED
            try:
                done = await Performing(self._office, self._collecting, means, tell).perform(work)
                state = undertakings.DONE
                deed.rows = sum(one.state == DONE for one in done)
                deed.detail = said(done)
            finally:
                with self._office.store.writing() as tx:
                    undertakings.end(tx, aid, state, self._office.clock.now())
        return self.show(person, aid)

    def _begun(self, tx: Connection, task: Undertaking, action: Action, *, resume: bool) -> list[Row]:
        """The rows that are to be done now; keys that they lack, or that were of no use to them, are found anew."""
        rows = actionrecords.rows(tx, task.number, OPEN if resume else (WAITING,))
        if not resume:
            return rows
        rows = [one._replace(due=None, until=None) for one in rows]
        actionrecords.settle(tx, *(one._replace(state=WAITING) for one in rows if one.state != RUNNING))
        if action.name != actions.INSTALL_KEY:
            return rows
        anew = [one for one in rows if not one.key or one.code in actions.ABOUT_THE_KEY]
        found = {one.number: one for one in planning.with_keys(tx, action, anew)}
        actionrecords.settle(tx, *found.values())
        rows = [found.get(one.number, one) for one in rows]
        return [one for one in rows if one.state != FAILED or one.number not in found]

    # --- showing --------------------------------------------------------------------------------------------------

    def show(self, person: Person, aid: str) -> Acted:
        """An action and how its rows stand.

        Raises:
            Refused: `action-unknown`.
        """
        self._office.look(person)
        with self._office.store.reading() as tx:
            task, action = _found(tx, aid)
            rows = actionrecords.rows(tx, task.number)
            return Acted(task, action, rows, _labels(tx, action, rows))

    def list(self, person: Person, limit: int = 100) -> list[tuple[Undertaking, Mapping[str, int]]]:
        """The newest actions, newest first, each with how many rows are in which state."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            found = undertakings.actions(tx, limit)
            counts = actionrecords.counts(tx, [one.number for one in found])
        return [(one, counts.get(one.number, {})) for one in found]

    def newest_open(self, person: Person) -> str:
        """The id of the newest action that can go on.

        Raises:
            Refused: `action-unknown` if there is none.
        """
        for task, counts in self.list(person):
            if set(counts) & set(OPEN):
                return task.aid
        raise Refused(Refusal("action-unknown", "None is there that could go on."))


def said(rows: Sequence[Row]) -> str:
    """How many rows are done, failed, and wait, in words."""
    states = [one.state for one in rows]
    return f"{states.count(DONE)} done, {states.count(FAILED)} failed, {states.count(QUEUED)} queued"


def role_of(tx: Connection, person: Person) -> dict[str, str]:
    """What is kept of a person who may not be known by name later: the role of the user of this machine."""
    return {} if persons.role(tx, person.name) else {"role": person.role}


def person_of(tx: Connection, who: str, options: Mapping[str, Any]) -> Person:
    """The person for whom something is done later, with the role that they have now.

    Raises:
        Refused: `person-unknown` if they were removed meanwhile.
    """
    role = persons.role(tx, who) or str(options.get("role", ""))
    if role not in people.ROLES:
        raise Refused(Refusal("person-unknown", f"{who} was removed."))
    return Person(who, role)


def held(tx: Connection, rows: Iterable[Row]) -> list[Key]:
    """The keys that rows take, those that are still here."""
    return keyrecords.keys(tx, {one.key for one in rows} - {""})


def opened(keys: Iterable[Key], sealer: Sealer) -> dict[str, tuple[Key, ProductKey]]:
    """Keys by thumbprint, with themselves.

    Raises:
        BrokenData: if one is damaged, or was sealed with another seal.
    """
    return {one.thumbprint: (one, product_keys.opened(one, sealer)) for one in keys}


def action_of(task: Undertaking) -> Action:
    """What an undertaking is to do."""
    return actions.read({**task.options, "name": task.what})


def check(action: Action) -> None:
    """See to it that an action can be done as it is given.

    Raises:
        UsageError: what is wrong.
    """
    wrong = actions.wrong(action)
    if wrong:
        raise UsageError(wrong)


def _found(tx: Connection, aid: str) -> tuple[Undertaking, Action]:
    task = undertakings.find(tx, aid)
    if task is None or task.what not in actions.LEAST:
        raise Refused(Refusal("action-unknown", f"{aid[:40]!r}."))
    return task, action_of(task)


def _with_key(tx: Connection, action: Action, name: str) -> Action:
    return action._replace(key=product_keys.named(tx, [name])[0].thumbprint) if name else action


def _labels(tx: Connection, action: Action, rows: Iterable[Row]) -> dict[str, str]:
    return receipts.labels(tx, {action.key, *(one.key for one in rows)} - {""})
