"""How fast a KMS host renews: its ledger seeded to a size, machines that renew over real TLS, their leases verified.

The ledger's rows are written as the host itself would have, by its own store; only as many machines as there are
bodies have real keys, and those stand evenly among the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import limits
import sqlalchemy as sa

from volact import db, quickstart, signing
from volact.kmshost import schema
from volact.protocol import ids, machine
from volact.protocol.policy import DAY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from volact.children import Service

WORKERS = 2
SLICE = 20_000


class Seed(NamedTuple):
    """A machine of the bench: its private key, its fingerprint, its place in the ledger."""

    pem: bytes
    cmid: str
    fp: dict[str, str]


def seeds(pub: str, count: int) -> list[Seed]:
    """`count` machines with keys of their own."""
    with ProcessPoolExecutor(WORKERS) as pool:
        parts = pool.map(_seeds, [pub] * WORKERS, [count // WORKERS + 1] * WORKERS)
        return [seed for part in parts for seed in part][:count]


def _seeds(pub: str, count: int) -> list[Seed]:
    found = []
    for _ in range(count):
        signer = signing.generate()
        values = {name: os.urandom(16).hex() for name in ("uuid", "board", "disk", "os", "net", "cpu")}
        found.append(Seed(signer.pem(), signer.kid, machine.fingerprint(pub, quickstart.PRODUCT, values)))
    return found


def fill(database: Path | str, pub: str, records: int, real: Sequence[Seed]) -> None:
    """Fill an activated host's ledger: `records` rows, the `real` machines evenly among them."""
    engine = db.connect(database)
    now = int(time.time())
    every = max(1, records // len(real))
    waiting = iter(real)
    try:
        for start in range(0, records, SLICE):
            rows = []
            for number in range(start, min(start + SLICE, records)):
                seed = next(waiting, None) if number % every == 0 else None
                rows.append(_row(pub, number, seed, now))
            with db.transaction(engine) as tx:
                tx.execute(sa.insert(schema.record), rows)
    finally:
        engine.dispose()


def _row(pub: str, number: int, seed: Seed | None, now: int) -> dict[str, Any]:
    if seed:
        cmid, fp = seed.cmid, seed.fp
    else:
        cmid = ids.b64u(os.urandom(32))
        fp = {"uuid": ids.b64u(os.urandom(8)), "os": ids.b64u(os.urandom(8)), "net": ids.b64u(os.urandom(2))}
    last = now - number % (7 * DAY)
    members: dict[str, Any] = {
        "cmid": cmid,
        "prd": quickstart.PRODUCT,
        "grp": "publisher",
        "server": False,
        "first": last - 30 * DAY,
        "last": last,
        "expires": last + 30 * DAY,
        "fp": json.dumps(fp, separators=(",", ":")),
        "state": 1,
        "minutes": 100_000,
        "virtual": False,
        "outcome": "ok",
        "address": "192.0.2.1",
        "req": ids.b64u(os.urandom(16)),
        "digest": ids.b64u(os.urandom(32)),
        "payload": os.urandom(20) * 32,
        "kid": pub,
        "delegation": ids.b64u(os.urandom(16)),
        "lease": ids.b64u(os.urandom(16)),
        "lease_end": last + 180 * DAY,
        "renewals": 4,
    }
    columns = schema.record.columns.keys()
    return {name: value for name, value in members.items() if name in columns}


def introduction(port: int) -> dict[str, Any]:
    """What the host says of itself: GET /v1/host, its TLS key compared with nothing (a bench)."""
    import ssl
    import urllib.request

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/v1/host", context=context) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found


def bodies(host: dict[str, Any], real: Sequence[Seed], count: int) -> list[bytes]:
    """`count` check-ins with the host's nonce of now, by the `real` machines one after the other."""
    claims = json.loads(ids.unb64u(str(host["token"]).split(".")[1]))
    common = {"pub": claims["pub"], "lab": True, "aud": claims["iss"], "nonce": host["nonce"]}
    share = -(-count // WORKERS)
    turns = [
        [real[number % len(real)] for number in range(at * share, min(count, (at + 1) * share))]
        for at in range(WORKERS)
    ]
    with ProcessPoolExecutor(WORKERS) as pool:
        return [body for part in pool.map(_bodies, [common] * WORKERS, turns) for body in part]


def _bodies(common: dict[str, Any], turns: Sequence[Seed]) -> list[bytes]:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    signers: dict[str, signing.Signer] = {}
    found = []
    now = int(time.time())
    for seed in turns:
        signer = signers.get(seed.cmid)
        if signer is None:
            key: Any = load_pem_private_key(seed.pem, None)
            signer = signers[seed.cmid] = signing.Signer(key)
        claims = {
            **common,
            "iat": now,
            "jti": ids.b64u(os.urandom(16)),
            "sub": seed.cmid,
            "prd": quickstart.PRODUCT,
            "req": ids.b64u(os.urandom(16)),
            "fp": seed.fp,
            "prev": None,
            "state": 1,
            "minutes": 90_000,
            "vm": False,
        }
        found.append(json.dumps(signer.bundle("checkin", claims), separators=(",", ":")).encode())
    return found


@contextlib.contextmanager
def host(folder: Path, publisher: quickstart.Publisher, core: int) -> Iterator[tuple[quickstart.Host, Path]]:
    """An activated KMS host that does not serve yet, and its database."""
    made = quickstart.Host(folder, publisher)
    with limits.on_core(core):
        authority = publisher.serve()
    try:
        made.set_up()
    finally:
        authority.stop()
    yield made, made.volact.home / "kmshost" / "kmshost.db"


def started(made: quickstart.Host, core: int) -> tuple[Service, float]:
    """The host serving on its core, and how many seconds it took from the command to its first answer."""
    began = time.monotonic()
    with limits.on_core(core):
        service = made.serve()
    with contextlib.suppress(OSError):
        introduction(made.port)
    return service, time.monotonic() - began
