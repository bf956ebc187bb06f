"""Logins: as whom the machines of each group are asked (V2). What is secret of one is sealed (T28)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.protocol.problems import Refusal, Refused
from volact.vamt import groups, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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


def guarded(tx: Connection, machines: Iterable[int]) -> dict[int, list[str]]:
    """The groups that have a login, of those that machines are in, by their numbers: who is in one is told its secret."""
    have = {*tx.execute(sa.select(schema.credential.c.grp)).scalars()}
    return {
        number: [name for name in names if name in have]
        for number, names in groups.of_machines(tx, machines).items()
    }


def opened(tx: Connection, unlock: Callable[[], Sealer]) -> Mapping[str, Login]:
    """The logins by group, with their secrets; `unlock` is called only if one has any.

    Raises:
        VolactError: what `unlock` raises, or `BrokenData` if one is damaged.
    """
    from volact.vamt import credentials  # noqa: PLC0415 - as above

    known = _all(tx)
    sealer = unlock() if any(credentials.is_sealed(one.kept) for one in known) else None
    return {one.group: credentials.login(_RECORD + one.group, one.kept, sealer) for one in known}
