"""The SQL of how many machines there are, and what is on them, for advice (V8). Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from volact.vamt import keyrecords, schema

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

_SERVER = "%server%"
_machine, _installed = schema.machine, schema.installed


class Census(NamedTuple):
    """How many machines are counted, how many of them are servers, and how many there are that are activated for good."""

    machines: int
    servers: int
    activated: int


def take(
    tx: Connection,
    group: int | None,
    servers: Collection[tuple[str, str]],
    counted: Collection[tuple[str, str]] | None = None,
    product: tuple[str, str] | None = None,
) -> Census:
    """The machines of a group, or all.

    Products are each a publisher and an id. A machine is a server if one of `servers` is on it, or if its system's name
    says so. Those count that have one of the products `counted`, and of activations those of `product`; or all.
    """
    within: list[sa.ColumnElement[bool]] = [] if group is None else [_machine.c.id.in_(_members(group))]
    if counted is not None:
        within.append(_has(counted))
    machines = sa.select(sa.func.count()).select_from(_machine).where(*within)
    is_server = sa.func.lower(_machine.c.system).like(_SERVER) | _has(servers)
    done = sa.select(sa.func.count(_installed.c.machine.distinct())).where(keyrecords.permanent(_installed))
    if group is not None:
        done = done.where(_installed.c.machine.in_(_members(group)))
    if product is not None:
        done = done.where(_is_one_of([product]))
    counts = (machines, machines.where(is_server), done)
    return Census(*(int(tx.execute(one).scalar_one()) for one in counts))


def _members(group: int) -> sa.Select[tuple[int]]:
    return sa.select(schema.member.c.machine).where(schema.member.c.grp == group)


def _has(products: Collection[tuple[str, str]]) -> sa.ColumnElement[bool]:
    return _machine.c.id.in_(sa.select(_installed.c.machine).where(_is_one_of(products)))


def _is_one_of(products: Collection[tuple[str, str]]) -> sa.ColumnElement[bool]:
    return sa.or_(
        sa.false(), *((_installed.c.pub == pub) & (_installed.c.prd == prd) for pub, prd in products)
    )
