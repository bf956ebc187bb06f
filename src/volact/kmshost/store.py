"""The KMS host's SQL: whose host it is, its delegations and settings, events, tallies. Decides nothing.

Every function takes the transaction that it works in. `ledger` has the SQL of the machines' records.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact import stores
from volact.kmshost import schema
from volact.kmshost.dnsrecords import DnsRecord
from volact.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Engine

_SCRIPTS = Path(__file__).parent / "migrations"
HANDLED = 12290
"""The number of the event of a request that was decided (rule E)."""
EVENTS_KEPT = 100_000
"""The newest so many events are kept, and of those that are no handled requests:"""
RARE_KEPT = 10_000
SLICE = 500
"""Most rows that housekeeping deletes at once (DESIGN section 4)."""


class Store(stores.Store):
    """The host's database."""

    def __init__(self, engine: Engine) -> None:
        """Keep everything in the database of `engine`."""
        super().__init__(engine, _SCRIPTS, schema.REVISION)


class Publisher(NamedTuple):
    """Whose host it is; several hosts of one count share this.

    Attributes:
        pub: the publisher's id.
        lab: whether it is a laboratory's.
        root: root document 1 as it travels; None as long as it was not met.
        roots: the tokens of later root documents.
        nonce_key: the key of nonces.
    """

    pub: str
    lab: bool
    root: dict[str, Any] | None
    roots: tuple[str, ...]
    nonce_key: bytes


class Product(NamedTuple):
    """The newest signed document of a product."""

    prd: str
    ver: int
    edition: str
    name: str
    bundle: dict[str, Any]


class Delegation(NamedTuple):
    """A delegation of a host, as a bundle that can be verified."""

    jti: str
    host: str
    iat: int
    exp: int
    bundle: dict[str, Any]
    received: int


class Event(NamedTuple):
    """One event of the host (rule E); None where a field says nothing.

    Attributes:
        time: when, seconds UTC.
        event: its number.
        result: ``ok``, or the code of the refusal.
        product: the product's id.
        cmid: the machine's id.
        host: from where the machine called.
        required: the count that was required, of a refusal for want of it.
        current: the count then.
        client_time: what the machine's clock said.
        virtual: whether the machine is virtual.
        state: the state that it reported.
        minutes: minutes to the end of that state, as it reported.
        renewal: renewal interval that it was told, seconds.
        retry: retry interval likewise.
    """

    time: int
    event: int
    result: str
    product: str | None = None
    cmid: str | None = None
    host: str | None = None
    required: int | None = None
    current: int | None = None
    client_time: int | None = None
    virtual: bool | None = None
    state: int | None = None
    minutes: int | None = None
    renewal: int | None = None
    retry: int | None = None


def publisher(tx: Connection) -> Publisher | None:
    """Whose host it is; None before `init`."""
    row = tx.execute(sa.select(schema.publisher)).one_or_none()
    if row is None:
        return None
    root = json.loads(row.root) if row.root else None
    return Publisher(row.pub, row.lab, root, tuple(json.loads(row.roots)), bytes(row.nonce_key))


def set_publisher(tx: Connection, found: Publisher) -> None:
    """Write whose host it is, or what was learned of it."""
    values = {
        "pub": found.pub,
        "lab": found.lab,
        "root": json.dumps(found.root) if found.root else None,
        "roots": json.dumps(list(found.roots)),
        "nonce_key": found.nonce_key,
    }
    table = schema.publisher
    if tx.execute(sa.update(table).values(values)).rowcount == 0:
        tx.execute(sa.insert(table).values(id=1, **values))


def lock(tx: Connection) -> None:
    """Let no other host of this count decide on it until this transaction ends."""
    tx.execute(sa.select(schema.publisher.c.id).with_for_update()).all()


def products(tx: Connection) -> list[Product]:
    """The products that the host has documents of."""
    rows = tx.execute(sa.select(schema.product).order_by(schema.product.c.prd))
    return [Product(row.prd, row.ver, row.edition, row.name, json.loads(row.bundle)) for row in rows]


def put_product(tx: Connection, found: Product) -> None:
    """Keep a product's document in the place of the one before."""
    values = {**found._asdict(), "bundle": json.dumps(found.bundle)}
    tx.execute(sa.delete(schema.product).where(schema.product.c.prd == found.prd))
    tx.execute(sa.insert(schema.product).values(values))


