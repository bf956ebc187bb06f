"""The authority's SQL for what machines and hosts ask: keys, activations, hosts, answers. Decides nothing.

Every function takes the transaction that it works in. Reads are for a whole batch at once: their number does
not grow with the batch. `records` has the SQL of the publisher's own work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import sqlalchemy as sa

from volact import stores
from volact.authority import schema
from volact.authority.activation import MOVED, Row
from volact.authority.orders import HostRow, Order
from volact.protocol import machine
from volact.statements import IsIn, Statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Engine

_SCRIPTS = Path(__file__).parent / "migrations"
FIND = {"u": "find_uuid", "b": "find_board", "d": "find_disk", "n": "find_net"}
"""Column of a search token by its first letter."""


class Store(stores.Store):
    """The authority's database."""

    def __init__(self, engine: Engine) -> None:
        """Keep everything in the database of `engine`."""
        super().__init__(engine, _SCRIPTS, schema.REVISION)


class KnownKey(NamedTuple):
    """What never changes of a key, so that it may be remembered."""

    id: int
    thumbprint: str
    kind: str
    label: str
    x: str
    y: str
    products: tuple[str, ...]


class LockedKey(NamedTuple):
    """A key as a transaction holds it, and the version of its product's document."""

    order: Order
    product_ver: int


class StoredAnswer(NamedTuple):
    """A recorded answer: what is needed to decide on it and to sign it again."""

    req: str
    digest: str
    name: str
    act: str
    payload: bytes
    kid: str
    delegation: str
    blocked: str = ""


_key, _product = schema.product_key, schema.product

_KEY_BY_THUMBPRINT = sa.select(
    _key.c.id, _key.c.thumbprint, _key.c.kind, _key.c.label, _key.c.x, _key.c.y
).where(_key.c.thumbprint == sa.bindparam("thumbprint"))
_PRODUCTS_OF_KEY = (
    sa.select(_product.c.prd)
    .join(schema.key_product, schema.key_product.c.product == _product.c.id)
    .where(schema.key_product.c.key == sa.bindparam("key"))
    .order_by(_product.c.prd)
)


def find_key(tx: Connection, thumbprint: str) -> KnownKey | None:
    """The key whose public half has this thumbprint."""
    row = tx.execute(_KEY_BY_THUMBPRINT, {"thumbprint": thumbprint}).first()
    if row is None:
        return None
    products = tuple(tx.scalars(_PRODUCTS_OF_KEY, {"key": row.id}))
    return KnownKey(*row, products)


_READ_KEYS = (
    sa.select(
        _key.c.id,
        _key.c.thumbprint,
        _key.c.kind,
        _key.c.label,
        _key.c.product,
        schema.customer.c.cus,
        _key.c.bought,
        _key.c.used,
        _key.c.blocked,
        _key.c.machines_bound,
        _key.c.networks_bound,
        _key.c.host_machines,
        _product.c.ver,
    )
    .join(_product, _product.c.id == _key.c.product)
    .join(schema.customer, schema.customer.c.id == _key.c.customer)
    .where(IsIn(_key.c.id, "keys"))
    .order_by(_key.c.id)
)
# In the order of their numbers, so that two processes never wait for each other crosswise.
_LOCK_NOTHING = Statement(_READ_KEYS)
_LOCK_KEYS_FOR_UPDATE = Statement(_READ_KEYS.with_for_update(of=_key))
_NETWORKS = Statement(
    sa.select(schema.key_network.c.key, schema.key_network.c.network).where(
        IsIn(schema.key_network.c.key, "keys")
    )
)


def _order(row: Any, networks: tuple[str, ...]) -> Order:  # noqa: ANN401 - a row of _READ_KEYS
    order = Order(*row[:10])
    return order._replace(networks=networks, cmax=row.host_machines)


def lock_keys(tx: Connection, keys: Iterable[int], *, only_read: bool = False) -> dict[int, LockedKey]:
    """The keys' records, which nobody else changes until this transaction ends (unless it is `only_read`)."""
    wanted = sorted(set(keys))
    found: Any = (_LOCK_NOTHING if only_read else _LOCK_KEYS_FOR_UPDATE).read(tx, keys=wanted)
    bound = [row.id for row in found if row.networks_bound]
    networks: dict[int, list[str]] = {}
    for key, network in _NETWORKS.read(tx, keys=bound) if bound else ():
        networks.setdefault(key, []).append(network)
    return {row.id: LockedKey(_order(row, tuple(networks.get(row.id, ()))), row.ver) for row in found}


