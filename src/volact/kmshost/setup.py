"""Sets a KMS host up, and opens one that is (`init`; the rest of the commands and `serve`).

All or nothing: key, certificate and database are made in a folder beside and renamed into place. Several hosts may
share one PostgreSQL and with it one count (K12); each has a folder, and a key, of its own.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from volact import certificate, commands, config, founding, signing, stores
from volact.clock import clock_for
from volact.console import root_argument
from volact.kmshost import store as sql
from volact.kmshost.keyring import Keyring
from volact.kmshost.store import Store
from volact.protocol import policy, trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import Connection

    from volact.clock import Clock
    from volact.config import KmshostSettings
    from volact.protocol.policy import Policy
    from volact.protocol.trust import Granted, Roots
    from volact.signing import Signer

ROLE = "kmshost"
_NONCE_KEY_BYTES = 32


class Opened(NamedTuple):
    """A host that is set up, ready to work.

    Attributes:
        settings: as they were when it was opened.
        store: the ledger and all else that hosts of one count share.
        publisher: whose host it is, as the store has it.
        signer: the host's own key; its thumbprint is the host id.
        clock: a laboratory's may be moved.
        folder: the role's folder.
        environ: what settings were read with.
    """

    settings: KmshostSettings
    store: Store
    publisher: sql.Publisher
    signer: Signer
    clock: Clock
    folder: Path
    environ: Mapping[str, str]

    def settings_now(self) -> KmshostSettings:
        """The settings as they are now, for a service that runs on while somebody changes them.

        Raises:
            SettingInvalid: naming the place.
            VolactError: if the store cannot be read.
        """
        with self.store.reading() as tx:
            rows = sql.settings(tx, self.signer.kid)
        return _settings(self.folder.parent, self.environ, rows)

    def certificate(self) -> tuple[Path, Path]:
        """The files of the TLS certificate and its key: the set ones, or the self-made.

        Raises:
            SettingInvalid: if only one of the two is set.
        """
        return certificate.chosen(self.settings.tls_certificate, self.settings.tls_key, self.folder / "tls")

    def roots(self) -> Roots | None:
        """The publisher's root documents, or None as long as the host has met none."""
        return roots_of(self.publisher)

    def products(self) -> dict[str, Granted]:
        """The products that the host knows, by id: the newest documents that it has, verified."""
        with self.store.reading() as tx:
            roots = roots_of(sql.publisher(tx))
            found = sql.products(tx)
        return {one.prd: trust.verify(one.bundle, "product", roots) for one in found} if roots else {}

    def policies(self) -> list[Policy]:
        """The policies of the products that the host knows."""
        documents = [one.document for one in self.products().values()]
        return [policy.read(one["pol"], one["edition"]) for one in documents]

    def keyring(self) -> Keyring | None:
        """What the host signs with as the store is now, or None as long as it has met no root document.

        Raises:
            VolactError: if the store cannot be read.
        """
        with self.store.reading() as tx:
            return load_keyring(tx, self.signer)


def roots_of(publisher: sql.Publisher | None) -> Roots | None:
    """The verified root documents of a publisher's row; None if it has none yet."""
    if publisher is None or not publisher.root:
        return None
    return trust.open_roots(publisher.root, publisher.pub, publisher.roots)


def load_keyring(tx: Connection, signer: Signer) -> Keyring | None:
    """The keyring of a host from the rows of its store."""
    roots = roots_of(sql.publisher(tx))
    if roots is None:
        return None
    return Keyring(roots, signer, sql.delegations(tx, signer.kid), sql.products(tx), sql.hosts(tx))


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The host's folder in VOLACT_HOME."""
    return config.home(environ) / ROLE


def _settings(
    home: Path, environ: Mapping[str, str], rows: Mapping[str, str] | None = None
) -> KmshostSettings:
    try:
        return config.load(ROLE, home, environ, rows)  # type: ignore[no-any-return]  # of this role
    except OSError as error:
        raise commands.not_readable(home / f"{ROLE}.toml", error) from None


class Made(NamedTuple):
    """What `initialise` made: the publisher, the host's id, the products it knows, and whether it joined others."""

    pub: str
    host: str
    products: tuple[str, ...]
    joined: bool


def initialise(root: str, files: Sequence[Path], environ: Mapping[str, str] = os.environ) -> Made:
    """Set up a new host of the publisher that ROOT names, with the product files that are at hand.

    Raises:
        Refused: `already-exists`; `root-mismatch` if a file is another publisher's.
        UsageError: if ROOT is neither a publisher id nor a root document's file.
        DocumentRefused: if a file does not hold, naming it; nothing was set up then.
        BrokenData, OSError: if something cannot be written; nothing was set up then.
    """
    place = folder(environ)
    settings = _settings(place.parent, environ)
    founding.check_free(place)
    pub, first = root_argument(root)
    products = [_read_product(file, pub) for file in files]
    roots = _newest([trust.open_roots(first, pub)] if first else [], products)
    with founding.made_aside(place) as aside:
        return _make(aside, place, settings, (pub, roots, products))


def _read_product(file: Path, pub: str) -> tuple[Granted, dict[str, Any]]:
    data = commands.read(file, trust.MAX_BUNDLE)
    try:
        bundle = trust.read_bundle(data)
        return open_product(bundle, pub), bundle
    except DocumentRefused as error:
        how = "; export it: `volact authority product export ID`" if file.suffix == ".toml" else ""
        detail = f"{file} is no signed product file, ID.volact-product{how}: {error.refusal.detail}"
        raise DocumentRefused(detail) from None


