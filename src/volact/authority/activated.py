"""The authority's SQL about activations as a whole: the publisher's list of them, blocks, and returns (M5, M6).

Decides nothing. `store` has what every request needs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.authority import schema, store
from volact.authority.activation import RETURNED, Former
from volact.statements import IsIn, Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from volact.authority.orders import Order

_activation, _returned = schema.activation, schema.returned


class Activated(NamedTuple):
    """An activation of a machine, or of a KMS host, as the publisher sees it.

    Attributes:
        act: its id.
        kind: ``machine`` or ``host``.
        id: whose it is, or was until it was returned.
        label: the key's.
        created: when it was made.
        granted: when it was granted last.
        times: how often it was granted to another identity or hardware, the first one included.
        blocked: ``""`` or ``all``.
        returned: when it was given back; None if it was not.
        frees: when its seat is free, if that is not yet so.
    """

    act: str
    kind: str
    id: str
    label: str
    created: int
    granted: int
    times: int
    blocked: str
    returned: int | None
    frees: int | None


def activations(tx: Connection, key: int | None, now: int) -> list[Activated]:
    """The activations of machines and hosts, of one key or of all, in the order in which they were made."""
    table, changed, hosts, key_table = _activation, schema.change, schema.host, schema.product_key
    many = sa.select(sa.func.count()).where(changed.c.act == table.c.act).scalar_subquery()
    of_machines = (
        sa.select(
            table.c.act, sa.literal("machine"), sa.func.coalesce(_returned.c.cmid, table.c.cmid), key_table.c.label,
            table.c.created, table.c.granted, many + 1,
            sa.case((table.c.blocked == RETURNED, ""), else_=table.c.blocked),
            _returned.c.at, sa.case((_returned.c.frees > now, _returned.c.frees)),
        )
        .join(key_table, key_table.c.id == table.c.key)
        .outerjoin(_returned, _returned.c.act == table.c.act)
    )  # fmt: skip
    of_hosts = sa.select(
        hosts.c.act, sa.literal("host"), hosts.c.host, key_table.c.label, hosts.c.created, hosts.c.granted,
        hosts.c.activations, hosts.c.blocked, sa.null(), sa.null(),
    ).join(key_table, key_table.c.id == hosts.c.key)  # fmt: skip
    if key is not None:
        of_machines, of_hosts = of_machines.where(table.c.key == key), of_hosts.where(hosts.c.key == key)
    rows = [Activated(*row) for query in (of_machines, of_hosts) for row in tx.execute(query)]
    return sorted(rows, key=lambda row: (row.created, row.act))


def find(tx: Connection, act: str) -> tuple[int, str] | None:
    """The number of the key of an activation of a machine or of a host, and how it is blocked, or ``returned``."""
    for table in (_activation, schema.host):
        row = tx.execute(sa.select(table.c.key, table.c.blocked).where(table.c.act == act)).first()
        if row is not None:
            return row.key, row.blocked
    return None


def block(tx: Connection, act: str, now: int) -> bool:
    """Block an activation of a machine or of a host; False if there is none with this id that stands."""
    for table in (_activation, schema.host):
        done = tx.execute(
            sa.update(table)
            .where(table.c.act == act, table.c.blocked == "")
            .values(blocked="all", blocked_since=now)
        )
        if done.rowcount:
            return True
    return False


# --- returns ----------------------------------------------------------------------------------------------------


_DUE = Statement(
    sa.select(_returned.c.key, sa.func.count())
    .where(IsIn(_returned.c.key, "keys"), _returned.c.frees <= sa.bindparam("now"))
    .group_by(_returned.c.key)
)


def due(tx: Connection, keys: Iterable[int], now: int) -> dict[int, int]:
    """Of each key that has any: how many seats of returns by file are free by now and still counted."""
    return dict(_DUE.read(tx, keys=sorted(set(keys)), now=now))


def present_order(tx: Connection, key: int, now: int, *, only_read: bool) -> Order:
    """A key's record, locked unless it is `only_read`, without the seats that are free by now."""
    order = store.lock_keys(tx, [key], only_read=only_read)[key].order
    return order._replace(used=order.used - due(tx, [key], now).get(key, 0))


def free(tx: Connection, key: int, now: int) -> None:
    """Note that those seats of a key that are free by now are counted no more; the caller holds the key."""
    table = _returned
    tx.execute(sa.update(table).where(table.c.key == key, table.c.frees <= now).values(frees=None))


def newest_confirmations(tx: Connection, act: str) -> list[str]:
    """The id of an activation's newest confirmation; of all that were signed in its second."""
    table = schema.answer
    query = sa.select(table.c.payload).where(table.c.act == act, table.c.name == "confirmation")
    claims: list[dict[str, Any]] = [json.loads(payload) for payload in tx.scalars(query)]
    last = max((one["iat"] for one in claims), default=0)
    return [one["jti"] for one in claims if one["iat"] == last]


_EARLIER = sa.select(_returned.c.cmid, _activation.c.fp, _returned.c.at).join(
    _activation, _activation.c.act == _returned.c.act
)


def earlier_returns(tx: Connection, key: int, cmid: str, fp: Mapping[str, str], since: int) -> list[Former]:
    """A key's returns after `since` by a CMID, or whose hardware shares a search token with a vector."""
    tokens = dict(zip(store.FIND.values(), store.searchable(fp), strict=True))
    queries = [_EARLIER.where(_returned.c.cmid == cmid)]
    queries += [
        _EARLIER.where(_activation.c[column] == token)
        for column, token in tokens.items()
        if token is not None
    ]
    found: set[tuple[str, str, int]] = set()
    for query in queries:
        rows = tx.execute(query.where(_returned.c.key == key, _returned.c.at > since))
        found.update((row.cmid, row.fp, row.at) for row in rows)
    return [Former(one, json.loads(seen), at) for one, seen, at in sorted(found)]


def nth_newest_return(tx: Connection, key: int, number: int) -> int | None:
    """When the key's `number`-th newest return was made, counted from 1; None if there are fewer."""
    at = _returned.c.at
    query = sa.select(at).where(_returned.c.key == key).order_by(at.desc()).limit(1).offset(number - 1)
    return tx.scalar(query)


class NewReturn(NamedTuple):
    """A return as it is written: the activation, its key, whose it was, when, and when its seat is free (null: now)."""

    act: str
    key: int
    cmid: str
    at: int
    frees: int | None


def add_returns(tx: Connection, rows: Sequence[NewReturn]) -> None:
    """Write returns; the rows' CMIDs have been released before."""
    if rows:
        tx.execute(sa.insert(_returned), [row._asdict() for row in rows])
        tx.execute(
            sa.update(_activation)
            .where(_activation.c.act.in_([row.act for row in rows]))
            .values(blocked=RETURNED, blocked_since=rows[0].at)
        )