def delegations(tx: Connection, host: str) -> list[Delegation]:
    """Every delegation that a host ever held, oldest first."""
    table = schema.delegation
    rows = tx.execute(sa.select(table).where(table.c.host == host).order_by(table.c.iat))
    return [
        Delegation(row.jti, row.host, row.iat, row.exp, json.loads(row.bundle), row.received) for row in rows
    ]


def hosts(tx: Connection) -> tuple[str, ...]:
    """The ids of the hosts that share this count: all that were ever activated (K12)."""
    host = schema.delegation.c.host
    return tuple(tx.execute(sa.select(host).distinct().order_by(host)).scalars())


def add_delegation(tx: Connection, found: Delegation) -> None:
    """Keep a delegation."""
    tx.execute(sa.insert(schema.delegation).values({**found._asdict(), "bundle": json.dumps(found.bundle)}))


def settings(tx: Connection, host: str) -> dict[str, str]:
    """A host's settings that were set by command."""
    table = schema.setting
    rows = tx.execute(sa.select(table.c.name, table.c.value).where(table.c.host == host))
    return {row.name: row.value for row in rows}


def put_setting(tx: Connection, host: str, name: str, value: str | None) -> None:
    """Set a host's setting, or with None let what stands elsewhere count again."""
    table = schema.setting
    tx.execute(sa.delete(table).where(table.c.host == host, table.c.name == name))
    if value is not None:
        tx.execute(sa.insert(table).values(host=host, name=name, value=value))


_ADD_EVENTS = Statement(sa.insert(schema.event), Event._fields)


def add_event(tx: Connection, *events: Event) -> None:
    """Keep events."""
    if events:
        _ADD_EVENTS.write(tx, events)


def events(
    tx: Connection, since: int = 0, limit: int | None = None, **wanted: str | int | None
) -> list[Event]:
    """The events from `since` on, oldest first; with a limit the newest ones.

    `wanted` are what fields must hold (``event``, ``result``, ``cmid``, ``product``, ``host``); None is anything.
    """
    table = schema.event
    query = sa.select(*[table.c[name] for name in Event._fields]).where(table.c.time >= since)
    for name, value in wanted.items():
        if value is not None:
            query = query.where(table.c[name] == value)
    rows = tx.execute(query.order_by(table.c.id.desc()).limit(limit))
    return [Event(*row) for row in rows][::-1]


def newest_results(tx: Connection, number: int) -> dict[str, str]:
    """The result of the newest event of a number, for each product."""
    table = schema.event
    newest = sa.select(sa.func.max(table.c.id)).where(table.c.event == number).group_by(table.c.product)
    rows = tx.execute(sa.select(table.c.product, table.c.result).where(table.c.id.in_(newest)))
    return {row.product: row.result for row in rows}


def trim_events(tx: Connection) -> int:
    """Delete the oldest handled requests beyond the newest `EVENTS_KEPT` events, a slice; how many went."""
    table = schema.event
    newest = tx.execute(sa.select(sa.func.max(table.c.id))).scalar()
    if newest is None:
        return 0
    old = sa.select(table.c.id).where(table.c.id <= newest - EVENTS_KEPT, table.c.event == HANDLED)
    return _delete_events(tx, old)


def trim_rare_events(tx: Connection) -> int:
    """Delete the oldest of the other events beyond the newest `RARE_KEPT`, a slice; it reads all of them.

    They tell what an administrator is looked for by, and no stream of requests may wash them away.
    """
    table = schema.event
    rare = sa.select(table.c.id).where(table.c.event != HANDLED)
    last = tx.execute(rare.order_by(table.c.id.desc()).offset(RARE_KEPT).limit(1)).scalar()
    return 0 if last is None else _delete_events(tx, rare.where(table.c.id <= last))


def _delete_events(tx: Connection, old: sa.Select[tuple[int]]) -> int:
    table = schema.event
    return int(
        tx.execute(sa.delete(table).where(table.c.id.in_(old.order_by(table.c.id).limit(SLICE)))).rowcount
    )


_ADD_TALLY = Statement(
    sa.text(
        "INSERT INTO tally (outcome, state, n) VALUES (:outcome, :state, :n) "
        "ON CONFLICT (outcome, state) DO UPDATE SET n = tally.n + excluded.n"
    ),
    ("outcome", "state", "n"),
)


def add_tally(tx: Connection, more: Mapping[tuple[str, int], int]) -> None:
    """Count requests by their outcome and by the state that the machine reported (K13)."""
    if more:
        # In one order, or two hosts of one count could wait for each other.
        _ADD_TALLY.write(tx, [(outcome, state, n) for (outcome, state), n in sorted(more.items())])


