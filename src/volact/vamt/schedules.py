"""Schedules: collecting, or an action, again and again; what was missed is done once (V2, V5).

Each is done for the person who made it, with the role that they have then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from volact.protocol.problems import Refusal, Refused, UsageError, VolactError
from volact.vamt import actionrecords, actions, acts, selecting, undertakings
from volact.vamt import keys as product_keys
from volact.vamt.acting import OK
from volact.vamt.actionrecords import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from volact.vamt.acting import Office
    from volact.vamt.actions import Action
    from volact.vamt.acts import Acts
    from volact.vamt.collecting.targets import Progress
    from volact.vamt.collection import Collecting
    from volact.vamt.people import Person
    from volact.vamt.performing import Means
    from volact.vamt.selecting import Selection

COLLECT = undertakings.COLLECT
_MOST_NAME = 100


class Wanted(NamedTuple):
    """A schedule as a person gives it.

    Attributes:
        name: what it is called.
        action: what is done; None: machines are asked.
        selection: to which machines, looked up anew each time.
        every: the interval, seconds.
        at: the time of day of the first, seconds into the day UTC; None: after one interval.
        key: the label or thumbprint of the one key to take, if any.
        queue: whether an action waits for machines that are off.
    """

    name: str
    action: Action | None
    selection: Selection
    every: int
    at: int | None = None
    key: str = ""
    queue: bool = False


class Done(NamedTuple):
    """A schedule that was done: ``ok`` or the code of the refusal, and what came of it in words."""

    name: str
    result: str
    detail: str


class Schedules:
    """The use cases of schedules."""

    def __init__(self, office: Office, collecting: Collecting, deeds: Acts) -> None:
        """Work in `office`; what is done is done by `collecting` and `deeds`."""
        self._office, self._collecting, self._acts = office, collecting, deeds

    def add(self, person: Person, wanted: Wanted) -> Schedule:
        """Make a schedule.

        Raises:
            Refused: `already-exists`, `role-insufficient`, `key-not-held`, or as `selecting.select` if the selection
                holds nothing now.
            UsageError: if it is given wrongly.
        """
        _check(wanted)
        action, now = wanted.action, self._office.clock.now()
        what = action.name if action else COLLECT
        told = {"add": wanted.name, "what": what, "selection": wanted.selection.said()}
        with self._office.acting(person, "schedule", told) as deed, self._office.store.writing() as tx:
            self._office.check(person, action.least if action else COLLECT)
            if any(one.name == wanted.name for one in actionrecords.schedules(tx)):
                raise Refused(Refusal("already-exists", f"A schedule {wanted.name!r}."))
            selecting.select(tx, wanted.selection, now)
            if action and wanted.key:
                action = action._replace(key=product_keys.named(tx, [wanted.key])[0].thumbprint)
            made = Schedule(
                wanted.name,
                what,
                wanted.selection,
                _options(tx, person, wanted, action),
                wanted.every,
                actions.first(now, wanted.every, wanted.at),
                None,
                "",
                person.name,
            )
            actionrecords.put_schedule(tx, made)
            deed.rows = 1
        return made

    def list(self, person: Person) -> list[Schedule]:
        """All schedules, by name."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            return actionrecords.schedules(tx)

    def remove(self, person: Person, name: str) -> None:
        """Remove a schedule.

        Raises:
            Refused: `schedule-unknown`.
        """
        with (
            self._office.acting(person, "schedule", {"remove": name}) as deed,
            self._office.store.writing() as tx,
        ):
            if not actionrecords.remove_schedule(tx, name):
                raise Refused(Refusal("schedule-unknown", f"{name[:80]!r}."))
            deed.rows = 1

    async def run_due(
        self, now: int, means: Means, tell: Callable[[Progress], None] = lambda _: None
    ) -> Sequence[Done]:
        """Do what is due at `now`, one after the other, each once however often it was missed; what came of each."""
        with self._office.store.reading() as tx:
            due = actionrecords.schedules(tx, now)
        done = []
        for one in due:
            with self._office.store.writing() as tx:
                following = actions.following(one.next, one.every, now)
                if not actionrecords.take_schedule(tx, one, following, now):
                    continue  # another process does it
            result, detail = OK, ""
            try:
                detail = await self._do(one, means, tell)
            except VolactError as error:
                result, detail = error.refusal.code, error.refusal.detail
            with self._office.store.writing() as tx:
                actionrecords.end_schedule(tx, one.name, result)
            done.append(Done(one.name, result, detail))
        return done

    async def _do(self, one: Schedule, means: Means, tell: Callable[[Progress], None]) -> str:
        with self._office.store.reading() as tx:
            person = acts.person_of(tx, one.who, one.options)
        if one.what == COLLECT:
            collected = await self._collecting.collect(
                person, one.selection, means.logins, means.limits, tell
            )
            return f"{collected.done} of {collected.asked} machines gave a report"
        action = actions.read({**one.options, "name": one.what})
        queue = bool(one.options.get("queue"))
        aid = self._acts.begin(person, action, one.selection, queue=queue)
        acted = await self._acts.run(person, aid, means, tell)
        return acts.said(acted.rows)


def _options(tx: Connection, person: Person, wanted: Wanted, action: Action | None) -> dict[str, Any]:
    more: dict[str, Any] = {} if wanted.at is None else {"at": wanted.at}
    if wanted.queue:
        more["queue"] = True
    return {**(action.said() if action else {}), **acts.role_of(tx, person), **more}


def _check(wanted: Wanted) -> None:
    if not wanted.name.isprintable() or not 1 <= len(wanted.name) <= _MOST_NAME:
        raise UsageError(f"A schedule's name has 1 to {_MOST_NAME} printable characters.")
    if wanted.action:
        acts.check(wanted.action)
    if wanted.key and (wanted.action is None or wanted.action.name != actions.INSTALL_KEY):
        raise UsageError(f"A key goes with {actions.INSTALL_KEY}.")
    if wanted.queue and wanted.action is None:
        raise UsageError("Collecting waits for no machine: it asks again the next time.")
    product_keys.check_names([wanted.key] if wanted.key else [])
