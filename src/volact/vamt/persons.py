"""The SQL of people, their API tokens, and the audit log (V6). Decides nothing.

Of a token its SHA-256 is kept, never the token. The log is added to and each row finished once; nothing removes any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.vamt import schema

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Known(NamedTuple):
    """A person, since when, and how many tokens there are for them."""

    name: str
    role: str
    made: int
    tokens: int


class Token(NamedTuple):
    """A token as it is kept: whose, what it is for, when it was made, last used, and is good no more (None: never)."""

    digest: str
    person: str
    label: str
    made: int
    used: int | None
    expires: int | None


class Entry(NamedTuple):
    """A row of the audit log.

    Attributes:
        number: rises with time.
        at: when it began, seconds UTC.
        who, role: the person.
        action: what was done, a name of `people.LEAST`.
        what: to what, as JSON.
        rows: how many rows it was about; None if it never came to that.
        result: ``ok``, a refusal's code, or ``running``.
        detail: the refusal's detail.
    """

    number: int
    at: int
    who: str
    role: str
    action: str
    what: str
    rows: int | None
    result: str
    detail: str


def people(tx: Connection) -> list[Known]:
    """All people, by name."""
    person, token = schema.person, schema.token
    count = sa.select(sa.func.count()).where(token.c.person == person.c.name).scalar_subquery()
    rows = tx.execute(sa.select(person.c.name, person.c.role, person.c.made, count).order_by(person.c.name))
    return [Known(*row) for row in rows]


def role(tx: Connection, name: str) -> str | None:
    """The role of a person; None if there is none of that name."""
    return tx.execute(sa.select(schema.person.c.role).where(schema.person.c.name == name)).scalar()


def put(tx: Connection, name: str, new_role: str, made: int) -> bool:
    """Write a person's role; whether they are new."""
    table = schema.person
    if tx.execute(sa.update(table).where(table.c.name == name).values(role=new_role)).rowcount:
        return False
    tx.execute(sa.insert(table).values(name=name, role=new_role, made=made))
    return True


def remove(tx: Connection, name: str) -> bool:
    """Remove a person with their tokens; whether there was one."""
    return tx.execute(sa.delete(schema.person).where(schema.person.c.name == name)).rowcount > 0


def add_token(tx: Connection, found: Token) -> None:
    """Keep a token's digest."""
    tx.execute(sa.insert(schema.token).values(found._asdict()))


def tokens(tx: Connection) -> list[Token]:
    """All tokens, by person and age."""
    table = schema.token
    rows = tx.execute(sa.select(table).order_by(table.c.person, table.c.made, table.c.digest))
    return [Token(row.digest, row.person, row.label, row.made, row.used, row.expires) for row in rows]


def remove_token(tx: Connection, digest: str) -> None:
    """Let one token be good no more."""
    tx.execute(sa.delete(schema.token).where(schema.token.c.digest == digest))


def revoke_tokens(tx: Connection, name: str) -> int:
    """Let no token of a person be good any more; how many there were."""
    return tx.execute(sa.delete(schema.token).where(schema.token.c.person == name)).rowcount


def by_token(tx: Connection, digest: str) -> tuple[str, Token] | None:
    """The token with this digest, and the role of its person now."""
    person, token = schema.person, schema.token
    row = tx.execute(
        sa.select(person.c.role, token)
        .join(token, token.c.person == person.c.name)
        .where(token.c.digest == digest)
    ).one_or_none()
    if row is None:
        return None
    return row.role, Token(row.digest, row.person, row.label, row.made, row.used, row.expires)


def used(tx: Connection, digest: str, at: int) -> None:
    """Note that a token was used."""
    tx.execute(sa.update(schema.token).where(schema.token.c.digest == digest).values(used=at))


def begin(tx: Connection, entry: Entry) -> int:
    """Add a row to the log; its number."""
    values = entry._asdict()
    del values["number"]
    row = sa.insert(schema.audit).values(values).returning(schema.audit.c.id)
    return int(tx.execute(row).scalar_one())


def finish(tx: Connection, number: int, rows: int | None, result: str, detail: str) -> None:
    """Write how an action ended."""
    table = schema.audit
    tx.execute(sa.update(table).where(table.c.id == number).values(rows=rows, result=result, detail=detail))


def log(tx: Connection, limit: int, since: int = 0, who: str = "", action: str = "") -> list[Entry]:
    """The newest rows of the log, newest first."""
    table = schema.audit
    found = sa.select(table).where(table.c.at >= since).order_by(table.c.id.desc()).limit(limit)
    if who:
        found = found.where(table.c.who == who)
    if action:
        found = found.where(table.c.action == action)
    return [Entry(*row) for row in tx.execute(found)]
