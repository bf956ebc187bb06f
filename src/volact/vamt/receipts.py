"""The SQL of computer lists: what went out and came in, row by row, with which result, when and by whom (P3, P4).

Decides nothing. A row of a list is its own receipt, on both sides: which machine or CMID, which key, what became of it.

A confirmation whose activation the publisher's status list names (returned, or blocked, which is never lifted) is of no
use to anybody: it is forgotten when the list comes, and not found while the list that is kept names it (M5, M6).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.protocol import jws, status
from volact.vamt import schema
from volact.vamt.store import in_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

OUT, IN, ANSWER_OUT, ANSWER_IN = "out", "in", "answer-out", "answer-in"
"""Directions of a list: questions going out and coming in, answers likewise."""
OPEN, REFUSED, ANSWERED, APPLIED, FAILED = "open", "refused", "answered", "applied", "failed"
"""States of a row: not answered yet; the authority said no; it has its answer; that is in force; it could not be."""
HANDED = "handed"
"""Written to a file, which a person brings: whether it came to be in force nobody has said."""


class List(NamedTuple):
    """A computer list.

    Attributes:
        number: in this store.
        lid: its id.
        pub: the publisher.
        direction: `OUT`, `IN`, `ANSWER_OUT` or `ANSWER_IN`.
        mode: ``full`` or ``proxy``.
        seq: the writer's count of its lists.
        writer: thumbprint of the writer's key.
        ref: the list that it answers; None if it asks.
        digest: of its rows; empty for one that was never finished.
        rows: how many it has.
        at: when it was written or read here, seconds UTC.
        who: by whom.
    """

    number: int
    lid: str
    pub: str
    direction: str
    mode: str
    seq: int
    writer: str
    ref: str | None
    digest: str
    rows: int
    at: int
    who: str


class Item(NamedTuple):
    """A row of a list.

    Attributes:
        number: in this store.
        list: its list's number.
        row: its id in the file.
        mid: inside the machine's row; outside, where no machine is known, its CMID.
        prd: the product.
        op: what it asks for.
        jti: the question's id.
        key: the product key's thumbprint.
        request: the bundle that was asked with.
        state: `OPEN`, `REFUSED`, `ANSWERED`, `APPLIED`, `HANDED` or `FAILED`.
        code: why, if it is refused or failed.
        answer: the bundle that was granted.
        at: when its state was reached, seconds UTC.
        who: through whom.
    """

    number: int
    list: int
    row: str
    mid: str
    prd: str
    op: str
    jti: str
    key: str
    request: dict[str, Any]
    state: str
    code: str
    answer: dict[str, Any] | None
    at: int | None
    who: str


class Kept(NamedTuple):
    """A confirmation that is kept (P4): for which product, key, machine and fingerprint, and its bundle."""

    pub: str
    prd: str
    key: str
    cmid: str
    act: str
    fp: dict[str, str]
    bundle: dict[str, Any]
    mid: str
    granted: int
    kept: int


class Writer(NamedTuple):
    """A VAMT whose lists were met: its fingerprint, what people call it, whether it is pinned, since when."""

    fp: str
    name: str
    trusted: bool
    met: int


# --- lists ----------------------------------------------------------------------------------------------------


def add(tx: Connection, made: List) -> int:
    """Write a list; its number."""
    values = {name: value for name, value in made._asdict().items() if name != "number"}
    found = tx.execute(sa.insert(schema.computer_list).values(values).returning(schema.computer_list.c.id))
    return int(found.scalar_one())


def finish(tx: Connection, number: int, digest: str, rows: int) -> None:
    """Write what a list came to."""
    table = schema.computer_list
    tx.execute(sa.update(table).where(table.c.id == number).values(digest=digest, rows=rows))


def find(tx: Connection, lid: str) -> List | None:
    """A list by its id."""
    row = tx.execute(sa.select(schema.computer_list).where(schema.computer_list.c.lid == lid)).one_or_none()
    return List(*row) if row else None


def lists(tx: Connection, limit: int) -> list[List]:
    """The newest lists, newest first."""
    table = schema.computer_list
    return [List(*row) for row in tx.execute(sa.select(table).order_by(table.c.id.desc()).limit(limit))]


def newest(tx: Connection, writer: str, pub: str, *directions: str) -> int:
    """The highest count of a writer's lists that came in; 0 if there was none."""
    table = schema.computer_list
    query = sa.select(sa.func.max(table.c.seq)).where(
        table.c.writer == writer, table.c.pub == pub, table.c.direction.in_(directions)
    )
    return tx.execute(query).scalar() or 0


