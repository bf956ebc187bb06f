"""A KMS host in a test's own database: the real role, real keys, a clock moved by hand, no sockets.

The publisher that delegates to it follows PROTOCOL.md alone and is no part of volact.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from client.publisher import Publisher
from volact import db, signing
from volact.kmshost import store as sql
from volact.kmshost.admission import Limits
from volact.kmshost.checkins import Sent
from volact.kmshost.keyring import Keyring
from volact.kmshost.kmshost import KmsHost
from volact.kmshost.statuslist import Held
from volact.kmshost.store import Store
from volact.kmshost.terms import Intervals, Terms
from volact.protocol import ids, jws, machine, trust
from volact.protocol.problems import Refusal
from world import DAY, NOW, HandClock, facts, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from volact.kmshost.store import Event

PRODUCT = "com.example.cad"
SERVER = "com.example.server"
ADDRESS = "192.0.2.20"
CUSTOMER = "Contoso"
LASTS = 400 * DAY
HOUR = 3600


class Numbers(NamedTuple):
    """A policy's numbers, as the tests expect them; durations in seconds."""

    machines: int
    servers: int
    validity: int
    renewal: int
    retry: int
    lifetime: int
    client: dict[str, Any]
    server: dict[str, Any]


RULES = Numbers(25, 5, 180 * DAY, 7 * DAY, 2 * HOUR, 30 * DAY, {}, {})
"""What RULES.md says (K1, K4, K6); the product document says nothing."""


def _others(machines: int, servers: int, **durations: int) -> Numbers:
    least = {"count": "machines", "minimum": machines}
    client = {"thresholds": [least], **durations}
    server = {"thresholds": [{"count": "servers", "minimum": servers}, least], **durations}
    validity, renewal, retry, lifetime = (
        durations[name] for name in ("validity", "renewal", "retry", "record_lifetime")
    )
    return Numbers(machines, servers, validity, renewal, retry, lifetime, client, server)


OTHER = _others(7, 3, validity=41 * DAY, renewal=5 * DAY, retry=3 * HOUR, record_lifetime=13 * DAY)
"""Differs in every number."""


class Machine:
    """A machine that calls the host as a client would, from the protocol alone."""

    def __init__(self, site: Site, *, parts: dict[str, str] | None = None, signer: Any = None) -> None:
        self.site = site
        self.signer = signer or signing.generate()
        self.parts = facts() if parts is None else dict(parts)

    @property
    def cmid(self) -> str:
        return str(self.signer.kid)

    def checkin(self, product: str = PRODUCT, **claims: Any) -> dict[str, Any]:
        """The body of a check-in; `claims` make it a special one."""
        site = self.site
        members = {
            "pub": site.publisher.pub,
            "lab": True,
            "iat": site.clock.now(),
            "jti": new_id(),
            "sub": self.cmid,
            "aud": site.signer.kid,
            "prd": product,
            "nonce": claims.pop("nonce", None) or site.nonce(),
            "req": new_id(),
            "fp": machine.fingerprint(site.publisher.pub, product, self.parts),
            "prev": None,
            "state": 2,
            "minutes": 60,
            "vm": False,
            **claims,
        }
        return dict(self.signer.bundle("checkin", members))

    def call(self, product: str = PRODUCT, **claims: Any) -> Any:
        """Call once: the lease's claims, verified to the root, or the refusal."""
        return self.site.ask(self.checkin(product, **claims))[0]


