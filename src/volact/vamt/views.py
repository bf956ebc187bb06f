"""Groups of machines and saved views (V3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.protocol.problems import Refusal, Refused, UsageError
from volact.vamt import byhand, logins, searching, selecting, store
from volact.vamt import groups as sql
from volact.vamt.people import GIVE_LOGIN, KEY_ADMINISTRATOR

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from volact.vamt.acting import Office
    from volact.vamt.people import Person
    from volact.vamt.selecting import Selection

_MOST_NAME = 64


def check_name(name: str, of: str) -> str:
    """A name that a person gives to a group, a view or a person.

    Raises:
        UsageError: if it is none that could be shown and typed.
    """
    if not (name.strip() == name and 0 < len(name) <= _MOST_NAME and name.isprintable()):
        raise UsageError(
            f"{name[:80]!r} is no name of a {of}.", f"Give 1 to {_MOST_NAME} printable characters."
        )
    return name


class Groups:
    """The use cases of groups."""

    def __init__(self, office: Office) -> None:
        """Work in `office`."""
        self._office = office

    def list(self, person: Person) -> list[sql.Group]:
        """All groups, by name."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            return sql.groups(tx)

    def create(self, person: Person, name: str, notes: str = "") -> None:
        """Make a group.

        Raises:
            UsageError: if that is no name, or no note.
            Refused: `already-exists`.
        """
        check_name(name, "group")
        byhand.note(notes)
        with (
            self._office.acting(person, "change-groups", {"create": name}) as deed,
            self._office.store.writing() as tx,
        ):
            store.lock(tx)
            if name.lower() in sql.alike(tx):
                raise Refused(
                    Refusal("already-exists", f"There is a group {name!r}; case makes no difference.")
                )
            sql.create(tx, name, notes, self._office.clock.now())
            deed.rows = 0

    def delete(self, person: Person, name: str) -> None:
        """Remove a group; its machines stay.

        Raises:
            Refused: `group-unknown`.
        """
        with (
            self._office.acting(person, "change-groups", {"delete": name}),
            self._office.store.writing() as tx,
        ):
            sql.delete(tx, selecting.named_group(tx, name))

    def add(self, person: Person, name: str, selection: Selection) -> int:
        """Put machines into a group; how many were not in it before.

        Raises:
            Refused: `group-unknown`, `selection-empty`, `machine-unknown`; `role-insufficient` also if the group has a
                login, which those machines would be told, and the person is no key administrator.
        """
        what = {"add": name, "selection": selection.said()}
        with self._office.acting(person, "change-groups", what) as deed, self._office.store.writing() as tx:
            group = selecting.named_group(tx, name)
            added = sql.add(tx, group, _machines(tx, selection, self._office.clock.now()))
            if added and name in logins.with_login(tx):
                self._office.check(person, GIVE_LOGIN)
            deed.rows = added
        return added

    def take_out(self, person: Person, name: str, selection: Selection) -> int:
        """Take machines out of a group; how many were in it.

        Raises:
            Refused: `group-unknown`, `selection-empty`, `machine-unknown`.
        """
        what = {"take out": name, "selection": selection.said()}
        with self._office.acting(person, "change-groups", what) as deed, self._office.store.writing() as tx:
            group = selecting.named_group(tx, name)
            deed.rows = sql.take_out(tx, group, _machines(tx, selection, self._office.clock.now()))
        return deed.rows


def _machines(tx: Connection, selection: Selection, now: int) -> set[int]:
    return {one.number for one in selecting.select(tx, selection, now)}


class Views:
    """The use cases of saved views."""

    def __init__(self, office: Office) -> None:
        """Work in `office`."""
        self._office = office

    def list(self, person: Person) -> list[sql.View]:
        """All views, by name."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            return sql.views(tx)

    def save(self, person: Person, name: str, where: str, sort: str = "") -> None:
        """Save a filter and an order under a name; one's own view of that name is replaced.

        Raises:
            UsageError: if that is no name or no order.
            Refused: `filter-malformed`, or `already-exists` if the view is somebody else's.
        """
        check_name(name, "view")
        if sort and searching.order_of(sort) is None:
            raise UsageError(
                f"There is no order {sort[:40]!r}.", f"Give one of {', '.join(searching.SORTS)}."
            )
        what = {"save": name, "where": where, "sort": sort}
        with self._office.acting(person, "save-view", what) as deed, self._office.store.writing() as tx:
            selecting.terms_of(tx, where)
            _own(tx, name, person)
            sql.put_view(tx, sql.View(name, where, sort, person.name, self._office.clock.now()))
            deed.rows = 1

    def delete(self, person: Person, name: str) -> None:
        """Remove one's own view.

        Raises:
            Refused: `view-unknown`, or `already-exists` if it is somebody else's.
        """
        with self._office.acting(person, "save-view", {"delete": name}), self._office.store.writing() as tx:
            if not _own(tx, name, person):
                raise Refused(Refusal("view-unknown", f"{name[:80]!r}."))
            sql.delete_view(tx, name)


def _own(tx: Connection, name: str, person: Person) -> bool:
    """Whether there is a view of that name; only its owner and a key administrator change it."""
    found = sql.view(tx, name)
    if found and found.owner != person.name and person.role != KEY_ADMINISTRATOR:
        raise Refused(Refusal("already-exists", f"The view is {found.owner}'s, who alone may change it."))
    return found is not None
