"""The one place through which everything goes that a person does: may they, and what became of it (V6).

- The role is looked at before anything else; who may not is refused, and that is in the log, too.
- An action is in the log before it begins, as ``running``, and has its result when it has ended, however it ended.
- What is logged names rows and settings, never a key, a password or a token.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from volact.protocol.problems import Refusal, Refused, VolactError
from volact.vamt import people, persons
from volact.vamt.persons import Entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from volact.clock import Clock
    from volact.vamt.people import Person
    from volact.vamt.store import Store

OK, RUNNING, STOPPED, INTERNAL = "ok", "running", "stopped", "internal"
_MOST_WHAT = 4000


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

    def look(self, person: Person, action: str = people.LOOK) -> None:
        """See to it that a person may look.

        Raises:
            Refused: `role-insufficient`.
        """
        refused = _refusal(person, action)
        if refused:
            raise Refused(refused)

    @contextmanager
    def acting(self, person: Person, action: str, what: Mapping[str, Any]) -> Iterator[Deed]:
        """Let a person do an action of `people.LEAST` to `what`, which is JSON; inside it is done.

        Raises:
            Refused: `role-insufficient`; then nothing is done, and whatever is raised inside.
        """
        refused = _refusal(person, action)
        said = json.dumps(what, ensure_ascii=False)[:_MOST_WHAT]
        result = refused.code if refused else RUNNING
        entry = Entry(0, self.clock.now(), person.name, person.role, action, said, None, result, "")
        with self.store.writing() as tx:
            number = persons.begin(tx, entry)
        if refused:
            raise Refused(refused)
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

    def _finish(self, number: int, deed: Deed, result: str, detail: str) -> None:
        with self.store.writing() as tx:
            persons.finish(tx, number, deed.rows, result, detail)


def _refusal(person: Person, action: str) -> Refusal | None:
    if people.may(person.role, action):
        return None
    least = people.LEAST.get(action, people.KEY_ADMINISTRATOR)
    return Refusal("role-insufficient", f"{person.name} is {person.role}; it takes {least}.")
