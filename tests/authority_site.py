"""An authority in a test's own database: the real role, real keys, a clock moved by hand, no sockets."""

import json
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from volact import db, signing
from volact.authority import records, setup, statuslist
from volact.authority.asks import Sent
from volact.authority.authority import Authority
from volact.authority.keyring import Keyring, Publisher
from volact.authority.publisher import Office, Wanted
from volact.authority.speed import Speed
from volact.authority.store import Store
from volact.config import AuthoritySettings
from volact.protocol.keys import ProductKey
from volact.protocol.problems import Refusal
from volact.signing import Signer
from world import NOW, PRODUCT, HandClock, Machine, claims_of, remaining, verified

CUSTOMER = "Contoso"
ADDRESS = "192.0.2.10"
UNLIMITED = AuthoritySettings(key_rate=0, source_rate=0)


class Cut(Exception):
    """The process ends here."""


class _CutBeforeSigning:
    """A signer of a process that ends when it should sign."""

    def __init__(self, signer: Any) -> None:
        self.kid, self.jwk = signer.kid, signer.jwk

    def sign_payload(self, name: str, payload: bytes) -> str:
        raise Cut(name)


class Site:
    """A publisher's site: its office, its authority, its database."""

    def __init__(
        self, database: str | Path, settings: AuthoritySettings = UNLIMITED, library: Any = None
    ) -> None:
        self.clock = HandClock(NOW)
        self.database = database
        self.store = Store(db.connect(database, library=library))
        self.store.migrate()
        root, issuer, status = signing.generate(), signing.generate(), signing.generate()
        with self.store.writing() as tx:
            publisher = Publisher(root.kid, "Example", "", lab=True)
            self.keyring = setup._introduce(tx, publisher, root, issuer, status, NOW)
            statuslist.renew(tx, self.keyring, secrets.token_bytes, NOW)
        self.settings = settings
        self._others: list[Store] = []
        self.reported: list[tuple[str, dict[str, str]]] = []
        self.office = Office(self.clock, self.store, self.keyring, secrets.token_bytes)
        self.authority = self.another_authority()
        self.office.add_customer(CUSTOMER)

    def close(self) -> None:
        for store in (self.store, *self._others):
            store.close()

    @property
    def pub(self) -> str:
        return self.keyring.publisher.pub

    def another_authority(self, keyring: Keyring | None = None) -> Authority:
        """A second process on the same database, or the first after a restart."""
        if hasattr(self, "authority"):
            self._others.append(Store(db.connect(self.database)))
        return Authority(
            self.clock,
            self._others[-1] if self._others else self.store,
            keyring or self.keyring,
            secrets.token_bytes,
            Speed(self.settings),
            lambda name, fields: self.reported.append((name, dict(fields))),
        )

    def cut_before_signing(self) -> Authority:
        """Another process, which ends (`Cut`) when it should sign."""
        return self.another_authority(self.keyring_with(_CutBeforeSigning(self.keyring.issuer)))  # type: ignore[arg-type]

    def keyring_with(self, issuer: Signer) -> Keyring:
        """The same site with another object that signs."""
        return Keyring(
            self.keyring.publisher,
            self.keyring.roots,
            list(self.keyring._delegations.values()),
            issuer,
            self.keyring.status,
        )

    def product(self, prd: str = PRODUCT, edition: str = "client", **policy: Any) -> str:
        claims = {"sub": prd, "name": prd, "edition": edition, "pol": policy, "url": ""}
        return self.office.add_product(claims, [])[0]

    def key(
        self, kind: str = "mak", activations: int | None = None, *products: str, **more: Any
    ) -> ProductKey:
        if kind == "mak" and activations is None:
            activations = 5
        issued: list[ProductKey] = []
        self.office.issue(Wanted(kind, products or (PRODUCT,), CUSTOMER, activations, **more), issued.extend)
        return issued[0]

    def ask(self, *bundles: dict[str, Any], address: str = ADDRESS, by: Authority | None = None) -> list[Any]:
        """Answers in order: a bundle as JSON, or a refusal."""
        sent = [Sent(b.get("token"), b.get("jwk"), b.get("proof"), b.get("usage")) for b in bundles]
        answers = (by or self.authority).answer([(one, address) for one in sent])
        return [one if isinstance(one, Refusal) else json.loads(one) for one in answers]

    def ask_twice(self, bundles: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """What two processes answer, each of them asked the same things at the same moments."""
        barrier = threading.Barrier(2)

        def run(by: Authority) -> list[Any]:
            answers = []
            for bundle in bundles:
                barrier.wait()
                answers.append(self.ask_one(bundle, by=by))
            return answers

        with ThreadPoolExecutor(2) as threads:
            return list(threads.map(run, (self.another_authority(), self.another_authority())))

    def ask_one(self, bundle: dict[str, Any], **more: Any) -> Any:
        return self.ask(bundle, **more)[0]

    def activate(self, machine: Machine, key: ProductKey, **more: Any) -> Any:
        """Activate; the confirmation's claims, verified to the root, or the refusal's code."""
        answer = self.ask_one(machine.request(key, now=self.clock.now()), **more)
        if isinstance(answer, Refusal):
            return answer.code
        return verified(answer, "confirmation", self.keyring.roots.first, self.pub).document.claims

    def activated(self, key: ProductKey, machine: Machine | None = None) -> tuple[Machine, str, str]:
        """A machine with an activation: itself, the confirmation's id, the activation's."""
        machine = machine or self.machine()
        claims = self.activate(machine, key)
        assert isinstance(claims, dict), claims
        return machine, claims["jti"], claims["act"]

    def give_back(self, machine: Machine, key: ProductKey, ref: str, **more: Any) -> Any:
        """Return; the receipt's claims, verified to the root, or the refusal's code. `file`: as written for a medium."""
        claims: dict[str, Any] = {"file": True} if more.pop("file", False) else {}
        answer = self.ask_one(machine.request(key, "return", now=self.clock.now(), ref=ref, **claims), **more)
        if isinstance(answer, Refusal):
            return answer.code
        return verified(answer, "receipt", self.keyring.roots.first, self.pub).document.claims

    def counts(self, key: ProductKey) -> tuple[int, int, int]:
        """Bought, activated, remaining, by a signed statement."""
        answer = self.ask_one(remaining(key, self.pub, now=self.clock.now()))
        claims = verified(answer, "statement", self.keyring.roots.first, self.pub).document.claims
        return claims["bought"], claims["activated"], claims["remaining"]

    def machine(self, **more: Any) -> Machine:
        return Machine(self.pub, **more)

    def rows(self, table: str) -> list[Any]:
        with self.store.reading() as tx:
            return list(tx.exec_driver_sql(f"SELECT * FROM {table}").all())

    def marks(self) -> list[str]:
        """The lines of the newest status list."""
        return self.status()[1].decode().splitlines()

    def status(self) -> tuple[dict[str, Any], bytes]:
        """The head's claims and the body of the newest status list."""
        with self.store.reading() as tx:
            stored = records.status_list(tx, records.newest_list(tx))
        head, _, body = statuslist.published(stored, self.keyring).content.partition(b"\n")
        bundle = json.loads(head)
        verified(bundle, "status", self.keyring.roots.first, self.pub)
        return claims_of(bundle["token"]), body