def states(tx: Connection, number: int) -> dict[str, int]:
    """How many rows of a list are in each state."""
    table = schema.list_row
    query = (
        sa.select(table.c.state, sa.func.count().label("rows"))
        .where(table.c.list == number)
        .group_by(table.c.state)
    )
    return {row.state: row.rows for row in tx.execute(query)}


# --- rows -----------------------------------------------------------------------------------------------------


def add_items(tx: Connection, items: Sequence[Item]) -> None:
    """Write rows of a list."""
    if items:
        tx.execute(sa.insert(schema.list_row), [_values(one) for one in items])


def _values(one: Item) -> dict[str, Any]:
    values = {name: value for name, value in one._asdict().items() if name != "number"}
    return {**values, "request": _written(one.request), "answer": _written(one.answer)}


def _written(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _item(row: Any) -> Item:  # noqa: ANN401 - JSON, or a row
    found = Item(*row)
    return found._replace(
        request=json.loads(row.request), answer=json.loads(row.answer) if row.answer else None
    )


def items(tx: Connection, number: int, *, after: int = 0, limit: int, but: Sequence[str] = ()) -> list[Item]:
    """Rows of a list in order, beyond the row numbered `after`, but those in some states."""
    table = schema.list_row
    query = sa.select(table).where(table.c.list == number, table.c.id > after, table.c.state.not_in(but))
    return [_item(row) for row in tx.execute(query.order_by(table.c.id).limit(limit))]


def known_rows(tx: Connection, number: int, rows: Iterable[str]) -> set[str]:
    """Which of these row ids a list has here already."""
    table, found = schema.list_row, set[str]()
    for part in in_parts(rows):
        query = sa.select(table.c.row).where(table.c.list == number, table.c.row.in_(part))
        found.update(tx.execute(query).scalars())
    return found


def by_question(tx: Connection, jtis: Iterable[str], direction: str) -> dict[str, list[Item]]:
    """The rows of lists of a direction that asked with these ids: a question that was exported twice stands in two."""
    found: dict[str, list[Item]] = {}
    for one in _by(tx, schema.list_row.c.jti, jtis, direction):
        found.setdefault(one.jti, []).append(one)
    return found


def by_row(tx: Connection, rows: Iterable[str], direction: str, ref: str | None) -> dict[str, Item]:
    """The rows with these ids, of the list `ref` if it is known."""
    return {one.row: one for one in _by(tx, schema.list_row.c.row, rows, direction, ref)}


def _by(
    tx: Connection, column: sa.Column[Any], values: Iterable[str], direction: str, ref: str | None = None
) -> list[Item]:
    table, whole, found = schema.list_row, schema.computer_list, list[Item]()
    for part in in_parts(values):
        query = (
            sa.select(table)
            .join(whole, whole.c.id == table.c.list)
            .where(column.in_(part), whole.c.direction == direction)
        )
        if ref is not None:
            query = query.where(whole.c.lid == ref)
        found += [_item(row) for row in tx.execute(query.order_by(table.c.id))]
    return found


def newer(tx: Connection, writer: str, seq: int, mids: Iterable[str]) -> dict[tuple[str, str, str], str]:
    """What later lists of a writer ask for these machines: (machine, product, operation) -> the question's id."""
    table, whole, found = schema.list_row, schema.computer_list, {}
    for part in in_parts(mids):
        query = (
            sa.select(table.c.mid, table.c.prd, table.c.op, table.c.jti)
            .join(whole, whole.c.id == table.c.list)
            .where(
                table.c.mid.in_(part), whole.c.writer == writer, whole.c.seq > seq, whole.c.direction == IN
            )
        )
        found.update({(row.mid, row.prd, row.op): row.jti for row in tx.execute(query)})
    return found


def settle(tx: Connection, done: Sequence[Item]) -> None:
    """Write what became of rows: state, code, answer, when and through whom."""
    table = schema.list_row
    statement = (
        sa.update(table)
        .where(table.c.id == sa.bindparam("at_number"))
        .values(
            {name: sa.bindparam(f"new_{name}") for name in ("mid", "state", "code", "answer", "at", "who")}
        )
    )
    if done:
        tx.execute(
            statement,
            [
                {
                    "at_number": one.number,
                    "new_mid": one.mid,
                    "new_state": one.state,
                    "new_code": one.code,
                    "new_answer": _written(one.answer),
                    "new_at": one.at,
                    "new_who": one.who,
                }
                for one in done
            ],
        )


# --- confirmations (P4) ---------------------------------------------------------------------------------------


_SAME = ("pub", "prd", "act", "cmid")
"""What one confirmation is kept for."""


def keep(tx: Connection, kept: Sequence[Kept]) -> None:
    """Keep confirmations; one of the same activation and CMID takes the place of the older."""
    table = schema.confirmation
    rows = {(one.pub, one.prd, one.act, one.cmid): one for one in kept}
    pubs, prds = ({of[at] for of in rows} for at in (0, 1))
    known = set[tuple[str, ...]]()
    for part in in_parts(one.act for one in kept):
        query = sa.select(*(table.c[name] for name in _SAME)).where(
            table.c.pub.in_(pubs), table.c.prd.in_(prds), table.c.act.in_(part)
        )
        known.update(tuple(row) for row in tx.execute(query))
    same = sa.and_(*(table.c[name] == sa.bindparam(f"new_{name}") for name in _SAME))
    changed: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in Kept._fields}
    if old := [one for of, one in rows.items() if of in known]:
        values = [{f"new_{name}": value for name, value in _kept_values(one).items()} for one in old]
        tx.execute(sa.update(table).where(same).values(changed), values)
    if new := [one for of, one in rows.items() if of not in known]:
        tx.execute(sa.insert(table), [_kept_values(one) for one in new])