_LISTED = Statement(
    sa.select(schema.key_machine.c.key, schema.key_machine.c.cmid).where(
        IsIn(schema.key_machine.c.key, "keys"),
        IsIn(schema.key_machine.c.cmid, "cmids"),
    )
)


def listed_machines(tx: Connection, keys: Iterable[int], cmids: Iterable[str]) -> set[tuple[int, str]]:
    """Which (key, CMID) are on the keys' lists of machines."""
    wanted = sorted(set(keys))
    if not wanted:
        return set()
    return {(key, cmid) for key, cmid in _LISTED.read(tx, keys=wanted, cmids=list(cmids))}


_answer, _activation, _host = schema.answer, schema.activation, schema.host
_ANSWERS = Statement(
    sa.select(
        _answer.c.req,
        _answer.c.digest,
        _answer.c.name,
        _answer.c.act,
        _answer.c.payload,
        _answer.c.kid,
        _answer.c.delegation,
        sa.func.coalesce(_activation.c.blocked, _host.c.blocked, sa.literal_column("''")),
    )
    .outerjoin(_activation, _activation.c.act == _answer.c.act)
    .outerjoin(_host, _host.c.act == _answer.c.act)
    .where(IsIn(_answer.c.act, "acts"), IsIn(_answer.c.req, "reqs"))
)


def answers(tx: Connection, acts: Iterable[str], reqs: Iterable[str]) -> dict[tuple[str, str], StoredAnswer]:
    """The recorded answers by (activation or host, request id), and how these are blocked now."""
    found = _ANSWERS.read(tx, acts=sorted(set(acts)), reqs=list(reqs))
    return {(row.act, row.req): StoredAnswer(*row) for row in found}


_FORMER = Statement(
    sa.union_all(
        sa.select(_activation.c.key, schema.change.c.cmid_before, schema.change.c.act, sa.false())
        .join(_activation, _activation.c.act == schema.change.c.act)
        .where(IsIn(schema.change.c.cmid_before, "cmids")),
        sa.select(schema.returned.c.key, schema.returned.c.cmid, schema.returned.c.act, sa.true()).where(
            IsIn(schema.returned.c.cmid, "cmids")
        ),
    )
)
_HOSTS = Statement(sa.select(_host.c.key, _host.c.host, _host.c.act).where(IsIn(_host.c.host, "hosts")))


def former_activations(tx: Connection, cmids: Iterable[str]) -> list[tuple[int, str, str, bool]]:
    """(key, CMID, activation, whether it was returned) of those activations that these CMIDs once had."""
    found = _FORMER.read(tx, cmids=sorted(set(cmids)))
    return [(key, cmid, act, bool(returned)) for key, cmid, act, returned in found]


def hosts(tx: Connection, ids: Iterable[str]) -> list[tuple[int, str, str]]:
    """(key, host id, activation) of these hosts."""
    return [tuple(row) for row in _HOSTS.read(tx, hosts=sorted(set(ids)))]


_ROW = (
    _activation.c.act,
    _activation.c.key,
    _activation.c.cmid,
    _activation.c.fp,
    _activation.c.granted,
    _activation.c.blocked,
)
_BY_CMID = Statement(
    sa.select(*_ROW).where(
        IsIn(_activation.c.key, "keys"),
        IsIn(_activation.c.cmid, "cmids"),
    )
)
_BY_TOKEN = {
    letter: sa.select(*_ROW).where(IsIn(_activation.c[column], f"tokens_{letter}"))
    for letter, column in FIND.items()
}
# One statement for all kinds of tokens: its cost is a batch's, not an ask's.
_SIMILAR_TO_ANY = Statement(sa.union_all(*_BY_TOKEN.values()))
_SIMILAR_WITH_UUID = Statement(
    sa.union_all(
        _BY_TOKEN["u"], *[_BY_TOKEN[letter].where(_activation.c.find_uuid.is_(None)) for letter in "bdn"]
    )
)
_CHANGES = Statement(
    sa.select(schema.change.c.act, schema.change.c.at, schema.change.c.how)
    .where(
        IsIn(schema.change.c.act, "acts"),
        schema.change.c.at >= sa.bindparam("since"),
    )
    .order_by(schema.change.c.at)
)