class Site:
    """A host, its database, its publisher and its clock."""

    def __init__(
        self, database: str | Path, *, activated: bool = True, beside: Site | None = None, **policy: Any
    ) -> None:
        """A host of its own publisher; or one more on the same database, `beside` another."""
        self.clock: HandClock = beside.clock if beside else HandClock(NOW)
        self.database = database
        self.publisher: Publisher = beside.publisher if beside else Publisher(iat=NOW)
        self.signer = signing.generate()
        self.policy = policy
        self.reported: list[Event] = []
        self.warned: list[str] = []
        self._extensions = 0
        self._verified: set[str] = set()
        self.store = Store(db.connect(database))
        self.store.migrate()
        self.served: list[str] = list(beside.served) if beside else []
        if beside:
            self.delegate()
        else:
            with self.store.writing() as tx:
                pub = self.publisher
                sql.set_publisher(tx, sql.Publisher(pub.pub, True, pub.root_1, (), secrets.token_bytes(32)))
        if activated and not beside:
            self.add_product(PRODUCT, **policy)
        self.host = self.restarted()

    def add_product(
        self, prd: str, edition: str = "client", *, ver: int = 1, running: bool = False, **policy: Any
    ) -> None:
        """Serve a product (more), or by another version of its document: the publisher extends the delegation.

        The host takes it up `running`, or by a restart.
        """
        bundle = self.publisher.product(prd, ver=ver, **policy)
        if edition == "server":
            claims = json.loads(_payload(bundle["token"]))
            claims["edition"] = edition
            del claims["iss"], claims["v"]
            bundle = {**bundle, "token": self.publisher.issuer.sign("product", claims)}
        self.served = sorted({*self.served, prd})
        with self.store.writing() as tx:
            sql.put_product(tx, sql.Product(prd, ver, edition, prd, bundle))
        # In one second of one clock: the later end makes it the newer one.
        self._extensions += 1
        self.delegate(lasts=LASTS - 10 + self._extensions, running=running)

    def delegate(self, *, lasts: int = LASTS, running: bool = False, **claims: Any) -> None:
        """Hold a newer delegation."""
        now = self.clock.now()
        self.publisher.iat = now
        members = self.publisher.claims(
            **{
                "sub": self.signer.kid,
                "exp": now + lasts,
                "cnf": {"jwk": self.signer.jwk.members()},
                "rol": "kms-host",
                "prd": list(self.served),
                "lmax": 3650 * DAY,
                "cus": CUSTOMER,
                "min_ver": {},
                "act": new_id(),
                "cmax": 1_000_000,
                **claims,
            }
        )
        bundle = self.publisher.bundle(self.publisher.issuer.sign("delegation", members))
        with self.store.writing() as tx:
            sql.add_delegation(
                tx,
                sql.Delegation(members["jti"], self.signer.kid, now, members["exp"], bundle, now),
            )
        if hasattr(self, "host") and running:
            self.host.use(Terms(self.keyring(), tls=("A" * 43,)))
        elif hasattr(self, "host"):
            self.host = self.restarted()

    def keyring(self) -> Keyring:
        """The host's key and what the store holds for it."""
        with self.store.reading() as tx:
            found = sql.publisher(tx)
            assert found
            roots = trust.open_roots(found.root, found.pub, found.roots)
            return Keyring(
                roots, self.signer, sql.delegations(tx, self.signer.kid), sql.products(tx), sql.hosts(tx)
            )

    def restarted(
        self,
        intervals: Intervals = Intervals(),  # noqa: B008 - a value
        limits: Limits = Limits(),  # noqa: B008 - a value
        blocks: Held = Held(),  # noqa: B008 - a value
    ) -> KmsHost:
        """The host after a restart: a new object on the same database (K11)."""
        self.host = KmsHost(
            self.clock,
            self.store,
            Terms(self.keyring(), intervals, ("A" * 43,), limits, blocks),
            secrets.token_bytes,
            self.reported.extend,
            self.warned.append,
        )
        self.host.start()
        return self.host

    def machine(self, **more: Any) -> Machine:
        return Machine(self, **more)

    def machines(self, number: int) -> list[Machine]:
        return [self.machine() for _ in range(number)]

    def call(self, machines: Sequence[Machine], product: str = PRODUCT, **claims: Any) -> list[Any]:
        """All of them call, in one batch; what `Machine.call` answers each."""
        return self.ask(*[one.checkin(product, **claims) for one in machines])

    def introduction(self) -> dict[str, Any]:
        said = self.host.introduction()
        assert isinstance(said, bytes), said
        return dict(json.loads(said))

    def nonce(self) -> str:
        said = self.host.introduction()
        return "" if isinstance(said, Refusal) else str(json.loads(said)["nonce"])

    def send(self, *bodies: dict[str, Any]) -> list[bytes | Refusal]:
        """Raw answers."""
        return self.host.answer([(Sent(one["token"], one["jwk"]), ADDRESS) for one in bodies])

    def ask(self, *bodies: dict[str, Any]) -> list[Any]:
        """Answers in order: a lease's claims, verified to the root, or a refusal."""
        return [self.verified(one) if isinstance(one, bytes) else one for one in self.send(*bodies)]

    def verified(self, answer: bytes) -> dict[str, Any]:
        """The lease's claims; a chain that was verified to the root before is not verified again."""
        bundle = json.loads(answer)
        chain = json.dumps([bundle["chain"], bundle["roots"]])
        if chain not in self._verified:
            roots = trust.open_roots(self.publisher.root_1, self.publisher.pub)
            granted = trust.take_up(trust.verify(bundle, "lease", roots))
            self._verified.add(chain)
            return granted.document.claims
        key = self.signer.jwk
        return trust.open_signed(bundle["token"], "lease", key.thumbprint(), jws.load_key(key)).claims

    def counts(self) -> tuple[int, int]:
        """Machines and servers, exactly."""
        with self.store.reading() as tx:
            return sql.counts(tx, self.clock.now()).get("publisher", (0, 0))

    def count(self, sql_text: str) -> int:
        """The one number that a SELECT says."""
        with self.store.reading() as tx:
            return int(tx.exec_driver_sql(sql_text).scalar_one())

    def rows(self, table: str) -> list[Any]:
        with self.store.reading() as tx:
            return list(tx.exec_driver_sql(f"SELECT * FROM {table}").all())

    def close(self) -> None:
        self.store.close()


def _payload(token: str) -> bytes:
    return ids.unb64u(token.split(".")[1])


def refused(code: str, answers: Sequence[Any]) -> bool:
    """Whether all of these are this refusal."""
    return all(isinstance(one, Refusal) and one.code == code for one in answers)


def granted(answers: Sequence[Any]) -> bool:
    """Whether all of these are leases."""
    return all(isinstance(one, dict) for one in answers)


def activated(site: Site, numbers: Numbers, product: str = PRODUCT) -> list[Machine]:
    """As many machines as activate a client product, each with a lease of this second."""
    machines = site.machines(numbers.machines)
    site.call(machines, product)
    assert granted(site.call(machines, product))
    return machines