def open_product(bundle: dict[str, Any], pub: str, known: Roots | None = None) -> Granted:
    """Verify a signed product file of publisher `pub`, under the `known` roots or those that it brings.

    Raises:
        Refused: `root-mismatch`.
        DocumentRefused: if it does not hold.
    """
    if trust.open_self_keyed(bundle.get("root"), "root").document.kid != pub:
        raise Refused(Refusal("root-mismatch"))
    return trust.take_up(trust.verify(bundle, "product", known or trust.open_roots(bundle["root"], pub)))


def _newest(roots: list[Roots], products: Sequence[tuple[Granted, dict[str, Any]]]) -> Roots | None:
    """The longest of the root documents that were met; no two of one version may differ."""
    found: Roots | None = None
    for one in [*roots, *[granted.roots for granted, _ in products]]:
        found = one if found is None else trust.with_later_roots(found, one.later_tokens())
    return found


def _make(
    aside: Path,
    place: Path,
    settings: KmshostSettings,
    met: tuple[str, Roots | None, Sequence[tuple[Granted, dict[str, Any]]]],
) -> Made:
    pub, roots, products = met
    (aside / "keys").mkdir(mode=0o700)
    signer = signing.create(aside / "keys" / "host.pem")
    certificate.make(aside / "tls", "volact KMS host")
    store = Store(stores.new_engine(settings.database, aside / f"{ROLE}.db"))
    with founding.founded(store, aside, place, settings.database) as tx:
        joined = _introduce(tx, pub, roots, products)
    return Made(pub, signer.kid, tuple(granted.document["sub"] for granted, _ in products), joined)


def _introduce(
    tx: Connection, pub: str, roots: Roots | None, products: Sequence[tuple[Granted, dict[str, Any]]]
) -> bool:
    """Write whose host it is, or join the hosts that the database holds; whether it was that."""
    known = sql.publisher(tx)
    if known and known.pub != pub:
        raise Refused(
            Refusal("already-exists", "The database holds the count of another publisher's hosts (K1).")
        )
    if known is None:
        sql.set_publisher(tx, sql.Publisher(pub, False, None, (), secrets.token_bytes(_NONCE_KEY_BYTES)))
    if roots:
        learn(tx, roots, [(granted.document, bundle) for granted, bundle in products])
    return known is not None


def learn(tx: Connection, roots: Roots, products: Sequence[tuple[Any, dict[str, Any]]]) -> None:
    """Keep root documents and products, each (document, bundle), that are newer than what is known.

    Raises:
        DocumentRefused: if a known root document comes with another key, or the publisher turns to a laboratory.
    """
    before = sql.publisher(tx)
    if before is None:
        raise Refused(Refusal("not-set-up", "The database holds no publisher."))
    known = roots_of(before)
    if known is not None:
        roots = trust.with_later_roots(known, roots.later_tokens())
    if roots.pub != before.pub:
        raise DocumentRefused("root: not the pinned publisher's")
    if known is None or len(roots.documents) > len(known.documents):
        sql.set_publisher(
            tx, before._replace(lab=roots.lab, root=roots.first, roots=tuple(roots.later_tokens()))
        )
    versions = {one.prd: one.ver for one in sql.products(tx)}
    for document, bundle in products:
        if versions.get(document["sub"], -1) < document["ver"]:
            versions[document["sub"]] = document["ver"]
            sql.put_product(
                tx,
                sql.Product(document["sub"], document["ver"], document["edition"], document["name"], bundle),
            )


class Taught(NamedTuple):
    """A product of a file: its id, its version now, whether the file brought that, whether the host may serve it."""

    product: str
    version: int
    added: bool
    served: bool


def teach(opened: Opened, files: Sequence[Path]) -> list[Taught]:
    """Let a host that is set up know the products of signed files, or newer versions of them (K18).

    Which products it serves is its delegation's matter: of another one it knows from now on where the authority is.

    Raises:
        Refused: `root-mismatch` if a file is another publisher's.
        DocumentRefused: if a file does not hold, naming it.
        BrokenData: if something cannot be read; in each case nothing was changed.
    """
    found = [_read_product(file, opened.publisher.pub) for file in files]
    with opened.store.writing() as tx:
        before = {one.prd: one.ver for one in sql.products(tx)}
        known = roots_of(sql.publisher(tx))
        roots = _newest([known] if known else [], found)
        if roots:
            learn(tx, roots, [(granted.document, bundle) for granted, bundle in found])
        now = {one.prd: one.ver for one in sql.products(tx)}
        keyring = load_keyring(tx, opened.signer)
    newest = keyring.newest if keyring else None
    served = newest["prd"] if newest else []
    names = dict.fromkeys(granted.document["sub"] for granted, _ in found)
    return [Taught(name, now[name], now[name] != before.get(name), name in served) for name in names]


@contextmanager
def opened(environ: Mapping[str, str] = os.environ) -> Iterator[Opened]:
    """The host that is set up here.

    Raises:
        Refused: `not-set-up`.
        BrokenData: if its store or key cannot be used.
    """
    place = folder(environ)
    if not place.is_dir():
        raise Refused(Refusal("not-set-up", "Run `volact kmshost init --root ROOT`."))
    settings = _settings(place.parent, environ)
    signer = signing.load(place / "keys" / "host.pem")
    store = Store(stores.open_engine(settings.database, place / f"{ROLE}.db"))
    try:
        store.migrate()
        with store.reading() as tx:
            settings = _settings(place.parent, environ, sql.settings(tx, signer.kid))
            publisher = sql.publisher(tx)
        if publisher is None:
            raise Refused(Refusal("not-set-up", "The database holds no publisher."))
        clock = clock_for(environ, lab=publisher.lab)
        yield Opened(settings, store, publisher, signer, clock, place, environ)
    finally:
        store.close()
