"""The one place through which everything goes that a person does: may they, and what became of it (V6).

- The role is looked at before anything else; who may not is refused, and that is in the log, too, also of who would only
  have looked. A look that was let through is not.
- Of one person so many refusals a minute are in the log; the next one that is says how many before were not.
- An action is in the log before it begins, as ``running``, and has its result when it has ended, however it ended.
- What is logged names rows and settings, never a key, a password or a token.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from volact.protocol.problems import Refusal, Refused, VolactError
from volact.sources import Buckets
from volact.vamt import people, persons
from volact.vamt.persons import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

    from volact.clock import Clock
    from volact.vamt.people import Person
    from volact.vamt.store import Store

OK, RUNNING, STOPPED, INTERNAL = "ok", "running", "stopped", "internal"
_MOST_WHAT = 4000
REFUSALS_A_MINUTE, REFUSALS_AT_ONCE = 10, 30
"""So many refusals of one person are in the log (at once: each action): who asks on and on must not fill the disk."""


class Deed:
    """An action that is under way.

    Attributes:
        rows: how many rows it is about, for the log; None as long as that is not known.
        detail: what else the log should say of it.
    """

    def __init__(self) -> None:
        """Begin it."""
        self.rows: int | None = None
        self.detail = ""


class Office:
    """What every use case of VAMT is given: the store, the clock, and the way to act.

    Attributes:
        store: VAMT's database.
        clock: a laboratory's may be moved.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        """Work on `store`, at the time of `clock`."""
        self.store = store
        self.clock = clock
        self._refusals: Buckets[str] = Buckets(REFUSALS_A_MINUTE, REFUSALS_AT_ONCE)
        self._unwritten: dict[str, int] = {}
        self._lock = threading.Lock()

    def look(self, person: Person, action: str = people.LOOK) -> None:
        """See to it that a person may look; outside of any transaction, for who may not is in the log.

        Raises:
            Refused: `role-insufficient`.
        """
        refused = _refusal(person, action)
        if refused:
            self._log_refusal(person, action, {}, refused)
            raise Refused(refused)

    def check(self, person: Person, action: str) -> None:
        """See to it, while an action is under way, that the person may also do another one that it comes to.

        Raises:
            Refused: `role-insufficient`; the log has it as the end of the action that is under way.
        """
        refused = _refusal(person, action)
        if refused:
            raise Refused(refused)

    def note(self, tx: Connection, person: Person, action: str, what: Mapping[str, Any]) -> None:
        """Write into the log, in the transaction in which it happens, what an action that is under way also did."""
        number = self._begin(tx, person, action, _said(what), RUNNING)
        persons.finish(tx, number, 1, OK, "")

    @contextmanager
    def acting(self, person: Person, action: str, what: Mapping[str, Any]) -> Iterator[Deed]:
        """Let a person do an action of `people.LEAST` to `what`, which is JSON; inside it is done.

        Raises:
            Refused: `role-insufficient`; then nothing is done, and whatever is raised inside.
        """
        refused = _refusal(person, action)
        if refused:
            self._log_refusal(person, action, what, refused)
            raise Refused(refused)
        with self.store.writing() as tx:
            number = self._begin(tx, person, action, _said(what), RUNNING)
        deed = Deed()
        try:
            yield deed
        except VolactError as error:
            self._finish(number, deed, error.refusal.code, error.refusal.detail)
            raise
        except Exception:
            self._finish(number, deed, INTERNAL, "")
            raise
        except BaseException:  # Ctrl-C, a task that is cancelled
            self._finish(number, deed, STOPPED, "")
            raise
        self._finish(number, deed, OK, deed.detail)

    def _log_refusal(self, person: Person, action: str, what: Mapping[str, Any], refused: Refusal) -> None:
        """Write into the log that a person may not do something, if there are not too many of these."""
        with self._lock:
            if self._refusals.limited(person.name, self.clock.now()):
                self._unwritten[person.name] = self._unwritten.get(person.name, 0) + 1
                return
            before = self._unwritten.pop(person.name, 0)
        detail = f"{before} more refusals before were not written." if before else ""
        with self.store.writing() as tx:
            self._begin(tx, person, action, _said(what), refused.code, detail)

    def _begin(
        self, tx: Connection, person: Person, action: str, said: str, result: str, detail: str = ""
    ) -> int:
        entry = Entry(0, self.clock.now(), person.name, person.role, action, said, None, result, detail)
        return persons.begin(tx, entry)

    def _finish(self, number: int, deed: Deed, result: str, detail: str) -> None:
        with self.store.writing() as tx:
            persons.finish(tx, number, deed.rows, result, detail)


def _said(what: Mapping[str, Any]) -> str:
    return json.dumps(what, ensure_ascii=False)[:_MOST_WHAT]


def _refusal(person: Person, action: str) -> Refusal | None:
    if people.may(person.role, action):
        return None
    least = people.LEAST.get(action, people.KEY_ADMINISTRATOR)
    return Refusal("role-insufficient", f"{person.name} is {person.role}; it takes {least}.")
