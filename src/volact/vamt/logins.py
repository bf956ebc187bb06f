"""Logins: as whom the machines of each group are asked (V2). What is secret of one is sealed (T28)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.protocol.problems import Refusal, Refused
from volact.vamt import groups, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from sqlalchemy import Connection

    from volact.vamt.acting import Office
    from volact.vamt.collecting.targets import Login
    from volact.vamt.credentials import Kept
    from volact.vamt.people import Person
    from volact.vamt.sealing import Sealer

_RECORD = "login of group "
"""What the sealed part of a login is bound to, with the group's name."""


class Known(NamedTuple):
    """A login as it is shown: of which group (empty: of all others), how it is proved, as whom, since when."""

    group: str
    kept: Kept
    made: int


class Logins:
    """The use cases of logins."""

    def __init__(self, office: Office) -> None:
        """Work in `office`."""
        self._office = office

    def list(self, person: Person) -> list[Known]:
        """The logins, by group, without their secrets."""
        self._office.look(person)
        with self._office.store.reading() as tx:
            return _all(tx)

    def put(self, person: Person, group: str, login: Login, sealer: Sealer | None) -> None:
        """Ask the machines of a group, or of all groups without one of their own, by this login from now on.

        Raises:
            Refused: `group-unknown`, `login-unusable`, or `not-set-up` if it has a secret and there is no seal.
        """
        with (
            self._office.acting(
                person, "change-credentials", {"group": group, "account": login.user}
            ) as deed,
            self._office.store.writing() as tx,
        ):
            if group and groups.number(tx, group) is None:
                raise Refused(Refusal("group-unknown", f"{group[:80]!r}."))
            from volact.vamt import credentials  # noqa: PLC0415 - asyncssh: half a second for logins alone

            kept = credentials.keep(_RECORD + group, login, sealer)
            table = schema.credential
            tx.execute(sa.delete(table).where(table.c.grp == group))
            row = {**kept._asdict(), "grp": group, "made": self._office.clock.now()}
            tx.execute(sa.insert(table).values(row))
            deed.rows = 1

    def remove(self, person: Person, group: str) -> None:
        """Forget the login of a group.

        Raises:
            Refused: `login-missing`.
        """
        with (
            self._office.acting(person, "change-credentials", {"remove": group}) as deed,
            self._office.store.writing() as tx,
        ):
            table = schema.credential
            deed.rows = tx.execute(sa.delete(table).where(table.c.grp == group)).rowcount
            if not deed.rows:
                raise Refused(Refusal("login-missing", f"There is no login of {group[:80]!r}."))


def _all(tx: Connection) -> list[Known]:
    from volact.vamt.credentials import Kept  # noqa: PLC0415 - as above

    table = schema.credential
    rows = tx.execute(sa.select(table).order_by(table.c.grp))
    return [Known(row.grp, Kept(row.kind, row.account, row.options, row.sealed), row.made) for row in rows]


def with_login(tx: Connection) -> set[str]:
    """The groups that have a login of their own; the empty name stands for all other machines."""
    return {*tx.execute(sa.select(schema.credential.c.grp)).scalars()}


def guarded(tx: Connection, machines: Iterable[int]) -> dict[int, list[str]]:
    """The groups that have a login, of those that machines are in, by their numbers: who is in one is told its secret."""
    have = with_login(tx)
    return {
        number: [name for name in names if name in have]
        for number, names in groups.of_machines(tx, machines).items()
    }


class Opened(Mapping[str, "Login"]):
    """The logins by group, each opened when it is first used: the seal is asked for only if a sealed one is (T28)."""

    def __init__(
        self, known: Iterable[Known], unlock: Callable[[], Sealer], more: Mapping[str, Login] = {}
    ) -> None:
        """These; `unlock` is called at most once; `more` are open ones of groups that have none."""
        self._known = {one.group: one.kept for one in known}
        self._unlock = cache(unlock)
        self._more = more
        self._login = cache(self._opened)

    def __iter__(self) -> Iterator[str]:
        """The names of the groups, whether theirs can be opened or not."""
        return iter({**self._more, **self._known})

    def __len__(self) -> int:
        """How many there are."""
        return len({**self._more, **self._known})

    def __contains__(self, group: object) -> bool:
        """Whether a group has one; nothing is opened for that."""
        return group in self._known or group in self._more

    def __getitem__(self, group: str) -> Login:
        """A group's login.

        Raises:
            KeyError: if it has none.
            VolactError: what `unlock` raises, or `BrokenData` if it is damaged.
        """
        return self._login(group)

    def unlock_for(self, groups: Iterable[str]) -> None:
        """Open the seal if one of these groups' logins is sealed: before anything is begun, and outside a transaction.

        Raises:
            VolactError: what `unlock` raises.
        """
        if any(one in self._known and self._known[one].sealed for one in groups):
            self._unlock()

    def _opened(self, group: str) -> Login:
        if group not in self._known:
            return self._more[group]
        from volact.vamt import credentials  # noqa: PLC0415 - as above

        kept = self._known[group]
        return credentials.login(_RECORD + group, kept, self._unlock() if kept.sealed else None)


def kept(tx: Connection) -> list[Known]:
    """The logins as they are kept, by group."""
    return _all(tx)


def unlock_for(logins: Collection[str], groups: Iterable[str]) -> None:
    """See to it, before anybody is asked, that the seal is open if the login of one of these groups is sealed.

    Other `logins` than `Opened` are open already.

    Raises:
        VolactError: if it cannot be opened.
    """
    if isinstance(logins, Opened):
        logins.unlock_for(groups)
