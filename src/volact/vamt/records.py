"""The SQL of machines' rows: what an `Estate` may decide about, and what it decided. Decides nothing.

A batch of what sources or machines said is one transaction: the rows that it could be about are loaded, the estate
places it, what changed is written. What is installed is replaced by each report: a report names all products.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from volact.vamt import schema
from volact.vamt.inventory import Machine, Product, Report, Seen, fingerprint, identities, known_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from volact.vamt.estate import Estate
    from volact.vamt.inventory import Sighting

_AT_ONCE = 500
"""Values in one list of a statement."""
_MOST_TERMS = 50
"""Terms that a row is compared with in one statement."""


class Installed(NamedTuple):
    """A product on a machine, and what is known to be true of it.

    Attributes:
        product: what the machine says.
        proof: ``reported``, or ``proved`` if its grant holds to the pinned root (V2).
    """

    product: Product
    proof: str


def _parts(values: Iterable[Any], most: int = _AT_ONCE) -> Iterator[list[Any]]:
    """The values in lists of at most so many."""
    whole = list(dict.fromkeys(values))
    return (whole[at : at + most] for at in range(0, len(whole), most))


# --- reading --------------------------------------------------------------------------------------------------


def about(tx: Connection, sightings: Iterable[Sighting], reports: Iterable[Report] = ()) -> set[int]:
    """The numbers of the rows that sightings and reports could be about."""
    table, found = schema.machine, set[int]()
    seen, told = list(sightings), list(reports)
    names = [one.name for one in seen if one.name] + [name for name, _ in map(known_name, told) if name]
    for part in _parts(names):
        found.update(tx.execute(sa.select(table.c.id).where(table.c.name.in_(part))).scalars())
        found.update(
            tx.execute(sa.select(schema.alias.c.machine).where(schema.alias.c.name.in_(part))).scalars()
        )
    for part in _parts(one.identity for one in told if one.identity):
        found.update(tx.execute(sa.select(table.c.id).where(table.c.identity.in_(part))).scalars())
    for part in _parts(address for one in seen for address in one.addresses):
        where = schema.address.c.address.in_(part)
        found.update(tx.execute(sa.select(schema.address.c.machine).where(where)).scalars())
    for part in _parts(cmid for one in told for _, cmid in identities(one)):
        where = schema.cmid.c.cmid.in_(part)
        found.update(tx.execute(sa.select(schema.cmid.c.machine).where(where)).scalars())
    return found


def with_host_keys(tx: Connection, host_keys: Iterable[str]) -> set[int]:
    """The numbers of the rows of which a source says one of these host keys, or its fingerprint."""
    table = schema.said
    pins = {pin for key in host_keys for pin in (key, fingerprint(key)) if pin}
    said = [table.c.sources.contains(pin, autoescape=True) for pin in sorted(pins)]
    found = set[int]()
    for part in _parts(said, _MOST_TERMS):
        found.update(tx.execute(sa.select(table.c.machine).where(sa.or_(*part))).scalars())
    return found


def numbers(tx: Connection, mids: Iterable[str]) -> dict[str, int]:
    """The numbers of the rows with these ids, those that there are."""
    table, found = schema.machine, {}
    for part in _parts(mids):
        rows = tx.execute(sa.select(table.c.mid, table.c.id).where(table.c.mid.in_(part)))
        found.update({row.mid: row.id for row in rows})
    return found


def load(tx: Connection, wanted: Collection[int]) -> dict[int, Machine]:
    """The rows with these numbers."""
    aliases: dict[int, set[tuple[str, str]]] = {}
    cmids: dict[int, set[tuple[str, str]]] = {}
    found: dict[int, Machine] = {}
    for part in _parts(wanted):
        for row in tx.execute(sa.select(schema.alias).where(schema.alias.c.machine.in_(part))):
            aliases.setdefault(row.machine, set()).add((row.name, row.domain))
        for row in tx.execute(sa.select(schema.cmid).where(schema.cmid.c.machine.in_(part))):
            cmids.setdefault(row.machine, set()).add((row.pub, row.cmid))
        joined = schema.machine.join(schema.said, schema.said.c.machine == schema.machine.c.id)
        columns = (schema.machine, schema.said.c.sources, schema.said.c.report)
        for row in tx.execute(sa.select(*columns).select_from(joined).where(schema.machine.c.id.in_(part))):
            found[row.id] = _machine(row, aliases.get(row.id, ()), cmids.get(row.id, ()))
    return found


def _machine(row: Any, aliases: Iterable[tuple[str, str]], cmids: Iterable[tuple[str, str]]) -> Machine:  # noqa: ANN401 - a row of the table
    return Machine(
        row.mid,
        row.name,
        row.domain,
        row.former,
        {source: Seen(*_frozen(said)) for source, said in json.loads(row.sources).items()},
        frozenset(aliases),
        frozenset(cmids),
        row.identity,
        Report(*_frozen(json.loads(row.report))) if row.report else None,
        row.collected,
        row.first_seen,
        row.last_seen,
    )


def _frozen(said: list[Any]) -> list[Any]:
    """The members of a value as they were before JSON made lists of its tuples."""
    return [tuple(one) if isinstance(one, list) else one for one in said]


def products(tx: Connection, number: int) -> list[Installed]:
    """What is installed on a machine, by publisher and product."""
    table = schema.installed
    rows = tx.execute(
        sa.select(table, schema.shown.c.bundle)
        .outerjoin(schema.shown, schema.shown.c.installed == table.c.id)
        .where(table.c.machine == number)
        .order_by(table.c.pub, table.c.prd)
    )
    return [
        Installed(
            Product(
                row.pub,
                row.prd,
                row.state,
                row.cmid,
                row.channel,
                row.partial_key,
                row.granted,
                row.expires,
                row.host,
                row.iid,
                row.reason,
                json.loads(row.bundle) if row.bundle else None,
            ),
            row.proof,
        )
        for row in rows
    ]


# --- writing --------------------------------------------------------------------------------------------------


def save(tx: Connection, estate: Estate, known: Mapping[str, int]) -> dict[str, int]:
    """Write the rows that an estate changed, of which `known` are there already; the numbers of all of them."""
    changed = [estate[mid] for mid in sorted(estate.changed)]
    gone = {mid: into for mid, into in estate.gone.items() if mid in known}
    _clear(tx, [known[mid] for mid in (*gone, *estate.changed) if mid in known])
    new = [one for one in changed if one.mid not in known]
    if new:
        rows = [{**_columns(one), "products": 0, "tried": None, "code": "", "detail": ""} for one in new]
        tx.execute(sa.insert(schema.machine), rows)
    found = {**known, **numbers(tx, [one.mid for one in new])}
    if new:
        tx.execute(
            sa.insert(schema.said), [{**_said(one), "machine": found[one.mid], "notes": ""} for one in new]
        )
    _change(tx, [(known[one.mid], one) for one in changed if one.mid in known])
    for mid, into in gone.items():
        _unite(tx, (mid, known[mid]), (into, found[into]), by_report=mid in estate.by_report)
    _index(tx, changed, found)
    return {mid: number for mid, number in found.items() if mid not in gone}


def _change(tx: Connection, rows: Sequence[tuple[int, Machine]]) -> None:
    """Write rows that are there already anew, and their names where they are repeated."""
    if not rows:
        return
    update = sa.update(schema.machine).where(schema.machine.c.id == sa.bindparam("number"))
    tx.execute(update, [{**_columns(one), "number": number} for number, one in rows])
    update = sa.update(schema.said).where(schema.said.c.machine == sa.bindparam("number"))
    tx.execute(update, [{**_said(one), "number": number} for number, one in rows])
    table = schema.installed
    renamed = (
        sa.update(table)
        .where(table.c.machine == sa.bindparam("number"), _differs(table))
        .values(name=sa.bindparam("new_name"), domain=sa.bindparam("new_domain"))
    )
    tx.execute(
        renamed, [{"number": number, "new_name": one.name, "new_domain": one.domain} for number, one in rows]
    )


def _differs(table: sa.Table) -> sa.ColumnElement[bool]:
    return (table.c.name != sa.bindparam("new_name")) | (table.c.domain != sa.bindparam("new_domain"))


def _columns(one: Machine) -> dict[str, Any]:
    said = one.report or Report("")
    addresses = one.addresses
    return {
        "mid": one.mid,
        "name": one.name,
        "domain": one.domain,
        "former": one.former,
        "address": addresses[0] if addresses else "",
        "port": one.port,
        "transport": one.transport,
        "platform": one.platform,
        "system": said.system,
        "identity": one.identity,
        "virtual": said.virtual if one.report else None,
        "hypervisor": said.hypervisor,
        "host_identity": said.host_identity,
        "instances": said.instances,
        "found_by": f" {' '.join(one.sources)} ",
        "first_seen": one.first,
        "last_seen": one.last,
        "collected": one.collected,
    }


def _said(one: Machine) -> dict[str, Any]:
    return {
        "addresses": " ".join(one.addresses),
        "macs": " ".join(one.macs),
        "host_keys": "\n".join(one.host_keys),
        "sources": json.dumps(one.seen),
        "report": json.dumps(one.report) if one.report else None,
    }


def _clear(tx: Connection, rows: Sequence[int]) -> None:
    """Forget by what rows are found, before it is written anew."""
    for table in (schema.alias, schema.address, schema.cmid):
        for part in _parts(rows):
            tx.execute(sa.delete(table).where(table.c.machine.in_(part)))


def _unite(tx: Connection, gone: tuple[str, int], into: tuple[str, int], *, by_report: bool) -> None:
    """Give what belongs to a row that is gone to the row that it became one with, and remove it; each (id, number).

    A row that is in groups comes into none that has a login because of what a machine said (T29).
    """
    member, machine, row = schema.member, schema.machine, schema.action_row
    has = sa.select(member.c.grp).where(member.c.machine == into[1])
    moved = sa.update(member).where(member.c.machine == gone[1], member.c.grp.not_in(has))
    if by_report and tx.execute(has.limit(1)).first():
        logins = sa.select(schema.credential.c.grp)
        secret = sa.select(schema.grp.c.id).where(schema.grp.c.name.in_(logins))
        moved = moved.where(member.c.grp.not_in(secret))
    tx.execute(moved.values(machine=into[1]))
    said, older = schema.said, schema.said.alias()
    notes = sa.select(older.c.notes).where(older.c.machine == gone[1]).scalar_subquery()
    tx.execute(sa.update(said).where(said.c.machine == into[1], said.c.notes == "").values(notes=notes))
    for table in (schema.list_row, schema.confirmation):
        tx.execute(sa.update(table).where(table.c.mid == gone[0]).values(mid=into[0]))
    other = row.alias()
    same = sa.select(other.c.id).where(
        other.c.action == row.c.action,
        other.c.mid == into[0],
        other.c.pub == row.c.pub,
        other.c.prd == row.c.prd,
    )
    tx.execute(sa.update(row).where(row.c.mid == gone[0], ~same.exists()).values(mid=into[0]))
    tx.execute(sa.delete(machine).where(machine.c.id == gone[1]))


def _index(tx: Connection, rows: Sequence[Machine], known: Mapping[str, int]) -> None:
    """Write by what rows are found."""
    aliases = [
        {"name": name, "domain": domain, "machine": known[one.mid]}
        for one in rows
        for name, domain in one.aliases
    ]
    addresses = [{"address": address, "machine": known[one.mid]} for one in rows for address in one.addresses]
    cmids = [{"pub": pub, "cmid": cmid, "machine": known[one.mid]} for one in rows for pub, cmid in one.cmids]
    if aliases:
        table = schema.alias
        taken = (table.c.name == sa.bindparam("old_name")) & (table.c.domain == sa.bindparam("old_domain"))
        old = [{"old_name": one["name"], "old_domain": one["domain"]} for one in aliases]
        tx.execute(sa.delete(table).where(taken), old)
    for table, values in ((schema.alias, aliases), (schema.address, addresses), (schema.cmid, cmids)):
        if values:
            tx.execute(sa.insert(table), values)


def put_products(
    tx: Connection, found: Mapping[int, tuple[Machine, Sequence[Installed]]], collected: int
) -> None:
    """Write what is installed on machines, by their numbers, in place of what was known of it."""
    if not found:
        return
    table = schema.installed
    for part in _parts(found):
        tx.execute(sa.delete(table).where(table.c.machine.in_(part)))
    once = {
        number: list({(one.product.publisher, one.product.product): one for one in all_}.values())
        for number, (_, all_) in found.items()
    }
    rows = [
        _row(number, machine, one) | {"collected": collected}
        for number, (machine, _) in found.items()
        for one in once[number]
    ]
    if rows:
        tx.execute(sa.insert(table), rows)
    tell = sa.update(schema.machine).where(schema.machine.c.id == sa.bindparam("number"))
    tx.execute(tell, [{"number": number, "products": len(all_)} for number, all_ in once.items()])
    grants = {
        (number, one.product.publisher, one.product.product): json.dumps(one.product.grant)
        for number, all_ in once.items()
        for one in all_
        if one.product.grant is not None
    }
    for part in _parts(number for number, _, _ in grants):
        there = sa.select(table.c.id, table.c.machine, table.c.pub, table.c.prd)
        shown = [
            {"installed": row.id, "bundle": grants[row.machine, row.pub, row.prd]}
            for row in tx.execute(there.where(table.c.machine.in_(part)))
            if (row.machine, row.pub, row.prd) in grants
        ]
        tx.execute(sa.insert(schema.shown), shown)


def _row(number: int, machine: Machine, one: Installed) -> dict[str, Any]:
    product = one.product
    return {
        "machine": number,
        "pub": product.publisher,
        "prd": product.product,
        "name": machine.name,
        "domain": machine.domain,
        "state": product.state,
        "cmid": product.cmid,
        "channel": product.channel,
        "partial_key": product.partial_key,
        "granted": product.granted,
        "expires": product.expires,
        "host": product.host,
        "iid": product.iid,
        "reason": product.reason,
        "proof": one.proof,
    }


def put_outcomes(tx: Connection, found: Sequence[tuple[int, str, str]], tried: int) -> None:
    """Write how collection from machines ended: number, code (``ok`` or a refusal's) and detail."""
    table = schema.machine
    statement = (
        sa.update(table)
        .where(table.c.id == sa.bindparam("number"))
        .values(code=sa.bindparam("said"), detail=sa.bindparam("more"), tried=tried)
    )
    if found:
        tx.execute(statement, [{"number": one, "said": code, "more": more} for one, code, more in found])


def flag(tx: Connection, found: Sequence[tuple[int, str, str]]) -> None:
    """Write what came up about machines that were not asked: number, code and detail."""
    table = schema.machine
    statement = sa.update(table).where(table.c.id == sa.bindparam("number"))
    statement = statement.values(code=sa.bindparam("said"), detail=sa.bindparam("more"))
    if found:
        tx.execute(statement, [{"number": one, "said": code, "more": more} for one, code, more in found])


def outcome(tx: Connection, number: int) -> tuple[str, str, int | None]:
    """How the last collection from a machine ended: code, detail and when; empty and None if there was none."""
    table = schema.machine
    row = tx.execute(sa.select(table.c.code, table.c.detail, table.c.tried).where(table.c.id == number)).one()
    return row.code, row.detail, row.tried


def tried(tx: Connection, rows: Iterable[int], since: int) -> set[int]:
    """Which of these machines were asked later than `since`."""
    table, found = schema.machine, set[int]()
    for part in _parts(rows):
        asked = sa.select(table.c.id).where(table.c.id.in_(part), table.c.tried > since)
        found.update(tx.execute(asked).scalars())
    return found


def remove(tx: Connection, rows: Iterable[int]) -> int:
    """Remove machines with all that is known of them; how many there were."""
    table, count = schema.machine, 0
    for part in _parts(rows):
        count += tx.execute(sa.delete(table).where(table.c.id.in_(part))).rowcount
    return count


def notes(tx: Connection, number: int) -> str:
    """What was noted about a machine."""
    return tx.execute(sa.select(schema.said.c.notes).where(schema.said.c.machine == number)).scalar() or ""


def set_notes(tx: Connection, rows: Iterable[int], text: str) -> None:
    """Note something about machines, in place of what was noted before."""
    for part in _parts(rows):
        tx.execute(sa.update(schema.said).where(schema.said.c.machine.in_(part)).values(notes=text))
