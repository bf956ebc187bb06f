"""Filters, orders and selections as SQL over machines and their products (V3). Decides nothing.

A row is one machine and product; a machine without products is one row. A page of 300,000 rows costs what it shows:

- What is asked of products alone is answered by `installed` alone, which repeats the machines' names.
- How many rows there are is asked first. If they are few, they are found by what the filter asks and then sorted; if they
  are many, they are read in their order until the page is full. PostgreSQL knows that itself; SQLite is told, by a
  ``+`` before the columns whose index it should leave alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.operators import custom_op

from volact.vamt import schema
from volact.vamt.filters import AGO, AHEAD, FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from volact.vamt.filters import Term

_machine, _installed = schema.machine, schema.installed

_OF_MACHINE: dict[str, sa.Column[Any]] = {
    "name": _machine.c.name,
    "domain": _machine.c.domain,
    "address": _machine.c.address,
    "platform": _machine.c.platform,
    "system": _machine.c.system,
    "virtual": _machine.c.virtual,
    "hypervisor": _machine.c.hypervisor,
    "outcome": _machine.c.code,
    "seen": _machine.c.last_seen,
    "collected": _machine.c.collected,
    "source": _machine.c.found_by,
    "id": _machine.c.mid,
}
_OF_PRODUCT: dict[str, sa.Column[Any]] = {
    "publisher": _installed.c.pub,
    "product": _installed.c.prd,
    "state": _installed.c.state,
    "key": _installed.c.channel,
    "label": _installed.c.partial_key,
    "proof": _installed.c.proof,
    "host": _installed.c.host,
    "reason": _installed.c.reason,
    "granted": _installed.c.granted,
    "expires": _installed.c.expires,
}
_REPEATED: dict[str, sa.Column[Any]] = {"name": _installed.c.name, "domain": _installed.c.domain}
_LOWER = frozenset(("name", "domain", "address", "product", "key", "proof", "outcome", "platform"))
"""Fields that are in lower case already, so that an index serves."""
SORTS = tuple(name for name in (*_OF_MACHINE, *_OF_PRODUCT) if name not in ("id", "source", "proof"))
"""What rows can be ordered by."""
_AT_ONCE = 500
_FEW = 5_000
"""Rows that are sorted faster than an index is walked for them."""


def order_of(text: str) -> Order | None:
    """An order as it is written: a field of `SORTS`, with ``-`` before it for descending; None if it is none."""
    field = text.removeprefix("-")
    return Order(field, text.startswith("-")) if field in SORTS else None


class Found(NamedTuple):
    """A row of a list: a machine, and a product on it or None.

    Attributes:
        number: the machine's number in this store.
        machine: its columns, by name.
        product: the product's columns, by name.
    """

    number: int
    machine: dict[str, Any]
    product: dict[str, Any] | None


class Page(NamedTuple):
    """Some of the rows that a filter lets through, and how many there are."""

    total: int
    rows: list[Found]


class Target(NamedTuple):
    """What an action is done to: a machine and a product on it; pub and prd are empty for one without products."""

    number: int
    mid: str
    name: str
    pub: str
    prd: str


FILTER, ORDER = "filter", "order"
"""Whose columns SQLite is told to look for no index of."""


class Order(NamedTuple):
    """By which field rows stand in order; those that are equal in it by name, domain and product."""

    field: str = "name"
    descending: bool = False


# --- one query ------------------------------------------------------------------------------------------------


class _Query:
    """What a filter asks, of `installed` alone if it can be answered there."""

    def __init__(
        self, terms: Sequence[Term], now: int, order: Order, *, join: bool = False, leave: str = ""
    ) -> None:
        """Ask for `terms`, the machine joined in any case if `join`; `leave` the indices of FILTER or ORDER alone."""
        self._now = now
        self._plain = leave == FILTER
        asked = {*(term.field for term in terms), order.field}
        self.products_only = any(_is_of_product(term) and not _is_negated(term) for term in terms)
        self._names = _REPEATED if self.products_only else {}
        self.machine = self._column(_installed.c.machine if self.products_only else _machine.c.id)
        same = _machine.c.id == _installed.c.machine
        if not self.products_only:
            self.rows: sa.FromClause = _machine.outerjoin(_installed, same)
        elif join or order.field == "address" or asked & _OF_MACHINE.keys() - {*_REPEATED, "address"}:
            self.rows = _installed.join(_machine, same)
        else:
            self.rows = _installed
        self.where = [self._condition(term) for term in terms]
        self.order = self._ordered(order, plain=leave == ORDER)

    def _ordered(self, order: Order, *, plain: bool) -> list[sa.ColumnElement[Any]]:
        columns = [
            _named(order.field, self._names),
            _named("name", self._names),
            _named("domain", self._names),
        ]
        if not self.products_only:
            columns.append(_machine.c.id)
        columns += [_installed.c.prd, _installed.c.id]
        found: list[sa.ColumnElement[Any]] = list(dict.fromkeys(columns))
        if plain:
            found[0] = _left_alone(found[0])
        return [one.desc() if order.descending else one for one in found]

    def _column(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return _left_alone(column) if self._plain else column

    def _condition(self, term: Term) -> sa.ColumnElement[bool]:
        kind = FIELDS[term.field].kind
        if kind in (AGO, AHEAD):
            moment = self._now + (term.seconds if kind == AHEAD else -term.seconds)
            column = self._column(_named(term.field, self._names))
            return column > moment if (term.operator == "<") is (kind == AGO) else column < moment
        if term.field == "state":
            holds: sa.ColumnElement[bool] = self._column(_installed.c.state).in_(
                [int(one) for one in term.values]
            )
        elif term.field == "virtual":
            holds = _machine.c.virtual.in_([one == "yes" for one in term.values])
        else:
            holds = self._text(term)
        # The opposite holds where there is no value, too: nothing is known of a machine without products.
        return sa.not_(sa.func.coalesce(holds, sa.false())) if _is_negated(term) else holds

    def _text(self, term: Term) -> sa.ColumnElement[bool]:
        inside = "~" in term.operator

        def match(column: sa.ColumnElement[Any], *, lower: bool) -> sa.ColumnElement[bool]:
            return sa.or_(*(_matches(column, one, inside=inside, lower=lower) for one in term.values))

        if term.field == "group":
            member, grp = schema.member, schema.grp
            joined = member.join(grp, grp.c.id == member.c.grp)
            inner = sa.select(member.c.machine).select_from(joined).where(match(grp.c.name, lower=False))
            return self.machine.in_(inner)
        if term.field == "address":
            address = schema.address
            return self.machine.in_(sa.select(address.c.machine).where(match(address.c.address, lower=True)))
        if term.field == "source":
            more = "%" if inside else ""
            return sa.or_(
                *(
                    _machine.c.found_by.like(f"% {more}{_pattern(one)}{more} %", escape="\\")
                    for one in term.values
                )
            )
        holds = match(self._column(_named(term.field, self._names)), lower=term.field in _LOWER)
        is_untried = term.field == "outcome" and "none" in term.values
        return sa.or_(holds, _machine.c.code == "") if is_untried else holds


def _is_negated(term: Term) -> bool:
    return term.operator.startswith("!")


def _is_of_product(term: Term) -> bool:
    return term.field in _OF_PRODUCT


def _named(field: str, repeated: Mapping[str, sa.Column[Any]]) -> sa.ColumnElement[Any]:
    return (
        repeated[field]
        if field in repeated
        else _OF_MACHINE.get(field, _OF_PRODUCT.get(field, _machine.c.id))
    )


def _left_alone(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """The column, as SQLite does not look for an index of it."""
    return sa.UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def _pattern(value: str) -> str:
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")


def _matches(
    column: sa.ColumnElement[Any], value: str, *, inside: bool, lower: bool
) -> sa.ColumnElement[bool]:
    as_text = column if lower else sa.func.lower(column)
    if inside:
        return as_text.like(f"%{_pattern(value)}%", escape="\\")
    return as_text.like(_pattern(value), escape="\\") if "*" in value else as_text == value


# --- what is asked --------------------------------------------------------------------------------------------


def find(tx: Connection, terms: Sequence[Term], now: int, order: Order, limit: int, offset: int = 0) -> Page:
    """A page of the rows that a filter lets through; spans are counted from `now`."""
    total = count(tx, terms, now)
    if total <= offset:
        return Page(total, [])
    leave = "" if tx.dialect.name != "sqlite" or not terms else ORDER if total <= _FEW else FILTER
    query = _Query(terms, now, order, leave=leave)
    found = tx.execute(
        sa.select(query.machine.label("machine"), _installed.c.id)
        .select_from(query.rows)
        .where(*query.where)
        .order_by(*query.order)
        .limit(limit)
        .offset(offset)
    ).all()
    machines = _by_number(tx, _machine, {row[0] for row in found})
    products = _by_number(tx, _installed, {row[1] for row in found if row[1] is not None})
    return Page(total, [Found(number, machines[number], products.get(product)) for number, product in found])


def count(tx: Connection, terms: Sequence[Term], now: int) -> int:
    """How many rows a filter lets through."""
    negated = [term for term in terms if _is_of_product(term) and _is_negated(term)]
    if len(negated) == 1:
        # What is not so is what is left of all: both are counted without looking at every row.
        rest = [term for term in terms if term is not negated[0]]
        opposite = negated[0]._replace(operator=negated[0].operator.removeprefix("!"))
        return count(tx, rest, now) - count(tx, [*rest, opposite], now)
    query = _Query(terms, now, Order())
    if not query.products_only and not negated:
        rows = sa.case((_machine.c.products > 1, _machine.c.products), else_=1)
        statement = sa.select(sa.func.coalesce(sa.func.sum(rows), 0)).select_from(_machine)
    else:
        statement = sa.select(sa.func.count()).select_from(query.rows)
    return int(tx.execute(statement.where(*query.where)).scalar_one())


def targets(tx: Connection, terms: Sequence[Term], now: int) -> list[Target]:
    """Every machine and product that a filter lets through, in the order of their names."""
    query = _Query(terms, now, Order(), join=True)
    return [
        Target(row.id, row.mid, row.name, row.pub or "", row.prd or "")
        for row in tx.execute(
            sa.select(_machine.c.id, _machine.c.mid, _machine.c.name, _installed.c.pub, _installed.c.prd)
            .select_from(query.rows)
            .where(*query.where)
            .order_by(*query.order)
        )
    ]


def _by_number(tx: Connection, table: sa.Table, wanted: Iterable[int]) -> dict[int, dict[str, Any]]:
    found, numbers = {}, sorted(wanted)
    for at in range(0, len(numbers), _AT_ONCE):
        rows = tx.execute(sa.select(table).where(table.c.id.in_(numbers[at : at + _AT_ONCE]))).mappings()
        found.update({row["id"]: dict(row) for row in rows})
    return found