def tally(tx: Connection) -> dict[tuple[str, int], int]:
    """Requests so far, by outcome and reported state."""
    return {(row.outcome, row.state): row.n for row in tx.execute(sa.select(schema.tally))}


def counts(tx: Connection, now: int) -> dict[str, tuple[int, int]]:
    """Machines and servers that count now, exactly, by group: for people, since it reads every record."""
    table = schema.record
    machine = (
        sa.select(table.c.grp, sa.func.max(sa.cast(table.c.server, sa.Integer)).label("server"))
        .where(table.c.expires > now)
        .group_by(table.c.grp, table.c.cmid)
        .subquery()
    )
    query = sa.select(machine.c.grp, sa.func.count(), sa.func.sum(machine.c.server)).group_by(machine.c.grp)
    return {group: (int(machines), int(servers)) for group, machines, servers in tx.execute(query)}


def records(tx: Connection) -> int:
    """How many records there are, ended ones that are not deleted yet included; it reads an index of them all."""
    return int(tx.execute(sa.select(sa.func.count()).select_from(schema.record)).scalar_one())


def present(tx: Connection, now: int) -> dict[str, int]:
    """Machines that have called for each product and count now; it reads every record."""
    table = schema.record
    query = sa.select(table.c.prd, sa.func.count()).where(table.c.expires > now).group_by(table.c.prd)
    return {prd: int(count) for prd, count in tx.execute(query)}


def note_peaks(tx: Connection, counted: Mapping[str, int]) -> None:
    """Keep what was counted where it is more than ever since the peaks were cleared (K21)."""
    known = {row.prd: row.n for row in tx.execute(sa.select(schema.peak))}
    for prd, count in counted.items():
        if prd not in known:
            tx.execute(sa.insert(schema.peak).values(prd=prd, n=count))
        elif count > known[prd]:
            tx.execute(sa.update(schema.peak).where(schema.peak.c.prd == prd).values(n=count))


def peaks(tx: Connection, now: int) -> dict[str, int]:
    """The most machines that each product had since the peaks were cleared, now included."""
    found = {row.prd: int(row.n) for row in tx.execute(sa.select(schema.peak))}
    for prd, count in present(tx, now).items():
        found[prd] = max(count, found.get(prd, 0))
    return found


def clear_peaks(tx: Connection) -> None:
    """Begin to look for peaks anew: a delegation has been extended."""
    tx.execute(sa.delete(schema.peak))


class Trusted(NamedTuple):
    """The time that was believed last, seconds UTC, and for how long the host has rested since, seconds."""

    now: int
    rested: int


def trusted(tx: Connection) -> Trusted | None:
    """What was believed last; None before the first start."""
    row = tx.execute(sa.select(schema.trusted)).one_or_none()
    return Trusted(row.now, row.rested) if row else None


def put_trusted(tx: Connection, found: Trusted) -> None:
    """Keep what is believed."""
    table = schema.trusted
    if tx.execute(sa.update(table).values(found._asdict())).rowcount == 0:
        tx.execute(sa.insert(table).values(id=1, **found._asdict()))


def published(tx: Connection, host: str) -> list[DnsRecord]:
    """What a host has, or may have, published in DNS and not taken back, by domain, in each the newest first.

    There are several of one domain only while it is not known which of them the name server took.
    """
    table = schema.published
    rows = tx.execute(sa.select(table).where(table.c.host == host).order_by(table.c.domain))
    return [
        DnsRecord(
            row.domain.partition(_NUMBER)[0],
            row.label,
            row.target,
            row.port,
            row.priority,
            row.weight,
            tuple(row.addresses.split()),
        )
        for row in rows
    ]


_NUMBER = "#"
"""Between domain and number of all records but the newest; no name has it."""


def put_published(tx: Connection, host: str, domain: str, found: Sequence[DnsRecord], now: int) -> None:
    """Remember what a host has, or may have, published in a domain, the newest first; and nothing else there."""
    table = schema.published
    mine = sa.or_(table.c.domain == domain, table.c.domain.startswith(domain + _NUMBER, autoescape=True))
    tx.execute(sa.delete(table).where(table.c.host == host, mine))
    for number, one in enumerate(found):
        key = f"{domain}{_NUMBER}{number}" if number else domain
        values = {**one._asdict(), "domain": key, "addresses": " ".join(one.addresses)}
        tx.execute(sa.insert(table).values(host=host, time=now, **values))
