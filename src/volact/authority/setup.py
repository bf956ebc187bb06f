"""Sets an authority up, and opens one that is (`init`; the rest of the commands and `serve`).

All or nothing: keys, certificate and database are made in a folder beside and renamed into place. Of the keys
only the root's is not needed afterwards; its file may be moved to where no network reaches.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from volact import calls, config, db, signing
from volact.authority import records, statuslist
from volact.authority.keyring import ISSUER, STATUS, Delegation, Keyring, Publisher, Roots
from volact.authority.store import Store
from volact.clock import clock_for
from volact.config import SettingInvalid
from volact.files import PRIVATE, flush_folder, make_folder, write_durably
from volact.protocol import documents, ids
from volact.protocol.policy import (
    CLOCK_TOLERANCE,
    HOST_DELEGATION_BY_FILE,
    ISSUER_DELEGATION,
    LONGEST_LEASE,
    STATUS_DELEGATION,
)
from volact.protocol.problems import BrokenData, Refusal, Refused
from volact.protocol.trust import EVERY_PRODUCT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Engine

    from volact.clock import Clock
    from volact.config import AuthoritySettings
    from volact.signing import Signer

ROLE = "authority"
_ID_BYTES = 16
_CERTIFICATE_DAYS = 7300


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
        if bool(self.settings.tls_certificate) is not bool(self.settings.tls_key):
            raise SettingInvalid("The settings tls_certificate and tls_key are set together or not at all.")
        if self.settings.tls_certificate:
            return Path(self.settings.tls_certificate), Path(self.settings.tls_key)
        return self.folder / "tls" / "certificate.pem", self.folder / "tls" / "key.pem"

    def tls_digests(self) -> list[str]:
        """What product documents say of the authority's connection: the digest of its public key.

        Raises:
            BrokenData: if the certificate cannot be read.
        """
        path, _ = self.certificate()
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError):
            raise BrokenData(f"{path} holds no certificate that can be read.", "not-readable") from None
        return [calls.spki_digest(certificate.public_bytes(serialization.Encoding.DER))]


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
    if place.exists():
        raise Refused(Refusal("already-exists", f"{place} is there already."))
    make_folder(place.parent)
    aside = Path(tempfile.mkdtemp(prefix=f".{ROLE}-", dir=place.parent))
    try:
        now = clock_for(environ, lab=lab).now()
        return _make(aside, place, Publisher("", name, url, lab), settings, now)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _make(aside: Path, place: Path, publisher: Publisher, settings: AuthoritySettings, now: int) -> str:
    (aside / "keys").mkdir(mode=0o700)
    root, issuer, status = (
        signing.create(aside / "keys" / f"{name}.pem") for name in ("root", ISSUER, STATUS)
    )
    publisher = publisher._replace(pub=root.kid)
    _make_certificate(aside / "tls", publisher.name)
    store = Store(_connect(settings.database) if settings.database else db.connect(aside / f"{ROLE}.db"))
    try:
        store.migrate()
        with store.writing() as tx:
            _check_free(tx)
            keyring = _introduce(tx, publisher, root, issuer, status, now)
            statuslist.renew(tx, keyring, secrets.token_bytes, now)
            if settings.database:
                # The folder first: a database without its keys would be of no use to anybody.
                _into_place(aside, place)
    except BaseException:
        if settings.database and place.exists() and not aside.exists():
            shutil.rmtree(place, ignore_errors=True)
        raise
    finally:
        store.close()
    if not settings.database:
        _into_place(aside, place)
    return publisher.pub


def _check_free(tx: Connection) -> None:
    if records.publisher(tx):
        raise Refused(Refusal("already-exists", "The database holds a publisher already."))


def _into_place(aside: Path, place: Path) -> None:
    flush_folder(aside)
    aside.chmod(0o700)
    aside.rename(place)
    flush_folder(place.parent)


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


def _make_certificate(place: Path, name: str) -> None:
    """A self-made P-256 certificate; clients compare its key with their product's file, not names or dates."""
    place.mkdir(mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, (name or "volact authority")[:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=CLOCK_TOLERANCE))
        .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_durably(place / "key.pem", pem, PRIVATE)
    write_durably(place / "certificate.pem", certificate.public_bytes(serialization.Encoding.PEM))


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
    store = Store(_engine(settings, place))
    try:
        store.migrate()
        with store.reading() as tx:
            settings = config.load(ROLE, place.parent, environ, records.settings(tx))
            keyring = load_keyring(store, place)
        yield Opened(settings, store, keyring, clock_for(environ, lab=keyring.publisher.lab), place, environ)
    finally:
        store.close()


def _connect(url: str) -> Engine:
    if "://" not in url:
        raise SettingInvalid("The setting database is a postgresql:// URL; leave it out for SQLite.")
    try:
        return db.connect(url)
    except db.StoreError as error:
        raise SettingInvalid(str(error)) from None  # without the URL, which may hold a password


def _engine(settings: AuthoritySettings, place: Path) -> Engine:
    if settings.database:
        return _connect(settings.database)
    path = place / f"{ROLE}.db"
    if not path.is_file():
        raise BrokenData(f"The store {path} is missing.", "not-readable")
    return db.connect(path)


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
