"""How the servers' tables are written: names of constraints, and columns that mean the same on both databases.

Texts and integers are never null unless they say so; times are integer seconds UTC. Each role's `schema` has its
tables; its `migrations` make them.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

# SQLite numbers rows by INTEGER PRIMARY KEY only; PostgreSQL's integer would end at 2^31.
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""The type of a row's number, and of what refers to it."""


def metadata() -> sa.MetaData:
    """What a role's tables belong to; constraints get names that a later migration can use."""
    return sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


def number(name: str = "id") -> sa.Column[int]:
    """A row's number, given by the database."""
    return sa.Column(name, NUMBER, primary_key=True)


def text(name: str, **options: Any) -> sa.Column[str]:  # noqa: ANN401 - what a Column takes
    """A text."""
    return sa.Column(name, sa.Text, **{"nullable": False, **options})


def integer(name: str, **options: Any) -> sa.Column[int]:  # noqa: ANN401 - what a Column takes
    """An integer up to 2^63-1; a time in seconds UTC."""
    return sa.Column(name, sa.BigInteger, **{"nullable": False, **options})


def boolean(name: str) -> sa.Column[bool]:
    """A yes or no."""
    return sa.Column(name, sa.Boolean, nullable=False)


def refers_to(name: str, target: str, **options: Any) -> sa.Column[int]:  # noqa: ANN401 - what a Column takes
    """A row's number in another table."""
    return sa.Column(name, NUMBER, sa.ForeignKey(target), **{"nullable": False, **options})
