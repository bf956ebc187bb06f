"""An estate in a VAMT's store: machines with three products each, written as the store has them (section j, k)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from volact.protocol import ids
from volact.vamt import schema
from volact.vamt import store as sql

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from volact.vamt.store import Store

PUB = "P" * 43
NOW, DAY = 1_800_000_000, 86_400
PRODUCTS = ("com.example.cad", "com.example.office", "com.example.os")
_AT_ONCE = 10_000
_PLACES = ("berlin", "lyon", "oslo", "porto", "turin", "vienna")


def fill(store: Store, machines: int) -> None:
    """So many machines: nine of ten were asked, a tenth of their products is not licensed, 200 are in a small group."""
    chance = random.Random(5)
    with store.writing() as tx:
        sql.introduce(tx, "bench")
    for start in range(0, machines, _AT_ONCE):
        with store.writing() as tx:
            _some(tx, range(start, min(start + _AT_ONCE, machines)), chance)
    with store.writing() as tx:
        _groups(tx, machines)
    if (
        store.engine.dialect.name == "postgresql"
    ):  # as its autovacuum does; SQLite is left as a command leaves it
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def _some(tx: Connection, serials: range, chance: random.Random) -> None:
    machines = [_machine(serial, chance) for serial in serials]
    tx.execute(sa.insert(schema.machine), machines)
    tx.execute(
        sa.insert(schema.said),
        [
            {"machine": one["id"], "addresses": "[]", "macs": "[]", "host_keys": "[]", "sources": "{}", "report": None,
             "notes": ""}
            for one in machines
        ],
    )  # fmt: skip
    tx.execute(
        sa.insert(schema.alias),
        [{"name": one["name"], "domain": one["domain"], "machine": one["id"]} for one in machines],
    )
    tx.execute(
        sa.insert(schema.address), [{"address": one["address"], "machine": one["id"]} for one in machines]
    )
    installed = [_installed(one, number, chance) for one in machines for number in range(one["products"])]
    tx.execute(sa.insert(schema.installed), installed)


def _machine(serial: int, chance: random.Random) -> dict[str, Any]:
    number, place = serial + 1, chance.choice(_PLACES)
    is_virtual = chance.random() < 0.4
    return {
        "id": number,
        "mid": ids.b64u(number.to_bytes(16, "big")),
        "name": f"{chance.choice(('pc', 'pc', 'pc', 'web', 'db'))}-{chance.randrange(16**6):06x}-{serial}",
        "domain": f"{place}.corp.example",
        "former": "",
        "address": f"10.{serial >> 16}.{serial >> 8 & 255}.{serial & 255}",
        "port": None,
        "transport": "",
        "platform": "linux" if chance.random() < 0.7 else "windows",
        "system": chance.choice(("Debian GNU/Linux 12 (bookworm)", "Ubuntu 24.04", "Windows 11")),
        "identity": ids.b64u(number.to_bytes(32, "big")),
        "virtual": is_virtual,
        "hypervisor": "kvm" if is_virtual else "",
        "host_identity": "",
        "instances": None,
        "found_by": f" {chance.choice(('ldap', 'dns', 'addresses'))} ",
        "products": len(PRODUCTS),
        "first_seen": NOW - 300 * DAY,
        "last_seen": NOW - chance.randrange(60) * DAY,
        "collected": NOW - chance.randrange(60) * DAY,
        "tried": NOW - DAY,
        "code": "ok" if chance.random() < 0.9 else "unreachable-port",
        "detail": "",
    }


def _installed(machine: dict[str, Any], number: int, chance: random.Random) -> dict[str, Any]:
    state = 1 if chance.random() < 0.9 else chance.randrange(6)
    channel = chance.choice(("mak", "kms", "kms", "retail"))
    return {
        "machine": machine["id"],
        "pub": PUB,
        "prd": PRODUCTS[number],
        "name": machine["name"],
        "domain": machine["domain"],
        "state": state,
        "cmid": ids.b64u((machine["id"] * 4 + number).to_bytes(32, "big")),
        "channel": channel,
        "partial_key": f"A{chance.randrange(50):04d}",
        "granted": NOW - chance.randrange(180) * DAY if state == 1 else None,
        "expires": NOW + chance.randrange(180) * DAY if channel == "kms" else None,
        "host": "kms.corp.example:1688" if channel == "kms" else "",
        "iid": "",
        "reason": "activated" if state == 1 else "grace-ended",
        "proof": "proved" if chance.random() < 0.8 else "reported",
        "collected": machine["collected"],
    }


def _groups(tx: Connection, machines: int) -> None:
    """A small group and one that half of all are in."""
    sizes = {
        "SecureNetwork": range(7, machines, max(1, machines // 200)),
        "Everywhere": range(1, machines, 2),
    }
    for number, (name, members) in enumerate(sizes.items(), start=1):
        tx.execute(sa.insert(schema.grp).values(id=number, name=name, notes="", made=NOW))
        tx.execute(sa.insert(schema.member), [{"grp": number, "machine": one} for one in members])