def _kept_values(one: Kept) -> dict[str, Any]:
    return {**one._asdict(), "fp": _written(one.fp), "bundle": _written(one.bundle)}


def kept(tx: Connection, mids: Iterable[str]) -> list[Kept]:
    """The confirmations that are kept for these machines and stand as far as is known, newest first."""
    table, found = schema.confirmation, list[Kept]()
    columns = [table.c[name] for name in Kept._fields]
    for part in in_parts(mids):
        query = sa.select(*columns).where(table.c.mid.in_(part)).order_by(table.c.granted.desc(), table.c.id)
        for row in tx.execute(query):
            found.append(Kept(*row)._replace(fp=json.loads(row.fp), bundle=json.loads(row.bundle)))
    named = {
        pub: listed(tx, pub, [one.act for one in found if one.pub == pub])
        for pub in {one.pub for one in found}
    }
    return [one for one in found if one.act not in named[one.pub]]


def forget(tx: Connection, pub: str, act: str) -> None:
    """Forget the confirmations of an activation that was given back: they are never applied again (M6)."""
    table = schema.confirmation
    tx.execute(sa.delete(table).where(table.c.pub == pub, table.c.act == act))


# --- writers, keys, machines, status lists ----------------------------------------------------------------------


def writers(tx: Connection) -> list[Writer]:
    """The VAMTs whose lists were met or that were pinned, in the order of that."""
    table = schema.writer
    return [Writer(*row) for row in tx.execute(sa.select(table).order_by(table.c.met, table.c.fp))]


def writer(tx: Connection, fp: str) -> Writer | None:
    """A writer by its fingerprint."""
    row = tx.execute(sa.select(schema.writer).where(schema.writer.c.fp == fp)).one_or_none()
    return Writer(*row) if row else None


