"""Filters, orders and selections as SQL over machines and their products (V3). Decides nothing.

A row is one machine and product; a machine without products is one row. A page of 300,000 rows is to be had within 100 ms:

- What is asked of products alone is answered by `installed` alone, which repeats the machines' names.
- If there are few rows, all are found and then sorted, by SQLite in one statement that counts them, too. If there are many,
  they are counted, and then read in their order until the page is full.
- An order of machines alone, whose rows no product leaves out, is that of machines; their products are looked up then.
- SQLite knows nothing of how often a value stands in a column. It is told where to begin (`_Hint`), by a ``+`` before the
  columns whose index it should leave alone. One index has all columns that are asked after, and so is read instead of
  the table. PostgreSQL knows that itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.operators import custom_op

from volact.vamt import schema
from volact.vamt.filters import AGO, AHEAD, FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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
_SAME = (_machine.c.id, _installed.c.machine)
_LOWER = frozenset(("name", "domain", "address", "product", "key", "proof", "outcome", "platform"))
"""Fields that are in lower case already, so that an index serves."""
SORTS = tuple(name for name in (*_OF_MACHINE, *_OF_PRODUCT) if name not in ("id", "source", "proof"))
"""What rows can be ordered by."""
_AT_ONCE = 500
_FEW = 2_000
"""Rows that are sorted faster than an index is walked for them."""
_SOME = 20_000
"""Products that are looked up by an index faster than all are read."""
_BY_INDEX = ("name", "product", "state", "key", "expires")
"""Fields for which products have an index."""
_INDICES = tuple(tuple(column.name for column in index.columns) for index in _installed.indexes)


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


class Order(NamedTuple):
    """By which field rows stand in order; those that are equal in it by name, domain and product."""

    field: str = "name"
    descending: bool = False


# --- one query ------------------------------------------------------------------------------------------------


class _Hint(NamedTuple):
    """What SQLite is told.

    Attributes:
        scan: that it looks for no index of the products' columns that the filter asks after,
        but: except this field's.
        walk: nor of the machines that are asked for, but reads all in their order.
        first: the table of a join that is read first.
    """

    scan: bool = False
    but: str = ""
    walk: bool = False
    first: sa.Table | None = None


_NO_HINT = _Hint()


class _Query:
    """What a filter asks, of `installed` alone if it can be answered there."""

    def __init__(
        self,
        terms: Sequence[Term],
        now: int,
        order: Order,
        *,
        join: bool = False,
        products_only: bool | None = None,
        hint: _Hint = _NO_HINT,
    ) -> None:
        """Ask for `terms`, the machine joined in any case if `join`; machines without products are left out if so said."""
        self._now, self._hint = now, hint
        asked = {*(term.field for term in terms), order.field}
        self.products_only = _needs_product(terms) if products_only is None else products_only
        self._names = _REPEATED if self.products_only else {}
        machine = _installed.c.machine if self.products_only else _machine.c.id
        self.machine = _left_alone(machine) if hint.walk else machine
        first = [_left_alone(one) if one.table is hint.first else one for one in _SAME]
        same = first[0] == first[1]
        if not self.products_only:
            self.rows: sa.FromClause = _machine.outerjoin(_installed, _SAME[0] == _SAME[1])
        elif join or order.field == "address" or asked & _OF_MACHINE.keys() - {*_REPEATED, "address"}:
            self.rows = _installed.join(_machine, same)
        else:
            self.rows = _installed
        self.where = [self._condition(term) for term in terms]
        self.order = self._ordered(order)

    def _ordered(self, order: Order) -> list[sa.ColumnElement[Any]]:
        columns = [
            _named(order.field, self._names),
            _named("name", self._names),
            _named("domain", self._names),
        ]
        if not self.products_only:
            columns.append(_machine.c.id)
        columns += [_installed.c.prd, _installed.c.id]
        return list(dict.fromkeys(columns))

    def _column(self, field: str) -> sa.ColumnElement[Any]:
        column: sa.ColumnElement[Any] = _named(field, self._names)
        return _left_alone(column) if self._hint.scan and field != self._hint.but else column

    def _condition(self, term: Term) -> sa.ColumnElement[bool]:
        kind = FIELDS[term.field].kind
        if kind in (AGO, AHEAD):
            moment = self._now + (term.seconds if kind == AHEAD else -term.seconds)
            column = self._column(term.field)
            return column > moment if (term.operator == "<") is (kind == AGO) else column < moment
        if term.field == "state":
            holds: sa.ColumnElement[bool] = self._column(term.field).in_([int(one) for one in term.values])
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
            inner = sa.select(member.c.machine).select_from(joined).where(match(grp.c.small, lower=True))
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
        holds = match(self._column(term.field), lower=term.field in _LOWER)
        is_untried = term.field == "outcome" and "none" in term.values
        return sa.or_(holds, _machine.c.code == "") if is_untried else holds


def _is_negated(term: Term) -> bool:
    return term.operator.startswith("!")


def _is_exact(term: Term) -> bool:
    return term.operator in ("=", "<", ">") and not any("*" in value for value in term.values)


def _is_of_product(term: Term) -> bool:
    return term.field in _OF_PRODUCT


def _needs_product(terms: Iterable[Term]) -> bool:
    """Whether a machine without products is left out."""
    return any(_is_of_product(term) and not _is_negated(term) for term in terms)


def _named(field: str, repeated: Mapping[str, sa.Column[Any]]) -> sa.Column[Any]:
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
    as_text = column if lower else _Lower(column)
    if inside:
        return as_text.like(f"%{_pattern(value)}%", escape="\\")
    return as_text.like(_pattern(value), escape="\\") if "*" in value else as_text == value


class _Lower(sa.sql.functions.GenericFunction[str]):
    """A text that is compared without regard to case. SQLite's collation does that in a fraction of `lower`'s time."""

    type = sa.Text()
    inherit_cache = True


@compiles(_Lower)
def _lower(element: _Lower, compiler: Any, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's own
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(_Lower, "sqlite")
def _collated(element: _Lower, compiler: Any, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's own
    return f"{compiler.process(element.clauses, **options)} COLLATE NOCASE"


# --- what SQLite is told --------------------------------------------------------------------------------------


def _hint(tx: Connection, terms: Sequence[Term], now: int) -> _Hint:
    """Where SQLite begins to look for what a filter lets through.

    With the products, by an index, if it has all that is asked after or finds few. Else with the machines, if anything
    is asked of them, or all products are read.
    """
    if tx.dialect.name != "sqlite" or not _needs_product(terms):
        return _NO_HINT
    asked = {_named(term.field, _REPEATED).name for term in terms}
    equal = {_named(term.field, _REPEATED).name for term in terms if term.operator == "="}
    if any(index[0] in equal and asked <= set(index) for index in _INDICES):
        return _NO_HINT
    for term in terms:
        if term.field in _BY_INDEX and _is_exact(term):
            query = _Query([term], now, Order())
            some = sa.select(_installed.c.id).where(*query.where).limit(_SOME).subquery()
            if tx.execute(sa.select(sa.func.count()).select_from(some)).scalar_one() < _SOME:
                return _Hint(scan=True, but=term.field, first=_installed)
    return _Hint(scan=True, first=_machine)


# --- what is asked --------------------------------------------------------------------------------------------


def find(tx: Connection, terms: Sequence[Term], now: int, order: Order, limit: int, offset: int = 0) -> Page:
    """A page of the rows that a filter lets through; spans are counted from `now`."""
    page = _Part(order, limit, offset)
    hint = _hint(tx, terms, now)
    few, is_sqlite = None, tx.dialect.name == "sqlite"
    if terms and is_sqlite:
        few = _few(tx, _Query(terms, now, order, hint=hint), page)
    total = few[0] if few else count(tx, terms, now, hint=hint)
    if (
        terms and not is_sqlite and total <= _FEW
    ):  # PostgreSQL counts with all cores, but finds a part with one
        few = _few(tx, _Query(terms, now, order), page)
    found = few[1] if few else _of_many(tx, terms, now, page, total) if total > offset else []
    machines = _by_number(tx, _machine, {row[0] for row in found})
    products = _by_number(tx, _installed, {row[1] for row in found if row[1] is not None})
    return Page(total, [Found(number, machines[number], products.get(product)) for number, product in found])


class _Part(NamedTuple):
    """Which of the rows are shown, in which order."""

    order: Order
    limit: int
    offset: int

    def of(self, statement: sa.Select[Any], by: Sequence[sa.ColumnElement[Any]]) -> sa.Select[Any]:
        """The statement for these rows."""
        ordered = statement.order_by(*(one.desc() if self.order.descending else one for one in by))
        return ordered.limit(self.limit).offset(self.offset)


def _few(tx: Connection, query: _Query, page: _Part) -> tuple[int, Sequence[Any]] | None:
    """How many rows there are and those that are shown, or None if there are many."""
    columns = [query.machine.label("machine"), _installed.c.id.label("installed")]
    columns += [one.label(f"by{number}") for number, one in enumerate(query.order)]
    inner = sa.select(*columns).select_from(query.rows).where(*query.where).limit(_FEW + 1)
    found = inner.cte("found").prefix_with("MATERIALIZED")
    total = sa.select(sa.func.count()).select_from(found).scalar_subquery()
    by = [found.c[f"by{number}"] for number in range(len(query.order))]
    rows = tx.execute(page.of(sa.select(found.c.machine, found.c.installed, total.label("total")), by)).all()
    if not rows:
        return None if page.offset or not page.limit else (0, [])
    return None if rows[0].total > _FEW else (rows[0].total, [row[:2] for row in rows])


def _of_many(tx: Connection, terms: Sequence[Term], now: int, page: _Part, total: int) -> Sequence[Any]:
    """A page of many rows."""
    by = _OF_PRODUCT.get(page.order.field)
    if by is not None and not by.nullable and not _needs_product(terms):
        return _with_and_without(tx, terms, now, page, total)
    if page.order.field in _OF_MACHINE and not any(map(_is_of_product, terms)):
        return _of_machines(tx, terms, now, page)
    return _walked(tx, terms, now, page)


def _walked(
    tx: Connection, terms: Sequence[Term], now: int, page: _Part, *, products_only: bool | None = None
) -> Sequence[Any]:
    """Rows that are read in their order, if an index has it; else all of them are, and then sorted."""
    hint = _NO_HINT
    if tx.dialect.name == "sqlite" and terms:
        is_of_machines = page.order.field in _OF_MACHINE.keys() - _REPEATED.keys()
        hint = _Hint(scan=True, walk=True, first=_machine if is_of_machines else _installed)
    query = _Query(terms, now, page.order, products_only=products_only, hint=hint)
    rows = sa.select(query.machine, _installed.c.id).select_from(query.rows)
    return tx.execute(page.of(rows.where(*query.where), query.order)).all()


def _of_machines(tx: Connection, terms: Sequence[Term], now: int, page: _Part) -> Sequence[Any]:
    """Rows of which only machines are asked, in an order of machines: so many machines have at least as many rows."""
    query = _Query(terms, now, page.order)
    by = query.order[:-2]
    most = page._replace(limit=page.limit + page.offset, offset=0)
    first = most.of(sa.select(*by).where(*query.where), by).subquery()
    rows = first.outerjoin(_installed, first.c.id == _installed.c.machine)
    ordered = [*(first.c[one.name] for one in by), _installed.c.prd, _installed.c.id]
    return tx.execute(page.of(sa.select(first.c.id, _installed.c.id).select_from(rows), ordered)).all()


def _with_and_without(
    tx: Connection, terms: Sequence[Term], now: int, page: _Part, total: int
) -> Sequence[Any]:
    """Rows in an order of products that each have: machines without any stand where the database has its nulls."""
    query = _Query([term for term in terms if not _is_of_product(term)], now, Order())
    is_bare = (_machine.c.products == 0, *query.where)
    bare = tx.execute(sa.select(sa.func.count()).select_from(_machine).where(*is_bare)).scalar_one()

    def without(part: _Part) -> Sequence[Any]:
        return tx.execute(
            part.of(sa.select(_machine.c.id, sa.null()).where(*is_bare), query.order[:-2])
        ).all()

    def products(part: _Part) -> Sequence[Any]:
        return _walked(tx, terms, now, part, products_only=True)

    if page.order.descending is (tx.dialect.name == "sqlite"):
        return _one_after_the_other(page, products, total - bare, without)
    return _one_after_the_other(page, without, bare, products)


def _one_after_the_other(
    page: _Part, first: Callable[[_Part], Sequence[Any]], size: int, second: Callable[[_Part], Sequence[Any]]
) -> Sequence[Any]:
    """A page of two lists, of which the first has `size` rows."""
    rows = [*first(page)] if page.offset < size else []
    left = page.limit - len(rows)
    if not left:
        return rows
    return [*rows, *second(page._replace(limit=left, offset=max(0, page.offset - size)))]


def count(tx: Connection, terms: Sequence[Term], now: int, *, hint: _Hint | None = None) -> int:
    """How many rows a filter lets through."""
    negated = [term for term in terms if _is_of_product(term) and _is_negated(term)]
    if len(negated) == 1:
        # What is not so is what is left of all: both are counted without looking at every row.
        rest = [term for term in terms if term is not negated[0]]
        opposite = negated[0]._replace(operator=negated[0].operator.removeprefix("!"))
        return count(tx, rest, now) - count(tx, [*rest, opposite], now)
    query = _Query(terms, now, Order(), hint=_hint(tx, terms, now) if hint is None else hint)
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
