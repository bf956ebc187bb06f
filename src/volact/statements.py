"""SQL statements that are compiled once a database and run for a whole batch at once (DESIGN section 4).

For the few statements that run with every batch; everything else is plain SQLAlchemy Core.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection


class IsIn(sa.ColumnElement[bool]):
    """`column IN (the list bound to a name)`, the same text for every length of the list."""

    inherit_cache = False
    type = sa.Boolean()
    # Else SQLite gets "... = 1" behind it, which no index serves.
    _is_implicitly_boolean = True

    def __init__(self, column: sa.ColumnElement[Any], name: str) -> None:
        self.column = column
        self.bound: sa.BindParameter[Any] = sa.bindparam(name, type_=sa.ARRAY(column.type))


@compiles(IsIn, "sqlite")
def _is_in_sqlite(element: IsIn, compiler: Any, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's own
    bound = compiler.process(element.bound, **options)
    return f"{compiler.process(element.column, **options)} IN (SELECT value FROM json_each({bound}))"  # noqa: S608 - names of ours


@compiles(IsIn, "postgresql")
def _is_in_postgresql(element: IsIn, compiler: Any, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's own
    bound = compiler.process(element.bound, **options)
    return f"{compiler.process(element.column, **options)} = ANY({bound})"


class Statement:
    """A statement that is compiled once a database and handed to the driver as it is.

    SQLAlchemy's own way builds every list into the text and looks at every value of every row: on SQLite a third
    of what an activation may cost.
    """

    def __init__(self, statement: sa.Executable, names: tuple[str, ...] = ()) -> None:
        """Compile `statement`; `names` are the columns of an INSERT or the parameters of an UPDATE."""
        self._statement = statement
        self._names = names
        self._compiled: dict[str, tuple[str, list[str] | None]] = {}

    def _text(self, tx: Connection) -> tuple[str, list[str] | None]:
        """The statement's text, and the order of its parameters where the driver takes them by place."""
        made = self._compiled.get(tx.dialect.name)
        if made is None:
            statement: Any = self._statement
            keys = {"column_keys": list(self._names)} if self._names else {}
            compiled = statement.compile(dialect=tx.dialect, **keys)
            made = self._compiled[tx.dialect.name] = str(compiled), compiled.positiontup
        return made

    def read(self, tx: Connection, **parameters: Any) -> Sequence[Any]:  # noqa: ANN401 - values of columns
        """The rows of a SELECT."""
        text, order = self._text(tx)
        if order is None:
            return tx.exec_driver_sql(text, parameters).all()
        given = {
            name: json.dumps(value) if isinstance(value, list) else value
            for name, value in parameters.items()
        }
        return tx.exec_driver_sql(text, tuple([given[name] for name in order])).all()

    def write(self, tx: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Execute once a row, whose values stand in the order of the names."""
        text, order = self._text(tx)
        values: list[Any]
        if order is None:
            values = [dict(zip(self._names, row, strict=True)) for row in rows]
        else:
            places = [self._names.index(name) for name in order]
            values = [tuple([row[place] for place in places]) for row in rows]
        tx.exec_driver_sql(text, values)