def activations_of(
    tx: Connection, keys: Iterable[int], cmids: Iterable[str], since: int
) -> dict[tuple[int, str], Row]:
    """The rows of these CMIDs under these keys, with their changes after `since`."""
    found = _BY_CMID.read(tx, keys=sorted(set(keys)), cmids=list(cmids))
    return {(row.key, row.cmid): made for row, made in _rows(tx, found, since)}


def similar_activations(
    tx: Connection, fingerprints: Iterable[Mapping[str, str]], since: int
) -> list[tuple[int, Row]]:
    """All (key, row) that share a search token with one of the fingerprints; of any key, the caller chooses.

    Whoever has a UUID can only be a row with the same UUID or one without any (protocol.machine).
    """
    with_uuid, without = _no_tokens(), _no_tokens()
    for fp in fingerprints:
        tokens = with_uuid if "uuid" in fp else without
        for token in machine.search_tokens(fp):
            tokens[f"tokens_{token[0]}"].append(token)
    found: dict[str, Any] = {}
    for select, tokens in ((_SIMILAR_WITH_UUID, with_uuid), (_SIMILAR_TO_ANY, without)):
        if any(tokens.values()):
            found.update((row.act, row) for row in select.read(tx, **tokens))
    return [(row.key, made) for row, made in _rows(tx, list(found.values()), since)]


def _no_tokens() -> dict[str, list[str]]:
    return {f"tokens_{letter}": [] for letter in FIND}


def _rows(tx: Connection, found: Sequence[Any], since: int) -> Iterator[tuple[Any, Row]]:
    moves: dict[str, list[int]] = {}
    takeovers: dict[str, list[int]] = {}
    if found:
        for act, at, how in _CHANGES.read(tx, acts=[row.act for row in found], since=since):
            (moves if how == MOVED else takeovers).setdefault(act, []).append(at)
    for row in found:
        yield (
            row,
            Row(
                row.act,
                row.cmid,
                json.loads(row.fp),
                row.granted,
                tuple(moves.get(row.act, ())),
                tuple(takeovers.get(row.act, ())),
                row.blocked,
            ),
        )


def searchable(fp: Mapping[str, str]) -> list[str | None]:
    """A vector's values of the find_* columns, in the order of `FIND`."""
    tokens = {token[0]: token for token in machine.search_tokens(fp)}
    return [tokens.get(letter) for letter in FIND]


_ACTIVATION_COLUMNS = (
    "act", "key", "cmid", "fp", "created", "granted", "blocked", "blocked_since", *FIND.values()
)  # fmt: skip
_INSERT_ACTIVATION = Statement(sa.insert(_activation), _ACTIVATION_COLUMNS)
_CHANGED_COLUMNS = ("cmid", "fp", "granted", *FIND.values())
_UPDATE_ACTIVATION = Statement(
    sa.update(_activation)
    .where(_activation.c.act == sa.bindparam("of"))
    .values({column: sa.bindparam(column) for column in _CHANGED_COLUMNS}),
    ("of", *_CHANGED_COLUMNS),
)
_INSERT_CHANGE = Statement(sa.insert(schema.change), ("act", "at", "how", "cmid_before"))
_ANSWER_COLUMNS = ("req", "digest", "name", "act", "payload", "kid", "delegation", "key")
_INSERT_ANSWER = Statement(sa.insert(_answer), _ANSWER_COLUMNS)
_COUNT = (
    sa.update(_key)
    .where(
        _key.c.id == sa.bindparam("key"),
        _key.c.used + sa.bindparam("more") <= _key.c.bought,
        _key.c.used + sa.bindparam("more") >= 0,
    )
    .values(used=_key.c.used + sa.bindparam("more"))
)


def add_activations(tx: Connection, rows: Sequence[tuple[int, Row]]) -> None:
    """Write new rows, each (key, row)."""
    if rows:
        _INSERT_ACTIVATION.write(
            tx,
            [
                (
                    row.act,
                    key,
                    row.cmid,
                    fp_text(row.fp),
                    row.granted,
                    row.granted,
                    "",
                    0,
                    *searchable(row.fp),
                )
                for key, row in rows
            ],
        )


def update_activations(tx: Connection, rows: Sequence[Row]) -> None:
    """Write the present CMID, vector and grant of known rows."""
    if rows:
        _UPDATE_ACTIVATION.write(
            tx, [(row.act, row.cmid, fp_text(row.fp), row.granted, *searchable(row.fp)) for row in rows]
        )


