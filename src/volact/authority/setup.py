"""Sets an authority up, and opens one that is (`init`; the rest of the commands and `serve`).

All or nothing: keys, certificate and database are made in a folder beside and renamed into place. Of the keys
only the root's is not needed afterwards; its file may be moved to where no network reaches.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from volact import certificate, config, founding, signing, stores
from volact.authority import records, statuslist
from volact.authority.keyring import ISSUER, STATUS, Delegation, Keyring, Publisher, Roots
from volact.authority.store import Store
from volact.clock import clock_for
from volact.protocol import documents, ids
from volact.protocol.policy import (
    HOST_DELEGATION_BY_FILE,
    ISSUER_DELEGATION,
    LONGEST_LEASE,
    STATUS_DELEGATION,
)
from volact.protocol.problems import Refusal, Refused
from volact.protocol.trust import EVERY_PRODUCT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from sqlalchemy import Connection

    from volact.clock import Clock
    from volact.config import AuthoritySettings
    from volact.signing import Signer

ROLE = "authority"
_ID_BYTES = 16


class Opened(NamedTuple):
    """An authority that is set up, ready to work."""

    settings: AuthoritySettings
    store: Store
    keyring: Keyring
    clock: Clock
    folder: Path
    environ: Mapping[str, str]

    def settings_now(self) -> AuthoritySettings:
        """The settings as they are now, for a service that runs on while somebody changes them.

        Raises:
            SettingInvalid: naming the place.
            VolactError: if the store cannot be read.
        """
        with self.store.reading() as tx:
            rows = records.settings(tx)
        return config.load(ROLE, self.folder.parent, self.environ, rows)  # type: ignore[no-any-return]  # of this role

    def certificate(self) -> tuple[Path, Path]:
        """The files of the TLS certificate and its key: the set ones, or the self-made.

        Raises:
            SettingInvalid: if only one of the two is set.
        """
        return certificate.chosen(self.settings.tls_certificate, self.settings.tls_key, self.folder / "tls")

    def tls_digests(self) -> list[str]:
        """What product documents say of the authority's connection: the digest of its public key.

        Raises:
            BrokenData: if the certificate cannot be read.
        """
        path, _ = self.certificate()
        return [certificate.digest(path)]


def folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The authority's folder in VOLACT_HOME."""
    return config.home(environ) / ROLE


def initialise(name: str, url: str, *, lab: bool, environ: Mapping[str, str] = os.environ) -> str:
    """Set up a new authority; answers the publisher's id, which products pin.

    Raises:
        Refused: `already-exists`.
        BrokenData, OSError: if something cannot be written; then nothing was set up.
    """
    place = folder(environ)
    settings = config.load(ROLE, place.parent, environ)
    founding.check_free(place)
    with founding.made_aside(place) as aside:
        now = clock_for(environ, lab=lab).now()
        return _make(aside, place, Publisher("", name, url, lab), settings, now)


def _make(aside: Path, place: Path, publisher: Publisher, settings: AuthoritySettings, now: int) -> str:
    (aside / "keys").mkdir(mode=0o700)
    root, issuer, status = (
        signing.create(aside / "keys" / f"{name}.pem") for name in ("root", ISSUER, STATUS)
    )
    publisher = publisher._replace(pub=root.kid)
    certificate.make(aside / "tls", publisher.name or "volact authority")
    store = Store(stores.new_engine(settings.database, aside / f"{ROLE}.db"))
    with founding.founded(store, aside, place, settings.database) as tx:
        _check_free(tx)
        keyring = _introduce(tx, publisher, root, issuer, status, now)
        statuslist.renew(tx, keyring, secrets.token_bytes, now)
    return publisher.pub


def _check_free(tx: Connection) -> None:
    if records.publisher(tx):
        raise Refused(Refusal("already-exists", "The database holds a publisher already."))


def _introduce(
    tx: Connection, publisher: Publisher, root: Signer, issuer: Signer, status: Signer, now: int
) -> Keyring:
    """Write root document 1 and the delegations of the working keys, each for a year."""
    common = {"pub": publisher.pub, "lab": publisher.lab, "iat": now}
    first = root.bundle(
        "root",
        {
            **common,
            "jti": _new_id(),
            "sub": root.kid,
            "ver": 1,
            "cnf": {"jwk": root.jwk.members()},
            "rvk": [],
        },
    )
    records.add_publisher(tx, publisher, str(first["token"]), root.jwk, now)
    delegations = []
    for rol, signer, lasts, further in (
        (
            ISSUER,
            issuer,
            ISSUER_DELEGATION,
            {"prd": EVERY_PRODUCT, "lmax": LONGEST_LEASE, "dmax": HOST_DELEGATION_BY_FILE},
        ),
        (STATUS, status, STATUS_DELEGATION, {"prd": [], "lmax": 0}),
    ):
        jti = _new_id()
        claims = {
            **common,
            "iss": root.kid,
            "jti": jti,
            "sub": signer.kid,
            "exp": now + lasts,
            "cnf": {"jwk": signer.jwk.members()},
            "rol": rol,
            **further,
        }
        payload = documents.write("delegation", claims)
        token = root.sign_payload("delegation", payload)
        delegation = Delegation(jti, signer.kid, rol, now, now + lasts, token)
        records.add_delegation(tx, delegation, root.kid, payload, token)
        delegations.append(delegation)
    return Keyring(publisher, Roots(first), delegations, issuer, status)


def _new_id() -> str:
    return ids.b64u(secrets.token_bytes(_ID_BYTES))


@contextmanager
def opened(environ: Mapping[str, str] = os.environ) -> Iterator[Opened]:
    """The authority that is set up here.

    Raises:
        Refused: `not-set-up`.
        BrokenData: if its store or a key cannot be used.
    """
    place = folder(environ)
    if not place.is_dir():
        raise Refused(Refusal("not-set-up", "Run `volact authority init`."))
    settings = config.load(ROLE, place.parent, environ)
    store = Store(stores.open_engine(settings.database, place / f"{ROLE}.db"))
    try:
        store.migrate()
        with store.reading() as tx:
            settings = config.load(ROLE, place.parent, environ, records.settings(tx))
            keyring = load_keyring(store, place)
        yield Opened(settings, store, keyring, clock_for(environ, lab=keyring.publisher.lab), place, environ)
    finally:
        store.close()


def load_keyring(store: Store, place: Path) -> Keyring:
    """The working keys of an authority's folder with the delegations of its store.

    Raises:
        Refused: `not-set-up`.
        BrokenData: if a key is missing, exposed or none.
    """
    with store.reading() as tx:
        publisher = records.publisher(tx)
        if publisher is None:
            raise Refused(Refusal("not-set-up", "The database holds no publisher."))
        return Keyring(
            publisher,
            records.roots(tx),
            records.root_delegations(tx),
            signing.load(place / "keys" / f"{ISSUER}.pem"),
            signing.load(place / "keys" / f"{STATUS}.pem"),
        )