def put_writer(tx: Connection, one: Writer) -> None:
    """Write a new writer, or what is thought of one."""
    table = schema.writer
    if tx.execute(sa.update(table).where(table.c.fp == one.fp).values(one._asdict())).rowcount == 0:
        tx.execute(sa.insert(table).values(one._asdict()))


def labels(tx: Connection, keys: Iterable[str]) -> dict[str, str]:
    """The labels of keys that this VAMT holds, by thumbprint."""
    table, found = schema.key, {}
    for part in in_parts(keys):
        query = sa.select(table.c.thumbprint, table.c.label).where(table.c.thumbprint.in_(part))
        found.update({row.thumbprint: row.label for row in tx.execute(query)})
    return found


def state_key(tx: Connection, statement: Mapping[str, Any], bundle: Mapping[str, Any]) -> None:
    """Keep what the publisher's signed statement says of a key, unless a later one is kept (M3)."""
    table = schema.key
    is_newer = table.c.as_of.is_(None) | (table.c.as_of <= statement["iat"])
    same = (table.c.pub == statement["pub"]) & (table.c.thumbprint == statement["sub"])
    tx.execute(
        sa.update(table)
        .where(same, is_newer)
        .values(
            {name: statement[name] for name in ("bought", "activated", "remaining")}
            | {"as_of": statement["iat"], "statement": _written(bundle)}
        )
    )


def machines_of(tx: Connection, cmids: Iterable[str]) -> dict[str, str]:
    """The machines that have these CMIDs, by CMID."""
    table, machine, found = schema.cmid, schema.machine, {}
    for part in in_parts(cmids):
        query = (
            sa.select(table.c.cmid, machine.c.mid)
            .join(machine, machine.c.id == table.c.machine)
            .where(table.c.cmid.in_(part))
        )
        found.update({row.cmid: row.mid for row in tx.execute(query)})
    return found


def names(tx: Connection, mids: Iterable[str]) -> dict[str, str]:
    """The names of machines, by their ids."""
    table, found = schema.machine, {}
    for part in in_parts(mids):
        query = sa.select(table.c.mid, table.c.name, table.c.domain).where(table.c.mid.in_(part))
        found.update({row.mid: ".".join(filter(None, (row.name, row.domain))) for row in tx.execute(query)})
    return found


class StatusList(NamedTuple):
    """A publisher's status list: what orders it, its head's bundle, its body, and when it was had."""

    pub: str
    issued: int
    ver: int
    head: dict[str, Any]
    body: bytes
    fetched: int

    def travels(self) -> bytes:
        """As it travels: head line and body."""
        return jws.write_json(self.head) + b"\n" + self.body


def status_list(tx: Connection, pub: str) -> StatusList | None:
    """The newest status list of a publisher that is known here."""
    table = schema.status_list
    row = tx.execute(sa.select(table).where(table.c.pub == pub)).one_or_none()
    return StatusList(*row)._replace(head=json.loads(row.head), body=bytes(row.body)) if row else None


def listed(tx: Connection, pub: str, acts: Iterable[str]) -> dict[str, str]:
    """Which of these activations the newest status list of their publisher names, and how: ``returned`` or ``all``."""
    wanted = set(acts)
    held = status_list(tx, pub) if wanted else None
    if held is None:
        return {}
    modes = {act: status.find(held.body, "act", act) for act in wanted}
    return {act: mode for act, mode in modes.items() if mode}


def put_status_list(tx: Connection, one: StatusList) -> None:
    """Keep a status list in place of the one before, and forget the confirmations of activations that it names."""
    table = schema.status_list
    tx.execute(sa.delete(table).where(table.c.pub == one.pub))
    tx.execute(sa.insert(table).values({**one._asdict(), "head": _written(one.head)}))
    known = schema.confirmation
    acts = tx.execute(sa.select(known.c.act).where(known.c.pub == one.pub)).scalars()
    for act in listed(tx, one.pub, acts):
        forget(tx, one.pub, act)