def release_cmids(tx: Connection, acts: Sequence[str]) -> None:
    """Put a placeholder that no machine has in the place of these rows' CMIDs, until they are updated."""
    if acts:
        tx.execute(
            sa.update(_activation).where(_activation.c.act.in_(acts)).values(cmid=nobody(_activation.c.act))
        )


_Act = TypeVar("_Act", str, sa.ColumnElement[str])


def nobody(act: _Act) -> _Act:
    """The placeholder that no machine has, in the place of an activation's CMID."""
    return "-" + act


def fp_text(fp: Mapping[str, str]) -> str:
    """A vector as JSON, as rows have it."""
    return json.dumps(fp, separators=(",", ":"))


def add_changes(tx: Connection, changes: Sequence[tuple[str, int, str, str]]) -> None:
    """Write moves and takeovers: (act, at, how, CMID before)."""
    if changes:
        _INSERT_CHANGE.write(tx, changes)


def add_answers(tx: Connection, rows: Sequence[tuple[int, StoredAnswer]]) -> None:
    """Write what is going to be answered, each (key, answer)."""
    if rows:
        _INSERT_ANSWER.write(tx, [(*row[:7], key) for key, row in rows])


def count(tx: Connection, key: int, more: int) -> bool:
    """Move a key's counter, down if `more` is negative; False if it would pass what was bought, or 0."""
    return tx.execute(_COUNT, {"key": key, "more": more}).rowcount == 1


_FIND_HOST = sa.select(_host.c.act, _host.c.host, _host.c.activations, _host.c.blocked).where(
    _host.c.key == sa.bindparam("key"), _host.c.host == sa.bindparam("host")
)


def find_host(tx: Connection, key: int, host: str) -> HostRow | None:
    """The row of a KMS host under a key."""
    row = tx.execute(_FIND_HOST, {"key": key, "host": host}).first()
    return HostRow(*row) if row else None


def add_host(tx: Connection, key: int, row: HostRow, now: int, expires: int) -> None:
    """Write a new host's row."""
    tx.execute(
        sa.insert(_host).values(
            act=row.act,
            key=key,
            host=row.host,
            activations=row.activations,
            created=now,
            granted=now,
            expires=expires,
            blocked="",
            blocked_since=0,
        )
    )


def update_host(tx: Connection, row: HostRow, now: int, expires: int) -> None:
    """Write how often a host was activated, and until when its newest delegation goes."""
    tx.execute(
        sa.update(_host)
        .where(_host.c.act == row.act)
        .values(activations=row.activations, granted=now, expires=expires)
    )


def add_usage(tx: Connection, jti: str, host: str, ref: str, token: str, now: int) -> bool:
    """Keep a host's usage statement; False if the store has it already (each counts once)."""
    known = tx.scalar(sa.select(schema.usage.c.jti).where(schema.usage.c.jti == jti))
    if known is None:
        tx.execute(sa.insert(schema.usage).values(jti=jti, host=host, ref=ref, received=now, token=token))
    return known is None


_SOURCES = Statement(
    sa.select(schema.source.c.key, schema.source.c.network).where(
        IsIn(schema.source.c.key, "keys"),
        IsIn(schema.source.c.network, "networks"),
    )
)


def add_sources(tx: Connection, pairs: set[tuple[int, str]], now: int) -> set[tuple[int, str]]:
    """Remember from where keys are used; answers those (key, source) that are new, each an event too (M10).

    The keys are locked, so nobody else adds the same.
    """
    keys, networks = sorted({key for key, _ in pairs}), sorted({network for _, network in pairs})
    known = {(key, network) for key, network in _SOURCES.read(tx, keys=keys, networks=networks)}
    new = pairs - known
    if new:
        tx.execute(
            sa.insert(schema.source),
            [{"key": key, "network": network, "first_seen": now} for key, network in sorted(new)],
        )
        for key, network in sorted(new):
            add_event(tx, now, "first-use-from-source", key, {"source": network})
    return new


def add_event(tx: Connection, at: int, name: str, key: int | None, detail: Mapping[str, object]) -> None:
    """Write an event row; `detail` holds no secret."""
    tx.execute(sa.insert(schema.event).values(at=at, name=name, key=key, detail=json.dumps(detail)))
