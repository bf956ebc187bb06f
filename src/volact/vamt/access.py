"""People, their roles and API tokens, and the audit log (V6).

A token is 256 random bits, shown once; its SHA-256 is what is kept, and the first characters of that are the token's
id. It is good until a day that was said when it was made.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from volact.protocol import ids
from volact.protocol.policy import DAY, MINUTE
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
TOKEN_DAYS, MOST_TOKEN_DAYS = 90, 3650
"""For how many days a token is good if nobody says otherwise, and at most."""
_MOST_LABEL = 200
_ID = 12
"""Characters of a digest that are the token's id."""


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

    def make_token(self, person: Person, name: str, label: str = "", *, days: int = TOKEN_DAYS) -> str:
        """A new token of a person, to be shown once; it is good for so many days.

        Raises:
            UsageError: if a token cannot be good for so long.
            Refused: `person-unknown`.
        """
        _check_token(label, days)
        token = _PREFIX + ids.b64u(self._random_bytes(_TOKEN_BYTES))
        what = {"token of": name, "label": label, "id": token_id(digest_of(token)), "days": days}
        with self._office.acting(person, "change-people", what) as deed, self._office.store.writing() as tx:
            if persons.role(tx, name) is None:
                raise Refused(Refusal("person-unknown", f"{name[:80]!r}."))
            now = self._office.clock.now()
            persons.add_token(tx, Token(digest_of(token), name, label, now, None, now + days * DAY))
            deed.rows = 1
        return token

    def admit(
        self, person: Person, name: str, role: str = "", label: str = "", *, days: int = TOKEN_DAYS
    ) -> str:
        """A new token of a person, who is added with `role` if that is said and there is none of the name yet.

        Raises:
            UsageError: as `put` and `make_token`.
            Refused: `person-unknown`, or `already-exists` if the person has another role.
        """
        _check_token(label, days)
        if role:
            known = {one.name: one.role for one in self.people(person)}
            if known.get(name, role) != role:
                raise Refused(Refusal("already-exists", f"{name[:80]!r} is {known[name]}."))
            if name not in known:
                self.put(person, name, role)
        return self.make_token(person, name, label, days=days)

    def tokens(self, person: Person) -> list[Token]:
        """All tokens, by person and age; those that are good no more too.

        Raises:
            Refused: `role-insufficient`.
        """
        self._office.look(person, people.LOOK_AT_LOG)
        with self._office.store.reading() as tx:
            return persons.tokens(tx)

    def revoke(self, person: Person, name: str) -> Token:
        """Let the token of that id be good no more; the token as it was.

        Raises:
            Refused: `token-unknown`.
        """
        with (
            self._office.acting(person, "change-people", {"revoke token": name[:_ID]}) as deed,
            self._office.store.writing() as tx,
        ):
            found = [one for one in persons.tokens(tx) if token_id(one.digest) == name]
            if len(found) != 1:
                raise Refused(Refusal("token-unknown", f"{name[:_ID]!r}."))
            persons.remove_token(tx, found[0].digest)
            deed.rows = 1
        return found[0]

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
        digest, now = digest_of(token), self._office.clock.now()
        with self._office.store.reading() as tx:
            found = persons.by_token(tx, digest)
        if found is None:
            return Refusal("token-refused")
        role, kept = found
        if kept.expires is not None and now >= kept.expires:
            return Refusal("token-refused", "Its time is over.")
        if kept.used is None or now - kept.used >= _NOTE_USE_EVERY:
            with self._office.store.writing() as tx:
                persons.used(tx, digest, now)
        return Person(kept.person, role)

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


def _check_token(label: str, days: int) -> None:
    if not 1 <= days <= MOST_TOKEN_DAYS:
        raise UsageError(f"A token is good for 1 to {MOST_TOKEN_DAYS} days.")
    if len(label) > _MOST_LABEL or not label.isprintable():
        raise UsageError(f"A token's label has at most {_MOST_LABEL} printable characters.")


def token_id(digest: str) -> str:
    """By which a token is named: the beginning of its digest, from which nobody finds the token."""
    return digest[:_ID]


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return ids.b64u(hashlib.sha256(token.encode("utf-8", "replace")).digest())
