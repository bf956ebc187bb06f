"""People, their roles and API tokens, and the audit log (V6).

A token is 256 random bits, shown once; its SHA-256 is what is kept.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from volact.protocol import ids
from volact.protocol.policy import MINUTE
from volact.protocol.problems import Refusal, Refused, UsageError
from volact.vamt import people, persons
from volact.vamt.people import Person
from volact.vamt.persons import Entry, Known, Token
from volact.vamt.views import check_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from volact.vamt.acting import Office

_TOKEN_BYTES = 32
_PREFIX = "vamt_"
_NOTE_USE_EVERY = 5 * MINUTE


class Access:
    """The use cases of people."""

    def __init__(self, office: Office, random_bytes: Callable[[int], bytes]) -> None:
        """Work in `office`; tokens are made of `random_bytes`."""
        self._office = office
        self._random_bytes = random_bytes

    def people(self, person: Person) -> list[Known]:
        """All people and their roles, by name."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            return persons.people(tx)

    def put(self, person: Person, name: str, role: str) -> bool:
        """Give a person a role; whether they are new.

        Raises:
            UsageError: if that is no name or no role.
            Refused: `role-insufficient`.
        """
        check_name(name, "person")
        if role not in people.ROLES:
            raise UsageError(f"There is no role {role[:40]!r}.", f"Give one of {', '.join(people.ROLES)}.")
        with self._office.acting(person, "change-people", {"person": name, "role": role}) as deed:
            with self._office.store.writing() as tx:
                is_new = persons.put(tx, name, role, self._office.clock.now())
            deed.rows = 1
        return is_new

    def remove(self, person: Person, name: str) -> None:
        """Remove a person and their tokens; what they did stays in the log.

        Raises:
            Refused: `person-unknown`.
        """
        with (
            self._office.acting(person, "change-people", {"remove": name}),
            self._office.store.writing() as tx,
        ):
            if not persons.remove(tx, name):
                raise Refused(Refusal("person-unknown", f"{name[:80]!r}."))

    def make_token(self, person: Person, name: str, label: str = "") -> str:
        """A new token of a person, to be shown once.

        Raises:
            Refused: `person-unknown`.
        """
        token = _PREFIX + ids.b64u(self._random_bytes(_TOKEN_BYTES))
        what = {"token of": name, "label": label}
        with self._office.acting(person, "change-people", what) as deed, self._office.store.writing() as tx:
            if persons.role(tx, name) is None:
                raise Refused(Refusal("person-unknown", f"{name[:80]!r}."))
            persons.add_token(tx, Token(_digest(token), name, label, self._office.clock.now(), None))
            deed.rows = 1
        return token

    def revoke_tokens(self, person: Person, name: str) -> int:
        """Let no token of a person be good any more; how many there were.

        Raises:
            Refused: `person-unknown`.
        """
        what = {"revoke tokens of": name}
        with self._office.acting(person, "change-people", what) as deed, self._office.store.writing() as tx:
            if persons.role(tx, name) is None:
                raise Refused(Refusal("person-unknown", f"{name[:80]!r}."))
            deed.rows = persons.revoke_tokens(tx, name)
        return deed.rows

    def identify(self, token: str) -> Person | Refusal:
        """Whose token it is, with their role as it is now; else `token-refused`."""
        digest, now = _digest(token), self._office.clock.now()
        with self._office.store.reading() as tx:
            found = persons.by_token(tx, digest)
        if found is None:
            return Refusal("token-refused")
        name, role, used = found
        if used is None or now - used >= _NOTE_USE_EVERY:
            with self._office.store.writing() as tx:
                persons.used(tx, digest, now)
        return Person(name, role)

    def log(
        self, person: Person, *, limit: int, since: int = 0, who: str = "", action: str = ""
    ) -> list[Entry]:
        """The newest rows of the audit log, newest first.

        Raises:
            Refused: `role-insufficient`.
        """
        self._office.look(person, people.LOOK_AT_LOG)
        with self._office.store.reading() as tx:
            return persons.log(tx, limit, since, who, action)


def _digest(token: str) -> str:
    return ids.b64u(hashlib.sha256(token.encode("utf-8", "replace")).digest())
